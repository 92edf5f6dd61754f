//! A scripted upstream on a real socket: it records what it was asked, answers as told, and says when its client is gone.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
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
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{Semaphore, mpsc},
};

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
    log: Arc<Log>,
    called: mpsc::UnboundedReceiver<()>,
    gone: mpsc::UnboundedReceiver<()>,
}

/// What all its connections share.
#[derive(Default)]
struct Log {
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
}

/// What lets a stream go on.
#[derive(Clone)]
pub struct Gate(Arc<Semaphore>);

/// An address where nobody listens, for as long as this lives.
pub struct Nobody {
    pub url: String,
    _socket: TcpSocket,
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

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Whether a streamed answer is asked for.
    pub fn wants_stream(&self) -> bool {
        serde_json::from_slice::<serde_json::Value>(&self.body).is_ok_and(|body| body["stream"] == true)
    }
}

impl Answer {
    /// JSON with status 200.
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self::status(200, body)
    }

    /// JSON with a status.
    pub fn status(status: u16, body: impl Into<Bytes>) -> Self {
        Self::of_type(status, "application/json", body)
    }

    /// Anything else.
    pub fn of_type(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self::Whole { status, headers: vec![("content-type", content_type.to_owned())], body: body.into() }
    }

    /// Server-sent events, all at once.
    pub fn events<T: AsRef<str>>(events: &[T]) -> Self {
        Self::sse(pieces(events))
    }

    /// Server-sent events in pieces.
    pub fn sse(pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self::Pieces { content_type: "text/event-stream", pieces: pieces.boxed() }
    }
}

/// Server-sent events as pieces of a body.
pub fn pieces<T: AsRef<str>>(events: &[T]) -> BoxStream<'static, io::Result<Bytes>> {
    let pieces: Vec<_> = events.iter().map(|event| Ok(Bytes::from(format!("data: {}\n\n", event.as_ref())))).collect();
    stream::iter(pieces).boxed()
}

/// The end of a connection that is not the end of its answer; what stands before it arrives.
pub fn cut() -> BoxStream<'static, io::Result<Bytes>> {
    let cut = async {
        // hyper drops what is not yet written when a body fails, so the pieces before must be out by then.
        tokio::task::yield_now().await;
        Err(io::Error::other("cut"))
    };
    stream::once(cut).boxed()
}

impl Gate {
    /// Shut.
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets one stream through.
    pub fn open(&self) {
        self.0.add_permits(1);
    }

    /// The stream, once it is let through.
    pub fn before<T: Send + 'static>(&self, stream: impl Stream<Item = T> + Send + 'static) -> BoxStream<'static, T> {
        let gate = Arc::clone(&self.0);
        stream::once(async move {
            gate.acquire_owned().await.unwrap().forget();
            stream
        })
        .flatten()
        .boxed()
    }
}

impl Nobody {
    /// Takes a port and does not listen on it.
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self { url: format!("http://{}", socket.local_addr().unwrap()), _socket: socket }
    }
}

impl Fake {
    /// Starts an upstream that answers each request by `answer`.
    pub async fn start(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (gone_sender, gone) = mpsc::unbounded_channel();
        let (called_sender, called) = mpsc::unbounded_channel();
        let log = Arc::new(Log::default());
        let server = Server { answer: Arc::new(answer), log: Arc::clone(&log), called: called_sender, gone: gone_sender };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                server.log.connections.fetch_add(1, SeqCst);
                let server = server.clone();
                let service = service_fn(move |request| server.clone().respond(request));
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, log, called, gone }
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.log.seen.lock().unwrap().clone()
    }

    /// The last request.
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("the upstream was called")
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.log.connections.load(SeqCst)
    }

    /// Waits for the next request.
    pub async fn called(&mut self) {
        soon("a call of the upstream", self.called.recv()).await.unwrap();
    }

    /// Waits until the clients of all requests so far have gone away.
    pub async fn all_gone(&mut self) {
        for _ in 0..self.seen().len() {
            self.client_gone().await;
        }
    }

    /// Lets [`Fake::called`] wait for requests from now on.
    pub fn forget_calls(&mut self) {
        while self.called.try_recv().is_ok() {}
    }

    /// Waits until a client goes away before its answer is complete.
    pub async fn client_gone(&mut self) {
        soon("the end of the upstream's connection", self.gone.recv()).await.unwrap();
    }
}

struct Server<A> {
    answer: Arc<A>,
    log: Arc<Log>,
    called: mpsc::UnboundedSender<()>,
    gone: mpsc::UnboundedSender<()>,
}

impl<A> Clone for Server<A> {
    fn clone(&self) -> Self {
        let Self { answer, log, called, gone } = self;
        Self { answer: Arc::clone(answer), log: Arc::clone(log), called: called.clone(), gone: gone.clone() }
    }
}

impl<A: Fn(&Seen) -> Answer> Server<A> {
    async fn respond(self, request: Request<Incoming>) -> Result<Response<UnsyncBoxBody<Bytes, io::Error>>, Infallible> {
        let mut watch = Watch { gone: self.gone, complete: false };
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let seen = Seen { path: parts.uri.path().to_owned(), headers: parts.headers, body };
        self.log.seen.lock().unwrap().push(seen.clone());
        // The test may be over, and its receiver gone.
        self.called.send(()).unwrap_or_default();
        Ok(match (self.answer)(&seen) {
            Answer::Whole { status, headers, body } => {
                watch.complete = true;
                let mut response = Response::new(whole(body));
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                for (name, value) in headers {
                    response.headers_mut().append(name, value.parse().unwrap());
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
        })
    }
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

/// Waits until something holds that nothing announces.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let pause = std::time::Duration::from_millis(1);
    soon(what, async {
        while !holds() {
            tokio::time::sleep(pause).await;
        }
    })
    .await;
}
