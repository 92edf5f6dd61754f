//! Two counts of what happened of late: what is older than the window is forgotten, a tenth of it at a time.

use std::{
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

const PARTS: u8 = 10;

/// Counts within a window that rolls on with time.
#[derive(Debug)]
pub(super) struct Window {
    born: Instant,
    part: Duration,
    parts: [Part; PARTS as usize],
}

#[derive(Debug, Default)]
struct Part {
    /// Which part since the beginning, from 1; 0: none yet.
    number: AtomicU64,
    counts: [AtomicU32; 2],
}

impl Window {
    /// One of that length, in which nothing happened yet.
    pub(super) fn new(length: Duration) -> Self {
        let part = (length / u32::from(PARTS)).max(Duration::from_millis(1));
        Self { born: Instant::now(), part, parts: Default::default() }
    }

    /// Adds to each of the counts.
    pub(super) fn add(&self, counts: [u32; 2]) {
        let part = self.now();
        for (count, more) in part.counts.iter().zip(counts).filter(|(_, more)| *more > 0) {
            count.fetch_add(more, Relaxed);
        }
    }

    /// What both counts come to within the window.
    pub(super) fn sums(&self) -> [u32; 2] {
        let oldest = self.number().saturating_sub(u64::from(PARTS) - 1);
        let fresh = self.parts.iter().filter(|part| part.number.load(Relaxed) >= oldest);
        fresh.fold([0, 0], |[one, other], part| {
            let [first, second] = &part.counts;
            [one + first.load(Relaxed), other + second.load(Relaxed)]
        })
    }

    /// Begins anew.
    pub(super) fn forget(&self) {
        self.parts.iter().for_each(Part::forget);
    }

    fn number(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_nanos() / self.part.as_nanos()).unwrap_or(u64::MAX - 1) + 1
    }

    /// The present part, emptied by whoever finds it used up.
    fn now(&self) -> &Part {
        let number = self.number();
        let part = &self.parts[usize::try_from(number).unwrap_or_default() % self.parts.len()];
        let known = part.number.load(Acquire);
        if known != number && part.number.compare_exchange(known, number, Acquire, Relaxed).is_ok() {
            part.forget();
        }
        part
    }
}

impl Part {
    fn forget(&self) {
        self.counts.iter().for_each(|count| count.store(0, Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_older_than_the_window_is_forgotten_part_by_part() {
        let second = Duration::from_secs(1);
        let window = Window::new(10 * second);
        window.add([2, 1]);
        advance(4 * second).await;
        window.add([1, 0]);
        assert_eq!(window.sums(), [3, 1]);
        advance(6 * second).await;
        assert_eq!(window.sums(), [1, 0]);
        window.add([0, 5]);
        assert_eq!(window.sums(), [1, 5], "the place of the first part is taken, not added to");
        window.forget();
        assert_eq!(window.sums(), [0, 0]);
    }
}
