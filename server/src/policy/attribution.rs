//! Attribution: whose fault a failed attempt is, told to those who should know: replica, credential, breaker or rollout. Never the
//! caller's to them.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Next, Policy};
use crate::{
    balance::{rollout::Trial, vitals::Vitals},
    call::{Attempt, ReplicaId},
    error::Result,
    event::Reply,
    telemetry::routing::DeploymentMeter,
    upstream::Upstream,
};

#[cfg(test)]
mod tests;
mod watch;

/// Stands over the timeouts of an attempt, so that it sees what they end.
#[derive(Clone, Debug)]
pub struct Attribution(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    vitals: Arc<Vitals>,
    upstream: Arc<Upstream>,
    meter: DeploymentMeter,
    trial: Option<Trial>,
}

/// One attempt as it is watched. Dropped without a verdict it tells only how long nothing was heard, unless that is the provider's fault.
struct Watch {
    parts: Arc<Parts>,
    replica: Option<ReplicaId>,
    credential: usize,
    /// Where it is the first of its call.
    trial: Option<Trial>,
    begun: Instant,
    /// From when on silence is a fault.
    due: Option<Instant>,
    first: Option<Instant>,
    tokens: u32,
    is_over: bool,
}

impl Attribution {
    /// For the attempts at one deployment, which may be on trial.
    pub fn new(vitals: Arc<Vitals>, upstream: Arc<Upstream>, meter: DeploymentMeter, trial: Option<Trial>) -> Self {
        Self(Arc::new(Parts { vitals, upstream, meter, trial }))
    }
}

impl Policy<Attempt> for Attribution {
    async fn handle(&self, attempt: Attempt, next: &impl Next<Attempt>) -> Result<Reply> {
        let mut watch = Watch::over(Arc::clone(&self.0), &attempt, Instant::now());
        match next.call(attempt).await {
            Err(error) => {
                watch.failed(&error);
                Err(error)
            }
            Ok(reply) if reply.is_unary() => {
                watch.answered();
                Ok(reply)
            }
            Ok(reply) => Ok(reply.tap(move |event| watch.see(event))),
        }
    }
}

impl Watch {
    fn over(parts: Arc<Parts>, attempt: &Attempt, begun: Instant) -> Self {
        let Attempt { call, replica, credential, .. } = attempt;
        // A call that was elsewhere before failed or was slow there: it would be no fair trial.
        let is_first = call.choice.place.is_none_or(|place| place.is_first);
        Self {
            trial: parts.trial.clone().filter(|_| is_first),
            parts,
            replica: *replica,
            credential: *credential,
            begun,
            due: call.end_of_patience(begun),
            first: None,
            tokens: 0,
            is_over: false,
        }
    }
}
