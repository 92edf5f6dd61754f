//! `ChatRequest` as the body of `/chat/completions`. Messages are lowered in `message`.

use std::collections::BTreeMap;

use bytes::Bytes;
use flowgate_proto::v1::ChatRequest;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{end, message, quirks};
use crate::{
    dialect::{
        Habit, Quirks, asked,
        functions::ToolOut,
        params::{Params, Rules},
        tools::{self, Choice, Format},
    },
    error::Result,
};

#[derive(Serialize)]
#[serde(untagged)]
enum ChoiceOut<'a> {
    Word(&'static str),
    Tool { r#type: &'static str, function: Named<'a> },
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct FormatOut<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_schema: Option<Schema<'a>>,
}

#[derive(Serialize)]
struct Schema<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    schema: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

/// The body of a chat call.
pub(super) fn encode(request: &ChatRequest, rules: Rules<'_>) -> Result<Bytes> {
    asked::without_template(request)?;
    let mut params = Params::new(rules, &request.provider_options)?;
    params.put("messages", "messages", &message::lower_all(&request.messages, rules)?)?;
    params.put_some("max_tokens", rules.target.quirks.max_tokens_field, request.max_tokens)?;
    params.put_number("temperature", "temperature", request.temperature)?;
    params.put_number("top_p", "top_p", request.top_p)?;
    params.put_extra("top_k", "top_k", request.top_k)?;
    params.put_some("seed", "seed", request.seed)?;
    params.put_number("frequency_penalty", "frequency_penalty", request.frequency_penalty)?;
    params.put_number("presence_penalty", "presence_penalty", request.presence_penalty)?;
    params.put_list("stop", "stop", &request.stop)?;
    params.put_some("choice_count", "n", request.choice_count)?;
    if rules.target.quirks.has(Habit::CountsLogprobs) {
        let count = if request.logprobs == Some(false) { None } else { request.top_logprobs.or(request.logprobs.map(u32::from)) };
        params.put_some("logprobs", "logprobs", count)?;
    } else {
        params.put_some("logprobs", "logprobs", request.logprobs)?;
        params.put_some("top_logprobs", "top_logprobs", request.top_logprobs)?;
    }
    params.put_list("tools", "tools", &tools::declared(request)?.into_iter().map(ToolOut::from).collect::<Vec<_>>())?;
    let choice = match tools::choice(request)? {
        Some(choice) if choice != Choice::Auto && rules.target.quirks.has(Habit::AutoOnly) => rules.lack("tool_choice").map(|()| None)?,
        choice => choice,
    };
    params.put_some("tool_choice", "tool_choice", choice.map(|choice| tool_choice(choice, rules.target.quirks)))?;
    params.put_some("parallel_tool_calls", "parallel_tool_calls", request.parallel_tool_calls)?;
    let format = match tools::format(request)? {
        Some(Format::JsonSchema { .. }) if !rules.takes("json_schema", "response_format")? => None,
        format => format,
    };
    params.put_some("response_format", "response_format", format.map(response_format))?;
    if let Some(reasoning) = &request.reasoning {
        quirks::reason(&mut params, reasoning)?;
    }
    let metadata: BTreeMap<_, _> = request.metadata.iter().collect();
    params.put_some("metadata", "metadata", (!metadata.is_empty()).then_some(metadata))?;
    params.put_text("user", "user", &request.user)?;
    params.put_bias(&request.logit_bias)?;
    end(params)
}

fn tool_choice<'a>(choice: Choice<'a>, quirks: &Quirks) -> ChoiceOut<'a> {
    match choice {
        Choice::Required if quirks.has(Habit::AnyForRequired) => ChoiceOut::Word("any"),
        Choice::Auto => ChoiceOut::Word("auto"),
        Choice::None => ChoiceOut::Word("none"),
        Choice::Required => ChoiceOut::Word("required"),
        Choice::Tool(name) => ChoiceOut::Tool { r#type: "function", function: Named { name } },
    }
}

fn response_format(format: Format<'_>) -> FormatOut<'_> {
    match format {
        Format::Text => FormatOut { r#type: "text", json_schema: None },
        Format::JsonObject => FormatOut { r#type: "json_object", json_schema: None },
        Format::JsonSchema { name, description, schema, strict } => {
            FormatOut { r#type: "json_schema", json_schema: Some(Schema { name, description, schema, strict }) }
        }
    }
}
