//! A budget of extra attempts: a share of the ordinary ones over the last ten seconds, so that trouble is not multiplied.

use std::time::Duration;

use super::window::Window;

const WINDOW: Duration = Duration::from_secs(10);

/// Counts ordinary and extra attempts.
#[derive(Debug)]
pub struct Budget {
    share: f64,
    /// Extra attempts that are allowed however few the ordinary ones are.
    least: u32,
    /// Ordinary attempts, and extra ones.
    recent: Window,
}

impl Budget {
    /// Extra attempts of at most `share` of the ordinary ones, or `least`.
    pub fn new(share: f64, least: u32) -> Self {
        Self { share, least, recent: Window::new(WINDOW) }
    }

    /// Counts an ordinary attempt.
    pub fn deposit(&self) {
        self.recent.add([1, 0]);
    }

    /// Whether an extra attempt may be made, which then counts.
    pub fn withdraw(&self) -> bool {
        let [ordinary, extra] = self.recent.sums();
        let most = (f64::from(ordinary) * self.share).max(f64::from(self.least));
        let allowed = f64::from(extra) + 1.0 <= most;
        if allowed {
            self.recent.add([0, 1]);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
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
