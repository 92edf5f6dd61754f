//! What one evaluation may cost, in bytes read or made, and why it fails. Every operator, function and method pays here before it works.

use std::{cell::Cell, cmp, error::Error as StdError, fmt};

use minijinja::{Error, ErrorKind};

/// What one condition may cost: about 4 MiB of text looked at or made, which takes a few milliseconds.
pub(super) const CONDITION: usize = 4 << 20;
/// What one rendering may cost.
pub(super) const RENDERING: usize = 16 << 20;
/// What an item of a list or dict costs: what it takes in memory, about.
pub(super) const ITEM: usize = 64;

/// A key, attribute or index that is not there.
pub(super) const MISSING: &str = "a key, attribute or index is missing; ask for it with `.get(…)`, or test it with `is defined`";
/// More work than one evaluation may do.
pub(super) const TOO_MUCH: &str = "it would read or make more than the allowed amount of text and items";

thread_local! {
    // Evaluation never leaves its thread, so this costs no lock and needs no argument through the engine.
    static LEFT: Cell<usize> = const { Cell::new(0) };
}

/// Why an evaluation failed, in words of ours.
#[derive(Debug)]
struct Refusal(&'static str);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl StdError for Refusal {}

/// Begins an evaluation that may cost so much.
pub(super) fn start(work: usize) {
    LEFT.set(work);
}

/// What is left of it.
pub(super) fn left() -> usize {
    LEFT.get()
}

/// Pays for work that is about to be done.
///
/// # Errors
/// When it is too much; everything after that is, too.
pub(super) fn charge(work: usize) -> Result<(), Error> {
    let rest = LEFT.get().checked_sub(work);
    LEFT.set(rest.unwrap_or(0));
    rest.map(|_| ()).ok_or_else(|| refuse(TOO_MUCH))
}

/// Pays for so many of something.
///
/// # Errors
/// As [`charge`].
pub(super) fn charge_each(count: usize, work: usize) -> Result<(), Error> {
    charge(cmp::max(count, 1).saturating_mul(work))
}

/// A failure with a reason that may be logged: it holds nothing of the request.
pub(super) fn refuse(reason: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason).with_source(Refusal(reason))
}

/// The reason of a failure. The engine's own words may show values, so they are not passed on.
pub(super) fn reason(error: &Error) -> &'static str {
    if let Some(Refusal(reason)) = error.source().and_then(|source| source.downcast_ref()) {
        return reason;
    }
    match error.kind() {
        ErrorKind::UndefinedError => MISSING,
        ErrorKind::OutOfFuel => "it takes too many steps",
        ErrorKind::TooManyArguments | ErrorKind::MissingArgument => "a function or method got the wrong number of arguments",
        _ => "an operator, function or method does not fit the values that it got",
    }
}
