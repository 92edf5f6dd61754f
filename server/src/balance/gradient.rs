//! An adaptive limit: as many calls at once as a deployment serves without getting slower, found by comparing how long calls take.

use std::time::Duration;

use tokio::time::Instant;

/// So much slower than usual is still usual.
const TOLERANCE: f64 = 1.2;
/// How far one look moves the limit towards what it finds right.
const SMOOTHING: f64 = 0.2;
/// How much one look takes off at most.
const LEAST_GRADIENT: f64 = 0.5;
/// How the limit grows at first, until calls get this much slower.
const START: (f64, f64) = (1.5, 0.9);
/// What is left of the limit when the deployment says that it has too many calls.
const BACKOFF: f64 = 0.8;
/// How long calls are gathered before a look, and how many of them at least.
const WINDOW: Duration = Duration::from_millis(100);
const LEAST: f64 = 10.0;
/// What is usual is the average of the first looks, which see a low limit.
const FIRST: f64 = 5.0;
/// Then each look changes it by this share while there is little to do. Under load, slow for now and slow for good look alike: it is
/// changed so little that only the latter lasts long enough.
const LEARNT_IDLE: f64 = 0.1;
const LEARNT_BUSY: Duration = Duration::from_secs(1800);
/// A usual time that is so many times the present one is forgotten faster.
const OUTDATED: f64 = 2.0;

/// The limit, and what it was found by.
#[derive(Debug)]
pub(super) struct Gradient {
    min: f64,
    max: f64,
    limit: f64,
    /// Whether it still grows as at first.
    is_starting: bool,
    /// How long calls usually take, in seconds; unknown before the first look.
    usual: Option<f64>,
    looks: f64,
    window: Window,
    /// When the limit was last taken back.
    taken_back: Instant,
}

/// The calls since the last look.
#[derive(Debug)]
struct Window {
    since: Instant,
    calls: f64,
    /// Of all of them, in seconds.
    time: f64,
    /// The most calls that were in flight when one of them began.
    crowd: f64,
}

impl Gradient {
    /// Begins with the lowest limit: what a deployment takes without any load is what it is measured by.
    pub(super) fn new(min: u32, max: u32) -> Self {
        let (min, now) = (f64::from(min.max(1)), Instant::now());
        Self {
            min,
            max: f64::from(max).max(min),
            limit: min,
            is_starting: true,
            usual: None,
            looks: 0.0,
            window: Window::new(now),
            taken_back: now,
        }
    }

    /// The limit, in whole calls.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies between two numbers of this type")]
    pub(super) fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// A call took so long to its answer or first event; it was one of `crowd` when it began.
    pub(super) fn answered(&mut self, took: Duration, crowd: u32, now: Instant) {
        let window = &mut self.window;
        window.calls += 1.0;
        window.time += took.as_secs_f64();
        window.crowd = window.crowd.max(f64::from(crowd));
        let since = now.saturating_duration_since(window.since);
        if since >= WINDOW && window.calls >= LEAST {
            self.look(since);
            self.window = Window::new(now);
        }
    }

    /// Nobody waited any more for a call after so long. That says something only if it is longer than usual.
    pub(super) fn abandoned(&mut self, waited: Duration, crowd: u32, now: Instant) {
        if self.usual.is_some_and(|usual| waited.as_secs_f64() > usual) {
            self.answered(waited, crowd, now);
        }
    }

    /// The deployment said of a call that it has too many, or said nothing at all. Calls that began before the limit was last taken back
    /// say nothing new.
    pub(super) fn overloaded(&mut self, begun: Instant, now: Instant) {
        if begun >= self.taken_back {
            self.limit = (self.limit * BACKOFF).max(self.min);
            self.is_starting = false;
            self.taken_back = now;
            self.window = Window::new(now);
        }
    }

