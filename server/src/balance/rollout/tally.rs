//! What attempts came to within one step of a rollout: counts, and how long they took.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use flowgate_proto::{v1, wkt};

use crate::balance::latency::Histogram;

/// Counts as they grow.
#[derive(Debug)]
pub(super) struct Tally {
    calls: AtomicU32,
    failures: AtomicU32,
    latencies: Histogram,
}

/// What they have come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    pub(super) calls: u32,
    pub(super) failures: u32,
    /// `None` where too few were answered.
    pub(super) p95: Option<Duration>,
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

    /// `None` while there are fewer calls than `least`.
    pub(super) fn came(&self, least: u32) -> Option<Came> {
        let calls = self.calls();
        let came = || Came { calls, failures: self.failures.load(Relaxed).min(calls), p95: self.latencies.get(0.95, least) };
        (calls >= least).then(came)
    }

    pub(super) fn describe(&self) -> v1::RolloutTally {
        let calls = self.calls();
        let p95 = self.latencies.get(0.95, 1).map(as_message);
        v1::RolloutTally { calls, failures: self.failures.load(Relaxed).min(calls), p95 }
    }
}

impl Came {
    /// The share of calls that failed.
    pub(super) fn rate(self) -> f64 {
        f64::from(self.failures) / f64::from(self.calls.max(1))
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
