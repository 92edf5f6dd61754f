//! One server behind a deployment: its connections, how busy and how fast it is, and whether it is fit to be asked.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Relaxed},
        },
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, header::PROXY_AUTHORIZATION};
use tokio::time::Instant;

use super::{
    body::Body,
    ejection::Ejection,
    latency::Latency,
    mock::Mock,
    pool::{Pool, Unsent},
    server::{Ready, Server},
};
use crate::{call::ReplicaId, config, dialect::Settings, error::Result, telemetry::upstreams::Series};

/// How long a replica that could not be reached is passed over when there is another.
pub(super) const BENCH: Duration = Duration::from_secs(1);

/// One server; shared by all deployments at its address.
pub(super) struct Replica {
    pub(super) id: ReplicaId,
    pub(super) client: Client,
    pub(super) ejection: Ejection,
    in_flight: AtomicUsize,
    latency: Latency,
    /// It does not pass its health checks.
    unhealthy: AtomicBool,
    born: Instant,
    /// When it could last not be reached, in milliseconds after `born`, plus one; 0 for never.
    unreachable: AtomicU64,
}

/// How a replica is spoken to.
#[derive(Debug)]
pub(super) enum Client {
    /// By sockets.
    Sockets(Sockets),
    /// Without: it is run in this process, or by it.
    Own(Arc<dyn Server>),
    /// Not at all: it is made up.
    Mock(Mock),
}

/// The connections of one server.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) pool: Arc<Pool>,
    /// For a proxy that reads the requests.
    pub(super) authorization: Option<HeaderValue>,
    pub(super) series: Arc<Series>,
}

/// A call that a replica is busy with.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Replica>);

/// A replica that is ready for one request.
pub(super) enum Reach<'a> {
    Sockets(&'a Replica, &'a Sockets),
    Own(Box<dyn Ready>),
    Mock(&'a Mock),
}

