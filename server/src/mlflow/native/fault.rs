//! What is wrong with a model or with what it was asked, in words; it knows nothing of calls and doors.

use std::{error::Error, fmt};

/// Why a model cannot be read, or cannot answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(String);

impl Fault {
    /// Lower case and without a full stop, as every message.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Fault {}
