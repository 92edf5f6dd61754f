//! One server behind a deployment: its pools, how busy it is, and which of several to take.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, header::PROXY_AUTHORIZATION};
use tokio::time::Instant;

use super::{
    body::Body,
    mock::Mock,
    pool::{Pool, Unsent},
};

/// How long a replica that could not be reached is passed over when there is another.
const BENCH: Duration = Duration::from_secs(1);

/// One server; shared by all deployments at its address.
pub(super) struct Replica {
    client: Client,
    in_flight: AtomicUsize,
    born: Instant,
    /// When it could last not be reached, in milliseconds after `born`, plus one; 0 for never.
    unreachable: AtomicU64,
}

/// How a replica is spoken to.
#[derive(Debug)]
pub(super) enum Client {
    /// By sockets.
    Sockets(Sockets),
    /// Not at all: it is made up.
    Mock(Mock),
}

/// The connections of one server.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) pool: Arc<Pool>,
    /// For a proxy that reads the requests.
    pub(super) authorization: Option<HeaderValue>,
}

/// A call that a replica is busy with.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Replica>);

impl Replica {
    pub(super) fn new(client: Client) -> Self {
        Self { client, in_flight: AtomicUsize::new(0), born: Instant::now(), unreachable: AtomicU64::new(0) }
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// # Errors
    /// Those of the connection; the replica then counts as unreachable if it could not be connected.
    pub(super) async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, Unsent> {
        match &self.client {
            Client::Mock(mock) => Ok(mock.answer(request).await),
            Client::Sockets(sockets) => {
                let sent = sockets.send(request).await;
                match &sent {
                    Err(Unsent::Connect(cause)) => self.is_away(sockets, cause),
                    Ok(_) if self.unreachable.load(Relaxed) > 0 => self.is_back(sockets),
                    Ok(_) | Err(Unsent::Exchange(_)) => {}
                }
                sent
            }
        }
    }

    /// Counts a call as under way until the guard is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }

    fn is_away(&self, sockets: &Sockets, cause: &str) {
        let elapsed = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        if self.unreachable.swap(elapsed + 1, Relaxed) == 0 {
            tracing::warn!(upstream = sockets.pool.name(), cause, "an upstream cannot be reached");
        }
    }

    fn is_back(&self, sockets: &Sockets) {
        if self.unreachable.swap(0, Relaxed) > 0 {
            tracing::info!(upstream = sockets.pool.name(), "an upstream can be reached again");
        }
    }

    fn benched(&self) -> bool {
        let unreachable = self.unreachable.load(Relaxed);
        unreachable > 0 && self.born + Duration::from_millis(unreachable - 1) + BENCH > Instant::now()
    }
}

impl Sockets {
    async fn send(&self, mut request: http::Request<Bytes>) -> Result<http::Response<Body>, Unsent> {
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        let response = self.pool.send(request).await?;
        Ok(response.map(Body::Socket))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("in_flight", &self.in_flight).finish_non_exhaustive()
    }
}

/// Which replica to take: of two drawn at random the less busy one, those that could not be reached left out.
///
/// Its position; `None` when there are none.
pub(super) fn choose(replicas: &[Arc<Replica>]) -> Option<usize> {
    if replicas.len() < 2 {
        return (!replicas.is_empty()).then_some(0);
    }
    let reachable = replicas.iter().filter(|replica| !replica.benched()).count();
    // When none can be reached, any may have come back.
    let fit = |replica: &Replica| reachable == 0 || !replica.benched();
    let nth = |n: usize| replicas.iter().enumerate().filter(|(_, replica)| fit(replica)).nth(n).map(|(position, _)| position);
    let count = if reachable == 0 { replicas.len() } else { reachable };
    if count == 1 {
        return nth(0).or(Some(0));
    }
    let first = fastrand::usize(..count);
    let second = fastrand::usize(..count - 1);
    // The second draw skips the first, so that they differ.
    let (first, second) = (nth(first).unwrap_or(0), nth(second + usize::from(second >= first)).unwrap_or(0));
    let load = |position: usize| replicas[position].in_flight.load(Relaxed);
    Some(if load(second) < load(first) { second } else { first })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn replicas(count: usize) -> Vec<Arc<Replica>> {
        (0..count).map(|_| Arc::new(Replica::new(Client::Mock(Mock::new(config::Mock::default()))))).collect()
    }

    #[test]
    fn the_less_busy_of_two_is_taken() {
        let replicas = replicas(2);
        let _busy = replicas[0].enter();
        assert!((0..50).all(|_| choose(&replicas) == Some(1)));
        let _busier = (replicas[1].enter(), replicas[1].enter());
        assert!((0..50).all(|_| choose(&replicas) == Some(0)));
    }

    #[test]
    fn equals_share_the_calls_and_none_is_no_choice() {
        let all = replicas(4);
        let mut seen = [0; 4];
        (0..400).for_each(|_| seen[choose(&all).unwrap()] += 1);
        assert!(seen.iter().all(|count| *count > 40), "{seen:?}");
        assert_eq!(choose(&[]), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreachable_replica_is_passed_over_for_a_second() {
        let replicas = replicas(3);
        replicas[1].unreachable.store(1, Relaxed);
        assert!((0..50).all(|_| choose(&replicas) != Some(1)));
        tokio::time::advance(BENCH + Duration::from_millis(1)).await;
        assert!((0..200).any(|_| choose(&replicas) == Some(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn when_none_can_be_reached_any_is_tried() {
        let replicas = replicas(2);
        for replica in &replicas {
            replica.unreachable.store(1, Relaxed);
        }
        assert!((0..50).any(|_| choose(&replicas) == Some(1)));
        assert!((0..50).any(|_| choose(&replicas) == Some(0)));
    }
}
