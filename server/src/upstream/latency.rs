//! How long a replica takes to answer: a moving average that follows a rise at once and forgets it in time.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// After so long a latency counts for about a third.
const MEMORY: Duration = Duration::from_secs(10);
/// Nothing counts as faster, in milliseconds: a replica that was not asked for a while would else draw all calls at once.
const LEAST: f32 = 0.1;

/// The average in one word: milliseconds as a float, and when it was taken. 0: never.
#[derive(Debug, Default)]
pub(super) struct Latency(AtomicU64);

impl Latency {
    /// Takes a latency in, `now` after the replica's birth.
    pub(super) fn observe(&self, now: Duration, took: Duration) {
        let (stamp, took) = (stamp(now), (took.as_secs_f32() * 1000.0).max(LEAST));
        let average = |word: u64| {
            let (average, kept) = aged(word, stamp).unwrap_or((took, 1.0));
            // What is left of the old average has faded already; the new latency makes up for what has.
            let average = if took > average { took } else { (average + took * (1.0 - kept)).max(LEAST) };
            (u64::from(average.to_bits()) << 32) | u64::from(stamp)
        };
        self.0.update(Relaxed, Relaxed, average);
    }

    /// The average in milliseconds as it has faded since; `None` when nothing was seen.
    pub(super) fn at(&self, now: Duration) -> Option<f32> {
        aged(self.0.load(Relaxed), stamp(now)).map(|(average, _)| average.max(LEAST))
    }
}

/// An average as it is now, and the share of it that is left.
fn aged(word: u64, now: u32) -> Option<(f32, f32)> {
    if word == 0 {
        return None;
    }
    let average = f32::from_bits(u32::try_from(word >> 32).unwrap_or(0));
    let elapsed = now.wrapping_sub(u32::try_from(word & u64::from(u32::MAX)).unwrap_or(now));
    // Somebody else's clock may have been read a moment later.
    let elapsed = if elapsed > u32::MAX / 2 { 0 } else { elapsed };
    let kept = (-Duration::from_millis(elapsed.into()).div_duration_f32(MEMORY)).exp();
    Some((average * kept, kept))
}

/// Milliseconds; goes round after seven weeks.
fn stamp(now: Duration) -> u32 {
    u32::try_from(now.as_millis() % (1 << 32)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn near(latency: &Latency, now: Duration, expected: f32) {
        let average = latency.at(now).unwrap();
        assert!((average - expected).abs() < expected / 50.0, "{average} is not about {expected}");
    }

    #[test]
    fn a_rise_counts_at_once_and_fades() {
        let latency = Latency::default();
        assert_eq!(latency.at(SECOND), None);
        latency.observe(SECOND, Duration::from_millis(10));
        near(&latency, SECOND, 10.0);
        latency.observe(SECOND, Duration::from_millis(500));
        near(&latency, SECOND, 500.0);
        near(&latency, SECOND + MEMORY, 500.0 / std::f32::consts::E);
        near(&latency, 1000 * SECOND, LEAST);
    }

    #[test]
    fn faster_answers_bring_it_down_slowly() {
        let latency = Latency::default();
        latency.observe(SECOND, Duration::from_millis(100));
        latency.observe(SECOND, Duration::from_millis(10));
        near(&latency, SECOND, 100.0);
        for second in 2..60 {
            latency.observe(SECOND * second, Duration::from_millis(10));
        }
        near(&latency, SECOND * 59, 10.0);
    }

    #[test]
    fn an_earlier_reading_of_the_clock_ages_nothing() {
        let latency = Latency::default();
        latency.observe(SECOND * 5, Duration::from_millis(100));
        near(&latency, SECOND * 4, 100.0);
        let late = Duration::from_millis(u64::from(u32::MAX));
        latency.observe(late, Duration::from_millis(100));
        near(&latency, late + MEMORY, 100.0 / std::f32::consts::E);
    }
}
