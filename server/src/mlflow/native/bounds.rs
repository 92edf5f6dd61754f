//! What one call may take: so many bytes, and time only while somebody waits for the answer.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::{fault::Fault, tensor::size};

/// How many bytes the values of one call may take at once; as many as an answer may have.
pub(crate) const MOST_BYTES: usize = 1 << 28;

/// Says to a computation that nobody waits for it any longer. It is looked at between operators and between blocks of rows.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

impl Stop {
    /// Nobody waits any longer.
    pub fn set(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether somebody still waits.
    ///
    /// # Errors
    /// When nobody does.
    pub fn check(&self) -> Result<(), Fault> {
        if self.0.load(Relaxed) { Err(Fault::new("nobody waits for the answer any longer")) } else { Ok(()) }
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
