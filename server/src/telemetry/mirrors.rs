//! Metrics of mirroring: how copies of calls end, and how far their answers are from those that callers got, by handles that are found
//! once per mirror.

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::metrics::{Name, SECONDS};

/// From no difference at all to a thousand, by tens.
const DRIFT: [f64; 11] = [0.0, 1e-9, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0, 1000.0];
/// Characters.
const LENGTH: [f64; 10] = [0.0, 1.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 100_000.0];

/// All families of this room. Cloning shares.
#[derive(Clone)]
pub struct Mirrors {
    calls: Family<OutcomeLabels, Counter>,
    latency: Family<SideLabels, Histogram>,
    drift: Family<DriftLabels, Histogram>,
    length: Family<MirrorLabels, Histogram>,
    mismatches: Family<MismatchLabels, Counter>,
}

/// What is counted of one mirror of one endpoint.
#[derive(Clone)]
pub struct MirrorMeter {
    families: Mirrors,
    labels: MirrorLabels,
}

/// How the copy of a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered, and its answer compared.
    Ok,
    /// It failed.
    Error,
    /// It was never sent, since too many were under way.
    Dropped,
    /// It was answered, but one of the two answers was not there to be compared: its caller went away, the call failed, or it was too
    /// large, or nothing that can be read.
    Unread,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MirrorLabels {
    endpoint: Name,
    mirror: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    endpoint: Name,
    mirror: Name,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SideLabels {
    endpoint: Name,
    mirror: Name,
    /// `primary` or `mirror`.
    side: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DriftLabels {
    endpoint: Name,
    mirror: Name,
    /// `absolute`, `relative` or `cosine`.
    measure: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MismatchLabels {
    endpoint: Name,
    mirror: Name,
    /// `shape`, `value` or `finish_reason`.
    kind: &'static str,
}

impl Mirrors {
    /// The families, to be read with all others.
    pub fn register(registry: &mut Registry) -> Self {
        let mirrors = Self::default();
        registry.register("mirror_calls", "Copies of calls, by how they ended", mirrors.calls.clone());
        let help = "Time to the whole answer, or to a stream's first content, of calls and of their copies";
        registry.register_with_unit("mirror_latency", help, Unit::Seconds, mirrors.latency.clone());
        registry.register("mirror_drift", "How far the numbers of two answers to one request are apart at most", mirrors.drift.clone());
        let help = "How much longer or shorter the text of a copy's answer is";
        registry.register_with_unit("mirror_length_difference", help, Unit::Other("characters".to_owned()), mirrors.length.clone());
        registry.register("mirror_mismatches", "Shapes, values and finish reasons that differ", mirrors.mismatches.clone());
        mirrors
    }

    /// The handles of an endpoint's mirror.
    pub fn mirror(&self, endpoint: &Arc<str>, mirror: &Arc<str>) -> MirrorMeter {
        MirrorMeter {
            families: self.clone(),
            labels: MirrorLabels { endpoint: Name(Arc::clone(endpoint)), mirror: Name(Arc::clone(mirror)) },
        }
    }
}

impl MirrorMeter {
    /// A copy is over.
    pub fn ended(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Ok => "ok",
            Outcome::Error => "error",
            Outcome::Dropped => "dropped",
            Outcome::Unread => "unread",
        };
        let MirrorLabels { endpoint, mirror } = self.labels.clone();
        self.families.calls.get_or_create(&OutcomeLabels { endpoint, mirror, outcome }).inc();
    }

    /// How long a call and its copy took.
    pub fn took(&self, primary: Duration, mirror: Duration) {
        for (side, took) in [("primary", primary), ("mirror", mirror)] {
            let MirrorLabels { endpoint, mirror } = self.labels.clone();
            self.families.latency.get_or_create(&SideLabels { endpoint, mirror, side }).observe(took.as_secs_f64());
        }
    }

    /// How far numbers are apart, by a measure.
    pub fn drifted(&self, measure: &'static str, drift: f64) {
        let MirrorLabels { endpoint, mirror } = self.labels.clone();
        self.families.drift.get_or_create(&DriftLabels { endpoint, mirror, measure }).observe(drift);
    }

    /// By how many characters texts differ in length.
    pub fn length(&self, characters: u32) {
        self.families.length.get_or_create(&self.labels).observe(characters.into());
    }

    /// So many differences of a kind.
    pub fn mismatched(&self, kind: &'static str, count: u64) {
        let MirrorLabels { endpoint, mirror } = self.labels.clone();
        self.families.mismatches.get_or_create(&MismatchLabels { endpoint, mirror, kind }).inc_by(count);
    }
}

impl Default for Mirrors {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            latency: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            drift: Family::new_with_constructor(|| Histogram::new(DRIFT)),
            length: Family::new_with_constructor(|| Histogram::new(LENGTH)),
            mismatches: Family::default(),
        }
    }
}

impl fmt::Debug for Mirrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mirrors")
    }
}

impl fmt::Debug for MirrorMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.labels.fmt(f)
    }
}
