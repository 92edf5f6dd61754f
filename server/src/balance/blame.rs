//! Whose fault it is that an attempt failed, as far as the deployment goes that it was made at.

use flowgate_proto::v1::ErrorReason;

use super::credentials::Fault;
use crate::error::Error;

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The server's: it is away, slow, or does not keep to its own protocol.
    Server,
    /// That of the credential, which has to rest.
    Credential(Fault),
    /// Nobody's there: the server told the caller, or the operator, what is wrong with the request, or the model did.
    Nobody,
    /// Not known: the server was not heard.
    Unknown,
}

impl Blame {
    /// For this failure.
    pub fn of(error: &Error) -> Self {
        match error.reason() {
            ErrorReason::ProviderUnavailable
            | ErrorReason::ProviderFailed
            | ErrorReason::ProviderTimeout
            | ErrorReason::ProviderBadAnswer
            | ErrorReason::ProviderStreamCut => Self::Server,
            ErrorReason::ProviderRateLimited => Self::Credential(Fault::Limited(error.retry_after_hint())),
            ErrorReason::ProviderCredentialRejected => Self::Credential(Fault::Refused),
            _ if error.upstream_status_code().is_some() => Self::Nobody,
            _ => Self::Unknown,
        }
    }
}
