//! The connections to one server: which one a request takes, when another is opened, when an idle one is let go.

use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _, Stream,
    future::{BoxFuture, Shared, WeakShared},
};
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header::HOST, uri::Scheme};
use http_body_util::Full;
use hyper::{
    body::{Body as _, Incoming, SizeHint},
    client::conn::{TrySendError, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::{Instant, sleep};

use super::{
    body::BoxError,
    connect::{Connector, Socket},
    exchange::chain,
    line::Line,
};
use crate::{
    error::{Error, Result},
    task::Tasks,
};

/// More idle HTTP/1.1 connections than this are closed after their answer.
const MOST_IDLE: usize = 1024;
/// How many h2 connections one server gets before they are filled up: one connection is one core and one window.
pub(super) const USUAL_H2: usize = 4;
/// How many calls each of these carries before another one is opened.
pub(super) const ENOUGH_STREAMS: usize = 32;
/// How many calls a connection carries at all before another one is opened: servers allow a hundred or more, and the rest would wait.
pub(super) const FULL: usize = 100;

/// The connections to one server.
pub(super) struct Pool {
    connector: Connector,
    /// Scheme and authority of the server.
    origin: Uri,
    host: HeaderValue,
    /// `host:port`, for logs and metrics.
    name: String,
    /// How long an unused connection is kept.
    patience: Duration,
    open: Mutex<Open>,
    tasks: Tasks,
}

/// Why a request got no response.
#[derive(Debug)]
pub(super) enum Unsent {
    /// There is no connection, and what was tried.
    Connect(Arc<str>),
    /// It failed on its connection.
    Exchange(hyper::Error),
    /// The server, which is our own, cannot take it.
    Refused(Error),
}

/// The body of a response off a socket.
pub(super) struct Received {
    body: Incoming,
    /// What came behind it.
    trailers: HeaderMap,
    carrier: Carrier,
}

#[derive(Default)]
struct Open {
    /// Free HTTP/1.1 connections, the last used one last.
    lines: Vec<(Box<Line>, Instant)>,
    h2: Vec<Multiplexed>,
    /// The server chose HTTP/1.1 when it could choose.
    chose_h1: bool,
    /// The first connection to a server that may speak h2: who comes meanwhile waits for it. Lives while anybody waits.
    opening: Option<WeakShared<Outcome>>,
    /// Whether somebody looks after idle connections.
    swept: bool,
}

type Outcome = BoxFuture<'static, Result<(), Arc<str>>>;
type Opening = Shared<Outcome>;
type Sender = http2::SendRequest<Full<Bytes>>;

struct Multiplexed {
    sender: Sender,
    /// Held once by the pool and once by each call.
    calls: Arc<()>,
    used: Instant,
}

/// A new connection.
enum Opened {
    Line(Box<Line>),
    H2(Sender),
}

/// What a request is sent on.
enum Way {
    Line(Box<Line>),
    H2(Sender, Arc<()>),
}

enum Carrier {
    /// Until the answer is complete.
    Line(Option<Box<Line>>, Arc<Pool>),
    H2 {
        _call: Arc<()>,
    },
}

impl Pool {
    /// No connections yet. `base` names the server.
    ///
    /// # Errors
    /// An internal error when it has no host.
    pub(super) fn new(connector: Connector, base: &Uri, tasks: Tasks) -> Result<Arc<Self>> {
        let https = base.scheme() == Some(&Scheme::HTTPS);
        let authority = base.authority().map_or("", |authority| authority.as_str());
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let wrong = || Error::internal("an upstream address is not an address");
        let host = HeaderValue::from_str(authority).map_err(|error| wrong().because(error))?;
        let scheme = if https { Scheme::HTTPS } else { Scheme::HTTP };
        let origin = Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build();
        let origin = origin.map_err(|error| wrong().because(error))?;
        // uvicorn, which serves MLflow models, closes idle connections after 5 s: be the first to let go, else a request
        // may meet the close on its way. Providers behind https keep theirs for minutes.
        let patience = Duration::from_secs(if https { 60 } else { 4 });
        let name = connector.name(&origin);
        Ok(Arc::new(Self { connector, origin, name, host, patience, open: Mutex::default(), tasks }))
    }

    /// `host:port`, for logs and metrics.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Scheme and authority of the server.
    pub(super) fn origin(&self) -> &Uri {
        &self.origin
    }

    /// A new socket beside the pool.
    ///
    /// # Errors
    /// Those of DNS, TCP, proxy and TLS.
    pub(super) async fn socket(&self) -> Result<Socket, BoxError> {
        self.connector.open(&self.origin).await
    }

    /// Sends a request and waits for the head of the response. A connection that turns out to be closed before anything was
    /// written on it is no failure: another one is taken.
    ///
    /// # Errors
    /// Those of connections.
    pub(super) async fn send(self: &Arc<Self>, request: Request<Bytes>) -> Result<Response<Received>, Unsent> {
        let mut request = request.map(Full::new);
        loop {
            let (way, fresh) = match self.free() {
                Some(way) => (way, false),
                // Boxed: seldom, and large by DNS and TLS.
                None => self.connect().boxed().await?,
            };
            self.address(&mut request, &way);
            let mut failed = match self.send_on(way, request).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            match failed.take_message() {
                Some(unsent) if !fresh => request = unsent,
                _ => return Err(Unsent::Exchange(failed.into_error())),
            }
        }
    }

    async fn send_on(
        self: &Arc<Self>,
        way: Way,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Received>, TrySendError<Request<Full<Bytes>>>> {
        match way {
            Way::Line(mut line) => {
                let response = line.send(request).await?;
                Ok(response.map(|body| {
                    Received { body, trailers: HeaderMap::new(), carrier: Carrier::Line(Some(line), Arc::clone(self)) }.settled()
                }))
            }
            Way::H2(mut sender, call) => {
                let response = sender.try_send_request(request).await?;
                Ok(response.map(|body| Received { body, trailers: HeaderMap::new(), carrier: Carrier::H2 { _call: call } }))
            }
        }
    }

    /// Writes target and host as they are written on this connection.
    fn address(&self, request: &mut Request<Full<Bytes>>, way: &Way) {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        let whole = matches!(way, Way::H2(..)) || self.connector.is_forwarded();
        parts.scheme = self.origin.scheme().filter(|_| whole).cloned();
        parts.authority = self.origin.authority().filter(|_| whole).cloned();
        // A path with or without an authority is always an address.
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        match way {
            Way::Line(_) => request.headers_mut().insert(HOST, self.host.clone()),
            Way::H2(..) => request.headers_mut().remove(HOST),
        };
    }

    /// A connection that is there and not too busy.
    fn free(&self) -> Option<Way> {
        loop {
            let (mut line, since) = {
                let mut open = self.open();
                open.h2.retain(|h2| !h2.sender.is_closed());
                let room = if open.h2.len() < USUAL_H2 { ENOUGH_STREAMS } else { FULL };
                if let Some(h2) = open.least_busy().filter(|h2| h2.calls() < room) {
                    return Some(h2.carry());
                }
                open.lines.pop()?
            };
            // Outside of the lock, since it may read from the socket.
            if since.elapsed() < self.patience && line.is_free() {
                return Some(Way::Line(line));
            }
        }
    }

    /// A new connection, and whether it was never used. Of the first ones to a server that may speak h2 only one is made, for all who
    /// wait. If there is none to be had, a busy one has to do.
    async fn connect(self: &Arc<Self>) -> Result<(Way, bool), Unsent> {
        loop {
            let failed = match self.opening() {
                Some(opening) => opening.await.err(),
                None => match open(&self.connector, &self.origin, &self.tasks).await {
                    Ok(opened) => return Ok((self.take(opened), true)),
                    Err(cause) => Some(cause),
                },
            };
            if let Some(cause) = failed {
                let busy = self.open().least_busy().map(Multiplexed::carry);
                return busy.map(|way| (way, false)).ok_or(Unsent::Connect(cause));
            }
            if let Some(way) = self.free() {
                return Ok((way, false));
            }
        }
    }

    /// The connection that is being opened for all; `None` if each call opens its own.
    fn opening(self: &Arc<Self>) -> Option<Opening> {
        let mut state = self.open();
        if !self.connector.may_share() || state.chose_h1 {
            return None;
        }
        if let Some(opening) = state.opening.as_ref().and_then(WeakShared::upgrade) {
            return Some(opening);
        }
        // Not the pool itself, which knows of this future.
        let (pool, connector, origin, tasks) = (Arc::downgrade(self), self.connector.clone(), self.origin.clone(), self.tasks.clone());
        let opening = async move {
            let opened = open(&connector, &origin, &tasks).await;
            let Some(pool) = pool.upgrade() else { return Ok(()) };
            pool.open().opening = None;
            if let Way::Line(line) = pool.take(opened?) {
                pool.keep(line);
            }
            Ok(())
        };
        let opening = opening.boxed().shared();
        state.opening = opening.downgrade();
        Some(opening)
    }

    /// Takes note of what a new connection speaks.
    fn take(self: &Arc<Self>, opened: Opened) -> Way {
        let mut state = self.open();
        match opened {
            Opened::Line(line) => {
                state.chose_h1 = true;
                Way::Line(line)
            }
            Opened::H2(sender) => {
                state.chose_h1 = false;
                let mut h2 = Multiplexed { sender, calls: Arc::default(), used: Instant::now() };
                let way = h2.carry();
                state.h2.push(h2);
                self.look_after(&mut state);
                way
            }
        }
    }

    /// Keeps a connection whose answer is complete for another request.
    fn keep(self: &Arc<Self>, mut line: Box<Line>) {
        // Drives it to rest, too, or to its end if the server wants it closed.
        if !line.is_free() {
            return;
        }
        let mut state = self.open();
        if state.lines.len() < MOST_IDLE {
            state.lines.push((line, Instant::now()));
        }
        self.look_after(&mut state);
    }

    /// Sees to it that idle connections are let go of.
    fn look_after(self: &Arc<Self>, state: &mut Open) {
        if !std::mem::replace(&mut state.swept, true) {
            self.tasks.spawn(sweep(Arc::downgrade(self), self.patience));
        }
    }

    /// Lets go of connections that nobody has used for a while. Whether there are others.
    fn sweep(&self) -> bool {
        let mut state = self.open();
        let fresh = state.lines.partition_point(|(_, since)| since.elapsed() >= self.patience);
        let stale: Vec<_> = state.lines.drain(..fresh).collect();
        let now = Instant::now();
        state.h2.iter_mut().filter(|h2| h2.calls() > 0).for_each(|h2| h2.used = now);
        state.h2.retain(|h2| now - h2.used < self.patience);
        state.swept = !(state.lines.is_empty() && state.h2.is_empty());
        let left = state.swept;
        drop(state);
        drop(stale);
        left
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sweep(pool: Weak<Pool>, patience: Duration) {
    loop {
        sleep(patience).await;
        if !pool.upgrade().is_some_and(|pool| pool.sweep()) {
            return;
        }
    }
}

async fn open(connector: &Connector, origin: &Uri, tasks: &Tasks) -> Result<Opened, Arc<str>> {
    let told = |error: &(dyn StdError + 'static)| Arc::from(chain(error));
    let Socket { io, h2 } = connector.open(origin).await.map_err(|error| told(&*error))?;
    if !h2 {
        return Line::new(io).await.map(Opened::Line).map_err(|error| told(&error));
    }
    let shaken = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(2 << 20)
        .initial_connection_window_size(8 << 20)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(io))
        .await;
    let (sender, connection) = shaken.map_err(|error| told(&error))?;
    tasks.spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to an upstream ended badly");
        }
    });
    Ok(Opened::H2(sender))
}

impl Open {
    fn least_busy(&mut self) -> Option<&mut Multiplexed> {
        self.h2.iter_mut().min_by_key(|h2| h2.calls())
    }
}

impl Multiplexed {
    /// Takes one more call.
    fn carry(&mut self) -> Way {
        self.used = Instant::now();
        Way::H2(self.sender.clone(), Arc::clone(&self.calls))
    }

    fn calls(&self) -> usize {
        Arc::strong_count(&self.calls) - 1
    }
}

impl Received {
    /// What the upstream says is still to come.
    pub(super) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    /// What came behind the body, once that has been read, over HTTP/2.
    pub(super) fn trailers(self) -> HeaderMap {
        self.trailers
    }

    /// Gives the connection back if the answer is complete.
    fn settled(mut self) -> Self {
        if self.body.is_end_stream() {
            self.settle();
        }
        self
    }

    fn settle(&mut self) {
        if let Carrier::Line(line, pool) = &mut self.carrier {
            line.take().into_iter().for_each(|line| pool.keep(line));
        }
    }
}

impl Stream for Received {
    type Item = hyper::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let piece = match &mut this.carrier {
            Carrier::Line(Some(line), _) => ready!(line.poll_body(&mut this.body, cx)),
            Carrier::Line(None, _) => None,
            Carrier::H2 { .. } => loop {
                match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(piece) => break Some(Ok(piece)),
                        Err(frame) => this.trailers = frame.into_trailers().unwrap_or_default(),
                    },
                    Some(Err(error)) => break Some(Err(error)),
                    None => break None,
                }
            },
        };
        if piece.is_none() || this.body.is_end_stream() {
            this.settle();
        }
        Poll::Ready(piece)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("host", &self.host).finish_non_exhaustive()
    }
}
