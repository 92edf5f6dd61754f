//! One answer as another: a chat as a completion and back, a whole answer as the events that it would have been.

use flowgate_proto::v1::{
    ChatDelta, ChatResponse, Choice, ChoiceEnd, CompleteResponse, CompletionChoice, EmbedResponse, Logprobs, Message, Part,
    PredictResponse, Role, StreamStart, TextPart, ToolCallPart, chat_delta::Delta, part::Kind,
};

use crate::{
    error::{Error, Result},
    event::{Answer, Event},
};

/// An answer to a conversation, be it from a chat or a completion model.
pub(super) fn to_chat(answer: Answer) -> Result<ChatResponse> {
    match answer {
        Answer::Chat(answer) => Ok(answer),
        Answer::Complete(answer) => Ok(lift(answer)),
        Answer::Embed(_) | Answer::Predict(_) | Answer::Wire(_) => Err(mismatch()),
    }
}

/// A completion, be it from a completion or a chat model.
pub(super) fn to_complete(answer: Answer) -> Result<CompleteResponse> {
    match answer {
        Answer::Complete(answer) => Ok(answer),
        Answer::Chat(answer) => Ok(lower(answer)),
        Answer::Embed(_) | Answer::Predict(_) | Answer::Wire(_) => Err(mismatch()),
    }
}

/// Vectors.
pub(super) fn to_embed(answer: Answer) -> Result<EmbedResponse> {
    match answer {
        Answer::Embed(answer) => Ok(answer),
        Answer::Chat(_) | Answer::Complete(_) | Answer::Predict(_) | Answer::Wire(_) => Err(mismatch()),
    }
}

/// Predictions.
pub(super) fn to_predict(answer: Answer) -> Result<PredictResponse> {
    match answer {
        Answer::Predict(answer) => Ok(answer),
        Answer::Chat(_) | Answer::Complete(_) | Answer::Embed(_) | Answer::Wire(_) => Err(mismatch()),
    }
}

/// The events of an answer that came whole although it was asked for piece by piece.
pub(super) fn spread(answer: Answer) -> Result<Vec<Event>> {
    let ChatResponse { id, model, choices, usage, created, provider_fields, call: _ } = to_chat(answer)?;
    let mut events = vec![Event::Start(StreamStart { id, model, created, provider_fields })];
    for choice in choices {
        let Choice { index, message, finish_reason, raw_finish_reason, logprobs } = choice;
        let mut deltas = Vec::new();
        for (part, kind) in message.into_iter().flat_map(|message| message.parts).filter_map(|part| part.kind).enumerate() {
            let part = u32::try_from(part).unwrap_or(u32::MAX);
            deltas.extend(pieces(kind).into_iter().map(|delta| (part, delta)));
        }
        events.extend(with_logprobs(index, deltas, logprobs));
        events.push(Event::ChoiceEnd(ChoiceEnd { choice: index, finish_reason, raw_finish_reason }));
    }
    events.extend(usage.map(Event::Usage));
    events.push(Event::End);
    Ok(events)
}

/// The deltas of a choice; its log probabilities ride on the first piece of text.
fn with_logprobs(choice: u32, deltas: Vec<(u32, Delta)>, mut logprobs: Option<Logprobs>) -> Vec<Event> {
    let mut events = Vec::with_capacity(deltas.len() + 1);
    for (part, delta) in deltas {
        let is_text = matches!(delta, Delta::Text(_) | Delta::Refusal(_));
        let logprobs = if is_text { logprobs.take() } else { None };
        events.push(Event::Delta(ChatDelta { choice, part, delta: Some(delta), logprobs }));
    }
    if logprobs.is_some() {
        events.push(Event::Delta(ChatDelta { choice, part: 0, delta: None, logprobs }));
    }
    events
}

/// The pieces that, joined, are a part.
fn pieces(kind: Kind) -> Vec<Delta> {
    let text = |text: String, delta: fn(String) -> Delta| Some(text).filter(|text| !text.is_empty()).map(delta);
    match kind {
        Kind::Text(part) => text(part.text, Delta::Text).into_iter().chain(part.citations.into_iter().map(Delta::Citation)).collect(),
        Kind::Media(media) => vec![Delta::Media(media)],
        Kind::ToolCall(ToolCallPart { id, name, arguments, signature }) => {
            let head = Delta::ToolCall(ToolCallPart { id, name, arguments: String::new(), signature });
            std::iter::once(head).chain(text(arguments, Delta::Arguments)).collect()
        }
        Kind::Reasoning(part) => {
            let redacted = Some(part.redacted).filter(|bytes| !bytes.is_empty()).map(Delta::Redacted);
            text(part.text, Delta::Reasoning).into_iter().chain(text(part.signature, Delta::Signature)).chain(redacted).collect()
        }
        Kind::Refusal(part) => vec![Delta::Refusal(part.text)],
        Kind::Raw(part) => vec![Delta::Raw(part)],
        // A model does not answer with the results of tools.
        Kind::ToolResult(_) => Vec::new(),
    }
}