    fn look(&mut self, since: Duration) {
        let present = self.window.time / self.window.calls;
        let usual = self.usual.unwrap_or(present);
        let is_idle = self.window.crowd < self.limit / 2.0;
        self.looks += 1.0;
        let share = match () {
            () if self.looks <= FIRST => 1.0 / self.looks,
            () if is_idle || usual > present * OUTDATED => LEARNT_IDLE,
            () => since.div_duration_f64(LEARNT_BUSY).min(LEARNT_IDLE),
        };
        self.usual = Some(usual + (present - usual) * share);
        // What it bears is seen only while it has to bear something.
        if is_idle {
            return;
        }
        let gradient = (TOLERANCE * usual / present.max(f64::MIN_POSITIVE)).clamp(LEAST_GRADIENT, 1.0);
        let (growth, slower) = START;
        self.is_starting &= gradient >= slower;
        let limit = if self.is_starting {
            self.limit * growth
        } else {
            // The root is the queue that the deployment may have within itself, and what makes the limit grow.
            let right = self.limit * gradient + self.limit.sqrt();
            self.limit + (right - self.limit) * SMOOTHING
        };
        self.limit = limit.clamp(self.min, self.max);
    }
}

impl Window {
    fn new(now: Instant) -> Self {
        Self { since: now, calls: 0.0, time: 0.0, crowd: 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// As many calls as the limit allows, each of which takes so long by how many there are; so many rounds of them.
    async fn saturate(gradient: &mut Gradient, rounds: u32, took: impl Fn(u32) -> Duration) {
        for _ in 0..rounds {
            let crowd = gradient.limit();
            advance(took(crowd)).await;
            (0..crowd).for_each(|_| gradient.answered(took(crowd), crowd, Instant::now()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn grows_while_nothing_gets_slower_and_only_if_calls_come() {
        let mut gradient = Gradient::new(4, 500);
        saturate(&mut gradient, 20, |_| 100 * MS).await;
        assert_eq!(gradient.limit(), 500);
        let mut idle = Gradient::new(20, 500);
        for _ in 0..100 {
            advance(100 * MS).await;
            (0..10).for_each(|_| idle.answered(100 * MS, 9, Instant::now()));
        }
        assert_eq!(idle.limit(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn uneven_calls_are_no_load() {
        let mut gradient = Gradient::new(4, 200);
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..1000 {
            let crowd = gradient.limit();
            advance(100 * MS).await;
            (0..crowd.min(10)).for_each(|_| gradient.answered(MS * random.u32(10..190), crowd, Instant::now()));
        }
        assert_eq!(gradient.limit(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn is_taken_back_once_for_all_calls_of_the_same_time() {
        let mut gradient = Gradient::new(10, 500);
        saturate(&mut gradient, 20, |_| 100 * MS).await;
        let begun = Instant::now();
        advance(MS).await;
        (0..50).for_each(|_| gradient.overloaded(begun, Instant::now()));
        assert_eq!(gradient.limit(), 400);
        gradient.overloaded(Instant::now(), Instant::now() + MS);
        assert_eq!(gradient.limit(), 320);
        for _ in 0..100 {
            advance(MS).await;
            gradient.overloaded(Instant::now(), Instant::now());
        }
        assert_eq!(gradient.limit(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_nobody_waits_for_count_if_they_are_slow() {
        let mut gradient = Gradient::new(4, 100);
        saturate(&mut gradient, 20, |_| 100 * MS).await;
        for _ in 0..50 {
            advance(100 * MS).await;
            (0..100).for_each(|_| gradient.abandoned(50 * MS, 100, Instant::now()));
        }
        assert_eq!(gradient.limit(), 100, "who leaves early says nothing");
        for _ in 0..50 {
            advance(1000 * MS).await;
            (0..100).for_each(|_| gradient.abandoned(1000 * MS, 100, Instant::now()));
        }
        assert!(gradient.limit() < 10, "{}", gradient.limit());
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_become_slower_for_good_is_learnt_when_there_is_little_to_do() {
        let mut gradient = Gradient::new(4, 100);
        saturate(&mut gradient, 20, |_| 100 * MS).await;
        saturate(&mut gradient, 50, |_| 300 * MS).await;
        assert!(gradient.limit() < 10, "{}", gradient.limit());
        for _ in 0..50 {
            advance(1000 * MS).await;
            (0..10).for_each(|_| gradient.answered(300 * MS, 1, Instant::now()));
        }
        saturate(&mut gradient, 200, |_| 300 * MS).await;
        assert_eq!(gradient.limit(), 100);
    }
}
