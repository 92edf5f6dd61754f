//! Whole answers of OpenAI's protocol as answers of the contract.

use flowgate_proto::v1::{ChatResponse, Choice, CompleteResponse, CompletionChoice, FinishReason, Message, Part, Role, part::Kind};
use pbjson_types::Struct;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    logprobs,
    parts::{MessageIn, Side, parts_of},
    usage,
};
use crate::dialect::asked::text_part;
use crate::dialect::errors::{Errors, bad_answer, is_bare_error};
use crate::dialect::json::{At, Count, Rest, Str, kept, named, object, place};
use crate::error::Result;

object! {
    /// An answer to chat or completions.
    AnswerIn {
        id: Str<'a> = "id",
        created: Count = "created",
        model: Str<'a> = "model",
        choices: Vec<ChoiceIn<'a>> = "choices",
        usage: Option<&'a RawValue> = "usage",
        error: Option<&'a RawValue> = "error",
    }
}

/// A choice of an answer, or of a chunk. Further fields of it are for the byte lane only.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ChoiceIn<'a> {
    pub(super) index: Count,
    #[serde(borrow)]
    pub(super) message: Option<MessageIn<'a>>,
    #[serde(borrow)]
    pub(super) delta: Option<MessageIn<'a>>,
    #[serde(borrow)]
    pub(super) text: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) finish_reason: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) logprobs: Option<&'a RawValue>,
}

impl ChoiceIn<'_> {
    /// The provider's word for why the choice ended; empty when it has not, or the provider does not say.
    pub(super) fn finish_word(&self) -> &str {
        self.finish_reason.as_deref().unwrap_or_default()
    }
}

/// A chat answer.
pub(super) fn decode_chat(body: &[u8], errors: Errors) -> Result<ChatResponse> {
    let mut answer = read_answer(body, errors)?;
    let choices = std::mem::take(&mut answer.choices).into_iter().enumerate().map(chat_choice).collect::<Result<_>>()?;
    let (id, model) = (answer.id.into(), answer.model.into());
    let (usage, created) = (
        usage::with_tier(usage::read(answer.usage, errors.quirks()), named(&answer.rest, "service_tier")),
        answer.created.0.unwrap_or_default(),
    );
    Ok(ChatResponse { id, model, choices, usage, call: None, created, provider_fields: further(&answer.rest) })
}

/// An answer of completions.
pub(super) fn decode_complete(body: &[u8], errors: Errors) -> Result<CompleteResponse> {
    let mut answer = read_answer(body, errors)?;
    let choices = std::mem::take(&mut answer.choices).into_iter().enumerate().map(completion_choice).collect::<Result<_>>()?;
    let (id, model) = (answer.id.into(), answer.model.into());
    let (usage, created) = (
        usage::with_tier(usage::read(answer.usage, errors.quirks()), named(&answer.rest, "service_tier")),
        answer.created.0.unwrap_or_default(),
    );
    Ok(CompleteResponse { id, model, choices, usage, call: None, created, provider_fields: further(&answer.rest) })
}

fn read_answer(body: &[u8], errors: Errors) -> Result<AnswerIn<'_>> {
    let answer: AnswerIn<'_> = serde_json::from_slice(body).map_err(|error| bad_answer(format!("the answer at {}", place(&error))))?;
    errors.pass(answer.error, body)?;
    if answer.choices.is_empty() {
        return Err(if is_bare_error(&answer.rest) { errors.of_frame(body) } else { bad_answer("the answer has no choices") });
    }
    Ok(answer)
}

