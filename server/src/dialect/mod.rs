//! Wire protocols as pure functions, one folder each, in both directions. No I/O, no clock, no randomness.

use std::fmt;

use bytes::Bytes;
use flowgate_proto::v1::MediaPart;
use http::{HeaderMap, StatusCode};

use crate::{
    error::{Error, Result},
    event::{Answer, Event, Lane, Payload, Protocol, Task},
};

pub mod addressed;
pub mod anthropic;
mod asked;
mod aws;
pub mod azure;
pub mod bedrock;
pub mod cohere;
pub mod compare;
mod credential;
pub mod databricks;
mod errors;
pub mod failure;
mod functions;
pub mod gemini;
#[cfg(test)]
mod golden;
pub mod hint;
mod join;
mod json;
mod media;
pub mod mlflow;
pub mod oip;
pub mod ollama;
pub mod openai;
pub mod openai_responses;
mod params;
mod pieces;

pub mod sagemaker;
pub mod scoring;
mod signature;
pub mod sigv4;
mod target;
pub mod templated;
pub mod tgi;

mod thinking;
mod tier;
mod tools;
mod turns;
pub mod vertex;

pub use credential::{Credential, hide};
pub use target::{Habit, Quirks, ReasoningField, ReportedCost, Rescale, Settings, Target};

/// One wire protocol. `Ask` says what is wanted, `Target` whom it goes to; everything else follows from the two.
pub trait Dialect: fmt::Debug + Send + Sync {
    /// The protocol in which a client's body goes on as received; `None` when there is none for the task, and every body is written anew.
    fn protocol(&self, task: Task) -> Option<Protocol>;

    /// As [`Dialect::protocol`], at a target whose settings may choose another protocol for the task.
    fn protocol_at(&self, task: Task, _target: &Target) -> Option<Protocol> {
        self.protocol(task)
    }

    /// The HTTP request, but for the credential. Its URI is absolute.
    ///
    /// # Errors
    /// What the protocol cannot express, by field.
    fn encode(&self, ask: &Ask<'_>, target: &Target) -> Result<http::Request<Bytes>>;

    /// The whole answer to a unary ask.
    ///
    /// # Errors
    /// `PROVIDER_BAD_ANSWER` when the body is not what the protocol says.
    fn decode(&self, ask: &Ask<'_>, target: &Target, headers: &HeaderMap, body: Bytes) -> Result<Answer>;

    /// Reads the frames of one streamed answer.
    fn decoder(&self, ask: &Ask<'_>, target: &Target) -> Box<dyn Decoder>;

    /// How a streamed answer is cut into frames.
    fn framing(&self, _ask: &Ask<'_>, _target: &Target) -> Framing {
        Framing::Sse
    }

    /// The most texts that one embeddings request takes.
    fn most_inputs(&self, target: &Target) -> usize {
        target.most_inputs()
    }

    /// Whether what stands behind an address of HTTP is fetched by the provider where a part of a conversation names it.
    fn fetches(&self, _part: &MediaPart, target: &Target) -> bool {
        target.quirks.fetches_media
    }

    /// What an answer that is not a success means.
    fn classify(&self, target: &Target, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error;
}

/// How a streamed answer is cut into frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events.
    Sse,
    /// One JSON text a line.
    Lines,
    /// AWS's binary event stream.
    EventStream,
    /// AWS's binary event stream, whose payloads joined are server-sent events.
    PayloadSse,
    /// AWS's binary event stream, whose payloads joined are lines of JSON.
    PayloadLines,
}

impl Framing {
    /// The media type of such an answer, in lower case.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Sse => "text/event-stream",
            Self::Lines => "application/x-ndjson",
            Self::EventStream | Self::PayloadSse | Self::PayloadLines => "application/vnd.amazon.eventstream",
        }
    }
}

/// Reads the frames of one streamed answer; holds the state between them.
pub trait Decoder: Send {
    /// Reads one frame and pushes the events it makes; [`Event::End`] when it is the protocol's end mark.
    ///
    /// # Errors
    /// An error frame of the provider, or a frame that is not what the protocol says.
    fn frame(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<()>;

    /// The answer has ended with no end mark. A protocol whose end mark is the end of the connection pushes [`Event::End`] if all was
    /// said; without it the stream counts as cut.
    ///
    /// # Errors
    /// What the protocol says of such an end.
    fn finish(&mut self, _events: &mut Vec<Event>) -> Result<()> {
        Ok(())
    }
}

/// The media type that headers tell, without parameters; `None` when they tell none.
pub fn media_type(headers: &HeaderMap) -> Option<&[u8]> {
    let told = headers.get(http::header::CONTENT_TYPE)?.as_bytes();
    Some(told.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii())
}

/// Whether a media type is JSON or a format that is written in it.
pub fn is_json(media_type: &[u8]) -> bool {
    let ending = media_type.len().checked_sub(b"+json".len()).and_then(|start| media_type.get(start..));
    media_type.eq_ignore_ascii_case(b"application/json") || ending.is_some_and(|ending| ending.eq_ignore_ascii_case(b"+json"))
}

/// One frame of a streamed answer.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// What the framing calls it: `event:`, or the type of an event or exception; empty when it has no name.
    pub name: Bytes,
    /// What it holds: `data:` lines joined with `\n`, a line, a payload; empty for a comment.
    pub data: Bytes,
    /// The frame as received, with what ends it.
    pub raw: Bytes,
    /// Whether the framing itself says that this is an error.
    pub is_exception: bool,
}

/// What is asked of a dialect.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// What is wanted.
    pub task: Task,
    /// Whether the answer is wanted piece by piece.
    pub streaming: bool,
    /// How the body is carried; [`Lane::Byte`] only when the payload's wire form is this dialect's protocol.
    pub lane: Lane,
    /// The request.
    pub payload: &'a Payload,
    /// What to do with a parameter that the provider does not have.
    pub unsupported: Unsupported,
}

/// What to do with a parameter that the chosen provider does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unsupported {
    /// Refuse the call, naming the parameter.
    #[default]
    Refuse,
    /// Leave it out.
    Drop,
    /// Leave it out without a word: the body is only looked at.
    Ignore,
}
