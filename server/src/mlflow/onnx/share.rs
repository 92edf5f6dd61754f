//! How a model in ONNX Runtime shares the machine: copies that answer side by side, or one whose operators use several threads.

use std::thread;

/// What copies of a model may take together. Of one that is larger there is one, whose operators then use several threads.
const COPIES: u64 = 256 << 20;

/// How many sessions there are, and how many threads each uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) sessions: usize,
    pub(super) threads: usize,
}

impl Share {
    /// For a model whose copies take so much each.
    pub(super) fn of(copy: u64, threads: Option<u32>) -> Self {
        let threads = match threads {
            Some(threads) => usize::try_from(threads).unwrap_or(usize::MAX),
            None => thread::available_parallelism().map_or(1, usize::from),
        };
        let sessions = usize::try_from(COPIES / copy.max(1)).unwrap_or(usize::MAX).clamp(1, threads.max(1));
        Self { sessions, threads: (threads / sessions).max(1) }
    }
}
