//! Why a call failed: the gRPC status, with Flowgate's details read from it once.

use std::{collections::HashMap, error::Error as StdError, fmt, time::Duration};

use flowgate_proto::{google::rpc, v1::ErrorReason};
use prost::Message as _;
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The `domain` of Flowgate's error details.
const DOMAIN: &str = "flowgate";

/// Why a call failed.
///
/// [`Error::reason`] is for programs, the message for people. Errors that arose on this side, such as a refused connection, have
/// a code and no reason; only a deadline that passed has its reason on both sides.
pub struct Error(Box<Inner>);

struct Inner {
    status: Status,
    reason: Option<String>,
    metadata: HashMap<String, String>,
    violations: Vec<Violation>,
    retry_after: Option<Duration>,
}

/// One request field at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field's path, for example `messages[2].parts[0]`.
    pub field: String,
    /// What is wrong with it and what is expected.
    pub description: String,
}

impl Error {
    /// The gRPC code.
    pub fn code(&self) -> Code {
        self.0.status.code()
    }

    /// What is wrong and what to do next, for people.
    pub fn message(&self) -> &str {
        self.0.status.message()
    }

    /// Flowgate's reason. `None` when the error did not come from Flowgate, or has a reason newer than this client.
    pub fn reason(&self) -> Option<ErrorReason> {
        ErrorReason::from_str_name(&format!("ERROR_REASON_{}", self.reason_name()?))
    }

    /// Flowgate's reason as written on the wire, for example `CALLER_ENDPOINT_NOT_FOUND`.
    pub fn reason_name(&self) -> Option<&str> {
        self.0.reason.as_deref()
    }

    /// Where it happened: `endpoint`, `deployment`, `provider`, `upstream_status` and `request_id`, as far as they are known.
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.0.metadata
    }

    /// The request fields at fault.
    pub fn violations(&self) -> &[Violation] {
        &self.0.violations
    }

    /// When trying again makes sense, if Flowgate said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The message, and what lies behind it where that adds something. One line.
    pub fn told(&self) -> String {
        let mut told = self.message().to_owned();
        // An error often repeats the one behind it, and tonic's `transport error` says nothing at all.
        for cause in causes(self).map(ToString::to_string).filter(|cause| cause != "transport error") {
            if !told.contains(&cause) {
                told = format!("{told}: {cause}");
            }
        }
        told.replace(['\r', '\n'], " ")
    }

    /// Whether the connection failed, be it that the address was not reached or that the connection broke; then nothing was said
    /// by Flowgate, and [`Error::told`] says what happened.
    pub fn is_connection(&self) -> bool {
        // What came over the wire has no cause on this side.
        self.0.reason.is_none() && self.source().is_some()
    }

    /// The status as received.
    pub fn status(&self) -> &Status {
        &self.0.status
    }

    /// The status as received.
    pub fn into_status(self) -> Status {
        self.0.status
    }

    /// A mistake in what the program asked of this crate.
    pub(crate) fn misuse(message: impl Into<String>) -> Self {
        Status::invalid_argument(message).into()
    }

    /// An answer that is not what the contract says.
    pub(crate) fn broken(message: &'static str) -> Self {
        Status::internal(message).into()
    }

    /// The caller's deadline passed; tells the same as Flowgate would, which may be a moment slower.
    pub(crate) fn deadline() -> Self {
        let details = ErrorDetails::with_error_info("CALLER_DEADLINE_EXCEEDED", DOMAIN, HashMap::new());
        Status::with_error_details(Code::DeadlineExceeded, "the deadline passed before the answer was complete", details).into()
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        // tonic reports its own clock as `CANCELLED`.
        if status.code() == Code::Cancelled && timed_out(&status) {
            return Self::deadline();
        }
        let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN);
        let violations = status.get_details_bad_request().map(|request| request.field_violations).unwrap_or_default();
        let violations = violations.into_iter().map(|v| Violation { field: v.field, description: v.description });
        let retry_after = status.get_details_retry_info().and_then(|retry| retry.retry_delay);
        let (reason, metadata) = info.map(|info| (info.reason, info.metadata)).unzip();
        Self(Box::new(Inner { reason, metadata: metadata.unwrap_or_default(), violations: violations.collect(), retry_after, status }))
    }
}

impl From<rpc::Status> for Error {
    /// The error of one answer among many, as `StreamPredict` carries it.
    fn from(status: rpc::Status) -> Self {
        let details = status.encode_to_vec().into();
        Status::with_details(Code::from_i32(status.code), status.message, details).into()
    }
}

fn timed_out(status: &Status) -> bool {
    causes(status).any(|cause| cause.is::<TimeoutExpired>())
}

/// What lies behind an error, the nearest first.
pub(crate) fn causes(error: &dyn StdError) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |cause: &&(dyn StdError + 'static)| (*cause).source())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason_name() {
            Some(reason) => write!(f, "{reason}: {}", self.told()),
            None => write!(f, "{:?}: {}", self.code(), self.told()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.code())
            .field("reason", &self.0.reason)
            .field("message", &self.message())
            .field("metadata", &self.0.metadata)
            .field("violations", &self.0.violations)
            .field("retry_after", &self.0.retry_after)
            .field("source", &self.source())
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.status.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details() -> ErrorDetails {
        let metadata = HashMap::from([("endpoint".to_owned(), "chat".to_owned())]);
        let mut details = ErrorDetails::with_error_info("PROVIDER_RATE_LIMITED", DOMAIN, metadata);
        details.set_retry_info(Some(Duration::from_secs(3))).add_bad_request_violation("max_tokens", "must be at least 1");
        details
    }

    fn assert_told(error: &Error) {
        assert_eq!(error.code(), Code::ResourceExhausted);
        assert_eq!(error.reason(), Some(ErrorReason::ProviderRateLimited));
        assert_eq!(error.metadata()["endpoint"], "chat");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
        assert_eq!(error.violations()[0].field, "max_tokens");
        assert_eq!(error.to_string(), "PROVIDER_RATE_LIMITED: slow down");
    }

    #[test]
    fn details_are_read_from_a_status_and_from_a_message() {
        let status = Status::with_error_details(Code::ResourceExhausted, "slow down", details());
        let message = rpc::Status::decode(status.details()).unwrap();
        assert_told(&status.into());
        assert_told(&message.into());
    }

    #[test]
    fn foreign_and_unknown_details_are_no_reason() {
        let foreign = ErrorDetails::with_error_info("PROVIDER_RATE_LIMITED", "example.com", HashMap::new());
        let error = Error::from(Status::with_error_details(Code::Unavailable, "away", foreign));
        assert_eq!((error.reason_name(), error.to_string().as_str()), (None, "Unavailable: away"));
        let newer = ErrorDetails::with_error_info("POLICY_INVENTED_LATER", DOMAIN, HashMap::new());
        let error = Error::from(Status::with_error_details(Code::Unavailable, "away", newer));
        assert_eq!((error.reason_name(), error.reason()), (Some("POLICY_INVENTED_LATER"), None));
        let bare = Error::from(Status::with_details(Code::Internal, "odd", bytes::Bytes::from_static(b"\xff")));
        assert_eq!((bare.reason(), bare.violations().len()), (None, 0));
    }
}
