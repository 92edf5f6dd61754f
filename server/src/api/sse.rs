//! Server-sent events at the doors: head only once the reply commits, all ready events in one write, pings while nothing comes.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream};
use http::{HeaderMap, HeaderValue, Response, header};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::body::Body;
use crate::{
    error::{Error, Result},
    event::{Event, Reply},
};

/// After this long without anything to say, a comment keeps proxies from closing the connection.
const PING: Duration = Duration::from_secs(10);
/// The comment.
const COMMENT: &[u8] = b": ping\n\n";
/// Ready events are joined up to this many bytes, so that a fast upstream does not fill memory.
const MOST_AT_ONCE: usize = 64 * 1024;

/// What a door sends piece by piece: the events of a reply, or the messages of an RPC.
pub trait Events: Stream<Item = Result<<Self as Events>::Event>> + Send + Unpin + 'static {
    /// One piece.
    type Event;

    /// Headers that may stand before the events.
    fn headers(&self) -> HeaderMap;

    /// Whether nothing follows an event.
    fn is_last(_event: &Self::Event) -> bool {
        false
    }

    /// What it means when the events stop and none was the last; `None`: that they are complete.
    fn stopped() -> Option<Error> {
        None
    }
}

/// How a door writes events.
pub trait Encoder<E = Event>: Send + 'static {
    /// Writes one event; may write nothing.
    ///
    /// # Errors
    /// What makes the event impossible to write; it ends the stream.
    fn event(&mut self, event: E, out: &mut BytesMut) -> Result<()>;

    /// Writes the failure that ends the stream, in the door's own protocol, and notes it.
    fn failure(&mut self, error: &Error, out: &mut BytesMut);
}

/// Answers with events as soon as the call commits; a failure before that is returned, unless the head had to go out already.
///
/// # Errors
/// Whatever ends the call before its first event that commits, within the first ten seconds.
pub async fn respond<S: Events>(
    call: impl Future<Output = Result<S>> + Send + 'static,
    encoder: impl Encoder<S::Event>,
) -> Result<Response<Body>> {
    let mut call = call.boxed();
    let mut out = BytesMut::new();
    let (source, headers) = match timeout(PING, &mut call).await {
        Ok(events) => {
            let events = events?;
            let headers = events.headers();
            (Source::Events(events), headers)
        }
        Err(_) => {
            // The head goes out before there are any events; the first comment goes with it.
            out.extend_from_slice(COMMENT);
            (Source::Call(call), HeaderMap::new())
        }
    };
    let mut pieces = Pieces { source, encoder, ping: Box::pin(sleep(PING)), out };
    let mut response = Response::new(Body::stream(stream::poll_fn(move |cx| pieces.poll(cx))));
    *response.headers_mut() = headers;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Writes one `data:` event; `json` holds no line end.
pub fn data(json: &[u8], out: &mut BytesMut) {
    out.reserve(json.len() + 8);
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(json);
    out.extend_from_slice(b"\n\n");
}

enum Source<S> {
    Call(BoxFuture<'static, Result<S>>),
    Events(S),
    Done,
}

/// The body of one streamed answer. Dropping it drops the events, or the call that is to give them.
struct Pieces<S, E> {
    source: Source<S>,
    encoder: E,
    ping: Pin<Box<Sleep>>,
    out: BytesMut,
}

impl Events for Reply {
    type Event = Event;

    fn headers(&self) -> HeaderMap {
        self.head.headers.clone()
    }

    fn is_last(event: &Event) -> bool {
        matches!(event, Event::End | Event::Answer(_))
    }

    fn stopped() -> Option<Error> {
        Some(Error::stream_cut())
    }
}

impl<S: Events> Source<S> {
    /// The next event; none after the end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<S::Event>>> {
        if let Self::Call(call) = self {
            match ready!(call.poll_unpin(cx)) {
                Ok(events) => *self = Self::Events(events),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        let Self::Events(events) = self else { return Poll::Ready(None) };
        let event = ready!(events.poll_next_unpin(cx));
        Poll::Ready(event.or_else(|| S::stopped().map(Err)))
    }
}

impl<S: Events, E: Encoder<S::Event>> Pieces<S, E> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match self.source.poll(cx) {
                Poll::Ready(Some(event)) => {
                    self.write(event);
                    if self.out.len() >= MOST_AT_ONCE {
                        return self.flush();
                    }
                }
                Poll::Ready(None) => {
                    self.source = Source::Done;
                    return if self.out.is_empty() { Poll::Ready(None) } else { self.flush() };
                }
                Poll::Pending if !self.out.is_empty() => return self.flush(),
                Poll::Pending => {
                    ready!(self.ping.poll_unpin(cx));
                    self.out.extend_from_slice(COMMENT);
                }
            }
        }
    }

    fn write(&mut self, event: Result<S::Event>) {
        let is_last = event.as_ref().is_ok_and(S::is_last);
        let before = self.out.len();
        let written = event.and_then(|event| self.encoder.event(event, &mut self.out));
        if let Err(error) = &written {
            self.out.truncate(before);
            self.encoder.failure(error, &mut self.out);
        }
        if is_last || written.is_err() {
            self.source = Source::Done;
        }
    }

    fn flush(&mut self) -> Poll<Option<Bytes>> {
        self.ping.as_mut().reset(Instant::now() + PING);
        Poll::Ready(Some(self.out.split().freeze()))
    }
}

#[cfg(test)]
mod tests;
