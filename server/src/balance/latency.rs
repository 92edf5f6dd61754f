//! How fast a deployment is of late: a decaying average, and quantiles from counts in rising buckets.

use std::{
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Buckets for each doubling: a bucket's bounds are 9 % apart.
const PER_DOUBLING: f64 = 8.0;
/// From a microsecond to over an hour.
const BUCKETS: usize = 256;
/// How long a generation of counts is filled; the one before it still counts.
const GENERATION: Duration = Duration::from_secs(30);
/// Fewer samples tell nothing.
const LEAST: u32 = 20;

/// An average in which what is older counts less: half as much after ten seconds.
#[derive(Debug)]
pub struct Average {
    born: Instant,
    /// The bits of a float; not a number while nothing is known.
    value: AtomicU64,
    /// When it was last added to, in milliseconds after `born`.
    at: AtomicU64,
}

/// Counts of durations over the last minute.
#[derive(Debug)]
pub struct Quantiles {
    born: Instant,
    generations: [Generation; 2],
}

/// Counts of durations since it was made.
#[derive(Debug)]
pub struct Histogram(Box<[AtomicU32]>);

#[derive(Debug)]
struct Generation {
    number: AtomicU64,
    counts: Histogram,
}

impl Average {
    const HALF_LIFE: f64 = 10_000.0;

    /// Nothing is known yet.
    pub fn new() -> Self {
        Self { born: Instant::now(), value: AtomicU64::new(f64::NAN.to_bits()), at: AtomicU64::new(0) }
    }

    /// Adds a sample. Of samples that come at the very same time one may be lost.
    pub fn add(&self, sample: f64) {
        let now = self.now();
        let since = now.saturating_sub(self.at.swap(now, Relaxed));
        let old = f64::from_bits(self.value.load(Relaxed));
        // However fast samples come, each one counts for something.
        let keep = 0.5_f64.powf(to_f64(since) / Self::HALF_LIFE).min(0.98);
        let new = if old.is_nan() { sample } else { old * keep + sample * (1.0 - keep) };
        self.value.store(new.to_bits(), Relaxed);
    }

    /// The average; `None` when there was no sample for `fresh`.
    pub fn get(&self, fresh: Duration) -> Option<f64> {
        let age = self.now().saturating_sub(self.at.load(Relaxed));
        let value = f64::from_bits(self.value.load(Relaxed));
        (!value.is_nan() && u128::from(age) <= fresh.as_millis()).then_some(value)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Default for Average {
    fn default() -> Self {
        Self::new()
    }
}

impl Quantiles {
    /// Nothing is known yet.
    pub fn new() -> Self {
        let generation = || Generation { number: AtomicU64::new(0), counts: Histogram::new() };
        Self { born: Instant::now(), generations: [generation(), generation()] }
    }

    /// Counts a duration.
    pub fn add(&self, duration: Duration) {
        self.now().counts.add(duration);
    }

    /// The duration that a share of the recent ones stayed below; `None` when they are too few to tell.
    pub fn get(&self, quantile: f64) -> Option<Duration> {
        let number = self.number();
        let fresh: Vec<_> = self.generations.iter().filter(|each| each.number.load(Acquire) + 1 >= number).collect();
        find(|bucket| fresh.iter().map(|each| each.counts.count(bucket)).sum(), quantile, LEAST)
    }

    fn number(&self) -> u64 {
        self.born.elapsed().as_secs() / GENERATION.as_secs() + 1
    }

    fn now(&self) -> &Generation {
        let number = self.number();
        let generation = &self.generations[usize::from(number % 2 == 1)];
        let known = generation.number.load(Acquire);
        if known != number && generation.number.compare_exchange(known, number, AcqRel, Relaxed).is_ok() {
            generation.counts.0.iter().for_each(|count| count.store(0, Relaxed));
        }
        generation
    }
}

impl Default for Quantiles {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// Nothing is counted yet.
    pub fn new() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU32::new(0)).collect())
    }

    /// Counts a duration.
    pub fn add(&self, duration: Duration) {
        if let Some(count) = self.0.get(bucket(duration)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// The duration that a share of them stayed below; `None` when there are fewer than `least`.
    pub fn get(&self, quantile: f64, least: u32) -> Option<Duration> {
        find(|bucket| self.count(bucket), quantile, least)
    }

    /// How many of them were longer beyond doubt, a tenth more or less, and how many there are.
    pub fn beyond(&self, bound: Duration) -> (u32, u32) {
        let sum = |buckets: std::ops::Range<usize>| buckets.map(|bucket| self.count(bucket)).sum();
        let (within, beyond): (u32, u32) = (sum(0..bucket(bound) + 1), sum(bucket(bound) + 1..BUCKETS));
        (beyond, within + beyond)
    }

    fn count(&self, bucket: usize) -> u32 {
        self.0.get(bucket).map_or(0, |count| count.load(Relaxed))
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// The upper bound of the bucket below whose end a share of all that is counted lies.
fn find(count: impl Fn(usize) -> u32, quantile: f64, least: u32) -> Option<Duration> {
    let total: u32 = (0..BUCKETS).map(&count).sum();
    if total < least.max(1) {
        return None;
    }
    let mut left = f64::from(total) * quantile;
    let place = (0..BUCKETS).find(|bucket| {
        left -= f64::from(count(*bucket));
        left <= 0.0
    });
    Some(upper(place.unwrap_or(BUCKETS - 1)))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float as an integer saturates, and the place is bounded")]
fn bucket(duration: Duration) -> usize {
    let micros = duration.as_secs_f64() * 1e6;
    ((micros.max(1.0).log2() * PER_DOUBLING) as usize).min(BUCKETS - 1)
}

/// The upper bound of a bucket.
fn upper(bucket: usize) -> Duration {
    Duration::from_secs_f64(2_f64.powf((to_f64(bucket as u64) + 1.0) / PER_DOUBLING) / 1e6)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds and places are small")]
fn to_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn quantiles_are_within_a_tenth_and_forget_after_a_minute() {
        let quantiles = Quantiles::new();
        assert_eq!(quantiles.get(0.5), None);
        (1..=100).for_each(|ms| quantiles.add(Duration::from_millis(ms)));
        for (quantile, ms) in [(0.5, 50.0), (0.95, 95.0), (0.99, 99.0)] {
            let got = quantiles.get(quantile).unwrap().as_secs_f64() * 1000.0;
            assert!((ms..ms * 1.1).contains(&got), "{quantile}: {got} ms");
        }
        advance(Duration::from_secs(31)).await;
        assert!(quantiles.get(0.5).is_some(), "the generation before counts");
        (0..20).for_each(|_| quantiles.add(Duration::from_secs(1)));
        advance(Duration::from_secs(30)).await;
        assert!(quantiles.get(0.1).unwrap() > Duration::from_millis(900), "only the last one is left");
        advance(Duration::from_secs(61)).await;
        assert_eq!(quantiles.get(0.5), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_older_counts_less_in_an_average() {
        let average = Average::new();
        assert_eq!(average.get(Duration::MAX), None);
        average.add(100.0);
        advance(Duration::from_secs(10)).await;
        average.add(0.0);
        assert_eq!(average.get(Duration::MAX), Some(50.0));
        advance(Duration::from_secs(3)).await;
        assert_eq!(average.get(Duration::from_secs(2)), None, "nothing that fresh is known");
    }
}
