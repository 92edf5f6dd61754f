//! Passive ejection: when a replica whose calls fail is left out, and for how long. How many may be, a deployment decides.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::config;

/// The failures of one replica; shared by all deployments at its address.
#[derive(Debug, Default)]
pub(super) struct Ejection {
    /// Failures in a row.
    run: AtomicU32,
    out: AtomicBool,
    /// It is back, and nothing was heard of it yet.
    on_trial: AtomicBool,
    last: Mutex<Last>,
}

/// The last time that a replica was out.
#[derive(Debug, Default)]
struct Last {
    time: Duration,
    /// `None`: it never was.
    returned: Option<Instant>,
}

impl Ejection {
    /// A call was answered.
    pub(super) fn answered(&self) {
        // Read first, since all calls come here and hardly any has something to write.
        if self.run.load(Relaxed) > 0 {
            self.run.store(0, Relaxed);
        }
        if self.on_trial.load(Relaxed) {
            self.on_trial.store(false, Relaxed);
        }
    }

    /// A call failed. Whether it was one too many.
    pub(super) fn failed(&self, settings: &config::Ejection) -> bool {
        let run = self.run.fetch_add(1, Relaxed).saturating_add(1);
        !self.is_out() && (run >= settings.failures.max(1) || self.on_trial.load(Relaxed))
    }

    pub(super) fn is_out(&self) -> bool {
        self.out.load(Relaxed)
    }

    /// Takes the replica out. For how long; `None` when it is out already.
    pub(super) fn eject(&self, settings: &config::Ejection) -> Option<Duration> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if self.out.swap(true, Relaxed) {
            return None;
        }
        last.time = last.next(settings);
        Some(last.time)
    }

    /// Lets it in again, to be taken out by its first failure.
    pub(super) fn take_back(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.returned = Some(Instant::now());
        self.run.store(0, Relaxed);
        self.on_trial.store(true, Relaxed);
        self.out.store(false, Relaxed);
    }
}

impl Last {
    /// Twice as long as the last time; half as long again for every time that it behaved for as long as it had been out.
    fn next(&self, settings: &config::Ejection) -> Duration {
        let least = settings.time.min(settings.max_time);
        let Some(returned) = self.returned else { return least };
        let (mut next, mut step, mut behaved) = (self.time.saturating_mul(2), self.time.max(least), returned.elapsed());
        while next > least && behaved >= step {
            behaved -= step;
            next /= 2;
            step = (step / 2).max(least);
        }
        next.clamp(least, settings.max_time)
    }
}

/// How many of a deployment's replicas may be out at once: the share, but one of two or more, and never all. A share of 0 is none.
pub(super) fn most(replicas: usize, share: f64) -> usize {
    if replicas < 2 || share <= 0.0 {
        return 0;
    }
    // Counted, since a float makes no whole number without a cast: `n` are within the share of all.
    let within = |n: &usize| share_of(*n, replicas) <= share;
    (1..replicas).take_while(within).last().unwrap_or(1)
}

fn share_of(part: usize, whole: usize) -> f64 {
    let float = |number: usize| u32::try_from(number).map_or(f64::MAX, f64::from);
    float(part) / float(whole)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn settings() -> config::Ejection {
        config::Ejection { failures: 3, time: 5 * SECOND, max_time: 30 * SECOND, max_share: 0.5 }
    }

    /// One more failure, and for how long the replica is out then.
    async fn time_after_failure(ejection: &Ejection) -> Duration {
        assert!(ejection.failed(&settings()), "one failure is too many after a return");
        let time = ejection.eject(&settings()).unwrap();
        advance(time).await;
        ejection.take_back();
        time
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_are_one_too_many_and_a_success_begins_anew() {
        let ejection = Ejection::default();
        assert!(!ejection.failed(&settings()) && !ejection.failed(&settings()));
        ejection.answered();
        assert!(!ejection.failed(&settings()) && !ejection.failed(&settings()));
        assert!(ejection.failed(&settings()) && !ejection.is_out());
        assert_eq!(ejection.eject(&settings()), Some(5 * SECOND));
        assert!(ejection.is_out() && !ejection.failed(&settings()), "it cannot be more out than it is");
        assert_eq!(ejection.eject(&settings()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_right_after_the_return_ejects_for_longer_up_to_the_most() {
        let ejection = Ejection::default();
        ejection.eject(&settings());
        ejection.take_back();
        let mut times = Vec::new();
        for _ in 0..4 {
            times.push(time_after_failure(&ejection).await);
        }
        assert_eq!(times, [10 * SECOND, 20 * SECOND, 30 * SECOND, 30 * SECOND]);
    }

    #[tokio::test(start_paused = true)]
    async fn behaving_after_the_return_is_forgiven_step_by_step() {
        let ejection = Ejection::default();
        ejection.eject(&settings());
        ejection.take_back();
        assert_eq!(time_after_failure(&ejection).await, 10 * SECOND);
        assert_eq!(time_after_failure(&ejection).await, 20 * SECOND);
        ejection.answered();
        assert!(!ejection.failed(&settings()), "it takes a run again");
        advance(20 * SECOND).await;
        assert_eq!(ejection.eject(&settings()), Some(20 * SECOND), "as long as the last time, not twice");
        ejection.take_back();
        advance(35 * SECOND).await;
        assert_eq!(ejection.eject(&settings()), Some(5 * SECOND), "as if it were the first time");
    }

    #[test]
    fn at_most_the_share_is_out_and_never_all() {
        let cases = [(0, 0.5, 0), (1, 1.0, 0), (2, 0.5, 1), (3, 0.5, 1), (4, 0.5, 2), (5, 0.1, 1), (10, 0.3, 3), (3, 1.0, 2), (4, 0.0, 0)];
        for (replicas, share, expected) in cases {
            assert_eq!(most(replicas, share), expected, "{share} of {replicas}");
        }
    }
}
