//! Server-sent events at the doors: head only once the reply commits, all ready events in one write, pings while nothing comes.

use std::{future::Future, pin::Pin, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream};
use http::{HeaderMap, HeaderValue, Response, header};
use tokio::time::{Instant, Sleep, sleep};

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
}

/// How a door writes events.
pub trait Encoder<E = Event>: Send + 'static {
    /// Writes one event; may write nothing.
    ///
    /// # Errors
    /// What makes the event impossible to write; it ends the stream.
    fn event(&mut self, event: E, out: &mut BytesMut) -> Result<()>;

    /// Writes the failure that ends the stream, in the door's own protocol.
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
    let (source, headers) = match tokio::time::timeout(PING, &mut call).await {
        Ok(events) => {
            let events = events?;
            let headers = events.headers();
            (Source::Events(events), headers)
        }
        Err(_) => (Source::Call(call), HeaderMap::new()),
    };
    let mut response = Response::new(Body::stream(pieces(source, encoder)));
    *response.headers_mut() = headers;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

impl Events for Reply {
    type Event = Event;

    fn headers(&self) -> HeaderMap {
        self.head.headers.clone()
    }
}

enum Source<S> {
    Call(BoxFuture<'static, Result<S>>),
    Events(S),
    Done,
}

struct Pieces<S, E> {
    source: Source<S>,
    encoder: E,
    ping: Pin<Box<Sleep>>,
    out: BytesMut,
}

fn pieces<S: Events>(source: Source<S>, encoder: impl Encoder<S::Event>) -> impl Stream<Item = Bytes> + Send {
    // A head that went out late takes the first comment with it.
    let is_late = matches!(source, Source::Call(_));
    let ping = Box::pin(sleep(if is_late { Duration::ZERO } else { PING }));
    let mut pieces = Pieces { source, encoder, ping, out: BytesMut::new() };
    stream::poll_fn(move |cx| pieces.poll(cx))
}

impl<S: Events, E: Encoder<S::Event>> Pieces<S, E> {
    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let ready = match &mut self.source {
                Source::Call(call) => match call.poll_unpin(cx) {
                    Poll::Ready(Ok(events)) => {
                        self.source = Source::Events(events);
                        continue;
                    }
                    Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
                    Poll::Pending => Poll::Pending,
                },
                Source::Events(events) => events.poll_next_unpin(cx),
                Source::Done => Poll::Ready(None),
            };
            match ready {
                Poll::Ready(Some(event)) => {
                    self.write(event);
                    if self.out.len() >= MOST_AT_ONCE {
                        return self.flush();
                    }
                }
                Poll::Ready(None) if self.out.is_empty() => return Poll::Ready(None),
                Poll::Ready(None) => {
                    self.source = Source::Done;
                    return self.flush();
                }
                Poll::Pending if !self.out.is_empty() => return self.flush(),
                Poll::Pending => {
                    if self.ping.poll_unpin(cx).is_pending() {
                        return Poll::Pending;
                    }
                    self.out.extend_from_slice(COMMENT);
                    self.ping.as_mut().reset(Instant::now() + PING);
                }
            }
        }
    }

    fn write(&mut self, event: Result<S::Event>) {
        let written = event.and_then(|event| self.encoder.event(event, &mut self.out));
        if let Err(error) = written {
            self.encoder.failure(&error, &mut self.out);
            self.source = Source::Done;
        }
    }

    fn flush(&mut self) -> Poll<Option<Bytes>> {
        self.ping.as_mut().reset(Instant::now() + PING);
        Poll::Ready(Some(self.out.split().freeze()))
    }
}

/// Writes one `data:` event; `json` holds no line end.
pub fn data(json: &[u8], out: &mut BytesMut) {
    out.reserve(json.len() + 8);
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(json);
    out.extend_from_slice(b"\n\n");
}
