//! What the benchmarks that start other programs have in common: processes, load over HTTP, and what is made of many measurements.

use std::{
    error::Error,
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};

pub mod http;
pub mod load;
pub mod process;

pub type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Measures on a thread of its own, and tells it if this process is told to end: what it started is to end too.
pub fn until_told_to_end<T: Send + 'static>(measure: impl FnOnce(&Receiver<()>) -> Result<T> + Send + 'static) -> Result<T> {
    let (tell, told) = mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut measuring = tokio::task::spawn_blocking(move || measure(&told));
        tokio::select! {
            report = &mut measuring => return report?,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // Nobody listens if it is just done.
        tell.send(()).unwrap_or_default();
        measuring.await?
    })
}

/// The value below which this share of the sorted values lies.
pub fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    sorted.get(sorted.len() * percent / 100).copied()
}

/// The middle one: a round that the machine disturbed does not count.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

pub fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

pub fn count(calls: usize) -> f64 {
    f64::from(u32::try_from(calls).unwrap_or(u32::MAX))
}
