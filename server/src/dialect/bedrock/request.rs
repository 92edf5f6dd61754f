//! `ChatRequest` as the body of Converse. Messages are lowered in `message`.

use std::collections::BTreeMap;

use bytes::Bytes;
use flowgate_proto::v1::{ChatRequest, Reasoning};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    message::{self, Lowered},
    model::{self, Family},
};
use crate::{
    dialect::{
        asked,
        params::{Params, Rules},
        thinking,
        tools::{self, Choice, Declared, Format},
    },
    error::{Error, Result},
};

/// The tokens that an answer may have beside a budget for reasoning where the caller sets no limit.
const ROOM: u32 = 8192;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolOut<'a> {
    tool_spec: ToolSpec<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolSpec<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    input_schema: InputSchema<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
struct InputSchema<'a> {
    json: &'a RawValue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum ChoiceOut<'a> {
    Auto {},
    Any {},
    Tool { name: &'a str },
}

#[derive(Serialize)]
struct TextFormat<'a> {
    r#type: &'static str,
    structure: Structure<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Structure<'a> {
    json_schema: JsonSchema<'a>,
}

/// The schema is text, not JSON.
#[derive(Serialize)]
struct JsonSchema<'a> {
    schema: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
}

#[derive(Serialize)]
struct Thinking {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReasoningConfig<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_reasoning_effort: Option<&'a str>,
}

/// The body of a call.
pub(super) fn encode(request: &ChatRequest, rules: Rules<'_>) -> Result<Bytes> {
    asked::without_template(request)?;
    let Lowered { system, messages, called } = message::lower(&request.messages, rules)?;
    let mut params = Params::unnamed(rules, &request.provider_options)?;
    params.put_list("messages", "system", &system)?;
    params.put("messages", "messages", &messages)?;
    params.nest("inferenceConfig", |inner| {
        inner.put_some("max_tokens", "maxTokens", limit(request, Family::of(rules.target)))?;
        inner.put_number("temperature", "temperature", request.temperature)?;
        inner.put_number("top_p", "topP", request.top_p)?;
        inner.put_list("stop", "stopSequences", &request.stop)
    })?;
    params.nest("toolConfig", |inner| put_tools(request, &called, inner))?;
    params.nest("outputConfig", |inner| put_format(request, inner))?;
    params.nest("additionalModelRequestFields", |inner| put_own(request, Family::of(rules.target), inner))?;
    let metadata: BTreeMap<_, _> = request.metadata.iter().collect();
    params.put_some("metadata", "requestMetadata", (!metadata.is_empty()).then_some(metadata))?;
    params.lack("seed", request.seed.is_some())?;
    params.lack("frequency_penalty", request.frequency_penalty.is_some())?;
    params.lack("presence_penalty", request.presence_penalty.is_some())?;
    params.lack("choice_count", request.choice_count.is_some_and(|count| count != 1))?;
    params.lack("logprobs", request.logprobs == Some(true))?;
    params.lack("top_logprobs", request.top_logprobs.is_some())?;
    // That a model may call several tools is the service's default; that it may not cannot be said.
    params.lack("parallel_tool_calls", request.parallel_tool_calls == Some(false))?;
    params.lack("user", !request.user.is_empty())?;
    params.lack("logit_bias", !request.logit_bias.is_empty())?;
    params.end()
}

/// The limit. The budget of Claude's reasoning counts towards it and must be less: a default leaves room for the answer beside it.
fn limit(request: &ChatRequest, family: Family) -> Option<u32> {
    let budget =
        request.reasoning.as_ref().and_then(|reasoning| reasoning.budget_tokens).filter(|budget| *budget > 0 && family == Family::Claude);
    request.max_tokens.or_else(|| budget.map(|budget| budget.saturating_add(ROOM)))
}

fn put_tools(request: &ChatRequest, called: &[&str], inner: &mut Params<'_>) -> Result<()> {
    let mut declared = tools::declared(request)?;
    let choice = tools::choice(request)?;
    // No tools is how the service is told that none may be called. A conversation that holds calls must have its tools.
    if choice == Some(Choice::None) && called.is_empty() {
        return Ok(());
    }
    let has_own = !declared.is_empty() || inner.is_replaced("tools");
    if declared.is_empty() {
        let known = called.iter().filter(|name| !name.is_empty());
        declared.extend(known.map(|name| Declared { name, description: "", parameters: None, strict: None }));
    }
    let all = declared.into_iter().map(tool).collect::<Result<Vec<_>>>()?;
    inner.put_list("tools", "tools", &all)?;
    match choice {
        None => Ok(()),
        Some(Choice::None) => inner.lack("tool_choice.mode", true),
        Some(Choice::Auto) if !has_own => Ok(()),
        Some(_) if !has_own => Err(Error::invalid("tool_choice", "goes only with `tools`")),
        Some(Choice::Auto) => inner.put("tool_choice", "toolChoice", &ChoiceOut::Auto {}),
        Some(Choice::Required) => inner.put("tool_choice", "toolChoice", &ChoiceOut::Any {}),
        Some(Choice::Tool(name)) => inner.put("tool_choice", "toolChoice", &ChoiceOut::Tool { name }),
    }
}

