//! `ChatRequest` as the body of `/messages`. The conversation is lowered in `message`.

use flowgate_proto::v1::{ChatRequest, Reasoning};
use pbjson_types::{Value, value::Kind};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Body, Form, message, schema::Closed};
use crate::{
    dialect::{
        asked,
        params::{Params, Rules},
        thinking::adapts,
        tools::{self, Choice, Declared, Format},
        turns::{self, Conversation},
    },
    error::{Error, Result},
};

/// The option that names betas.
pub(super) const BETAS: &str = "provider_options.anthropic.betas";

#[derive(Serialize)]
struct ToolOut<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    input_schema: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
struct ChoiceOut<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Serialize)]
struct FormatOut<'a> {
    r#type: &'static str,
    schema: SchemaOut<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum SchemaOut<'a> {
    Closed(Closed<'a>),
    ToTheLetter(&'a RawValue),
}

/// The body of a call.
pub(super) fn encode(request: &ChatRequest, rules: Rules<'_>, form: Form) -> Result<Body> {
    asked::without_template(request)?;
    let options = &request.provider_options;
    let mut params = if form.names_model { Params::new(rules, options)? } else { Params::unnamed(rules, options)? };
    let mut betas = params.take_option("betas").map(betas).transpose()?.unwrap_or_default();
    if let Some(version) = form.version {
        params.set("anthropic_version", version)?;
    }
    if form.holds_betas && !betas.is_empty() {
        params.set("anthropic_beta", &std::mem::take(&mut betas))?;
    }
    let Conversation { instructions, turns } = turns::conversation(&request.messages, rules)?;
    if let Some(system) = message::system(&instructions, rules)? {
        params.set("system", &system)?;
    }
    params.set("messages", &message::turns(turns, rules)?)?;
    put_limit(request, &mut params)?;
    put_sampling(request, &mut params)?;
    put_tools(request, &mut params)?;
    if let Some(reasoning) = &request.reasoning {
        put_thinking(reasoning, &mut params)?;
    }
    put_output(request, &mut params)?;
    params.lack("metadata", !request.metadata.is_empty())?;
    params.nest("metadata", |metadata| metadata.put_text("user", "user_id", &request.user))?;
    if rules.ask.streaming && form.says_stream {
        params.set("stream", &true)?;
    }
    Ok(Body { json: params.end()?, betas })
}

fn betas(value: &Value) -> Result<Vec<String>> {
    let text = |value: &Value| match &value.kind {
        Some(Kind::StringValue(name)) => Some(name.clone()),
        _ => None,
    };
    let names = match &value.kind {
        Some(Kind::ListValue(list)) => list.values.iter().map(text).collect(),
        _ => text(value).map(|name| vec![name]),
    };
    names.ok_or_else(|| Error::invalid(BETAS, "must be a list of names"))
}

/// The limit, which the protocol must be told. Reasoning counts towards it: a default leaves room for the answer beside it.
fn put_limit(request: &ChatRequest, params: &mut Params<'_>) -> Result<()> {
    let budget = request.reasoning.as_ref().and_then(|reasoning| reasoning.budget_tokens).unwrap_or_default();
    let default = params.rules().target.quirks.default_max_tokens.map(|most| most.saturating_add(budget));
    let limit = request.max_tokens.or(default);
    if limit.is_none() && !params.is_replaced("max_tokens") {
        return Err(Error::invalid("max_tokens", "is required by this provider"));
    }
    params.put_some("max_tokens", "max_tokens", limit)
}

fn put_sampling(request: &ChatRequest, params: &mut Params<'_>) -> Result<()> {
    params.put_number("temperature", "temperature", request.temperature)?;
    params.put_number("top_p", "top_p", request.top_p)?;
    params.put_some("top_k", "top_k", request.top_k)?;
    params.put_list("stop", "stop_sequences", &request.stop)?;
    params.lack("seed", request.seed.is_some())?;
    params.lack("frequency_penalty", request.frequency_penalty.is_some())?;
    params.lack("presence_penalty", request.presence_penalty.is_some())?;
    params.lack("choice_count", request.choice_count.is_some_and(|count| count != 1))?;
    params.lack("logprobs", request.logprobs == Some(true))?;
    params.lack("top_logprobs", request.top_logprobs.is_some())?;
    params.lack("logit_bias", !request.logit_bias.is_empty())
}

fn put_tools(request: &ChatRequest, params: &mut Params<'_>) -> Result<()> {
    let declared = tools::declared(request)?;
    // What is said of calls goes with tools only.
    let has_tools = !declared.is_empty() || params.is_replaced("tools");
    params.put_list("tools", "tools", &declared.into_iter().map(tool).collect::<Result<Vec<_>>>()?)?;
    let is_single = has_tools
        && request.parallel_tool_calls == Some(false)
        && params.rules().takes("disable_parallel_tool_use", "parallel_tool_calls")?;
    // Without tools none is called anyway, and the protocol refuses to be told so.
    let choice = tools::choice(request)?.filter(|choice| has_tools || *choice != Choice::None);
    params.put_some("tool_choice", "tool_choice", tool_choice(choice, is_single))
}

fn tool(declared: Declared<'_>) -> Result<ToolOut<'_>> {
    let input_schema = declared.parameters_or(tools::ANY)?;
    let Declared { name, description, strict, .. } = declared;
    Ok(ToolOut { name, description, input_schema, strict })
}

/// The choice. That only one tool may be called goes with a choice, even if the caller made none.
fn tool_choice(choice: Option<Choice<'_>>, is_single: bool) -> Option<ChoiceOut<'_>> {
    let (r#type, name) = match choice {
        None if !is_single => return None,
        None | Some(Choice::Auto) => ("auto", None),
        Some(Choice::Required) => ("any", None),
        Some(Choice::Tool(name)) => ("tool", Some(name)),
        Some(Choice::None) => return Some(ChoiceOut { r#type: "none", name: None, disable_parallel_tool_use: None }),
    };
    Some(ChoiceOut { r#type, name, disable_parallel_tool_use: is_single.then_some(true) })
}

/// How the model reasons. A budget is kept to the letter; without one, an effort or the wish to read the reasoning lets the model decide.
/// No effort (`none`) and no budget (0) turn reasoning off. What is not to be read is left out by the provider, which still signs it.
fn put_thinking(reasoning: &Reasoning, params: &mut Params<'_>) -> Result<()> {
    let Reasoning { effort, budget_tokens, include } = reasoning;
    let budget = budget_tokens.filter(|budget| *budget > 0);
    if effort == "none" && budget.is_some() {
        return Err(Error::invalid("reasoning.budget_tokens", "goes not with an effort of `none`; leave one of them out"));
    }
    let (field, kind) = match budget {
        Some(_) => ("reasoning.budget_tokens", Some("enabled")),
        None if budget_tokens.is_some() => ("reasoning.budget_tokens", Some("disabled")),
        None if effort == "none" => ("reasoning.effort", Some("disabled")),
        None if !effort.is_empty() => ("reasoning.effort", Some("adaptive")),
        // What has to be told how much to reason, and is not, does not reason: there is nothing to read.
        None => ("reasoning.include", (*include == Some(true) && adapts(&params.rules().target.model)).then_some("adaptive")),
    };
    params.nest("thinking", |thinking| {
        let thinks = thinking.is_replaced("type") || kind.is_some_and(|kind| kind != "disabled");
        thinking.put_some(field, "type", kind)?;
        thinking.put_some("reasoning.budget_tokens", "budget_tokens", budget)?;
        let display = include.map(|include| if include { "summarized" } else { "omitted" });
        thinking.put_some("reasoning.include", "display", display.filter(|_| thinks))
    })
}

/// The form of the answer, and how much effort goes into it.
fn put_output(request: &ChatRequest, params: &mut Params<'_>) -> Result<()> {
    let effort = request.reasoning.as_ref().map(|reasoning| reasoning.effort.as_str()).filter(|effort| *effort != "none");
    let format = match tools::format(request)? {
        None | Some(Format::Text) => None,
        Some(Format::JsonObject) => {
            params.lack("response_format", true)?;
            None
        }
        // The name is a label of the caller's; the contract wants one, the protocol has none.
        Some(Format::JsonSchema { name: _, description, schema, strict }) => {
            params.lack("response_format.description", !description.is_empty())?;
            Some(FormatOut { r#type: "json_schema", schema: schema_out(schema, strict) })
        }
    };
    params.nest("output_config", |output| {
        output.put_text("reasoning.effort", "effort", effort.unwrap_or_default())?;
        output.put_some("response_format", "format", format)
    })
}

/// The protocol takes closed objects only. Where the caller does not want the schema kept to exactly, closing it would forbid what the
/// caller allows: it goes to the letter, and the provider decides.
fn schema_out(schema: &RawValue, strict: Option<bool>) -> SchemaOut<'_> {
    if strict == Some(false) { SchemaOut::ToTheLetter(schema) } else { SchemaOut::Closed(Closed::new(schema)) }
}
