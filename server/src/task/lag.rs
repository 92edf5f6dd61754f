//! [`Lag`]: by how much work that is due begins too late, which is what a runtime without CPU time to spare shows first.

use std::{
    convert::Infallible,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// How often it is measured.
const TICK: Duration = Duration::from_millis(50);
/// What a delay that still lasts has beyond this counts, even if it is the first.
const ALONE: Duration = Duration::from_secs(1);

/// The delay that lasts: the least of the last three. A single long one, be it of an hour in which the process was stopped, is no
/// load. Cloning shares.
#[derive(Clone, Debug)]
pub struct Lag(Arc<Inner>);

/// Times in microseconds.
#[derive(Debug)]
struct Inner {
    born: Instant,
    /// The least of the last three delays, and of the last two.
    of_three: AtomicU64,
    of_two: AtomicU64,
    /// When the present measurement should be done, after `born`; 0 while nothing is measured.
    due: AtomicU64,
}

/// Nothing is measured any more when this is dropped.
struct Watching<'a>(&'a Inner);

impl Lag {
    /// The delay. One that still lasts counts already: what measures may be the last to have its turn.
    pub fn get(&self) -> Duration {
        let [least, of_two, due] =
            [&self.0.of_three, &self.0.of_two, &self.0.due].map(|number| Duration::from_micros(number.load(Relaxed)));
        if due.is_zero() {
            return least;
        }
        let late = self.0.born.elapsed().saturating_sub(due);
        least.max(late.min(of_two)).max(late.saturating_sub(ALONE))
    }

    /// Measures for as long as it is polled, and tells the delay each time. It must be a task of its own: only such a one stands in
    /// line with the calls.
    pub async fn watch(&self, tell: impl Fn(Duration)) -> Infallible {
        let watching = Watching(&self.0);
        let mut last = [Duration::ZERO; 3];
        loop {
            let due = Instant::now() + TICK;
            watching.0.due.store(micros(due - watching.0.born), Relaxed);
            sleep_until(due).await;
            stand_in_line().await;
            last = [due.elapsed(), last[0], last[1]];
            watching.0.of_two.store(micros(last[0].min(last[1])), Relaxed);
            let least = last[0].min(last[1]).min(last[2]);
            self.set(least);
            tell(least);
        }
    }

    /// The delay is this now.
    pub fn set(&self, delay: Duration) {
        self.0.of_three.store(micros(delay), Relaxed);
    }
}

impl Default for Lag {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self(Arc::new(Inner { born: Instant::now(), of_three: zero(), of_two: zero(), due: zero() }))
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        [&self.0.due, &self.0.of_two, &self.0.of_three].into_iter().for_each(|number| number.store(0, Relaxed));
    }
}

/// Goes to the end of the line of tasks that are ready: whom a timer wakes may be let in before them.
async fn stand_in_line() {
    let mut has_waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{pin::Pin, sync::Mutex};

    use futures_util::poll;
    use tokio::time::advance;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Lets a measurement be late by so much; the delay while it lasts, and then.
    async fn late_by(lag: &Lag, mut watch: Pin<&mut impl Future<Output = Infallible>>, late: u32) -> (u128, u128) {
        advance(TICK + late * MS).await;
        let before = lag.get();
        // It is woken, stands in line, and waits for the next tick.
        assert!(poll!(watch.as_mut()).is_pending());
        assert!(poll!(watch.as_mut()).is_pending());
        (before.as_millis(), lag.get().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_that_lasts_counts_and_a_single_one_does_not() {
        let (lag, told) = (Lag::default(), Mutex::new(Duration::ZERO));
        let mut watch = Box::pin(lag.watch(|delay| *told.lock().unwrap() = delay));
        assert!(poll!(watch.as_mut()).is_pending());
        for (late, during, then) in [
            (0, 0, 0),
            (900, 0, 0),
            (0, 0, 0),
            (3_600_000, 3_599_000, 0),
            (0, 0, 0),
            (300, 0, 0),
            (400, 0, 0),
            // Two were late: a third one counts as soon as it is.
            (200, 200, 200),
            (900, 200, 200),
            (900, 200, 200),
            (900, 900, 900),
            (10, 900, 10),
            (0, 10, 0),
        ] {
            let seen = late_by(&lag, watch.as_mut(), late).await;
            // The clock of timers has steps of a millisecond.
            let is_near = |seen: u128, wanted: u128| seen.abs_diff(wanted) <= 2;
            assert!(is_near(seen.0, during) && is_near(seen.1, then), "{late} ms late: {seen:?}, not {during} and {then}");
            assert_eq!(told.lock().unwrap().as_millis(), seen.1);
        }
        for _ in 0..3 {
            late_by(&lag, watch.as_mut(), 300).await;
        }
        assert!(lag.get() >= 300 * MS);
        drop(watch);
        assert_eq!(lag.get(), Duration::ZERO, "nobody measures any more");
    }
}
