//! Requests as the bodies of `/api/chat` and `/api/generate`. Messages are lowered in `message`.

use bytes::Bytes;
use flowgate_proto::v1::{ChatRequest, CompleteRequest, Reasoning};
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

#[derive(Serialize)]
#[serde(untagged)]
enum FormatOut<'a> {
    Word(&'static str),
    Schema(&'a RawValue),
}

/// Whether and how hard to think.
#[derive(Serialize)]
#[serde(untagged)]
enum Think<'a> {
    Switch(bool),
    Effort(&'a str),
}

/// The body of a chat call.
pub(super) fn chat(request: &ChatRequest, rules: Rules<'_>) -> Result<Bytes> {
    asked::without_template(request)?;
    asked::plain(request, rules)?;
    let mut params = Params::new(rules, &request.provider_options)?;
    let called = turns::tools_called(&request.messages);
    params.put("messages", "messages", &message::lower_all(&turns::in_order(&request.messages, rules)?, &called, rules)?)?;
    put_tools(&mut params, request)?;
    let format = tools::bare_format(request, rules)?.and_then(|format| match format {
        Format::Text => None,
        Format::JsonObject => Some(FormatOut::Word("json")),
        // The name is a label that nothing but the contract needs.
        Format::JsonSchema { schema, .. } => Some(FormatOut::Schema(schema)),
    });
    params.put_some("response_format", "format", format)?;
    if let Some(reasoning) = &request.reasoning {
        put_think(&mut params, reasoning)?;
    }
    end(params, request)
}

/// The body of a completion.
pub(super) fn generate(request: &CompleteRequest, rules: Rules<'_>) -> Result<Bytes> {
    // The protocol's own place for it, unlike a conversation's.
    let suffix = request.suffix.as_str();
    let asked = asked::as_chat(&CompleteRequest { suffix: String::new(), ..request.clone() }, rules)?;
    asked::plain(&asked, rules)?;
    let mut params = Params::new(rules, &request.provider_options)?;
    params.put_some("prompts", "prompt", request.prompts.first())?;
    params.put_text("suffix", "suffix", suffix)?;
    end(params, &asked)
}

/// What conversations and prompts have in common.
fn end(mut params: Params<'_>, request: &ChatRequest) -> Result<Bytes> {
    params.put_some("logprobs", "logprobs", request.logprobs)?;
    params.put_some("top_logprobs", "top_logprobs", request.top_logprobs)?;
    params.nest("options", |options| {
        options.put_some("max_tokens", "num_predict", request.max_tokens)?;
        options.put_number("temperature", "temperature", request.temperature)?;
        options.put_number("top_p", "top_p", request.top_p)?;
        options.put_some("top_k", "top_k", request.top_k)?;
        options.put_some("seed", "seed", request.seed)?;
        options.put_number("frequency_penalty", "frequency_penalty", request.frequency_penalty)?;
        options.put_number("presence_penalty", "presence_penalty", request.presence_penalty)?;
        options.put_list("stop", "stop", &request.stop)
    })?;
    // It streams unless told not to.
    params.set("stream", &params.rules().ask.streaming)?;
    params.end()
}

fn put_tools(params: &mut Params<'_>, request: &ChatRequest) -> Result<()> {
    let declared = tools::declared(request)?;
    if let Some(n) = declared.iter().position(|tool| tool.strict == Some(true)) {
        params.rules().lack(format!("tools[{n}].strict"))?;
    }
    match tools::choice(request)? {
        None | Some(Choice::Auto) => {}
        // What must not be called need not be known.
        Some(Choice::None) => return Ok(()),
        Some(Choice::Required | Choice::Tool(_)) => params.rules().lack("tool_choice")?,
    }
    // It always may.
    params.lack("parallel_tool_calls", request.parallel_tool_calls == Some(false))?;
    let tools = declared.into_iter().map(|tool| ToolOut::from(Declared { strict: None, ..tool }));
    params.put_list("tools", "tools", &tools.collect::<Vec<_>>())
}

/// One field says whether the model thinks, how hard, and whether its thoughts stand in the answer.
fn put_think(params: &mut Params<'_>, reasoning: &Reasoning) -> Result<()> {
    let Reasoning { effort, budget_tokens, include } = reasoning;
    params.lack("reasoning.budget_tokens", budget_tokens.is_some())?;
    let think = match (effort.as_str(), include) {
        ("none", _) => Think::Switch(false),
        ("", Some(include)) => Think::Switch(*include),
        ("", None) => return Ok(()),
        (effort, include) => {
            params.lack("reasoning.include", *include == Some(false))?;
            Think::Effort(effort)
        }
    };
    params.put("reasoning", "think", &think)
}
