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
        // hyper never polls an empty body, nor one whose head alone is wanted.
        if self.is_end_stream() || guard.is_of_head() {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flowgate_proto::v1::ErrorReason;
    use futures_util::stream;
    use http::StatusCode;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::{
        api::{
            Visit,
            testing::{guard, headers, visit},
        },
        error::Error,
        telemetry::metrics::Metrics,
    };

    fn counted(body: Body) -> (Body, Visit, Arc<Metrics>) {
        let (visit, metrics) = (visit(), Arc::new(Metrics::new()));
        let mut guard = guard(&metrics, &visit);
        guard.head(StatusCode::OK, &HeaderMap::new());
        (body.guarded(guard), visit, metrics)
    }

    /// How many records were closed, and how many of them as failed.
    fn records(metrics: &Metrics) -> (usize, usize) {
        let page = metrics.render();
        let count = |name: &str| {
            let lines = page.lines().filter(|line| line.starts_with(name));
            lines.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
        };
        (count("flowgate_calls_total"), count("flowgate_errors_total"))
    }

    #[tokio::test]
    async fn a_body_that_is_sent_closes_one_record() {
        let pieces = || stream::iter([Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
        for body in [Body::full("ab"), Body::full(""), Body::stream(pieces()), Body::grpc(tonic::body::Body::empty())] {
            let (mut body, visit, metrics) = counted(body);
            while !body.is_end_stream() && body.frame().await.is_some() {}
            drop(body);
            assert_eq!(records(&metrics), (1, 0));
            assert!(visit.record.facts().failure.is_none());
        }
    }

    #[tokio::test]
    async fn a_body_that_is_dropped_closes_one_record_as_cancelled() {
        let endless = || stream::iter([Bytes::from_static(b"a")]).chain(stream::pending());
        for (body, polled) in [(Body::full("ab"), false), (Body::stream(endless()), false), (Body::stream(endless()), true)] {
            let (mut body, visit, metrics) = counted(body);
            if polled {
                assert!(body.frame().await.is_some());
            }
            drop(body);
            assert_eq!(records(&metrics), (1, 1));
            assert_eq!(visit.record.facts().failure.unwrap().reason, ErrorReason::CallerCancelled);
        }
    }

    #[tokio::test]
    async fn a_failure_that_was_told_in_the_body_closes_one_record_with_its_own_reason() {
        for sent in [true, false] {
            let (mut body, visit, metrics) = counted(Body::stream(stream::iter([Bytes::from_static(b"data: {}\n\n")])));
            visit.record.fail(&Error::new(ErrorReason::ProviderStreamCut, "cut"));
            while sent && body.frame().await.is_some() {}
            drop(body);
            assert_eq!(records(&metrics), (1, 1));
            assert_eq!(visit.record.facts().failure.unwrap().reason, ErrorReason::ProviderStreamCut);
        }
    }

    #[tokio::test]
    async fn a_refusal_in_trailers_is_a_failure_and_ok_is_none() {
        for (code, failed) in [("3", 1), ("0", 0)] {
            let trailers = headers(&[("grpc-status", code)]);
            let frames = stream::iter([Ok::<_, tonic::Status>(Frame::data(Bytes::from_static(b"a"))), Ok(Frame::trailers(trailers))]);
            let inner = tonic::body::Body::new(http_body_util::StreamBody::new(frames));
            let (mut body, _, metrics) = counted(Body::grpc(inner));
            assert!(body.frame().await.unwrap().unwrap().is_data());
            assert!(body.frame().await.unwrap().unwrap().is_trailers());
            // hyper drops the body once the trailers are out.
            drop(body);
            assert_eq!(records(&metrics), (1, failed));
        }
    }
}
