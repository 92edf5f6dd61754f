//! Puts the pieces of a streamed answer together; the result is the answer that the unary call would have given.

use std::collections::BTreeMap;

use flowgate_proto::v1::{
    ChatDelta, ChatResponse, Choice, ChoiceEnd, CompleteResponse, CompletionChoice, CompletionDelta, Logprobs, Message, Part,
    ReasoningPart, RefusalPart, Role, StreamChatResponse, StreamCompleteResponse, StreamStart, TextPart, ToolCallPart, Usage,
    chat_delta::Delta, part::Kind, stream_chat_response, stream_complete_response,
};

use crate::error::Error;

/// Collects a streamed conversation. [`ChatStream::collect`](crate::ChatStream::collect) does so in one call.
#[derive(Clone, Debug, Default)]
pub struct ChatCollector {
    answer: ChatResponse,
    /// By index, and parts too: an index from outside must not decide how much is allocated.
    choices: BTreeMap<u32, ChatChoice>,
}

#[derive(Clone, Debug, Default)]
struct ChatChoice {
    choice: Choice,
    parts: BTreeMap<u32, Part>,
}

/// Collects a streamed completion. [`CompleteStream::collect`](crate::CompleteStream::collect) does so in one call.
#[derive(Clone, Debug, Default)]
pub struct CompleteCollector {
    answer: CompleteResponse,
    choices: BTreeMap<u32, CompletionChoice>,
}

/// The part of this kind, made when the part is still empty.
macro_rules! part_of {
    ($part:expr, $kind:ident, $type:ident) => {
        match $part.kind.get_or_insert_with(|| Kind::$kind($type::default())) {
            Kind::$kind(part) => part,
            _ => return Err(Error::broken("a piece does not fit the part that it names")),
        }
    };
}

impl ChatCollector {
    /// Adds one event.
    ///
    /// # Errors
    /// When it does not fit what came before.
    pub fn push(&mut self, event: StreamChatResponse) -> Result<(), Error> {
        use stream_chat_response::Event;
        match event.event {
            Some(Event::Start(start)) => self.start(start),
            Some(Event::Delta(delta)) => self.delta(delta)?,
            Some(Event::ChoiceEnd(end)) => self.choice_end(end),
            Some(Event::Usage(usage)) => self.usage(usage),
            Some(Event::End(end)) => self.answer.call = end.call,
            None => {}
        }
        Ok(())
    }

    /// Adds the head.
    pub fn start(&mut self, start: StreamStart) {
        let answer = &mut self.answer;
        (answer.id, answer.model) = (start.id, start.model);
        (answer.created, answer.provider_fields) = (start.created, start.provider_fields);
    }

    /// Adds a piece.
    ///
    /// # Errors
    /// When it does not fit the part that it names.
    pub fn delta(&mut self, delta: ChatDelta) -> Result<(), Error> {
        let choice = self.choices.entry(delta.choice).or_default();
        if let Some(logprobs) = delta.logprobs {
            join(&mut choice.choice.logprobs, logprobs);
        }
        match delta.delta {
            Some(piece) => add(choice.parts.entry(delta.part).or_default(), piece),
            None => Ok(()),
        }
    }

    /// Adds the end of a choice.
    pub fn choice_end(&mut self, end: ChoiceEnd) {
        let choice = &mut self.choices.entry(end.choice).or_default().choice;
        (choice.finish_reason, choice.raw_finish_reason) = (end.finish_reason, end.raw_finish_reason);
        choice.stop_sequence = end.stop_sequence;
    }

    /// Takes over what has been consumed so far.
    pub fn usage(&mut self, usage: Usage) {
        self.answer.usage = Some(usage);
    }

    /// The answer.
    pub fn finish(mut self) -> ChatResponse {
        self.answer.choices = self
            .choices
            .into_iter()
            .map(|(index, collected)| {
                let parts = collected.parts.into_values().collect();
                let message = Message { role: Role::Assistant.into(), parts, ..Default::default() };
                Choice { index, message: Some(message), ..collected.choice }
            })
            .collect();
        self.answer
    }
}

impl CompleteCollector {
    /// Adds one event.
    pub fn push(&mut self, event: StreamCompleteResponse) {
        use stream_complete_response::Event;
        match event.event {
            Some(Event::Start(start)) => self.start(start),
            Some(Event::Delta(delta)) => self.delta(delta),
            Some(Event::ChoiceEnd(end)) => self.choice_end(end),
            Some(Event::Usage(usage)) => self.usage(usage),
            Some(Event::End(end)) => self.answer.call = end.call,
            None => {}
        }
    }

    /// Adds the head.
    pub fn start(&mut self, start: StreamStart) {
        let answer = &mut self.answer;
        (answer.id, answer.model) = (start.id, start.model);
        (answer.created, answer.provider_fields) = (start.created, start.provider_fields);
    }

    /// Adds a piece.
    pub fn delta(&mut self, delta: CompletionDelta) {
        let choice = self.choices.entry(delta.choice).or_default();
        choice.text.push_str(&delta.text);
        if let Some(logprobs) = delta.logprobs {
            join(&mut choice.logprobs, logprobs);
        }
    }

    /// Adds the end of a choice.
    pub fn choice_end(&mut self, end: ChoiceEnd) {
        let choice = self.choices.entry(end.choice).or_default();
        (choice.finish_reason, choice.raw_finish_reason) = (end.finish_reason, end.raw_finish_reason);
        choice.stop_sequence = end.stop_sequence;
    }

    /// Takes over what has been consumed so far.
    pub fn usage(&mut self, usage: Usage) {
        self.answer.usage = Some(usage);
    }

