//! Active health checks: replicas are asked again and again whether they are well, beside the calls.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::{sleep, timeout};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{
    exchange::chain,
    pool::{Pool, Unsent},
    replica::{Client, Replica, Sockets},
};
use crate::config::{Health, HealthCheck};

/// How much of an answer is read, so that its connection can be used again.
const MOST_ANSWER: usize = 64 << 10;

/// What the last checks said.
#[derive(Debug)]
struct Streak {
    is_healthy: bool,
    /// Checks in a row that said otherwise.
    against: u32,
}

/// Checks a replica until nobody holds it.
pub(super) async fn watch(replica: Weak<Replica>, health: Health) {
    let mut streak = Streak { is_healthy: true, against: 0 };
    // So that the replicas of a deployment are not all asked at once.
    let mut pause = health.interval.mul_f64(fastrand::f64());
    loop {
        sleep(pause).await;
        let Some(replica) = replica.upgrade() else { return };
        let Client::Sockets(sockets) = &replica.client else { return };
        let checked = timeout(health.timeout, check(sockets, &health.check)).await;
        let checked = checked.unwrap_or_else(|_| Err("it took too long".to_owned()));
        if let Some(healthy) = streak.count(checked.is_ok(), &health) {
            replica.set_healthy(healthy, checked.err().as_deref().unwrap_or_default());
        }
        pause = health.interval;
    }
}

impl Streak {
    /// Takes the result of a check in. What the replica is from now on, if that changes.
    fn count(&mut self, passed: bool, health: &Health) -> Option<bool> {
        if passed == self.is_healthy {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let enough = if passed { health.healthy } else { health.unhealthy };
        if self.against < enough {
            return None;
        }
        *self = Self { is_healthy: passed, against: 0 };
        Some(passed)
    }
}

/// One check, and what is wrong.
async fn check(sockets: &Sockets, check: &HealthCheck) -> Result<(), String> {
    match check {
        HealthCheck::Http(path) => get(sockets, path).await,
        HealthCheck::Grpc(service) => ask(&sockets.pool, service).await,
    }
}

async fn get(sockets: &Sockets, path: &str) -> Result<(), String> {
    let agent = HeaderValue::from_static(concat!("flowgate/", env!("CARGO_PKG_VERSION")));
    let request = Request::get(path).header(header::USER_AGENT, agent).body(Bytes::new()).map_err(|error| error.to_string())?;
    let response = sockets.send(request).await.map_err(|unsent| match unsent {
        Unsent::Connect(cause) => cause.to_string(),
        Unsent::Exchange(error) => chain(&error),
        Unsent::Refused(error) => error.to_string(),
    })?;
    let status = response.status();
    response.into_body().start(MOST_ANSWER).await;
    if status.is_success() { Ok(()) } else { Err(format!("status {status}")) }
}

/// Asks on a connection of its own, since calls to the same server may speak HTTP/1.1.
async fn ask(pool: &Arc<Pool>, service: &str) -> Result<(), String> {
    let socket = pool.socket().await.map_err(|error| chain(&*error))?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(socket.io)).await.map_err(|error| chain(&error))?;
    let send = tower::service_fn(move |request| sender.clone().send_request(request));
    let mut client = HealthClient::with_origin(send, pool.origin().clone());
    let answer = client.check(HealthCheckRequest { service: service.to_owned() });
    let answer = tokio::select! {
        answer = answer => answer,
        ended = connection => return Err(ended.err().map_or_else(|| "the connection was closed".to_owned(), |error| chain(&error))),
    };
    match answer.map_err(|status| format!("{:?}: {}", status.code(), status.message()))?.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        other => Err(other.as_str_name().to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_takes_a_run_of_checks_to_change_what_is_known() {
        let health = Health {
            check: HealthCheck::Http("/".to_owned()),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            unhealthy: 3,
            healthy: 2,
        };
        let mut streak = Streak { is_healthy: true, against: 0 };
        let mut said = |results: &str| results.chars().map(|result| streak.count(result == '+', &health)).collect::<Vec<_>>();
        assert_eq!(said("+--+--"), [None; 6]);
        assert_eq!(said("-"), [Some(false)]);
        assert_eq!(said("--+-+"), [None; 5]);
        assert_eq!(said("+-"), [Some(true), None]);
    }
}
