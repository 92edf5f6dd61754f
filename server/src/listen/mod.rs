//! The server's sockets: accept, TLS, HTTP/1.1 and h2, connection age, drain. Knows nothing of what is served.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use http::{Request, Response};
use hyper::{body::Incoming, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::{either::Either, sync::CancellationToken};

use crate::{
    config,
    error::Result,
    identity::Peer,
    task::{Cut, Tasks},
};

mod connection;
mod tls;
mod wire;

use connection::{Door, Passing, Spawner};
pub use tls::TlsAcceptor;
use wire::Wire;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long a client may take for its TLS handshake or, in the clear, for its first byte.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take from then until its first request has begun, which is when the head of it is complete.
const FIRST: Duration = Duration::from_secs(30);
/// How long an HTTP/1.1 client may take for a request's head. hyper counts from the end of the answer before it, so that this bounds
/// idling too: load balancers keep idle connections for 60 s and must be the first to close them.
const HEAD: Duration = Duration::from_secs(75);
/// How long a connection that may have a request on its way stays open once it is to close, and one whose calls were cut.
const LINGER: Duration = Duration::from_millis(500);
/// How long a client may take none of what it was sent. Then the connection is closed, and with it what is under way upstream.
#[cfg(target_os = "linux")]
const STUCK: Duration = Duration::from_secs(120);
/// The most bytes of a request's head.
const MOST_HEAD: u32 = 64 << 10;

/// How a listener serves.
#[derive(Debug)]
pub struct Options {
    /// TLS; `None`: in the clear.
    pub tls: Option<TlsAcceptor>,
    /// When a connection is asked to be made anew, ±10 %.
    pub max_connection_age: Duration,
    /// How long calls may finish after the shutdown began.
    pub grace: Duration,
    /// What calls then hear, so that they can tell their clients before the connections are cut.
    pub cut: Cut,
    /// More wait in the system's queue.
    pub max_connections: u32,
}

/// What all connections of one listener share.
struct Shared {
    http: auto::Builder<Spawner>,
    tls: Option<TlsAcceptor>,
    max_age: Duration,
    /// Accept no more, and let calls finish.
    shutdown: CancellationToken,
    /// Let go of what is still open.
    cut: CancellationToken,
}

impl Options {
    /// The options of a configuration.
    ///
    /// # Errors
    /// An internal error that names a TLS file which cannot be used.
    pub fn new(config: &config::Config) -> Result<Self> {
        Ok(Self {
            tls: config.tls.as_ref().map(TlsAcceptor::new).transpose()?,
            max_connection_age: config.max_connection_age,
            grace: config.shutdown_grace,
            cut: Cut::default(),
            max_connections: 10_000,
        })
    }
}

/// Serves until `shutdown`, then until all calls and all of `tasks` have finished or the grace is over. Tells how many tasks are left
/// behind.
///
/// A connection is never closed between a request and its answer: h2 clients get a GOAWAY, HTTP/1.1 clients
/// `connection: close` with their next answer; only connections that stay silent for a moment are closed as they are.
pub async fn serve<S, B>(listener: TcpListener, service: S, options: Options, shutdown: CancellationToken, tasks: &Tasks) -> usize
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let slots = Arc::new(Semaphore::new(options.max_connections as usize));
    let shared = Arc::new(Shared {
        http: http(tasks),
        tls: options.tls,
        max_age: options.max_connection_age,
        shutdown,
        cut: CancellationToken::new(),
    });
    let start = |(stream, address): (TcpStream, SocketAddr), slot: OwnedSemaphorePermit| {
        let (shared, service) = (Arc::clone(&shared), service.clone());
        tasks.spawn(async move {
            tokio::select! {
                biased;
                () = carry(&shared, stream, address, service) => {}
                () = first_of([shared.cut.cancelled().boxed()]) => {}
            }
            drop(slot);
        });
    };
    while let Some(accepted) = shared.shutdown.run_until_cancelled(accept(&listener, &slots)).await {
        start(accepted.0, accepted.1);
    }
    // Those whose connection the system has accepted for us are served as well.
    while let (Some(Ok(accepted)), Ok(slot)) = (listener.accept().now_or_never(), Arc::clone(&slots).try_acquire_owned()) {
        start(accepted, slot);
    }
    drop(listener);
    let until = Instant::now() + options.grace;
    drain((&options.cut, &shared.cut), &slots, options.max_connections, until).await;
    // Calls on h2 are tasks of their own, which end after their connection; cut ones get a moment to close their records.
    if timeout_at(until.max(Instant::now() + LINGER), tasks.finished()).await.is_err() {
        tracing::warn!(tasks = tasks.left(), "the grace is over, what is still running is left behind");
    }
    tasks.left()
}

