//! Metrics of routing: attempts, retries, hedges, fallbacks, breakers and credentials, by handles that are found once per endpoint.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{metrics::Name, mirrors::Mirrors, rounded};

/// All families of this room. Cloning shares.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    attempts: Family<AttemptLabels, Counter>,
    open: Family<DeploymentLabels, Gauge>,
    benched: Family<DeploymentLabels, Counter>,
    retries: Family<EndpointLabels, Counter>,
    fallbacks: Family<EndpointLabels, Counter>,
    conditions: Family<EndpointLabels, Counter>,
    shares: Family<DeploymentLabels, Gauge<f64, AtomicU64>>,
    rollbacks: Family<RollbackLabels, Counter>,
    hedges: Family<EndpointLabels, Counter>,
    hedges_won: Family<EndpointLabels, Counter>,
    mirrors: Mirrors,
}

/// What is counted of one endpoint.
#[derive(Clone, Debug)]
pub struct EndpointMeter {
    retries: Counter,
    fallbacks: Counter,
    hedges: Counter,
    hedges_won: Counter,
    /// Conditions that could not be told.
    pub failed_conditions: Counter,
}

/// What is counted of one deployment.
#[derive(Clone, Debug)]
pub struct DeploymentMeter {
    labels: DeploymentLabels,
    attempts: Family<AttemptLabels, Counter>,
    ok: Counter,
    open: Gauge,
    benched: Counter,
}

/// What is told of one rollout.
#[derive(Clone, Debug)]
pub struct RolloutMeter {
    labels: DeploymentLabels,
    shares: Family<DeploymentLabels, Gauge<f64, AtomicU64>>,
    rollbacks: Family<RollbackLabels, Counter>,
}