fn tool<'a>(tool: Declared<'a>) -> Result<ToolOut<'a>> {
    let input_schema = InputSchema { json: tool.parameters_or(tools::ANY)? };
    let Declared { name, description, strict, .. } = tool;
    // Not strict is how the service is anyway, and models that cannot be strict refuse the word.
    Ok(ToolOut { tool_spec: ToolSpec { name, description, input_schema, strict: strict.filter(|strict| *strict) } })
}

fn put_format(request: &ChatRequest, inner: &mut Params<'_>) -> Result<()> {
    match tools::format(request)? {
        None | Some(Format::Text) => Ok(()),
        Some(Format::JsonObject) => inner.lack("response_format.type", true),
        Some(Format::JsonSchema { name, description, schema, strict }) => {
            // An answer always matches.
            inner.lack("response_format.strict", strict == Some(false))?;
            let json_schema = JsonSchema { schema: schema.get(), name, description };
            inner.put("response_format", "textFormat", &TextFormat { r#type: "json_schema", structure: Structure { json_schema } })
        }
    }
}

/// What Converse has no field for and some models have.
fn put_own(request: &ChatRequest, family: Family, inner: &mut Params<'_>) -> Result<()> {
    match family {
        Family::Claude => inner.put_some("top_k", "top_k", request.top_k)?,
        Family::Nova => inner.nest("inferenceConfig", |inner| inner.put_some("top_k", "topK", request.top_k))?,
        Family::GptOss | Family::Other | Family::Unknown => inner.lack("top_k", request.top_k.is_some())?,
    }
    let Some(reasoning) = &request.reasoning else { return Ok(()) };
    let Reasoning { effort, budget_tokens, include } = reasoning;
    if family == Family::Claude {
        put_thinking(reasoning, inner)?;
    } else {
        inner.lack("reasoning.budget_tokens", budget_tokens.is_some())?;
        inner.lack("reasoning.include", include.is_some())?;
    }
    match (family, effort.as_str()) {
        (_, "") | (Family::Claude, "none") => Ok(()),
        (Family::Claude, effort) => inner.nest("output_config", |inner| inner.put("reasoning.effort", "effort", effort)),
        (Family::Nova, "none") => {
            inner.put("reasoning.effort", "reasoningConfig", &ReasoningConfig { r#type: "disabled", max_reasoning_effort: None })
        }
        (Family::Nova, effort) => {
            inner.put("reasoning.effort", "reasoningConfig", &ReasoningConfig { r#type: "enabled", max_reasoning_effort: Some(effort) })
        }
        (Family::GptOss, effort) => inner.put("reasoning.effort", "reasoning_effort", effort),
        (Family::Other | Family::Unknown, _) => inner.lack("reasoning.effort", true),
    }
}

/// How Claude reasons: within a budget that is kept to the letter, or, with an effort or the wish to read it alone, as much as it sees fit. No
/// effort (`none`) and no budget (0) turn reasoning off. Models that know budgets only always show it.
fn put_thinking(reasoning: &Reasoning, inner: &mut Params<'_>) -> Result<()> {
    let Reasoning { effort, budget_tokens: budget, include } = reasoning;
    let adapts = thinking::adapts(model::id(inner.rules().target));
    let (field, r#type) = match budget {
        Some(1..) if effort == "none" => {
            return Err(Error::invalid("reasoning.budget_tokens", "goes not with an effort of `none`; leave one of them out"));
        }
        Some(1..) => ("reasoning.budget_tokens", "enabled"),
        Some(0) => ("reasoning.budget_tokens", "disabled"),
        None if effort == "none" => ("reasoning.effort", "disabled"),
        None if !effort.is_empty() => ("reasoning.effort", "adaptive"),
        None if *include == Some(true) && adapts => ("reasoning.include", "adaptive"),
        None => return inner.lack("reasoning.include", *include == Some(true)),
    };
    let thinks = r#type != "disabled";
    inner.lack("reasoning.include", thinks && !adapts && *include == Some(false))?;
    let display = include.filter(|_| thinks && adapts).map(|include| if include { "summarized" } else { "omitted" });
    inner.put(field, "thinking", &Thinking { r#type, budget_tokens: budget.filter(|budget| *budget > 0), display })
}
