//! What is asked of a protocol that only chats or embeds, whatever was asked of the gateway.

use std::borrow::Cow;

use flowgate_proto::v1::{ChatRequest, CompleteRequest, EmbedRequest, ErrorReason, Message, Part, Role, TextPart, part::Kind};

use super::{Ask, params::Rules};
use crate::{
    error::{Error, Result},
    event::Request,
};

/// The error of a task that the protocol does not have.
pub(super) fn wrong_task() -> Error {
    Error::new(ErrorReason::CallerWrongTask, "the endpoint serves another task; call the method of its own task")
}

/// The conversation that is asked for: as it is, or made of a prompt.
///
/// # Errors
/// What a conversation cannot express of a prompt, by field.
pub(super) fn chat<'a>(ask: &Ask<'a>, rules: Rules<'_>) -> Result<Cow<'a, ChatRequest>> {
    match ask.payload.typed()? {
        Request::Chat(request) => Ok(Cow::Borrowed(request)),
        Request::Complete(request) => as_chat(request, rules).map(Cow::Owned),
        Request::Embed(_) | Request::Predict(_) => Err(wrong_task()),
    }
}

/// The texts that are asked for as vectors. No protocol but OpenAI's takes tokens.
///
/// # Errors
/// What the protocol cannot express, by field.
pub(super) fn embed<'a>(ask: &Ask<'a>) -> Result<&'a EmbedRequest> {
    match ask.payload.typed()? {
        Request::Embed(request) if !request.token_inputs.is_empty() => {
            Err(Error::invalid("token_inputs", "only texts can be embedded by this provider; send `inputs`"))
        }
        Request::Embed(request) if request.inputs.is_empty() => Err(Error::invalid("inputs", "must hold at least one text")),
        Request::Embed(request) => Ok(request),
        Request::Chat(_) | Request::Complete(_) | Request::Predict(_) => Err(wrong_task()),
    }
}

/// Refuses what a protocol of one answer a call has no place for: several answers, callers' users, labels, biases.
///
/// # Errors
/// When one of them is set, by field.
pub(super) fn plain(request: &ChatRequest, rules: Rules<'_>) -> Result<()> {
    // A prompt's labels are for usage records only.
    let is_chat = matches!(rules.ask.payload.typed()?, Request::Chat(_));
    rules.lack_all([
        ("choice_count", request.choice_count.is_some_and(|count| count != 1)),
        ("metadata", is_chat && !request.metadata.is_empty()),
        ("user", !request.user.is_empty()),
        ("logit_bias", !request.logit_bias.is_empty()),
    ])
}

/// Refuses what a protocol of plain texts has no place for: tools, forms of the answer, reasoning.
///
/// # Errors
/// When one of them is set, by field.
pub(super) fn texts_only(request: &ChatRequest, rules: Rules<'_>) -> Result<()> {
    rules.lack_all([
        ("tools", !request.tools.is_empty()),
        ("tool_choice", request.tool_choice.is_some()),
        ("parallel_tool_calls", request.parallel_tool_calls.is_some()),
        ("response_format", request.response_format.is_some()),
        ("reasoning", request.reasoning.is_some()),
    ])
}

/// Refuses variables where the endpoint has no template.
///
/// # Errors
/// When there are any.
pub(super) fn without_template(request: &ChatRequest) -> Result<()> {
    if request.prompt_variables.as_ref().is_some_and(|variables| !variables.fields.is_empty()) {
        return Err(Error::invalid("prompt_variables", "the endpoint has no prompt template; leave them out"));
    }
    Ok(())
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
    let parts = vec![text_part(text)];
    Ok(ChatRequest {
        endpoint: request.endpoint.clone(),
        messages: vec![Message { role: Role::User.into(), parts, ..Message::default() }],
        logprobs: request.logprobs.map(|_| true),
        top_logprobs: request.logprobs,
        metadata: request.metadata.clone(),
        provider_options: request.provider_options.clone(),
        logit_bias: request.logit_bias.clone(),
        ..wordless(request)
    })
}

/// The parameters of a prompt as those of a conversation, in which nothing is said yet.
pub(super) fn wordless(request: &CompleteRequest) -> ChatRequest {
    ChatRequest {
        max_tokens: request.max_tokens,
        temperature: request.temperature,
        top_p: request.top_p,
        top_k: request.top_k,
        seed: request.seed,
        frequency_penalty: request.frequency_penalty,
        presence_penalty: request.presence_penalty,
        stop: request.stop.clone(),
        choice_count: request.choice_count,
        user: request.user.clone(),
        ..ChatRequest::default()
    }
}

/// A part of plain text.
pub(super) fn text_part(text: String) -> Part {
    Part { kind: Some(Kind::Text(TextPart { text, citations: Vec::new() })), cache_hint: None }
}
