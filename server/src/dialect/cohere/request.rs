//! `ChatRequest` as the body of `/chat`. Messages are lowered in `message`.

use bytes::Bytes;
use flowgate_proto::v1::ChatRequest;
use serde::Serialize;
use serde_json::value::RawValue;

use super::message;
use crate::{
    dialect::{
        asked,
        functions::ToolOut,
        params::{Params, Rules},
        tools::{self, Choice, Declared, Format},
        turns,
    },
    error::Result,
};

/// A schema for a tool that takes nothing: the API wants one of every tool.
const NOTHING: &str = r#"{"type":"object","properties":{}}"#;

#[derive(Serialize)]
struct FormatOut<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_schema: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Thinking {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_budget: Option<u32>,
}

/// The body of a chat call.
pub(super) fn encode(request: &ChatRequest, rules: Rules<'_>) -> Result<Bytes> {
    asked::without_template(request)?;
    asked::plain(request, rules)?;
    let mut params = Params::new(rules, &request.provider_options)?;
    params.put("messages", "messages", &message::lower_all(&turns::in_order(&request.messages, rules)?, rules)?)?;
    params.put_some("max_tokens", "max_tokens", request.max_tokens)?;
    params.put_number("temperature", "temperature", request.temperature)?;
    params.put_number("top_p", "p", request.top_p)?;
    params.put_some("top_k", "k", request.top_k)?;
    params.put_some("seed", "seed", request.seed)?;
    params.put_number("frequency_penalty", "frequency_penalty", request.frequency_penalty)?;
    params.put_number("presence_penalty", "presence_penalty", request.presence_penalty)?;
    params.put_list("stop", "stop_sequences", &request.stop)?;
    params.put_some("logprobs", "logprobs", request.logprobs)?;
    params.lack("top_logprobs", request.top_logprobs.is_some_and(|count| count > 0))?;
    put_tools(&mut params, request)?;
    params.put_some("response_format", "response_format", tools::bare_format(request, rules)?.map(response_format))?;
    put_thinking(&mut params, request)?;
    if rules.ask.streaming {
        params.set("stream", &true)?;
    }
    params.end()
}

fn put_tools(params: &mut Params<'_>, request: &ChatRequest) -> Result<()> {
    let declared = tools::declared(request)?;
    params.put_some("tools.strict", "strict_tools", strictness(&declared, params.rules())?)?;
    let only = if let [tool] = declared.as_slice() { tool.name } else { "" };
    params.put_list("tools", "tools", &declared.into_iter().map(tool).collect::<Result<Vec<_>>>()?)?;
    match tools::choice(request)? {
        None | Some(Choice::Auto) => {}
        Some(Choice::None) => params.put("tool_choice", "tool_choice", "NONE")?,
        // To have to call the only tool that there is means the same.
        Some(Choice::Tool(name)) if name != only => params.rules().lack("tool_choice.name")?,
        Some(Choice::Required | Choice::Tool(_)) => params.put("tool_choice", "tool_choice", "REQUIRED")?,
    }
    // It always may.
    params.lack("parallel_tool_calls", request.parallel_tool_calls == Some(false))
}

/// Strictness is of all tools or of none.
fn strictness(tools: &[Declared<'_>], rules: Rules<'_>) -> Result<Option<bool>> {
    let strict = tools.iter().any(|tool| tool.strict == Some(true));
    let other = tools.iter().position(|tool| strict && tool.strict != Some(true));
    if let Some(n) = other {
        return rules.lack(format!("tools[{n}].strict")).map(|()| None);
    }
    Ok(tools.iter().find_map(|tool| tool.strict))
}

fn tool(tool: Declared<'_>) -> Result<ToolOut<'_>> {
    Ok(ToolOut::from(Declared { parameters: Some(tool.parameters_or(NOTHING)?), strict: None, ..tool }))
}

fn response_format(format: Format<'_>) -> FormatOut<'_> {
    match format {
        Format::Text => FormatOut { r#type: "text", json_schema: None },
        Format::JsonObject => FormatOut { r#type: "json_object", json_schema: None },
        // The name is a label that nothing but the contract needs.
        Format::JsonSchema { schema, .. } => FormatOut { r#type: "json_object", json_schema: Some(schema) },
    }
}

/// Thinking is on or off, with a budget; efforts have no place, and thoughts always stand in the answer.
fn put_thinking(params: &mut Params<'_>, request: &ChatRequest) -> Result<()> {
    let Some(reasoning) = &request.reasoning else { return Ok(()) };
    params.lack("reasoning.include", reasoning.include == Some(false))?;
    let is_off = reasoning.effort == "none" || reasoning.budget_tokens == Some(0);
    params.lack("reasoning.effort", !reasoning.effort.is_empty() && !is_off)?;
    let thinking = match reasoning.budget_tokens {
        _ if is_off => Thinking { r#type: "disabled", token_budget: None },
        Some(budget) => Thinking { r#type: "enabled", token_budget: Some(budget) },
        None => return Ok(()),
    };
    params.put("reasoning", "thinking", &thinking)
}
