//! `CompleteRequest` as the body of `/completions`, and requests of one kind as the other: a prompt is a user message.

use bytes::Bytes;
use flowgate_proto::v1::{ChatRequest, CompleteRequest, Message, Role, TextPart, part::Kind};

use super::{
    json::At,
    message::role_word,
    params::{Params, Rules},
};
use crate::error::{Error, Result};

/// The body of a completion call. `metadata` is for usage records only: the protocol has no such parameter.
pub(super) fn encode(request: &CompleteRequest, rules: Rules<'_>) -> Result<Bytes> {
    let mut params = Params::new(rules, &request.provider_options)?;
    match request.prompts.as_slice() {
        [] => return Err(Error::invalid("prompts", "must hold at least one prompt")),
        [prompt] => params.put("prompts", "prompt", prompt)?,
        prompts => params.put("prompts", "prompt", prompts)?,
    }
    params.put_some("max_tokens", "max_tokens", request.max_tokens)?;
    params.put_number("temperature", request.temperature)?;
    params.put_number("top_p", request.top_p)?;
    params.lack("top_k", request.top_k.is_some())?;
    params.put_some("seed", "seed", request.seed)?;
    params.put_number("frequency_penalty", request.frequency_penalty)?;
    params.put_number("presence_penalty", request.presence_penalty)?;
    params.put_list("stop", "stop", &request.stop)?;
    params.put_some("choice_count", "n", request.choice_count)?;
    params.put_some("logprobs", "logprobs", request.logprobs)?;
    params.put_some("echo", "echo", request.echo)?;
    params.put_text("suffix", "suffix", &request.suffix)?;
    params.put_text("user", "user", &request.user)?;
    params.put_bias(&request.logit_bias)?;
    params.end()
}

/// A prompt for a model that only chats: one user message.
pub(super) fn as_chat(request: &CompleteRequest, rules: Rules<'_>) -> Result<ChatRequest> {
    let text = match request.prompts.as_slice() {
        [] => return Err(Error::invalid("prompts", "must hold at least one prompt")),
        [prompt] => prompt.clone(),
        [_, ..] => return Err(Error::unsupported("prompts[1]", rules.target.provider)),
    };
    if request.echo == Some(true) {
        rules.lack("echo")?;
    }
    if !request.suffix.is_empty() {
        rules.lack("suffix")?;
    }
    let parts = vec![super::answer::text_part(text)];
    Ok(ChatRequest {
        endpoint: request.endpoint.clone(),
        messages: vec![Message { role: Role::User.into(), parts, ..Message::default() }],
        max_tokens: request.max_tokens,
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        seed: request.seed,
        frequency_penalty: request.frequency_penalty,
        presence_penalty: request.presence_penalty,
        stop: request.stop.clone(),
        choice_count: request.choice_count,
        logprobs: request.logprobs.map(|_| true),
        top_logprobs: request.logprobs,
        metadata: request.metadata.clone(),
        provider_options: request.provider_options.clone(),
        user: request.user.clone(),
        logit_bias: request.logit_bias.clone(),
        ..ChatRequest::default()
    })
}

/// A conversation for a model that only completes: one prompt.
pub(super) fn of_chat(request: &ChatRequest, rules: Rules<'_>) -> Result<CompleteRequest> {
    let lacking = [
        ("tools", !request.tools.is_empty()),
        ("tool_choice", request.tool_choice.is_some()),
        ("parallel_tool_calls", request.parallel_tool_calls.is_some()),
        ("response_format", request.response_format.is_some()),
        ("reasoning", request.reasoning.is_some()),
    ];
    for (field, _) in lacking.into_iter().filter(|(_, is_set)| *is_set) {
        rules.lack(field)?;
    }
    if request.prompt_variables.as_ref().is_some_and(|variables| !variables.fields.is_empty()) {
        return Err(Error::invalid("prompt_variables", "the endpoint has no prompt template; leave them out"));
    }
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
    let all = At::Root.key("messages");
    let mut lines = String::new();
    for (n, message) in messages.iter().enumerate() {
        let at = all.index(n);
        let role = role_word(message, at)?;
        let text = text_of(message, rules, at)?;
        if messages.len() == 1 && role == "user" {
            return Ok(text);
        }
        lines.push_str(role);
        lines.push_str(": ");
        lines.push_str(&text);
        lines.push('\n');
    }
    if lines.is_empty() {
        return Err(Error::invalid("messages", "must hold at least one message"));
    }
    lines.push_str("assistant:");
    Ok(lines)
}

fn text_of(message: &Message, rules: Rules<'_>, at: At<'_>) -> Result<String> {
    let parts = at.key("parts");
    let mut text = message.text.clone();
    for (n, part) in message.parts.iter().enumerate() {
        match &part.kind {
            Some(Kind::Text(TextPart { text: piece, .. })) => text.push_str(piece),
            _ => rules.lack(parts.index(n))?,
        }
    }
    Ok(text)
}
