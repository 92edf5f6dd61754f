//! gRPC's own framing, in process: one message in, messages and trailers out.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::Stream;
use http::{HeaderMap, Request};
use http_body::Body as _;
use tonic::{Code, Status, body::Body};

use super::super::{
    Visit,
    grpc::{GrpcService, refusal},
    sse,
};
use crate::error::{Error, Result};

/// A flag that says whether the message is compressed, and its length.
const HEAD: usize = 5;
/// What gRPC says beside the answer's own headers.
const OWN: &str = "grpc-";

/// The messages of an answer. Dropping it drops the call.
#[derive(Debug)]
pub(super) struct Messages {
    /// Headers that crossed from upstream.
    pub(super) headers: HeaderMap,
    /// `None` once the answer has ended.
    body: Option<Body>,
    buffer: BytesMut,
    visit: Visit,
}

/// A message in its frame.
///
/// # Errors
/// An internal error when it is larger than a frame can say.
pub(super) fn frame(message: &[u8]) -> Result<Bytes> {
    let length = u32::try_from(message.len()).map_err(|error| Error::internal("a message is larger than a frame").because(error))?;
    let mut frame = BytesMut::with_capacity(HEAD + message.len());
    frame.put_u8(0);
    frame.put_u32(length);
    frame.extend_from_slice(message);
    Ok(frame.freeze())
}

/// Calls a service.
///
/// # Errors
/// What the RPC fails with before its first message.
pub(super) async fn call(grpc: GrpcService, request: Request<Body>, visit: Visit) -> Result<Messages> {
    let (parts, body) = grpc.call(request).await.into_parts();
    let ended = failure(&parts.headers, &visit);
    let names = parts.headers.iter().filter(|(name, _)| !name.as_str().starts_with(OWN));
    let headers = names.map(|(name, value)| (name.clone(), value.clone())).collect();
    match ended {
        Some(error) => Err(error),
        None => Ok(Messages { headers, body: Some(body), buffer: BytesMut::new(), visit }),
    }
}

/// Why the call failed, if headers or trailers say so: the error itself where a room of ours made it.
fn failure(trailers: &HeaderMap, visit: &Visit) -> Option<Error> {
    let status = Status::from_header_map(trailers).filter(|status| status.code() != Code::Ok)?;
    Some(visit.record.facts().failure.map_or_else(|| refusal(&status), |failure| failure.error))
}

impl Messages {
    fn message(&mut self) -> Option<Result<Bytes>> {
        let mut head = self.buffer.get(..HEAD)?;
        if head.get_u8() != 0 {
            return Some(Err(Error::internal("an RPC's answer is compressed, which nothing asked for; report its request id")));
        }
        let length = usize::try_from(head.get_u32()).ok()?;
        if self.buffer.len() < HEAD + length {
            return None;
        }
        self.buffer.advance(HEAD);
        Some(Ok(self.buffer.split_to(length).freeze()))
    }

    fn add(&mut self, piece: Bytes) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::from(piece);
        } else {
            self.buffer.extend_from_slice(&piece);
        }
    }
}

impl Stream for Messages {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if this.body.is_some()
                && let Some(message) = this.message()
            {
                if message.is_err() {
                    this.body = None;
                }
                return Poll::Ready(Some(message));
            }
            let Some(body) = &mut this.body else { return Poll::Ready(None) };
            let end = match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => {
                        this.add(piece);
                        continue;
                    }
                    Err(frame) => frame.into_trailers().map_or(None, |trailers| failure(&trailers, &this.visit)),
                },
                Some(Err(status)) => Some(refusal(&status)),
                None => Some(Error::internal("an RPC ended without a status")),
            };
            this.body = None;
            return Poll::Ready(end.map(Err));
        }
    }
}

impl sse::Events for Messages {
    type Event = Bytes;

    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    #[tokio::test]
    async fn a_compressed_message_is_refused() {
        let mut pieces = frame(b"one").unwrap().to_vec();
        pieces[0] = 1;
        let body = Body::new(http_body_util::Full::new(Bytes::from(pieces)));
        let visit = super::super::super::grpc::tests::visit();
        let mut messages = Messages { headers: HeaderMap::new(), body: Some(body), buffer: BytesMut::new(), visit };
        assert!(messages.next().await.unwrap().unwrap_err().to_string().contains("compressed"));
        assert!(messages.next().await.is_none());
    }

    #[tokio::test]
    async fn messages_are_found_wherever_the_pieces_are_cut() {
        let whole = [frame(b"one").unwrap(), frame(b"").unwrap(), frame(b"three").unwrap()].concat();
        for size in [1, 2, 5, 7, whole.len()] {
            let mut pieces: Vec<_> = whole.chunks(size).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
            pieces.push(Ok::<_, Status>(Frame::trailers(Status::ok("").metadata().clone().into_headers())));
            let visit = super::super::super::grpc::tests::visit();
            let body = Some(Body::new(StreamBody::new(stream::iter(pieces))));
            let messages = Messages { headers: HeaderMap::new(), body, buffer: BytesMut::new(), visit };
            let messages: Vec<_> = messages.map(Result::unwrap).collect().await;
            assert_eq!(messages, ["one", "", "three"], "{size}");
        }
    }
}
