//! `ChatRequest` as the body of `/chat/completions`. Messages are lowered in `message`.

use std::collections::BTreeMap;

use bytes::Bytes;
use flowgate_proto::v1::{ChatRequest, ResponseFormat, ResponseFormatType, Tool, ToolChoice, ToolChoiceMode};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    json::At,
    message,
    params::{Params, Rules},
};
use crate::error::{Error, Result};

#[derive(Serialize)]
struct ToolOut<'a> {
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

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
    if request.prompt_variables.as_ref().is_some_and(|variables| !variables.fields.is_empty()) {
        return Err(Error::invalid("prompt_variables", "the endpoint has no prompt template; leave them out"));
    }
    let mut params = Params::new(rules, &request.provider_options)?;
    params.put("messages", "messages", &message::lower_all(&request.messages, rules)?)?;
    params.put_some("max_tokens", rules.target.quirks.max_tokens_field, request.max_tokens)?;
    params.put_number("temperature", request.temperature)?;
    params.put_number("top_p", request.top_p)?;
    params.lack("top_k", request.top_k.is_some())?;
    params.put_some("seed", "seed", request.seed)?;
    params.put_number("frequency_penalty", request.frequency_penalty)?;
    params.put_number("presence_penalty", request.presence_penalty)?;
    params.put_list("stop", "stop", &request.stop)?;
    params.put_some("choice_count", "n", request.choice_count)?;
    params.put_some("logprobs", "logprobs", request.logprobs)?;
    params.put_some("top_logprobs", "top_logprobs", request.top_logprobs)?;
    params.put_list("tools", "tools", &tools(&request.tools)?)?;
    params.put_some("tool_choice", "tool_choice", tool_choice(request.tool_choice.as_ref())?)?;
    params.put_some("parallel_tool_calls", "parallel_tool_calls", request.parallel_tool_calls)?;
    params.put_some("response_format", "response_format", response_format(request.response_format.as_ref())?)?;
    if let Some(reasoning) = &request.reasoning {
        params.put_text("reasoning.effort", "reasoning_effort", &reasoning.effort)?;
        params.lack("reasoning.budget_tokens", reasoning.budget_tokens.is_some())?;
        params.lack("reasoning.include", reasoning.include.is_some())?;
    }
    let metadata: BTreeMap<_, _> = request.metadata.iter().collect();
    params.put_some("metadata", "metadata", (!metadata.is_empty()).then_some(metadata))?;
    params.put_text("user", "user", &request.user)?;
    params.put_bias(&request.logit_bias)?;
    params.end()
}

fn tools(tools: &[Tool]) -> Result<Vec<ToolOut<'_>>> {
    let all = At::Root.key("tools");
    tools.iter().enumerate().map(|(n, tool)| lower_tool(tool, all.index(n))).collect()
}

fn lower_tool<'a>(tool: &'a Tool, at: At<'_>) -> Result<ToolOut<'a>> {
    if tool.name.is_empty() {
        return Err(at.key("name").invalid("is required"));
    }
    let parameters = (!tool.parameters.is_empty()).then(|| json_text(&tool.parameters, at.key("parameters"))).transpose()?;
    let function = Function { name: &tool.name, description: &tool.description, parameters, strict: tool.strict };
    Ok(ToolOut { r#type: "function", function })
}

fn tool_choice(choice: Option<&ToolChoice>) -> Result<Option<ChoiceOut<'_>>> {
    let Some(choice) = choice else { return Ok(None) };
    let at = At::Root.key("tool_choice");
    if ToolChoiceMode::try_from(choice.mode).is_err() {
        return Err(at.key("mode").invalid("is not a mode of the contract"));
    }
    let needs_name = choice.mode() == ToolChoiceMode::Tool;
    if needs_name == choice.name.is_empty() {
        let expected = if needs_name { "is required with `TOOL_CHOICE_MODE_TOOL`" } else { "goes only with `TOOL_CHOICE_MODE_TOOL`" };
        return Err(at.key("name").invalid(expected));
    }
    Ok(match choice.mode() {
        ToolChoiceMode::Unspecified => None,
        ToolChoiceMode::Auto => Some(ChoiceOut::Word("auto")),
        ToolChoiceMode::None => Some(ChoiceOut::Word("none")),
        ToolChoiceMode::Required => Some(ChoiceOut::Word("required")),
        ToolChoiceMode::Tool => Some(ChoiceOut::Tool { r#type: "function", function: Named { name: &choice.name } }),
    })
}

fn response_format(format: Option<&ResponseFormat>) -> Result<Option<FormatOut<'_>>> {
    let Some(format) = format else { return Ok(None) };
    let at = At::Root.key("response_format");
    if ResponseFormatType::try_from(format.r#type).is_err() {
        return Err(at.key("type").invalid("is not a type of the contract"));
    }
    let plain = |word| Ok(Some(FormatOut { r#type: word, json_schema: None }));
    match format.r#type() {
        ResponseFormatType::JsonSchema => {
            if format.name.is_empty() {
                return Err(at.key("name").invalid("is required with a JSON schema"));
            }
            let schema = json_text(&format.schema, at.key("schema"))?;
            let schema = Schema { name: &format.name, description: &format.description, schema, strict: format.strict };
            Ok(Some(FormatOut { r#type: "json_schema", json_schema: Some(schema) }))
        }
        _ if !(format.schema.is_empty() && format.name.is_empty() && format.description.is_empty() && format.strict.is_none()) => {
            Err(at.invalid("describes a schema that only `RESPONSE_FORMAT_TYPE_JSON_SCHEMA` uses"))
        }
        ResponseFormatType::Unspecified => Ok(None),
        ResponseFormatType::Text => plain("text"),
        ResponseFormatType::JsonObject => plain("json_object"),
    }
}

/// JSON text of the caller, to be spliced in to the letter.
pub(super) fn json_text<'a>(text: &'a str, at: At<'_>) -> Result<&'a RawValue> {
    serde_json::from_str(text).map_err(|error| at.invalid(format!("is not valid JSON at line {} column {}", error.line(), error.column())))
}
