//! How a call went, as gRPC tells it: in trailers, or in the headers of an answer that has nothing else.

use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode_str;
use tonic::Code;

use crate::{
    dialect::failure,
    error::{Error, Result},
};

/// The longest message of a server that is told on.
const MOST_TOLD: usize = 300;

/// Lets a success pass.
///
/// # Errors
/// What the status says, or that there is none.
pub(super) fn pass(headers: &HeaderMap) -> Result<()> {
    let Some(status) = headers.get("grpc-status") else {
        let message = "the model server's answer has no status of gRPC; have the operator check that its address speaks gRPC";
        return Err(Error::new(ErrorReason::ProviderBadAnswer, message));
    };
    let code = status.to_str().ok().and_then(|code| code.parse::<i32>().ok()).map_or(Code::Unknown, Code::from);
    // What a server says of its own faults may hold stack traces.
    let said = message_of(headers);
    let (reason, status, is_told) = match code {
        Code::Ok => return Ok(()),
        Code::ResourceExhausted | Code::OutOfRange if said.as_deref().is_some_and(is_of_size) => {
            (ErrorReason::CallerTooLarge, StatusCode::PAYLOAD_TOO_LARGE, false)
        }
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition | Code::AlreadyExists => {
            (ErrorReason::ProviderRejectedRequest, StatusCode::BAD_REQUEST, true)
        }
        Code::NotFound | Code::Unimplemented => (ErrorReason::ProviderNotFound, StatusCode::NOT_FOUND, false),
        Code::PermissionDenied => (ErrorReason::ProviderCredentialRejected, StatusCode::FORBIDDEN, false),
        Code::Unauthenticated => (ErrorReason::ProviderCredentialRejected, StatusCode::UNAUTHORIZED, false),
        Code::ResourceExhausted => (ErrorReason::ProviderRateLimited, StatusCode::TOO_MANY_REQUESTS, false),
        Code::DeadlineExceeded => (ErrorReason::ProviderTimeout, StatusCode::GATEWAY_TIMEOUT, false),
        Code::Unavailable | Code::Aborted | Code::Cancelled => (ErrorReason::ProviderUnavailable, StatusCode::SERVICE_UNAVAILABLE, false),
        // Servers have no other word for a model that raised.
        Code::Internal | Code::Unknown | Code::DataLoss => {
            let message = "the model failed on this input; look into its server's log, or send another input";
            let error = Error::new(ErrorReason::ProviderModelFailed, message).upstream_status(StatusCode::INTERNAL_SERVER_ERROR);
            return Err(error.because(said.unwrap_or_default()));
        }
    };
    let error = failure::build(reason, status, headers, said.as_deref().filter(|_| is_told));
    Err(if is_told { error } else { error.because(said.unwrap_or_default()) })
}

/// Whether a message is too large for one side or the other: libraries have no code for that alone, but words of their own.
fn is_of_size(said: &str) -> bool {
    const WORDS: [&str; 4] = ["message larger than max", "message exceeds", "message length too large", "message size exceeds"];
    let said = said.to_ascii_lowercase();
    WORDS.iter().any(|words| said.contains(words))
}

/// The first line of what the server says.
fn message_of(headers: &HeaderMap) -> Option<String> {
    let said = headers.get("grpc-message")?.to_str().ok()?;
    let said = percent_decode_str(said).decode_utf8_lossy();
    let line = said.lines().find(|line| !line.trim().is_empty())?.trim();
    Some(line.chars().filter(|char| !char.is_control()).take(MOST_TOLD).collect())
}
