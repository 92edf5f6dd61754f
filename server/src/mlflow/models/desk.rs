//! What is under way with one model, and what went wrong: one load for all who wait, and pauses that grow while a version fails.

use std::{sync::Arc, time::Duration};

use futures_util::future::Shared;
use tokio::{sync::oneshot, time::Instant};

use super::{failure::Failed, generation::Generation};
use crate::{
    error::{Error, Result},
    mlflow::registry::Resolved,
};

/// How long after a failure the next load is tried at the earliest, doubled with each further one, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a version must have answered for what failed before it to count no more.
const STEADY: Duration = Duration::from_secs(30);

/// One load under way, for all who wait for it.
pub(super) type Flight = Shared<oneshot::Receiver<Result<Arc<Generation>>>>;

/// What is under way, and what went wrong.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) flight: Option<Flight>,
    /// What the load under way loads, once that is looked up.
    pub(super) sought: Option<Resolved>,
    /// How often in a row the version failed that failed last, and what names it.
    pub(super) failures: u32,
    failing: Option<String>,
    pub(super) failed: Option<Failed>,
    /// When the version that answers was loaded.
    pub(super) loaded: Option<Instant>,
}

impl Desk {
    /// The load under way. One that is done and still there has panicked.
    pub(super) fn flight(&self) -> Option<Flight> {
        self.flight.clone().filter(|flight| flight.peek().is_none())
    }

    /// Forgets the failures before the version that answers, or did until now, when that has done so for long. Whether it has.
    pub(super) fn settle(&mut self) -> bool {
        let steady = self.loaded.is_some_and(|loaded| loaded.elapsed() >= STEADY);
        if steady {
            self.failures = 0;
        }
        steady
    }

    /// What keeps the model from being called; a lack of room is no fault of its own, and passes.
    pub(super) fn fault(&self) -> Option<&Failed> {
        self.failed.as_ref().filter(|failed| failed.is_fault())
    }

    /// Takes in a failure; the next try of the same waits longer than the last.
    pub(super) fn fail(&mut self, error: Error, sought: Option<Resolved>) -> Failed {
        let failing = sought.as_ref().and_then(|sought| sought.identity.clone());
        if self.failing != failing {
            (self.failures, self.failing) = (0, failing);
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        let failed = Failed { error, until: Instant::now() + pause.mul_f64(0.9 + 0.2 * fastrand::f64()), sought };
        self.failed = Some(failed.clone());
        failed
    }
}
