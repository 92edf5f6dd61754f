//! A circuit breaker: leaves a deployment alone for a while after it failed too often, then lets one call try.

use std::{
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::window::Window;
use crate::config;

/// How long a probing call keeps others away if nothing is heard of it.
const PROBE: Duration = Duration::from_secs(30);
/// How many times as long as the first time it is open at most.
const MOST_TIMES: u32 = 10;

/// The state of one deployment, as its provider's faults made it.
#[derive(Debug)]
pub struct Breaker {
    config: config::Breaker,
    born: Instant,
    /// Faults in a row.
    run: AtomicU32,
    /// Calls of late, and how many of them were faults.
    recent: Window,
    /// Until when it is open, in milliseconds after `born`; 0: it is closed.
    open_until: AtomicU64,
    /// How often it opened without closing between.
    trips: AtomicU32,
    /// Until when a probing call keeps others away, likewise.
    probing_until: AtomicU64,
    /// When it last opened or closed, likewise.
    changed: AtomicU64,
}

/// What a breaker says of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It may be called.
    Closed,
    /// It was open long enough: one call may try.
    HalfOpen,
    /// It is left alone.
    Open,
}

/// What a call changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Change {
    /// It opened, for so long.
    Opened(Duration),
    /// It closed.
    Closed,
}

impl Breaker {
    /// A closed one.
    pub fn new(config: config::Breaker) -> Self {
        Self {
            recent: Window::new(config.window),
            config,
            born: Instant::now(),
            run: AtomicU32::new(0),
            open_until: AtomicU64::new(0),
            trips: AtomicU32::new(0),
            probing_until: AtomicU64::new(0),
            changed: AtomicU64::new(0),
        }
    }

    /// Whether the deployment may be called now.
    pub fn state(&self) -> State {
        let open_until = self.open_until.load(Acquire);
        if open_until == 0 {
            return State::Closed;
        }
        let now = self.now();
        if now < open_until || now < self.probing_until.load(Acquire) { State::Open } else { State::HalfOpen }
    }

    /// A call is on its way there: of those that may try while it is half open, only the first finds it so.
    pub fn enter(&self) {
        let probing = self.probing_until.load(Relaxed);
        if self.state() == State::HalfOpen {
            // Who comes second has been chosen already, and goes too.
            let _first = self.probing_until.compare_exchange(probing, self.now() + millis(PROBE), Relaxed, Relaxed);
        }
    }

    /// A call is over that says nothing of the provider; if it was to find out, another one may.
    pub fn leave(&self) {
        if self.open_until.load(Acquire) > 0 && self.probing_until.load(Relaxed) > 0 {
            self.probing_until.store(0, Relaxed);
        }
    }

    /// A call that began then got an answer, be it that the caller was wrong.
    pub fn success(&self, begun: Instant) -> Option<Change> {
        self.run.store(0, Relaxed);
        self.recent.add([1, 0]);
        let open_until = self.open_until.load(Acquire);
        // An answer to a call from before it opened says nothing of now.
        if open_until == 0 || self.now() < open_until || self.is_old(begun) {
            return None;
        }
        let closed = self.open_until.compare_exchange(open_until, 0, AcqRel, Relaxed).is_ok();
        self.changed.store(self.now(), Relaxed);
        self.trips.store(0, Relaxed);
        self.recent.forget();
        closed.then_some(Change::Closed)
    }

    /// The provider failed a call that began then; what is older than the last change was counted by it.
    pub fn fault(&self, begun: Instant) -> Option<Change> {
        if self.is_old(begun) {
            return None;
        }
        let run = self.run.fetch_add(1, Relaxed) + 1;
        self.recent.add([1, 1]);
        let (now, open_until) = (self.now(), self.open_until.load(Acquire));
        let trips = if open_until == 0 {
            run >= self.config.failures || self.is_over_rate()
        } else {
            // The probe failed; faults of calls from before count for nothing more.
            now >= open_until
        };
        if !trips {
            return None;
        }
        let open = self.config.open * 2_u32.saturating_pow(self.trips.load(Relaxed)).min(MOST_TIMES);
        if self.open_until.compare_exchange(open_until, now + millis(open).max(1), AcqRel, Relaxed).is_err() {
            return None;
        }
        self.trips.fetch_add(1, Relaxed);
        self.changed.store(now, Relaxed);
        self.probing_until.store(0, Relaxed);
        Some(Change::Opened(open))
    }

