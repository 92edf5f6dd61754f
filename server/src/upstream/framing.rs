//! How the body of a streamed answer is cut into frames: one type over all framings.

use bytes::Bytes;

use super::{event_stream, lines, payloads::Payloads, sse};
use crate::{
    dialect::{Frame, Framing},
    error::Result,
};

/// The frames of a body that came in these chunks; nothing after the first error.
pub fn frames(framing: Framing, chunks: impl IntoIterator<Item = Bytes>) -> Vec<Result<Frame>> {
    let (mut framer, mut frames) = (Framer::new(framing), Vec::new());
    for chunk in chunks {
        framer.push(chunk);
        for frame in framer.by_ref() {
            let failed = frame.is_err();
            frames.push(frame);
            if failed {
                return frames;
            }
        }
    }
    frames.extend(framer.finish());
    frames
}

/// A framing that has bytes pushed into it and gives the frames that are complete.
pub(super) trait Frames: Iterator<Item = Result<Frame>> {
    /// Takes the next chunk.
    fn push(&mut self, chunk: Bytes);

    /// What is left when the bytes have ended.
    fn finish(&mut self) -> Option<Result<Frame>>;
}

/// The framer of one body. Not boxed: it lies in the stream that reads the body.
#[derive(Debug)]
pub(super) enum Framer {
    Sse(sse::Framer),
    Lines(lines::Framer),
    EventStream(event_stream::Framer),
    PayloadSse(Payloads<sse::Framer>),
    PayloadLines(Payloads<lines::Framer>),
}

impl Framer {
    pub(super) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Sse => Self::Sse(sse::Framer::default()),
            Framing::Lines => Self::Lines(lines::Framer::default()),
            Framing::EventStream => Self::EventStream(event_stream::Framer::default()),
            Framing::PayloadSse => Self::PayloadSse(Payloads::default()),
            Framing::PayloadLines => Self::PayloadLines(Payloads::default()),
        }
    }

    /// Whether the end of the body closes a frame as well as what the framing has for it: so with lines, while an event that lacks its blank
    /// line is none.
    pub(super) fn is_closed_by_end(&self) -> bool {
        matches!(self, Self::Lines(_) | Self::PayloadLines(_))
    }
}

impl Frames for Framer {
    fn push(&mut self, chunk: Bytes) {
        match self {
            Self::Sse(framer) => framer.push(chunk),
            Self::Lines(framer) => framer.push(chunk),
            Self::EventStream(framer) => framer.push(chunk),
            Self::PayloadSse(framer) => framer.push(chunk),
            Self::PayloadLines(framer) => framer.push(chunk),
        }
    }

    fn finish(&mut self) -> Option<Result<Frame>> {
        match self {
            Self::Sse(framer) => Frames::finish(framer),
            Self::Lines(framer) => framer.finish(),
            Self::EventStream(framer) => framer.finish(),
            Self::PayloadSse(framer) => framer.finish(),
            Self::PayloadLines(framer) => framer.finish(),
        }
    }
}

impl Iterator for Framer {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Result<Frame>> {
        match self {
            Self::Sse(framer) => framer.next(),
            Self::Lines(framer) => framer.next(),
            Self::EventStream(framer) => framer.next(),
            Self::PayloadSse(framer) => framer.next(),
            Self::PayloadLines(framer) => framer.next(),
        }
    }
}

impl Frames for sse::Framer {
    fn push(&mut self, chunk: Bytes) {
        Self::push(self, chunk);
    }

    fn finish(&mut self) -> Option<Result<Frame>> {
        Self::finish(self).map(Ok)
    }
}

#[cfg(test)]
mod tests;
