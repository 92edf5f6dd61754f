//! What is under way with one model, and what went wrong: one load for all who wait, and pauses that grow while a version fails.

use std::{sync::Arc, time::Duration};

use flowgate_proto::v1::ErrorReason;
use futures_util::future::Shared;
use tokio::{sync::oneshot, time::Instant};

use super::generation::Generation;
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

/// A load that failed.
#[derive(Clone)]
pub(super) struct Failed {
    pub(super) error: Error,
    pub(super) until: Instant,
    /// What could not be loaded; `None`: the reference could not be looked up.
    pub(super) sought: Option<Resolved>,
}

/// What could not be loaded last. A version before it may answer meanwhile.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its number in the registry. `None`: it has none, or the reference could not be looked up.
    pub version: Option<u32>,
    /// Why.
    pub error: Error,
    /// How long until it is tried again, at the least.
    pub again_in: Duration,
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
        self.failed.as_ref().filter(|failed| failed.error.reason() != ErrorReason::GatewayOverloaded)
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

impl Failed {
    /// What names the version for ever that failed.
    pub(super) fn identity(&self) -> Option<String> {
        self.sought.as_ref()?.identity.clone()
    }

    pub(super) fn version(&self) -> Option<u32> {
        Some(self.sought.as_ref()?.version.as_ref()?.version)
    }

    /// Why, and when it is tried again.
    pub(super) fn told(&self, name: &str) -> Error {
        let left = self.until.saturating_duration_since(Instant::now());
        let message = format!("model `{name}` cannot be loaded: {}; it is tried again in {:.0} s", self.error, left.as_secs_f64().ceil());
        // Whoever asks for it elsewhere may get an answer, so that a lack of room keeps its reason.
        let reason = match self.error.reason() {
            reason @ (ErrorReason::GatewayOverloaded | ErrorReason::ProviderNotFound) => reason,
            _ => ErrorReason::GatewayNotServing,
        };
        Error::new(reason, message).retry_after(Some(left)).because(self.error.clone())
    }
}
