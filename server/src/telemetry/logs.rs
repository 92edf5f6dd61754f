//! Log lines, written by a thread of their own: a slow terminal or disk never holds a request up.

use std::{
    io::{BufWriter, IsTerminal as _},
    sync::OnceLock,
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// The writing thread empties its queue into a buffer of this many bytes and writes that at once: a line costs no system call of its own.
const BATCH: usize = 64 * 1024;
/// Counts lines of the process that were thrown away.
static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// How many lines were thrown away because the terminal or disk was too slow for them.
pub fn lost() -> u64 {
    LOST.get().map_or(0, |lost| lost.dropped_lines() as u64)
}

/// Starts logging to standard error. The guard flushes when it is dropped.
///
/// `RUST_LOG` chooses what is logged; unset: `info`.
pub fn start(json: bool) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default().lossy(true).finish(BufWriter::with_capacity(BATCH, std::io::stderr()));
    LOST.get_or_init(|| writer.error_counter());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(true);
    let started = if json {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    if started.is_err() {
        tracing::debug!("another subscriber is already there, as in tests");
    }
    guard
}
