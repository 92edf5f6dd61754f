//! Answers: a whole one is read as the stream that would have said the same.

use std::collections::BTreeMap;

use flowgate_proto::v1::{
    ChatDelta, ChatResponse, FinishReason, Logprobs, RawPart, StreamStart, TokenLogprob, ToolCallPart, chat_delta::Delta,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{SHAPE, citations::CitationIn, usage};
use crate::{
    dialect::{
        Decoder, Frame,
        errors::{Errors, bad_answer},
        functions::CallIn,
        join::join,
        json::{Count, Object, Rest, Str, is_meaningful, kept, object, place},
        pieces::Pieces,
    },
    error::{Error, Result},
    event::Event,
};

object! {
    /// A whole answer, or an error in its place.
    AnswerIn {
        id: Str<'a> = "id",
        message: Option<&'a RawValue> = "message",
        finish_reason: Str<'a> = "finish_reason",
        usage: Option<&'a RawValue> = "usage",
        logprobs: Vec<&'a RawValue> = "logprobs",
    }
}

object! {
    /// An event of a stream.
    EventIn {
        kind: Str<'a> = "type",
        id: Str<'a> = "id",
        index: Count = "index",
        delta: Option<DeltaIn<'a>> = "delta",
        logprobs: Option<&'a RawValue> = "logprobs",
        error: Option<&'a RawValue> = "error",
        message: Option<&'a RawValue> = "message",
    }
}

/// What an event adds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DeltaIn<'a> {
    #[serde(borrow)]
    message: Option<MessageIn<'a>>,
    #[serde(borrow)]
    finish_reason: Option<Str<'a>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

object! {
    /// A message, or a piece of one: lists of a whole message are single entries in pieces.
    MessageIn {
        content: Option<&'a RawValue> = "content",
        tool_plan: Str<'a> = "tool_plan",
        tool_calls: Option<&'a RawValue> = "tool_calls",
        citations: Option<&'a RawValue> = "citations",
    }
}

/// An entry of the content.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ContentIn<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Str<'a>>,
    #[serde(borrow)]
    text: Option<Str<'a>>,
    #[serde(borrow)]
    thinking: Option<Str<'a>>,
}

/// Log probabilities of the tokens of one piece of text.
#[derive(Deserialize)]
struct LogprobsIn {
    #[serde(default)]
    text: String,
    #[serde(default)]
    logprobs: Vec<f64>,
}

/// Reads an answer, whole or in pieces.
#[derive(Debug)]
pub(super) struct Reader {
    errors: Errors,
    is_started: bool,
    pieces: Pieces,
    plan: Option<u32>,
    contents: BTreeMap<u32, ContentState>,
    /// The newest text.
    text: Option<u32>,
    /// The calls' numbers on the wire, and their parts.
    calls: BTreeMap<u32, u32>,
}

#[derive(Debug, Default)]
struct ContentState {
    text: Option<u32>,
    thinking: Option<u32>,
}

/// A whole answer.
pub(super) fn decode(body: &[u8], errors: Errors) -> Result<ChatResponse> {
    let answer: AnswerIn<'_> = serde_json::from_slice(body).map_err(|error| bad_answer(format!("the answer at {}", place(&error))))?;
    let Some(message) = answer.message else { return Err(bad_answer("the answer has no message")) };
    if message.get().starts_with('"') {
        return Err(errors.inside(message));
    }
    let (mut reader, mut events) = (Reader::new(errors), Vec::new());
    reader.start(&answer.id, &answer.rest, &mut events);
    reader.message(read(message)?, None, &mut events)?;
    for logprobs in answer.logprobs {
        reader.logprobs(logprobs, None, &mut events);
    }
    reader.end(&answer.finish_reason, answer.usage, &mut events);
    join(events)
}

impl Decoder for Reader {
    fn frame(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<()> {
        let data = frame.data.trim_ascii();
        if *frame.name == *b"error" {
            return Err(self.errors.of_frame(data));
        }
        if data.is_empty() {
            events.push(Event::Ping);
            return Ok(());
        }
        let event: EventIn<'_> = serde_json::from_slice(data).map_err(|error| bad_answer(format!("an event at {}", place(&error))))?;
        let said = event.error.or_else(|| event.message.filter(|_| event.delta.is_none()));
        let delta = event.delta.unwrap_or_default();
        if let Some(error) = said.or(delta.error).filter(|error| is_meaningful(error)) {
            return Err(self.errors.inside(error));
        }
        let before = events.len();
        self.start(&event.id, &event.rest, events);
        if let Some(message) = delta.message {
            self.message(message, Some(event.index.0.unwrap_or_default()), events)?;
        }
        if let Some(logprobs) = event.logprobs {
            self.logprobs(logprobs, event.index.0, events);
        }
        if *event.kind == *"message-end" {
            self.end(delta.finish_reason.as_deref().unwrap_or_default(), delta.usage, events);
            events.push(Event::End);
        } else if events.len() == before {
            events.push(Event::Ping);
        }
        Ok(())
    }
}

impl Reader {
    /// A reader of one answer.
    pub(super) fn new(errors: Errors) -> Self {
        Self {
            errors,
            is_started: false,
            pieces: Pieces::new(0),
            plan: None,
            contents: BTreeMap::new(),
            text: None,
            calls: BTreeMap::new(),
        }
    }

    fn start(&mut self, id: &str, rest: &Rest<'_>, events: &mut Vec<Event>) {
        if !std::mem::replace(&mut self.is_started, true) {
            events.push(Event::Start(StreamStart { id: id.to_owned(), provider_fields: kept(rest), ..StreamStart::default() }));
        }
    }

