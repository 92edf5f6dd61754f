//! Log lines of the process: what is logged, how it looks, and where it goes.

use std::{
    io::{self, IsTerminal as _},
    sync::OnceLock,
};

use tracing_subscriber::EnvFilter;

use super::{
    json::Json,
    lines::{Flush, Lines},
};

/// The lines of the process.
static LINES: OnceLock<Lines> = OnceLock::new();

/// How many lines were thrown away because the terminal or disk was too slow for them.
pub fn lost() -> u64 {
    LINES.get().map_or(0, Lines::lost)
}

/// Writes the last lines out, for an end of the process that drops nothing.
pub fn end() {
    if let Some(lines) = LINES.get() {
        lines.end();
    }
}

/// Starts logging to standard error. What is returned writes the last lines out when it is dropped.
///
/// `RUST_LOG` chooses what is logged; unset: `info`.
///
/// # Errors
/// When no thread can be started.
pub fn start(json: bool) -> io::Result<Flush> {
    let lines = LINES.get_or_init(Lines::default);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines.clone()).with_target(true);
    let started = if json { log.event_format(Json).try_init() } else { log.with_ansi(io::stderr().is_terminal()).try_init() };
    if started.is_err() {
        tracing::debug!("another subscriber is already there, as in tests");
    }
    lines.write_to(io::stderr())
}
