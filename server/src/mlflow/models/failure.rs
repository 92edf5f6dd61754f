//! What is told of a model that could not be loaded: why, and who tries it again when.

use std::time::Duration;

use flowgate_proto::v1::ErrorReason;
use tokio::time::Instant;

use super::hosted::Hosted;
use crate::{error::Error, mlflow::registry::Resolved};

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
    /// Who does that.
    pub again: Again,
}

/// Who tries again what failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// The gateway, by itself.
    Itself,
    /// Whoever calls it.
    Call,
}

impl Failed {
    /// What names the version for ever that failed.
    pub(super) fn identity(&self) -> Option<String> {
        self.sought.as_ref()?.identity.clone()
    }

    pub(super) fn version(&self) -> Option<u32> {
        Some(self.sought.as_ref()?.version.as_ref()?.version)
    }

    pub(super) fn again_in(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Whether it is a fault; a lack of room is none, and passes.
    pub(super) fn is_fault(&self) -> bool {
        self.error.reason() != ErrorReason::GatewayOverloaded
    }
}

impl Failure {
    /// When it is tried again, and by whom.
    pub fn again(&self) -> String {
        match (self.again, self.again_in.as_secs_f64().ceil()) {
            (Again::Itself, 0.0) => "it is tried again now".to_owned(),
            (Again::Itself, left) => format!("it is tried again in {left:.0} s"),
            (Again::Call, 0.0) => "the next call tries it again".to_owned(),
            (Again::Call, left) => format!("a call after {left:.0} s tries it again"),
        }
    }
}

impl Hosted {
    /// What could not be loaded last, unless the reference means something else now, or it answers after all.
    pub fn failure(&self) -> Option<Failure> {
        let failed = self.desk().failed.clone()?;
        Some(self.failure_of(&failed))
    }

    /// Why no call can be answered: what it is called for could not be loaded, and no version before it is there. The same while it is tried
    /// again; `None` while it may be loaded, or just lacks room.
    pub fn not_serving(&self) -> Option<Error> {
        if self.current.load().is_some() {
            return None;
        }
        let failed = self.desk().fault().cloned()?;
        Some(self.told(&failed))
    }

    /// Why it cannot be called, and when it is tried again.
    pub(super) fn told(&self, failed: &Failed) -> Error {
        let failure = self.failure_of(failed);
        let message = format!("model `{}` cannot be loaded: {}; {}", self.name, failed.error, failure.again());
        // Whoever asks for it elsewhere may get an answer, so that a lack of room keeps its reason.
        let reason = match failed.error.reason() {
            reason @ (ErrorReason::GatewayOverloaded | ErrorReason::ProviderNotFound) => reason,
            _ => ErrorReason::GatewayNotServing,
        };
        let told = Error::new(reason, message).retry_after(Some(failure.again_in));
        // Its own words are in the message.
        match std::error::Error::source(&failed.error) {
            Some(cause) => told.because(cause.to_string()),
            None => told,
        }
    }

    fn failure_of(&self, failed: &Failed) -> Failure {
        let again = if self.tries_again(failed) { Again::Itself } else { Again::Call };
        Failure { version: failed.version(), error: failed.error.clone(), again_in: failed.again_in(), again }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_the_next_try_is_true() {
        let told = |again, millis| {
            let error = Error::internal("it is of no use");
            Failure { version: None, error, again_in: Duration::from_millis(millis), again }.again()
        };
        assert_eq!(told(Again::Itself, 1001), "it is tried again in 2 s");
        assert_eq!(told(Again::Itself, 0), "it is tried again now");
        assert_eq!(told(Again::Call, 999), "a call after 1 s tries it again");
        assert_eq!(told(Again::Call, 0), "the next call tries it again");
    }
}
