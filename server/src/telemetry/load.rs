//! Metrics of load: places at deployments and who waits for them, calls that the whole gateway turned away, and how late it runs.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use tokio::time::Instant;

use super::{metrics::Buckets, routing::DeploymentLabels};

/// All families of this room. Cloning shares.
#[derive(Clone, Debug)]
pub struct Load {
    limit: Family<DeploymentLabels, Gauge>,
    in_use: Family<DeploymentLabels, Gauge>,
    queued: Family<DeploymentLabels, Gauge>,
    waits: Family<DeploymentLabels, Histogram, Buckets>,
    refused: Family<DeploymentLabels, Counter>,
    shed: Family<PriorityLabels, Counter>,
    delay: Gauge<f64, AtomicU64>,
}

/// What is counted of a deployment that gets only so many calls at once.
#[derive(Clone, Debug)]
pub struct PlaceMeter {
    limit: Gauge,
    in_use: Gauge,
    queued: Gauge,
    waits: Histogram,
    refused: Counter,
}

/// One call in a queue; it waits no more when dropped.
#[derive(Debug)]
pub struct Waiting<'a> {
    meter: &'a PlaceMeter,
    since: Instant,
}

/// Calls that the gateway turned away before it did anything for them, by priority.
#[derive(Clone, Debug)]
pub struct ShedMeter {
    /// Interactive ones.
    pub interactive: Counter,
    /// Batch calls.
    pub batch: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PriorityLabels {
    priority: &'static str,
}

impl Load {
    /// The families, to be read with all others.
    pub fn register(registry: &mut Registry) -> Self {
        let load = Self {
            limit: Family::default(),
            in_use: Family::default(),
            queued: Family::default(),
            waits: Family::new_with_constructor(Buckets),
            refused: Family::default(),
            shed: Family::default(),
            delay: Gauge::default(),
        };
        registry.register("concurrency_limit", "How many calls a deployment gets at once", load.limit.clone());
        registry.register("concurrency_in_use", "How many of these it has, streams until their end", load.in_use.clone());
        registry.register("queue_length", "Calls that wait for a place at a deployment", load.queued.clone());
        let help = "How long calls waited for a place, without those that got one at once";
        registry.register_with_unit("queue_wait", help, Unit::Seconds, load.waits.clone());
        registry.register(
            "queue_refused",
            "Calls that got no place at a deployment, and none in its queue or not in time",
            load.refused.clone(),
        );
        registry.register("shed", "Calls that were turned away because the gateway had too much to do", load.shed.clone());
        let help = "By how much work that is due begins too late, of late";
        registry.register_with_unit("runtime_delay", help, Unit::Seconds, load.delay.clone());
        load
    }

    /// The handles of a deployment with a limit.
    pub fn deployment(&self, endpoint: &Arc<str>, alias: &Arc<str>) -> PlaceMeter {
        let labels = DeploymentLabels::new(endpoint, alias);
        PlaceMeter {
            limit: self.limit.get_or_create_owned(&labels),
            in_use: self.in_use.get_or_create_owned(&labels),
            queued: self.queued.get_or_create_owned(&labels),
            waits: self.waits.get_or_create_owned(&labels),
            refused: self.refused.get_or_create_owned(&labels),
        }
    }

    /// A deployment has no limit, or none any more.
    pub fn unlimited(&self, endpoint: &Arc<str>, alias: &Arc<str>) {
        self.limit.remove(&DeploymentLabels::new(endpoint, alias));
    }

    /// The handles of what the gateway turns away.
    pub fn shed(&self) -> ShedMeter {
        let of = |priority| self.shed.get_or_create_owned(&PriorityLabels { priority });
        ShedMeter { interactive: of("interactive"), batch: of("batch") }
    }

    /// How late the gateway runs.
    pub fn delayed(&self, by: Duration) {
        self.delay.set(by.as_secs_f64());
    }
}

impl Waiting<'_> {
    /// How long it has waited.
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.meter.queued.dec();
        self.meter.waits.observe(self.elapsed().as_secs_f64());
    }
}

impl PlaceMeter {
    /// The limit is this from now on.
    pub fn limited(&self, limit: u32) {
        self.limit.set(limit.into());
    }

    /// A call got a place.
    pub fn entered(&self) {
        self.in_use.inc();
    }

    /// It gave it back.
    pub fn left(&self) {
        self.in_use.dec();
    }

    /// A call has to wait, until what is returned is dropped.
    pub fn queued(&self) -> Waiting<'_> {
        self.queued.inc();
        Waiting { meter: self, since: Instant::now() }
    }

    /// A call got no place.
    pub fn refused(&self) {
        self.refused.inc();
    }
}