    /// Reads a message, or the piece of one that an event with a number holds.
    fn message(&mut self, message: MessageIn<'_>, index: Option<u32>, events: &mut Vec<Event>) -> Result<()> {
        for (n, raw) in (0..).zip(entries(message.content)?) {
            self.content(raw, index.unwrap_or(n), events)?;
        }
        if !message.tool_plan.is_empty() {
            let part = self.pieces.slot(&mut self.plan);
            self.pieces.push(part, Delta::Reasoning(message.tool_plan.into()), events);
        }
        for (n, raw) in (0..).zip(entries(message.tool_calls)?) {
            self.call(read(raw)?, index.unwrap_or(n), events)?;
        }
        for raw in entries(message.citations)? {
            self.citation(raw, events)?;
        }
        for (name, raw) in message.rest.into_iter().filter(|(name, raw)| name != "role" && is_meaningful(raw)) {
            let mut field = Object::default();
            field.put(&name, raw)?;
            self.raw(String::from_utf8_lossy(&field.end()).into_owned(), events);
        }
        Ok(())
    }

    fn content(&mut self, raw: &RawValue, index: u32, events: &mut Vec<Event>) -> Result<()> {
        let content = if raw.get().starts_with('"') { ContentIn { text: Some(read(raw)?), ..ContentIn::default() } } else { read(raw)? };
        let [text, thinking] = [content.text, content.thinking].map(|piece| piece.map(String::from).unwrap_or_default());
        if !matches!(content.kind.as_deref(), None | Some("" | "text" | "thinking")) {
            self.raw(raw.get().to_owned(), events);
            return Ok(());
        }
        let state = self.contents.entry(index).or_default();
        if !thinking.is_empty() {
            let part = self.pieces.slot(&mut state.thinking);
            self.pieces.push(part, Delta::Reasoning(thinking), events);
        }
        if !text.is_empty() {
            let part = self.pieces.slot(&mut state.text);
            self.text = Some(part);
            self.pieces.push(part, Delta::Text(text), events);
        }
        Ok(())
    }

    /// A call's id or name begins it; what has neither goes on with it.
    fn call(&mut self, call: CallIn<'_>, index: u32, events: &mut Vec<Event>) -> Result<()> {
        let ToolCallPart { id, name, arguments, signature } = call.into();
        if !(id.is_empty() && name.is_empty()) {
            let head = ToolCallPart { id, name, arguments: String::new(), signature };
            let part = self.pieces.whole(Delta::ToolCall(head), events);
            self.calls.insert(index, part);
        }
        let Some(part) = self.calls.get(&index) else {
            return Err(bad_answer("a piece of a call that never began"));
        };
        if !arguments.is_empty() {
            self.pieces.push(*part, Delta::Arguments(arguments), events);
        }
        Ok(())
    }

    /// Citations of text go with it; those of a plan or of thoughts have no place of their own in the contract.
    fn citation(&mut self, raw: &RawValue, events: &mut Vec<Event>) -> Result<()> {
        let citation: CitationIn<'_> = read(raw)?;
        match self.text_part(citation.content_index.0).filter(|_| citation.is_of_text()) {
            Some(part) => citation.lift().into_iter().for_each(|citation| self.pieces.push(part, Delta::Citation(citation), events)),
            None => self.raw(format!("{{\"citations\":[{}]}}", raw.get()), events),
        }
        Ok(())
    }

    /// The text of an entry of the content; where none is named, the last.
    fn text_part(&self, index: Option<u32>) -> Option<u32> {
        index.and_then(|index| self.contents.get(&index)?.text).or(self.text)
    }

    /// Log probabilities of a piece of text. The piece is not cut into tokens, so it stands with the first of them.
    fn logprobs(&mut self, raw: &RawValue, index: Option<u32>, events: &mut Vec<Event>) {
        let Ok(LogprobsIn { mut text, logprobs }) = serde_json::from_str(raw.get()) else { return };
        let token = |logprob| TokenLogprob { token: std::mem::take(&mut text), logprob, ..TokenLogprob::default() };
        let content: Vec<_> = logprobs.into_iter().map(token).collect();
        if let Some(part) = self.text_part(index).filter(|_| !content.is_empty()) {
            let logprobs = Some(Logprobs { content, refusal: Vec::new() });
            events.push(Event::Delta(ChatDelta { choice: self.pieces.choice(), part, delta: None, logprobs }));
        }
    }

    fn raw(&mut self, json: String, events: &mut Vec<Event>) {
        self.pieces.whole(Delta::Raw(RawPart { provider: SHAPE.protocol.to_owned(), json }), events);
    }

    fn end(&mut self, word: &str, usage: Option<&RawValue>, events: &mut Vec<Event>) {
        self.pieces.end(finish_reason(word), word, events);
        events.extend(usage::read(usage).map(Event::Usage));
    }
}

fn finish_reason(word: &str) -> FinishReason {
    match word {
        "COMPLETE" => FinishReason::Stop,
        "STOP_SEQUENCE" => FinishReason::StopSequence,
        "MAX_TOKENS" => FinishReason::Length,
        "TOOL_CALL" => FinishReason::ToolCalls,
        "ERROR" | "TIMEOUT" => FinishReason::Error,
        "ERROR_TOXIC" => FinishReason::ContentFilter,
        _ => FinishReason::Unspecified,
    }
}

/// The entries of a list; one that stands for itself is a list of one.
fn entries(raw: Option<&RawValue>) -> Result<Vec<&RawValue>> {
    match raw {
        Some(list) if list.get().starts_with('[') => read(list),
        one => Ok(one.into_iter().collect()),
    }
}

fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T> {
    serde_json::from_str(raw.get()).map_err(|error: serde_json::Error| -> Error { bad_answer(format!("a message at {}", place(&error))) })
}
