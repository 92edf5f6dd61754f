//! How fast calls of an endpoint that hedges are of late, and how many second attempts it may make. Outlives a reload that leaves its
//! `hedge` alone.

use std::{sync::Arc, time::Duration};

use super::{budget::Budget, kept::Kept, latency::Quantiles};
use crate::config::{Hedge, HedgeAfter};

/// The tempo of one endpoint's calls.
#[derive(Debug)]
pub struct Tempo {
    after: HedgeAfter,
    /// Of whole answers and of streams' first events, which have nothing in common.
    latency: [Quantiles; 2],
    budget: Budget,
}

/// The tempi of all endpoints that hedge.
#[derive(Debug, Default)]
pub struct Tempi(Kept<String, Tempo>);

impl Tempo {
    /// Nothing is known of an endpoint yet.
    pub fn new(hedge: Hedge) -> Self {
        Self { after: hedge.after, latency: Default::default(), budget: Budget::new(hedge.budget, 0) }
    }

    /// Counts a call, and tells after which time a second attempt is due; `None` while too little is known.
    pub fn begin(&self, streaming: bool) -> Option<Duration> {
        self.budget.deposit();
        match self.after {
            HedgeAfter::Delay(delay) => Some(delay),
            HedgeAfter::Quantile(quantile) => self.latency[usize::from(streaming)].get(quantile),
        }
    }

    /// Whether the budget has a second attempt left, which then counts.
    pub fn may_hedge(&self) -> bool {
        self.budget.withdraw()
    }

    /// A call got its answer after so long, counted from its own beginning and not from that of the attempt that won: else the calls
    /// that were cut short would make the next ones look late.
    pub fn learn(&self, streaming: bool, latency: Duration) {
        if matches!(self.after, HedgeAfter::Quantile(_)) {
            self.latency[usize::from(streaming)].add(latency);
        }
    }
}

impl Tempi {
    /// The tempo of an endpoint; that of before if its `hedge` has not changed.
    pub fn of(&self, endpoint: &str, hedge: Hedge) -> Arc<Tempo> {
        self.0.of(format!("{endpoint} {hedge:?}"), || Tempo::new(hedge))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEDGE: Hedge = Hedge { after: HedgeAfter::Quantile(0.95), budget: 0.05 };

    #[test]
    fn a_tempo_outlives_a_reload_that_leaves_the_hedge_alone() {
        let tempi = Tempi::default();
        let first = tempi.of("e", HEDGE);
        assert!(Arc::ptr_eq(&first, &tempi.of("e", HEDGE)));
        assert!(!Arc::ptr_eq(&first, &tempi.of("f", HEDGE)));
        assert!(!Arc::ptr_eq(&first, &tempi.of("e", Hedge { budget: 0.1, ..HEDGE })));
    }

    #[tokio::test(start_paused = true)]
    async fn streams_and_whole_answers_have_each_their_own() {
        let tempo = Tempo::new(HEDGE);
        (0..20).for_each(|_| tempo.learn(true, Duration::from_millis(10)));
        assert_eq!(tempo.begin(false), None, "too little is known");
        assert!(tempo.begin(true).unwrap() < Duration::from_millis(11));
    }
}
