//! The words by which speakers of this protocol say what went wrong.

use flowgate_proto::v1::ErrorReason;
use http::StatusCode;

use crate::dialect::{
    Quirks,
    errors::{Errors, Vocabulary},
};

static WORDS: Vocabulary = Vocabulary {
    reasons: &[
        ("insufficient_quota", ErrorReason::ProviderCredentialRejected),
        ("insufficient_balance", ErrorReason::ProviderCredentialRejected),
        ("billing_hard_limit_reached", ErrorReason::ProviderCredentialRejected),
        ("billing_not_active", ErrorReason::ProviderCredentialRejected),
        ("account_deactivated", ErrorReason::ProviderCredentialRejected),
        ("payment_required", ErrorReason::ProviderCredentialRejected),
        ("exceeded_current_quota_error", ErrorReason::ProviderCredentialRejected),
        ("invalid_api_key", ErrorReason::ProviderCredentialRejected),
        ("context_length_exceeded", ErrorReason::CallerContextTooLong),
        ("exceed_context_size_error", ErrorReason::CallerContextTooLong),
        ("content_filter", ErrorReason::ProviderBlocked),
        ("content_policy_violation", ErrorReason::ProviderBlocked),
        ("ResponsibleAIPolicyViolation", ErrorReason::ProviderBlocked),
        ("model_not_found", ErrorReason::ProviderNotFound),
        ("DeploymentNotFound", ErrorReason::ProviderNotFound),
        ("rate_limit_exceeded", ErrorReason::ProviderRateLimited),
        ("rate_limit_reached_error", ErrorReason::ProviderRateLimited),
        ("engine_overloaded_error", ErrorReason::ProviderRateLimited),
        ("capacity_exceeded", ErrorReason::ProviderUnavailable),
        // The model wrote a call that cannot be read; another try may do better.
        ("tool_use_failed", ErrorReason::ProviderFailed),
    ],
    statuses: &[
        ("invalid_request_error", StatusCode::BAD_REQUEST),
        ("BadRequestError", StatusCode::BAD_REQUEST),
        ("authentication_error", StatusCode::UNAUTHORIZED),
        ("invalid_api_key", StatusCode::UNAUTHORIZED),
        ("permission_error", StatusCode::FORBIDDEN),
        ("not_found_error", StatusCode::NOT_FOUND),
        ("NotFoundError", StatusCode::NOT_FOUND),
        ("rate_limit_error", StatusCode::TOO_MANY_REQUESTS),
        ("tokens", StatusCode::TOO_MANY_REQUESTS),
        ("requests", StatusCode::TOO_MANY_REQUESTS),
        ("overloaded_error", StatusCode::SERVICE_UNAVAILABLE),
        ("service_unavailable", StatusCode::SERVICE_UNAVAILABLE),
        ("timeout", StatusCode::GATEWAY_TIMEOUT),
        ("timeout_error", StatusCode::GATEWAY_TIMEOUT),
        ("vector_store_timeout", StatusCode::GATEWAY_TIMEOUT),
        ("invalid_prompt", StatusCode::BAD_REQUEST),
        ("invalid_image", StatusCode::BAD_REQUEST),
        ("invalid_image_url", StatusCode::BAD_REQUEST),
        ("failed_to_download_image", StatusCode::BAD_REQUEST),
    ],
};

/// Reads the errors of a speaker with these quirks.
pub(in crate::dialect) fn errors(quirks: &'static Quirks) -> Errors {
    Errors::new(&WORDS, quirks)
}
