//! Server-sent events at the doors: head only once the reply commits, all ready events in one write, pings while nothing comes.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use flowgate_proto::v1::ErrorReason;
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

/// How a door writes the events of a reply.
pub trait Encoder: Send + 'static {
    /// Writes one event; may write nothing.
    ///
    /// # Errors
    /// What makes the event impossible to write; it ends the stream.
    fn event(&mut self, event: Event, out: &mut BytesMut) -> Result<()>;

    /// Writes the failure that ends the stream, in the door's own protocol, and notes it.
    fn failure(&mut self, error: &Error, out: &mut BytesMut);
}

/// Answers with events as soon as the call commits; a failure before that is returned, unless the head had to go out already.
///
/// # Errors
/// Whatever ends the call before its first event that commits, within the first ten seconds.
pub async fn respond(call: impl Future<Output = Result<Reply>> + Send + 'static, encoder: impl Encoder) -> Result<Response<Body>> {
    let mut call = call.boxed();
    let mut out = BytesMut::new();
    let (source, headers) = match timeout(PING, &mut call).await {
        Ok(reply) => {
            let reply = reply?;
            let headers = reply.head.headers.clone();
            (Source::Reply(reply), headers)
        }
        Err(_) => {
            // The head goes out without the reply; the first comment goes with it.
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

enum Source {
    Call(BoxFuture<'static, Result<Reply>>),
    Reply(Reply),
    Done,
}

/// The body of one streamed answer. Dropping it drops the reply, or the call that is to become one.
struct Pieces<E> {
    source: Source,
    encoder: E,
    ping: Pin<Box<Sleep>>,
    out: BytesMut,
}

impl Source {
    /// The next event; none only after the end. A reply that stops before its end has failed.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event>>> {
        if let Self::Call(call) = self {
            match ready!(call.poll_unpin(cx)) {
                Ok(reply) => *self = Self::Reply(reply),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        let Self::Reply(reply) = self else { return Poll::Ready(None) };
        let event = ready!(reply.poll_next_unpin(cx));
        Poll::Ready(Some(event.unwrap_or_else(|| {
            let message = "the provider's stream stopped before its end; try again";
            Err(Error::new(ErrorReason::ProviderStreamCut, message))
        })))
    }
}

impl<E: Encoder> Pieces<E> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match self.source.poll(cx) {
                Poll::Ready(Some(event)) => {
                    self.write(event);
                    if self.out.len() >= MOST_AT_ONCE {
                        return self.flush();
                    }
                }
                Poll::Ready(None) | Poll::Pending if !self.out.is_empty() => return self.flush(),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    ready!(self.ping.poll_unpin(cx));
                    self.out.extend_from_slice(COMMENT);
                }
            }
        }
    }

    fn write(&mut self, event: Result<Event>) {
        let is_last = matches!(event, Ok(Event::End | Event::Answer(_)));
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
