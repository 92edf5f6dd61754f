//! What is wrong with a model or with what it is given. No codes: who calls the engine knows which of the two it asked for.

use std::{error, fmt};

/// Why a model cannot be loaded or cannot answer: a sentence that names the operator, the input or the file's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    message: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Broken,
    Large,
}

impl Fault {
    /// A fault with its message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), kind: Kind::Plain }
    }

    /// A fault of bytes that are no file of their kind at all, whoever reads them.
    pub fn broken(message: impl Into<String>) -> Self {
        Self { message: message.into(), kind: Kind::Broken }
    }

    /// A fault of a call that asks for more than one call may take.
    pub fn large(message: impl Into<String>) -> Self {
        Self { message: message.into(), kind: Kind::Large }
    }

    /// Whether the bytes are damaged, rather than of a part that this engine has not.
    pub fn is_broken(&self) -> bool {
        self.kind == Kind::Broken
    }

    /// Whether less at a time might do.
    pub fn is_large(&self) -> bool {
        self.kind == Kind::Large
    }

    /// The same fault, and where it happened.
    #[must_use]
    pub fn within(self, place: &str) -> Self {
        Self { message: format!("{place}: {}", self.message), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl error::Error for Fault {}
