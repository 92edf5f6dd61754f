//! The one body type of all doors, and the guard in it that closes a request's record exactly once.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};

use super::record::Guard;

/// Errors that end a body early. They never reach a client as text.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of every answer.
pub struct Body {
    kind: Kind,
    guard: Option<Guard>,
}

enum Kind {
    Full(Option<Bytes>),
    Stream(BoxStream<'static, Bytes>),
    Grpc(tonic::body::Body),
}

impl Body {
    /// A whole body.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { kind: Kind::Full((!bytes.is_empty()).then_some(bytes)), guard: None }
    }

    /// A body in pieces. The stream tells its own failures in the door's protocol; it cannot fail otherwise.
    pub fn stream(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self { kind: Kind::Stream(pieces.boxed()), guard: None }
    }

    /// A body of the gRPC doors.
    pub fn grpc(body: tonic::body::Body) -> Self {
        Self { kind: Kind::Grpc(body), guard: None }
    }

    /// The bytes of a whole body; `None` if it is streamed.
    pub fn whole(&self) -> Option<&Bytes> {
        match &self.kind {
            Kind::Full(bytes) => bytes.as_ref(),
            Kind::Stream(_) | Kind::Grpc(_) => None,
        }
    }

    /// Closes the record when the body has been sent, or is dropped before.
    #[must_use]
    pub(super) fn guarded(mut self, mut guard: Guard) -> Self {
        // hyper never polls an empty body.
        if self.is_end_stream() {
            guard.complete();
        }
        self.guard = Some(guard);
        self
    }

    fn sent(&mut self, trailers: Option<&HeaderMap>) {
        if let Some(guard) = &mut self.guard {
            if let Some(trailers) = trailers {
                guard.trailers(trailers);
            }
            guard.complete();
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let next = match &mut this.kind {
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Stream(pieces) => pieces.poll_next_unpin(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece)))),
            Kind::Grpc(body) => Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into))),
        };
        match &next {
            // hyper asks no further once the end is known, or the trailers are out.
            Poll::Ready(None) => this.sent(None),
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() || this.is_end_stream() => this.sent(frame.trailers_ref()),
            Poll::Ready(Some(_)) | Poll::Pending => {}
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Stream(_) => false,
            Kind::Grpc(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Stream(_) => SizeHint::default(),
            Kind::Grpc(body) => body.size_hint(),
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.kind {
            Kind::Full(_) => "full",
            Kind::Stream(_) => "stream",
            Kind::Grpc(_) => "grpc",
        };
        f.debug_tuple("Body").field(&kind).finish()
    }
}
