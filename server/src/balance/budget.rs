//! A budget of extra attempts: a share of the ordinary ones over the last ten seconds, so that trouble is not multiplied.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed},
};

use tokio::time::Instant;

const SECONDS: usize = 10;

/// Counts ordinary and extra attempts.
#[derive(Debug)]
pub struct Budget {
    share: f64,
    /// Extra attempts that are allowed however few the ordinary ones are.
    least: u32,
    born: Instant,
    seconds: [Second; SECONDS],
}

#[derive(Debug, Default)]
struct Second {
    /// Which second since the beginning, plus one; 0: none yet.
    number: AtomicU64,
    ordinary: AtomicU32,
    extra: AtomicU32,
}

impl Budget {
    /// Extra attempts of at most `share` of the ordinary ones, or `least`.
    pub fn new(share: f64, least: u32) -> Self {
        Self { share, least, born: Instant::now(), seconds: Default::default() }
    }

    /// Counts an ordinary attempt.
    pub fn deposit(&self) {
        self.now().ordinary.fetch_add(1, Relaxed);
    }

    /// Whether an extra attempt may be made, which then counts.
    pub fn withdraw(&self) -> bool {
        let now = self.now();
        let oldest = self.number().saturating_sub(SECONDS as u64 - 1);
        let fresh = self.seconds.iter().filter(|second| second.number.load(Relaxed) >= oldest);
        let (ordinary, extra) =
            fresh.fold((0, 0), |(ordinary, extra), second| (ordinary + second.ordinary.load(Relaxed), extra + second.extra.load(Relaxed)));
        let most = (f64::from(ordinary) * self.share).max(f64::from(self.least));
        let allowed = f64::from(extra) + 1.0 <= most;
        if allowed {
            now.extra.fetch_add(1, Relaxed);
        }
        allowed
    }

    fn number(&self) -> u64 {
        self.born.elapsed().as_secs() + 1
    }

    /// The present second, emptied by whoever finds it used up.
    fn now(&self) -> &Second {
        let number = self.number();
        let place = usize::try_from(number).unwrap_or_default() % SECONDS;
        let second = &self.seconds[place];
        let known = second.number.load(Acquire);
        if known != number && second.number.compare_exchange(known, number, Acquire, Relaxed).is_ok() {
            second.ordinary.store(0, Relaxed);
            second.extra.store(0, Relaxed);
        }
        second
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn extras_are_a_share_of_what_was_ordinary_of_late() {
        let budget = Budget::new(0.2, 0);
        assert!(!budget.withdraw());
        (0..100).for_each(|_| budget.deposit());
        assert_eq!((0..100).filter(|_| budget.withdraw()).count(), 20);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(!budget.withdraw(), "what was spent counts as long as what it was earned by");
        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(!budget.withdraw(), "what was earned is forgotten");
        (0..10).for_each(|_| budget.deposit());
        assert_eq!((0..10).filter(|_| budget.withdraw()).count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_are_allowed_in_any_case() {
        let budget = Budget::new(0.2, 3);
        assert_eq!((0..10).filter(|_| budget.withdraw()).count(), 3);
        (0..20).for_each(|_| budget.deposit());
        assert_eq!((0..10).filter(|_| budget.withdraw()).count(), 1, "four of twenty, three of which are spent");
    }
}
