//! An error on its way out: one JSON body for the HTTP doors, one status with details for the gRPC doors.

use std::collections::HashMap;

use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, HeaderValue, Response, header};
use serde_json::{Value, json};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{Visit, body::Body};
use crate::error::{Error, Origin};

/// `domain` of every `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "flowgate";

/// The gRPC status of an error, with `ErrorInfo` and, where they apply, `BadRequest`, `RetryInfo` and `QuotaFailure`.
pub fn status(error: &Error, visit: &Visit) -> Status {
    let mut details = ErrorDetails::with_error_info(error.reason_name(), DOMAIN, metadata(error, visit));
    if !error.violations().is_empty() {
        for violation in error.violations() {
            details.add_bad_request_violation(&violation.field, &violation.description);
        }
    }
    if let Some(after) = error.retry_after_hint() {
        details.set_retry_info(Some(after));
    }
    if error.reason() == ErrorReason::PolicyBudgetExceeded {
        details.add_quota_failure_violation(DOMAIN, error.to_string());
    }
    Status::with_error_details(error.code(), error.to_string(), details)
}

/// The HTTP answer of an error: `detail` for MLflow's clients, `error{}` for OpenAI's.
pub fn response(error: &Error, visit: &Visit) -> Response<Body> {
    let mut response = Response::new(Body::full(json_body(error, visit)));
    *response.status_mut() = error.http_status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    add_retry_after(headers, error);
    response
}

/// The JSON of an error, as a body or as an event of a stream.
pub fn json_body(error: &Error, visit: &Visit) -> Bytes {
    let message = error.to_string();
    let metadata: serde_json::Map<String, Value> = metadata(error, visit).into_iter().map(|(key, value)| (key, value.into())).collect();
    let body = json!({
        "detail": message,
        "error": {
            "message": message,
            "type": kind(error),
            "code": code(error),
            "param": error.violations().first().map(|violation| &violation.field),
            "reason": error.reason_name(),
            "metadata": metadata,
        },
    });
    Bytes::from(body.to_string())
}

/// What happened and where, for `ErrorInfo` and its JSON twin.
fn metadata(error: &Error, visit: &Visit) -> HashMap<String, String> {
    let facts = visit.record.facts();
    let mut metadata = HashMap::from([("request_id".to_owned(), visit.id.to_string())]);
    let mut note = |key: &str, value: Option<String>| value.and_then(|value| metadata.insert(key.to_owned(), value));
    note("endpoint", facts.endpoint.map(|name| name.to_string()));
    note("deployment", facts.deployment.map(|name| name.to_string()));
    note("provider", facts.provider.map(ToOwned::to_owned));
    note("upstream_status", error.upstream_status_code().map(|status| status.to_string()));
    metadata
}

/// `error.type` in OpenAI's words, which its SDKs and their users know.
fn kind(error: &Error) -> &'static str {
    match error.http_status().as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ if error.origin() == Origin::Provider => "upstream_error",
        _ => "server_error",
    }
}

/// `error.code` in OpenAI's words where it has one, else the reason in lower case.
fn code(error: &Error) -> String {
    match error.reason() {
        ErrorReason::CallerUnauthenticated => "invalid_api_key".to_owned(),
        ErrorReason::CallerEndpointNotFound => "model_not_found".to_owned(),
        ErrorReason::CallerContextTooLong => "context_length_exceeded".to_owned(),
        ErrorReason::PolicyRateLimited | ErrorReason::ProviderRateLimited => "rate_limit_exceeded".to_owned(),
        ErrorReason::PolicyBudgetExceeded => "insufficient_quota".to_owned(),
        ErrorReason::PolicyBlocked | ErrorReason::ProviderBlocked => "content_filter".to_owned(),
        _ => error.reason_name().to_ascii_lowercase(),
    }
}

fn add_retry_after(headers: &mut HeaderMap, error: &Error) {
    if let Some(after) = error.retry_after_hint() {
        // Whole seconds, rounded up, so that no client comes back too early.
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
}
