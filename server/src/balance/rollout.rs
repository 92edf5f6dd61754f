//! A rollout: which share of an endpoint's calls its canary gets, step by step, and how the canary is judged by what attempts come to.
//!
//! It has no task of its own: it looks at the clock when it is asked for the share or told of an attempt.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use flowgate_proto::{v1, wkt};
use tokio::time::Instant;

use crate::{
    config,
    telemetry::routing::{Cause, RolloutMeter},
};

mod evidence;
mod tally;
#[cfg(test)]
mod tests;
mod trial;

use tally::{Came, Tally};
pub use trial::{Rollouts, Trial};

/// How long the times of a step are not looked at again.
const LOOK: Duration = Duration::from_millis(100);

/// The rollout of one endpoint.
#[derive(Debug)]
pub struct Rollout {
    endpoint: Arc<str>,
    canary: Arc<str>,
    config: config::Rollout,
    leg: ArcSwap<Leg>,
    was_announced: AtomicBool,
    meter: RolloutMeter,
}

/// What holds from one change to the next.
#[derive(Debug)]
struct Leg {
    stand: Stand,
    /// The position of the step.
    step: usize,
    /// The canary's, in percent.
    share: u32,
    since: Instant,
    canary: Tally,
    stable: Tally,
    /// What the stable deployments came to in the last step that gave them enough calls.
    before: Came,
    /// When the times were last looked at, in milliseconds after `since` and [`LOOK`].
    looked: AtomicU64,
}

/// Where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stand {
    Running,
    Finished,
    /// And why.
    RolledBack(String),
}

impl Rollout {
    /// At its first step.
    fn new(endpoint: &Arc<str>, canary: &Arc<str>, config: config::Rollout, meter: RolloutMeter) -> Self {
        let share = config.steps.first().copied().unwrap_or(0);
        Self {
            endpoint: Arc::clone(endpoint),
            canary: Arc::clone(canary),
            config,
            leg: ArcSwap::from_pointee(Leg::new(Stand::Running, 0, share)),
            was_announced: AtomicBool::new(false),
            meter,
        }
    }

    /// The canary's share of the calls that no condition takes elsewhere, in percent.
    pub fn share(&self) -> u32 {
        let leg = self.leg.load();
        if !self.is_due(&leg) {
            return leg.share;
        }
        self.move_on(&leg);
        self.leg.load().share
    }

    /// Says that calls are from now on led by it.
    pub fn announce(&self) {
        let share = self.share();
        self.meter.show(share);
        if !self.was_announced.swap(true, Relaxed) {
            self.meter.began(share);
        }
    }

    /// Takes all calls from the canary, for good. One that is rolled back stays as it is.
    pub fn roll_back(&self, reason: &str) {
        let why = if reason.is_empty() { "by an operator".to_owned() } else { format!("by an operator: {reason}") };
        loop {
            let leg = self.leg.load_full();
            if matches!(leg.stand, Stand::RolledBack(_)) || self.end(&leg, Cause::Operator, &why) {
                return;
            }
        }
    }

    /// As clients and operators see it.
    pub fn describe(&self) -> v1::Rollout {
        self.share();
        let leg = self.leg.load();
        let is_running = leg.stand == Stand::Running;
        let (state, reason) = match &leg.stand {
            Stand::Running => (v1::RolloutState::Running, self.waits_for(&leg).unwrap_or_default()),
            Stand::Finished => (v1::RolloutState::Finished, String::new()),
            Stand::RolledBack(why) => (v1::RolloutState::RolledBack, why.clone()),
        };
        let every = self.config.every;
        v1::Rollout {
            endpoint: self.endpoint.to_string(),
            canary: self.canary.to_string(),
            state: state.into(),
            share_percent: leg.share,
            steps: self.config.steps.clone(),
            step: u32::try_from(leg.step).unwrap_or(u32::MAX).saturating_add(1),
            every: Some(tally::as_message(every)),
            since: Some(timestamp(leg.since.elapsed())),
            reason,
            canary_tally: is_running.then(|| leg.canary.describe()),
            stable_tally: is_running.then(|| leg.stable.describe()),
        }
    }

    /// How many calls a judgement needs.
    fn least(&self) -> u32 {
        self.config.min_calls.max(1)
    }

    fn is_due(&self, leg: &Leg) -> bool {
        leg.stand == Stand::Running && leg.since.elapsed() >= self.config.every && leg.canary.calls() >= self.least()
    }

    /// Why a step goes on although its time is over.
    fn waits_for(&self, leg: &Leg) -> Option<String> {
        let (calls, least) = (leg.canary.calls(), self.least());
        (leg.since.elapsed() >= self.config.every && calls < least)
            .then(|| format!("the step goes on until the canary has {least} calls to be judged by; it has {calls}"))
    }