/// Waits until every connection has given its slot back; when the grace is over, calls are cut first and then the connections.
async fn drain((calls, connections): (&Cut, &CancellationToken), slots: &Semaphore, all: u32, until: Instant) {
    if timeout_at(until, slots.acquire_many(all)).await.is_ok() {
        return;
    }
    let open = all as usize - slots.available_permits();
    tracing::warn!(connections = open, "the grace is over, calls in flight are cut");
    calls.end();
    if timeout(LINGER, slots.acquire_many(all)).await.is_ok() {
        return;
    }
    connections.cancel();
    // The semaphore is never closed, so there is no other outcome.
    drop(slots.acquire_many(all).await);
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> ((TcpStream, SocketAddr), OwnedSemaphorePermit) {
    let mut pause = Duration::from_millis(5);
    loop {
        let Ok(slot) = Arc::clone(slots).acquire_owned().await else {
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok(accepted) => return (accepted, slot),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: only time helps, and the error would come back at once.
                tracing::warn!(%error, "cannot accept connections");
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// One connection from its first byte to its last.
async fn carry<S, B>(shared: &Shared, stream: TcpStream, address: SocketAddr, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let Some((io, certificate)) = timeout(PATIENCE, greet(shared, stream)).await.ok().flatten() else { return };
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    let passing = Arc::new(Passing::default());
    let door = Door::new(service, Peer { address, certificate }, Arc::clone(&passing));
    let mut connection = std::pin::pin!(shared.http.serve_connection(TokioIo::new(io), door));
    let age = sleep(shared.max_age.mul_f64(fastrand::f64().mul_add(0.2, 0.9)));
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = first_of([age.boxed(), shared.shutdown.cancelled().boxed(), passing.silence(FIRST).boxed()]) => {}
    }
    passing.close();
    if !passing.is_h2() {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = sleep(LINGER) => {}
        }
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        ended = connection => if let Err(error) = ended {
            tracing::debug!(error, "a connection ended badly");
        },
        () = passing.silence(PATIENCE) => {}
    }
}

/// Ends with the first of these. Each is asked only when it has something to say, not whenever the connection has: asking
/// takes locks that all connections share.
async fn first_of<const N: usize>(ends: [BoxFuture<'_, ()>; N]) {
    FuturesUnordered::from_iter(ends).next().await;
}

/// TLS, or the wait for the first byte; `None` when the client went away. The certificate is the client's.
async fn greet(shared: &Shared, stream: TcpStream) -> Option<(Wire, Option<Bytes>)> {
    set_options(&stream);
    let Some(tls) = &shared.tls else {
        stream.readable().await.ok()?;
        return Some((Wire::new(Either::Left(stream)), None));
    };
    let peer = stream.peer_addr().ok();
    match tls.accept(stream).await {
        Ok(stream) => {
            let certificates = stream.get_ref().1.peer_certificates();
            let certificate = certificates.and_then(|chain| chain.first()).map(|certificate| Bytes::copy_from_slice(certificate));
            Some((Wire::new(Either::Right(stream)), certificate))
        }
        Err(error) => {
            tracing::info!(peer = ?peer, %error, "a TLS handshake failed");
            None
        }
    }
}

/// Without them the connection still works, only worse.
fn set_options(stream: &TcpStream) {
    let keepalive = socket2::TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    let socket = socket2::SockRef::from(stream);
    let set = socket.set_tcp_nodelay(true).and_then(|()| socket.set_tcp_keepalive(&keepalive));
    #[cfg(target_os = "linux")]
    let set = set.and_then(|()| socket.set_tcp_user_timeout(Some(STUCK)));
    if let Err(error) = set {
        tracing::debug!(%error, "a socket option cannot be set");
    }
}

/// HTTP/1.1 and h2 with every bound that either has.
fn http(tasks: &Tasks) -> auto::Builder<Spawner> {
    let mut http = auto::Builder::new(Spawner(tasks.clone()));
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_headers(128).max_buf_size(MOST_HEAD as usize);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(1024)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_header_list_size(MOST_HEAD)
        .max_pending_accept_reset_streams(50)
        .max_local_error_reset_streams(1024);
    http
}

#[cfg(test)]
mod tests;
