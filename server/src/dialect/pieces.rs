//! The pieces of one choice of a streamed answer: numbers its parts and says which piece belongs to which.

use flowgate_proto::v1::{ChatDelta, ChoiceEnd, Citation, FinishReason, Logprobs, ToolCallPart, chat_delta::Delta};

use crate::event::Event;

/// The parts of one choice so far. Pieces of one kind that follow each other are one part, until [`Pieces::close`].
#[derive(Debug, Default)]
pub(super) struct Pieces {
    choice: u32,
    /// The number of the next part.
    next: u32,
    /// The part that the next piece of its kind goes on with.
    open: Option<(Kind, u32)>,
    is_ended: bool,
}

/// The kinds that come in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Reasoning,
    Refusal,
}

impl Pieces {
    /// A choice with no parts yet.
    pub(super) fn new(choice: u32) -> Self {
        Self { choice, ..Self::default() }
    }

    /// The choice's index.
    pub(super) fn choice(&self) -> u32 {
        self.choice
    }

    /// Whether its end was told.
    pub(super) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// The number of a new part.
    pub(super) fn fresh(&mut self) -> u32 {
        self.open = None;
        let part = self.next;
        self.next += 1;
        part
    }

    /// The number of the newest part; `None` when there is none.
    pub(super) fn newest(&self) -> Option<u32> {
        self.next.checked_sub(1)
    }

    /// The part in a slot, a new one if it is empty; for protocols that say themselves which pieces belong together.
    pub(super) fn slot(&mut self, slot: &mut Option<u32>) -> u32 {
        *slot.get_or_insert_with(|| self.fresh())
    }

    /// A piece of a part that is known.
    pub(super) fn push(&self, part: u32, delta: Delta, events: &mut Vec<Event>) {
        self.push_scored(part, delta, None, events);
    }

    /// As [`Pieces::push`], with the log probabilities of the piece's tokens.
    pub(super) fn push_scored(&self, part: u32, delta: Delta, logprobs: Option<Logprobs>, events: &mut Vec<Event>) {
        events.push(Event::Delta(ChatDelta { choice: self.choice, part, delta: Some(delta), logprobs }));
    }

    /// A piece that begins a part of its own: a tool call's head, media, redacted reasoning, something raw.
    pub(super) fn whole(&mut self, delta: Delta, events: &mut Vec<Event>) -> u32 {
        let part = self.fresh();
        self.push(part, delta, events);
        part
    }

    /// A whole tool call.
    pub(super) fn tool_call(&mut self, call: ToolCallPart, events: &mut Vec<Event>) {
        let ToolCallPart { id, name, arguments, signature } = call;
        let part = self.whole(Delta::ToolCall(ToolCallPart { id, name, arguments: String::new(), signature }), events);
        if !arguments.is_empty() {
            self.push(part, Delta::Arguments(arguments), events);
        }
    }

    /// A piece of text; an empty one says nothing.
    pub(super) fn text(&mut self, text: String, events: &mut Vec<Event>) {
        self.add(Kind::Text, text, Delta::Text, events);
    }

    /// A piece of reasoning; an empty one says nothing.
    pub(super) fn reasoning(&mut self, text: String, events: &mut Vec<Event>) {
        self.add(Kind::Reasoning, text, Delta::Reasoning, events);
    }

    /// A piece of a refusal; an empty one says nothing.
    pub(super) fn refusal(&mut self, text: String, events: &mut Vec<Event>) {
        self.add(Kind::Refusal, text, Delta::Refusal, events);
    }

    /// The signature of the reasoning so far; an empty one says nothing.
    pub(super) fn signature(&mut self, signature: String, events: &mut Vec<Event>) {
        self.add(Kind::Reasoning, signature, Delta::Signature, events);
    }

    /// A source of the text so far.
    pub(super) fn citation(&mut self, citation: Citation, events: &mut Vec<Event>) {
        let part = self.part(Kind::Text);
        self.push(part, Delta::Citation(citation), events);
    }

    /// What follows begins a new part.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// The end of the choice; told once.
    pub(super) fn end(&mut self, finish_reason: FinishReason, raw: &str, events: &mut Vec<Event>) {
        self.end_at(finish_reason, raw, String::new(), events);
    }

    /// As [`Pieces::end`], with the stop sequence that it ended at; empty where none is named.
    pub(super) fn end_at(&mut self, finish_reason: FinishReason, raw: &str, stop_sequence: String, events: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.is_ended, true) {
            let (choice, raw_finish_reason) = (self.choice, raw.to_owned());
            events.push(Event::ChoiceEnd(ChoiceEnd { choice, finish_reason: finish_reason.into(), raw_finish_reason, stop_sequence }));
        }
    }

    fn add(&mut self, kind: Kind, text: String, delta: fn(String) -> Delta, events: &mut Vec<Event>) {
        if !text.is_empty() {
            let part = self.part(kind);
            self.push(part, delta(text), events);
        }
    }

    fn part(&mut self, kind: Kind) -> u32 {
        if let Some((_, part)) = self.open.filter(|(open, _)| *open == kind) {
            return part;
        }
        let part = self.fresh();
        self.open = Some((kind, part));
        part
    }
}
