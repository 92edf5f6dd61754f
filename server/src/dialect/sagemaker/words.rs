//! The words by which the service says what went wrong. What a container says stands within, and is for its own protocol to read.

use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::is_tgi;
use crate::{
    dialect::{
        Dialect, Frame, Quirks, Target, aws,
        errors::{Errors, Vocabulary},
        failure,
        json::Count,
        openai::OPENAI,
        scoring::SCORING,
        tgi::TGI,
    },
    error::Error,
};

static WORDS: Vocabulary = Vocabulary {
    reasons: &[
        ("ThrottlingException", ErrorReason::ProviderRateLimited),
        ("ModelNotReadyException", ErrorReason::ProviderUnavailable),
        ("ServiceUnavailable", ErrorReason::ProviderUnavailable),
        ("InternalDependencyException", ErrorReason::ProviderUnavailable),
        ("InternalFailure", ErrorReason::ProviderFailed),
    ],
    statuses: &[],
};

/// A failure of the container. `Message` and `LogStreamArn` name the account and where its logs are, and are not read.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ModelError {
    original_status_code: Count,
    original_message: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct StreamError {
    error_code: Option<String>,
}

/// Whether a container's failure is that of a scoring server.
#[derive(Deserialize)]
struct ScoringFailure {
    #[serde(rename = "error_code")]
    _error_code: String,
    #[serde(rename = "message")]
    _message: String,
}

/// The error for an answer that is not a success.
pub(super) fn classify(target: &Target, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    let says = |text: &str| body.windows(text.len()).any(|window| window == text.as_bytes());
    match aws::error_name(headers, body).as_deref() {
        Some("ModelError") => of_container(target, headers, body),
        // It says so with the account's number.
        Some("ValidationError") if says("not found") => failure::build(ErrorReason::ProviderNotFound, status, headers, None),
        _ => aws::classify(Errors::new(&WORDS, target.quirks), status, headers, body),
    }
}

/// What a container said, read by the protocol that it speaks.
fn of_container(target: &Target, headers: &HeaderMap, body: &[u8]) -> Error {
    let ModelError { original_status_code, original_message } = serde_json::from_slice(body).unwrap_or_default();
    let told = original_status_code.0.and_then(|code| StatusCode::from_u16(u16::try_from(code).ok()?).ok());
    let Some(status) = told.filter(|status| status.is_client_error() || status.is_server_error()) else {
        return failure::build(ErrorReason::ProviderFailed, StatusCode::FAILED_DEPENDENCY, headers, None);
    };
    let said = original_message.unwrap_or_default();
    let dialect: &dyn Dialect = if serde_json::from_str::<ScoringFailure>(&said).is_ok() {
        &SCORING
    } else if is_tgi(target) {
        &TGI
    } else {
        &OPENAI
    };
    dialect.classify(target, status, headers, said.as_bytes())
}

/// The error that an exception in a stream tells. Their messages are about the account's logs.
pub(super) fn exception(quirks: &'static Quirks, frame: &Frame) -> Error {
    let StreamError { error_code } = serde_json::from_slice(&frame.data).unwrap_or_default();
    let name = aws::plain_name(&String::from_utf8_lossy(&frame.name));
    let headers = HeaderMap::new();
    match (name.as_str(), error_code.as_deref()) {
        ("ModelStreamError", Some("ModelInvocationTimeExceeded")) => {
            failure::build(ErrorReason::ProviderTimeout, StatusCode::GATEWAY_TIMEOUT, &headers, None)
        }
        ("ModelStreamError", _) => failure::build(ErrorReason::ProviderFailed, StatusCode::FAILED_DEPENDENCY, &headers, None),
        _ => aws::named(Errors::new(&WORDS, quirks), &name, StatusCode::INTERNAL_SERVER_ERROR, &headers, &[]),
    }
}
