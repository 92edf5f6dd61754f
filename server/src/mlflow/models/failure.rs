//! What is told of a model that could not be loaded: why, and who tries it again when.

use std::{fmt, time::Duration};

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
    /// Who tries it again, and when.
    pub again: Again,
}

/// Who tries again what failed, at the earliest after so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// The gateway, by itself.
    Itself(Duration),
    /// The gateway, when it looks up what the reference means. A version before it answers.
    LookUp(Duration),
    /// Whoever calls it.
    Call(Duration),
    /// Only who has it loaded anew: a version answers, and the reference goes on meaning what it does.
    Load,
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

impl Again {
    /// How long until it is tried again, at the least; `None`: until somebody has it loaded.
    pub fn after(self) -> Option<Duration> {
        match self {
            Self::Itself(after) | Self::LookUp(after) | Self::Call(after) => Some(after),
            Self::Load => None,
        }
    }
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.after().unwrap_or_default().as_secs_f64().ceil();
        match (self, left > 0.0) {
            (Self::Itself(_), false) => f.write_str("it is tried again now"),
            (Self::Itself(_), true) => write!(f, "it is tried again in {left:.0} s"),
            (Self::LookUp(_), false) => f.write_str("it is tried again with the next look-up"),
            (Self::LookUp(_), true) => write!(f, "it is tried again with the first look-up after {left:.0} s"),
            (Self::Call(_), false) => f.write_str("the next call tries it again"),
            (Self::Call(_), true) => write!(f, "a call after {left:.0} s tries it again"),
            (Self::Load, _) => f.write_str("it is tried again only when somebody loads it"),
        }
    }
}

impl Hosted {
    /// What could not be loaded last, unless the reference means something else now, or it answers after all.
    pub fn failure(&self) -> Option<Failure> {
        let failed = self.desk().failed.clone()?;
        Some(Failure { version: failed.version(), again: self.again(&failed), error: failed.error })
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
        let again = self.again(failed);
        let message = format!("model `{}` cannot be loaded: {}; {again}", self.name, failed.error);
        // Whoever asks for it elsewhere may get an answer, so that a lack of room keeps its reason.
        let reason = match failed.error.reason() {
            reason @ (ErrorReason::GatewayOverloaded | ErrorReason::ProviderNotFound) => reason,
            _ => ErrorReason::GatewayNotServing,
        };
        let told = Error::new(reason, message).retry_after(again.after());
        // Its own words are in the message.
        match std::error::Error::source(&failed.error) {
            Some(cause) => told.because(cause.to_string()),
            None => told,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_the_next_try_is_true() {
        let told = |again: fn(Duration) -> Again, millis| again(Duration::from_millis(millis)).to_string();
        assert_eq!(told(Again::Itself, 1001), "it is tried again in 2 s");
        assert_eq!(told(Again::Itself, 0), "it is tried again now");
        assert_eq!(told(Again::LookUp, 1001), "it is tried again with the first look-up after 2 s");
        assert_eq!(told(Again::LookUp, 0), "it is tried again with the next look-up");
        assert_eq!(told(Again::Call, 999), "a call after 1 s tries it again");
        assert_eq!(told(Again::Call, 0), "the next call tries it again");
        assert_eq!(Again::Load.to_string(), "it is tried again only when somebody loads it");
    }
}