impl Replica {
    pub(super) fn new(client: Client) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self {
            id: ReplicaId(LAST.fetch_add(1, Relaxed)),
            client,
            ejection: Ejection::default(),
            in_flight: AtomicUsize::new(0),
            latency: Latency::default(),
            unhealthy: AtomicBool::new(false),
            born: Instant::now(),
            unreachable: AtomicU64::new(0),
        }
    }

    /// Counts a call as under way until the guard is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Calls under way.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// How long its answers take, in milliseconds; `None` when none was seen.
    pub(super) fn latency(&self, now: Instant) -> Option<f32> {
        self.latency.at(now - self.born)
    }

    /// A call was answered: the provider did what it could.
    pub(super) fn answered(&self, took: Duration) {
        self.latency.observe(self.born.elapsed(), took);
        self.ejection.answered();
    }

    /// Nobody waits any more for an answer that took at least so long. Somebody's impatience is no answer that was fast.
    pub(super) fn was_slow(&self, waited: Duration) {
        let now = self.born.elapsed();
        if self.latency.at(now).is_none_or(|average| waited.as_secs_f32() * 1000.0 > average) {
            self.latency.observe(now, waited);
        }
    }

    /// Whether it is to be asked when there is a choice.
    pub(super) fn is_fit(&self) -> bool {
        !self.ejection.is_out() && self.is_alive()
    }

    /// Whether nothing speaks against it but calls that failed.
    pub(super) fn is_alive(&self) -> bool {
        self.is_healthy() && !self.is_benched()
    }

    /// Whether it passes its health checks, if there are any.
    pub(super) fn is_healthy(&self) -> bool {
        !self.unhealthy.load(Relaxed)
    }

    /// What the health checks say of it; `cause` of a failure is for the log.
    pub(super) fn set_healthy(&self, healthy: bool, cause: &str) {
        let changed = self.unhealthy.swap(!healthy, Relaxed) == healthy;
        let Some(series) = self.series().filter(|_| changed) else { return };
        series.healthy(healthy);
        if healthy {
            tracing::info!(upstream = series.upstream(), "an upstream passes its health checks again");
        } else {
            tracing::warn!(upstream = series.upstream(), cause, "an upstream fails its health checks; it is left out until it passes them");
        }
    }

    /// Leaves it out for a while, since its calls fail. For how long; `None` when it is out already.
    pub(super) fn eject(&self, settings: &config::Ejection) -> Option<Duration> {
        let time = self.ejection.eject(settings)?;
        if let Some(series) = self.series() {
            series.ejected();
            tracing::warn!(upstream = series.upstream(), ?time, "an upstream is left out for a while, since its calls fail");
        }
        Some(time)
    }

    /// The while is over.
    pub(super) fn take_back(&self) {
        self.ejection.take_back();
        if let Some(series) = self.series() {
            series.returned();
            tracing::info!(upstream = series.upstream(), "an upstream that was left out is tried again");
        }
    }

    fn series(&self) -> Option<&Series> {
        match &self.client {
            Client::Sockets(sockets) => Some(&sockets.series),
            Client::Own(_) | Client::Mock(_) => None,
        }
    }

    async fn send(&self, sockets: &Sockets, request: http::Request<Bytes>) -> Result<http::Response<Body>, Unsent> {
        let sent = sockets.send(request).await;
        match &sent {
            Err(Unsent::Connect(cause)) => self.is_away(sockets, cause),
            Ok(_) if self.unreachable.load(Relaxed) > 0 => self.is_back(sockets),
            Ok(_) | Err(Unsent::Exchange(_) | Unsent::Refused(_)) => {}
        }
        sent
    }

    fn is_away(&self, sockets: &Sockets, cause: &str) {
        if self.bench() {
            tracing::warn!(upstream = sockets.series.upstream(), cause, "an upstream cannot be reached");
        }
    }

    fn is_back(&self, sockets: &Sockets) {
        if self.unreachable.swap(0, AcqRel) > 0 {
            tracing::info!(upstream = sockets.series.upstream(), "an upstream can be reached again");
        }
    }

    /// Passes it over for a moment. Whether it was reachable before.
    pub(super) fn bench(&self) -> bool {
        let elapsed = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.unreachable.swap(elapsed + 1, AcqRel) == 0
    }

    fn is_benched(&self) -> bool {
        let unreachable = self.unreachable.load(Relaxed);
        unreachable > 0 && self.born + Duration::from_millis(unreachable - 1) + BENCH > Instant::now()
    }
}

impl Sockets {
    /// Sends a request and waits for the head of the response.
    ///
    /// # Errors
    /// Those of the connection.
    pub(super) async fn send(&self, mut request: http::Request<Bytes>) -> Result<http::Response<Body>, Unsent> {
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        let response = self.pool.send(request).await?;
        Ok(response.map(Body::from))
    }
}

impl InFlight {
    /// Waits until the replica is ready for the call's request: only a model that is run here may not be.
    ///
    /// # Errors
    /// What keeps that model from running.
    pub(super) async fn ready(&self) -> Result<Reach<'_>> {
        Ok(match &self.0.client {
            Client::Sockets(sockets) => Reach::Sockets(&self.0, sockets),
            Client::Own(server) => Reach::Own(server.enter().await?),
            Client::Mock(mock) => Reach::Mock(mock),
        })
    }
}

impl Reach<'_> {
    /// What the model says of itself; `None` for one that is not asked for it.
    pub(super) fn settings(&self) -> Option<&Settings> {
        match self {
            Self::Own(ready) => Some(ready.settings()),
            Self::Sockets(..) | Self::Mock(_) => None,
        }
    }

    /// Sends the call's request and waits for the head of the response.
    ///
    /// # Errors
    /// Those of the connection; the replica then counts as unreachable if it could not be connected.
    pub(super) async fn send(self, request: http::Request<Bytes>) -> Result<http::Response<Body>, Unsent> {
        match self {
            Self::Sockets(replica, sockets) => replica.send(sockets, request).await,
            Self::Own(ready) => ready.answer(request).await.map_err(Unsent::Refused),
            Self::Mock(mock) => Ok(mock.answer(request).await),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("id", &self.id).field("in_flight", &self.in_flight).finish_non_exhaustive()
    }
}
