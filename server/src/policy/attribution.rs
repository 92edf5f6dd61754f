//! Attribution: whose fault a failed attempt is, told to those who should know: replica, credential, breaker or rollout. Never the
//! caller's to them.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Next, Policy};
use crate::{
    balance::{rollout::Trial, vitals::Vitals},
    call::Attempt,
    error::Result,
    event::Reply,
    telemetry::routing::DeploymentMeter,
    upstream::Upstream,
};

#[cfg(test)]
mod tests;
mod watch;

use watch::Watch;

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
