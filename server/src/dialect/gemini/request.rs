//! `ChatRequest` as the body of `generateContent`. Messages are lowered in `contents`.

use std::collections::BTreeMap;

use bytes::Bytes;
use flowgate_proto::v1::{ChatRequest, Reasoning};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Surface, contents};
use crate::{
    dialect::{
        asked,
        params::{Params, Rules},
        tools::{self, Choice, Declared, Format},
        turns,
    },
    error::{Error, Result},
    event::Request,
};

/// The first generation that is told how much to think by a word, and that checks the signatures of calls.
const LEVELS: u32 = 3;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolsOut<'a> {
    function_declarations: Vec<Declaration<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declaration<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    /// The older `parameters` takes only a part of JSON Schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters_json_schema: Option<&'a RawValue>,
}

/// The body of a chat call.
pub(super) fn encode(request: &ChatRequest, rules: Rules<'_>, surface: Surface) -> Result<Bytes> {
    asked::without_template(request)?;
    let mut params = Params::unnamed(rules, &request.provider_options)?;
    let conversation = turns::conversation(&request.messages, rules)?;
    if conversation.turns.is_empty() {
        return Err(Error::invalid("messages", "must hold a message that is no instruction"));
    }
    params.put("messages", "contents", &contents::turns(&conversation, rules, surface)?)?;
    params.put_some("messages", "systemInstruction", contents::instruction(&conversation, rules, surface)?)?;
    put_tools(request, &mut params)?;
    params.nest("generationConfig", |config| put_generation(request, config))?;
    put_metadata(request, &mut params, surface)?;
    params.lack("parallel_tool_calls", request.parallel_tool_calls == Some(false))?;
    params.lack("user", !request.user.is_empty())?;
    params.lack("logit_bias", !request.logit_bias.is_empty())?;
    params.end()
}

fn put_tools(request: &ChatRequest, params: &mut Params<'_>) -> Result<()> {
    let mut declared = Vec::with_capacity(request.tools.len());
    for (n, Declared { name, description, parameters, strict }) in tools::declared(request)?.into_iter().enumerate() {
        params.lack(&format!("tools[{n}].strict"), strict == Some(true))?;
        declared.push(Declaration { name, description, parameters_json_schema: parameters });
    }
    let has_tools = !declared.is_empty() || params.is_replaced("tools");
    params.put_some("tools", "tools", (!declared.is_empty()).then_some([ToolsOut { function_declarations: declared }]))?;
    let (mode, name) = match tools::choice(request)? {
        None | Some(Choice::Auto) => return Ok(()),
        // Without tools none is called anyway.
        Some(Choice::None) if !has_tools => return Ok(()),
        Some(_) if !has_tools => return Err(Error::invalid("tool_choice", "needs `tools`")),
        Some(Choice::None) => ("NONE", None),
        Some(Choice::Required) => ("ANY", None),
        Some(Choice::Tool(name)) => ("ANY", Some([name])),
    };
    params.nest("toolConfig", |config| {
        config.nest("functionCallingConfig", |calling| {
            calling.put("tool_choice", "mode", mode)?;
            calling.put_some("tool_choice.name", "allowedFunctionNames", name)
        })
    })
}

fn put_generation(request: &ChatRequest, config: &mut Params<'_>) -> Result<()> {
    config.put_list("stop", "stopSequences", &request.stop)?;
    config.put_some("choice_count", "candidateCount", request.choice_count)?;
    config.put_some("max_tokens", "maxOutputTokens", request.max_tokens)?;
    config.put_number("temperature", "temperature", request.temperature)?;
    config.put_number("top_p", "topP", request.top_p)?;
    config.put_some("top_k", "topK", request.top_k)?;
    config.put_some("seed", "seed", request.seed)?;
    config.put_number("frequency_penalty", "frequencyPenalty", request.frequency_penalty)?;
    config.put_number("presence_penalty", "presencePenalty", request.presence_penalty)?;
    config.put_some("logprobs", "responseLogprobs", request.logprobs)?;
    // None is the default, and 0 is refused.
    config.put_some("top_logprobs", "logprobs", request.top_logprobs.filter(|most| *most > 0))?;
    put_format(request, config)?;
    match &request.reasoning {
        Some(reasoning) => config.nest("thinkingConfig", |thinking| put_thinking(reasoning, thinking)),
        None => Ok(()),
    }
}

/// A schema is always kept to exactly, and its name says nothing to the model.
fn put_format(request: &ChatRequest, config: &mut Params<'_>) -> Result<()> {
    const JSON: &str = "application/json";
    match tools::format(request)? {
        None | Some(Format::Text) => Ok(()),
        Some(Format::JsonObject) => config.put("response_format.type", "responseMimeType", JSON),
        Some(Format::JsonSchema { name: _, description, schema, strict }) => {
            config.lack("response_format.description", !description.is_empty())?;
            config.lack("response_format.strict", strict == Some(false))?;
            config.put("response_format.type", "responseMimeType", JSON)?;
            config.put("response_format.schema", "responseJsonSchema", schema)
        }
    }
}

fn put_thinking(reasoning: &Reasoning, thinking: &mut Params<'_>) -> Result<()> {
    let Reasoning { effort, budget_tokens, include } = reasoning;
    if !effort.is_empty() && budget_tokens.is_some() {
        return Err(Error::invalid("reasoning.effort", "cannot go together with `reasoning.budget_tokens`"));
    }
    match effort.as_str() {
        "" => {}
        "none" => thinking.put("reasoning.effort", "thinkingBudget", &0)?,
        word if takes_levels(&thinking.rules().target.model) => thinking.put("reasoning.effort", "thinkingLevel", word)?,
        word => thinking.put("reasoning.effort", "thinkingBudget", &budget_of(word)?)?,
    }
    thinking.put_some("reasoning.budget_tokens", "thinkingBudget", *budget_tokens)?;
    thinking.put_some("reasoning.include", "includeThoughts", *include)
}

/// Models before the third generation know budgets only, and later ones take them too: a name that tells no generation, as that of a tuned
/// model's endpoint, gets a budget.
fn takes_levels(model: &str) -> bool {
    generation(model).is_some_and(|generation| generation >= LEVELS)
}

/// Whether a model may check that calls are signed. A name that tells no generation may be that of any.
pub(super) fn may_check_calls(model: &str) -> bool {
    model.contains("gemini") && generation(model).is_none_or(|generation| generation >= LEVELS)
}

/// The generation that a model's name tells.
fn generation(model: &str) -> Option<u32> {
    let (_, name) = model.split_once("gemini-")?;
    name.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The budgets that Google itself gives those words for such models.
fn budget_of(effort: &str) -> Result<u32> {
    match effort {
        "minimal" | "low" => Ok(1024),
        "medium" => Ok(8192),
        "high" => Ok(24_576),
        _ => Err(Error::invalid("reasoning.effort", "must be none, minimal, low, medium or high for this model")),
    }
}

/// Labels of a prompt are for usage records only; those of a conversation are for the provider too.
fn put_metadata(request: &ChatRequest, params: &mut Params<'_>, surface: Surface) -> Result<()> {
    if request.metadata.is_empty() || !matches!(params.rules().ask.payload.typed()?, Request::Chat(_)) {
        return Ok(());
    }
    match surface {
        Surface::Gemini => params.lack("metadata", true),
        Surface::Vertex => params.put("metadata", "labels", &request.metadata.iter().collect::<BTreeMap<_, _>>()),
    }
}
