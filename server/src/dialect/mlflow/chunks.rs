//! The chunks of a `ChatAgent`: pieces of messages, which their ids hold together.
//!
//! An agent may answer its own calls, and only what comes after a call tells: a message with calls waits for their results, or for the end.
//! Texts do not wait for it.

use flowgate_proto::v1::{StreamStart, chat_delta::Delta};
use serde_json::value::RawValue;

use super::{
    QUIRKS,
    agent::{MessageIn, kept_as},
    stream::DONE,
};
use crate::{
    dialect::{
        Decoder, Frame,
        errors::bad_answer,
        json::{Str, kept, object, place},
        openai,
        pieces::Pieces,
    },
    error::Result,
    event::Event,
};

/// How many bytes of messages may wait.
const MOST_WAITING: usize = 16 << 20;

object! {
    /// One chunk.
    ChunkIn {
        delta: Option<&'a RawValue> = "delta",
        finish_reason: Str<'a> = "finish_reason",
        usage: Option<&'a RawValue> = "usage",
    }
}

/// The decoder.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    is_started: bool,
    pieces: Pieces,
    /// The message that is being told.
    message: String,
    /// Messages with calls that nobody has answered yet, and how many bytes they have.
    waiting: Vec<Box<RawValue>>,
    waiting_bytes: usize,
    /// Why it ends, as far as it is told.
    word: String,
}

impl Decoder for Chunks {
    fn frame(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<()> {
        if frame.data.trim_ascii() == DONE {
            return self.end(events);
        }
        let chunk: ChunkIn<'_> =
            serde_json::from_slice(&frame.data).map_err(|error| bad_answer(format!("a chunk at {}", place(&error))))?;
        if !std::mem::replace(&mut self.is_started, true) {
            events.push(Event::Start(StreamStart { provider_fields: kept(&chunk.rest), ..StreamStart::default() }));
        }
        if let Some(raw) = chunk.delta {
            self.delta(raw, events)?;
        }
        if !chunk.finish_reason.is_empty() {
            self.word = chunk.finish_reason.into();
        }
        events.extend(openai::read_usage(chunk.usage, &QUIRKS).map(Event::Usage));
        Ok(())
    }
}

impl Chunks {
    fn delta(&mut self, raw: &RawValue, events: &mut Vec<Event>) -> Result<()> {
        let message = MessageIn::of(raw)?;
        let id = message.id.as_deref().unwrap_or_default();
        if *id != *self.message {
            self.pieces.close();
            id.clone_into(&mut self.message);
        }
        if let Some(call) = message.tool_call_id.as_deref() {
            self.answered(call, events)?;
        }
        if !message.is_own() {
            self.pieces.whole(Delta::Raw(kept_as(raw.get())), events);
        } else if message.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty()) {
            self.waiting.push(raw.to_owned());
            self.waiting_bytes += raw.get().len();
            if self.waiting_bytes > MOST_WAITING {
                return Err(bad_answer("the agent's calls are of more than 16 MiB"));
            }
        } else {
            self.pieces.text(message.content.map(String::from).unwrap_or_default(), events);
        }
        Ok(())
    }

    /// Tells of the messages with a call that the agent has answered itself.
    fn answered(&mut self, call: &str, events: &mut Vec<Event>) -> Result<()> {
        for raw in std::mem::take(&mut self.waiting) {
            let message = MessageIn::of(&raw)?;
            if message.tool_calls.iter().flatten().any(|known| *known.id == *call) {
                self.waiting_bytes -= raw.get().len();
                self.pieces.whole(Delta::Raw(kept_as(raw.get())), events);
            } else {
                self.waiting.push(raw);
            }
        }
        Ok(())
    }

    /// What still waits is for the caller to answer.
    fn end(&mut self, events: &mut Vec<Event>) -> Result<()> {
        for raw in std::mem::take(&mut self.waiting) {
            let message = MessageIn::of(&raw)?;
            self.pieces.close();
            self.pieces.text(message.content.map(String::from).unwrap_or_default(), events);
            message.tool_calls.into_iter().flatten().for_each(|call| self.pieces.tool_call(call.into(), events));
        }
        self.pieces.end(openai::finish_reason(&self.word), &self.word, events);
        events.push(Event::End);
        Ok(())
    }
}
