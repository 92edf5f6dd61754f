//! What attempts came to within one step of a rollout: counts, and how long they took.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use flowgate_proto::{v1, wkt};

use super::evidence::Sample;
use crate::balance::latency::Histogram;

/// Counts as they grow.
#[derive(Debug)]
pub(super) struct Tally {
    calls: AtomicU32,
    failures: AtomicU32,
    latencies: Histogram,
}

/// How long those took that were answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) p95: Duration,
    /// How many.
    of: u32,
}

/// What they have come to; `None` where there were too few of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Came {
    pub(super) failures: Option<Sample>,
    pub(super) times: Option<Times>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self { calls: AtomicU32::new(0), failures: AtomicU32::new(0), latencies: Histogram::new() }
    }

    /// One was answered, or given up, after so long.
    pub(super) fn took(&self, latency: Duration) {
        self.latencies.add(latency);
        self.calls.fetch_add(1, Relaxed);
    }

    /// One failed.
    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
        self.calls.fetch_add(1, Relaxed);
    }

    pub(super) fn calls(&self) -> u32 {
        self.calls.load(Relaxed)
    }

    /// Those that failed. `None` while there are fewer calls than `least`.
    pub(super) fn failures(&self, least: u32) -> Option<Sample> {
        let of = self.calls();
        (of >= least).then(|| Sample { hits: self.failures.load(Relaxed).min(of), of })
    }

    /// `None` while fewer than `least` were answered. Goes through the whole histogram.
    pub(super) fn times(&self, least: u32) -> Option<Times> {
        let p95 = self.latencies.get(0.95, least)?;
        Some(Times { p95, of: self.latencies.beyond(p95).1 })
    }

    /// Those that took longer. Goes through the whole histogram.
    pub(super) fn slow(&self, bound: Duration) -> Sample {
        let (hits, of) = self.latencies.beyond(bound);
        Sample { hits, of }
    }

    pub(super) fn describe(&self) -> v1::RolloutTally {
        let calls = self.calls();
        let p95 = self.latencies.get(0.95, 1).map(as_message);
        v1::RolloutTally { calls, failures: self.failures.load(Relaxed).min(calls), p95 }
    }
}

impl Times {
    /// Those beyond the 95th percentile: as many as there are by its definition.
    pub(super) fn slow(self) -> Sample {
        Sample { hits: self.of / 20, of: self.of }
    }
}

/// `0.025` as `2.5 %`.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    format!("{} %", text.strip_suffix(".0").unwrap_or(&text))
}

pub(super) fn as_message(duration: Duration) -> wkt::Duration {
    wkt::Duration { seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX), nanos: nanos(duration) }
}

/// The part below a second.
pub(super) fn nanos(duration: Duration) -> i32 {
    i32::try_from(duration.subsec_nanos()).unwrap_or_default()
}
