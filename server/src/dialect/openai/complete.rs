//! `CompleteRequest` as the body of `/completions`, and conversations as prompts.

use bytes::Bytes;
use flowgate_proto::v1::{ChatRequest, CompleteRequest, Message};

use super::{end, message::role_word};
use crate::{
    dialect::{
        asked,
        json::At,
        params::{Params, Rules},
        turns,
    },
    error::{Error, Result},
};

/// The body of a completion call. `metadata` is for usage records only: the protocol has no such parameter.
pub(super) fn encode(request: &CompleteRequest, rules: Rules<'_>) -> Result<Bytes> {
    let mut params = Params::new(rules, &request.provider_options)?;
    match request.prompts.as_slice() {
        [] => return Err(Error::invalid("prompts", "must hold at least one prompt")),
        [prompt] => params.put("prompts", "prompt", prompt)?,
        prompts => params.put("prompts", "prompt", prompts)?,
    }
    params.put_some("max_tokens", "max_tokens", request.max_tokens)?;
    params.put_number("temperature", "temperature", request.temperature)?;
    params.put_number("top_p", "top_p", request.top_p)?;
    params.put_extra("top_k", "top_k", request.top_k)?;
    params.put_some("seed", "seed", request.seed)?;
    params.put_number("frequency_penalty", "frequency_penalty", request.frequency_penalty)?;
    params.put_number("presence_penalty", "presence_penalty", request.presence_penalty)?;
    params.put_list("stop", "stop", &request.stop)?;
    params.put_some("choice_count", "n", request.choice_count)?;
    params.put_some("logprobs", "logprobs", request.logprobs)?;
    params.put_some("echo", "echo", request.echo)?;
    params.put_text("suffix", "suffix", &request.suffix)?;
    params.put_text("user", "user", &request.user)?;
    params.put_bias(&request.logit_bias)?;
    end(params)
}

/// A conversation for a model that only completes: one prompt.
pub(super) fn of_chat(request: &ChatRequest, rules: Rules<'_>) -> Result<CompleteRequest> {
    asked::texts_only(request, rules)?;
    asked::without_template(request)?;
    let logprobs = if request.logprobs == Some(true) { request.top_logprobs.or(Some(0)) } else { None };
    Ok(CompleteRequest {
        endpoint: request.endpoint.clone(),
        prompts: vec![prompt(&request.messages, rules)?],
        max_tokens: request.max_tokens,
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        seed: request.seed,
        frequency_penalty: request.frequency_penalty,
        presence_penalty: request.presence_penalty,
        stop: request.stop.clone(),
        choice_count: request.choice_count,
        logprobs,
        metadata: request.metadata.clone(),
        provider_options: request.provider_options.clone(),
        user: request.user.clone(),
        logit_bias: request.logit_bias.clone(),
        ..CompleteRequest::default()
    })
}

/// The text of a lone user message; else `role: text` lines, and the assistant's turn to speak.
fn prompt(messages: &[Message], rules: Rules<'_>) -> Result<String> {
    let spoken = turns::in_order(messages, rules)?;
    let mut lines = String::new();
    for (n, (message, (_, said))) in messages.iter().zip(&spoken).enumerate() {
        let role = role_word(message, At::Root.key("messages").index(n))?;
        let text = turns::only_text(said, rules)?;
        if spoken.len() == 1 && role == "user" {
            return Ok(text);
        }
        lines.push_str(role);
        lines.push_str(": ");
        lines.push_str(&text);
        lines.push('\n');
    }
    lines.push_str("assistant:");
    Ok(lines)
}
