//! Reads the events of a streamed answer.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    answer::{MessageIn, explanation, sequence},
    blocks::Blocks,
    usage::Counter,
};
use crate::{
    dialect::{
        Decoder, Frame,
        errors::{Errors, bad_answer},
        json::{Count, Str, is_meaningful, place},
    },
    error::Result,
    event::Event,
};

/// The decoder.
#[derive(Debug)]
pub(super) struct Stream {
    errors: Errors,
    counter: Counter,
    blocks: Blocks,
    is_started: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EventIn<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Str<'a>>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    index: Count,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// What an answer's end says of it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct EndIn<'a> {
    #[serde(borrow)]
    stop_reason: Option<Str<'a>>,
    #[serde(borrow)]
    stop_sequence: Option<&'a RawValue>,
    #[serde(borrow)]
    stop_details: Option<&'a RawValue>,
}

impl Decoder for Stream {
    fn frame(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<()> {
        let data = frame.data.trim_ascii();
        if frame.is_exception || *frame.name == *b"error" {
            return Err(self.errors.of_frame(data));
        }
        if data.is_empty() {
            events.push(Event::Ping);
            return Ok(());
        }
        let event = read(data, "an event")?;
        self.event(event, data, events)
    }
}

fn read<'a, T: Deserialize<'a>>(json: &'a [u8], what: &str) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| bad_answer(format!("{what} at {}", place(&error))))
}

fn required<'a>(raw: Option<&'a RawValue>, what: &str) -> Result<&'a RawValue> {
    raw.ok_or_else(|| bad_answer(format!("{what} is missing")))
}

impl Stream {
    /// A decoder whose error events are read by `errors`.
    pub(super) fn new(errors: Errors) -> Self {
        Self { errors, counter: Counter::default(), blocks: Blocks::default(), is_started: false }
    }

    fn event(&mut self, event: EventIn<'_>, data: &[u8], events: &mut Vec<Event>) -> Result<()> {
        let EventIn { kind, message, index, content_block, delta, usage, error } = event;
        let kind = kind.unwrap_or_default();
        let place = || index.0.ok_or_else(|| bad_answer("a block has no index"));
        match &*kind {
            "error" => return Err(self.errors.of_frame(data)),
            // Some speakers do not name it.
            _ if error.is_some_and(is_meaningful) => return Err(self.errors.of_frame(data)),
            "message_start" => return self.start(required(message, "the message")?, events),
            "content_block_start" | "content_block_delta" | "content_block_stop" | "message_delta" | "message_stop" if !self.is_started => {
                return Err(bad_answer("the stream does not begin with a message"));
            }
            "content_block_start" => self.blocks.start(place()?, required(content_block, "a block")?, events)?,
            "content_block_delta" => self.blocks.delta(place()?, required(delta, "a piece of a block")?, events)?,
            "content_block_stop" => self.blocks.stop(events),
            "message_delta" => self.message_delta(delta, usage, events)?,
            "message_stop" => {
                self.blocks.end("", String::new(), "", events);
                events.push(Event::End);
            }
            // Pings, and what the protocol may grow.
            _ => events.push(Event::Ping),
        }
        Ok(())
    }

    fn start(&mut self, message: &RawValue, events: &mut Vec<Event>) -> Result<()> {
        if std::mem::replace(&mut self.is_started, true) {
            return Err(bad_answer("the stream begins twice"));
        }
        let message: MessageIn<'_> = read(message.get().as_bytes(), "the message")?;
        events.push(Event::Start(message.head()));
        events.extend(self.counter.read(message.usage).map(Event::Usage));
        Ok(())
    }

    fn message_delta(&mut self, delta: Option<&RawValue>, usage: Option<&RawValue>, events: &mut Vec<Event>) -> Result<()> {
        let end: EndIn<'_> = delta.map(|delta| read(delta.get().as_bytes(), "the end")).transpose()?.unwrap_or_default();
        if let Some(word) = end.stop_reason.filter(|word| !word.is_empty() && !self.blocks.is_ended()) {
            self.blocks.end(&word, sequence(end.stop_sequence), &explanation(end.stop_details), events);
        }
        events.extend(self.counter.read(usage).map(Event::Usage));
        Ok(())
    }
}
