//! How far a download is, for log lines and for whoever asks.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::time::{Duration, Instant};

use crate::telemetry::rounded;

/// How often a log line tells how far it is.
const TELL: Duration = Duration::from_secs(10);

/// One download under way.
#[derive(Debug)]
pub(super) struct Progress {
    model: String,
    since: Instant,
    told: Mutex<Instant>,
    files: AtomicU64,
    files_done: AtomicU64,
    bytes: AtomicU64,
    bytes_done: AtomicU64,
}

/// How far a download is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The model, as it was named.
    pub model: String,
    /// Since when.
    pub since: Instant,
    /// How many files it has; 0 until that is known.
    pub files: u64,
    /// How many are there.
    pub files_done: u64,
    /// How large they are together; 0 until that is known.
    pub bytes: u64,
    /// How much is there.
    pub bytes_done: u64,
}

impl Progress {
    pub(super) fn new(model: &str) -> Self {
        let now = Instant::now();
        let [files, files_done, bytes, bytes_done] = [0; 4].map(AtomicU64::new);
        Self { model: model.to_owned(), since: now, told: Mutex::new(now), files, files_done, bytes, bytes_done }
    }

    pub(super) fn report(&self) -> Report {
        Report {
            model: self.model.clone(),
            since: self.since,
            files: self.files.load(Relaxed),
            files_done: self.files_done.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            bytes_done: self.bytes_done.load(Relaxed),
        }
    }

    pub(super) fn begin(&self, files: u64, bytes: Option<u64>) {
        self.files.store(files, Relaxed);
        self.bytes.store(bytes.unwrap_or_default(), Relaxed);
        tracing::info!(model = self.model, files, bytes, "downloading a model");
    }

    pub(super) fn add(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Relaxed);
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(*told) < TELL {
            return;
        }
        *told = now;
        drop(told);
        let Report { model, files, files_done, bytes, bytes_done, .. } = self.report();
        tracing::info!(model, files, files_done, bytes, bytes_done, "downloading a model");
    }

    /// What was read is read anew.
    pub(super) fn take_back(&self, bytes: u64) {
        self.bytes_done.fetch_sub(bytes, Relaxed);
    }

    pub(super) fn file_done(&self) {
        self.files_done.fetch_add(1, Relaxed);
    }

    pub(super) fn done(&self) {
        let Report { model, files_done, bytes_done, .. } = self.report();
        let seconds = rounded(self.since.elapsed()).as_secs_f64();
        tracing::info!(model, files = files_done, bytes = bytes_done, seconds, "downloaded a model");
    }
}
