//! What stands between hyper and the service on one connection: the peer, and the polite end of HTTP/1.1.

use std::{
    future::{Future, pending},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{HeaderValue, Request, Response, Version, header::CONNECTION};
use hyper::{body::Incoming, rt::Executor, service::Service};
use pin_project_lite::pin_project;
use tokio::time::sleep;

use crate::{identity::Peer, task::Tasks};

/// Runs the calls of h2 connections as tasks that the drain waits for, until the grace is over.
#[derive(Clone, Debug)]
pub(super) struct Spawner(pub(super) Tasks);

/// What is known of a connection while it lasts.
#[derive(Debug, Default)]
pub(super) struct Passing {
    closing: AtomicBool,
    begun: AtomicBool,
    h2: AtomicBool,
}

/// The service as one connection sees it.
#[derive(Clone, Debug)]
pub(super) struct Door<S> {
    service: S,
    peer: Peer,
    passing: Arc<Passing>,
}

pin_project! {
    /// An answer under way.
    pub(super) struct Answering<F> {
        #[pin]
        answer: F,
        passing: Arc<Passing>,
        h1: bool,
    }
}

impl Passing {
    /// From now on HTTP/1.1 clients are told not to use the connection again.
    pub(super) fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    /// Comes to an end when no request has begun within a time; otherwise never.
    pub(super) async fn silence(&self, patience: Duration) {
        sleep(patience).await;
        if self.begun.load(Relaxed) {
            pending::<()>().await;
        }
    }

    /// Whether h2 was spoken; unknown before the first request.
    pub(super) fn is_h2(&self) -> bool {
        self.h2.load(Relaxed)
    }
}

impl<S> Door<S> {
    pub(super) fn new(service: S, peer: Peer, passing: Arc<Passing>) -> Self {
        Self { service, peer, passing }
    }
}

impl<S, B> Service<Request<Incoming>> for Door<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    #[expect(clippy::disallowed_methods, reason = "the one entry that crosses from here to the doors")]
    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if !self.passing.begun.load(Relaxed) {
            self.passing.begun.store(true, Relaxed);
        }
        let h1 = request.version() != Version::HTTP_2;
        if !h1 && !self.passing.is_h2() {
            self.passing.h2.store(true, Relaxed);
        }
        request.extensions_mut().insert(self.peer.clone());
        Answering { answer: self.service.call(request), passing: Arc::clone(&self.passing), h1 }
    }
}

impl<F, B, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut answer = ready!(this.answer.poll(cx));
        if let (true, Ok(response)) = (*this.h1 && this.passing.closing.load(Relaxed), &mut answer) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(answer)
    }
}

impl<F> Executor<F> for Spawner
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}
