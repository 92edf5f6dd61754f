//! `ChatRequest` as the body of `/responses`. Messages are lowered in `item`.

use std::collections::BTreeMap;

use bytes::Bytes;
use flowgate_proto::v1::{ChatRequest, part::Kind as PartKind};
use pbjson_types::{Struct, Value, value::Kind};
use serde::Serialize;
use serde_json::value::RawValue;

use super::item;
use crate::{
    dialect::{
        asked,
        json::Json,
        openai,
        params::{Params, Rules},
        signature::Family,
        tools::{self, Choice, Declared, Format},
    },
    error::{Error, Result},
};

const ENCRYPTED: &str = "reasoning.encrypted_content";
const LOGPROBS: &str = "message.output_text.logprobs";

#[derive(Serialize)]
struct ToolOut<'a> {
    r#type: &'static str,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    /// The protocol wants it said that there are none.
    parameters: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ChoiceOut<'a> {
    Word(&'static str),
    Tool { r#type: &'static str, name: &'a str },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum FormatOut<'a> {
    Text,
    JsonObject,
    JsonSchema {
        name: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        description: &'a str,
        schema: &'a RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
    },
}

/// The body.
pub(super) fn encode(request: &ChatRequest, rules: Rules<'_>) -> Result<Bytes> {
    asked::without_template(request)?;
    let mut params = Params::also(rules, &request.provider_options, openai::PROTOCOL)?;
    params.set("input", &item::lower_all(&request.messages, rules)?)?;
    params.put_some("max_tokens", "max_output_tokens", request.max_tokens)?;
    params.put_number("temperature", "temperature", request.temperature)?;
    params.put_number("top_p", "top_p", request.top_p)?;
    params.put_some("top_logprobs", "top_logprobs", request.top_logprobs)?;
    put_tools(&mut params, request)?;
    put_text(&mut params, request)?;
    let is_reasoned = request.reasoning.is_some() || params.is_replaced("reasoning") || replays_reasoning(request, rules);
    put_reasoning(&mut params, request)?;
    put_include(&mut params, request, is_reasoned)?;
    let metadata: BTreeMap<_, _> = request.metadata.iter().collect();
    params.put_some("metadata", "metadata", (!metadata.is_empty()).then_some(metadata))?;
    params.put_text("user", "user", &request.user)?;
    refuse_lacking(&params, request)?;
    end(params)
}

/// What chat has and this protocol does not.
fn refuse_lacking(params: &Params<'_>, request: &ChatRequest) -> Result<()> {
    params.lack("top_k", request.top_k.is_some())?;
    params.lack("seed", request.seed.is_some())?;
    params.lack("frequency_penalty", request.frequency_penalty.is_some())?;
    params.lack("presence_penalty", request.presence_penalty.is_some())?;
    params.lack("stop", !request.stop.is_empty())?;
    params.lack("choice_count", request.choice_count.is_some_and(|count| count != 1))?;
    params.lack("logit_bias", !request.logit_bias.is_empty())
}

fn put_tools(params: &mut Params<'_>, request: &ChatRequest) -> Result<()> {
    params.put_list("tools", "tools", &tools::declared(request)?.into_iter().map(tool).collect::<Vec<_>>())?;
    let has_tools = !request.tools.is_empty() || params.is_replaced("tools");
    match tools::choice(request)? {
        // Without tools these say what goes without saying, and the provider refuses them.
        None | Some(Choice::Auto | Choice::None) if !has_tools => {}
        Some(_) if !has_tools => return Err(Error::invalid("tool_choice", "needs `tools` to choose from")),
        choice => params.put_some("tool_choice", "tool_choice", choice.map(tool_choice))?,
    }
    if has_tools {
        params.put_some("parallel_tool_calls", "parallel_tool_calls", request.parallel_tool_calls)?;
    }
    Ok(())
}

fn put_text(params: &mut Params<'_>, request: &ChatRequest) -> Result<()> {
    let format = tools::format(request)?.map(format);
    // As chat spells it.
    let verbosity = params.take_option("verbosity");
    params.nest("text", |text| {
        text.put_some("response_format", "format", format)?;
        text.put_some("provider_options", "verbosity", verbosity.map(Json))
    })
}

fn put_reasoning(params: &mut Params<'_>, request: &ChatRequest) -> Result<()> {
    let Some(reasoning) = &request.reasoning else { return Ok(()) };
    params.lack("reasoning.budget_tokens", reasoning.budget_tokens.is_some())?;
    params.nest("reasoning", |object| {
        object.put_text("reasoning.effort", "effort", &reasoning.effort)?;
        object.put_some("reasoning.include", "summary", (reasoning.include == Some(true)).then_some("auto"))
    })
}

/// Whether a message brings back reasoning that only the provider can read.
fn replays_reasoning(request: &ChatRequest, rules: Rules<'_>) -> bool {
    let family = Family::of(rules.target);
    let mut parts = request.messages.iter().flat_map(|message| &message.parts);
    parts.any(|part| matches!(&part.kind, Some(PartKind::Reasoning(reasoning)) if !family.read(&reasoning.signature).own().is_empty()))
}

/// What the answer shall hold besides: what is needed here, and what the caller adds.
fn put_include(params: &mut Params<'_>, request: &ChatRequest, is_reasoned: bool) -> Result<()> {
    let wants_logprobs = request.logprobs.unwrap_or(request.top_logprobs.is_some());
    let mut include = Vec::new();
    if is_reasoned && !params.rules().target.quirks.lacks.contains(&ENCRYPTED) {
        include.push(ENCRYPTED);
    }
    if wants_logprobs && params.rules().takes("top_logprobs", "logprobs")? {
        include.push(LOGPROBS);
    }
    if let Some(Value { kind: Some(Kind::ListValue(list)) }) = params.take_option("include") {
        for value in &list.values {
            match &value.kind {
                Some(Kind::StringValue(own)) if include.contains(&own.as_str()) => {}
                Some(Kind::StringValue(own)) => include.push(own),
                _ => return Err(Error::invalid("provider_options.openai.include", "must be a list of texts")),
            }
        }
    }
    if include.is_empty() { Ok(()) } else { params.set("include", &include) }
}

fn end(mut params: Params<'_>) -> Result<Bytes> {
    let Rules { ask, target, .. } = params.rules();
    if !params.is_replaced("store") && !target.quirks.lacks.contains(&"store") {
        params.set("store", &false)?;
    }
    let own = params.take_option("stream_options");
    if ask.streaming {
        params.set("stream", &true)?;
        if let Some(own) = own.and_then(stream_options) {
            params.set("stream_options", &Json(&own))?;
        }
    }
    params.end()
}

/// The caller's own, without that of chat: here usage always comes.
fn stream_options(own: &Value) -> Option<Value> {
    let Some(Kind::StructValue(Struct { fields })) = &own.kind else { return None };
    let fields: std::collections::HashMap<_, _> =
        fields.iter().filter(|(name, _)| *name != "include_usage").map(|(name, value)| (name.clone(), value.clone())).collect();
    (!fields.is_empty()).then_some(Value { kind: Some(Kind::StructValue(Struct { fields })) })
}

fn tool<'a>(tool: Declared<'a>) -> ToolOut<'a> {
    let Declared { name, description, parameters, strict } = tool;
    ToolOut { r#type: "function", name, description, parameters, strict }
}

fn tool_choice(choice: Choice<'_>) -> ChoiceOut<'_> {
    match choice {
        Choice::Auto => ChoiceOut::Word("auto"),
        Choice::None => ChoiceOut::Word("none"),
        Choice::Required => ChoiceOut::Word("required"),
        Choice::Tool(name) => ChoiceOut::Tool { r#type: "function", name },
    }
}

fn format(format: Format<'_>) -> FormatOut<'_> {
    match format {
        Format::Text => FormatOut::Text,
        Format::JsonObject => FormatOut::JsonObject,
        Format::JsonSchema { name, description, schema, strict } => FormatOut::JsonSchema { name, description, schema, strict },
    }
}
