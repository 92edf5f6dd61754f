//! A deployment's credentials: taken in turn, and benched one by one while the provider limits or refuses them.

use std::{
    sync::atomic::{
        AtomicU32, AtomicU64, AtomicUsize,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::Duration,
};

use tokio::time::Instant;

/// How long a credential rests after a rate limit without a hint; doubles each time.
const LIMITED: Duration = Duration::from_secs(1);
const MOST_LIMITED: Duration = Duration::from_secs(60);
/// How long it rests after it was refused; doubles each time.
const REFUSED: Duration = Duration::from_secs(30);
const MOST_REFUSED: Duration = Duration::from_secs(600);
/// What a provider asks for is kept within this.
const MOST_HINTED: Duration = Duration::from_secs(3600);

/// The credentials of one deployment; one without any counts as having one.
#[derive(Debug)]
pub struct Credentials {
    born: Instant,
    slots: Vec<Slot>,
    next: AtomicUsize,
}

#[derive(Debug, Default)]
struct Slot {
    /// Until when it rests, in milliseconds after `born`.
    until: AtomicU64,
    /// When it was benched, likewise.
    since: AtomicU64,
    /// How often it was benched without a good answer between.
    strikes: AtomicU32,
}

/// Why a credential is benched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The provider limits its rate; asked to come back after this, if it said so.
    Limited(Option<Duration>),
    /// The provider refuses it.
    Refused,
}

impl Credentials {
    /// So many; at least one.
    pub fn new(count: usize) -> Self {
        let slots = std::iter::repeat_with(Slot::default).take(count.max(1)).collect();
        Self { born: Instant::now(), slots, next: AtomicUsize::new(0) }
    }

    /// The next one that does not rest and was not `tried`; else one that does not rest; else the one that rests the shortest.
    pub fn choose(&self, tried: impl Fn(usize) -> bool) -> usize {
        if self.slots.len() == 1 {
            return 0;
        }
        let (now, start) = (self.now(), self.next.fetch_add(1, Relaxed));
        let turn = (0..self.slots.len()).map(|step| start.wrapping_add(step) % self.slots.len());
        let rest = |place: usize| self.slots[place].until.load(Acquire).saturating_sub(now);
        turn.min_by_key(|place| (rest(*place), tried(*place))).unwrap_or(0)
    }

    /// Whether there is one that does not rest and was not `tried`.
    pub fn has_free(&self, tried: impl Fn(usize) -> bool) -> bool {
        let now = self.now();
        self.slots.iter().enumerate().any(|(place, slot)| slot.until.load(Acquire) <= now && !tried(place))
    }

    /// How long until one is free; zero when one is.
    pub fn free_in(&self) -> Duration {
        let now = self.now();
        let rests = self.slots.iter().map(|slot| slot.until.load(Acquire).saturating_sub(now));
        Duration::from_millis(rests.min().unwrap_or(0))
    }

    /// Benches one, and tells for how long.
    pub fn bench(&self, place: usize, fault: Fault) -> Duration {
        let Some(slot) = self.slots.get(place) else { return Duration::ZERO };
        let now = self.now();
        // Calls that were under way together find the same fault together, which is one strike.
        let is_new = slot.until.load(Acquire) <= now;
        let strikes = if is_new { slot.strikes.fetch_add(1, Relaxed) } else { slot.strikes.load(Relaxed).saturating_sub(1) };
        let doublings = strikes.min(10);
        let rest = match fault {
            Fault::Limited(Some(hint)) => hint.min(MOST_HINTED),
            Fault::Limited(None) => (LIMITED * 2_u32.pow(doublings)).min(MOST_LIMITED),
            Fault::Refused => (REFUSED * 2_u32.pow(doublings)).min(MOST_REFUSED),
        };
        slot.since.store(now, Relaxed);
        slot.until.fetch_max(now + u64::try_from(rest.as_millis()).unwrap_or(u64::MAX / 2), Release);
        rest
    }

    /// One was good for the answer to an attempt that began then. It need not rest any more if it was benched before.
    pub fn good(&self, place: usize, begun: Instant) {
        let Some(slot) = self.slots.get(place) else { return };
        // Read first: a write would take the line from other cores at each call.
        if slot.strikes.load(Relaxed) == 0 {
            return;
        }
        let begun = u64::try_from(begun.saturating_duration_since(self.born).as_millis()).unwrap_or(u64::MAX / 2);
        if begun > slot.since.load(Relaxed) {
            slot.strikes.store(0, Relaxed);
            slot.until.store(0, Release);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX / 2)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn credentials_take_turns_and_a_benched_one_is_left_out() {
        let credentials = Credentials::new(3);
        let taken: Vec<_> = (0..6).map(|_| credentials.choose(|_| false)).collect();
        assert_eq!(taken, [0, 1, 2, 0, 1, 2]);
        assert_eq!(credentials.bench(1, Fault::Limited(Some(Duration::from_secs(2)))), Duration::from_secs(2));
        assert!((0..9).all(|_| credentials.choose(|_| false) != 1));
        assert!(!credentials.has_free(|place| place != 1));
        advance(Duration::from_secs(2)).await;
        assert!((0..9).any(|_| credentials.choose(|_| false) == 1));
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_rest_the_one_that_is_free_first_is_taken() {
        let credentials = Credentials::new(2);
        credentials.bench(0, Fault::Refused);
        assert_eq!(credentials.free_in(), Duration::ZERO);
        credentials.bench(1, Fault::Limited(None));
        assert_eq!(credentials.free_in(), LIMITED);
        assert!((0..4).all(|_| credentials.choose(|_| false) == 1));
    }

    #[tokio::test(start_paused = true)]
    async fn strikes_lengthen_the_rest_until_an_answer_is_good() {
        let credentials = Credentials::new(1);
        let begun = Instant::now();
        assert_eq!([0; 8].map(|place| credentials.bench(place, Fault::Limited(None))), [LIMITED; 8], "a burst is one strike");
        advance(LIMITED).await;
        assert_eq!(credentials.bench(0, Fault::Limited(None)), 2 * LIMITED);
        credentials.good(0, begun);
        assert_eq!(credentials.free_in(), 2 * LIMITED, "an answer to a call from before says nothing");
        advance(Duration::from_millis(1)).await;
        credentials.good(0, Instant::now());
        assert_eq!(credentials.free_in(), Duration::ZERO);
        assert_eq!(credentials.bench(0, Fault::Limited(None)), LIMITED);
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            advance(MOST_REFUSED).await;
            longest = longest.max(credentials.bench(0, Fault::Refused));
        }
        assert_eq!(longest, MOST_REFUSED);
    }
}