    /// The step is over: back, to the next one, or to the end.
    fn move_on(&self, leg: &Arc<Leg>) {
        if self.judge(leg, true) {
            return;
        }
        let (least, stable) = (self.least(), &leg.stable);
        let failures = stable.failures(least).or(leg.before.failures);
        let before = Came { failures, times: stable.times(least).or(leg.before.times) };
        match self.config.steps.get(leg.step + 1) {
            Some(share) => {
                let next = Leg { before, ..Leg::new(Stand::Running, leg.step + 1, *share) };
                if self.turn(leg, next) {
                    self.meter.moved(*share);
                }
            }
            None => {
                if self.turn(leg, Leg::new(Stand::Finished, leg.step, leg.share)) {
                    self.meter.finished(leg.share);
                }
            }
        }
    }

    /// Rolls back when the canary does worse than it may and than the stable deployments; tells whether it does.
    fn judge(&self, leg: &Arc<Leg>, is_end: bool) -> bool {
        let Some((cause, why)) = self.too_many_failures(leg).or_else(|| self.too_slow(leg, is_end)) else { return false };
        self.end(leg, cause, &why);
        true
    }

    /// Where the stable deployments have too few calls in the step, they stand as in the one before.
    fn too_many_failures(&self, leg: &Leg) -> Option<(Cause, String)> {
        let (most, least) = (self.config.error_rate?, self.least());
        let canary = leg.canary.failures(least).filter(|canary| canary.is_above(most, least))?;
        let stable = leg.stable.failures(least).or(leg.before.failures);
        if stable.is_some_and(|stable| !canary.is_above_that_of(stable, least)) {
            return None;
        }
        let than = stable.map(|stable| format!(" and than the stable deployments' {}", tally::percent(stable.share())));
        let (rate, most) = (tally::percent(canary.share()), tally::percent(most));
        let why = format!("{} of {} calls of {} failed ({rate}), more than {most}", canary.hits, canary.of, self.canary);
        Some((Cause::ErrorRate, why + &than.unwrap_or_default()))
    }

    /// Of the canary's answers a twentieth may take longer than the bound. To count them costs more than a call should, so that it is
    /// done only now and then, and at the end of the step.
    fn too_slow(&self, leg: &Leg, is_end: bool) -> Option<(Cause, String)> {
        let (factor, least) = (self.config.p95?, self.least());
        if leg.canary.calls() < least || !(is_end || leg.may_look()) {
            return None;
        }
        let (canary, stable) = (leg.canary.times(least)?, leg.stable.times(least).or(leg.before.times)?);
        let bound = stable.p95.mul_f64(factor);
        let is_slow = canary.p95 > bound && leg.canary.slow(bound).is_above_that_of(stable.slow(), least);
        is_slow.then(|| {
            let (own, others) = (canary.p95, stable.p95);
            let why = format!("the p95 of {} is {own:.1?}, more than {factor} times the stable deployments' {others:.1?}", self.canary);
            (Cause::P95, why)
        })
    }

    /// The time above which a call is slow beyond doubt.
    fn most_time(&self, leg: &Leg) -> Option<Duration> {
        let factor = self.config.p95?;
        Some(leg.stable.times(self.least()).or(leg.before.times)?.p95.mul_f64(factor))
    }

    fn end(&self, leg: &Arc<Leg>, cause: Cause, why: &str) -> bool {
        let turned = self.turn(leg, Leg::new(Stand::RolledBack(why.to_owned()), leg.step, 0));
        if turned {
            self.meter.rolled_back(cause, why, leg.share);
        }
        turned
    }

    /// Of those who see the same leg end, one has its way.
    fn turn(&self, leg: &Arc<Leg>, next: Leg) -> bool {
        Arc::ptr_eq(&self.leg.compare_and_swap(leg, Arc::new(next)), leg)
    }
}

impl Leg {
    fn new(stand: Stand, step: usize, share: u32) -> Self {
        let (canary, stable) = (Tally::new(), Tally::new());
        Self { stand, step, share, since: Instant::now(), canary, stable, before: Came::default(), looked: AtomicU64::new(0) }
    }

    /// Whether the times may be looked at again; says so once.
    fn may_look(&self) -> bool {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (now, last) = (millis(self.since.elapsed() + LOOK), self.looked.load(Relaxed));
        now - last.min(now) >= millis(LOOK) && self.looked.compare_exchange(last, now, Relaxed, Relaxed).is_ok()
    }
}

/// So long ago.
fn timestamp(ago: Duration) -> wkt::Timestamp {
    let at = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    wkt::Timestamp { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: tally::nanos(since) }
}