fn lower(answer: ChatResponse) -> CompleteResponse {
    let ChatResponse { id, model, choices, usage, call, created, provider_fields } = answer;
    let choices = choices.into_iter().map(|choice| CompletionChoice {
        index: choice.index,
        text: choice.message.map(|message| readable(&message.parts)).unwrap_or_default(),
        finish_reason: choice.finish_reason,
        raw_finish_reason: choice.raw_finish_reason,
        logprobs: choice.logprobs,
    });
    CompleteResponse { id, model, choices: choices.collect(), usage, call, created, provider_fields }
}

fn lift(answer: CompleteResponse) -> ChatResponse {
    let CompleteResponse { id, model, choices, usage, call, created, provider_fields } = answer;
    let choices = choices.into_iter().map(|choice| Choice {
        index: choice.index,
        message: Some(Message {
            role: Role::Assistant.into(),
            // As in a stream, which has no piece for nothing.
            parts: Some(choice.text).filter(|text| !text.is_empty()).map(text_part).into_iter().collect(),
            ..Message::default()
        }),
        finish_reason: choice.finish_reason,
        raw_finish_reason: choice.raw_finish_reason,
        logprobs: choice.logprobs,
    });
    ChatResponse { id, model, choices: choices.collect(), usage, call, created, provider_fields }
}

/// A part of plain text.
pub(super) fn text_part(text: String) -> Part {
    Part { kind: Some(Kind::Text(TextPart { text, citations: Vec::new() })), cache_hint: None }
}

/// What a person would read of a message: its text, and a refusal.
fn readable(parts: &[Part]) -> String {
    let text = |part: &Part| match &part.kind {
        Some(Kind::Text(part)) => part.text.clone(),
        Some(Kind::Refusal(part)) => part.text.clone(),
        _ => String::new(),
    };
    parts.iter().map(text).collect()
}

fn mismatch() -> Error {
    Error::internal("a call got an answer to another task")
}

#[cfg(test)]
mod tests {
    use flowgate_proto::v1::{ReasoningPart, Usage};

    use super::*;

    #[test]
    fn a_whole_answer_is_spread_part_by_part() {
        let part = |kind| Part { kind: Some(kind), cache_hint: None };
        let call = |arguments: &str| ToolCallPart {
            id: "t1".to_owned(),
            name: "look".to_owned(),
            arguments: arguments.to_owned(),
            signature: "s".to_owned(),
        };
        let reasoning = ReasoningPart { text: "hm".to_owned(), signature: "sig".to_owned(), ..Default::default() };
        let parts = vec![part(Kind::Reasoning(reasoning)), text_part("said".to_owned()), part(Kind::ToolCall(call("{}")))];
        let choice = Choice {
            message: Some(Message { parts, ..Default::default() }),
            logprobs: Some(Logprobs::default()),
            raw_finish_reason: "tool_calls".to_owned(),
            ..Default::default()
        };
        let answer = ChatResponse { model: "m".to_owned(), choices: vec![choice], usage: Some(Usage::default()), ..Default::default() };
        let events = spread(Answer::Chat(answer)).unwrap();
        let deltas: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Delta(delta) => Some((delta.part, delta.delta.clone().unwrap(), delta.logprobs.is_some())),
                _ => None,
            })
            .collect();
        let want = [
            (0, Delta::Reasoning("hm".to_owned()), false),
            (0, Delta::Signature("sig".to_owned()), false),
            (1, Delta::Text("said".to_owned()), true),
            (2, Delta::ToolCall(call("")), false),
            (2, Delta::Arguments("{}".to_owned()), false),
        ];
        assert_eq!(deltas, want);
        assert!(matches!(&events[0], Event::Start(start) if start.model == "m"));
        assert!(
            matches!(events.as_slice(), [.., Event::ChoiceEnd(end), Event::Usage(_), Event::End] if end.raw_finish_reason == "tool_calls")
        );
    }
}
