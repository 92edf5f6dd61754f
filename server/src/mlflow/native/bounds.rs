//! What one call may take: so many bytes, and time only while somebody waits for the answer.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use super::{fault::Fault, tensor::size};

/// How many bytes the values of one call may take at once; as many as an answer may have.
pub(crate) const MOST_BYTES: usize = 1 << 28;

/// Says to a computation that nobody waits for it any longer. It is looked at between operators and between blocks of rows.
#[derive(Debug, Default)]
pub struct Stop {
    is_set: AtomicBool,
    /// When nobody will wait any longer, where that is known.
    until: Option<Instant>,
}

impl Stop {
    /// Somebody waits for so long.
    pub fn after(time: Duration) -> Self {
        Self { until: Instant::now().checked_add(time), ..Self::default() }
    }

    /// Nobody waits any longer.
    pub fn set(&self) {
        self.is_set.store(true, Relaxed);
    }

    /// Whether somebody still waits.
    ///
    /// # Errors
    /// When nobody does.
    pub fn check(&self) -> Result<(), Fault> {
        let is_over = self.is_set.load(Relaxed) || self.until.is_some_and(|until| Instant::now() >= until);
        if is_over { Err(Fault::new("nobody waits for the answer any longer")) } else { Ok(()) }
    }
}

/// How many values a shape asks for, if there is room for as many of a type.
pub(crate) fn room<T>(shape: &[usize]) -> Result<usize, Fault> {
    let count = size(shape)?;
    fits(count.saturating_mul(size_of::<T>())).map_err(|_| Fault::large(format!("a tensor of shape {shape:?} is too large")))?;
    Ok(count)
}

/// Checks that a call may take so many bytes, before it does.
pub(crate) fn fits(bytes: usize) -> Result<(), Fault> {
    if bytes > MOST_BYTES { Err(Fault::large(format!("the call needs more than {MOST_BYTES} bytes, which is too large"))) } else { Ok(()) }
}