    /// The answer.
    pub fn finish(mut self) -> CompleteResponse {
        self.answer.choices = self.choices.into_iter().map(|(index, choice)| CompletionChoice { index, ..choice }).collect();
        self.answer
    }
}

fn add(part: &mut Part, piece: Delta) -> Result<(), Error> {
    match piece {
        Delta::Text(text) => part_of!(part, Text, TextPart).text.push_str(&text),
        Delta::Citation(citation) => part_of!(part, Text, TextPart).citations.push(citation),
        Delta::ToolCall(head) => {
            let call = part_of!(part, ToolCall, ToolCallPart);
            (call.id, call.name, call.signature) = (head.id, head.name, head.signature);
            call.arguments.push_str(&head.arguments);
        }
        Delta::Arguments(text) => part_of!(part, ToolCall, ToolCallPart).arguments.push_str(&text),
        Delta::Reasoning(text) => part_of!(part, Reasoning, ReasoningPart).text.push_str(&text),
        Delta::Signature(signature) => part_of!(part, Reasoning, ReasoningPart).signature.push_str(&signature),
        Delta::Redacted(bytes) => part_of!(part, Reasoning, ReasoningPart).redacted = bytes,
        Delta::Refusal(text) => part_of!(part, Refusal, RefusalPart).text.push_str(&text),
        Delta::Media(media) => part.kind = Some(Kind::Media(media)),
        Delta::Raw(raw) => part.kind = Some(Kind::Raw(raw)),
    }
    Ok(())
}

fn join(all: &mut Option<Logprobs>, more: Logprobs) {
    let all = all.get_or_insert_default();
    all.content.extend(more.content);
    all.refusal.extend(more.refusal);
}

#[cfg(test)]
mod tests {
    use flowgate_proto::v1::{CallSummary, FinishReason, StreamChatEnd, TokenLogprob};

    use super::*;

    fn delta(choice: u32, part: u32, piece: Delta) -> ChatDelta {
        ChatDelta { choice, part, delta: Some(piece), logprobs: None }
    }

    fn token(token: &str) -> Option<Logprobs> {
        Some(Logprobs { content: vec![TokenLogprob { token: token.to_owned(), ..Default::default() }], refusal: vec![] })
    }

    #[test]
    fn pieces_of_parts_and_choices_are_joined_in_order() {
        let mut answer = ChatCollector::default();
        answer.start(StreamStart { id: "a-1".to_owned(), model: "m".to_owned(), created: 7, provider_fields: None });
        let head = ToolCallPart { id: "c".to_owned(), name: "look".to_owned(), ..Default::default() };
        for piece in [
            delta(1, 0, Delta::Text("other".to_owned())),
            delta(0, 2, Delta::ToolCall(head)),
            delta(0, 0, Delta::Reasoning("hm".to_owned())),
            delta(0, 0, Delta::Signature("s".to_owned())),
            delta(0, 1, Delta::Text("Hel".to_owned())),
            delta(0, 2, Delta::Arguments("{\"a\":".to_owned())),
            ChatDelta { logprobs: token("lo"), ..delta(0, 1, Delta::Text("lo".to_owned())) },
            ChatDelta { logprobs: token("!"), ..ChatDelta::default() },
            delta(0, 2, Delta::Arguments("1}".to_owned())),
        ] {
            answer.delta(piece).unwrap();
        }
        answer.choice_end(ChoiceEnd {
            finish_reason: FinishReason::ToolCalls.into(),
            raw_finish_reason: "tool".to_owned(),
            ..ChoiceEnd::default()
        });
        answer.usage(Usage { input_tokens: Some(1), ..Default::default() });
        answer.usage(Usage { input_tokens: Some(2), ..Default::default() });
        let call = CallSummary { endpoint: "chat".to_owned(), ..Default::default() };
        let end = stream_chat_response::Event::End(StreamChatEnd { call: Some(call) });
        answer.push(StreamChatResponse { sequence: 12, event: Some(end) }).unwrap();

        let answer = answer.finish();
        assert_eq!((answer.id.as_str(), answer.created, answer.usage.unwrap().input_tokens), ("a-1", 7, Some(2)));
        assert_eq!(answer.call.unwrap().endpoint, "chat");
        let [first, second] = answer.choices.as_slice() else { panic!("two choices") };
        assert_eq!((first.index, second.index, first.finish_reason()), (0, 1, FinishReason::ToolCalls));
        assert_eq!(first.logprobs.as_ref().unwrap().content.len(), 2);
        let message = first.message.as_ref().unwrap();
        assert_eq!(message.role(), Role::Assistant);
        let kinds: Vec<_> = message.parts.iter().map(|part| part.kind.clone().unwrap()).collect();
        let [Kind::Reasoning(reasoning), Kind::Text(text), Kind::ToolCall(call)] = kinds.as_slice() else { panic!("{kinds:?}") };
        assert_eq!((reasoning.text.as_str(), reasoning.signature.as_str(), text.text.as_str()), ("hm", "s", "Hello"));
        assert_eq!((call.name.as_str(), call.arguments.as_str()), ("look", "{\"a\":1}"));
    }

    #[test]
    fn a_piece_that_does_not_fit_its_part_is_an_error() {
        let mut answer = ChatCollector::default();
        answer.delta(delta(0, 0, Delta::Text("a".to_owned()))).unwrap();
        assert!(answer.delta(delta(0, 0, Delta::Arguments("{".to_owned()))).is_err());
    }

    #[test]
    fn indices_from_outside_allocate_nothing() {
        let mut answer = ChatCollector::default();
        answer.delta(delta(u32::MAX, u32::MAX, Delta::Text("far".to_owned()))).unwrap();
        assert_eq!(answer.finish().choices[0].index, u32::MAX);
    }
}
