//! The whole answer that a stream of events makes. Protocols whose whole answers are made of the same pieces read them as a stream too, so
//! that both ways give the same message.

use std::collections::BTreeMap;

use flowgate_proto::v1::{
    ChatDelta, ChatResponse, Choice, Message, Part, ReasoningPart, RefusalPart, Role, StreamStart, TextPart, ToolCallPart,
    chat_delta::Delta, part::Kind,
};

use crate::{
    error::{Error, Result},
    event::Event,
};

/// The whole answer that events of the typed lane make.
///
/// # Errors
/// An internal error when a piece does not fit the part that it names.
pub(super) fn join(events: Vec<Event>) -> Result<ChatResponse> {
    let (mut answer, mut choices) = (ChatResponse::default(), BTreeMap::new());
    for event in events {
        match event {
            Event::Start(StreamStart { id, model, created, provider_fields }) => {
                answer = ChatResponse { id, model, created, provider_fields, ..answer };
            }
            Event::Delta(delta) => add(&mut choices, delta)?,
            Event::ChoiceEnd(end) => {
                let choice = choice(&mut choices, end.choice);
                (choice.finish_reason, choice.raw_finish_reason) = (end.finish_reason, end.raw_finish_reason);
                choice.stop_sequence = end.stop_sequence;
            }
            Event::Usage(usage) => answer.usage = Some(usage),
            Event::Ping | Event::End => {}
            Event::Answer(_) | Event::Wire(_) => return Err(Error::internal("only typed pieces can be joined")),
        }
    }
    answer.choices = choices.into_values().collect();
    Ok(answer)
}

fn choice(choices: &mut BTreeMap<u32, Choice>, index: u32) -> &mut Choice {
    choices.entry(index).or_insert_with(|| {
        let message = Some(Message { role: Role::Assistant.into(), ..Message::default() });
        Choice { index, message, ..Choice::default() }
    })
}

fn add(choices: &mut BTreeMap<u32, Choice>, delta: ChatDelta) -> Result<()> {
    let ChatDelta { choice: index, part, delta, logprobs } = delta;
    let choice = choice(choices, index);
    if let Some(logprobs) = logprobs {
        let all = choice.logprobs.get_or_insert_default();
        all.content.extend(logprobs.content);
        all.refusal.extend(logprobs.refusal);
    }
    let Some(piece) = delta else { return Ok(()) };
    let parts = &mut choice.message.get_or_insert_default().parts;
    let at = usize::try_from(part).unwrap_or(usize::MAX);
    if at == parts.len() {
        parts.push(Part { kind: begun_by(&piece), cache_hint: None });
    }
    let fits = parts.get_mut(at).and_then(|part| part.kind.as_mut()).is_some_and(|kind| extend(kind, piece));
    if fits { Ok(()) } else { Err(Error::internal("a piece of an answer fits no part")) }
}

/// The part that a piece begins, empty.
fn begun_by(piece: &Delta) -> Option<Kind> {
    Some(match piece {
        Delta::Text(_) | Delta::Citation(_) => Kind::Text(TextPart::default()),
        Delta::ToolCall(_) => Kind::ToolCall(ToolCallPart::default()),
        Delta::Reasoning(_) | Delta::Signature(_) | Delta::Redacted(_) => Kind::Reasoning(ReasoningPart::default()),
        Delta::Refusal(_) => Kind::Refusal(RefusalPart::default()),
        Delta::Media(media) => Kind::Media(media.clone()),
        Delta::Raw(raw) => Kind::Raw(raw.clone()),
        Delta::Arguments(_) => return None,
    })
}

/// Adds a piece to the part that it belongs to; false when it is no piece of such a part.
fn extend(kind: &mut Kind, piece: Delta) -> bool {
    match (kind, piece) {
        (Kind::Text(part), Delta::Text(text)) => part.text.push_str(&text),
        (Kind::Text(part), Delta::Citation(citation)) => part.citations.push(citation),
        (Kind::ToolCall(part), Delta::ToolCall(head)) => *part = ToolCallPart { arguments: std::mem::take(&mut part.arguments), ..head },
        (Kind::ToolCall(part), Delta::Arguments(arguments)) => part.arguments.push_str(&arguments),
        (Kind::Reasoning(part), Delta::Reasoning(text)) => part.text.push_str(&text),
        (Kind::Reasoning(part), Delta::Signature(signature)) => part.signature.push_str(&signature),
        (Kind::Reasoning(part), Delta::Redacted(bytes)) => part.redacted = bytes,
        (Kind::Refusal(part), Delta::Refusal(text)) => part.text.push_str(&text),
        (Kind::Media(_), Delta::Media(_)) | (Kind::Raw(_), Delta::Raw(_)) => {}
        _ => return false,
    }
    true
}