    fn is_over_rate(&self) -> bool {
        let [calls, faults] = self.recent.sums();
        calls >= self.config.min_calls && f64::from(faults) >= f64::from(calls) * self.config.error_rate
    }

    fn is_old(&self, begun: Instant) -> bool {
        millis(begun.saturating_duration_since(self.born)) < self.changed.load(Relaxed)
    }

    fn now(&self) -> u64 {
        millis(self.born.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> Breaker {
        Breaker::new(config::Breaker { failures: 3, min_calls: 10, ..config::Breaker::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn opens_after_a_run_of_faults_and_closes_after_a_good_probe() {
        let breaker = breaker();
        let before = Instant::now();
        advance(SECOND).await;
        assert_eq!(
            [
                breaker.fault(Instant::now()),
                breaker.fault(Instant::now()),
                breaker.success(Instant::now()),
                breaker.fault(Instant::now()),
                breaker.fault(Instant::now())
            ],
            [None; 5]
        );
        assert_eq!(breaker.fault(Instant::now()), Some(Change::Opened(5 * SECOND)));
        assert_eq!(breaker.state(), State::Open);
        assert_eq!((breaker.fault(Instant::now()), breaker.success(Instant::now())), (None, None), "calls from before change nothing");
        advance(5 * SECOND).await;
        assert_eq!(breaker.state(), State::HalfOpen);
        breaker.enter();
        assert_eq!(breaker.state(), State::Open, "one call probes, the others wait");
        assert_eq!(breaker.success(before), None, "an answer to a call from before it opened says nothing of now");
        assert_eq!(breaker.success(Instant::now()), Some(Change::Closed));
        assert_eq!(breaker.state(), State::Closed);
        assert!((0..9).all(|_| breaker.fault(before).is_none()), "nor do faults of calls from then");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_probe_opens_it_for_longer_and_a_lost_one_lets_the_next_try() {
        let breaker = breaker();
        (0..3).for_each(|_| _ = breaker.fault(Instant::now()));
        advance(5 * SECOND).await;
        breaker.enter();
        breaker.leave();
        assert_eq!(breaker.state(), State::HalfOpen, "a probe that says nothing lets the next try at once");
        breaker.enter();
        assert_eq!(breaker.fault(Instant::now()), Some(Change::Opened(10 * SECOND)));
        advance(10 * SECOND).await;
        breaker.enter();
        advance(29 * SECOND).await;
        assert_eq!(breaker.state(), State::Open);
        advance(2 * SECOND).await;
        assert_eq!(breaker.state(), State::HalfOpen);
        for _ in 0..10 {
            let longest = breaker.fault(Instant::now());
            assert!(longest <= Some(Change::Opened(50 * SECOND)), "{longest:?}");
            advance(50 * SECOND).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn opens_by_rate_when_faults_are_scattered() {
        let breaker = breaker();
        for _ in 0..4 {
            assert_eq!([breaker.fault(Instant::now()), breaker.success(Instant::now())], [None, None]);
        }
        assert_eq!(breaker.fault(Instant::now()), None, "nine calls are too few to judge");
        assert_eq!(breaker.fault(Instant::now()), Some(Change::Opened(5 * SECOND)));
        let scattered = self::breaker();
        for _ in 0..20 {
            assert_eq!([scattered.fault(Instant::now()), scattered.success(Instant::now()), scattered.success(Instant::now())], [None; 3]);
        }
        advance(20 * SECOND).await;
        assert!((0..5).all(|_| scattered.success(Instant::now()).is_none()));
        assert_eq!(
            [scattered.fault(Instant::now()), scattered.fault(Instant::now())],
            [None, None],
            "what is older than the window does not count"
        );
    }
}