/// What a rollout is rolled back by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The canary failed too often.
    ErrorRate,
    /// It was too slow.
    P95,
    /// An operator.
    Operator,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    endpoint: Name,
    deployment: Name,
    /// `ok`, or the reason.
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DeploymentLabels {
    endpoint: Name,
    deployment: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RollbackLabels {
    endpoint: Name,
    deployment: Name,
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    endpoint: Name,
}

impl Routing {
    /// The families, to be read with all others.
    pub fn register(registry: &mut Registry) -> Self {
        let routing = Self { mirrors: Mirrors::register(registry), ..Self::default() };
        registry.register("attempts", "Attempts at deployments, by how they ended", routing.attempts.clone());
        registry.register("breaker_open", "Whether a deployment is left alone after it failed too often", routing.open.clone());
        registry.register("credentials_benched", "How often a credential was rested", routing.benched.clone());
        registry.register("retries", "Attempts after a failed one, within an endpoint", routing.retries.clone());
        registry.register("fallbacks", "Calls that were sent on to another endpoint after a failure", routing.fallbacks.clone());
        registry.register("condition_failures", "Conditions that could not be told and counted as false", routing.conditions.clone());
        registry.register("rollout_share", "The share of calls that the canary of a rollout gets, from 0 to 1", routing.shares.clone());
        registry.register("rollout_rollbacks", "How often a rollout was rolled back, and by what", routing.rollbacks.clone());
        registry.register("hedges", "Second attempts beside one that was slow", routing.hedges.clone());
        registry.register("hedges_won", "Second attempts that answered before the first", routing.hedges_won.clone());
        routing
    }

    /// What is counted of mirroring.
    pub fn mirrors(&self) -> &Mirrors {
        &self.mirrors
    }

    /// The handles of an endpoint.
    pub fn endpoint(&self, name: &Arc<str>) -> EndpointMeter {
        let labels = EndpointLabels { endpoint: Name(Arc::clone(name)) };
        EndpointMeter {
            retries: self.retries.get_or_create_owned(&labels),
            fallbacks: self.fallbacks.get_or_create_owned(&labels),
            hedges: self.hedges.get_or_create_owned(&labels),
            hedges_won: self.hedges_won.get_or_create_owned(&labels),
            failed_conditions: self.conditions.get_or_create_owned(&labels),
        }
    }

    /// The handles of a deployment.
    pub fn deployment(&self, endpoint: &Arc<str>, alias: &Arc<str>) -> DeploymentMeter {
        let labels = DeploymentLabels::new(endpoint, alias);
        DeploymentMeter {
            attempts: self.attempts.clone(),
            ok: self.attempts.get_or_create_owned(&labels.attempt("ok")),
            open: self.open.get_or_create_owned(&labels),
            benched: self.benched.get_or_create_owned(&labels),
            labels,
        }
    }

    /// The handles of a rollout, by its canary.
    pub fn rollout(&self, endpoint: &Arc<str>, canary: &Arc<str>) -> RolloutMeter {
        let labels = DeploymentLabels { endpoint: Name(Arc::clone(endpoint)), deployment: Name(Arc::clone(canary)) };
        RolloutMeter { labels, shares: self.shares.clone(), rollbacks: self.rollbacks.clone() }
    }

    /// Forgets the shares of all rollouts, so that only those are shown that there are.
    pub fn forget_shares(&self) {
        self.shares.clear();
    }
}

impl EndpointMeter {
    /// Another attempt is made.
    pub fn retried(&self) {
        self.retries.inc();
    }

    /// Another endpoint is asked.
    pub fn fell_back(&self) {
        self.fallbacks.inc();
    }

    /// A second attempt begins beside the first.
    pub fn hedged(&self) {
        self.hedges.inc();
    }

    /// The second attempt was faster.
    pub fn hedge_won(&self) {
        self.hedges_won.inc();
    }

    /// Second attempts so far, and those of them that won.
    #[cfg(test)]
    pub(crate) fn hedges(&self) -> (u64, u64) {
        (self.hedges.get(), self.hedges_won.get())
    }
}

impl DeploymentMeter {
    /// An attempt got an answer.
    pub fn answered(&self) {
        self.ok.inc();
    }

    /// An attempt failed.
    pub fn failed(&self, reason: &'static str) {
        self.attempts.get_or_create(&self.labels.attempt(reason)).inc();
    }

    /// A credential, by its position, rests for so long.
    pub fn benched(&self, credential: usize, reason: &'static str, rest: Duration) {
        self.benched.inc();
        let (endpoint, deployment) = self.names();
        tracing::warn!(
            endpoint,
            deployment,
            credential = credential + 1,
            reason,
            seconds = rounded(rest).as_secs_f64(),
            "a credential rests"
        );
    }

    /// Whether the breaker is open to begin with.
    pub fn breaker(&self, is_open: bool) {
        self.open.set(is_open.into());
    }

    /// The breaker opened, for so long.
    pub fn opened(&self, open: Duration) {
        self.open.set(1);
        let (endpoint, deployment) = self.names();
        tracing::warn!(endpoint, deployment, seconds = rounded(open).as_secs_f64(), "a deployment failed too often and is left alone");
    }

    /// The breaker closed.
    pub fn closed(&self) {
        self.open.set(0);
        let (endpoint, deployment) = self.names();
        tracing::info!(endpoint, deployment, "a deployment answers again");
    }

    fn names(&self) -> (&str, &str) {
        (&self.labels.endpoint.0, &self.labels.deployment.0)
    }
}

impl RolloutMeter {
    /// The canary's share is so much, in percent.
    pub fn show(&self, share: u32) {
        self.shares.get_or_create(&self.labels).set(f64::from(share) / 100.0);
        for cause in [Cause::ErrorRate, Cause::P95, Cause::Operator] {
            drop(self.rollbacks.get_or_create(&self.labels.rollback(cause)));
        }
    }

    /// It begins with this share.
    pub fn began(&self, share: u32) {
        let (endpoint, canary) = self.names();
        tracing::info!(endpoint, canary, share, "a rollout begins");
    }

    /// It moves on to this share.
    pub fn moved(&self, share: u32) {
        self.show(share);
        let (endpoint, canary) = self.names();
        tracing::info!(endpoint, canary, share, "a rollout moves on");
    }

    /// Its last step is over, with this share.
    pub fn finished(&self, share: u32) {
        let (endpoint, canary) = self.names();
        tracing::info!(endpoint, canary, share, "a rollout is finished");
    }

    /// It is rolled back, from this share.
    pub fn rolled_back(&self, cause: Cause, why: &str, share: u32) {
        self.show(0);
        self.rollbacks.get_or_create(&self.labels.rollback(cause)).inc();
        let (endpoint, canary) = self.names();
        tracing::warn!(endpoint, canary, cause = cause.name(), why, share, "a rollout is rolled back");
    }

    fn names(&self) -> (&str, &str) {
        (&self.labels.endpoint.0, &self.labels.deployment.0)
    }
}

impl Cause {
    /// The name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::ErrorRate => "error_rate",
            Self::P95 => "p95",
            Self::Operator => "operator",
        }
    }
}

impl DeploymentLabels {
    pub(super) fn new(endpoint: &Arc<str>, alias: &Arc<str>) -> Self {
        Self { endpoint: Name(Arc::clone(endpoint)), deployment: Name(Arc::clone(alias)) }
    }

    fn rollback(&self, cause: Cause) -> RollbackLabels {
        RollbackLabels { endpoint: self.endpoint.clone(), deployment: self.deployment.clone(), cause: cause.name() }
    }

    fn attempt(&self, outcome: &'static str) -> AttemptLabels {
        AttemptLabels { endpoint: self.endpoint.clone(), deployment: self.deployment.clone(), outcome }
    }
}
