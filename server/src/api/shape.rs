//! Replies in the shape that was asked for, whatever the deployment sent, so that no door needs to know the difference.

use flowgate_proto::v1::{
    ChatDelta, ChatResponse, Choice, ChoiceEnd, CompleteResponse, CompletionChoice, Logprobs, Part, StreamStart, ToolCallPart, Usage,
    chat_delta::Delta, part::Kind,
};
use futures_util::{StreamExt as _, stream};

use crate::{
    dialect::openai,
    error::Result,
    event::{Answer, Event, Reply, Task},
};

/// A reply for a caller who asked for `asked`: of chat and completion, each answers in the other's shape. A whole answer to a
/// streamed call becomes a stream that says the same.
#[must_use]
pub fn fit(reply: Reply, asked: Task, streaming: bool) -> Reply {
    if streaming {
        if !reply.is_unary() {
            return reply;
        }
        return reply.wrap(|reply| reply.flat_map(move |event| stream::iter(spread(event, asked))));
    }
    reply.tap(move |event| {
        let Ok(Event::Answer(answer)) = event else { return };
        match answer {
            Answer::Chat(chat) if asked == Task::Complete => *answer = Answer::Complete(openai::chat_to_complete(std::mem::take(chat))),
            Answer::Complete(text) if asked == Task::Chat => *answer = Answer::Chat(openai::complete_to_chat(std::mem::take(text))),
            _ => {}
        }
    })
}

fn spread(event: Result<Event>, asked: Task) -> Vec<Result<Event>> {
    match event {
        Ok(Event::Answer(answer)) => match events(answer, asked) {
            Ok(events) => events.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        },
        other => vec![other],
    }
}

/// The events of a stream that says what a whole answer says; one of the byte lane is in the protocol that was asked in.
fn events(answer: Answer, asked: Task) -> Result<Vec<Event>> {
    Ok(match answer {
        Answer::Chat(answer) => chat(answer),
        Answer::Complete(answer) => complete(answer),
        Answer::Wire(answer) => return events(openai::decode_answer(asked, &answer.body)?, asked),
        answer @ (Answer::Embed(_) | Answer::Predict(_)) => vec![Event::Answer(answer)],
    })
}

fn chat(answer: ChatResponse) -> Vec<Event> {
    let ChatResponse { id, model, choices, usage, call: _, created, provider_fields } = answer;
    let mut events = vec![Event::Start(StreamStart { id, model, created, provider_fields })];
    for Choice { index, message, finish_reason, raw_finish_reason, logprobs, stop_sequence } in choices {
        let parts = message.unwrap_or_default().parts.into_iter().zip(0..);
        let deltas = parts.flat_map(|(part, place)| deltas(part).into_iter().map(move |delta| (place, delta)));
        add_choice(&mut events, index, deltas, logprobs);
        events.push(Event::ChoiceEnd(ChoiceEnd { choice: index, finish_reason, raw_finish_reason, stop_sequence }));
    }
    ended(events, usage)
}

fn complete(answer: CompleteResponse) -> Vec<Event> {
    let CompleteResponse { id, model, choices, usage, call: _, created, provider_fields } = answer;
    let mut events = vec![Event::Start(StreamStart { id, model, created, provider_fields })];
    for CompletionChoice { index, text, finish_reason, raw_finish_reason, logprobs, stop_sequence } in choices {
        add_choice(&mut events, index, [(0, Delta::Text(text))], logprobs);
        events.push(Event::ChoiceEnd(ChoiceEnd { choice: index, finish_reason, raw_finish_reason, stop_sequence }));
    }
    ended(events, usage)
}

/// The deltas of a choice; log probabilities go with the first text, or alone.
fn add_choice(events: &mut Vec<Event>, choice: u32, deltas: impl IntoIterator<Item = (u32, Delta)>, mut logprobs: Option<Logprobs>) {
    for (part, delta) in deltas {
        let of_text = matches!(delta, Delta::Text(_) | Delta::Refusal(_));
        let logprobs = if of_text { logprobs.take() } else { None };
        events.push(Event::Delta(ChatDelta { choice, part, delta: Some(delta), logprobs }));
    }
    if logprobs.is_some() {
        events.push(Event::Delta(ChatDelta { choice, part: 0, delta: None, logprobs }));
    }
}

fn ended(mut events: Vec<Event>, usage: Option<Usage>) -> Vec<Event> {
    events.extend(usage.map(Event::Usage));
    events.push(Event::End);
    events
}

/// The pieces of one part; none for what is empty.
fn deltas(part: Part) -> Vec<Delta> {
    let text = |text: String, delta: fn(String) -> Delta| Some(text).filter(|text| !text.is_empty()).map(delta);
    match part.kind {
        Some(Kind::Text(part)) => text(part.text, Delta::Text).into_iter().chain(part.citations.into_iter().map(Delta::Citation)).collect(),
        Some(Kind::ToolCall(ToolCallPart { id, name, arguments, signature })) => {
            let head = Delta::ToolCall(ToolCallPart { id, name, arguments: String::new(), signature });
            std::iter::once(head).chain(text(arguments, Delta::Arguments)).collect()
        }
        Some(Kind::Reasoning(part)) => {
            let redacted = Some(part.redacted).filter(|bytes| !bytes.is_empty()).map(Delta::Redacted);
            text(part.text, Delta::Reasoning).into_iter().chain(text(part.signature, Delta::Signature)).chain(redacted).collect()
        }
        Some(Kind::Refusal(part)) => text(part.text, Delta::Refusal).into_iter().collect(),
        Some(Kind::Media(media)) => vec![Delta::Media(media)],
        Some(Kind::Raw(raw)) => vec![Delta::Raw(raw)],
        // No model answers with the result of a tool.
        Some(Kind::ToolResult(_)) | None => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
