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
    detailed(error, metadata(error, visit))
}

/// The same with other `ErrorInfo.metadata`, where there is no visit to tell of.
pub fn detailed(error: &Error, metadata: HashMap<String, String>) -> Status {
    let mut details = ErrorDetails::with_error_info(error.reason_name(), DOMAIN, metadata);
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
    with_body(error, json_body(error, visit))
}

/// The HTTP answer of an error in the Open Inference Protocol's words, and the reason beside them.
pub fn brief(error: &Error) -> Response<Body> {
    with_body(error, json!({"error": error.to_string(), "reason": error.reason_name()}).to_string().into())
}

fn with_body(error: &Error, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = error.http_status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    add_retry_after(headers, error);
    if let Some(verbs) = error.allowed().and_then(|verbs| HeaderValue::from_str(verbs).ok()) {
        headers.insert(header::ALLOW, verbs);
    }
    if error.reason() == ErrorReason::CallerUnauthenticated {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
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
    note("step", error.step().map(ToOwned::to_owned));
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::testing::visit;

    fn told(error: &Error) -> (u16, Value) {
        let response = response(error, &visit());
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        (response.status().as_u16(), serde_json::from_slice(response.body().whole().unwrap()).unwrap())
    }

    #[test]
    fn one_body_speaks_to_mlflows_and_openais_clients() {
        let visit = visit();
        visit.record.note(|facts| {
            facts.endpoint = Some("chat".into());
            facts.deployment = Some("only".into());
            facts.provider = Some("mock");
        });
        let error = Error::new(ErrorReason::ProviderFailed, "the provider failed; try again")
            .upstream_status(http::StatusCode::INTERNAL_SERVER_ERROR)
            .because("a secret");
        let body: Value = serde_json::from_slice(&json_body(&error, &visit)).unwrap();
        let metadata = json!({
            "request_id": "id-1", "endpoint": "chat", "deployment": "only", "provider": "mock", "upstream_status": "500",
        });
        let expected = json!({
            "detail": "the provider failed; try again",
            "error": {
                "message": "the provider failed; try again", "type": "upstream_error", "code": "provider_failed", "param": null,
                "reason": "PROVIDER_FAILED", "metadata": metadata,
            },
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn openais_words_are_used_where_it_has_them() {
        use ErrorReason as R;
        let expected = [
            (R::CallerInvalidRequest, 400, "invalid_request_error", "caller_invalid_request"),
            (R::CallerUnauthenticated, 401, "authentication_error", "invalid_api_key"),
            (R::CallerForbidden, 403, "permission_error", "caller_forbidden"),
            (R::CallerEndpointNotFound, 404, "not_found_error", "model_not_found"),
            (R::CallerContextTooLong, 400, "invalid_request_error", "context_length_exceeded"),
            (R::PolicyRateLimited, 429, "rate_limit_error", "rate_limit_exceeded"),
            (R::PolicyBudgetExceeded, 429, "rate_limit_error", "insufficient_quota"),
            (R::ProviderBlocked, 400, "invalid_request_error", "content_filter"),
            (R::ProviderCredentialRejected, 502, "upstream_error", "provider_credential_rejected"),
            (R::ProviderModelFailed, 500, "upstream_error", "provider_model_failed"),
            (R::GatewayInternal, 500, "server_error", "gateway_internal"),
        ];
        for (reason, status, kind, code) in expected {
            let (told, body) = told(&Error::new(reason, "x"));
            assert_eq!((told, &body["error"]["type"], &body["error"]["code"]), (status, &json!(kind), &json!(code)), "{reason:?}");
        }
    }

    #[test]
    fn the_field_at_fault_is_named() {
        let (_, body) = told(&Error::invalid("max_tokens", "must be at least 1"));
        assert_eq!(body["error"]["param"], "max_tokens");
        assert_eq!(body["detail"], "the request is invalid: `max_tokens` must be at least 1");
        let details = status(&Error::invalid("max_tokens", "must be at least 1"), &visit()).get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "max_tokens");
    }

    #[test]
    fn no_client_comes_back_too_early() {
        let after = |millis| {
            let error = Error::new(ErrorReason::PolicyRateLimited, "slow down").retry_after(Some(Duration::from_millis(millis)));
            response(&error, &visit()).headers()[header::RETRY_AFTER].to_str().unwrap().to_owned()
        };
        assert_eq!([after(0), after(1), after(1000), after(1001)], ["0", "1", "1", "2"]);
        let unknown = response(&Error::new(ErrorReason::PolicyRateLimited, "slow down"), &visit());
        assert!(unknown.headers().get(header::RETRY_AFTER).is_none());
    }

    #[test]
    fn a_status_says_the_same_with_details() {
        let error = Error::new(ErrorReason::PolicyBudgetExceeded, "the budget is spent").retry_after(Some(Duration::from_secs(60)));
        let status = status(&error, &visit());
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        let details = status.get_error_details();
        let reason = details.error_info().unwrap();
        assert_eq!((reason.reason.as_str(), reason.domain.as_str()), ("POLICY_BUDGET_EXCEEDED", DOMAIN));
        assert_eq!(reason.metadata["request_id"], "id-1");
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(60)));
        assert!(details.quota_failure().is_some());
    }
}