fn chat_choice((n, choice): (usize, ChoiceIn<'_>)) -> Result<Choice> {
    let word = choice.finish_word().to_owned();
    let parts = match (choice.message, choice.text) {
        (Some(message), _) => parts_of(message, Side::Answer, At::Root)?,
        (None, Some(text)) => Some(text.into()).filter(|text: &String| !text.is_empty()).map(text_part).into_iter().collect(),
        (None, None) => return Err(bad_answer("a choice has no message")),
    };
    Ok(Choice {
        index: index(choice.index, n),
        message: Some(Message { role: Role::Assistant.into(), parts, ..Message::default() }),
        finish_reason: finish_reason(&word).into(),
        raw_finish_reason: word,
        logprobs: choice.logprobs.and_then(logprobs::read),
        stop_sequence: String::new(),
    })
}

fn completion_choice((n, choice): (usize, ChoiceIn<'_>)) -> Result<CompletionChoice> {
    let word = choice.finish_word().to_owned();
    let text = match (choice.text, choice.message) {
        (Some(text), _) => text.into(),
        (None, Some(message)) => text_of(&parts_of(message, Side::Answer, At::Root)?),
        (None, None) => return Err(bad_answer("a choice has no text")),
    };
    Ok(CompletionChoice {
        index: index(choice.index, n),
        text,
        finish_reason: finish_reason(&word).into(),
        raw_finish_reason: word,
        logprobs: choice.logprobs.and_then(logprobs::read),
        stop_sequence: String::new(),
    })
}

/// Fields of the provider's own. `object` is the protocol's, and `obfuscation` is padding.
pub(in crate::dialect) fn further(rest: &Rest<'_>) -> Option<Struct> {
    let mut fields = kept(rest)?;
    fields.fields.retain(|name, _| name != "object" && name != "obfuscation");
    (!fields.fields.is_empty()).then_some(fields)
}

/// A choice's place: as told, else as found.
pub(super) fn index(told: Count, found: usize) -> u32 {
    told.0.or_else(|| u32::try_from(found).ok()).unwrap_or_default()
}

/// Why an answer ended.
pub(in crate::dialect) fn finish_reason(word: &str) -> FinishReason {
    match word {
        "stop" | "eos" | "end_turn" => FinishReason::Stop,
        "stop_sequence" => FinishReason::StopSequence,
        "length" | "max_tokens" | "model_length" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        "error" | "insufficient_system_resource" => FinishReason::Error,
        _ => FinishReason::Unspecified,
    }
}

/// What a person would read of a message: its text, and a refusal.
fn text_of(parts: &[Part]) -> String {
    let text = |part: &'_ Part| match &part.kind {
        Some(Kind::Text(text)) => text.text.clone(),
        Some(Kind::Refusal(refusal)) => refusal.text.clone(),
        _ => String::new(),
    };
    parts.iter().map(text).collect()
}

/// A chat answer as a completion, for callers who asked a chat model to complete.
pub fn chat_to_complete(answer: ChatResponse) -> CompleteResponse {
    let ChatResponse { id, model, choices, usage, call, created, provider_fields } = answer;
    let lower = |choice: Choice| CompletionChoice {
        index: choice.index,
        text: choice.message.map(|message| message.text + &text_of(&message.parts)).unwrap_or_default(),
        finish_reason: choice.finish_reason,
        raw_finish_reason: choice.raw_finish_reason,
        logprobs: choice.logprobs,
        stop_sequence: choice.stop_sequence,
    };
    CompleteResponse { id, model, choices: choices.into_iter().map(lower).collect(), usage, call, created, provider_fields }
}

/// A completion as a chat answer, for callers who asked a completion model to chat.
pub fn complete_to_chat(answer: CompleteResponse) -> ChatResponse {
    let CompleteResponse { id, model, choices, usage, call, created, provider_fields } = answer;
    let lift = |choice: CompletionChoice| Choice {
        index: choice.index,
        message: Some(Message {
            role: Role::Assistant.into(),
            parts: Some(choice.text).filter(|text| !text.is_empty()).map(text_part).into_iter().collect(),
            ..Message::default()
        }),
        finish_reason: choice.finish_reason,
        raw_finish_reason: choice.raw_finish_reason,
        logprobs: choice.logprobs,
        stop_sequence: choice.stop_sequence,
    };
    ChatResponse { id, model, choices: choices.into_iter().map(lift).collect(), usage, call, created, provider_fields }
}
