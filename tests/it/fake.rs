//! A scripted upstream on a real socket: it records what it was asked, answers as told, and says when its client is gone.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream, stream::BoxStream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::mpsc};

/// One request that the upstream got.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What it answers.
pub enum Answer {
    /// A whole body.
    Whole { status: u16, headers: Vec<(&'static str, String)>, body: Bytes },
    /// A body in pieces; an error cuts the connection.
    Pieces { content_type: &'static str, pieces: BoxStream<'static, io::Result<Bytes>> },
    /// Nothing, ever.
    Silence,
}

/// A scripted upstream.
pub struct Fake {
    /// Its address, without a path.
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    gone: mpsc::UnboundedReceiver<()>,
}

/// Says that a client went away before its answer was complete.
struct Watch {
    gone: mpsc::UnboundedSender<()>,
    complete: bool,
}

struct Watched<S> {
    inner: S,
    watch: Watch,
}

impl Seen {
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Answer {
    /// JSON with status 200.
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self::status(200, body)
    }

    /// JSON with a status.
    pub fn status(status: u16, body: impl Into<Bytes>) -> Self {
        Self::Whole { status, headers: vec![("content-type", "application/json".to_owned())], body: body.into() }
    }

    /// Server-sent events, all at once.
    pub fn events(events: &[&str]) -> Self {
        let pieces: Vec<_> = events.iter().map(|event| Ok(Bytes::from(format!("data: {event}\n\n")))).collect();
        Self::sse(stream::iter(pieces))
    }

    /// Server-sent events in pieces.
    pub fn sse(pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self::Pieces { content_type: "text/event-stream", pieces: pieces.boxed() }
    }
}

impl Fake {
    /// Starts an upstream that answers each request by `answer`.
    pub async fn start(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, gone) = mpsc::unbounded_channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (answer, log, sender) = (Arc::clone(&answer), Arc::clone(&log), sender.clone());
                let service = service_fn(move |request| respond(request, Arc::clone(&answer), Arc::clone(&log), sender.clone()));
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, seen, gone }
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The last request.
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("the upstream was called")
    }

    /// Waits until a client goes away before its answer is complete.
    pub async fn client_gone(&mut self) {
        self.gone.recv().await.unwrap();
    }
}

async fn respond(
    request: Request<Incoming>,
    answer: Arc<impl Fn(&Seen) -> Answer>,
    log: Arc<Mutex<Vec<Seen>>>,
    gone: mpsc::UnboundedSender<()>,
) -> Result<Response<UnsyncBoxBody<Bytes, io::Error>>, Infallible> {
    let mut watch = Watch { gone, complete: false };
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let seen = Seen { path: parts.uri.path().to_owned(), headers: parts.headers, body };
    log.lock().unwrap().push(seen.clone());
    let response = match answer(&seen) {
        Answer::Whole { status, headers, body } => {
            watch.complete = true;
            let mut response = Response::new(whole(body));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
        Answer::Pieces { content_type, pieces } => {
            let body = StreamBody::new(Watched { inner: pieces.map(|piece| piece.map(Frame::data)), watch });
            let mut response = Response::new(body.boxed_unsync());
            response.headers_mut().insert("content-type", content_type.parse().unwrap());
            response
        }
        Answer::Silence => {
            std::future::pending::<()>().await;
            drop(watch);
            Response::new(whole(Bytes::new()))
        }
    };
    Ok(response)
}

fn whole(body: Bytes) -> UnsyncBoxBody<Bytes, io::Error> {
    http_body_util::Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

impl<S: Stream + Unpin> Stream for Watched<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.inner.poll_next_unpin(cx);
        if matches!(polled, Poll::Ready(None)) {
            self.watch.complete = true;
        }
        polled
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.complete {
            // The test may be over, and its receiver gone.
            self.gone.send(()).unwrap_or_default();
        }
    }
}

/// Fails the test instead of waiting for ever; generous, for a loaded machine.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(std::time::Duration::from_secs(20), future).await {
        Ok(done) => done,
        Err(_) => panic!("{what} did not happen in time"),
    }
}
