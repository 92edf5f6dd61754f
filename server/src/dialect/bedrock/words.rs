//! The words by which the service says why an answer ended, and what went wrong.

use flowgate_proto::v1::{ErrorReason, FinishReason};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::{
    dialect::{
        Frame, Quirks, aws,
        errors::{Errors, Vocabulary},
    },
    error::Error,
};

static WORDS: Vocabulary = Vocabulary {
    reasons: &[
        // The account's quota is spent: another key may do better, another moment will not.
        ("ServiceQuotaExceededException", ErrorReason::ProviderCredentialRejected),
        ("ResourceNotFoundException", ErrorReason::ProviderNotFound),
        ("ThrottlingException", ErrorReason::ProviderRateLimited),
        ("TooManyRequestsException", ErrorReason::ProviderRateLimited),
        ("ModelNotReadyException", ErrorReason::ProviderUnavailable),
        ("ServiceUnavailableException", ErrorReason::ProviderUnavailable),
        ("ModelTimeoutException", ErrorReason::ProviderTimeout),
        ("ModelErrorException", ErrorReason::ProviderFailed),
        ("ModelStreamErrorException", ErrorReason::ProviderFailed),
        ("InternalServerException", ErrorReason::ProviderFailed),
    ],
    statuses: &[
        ("ValidationException", StatusCode::BAD_REQUEST),
        ("ModelTimeoutException", StatusCode::REQUEST_TIMEOUT),
        ("ModelErrorException", StatusCode::FAILED_DEPENDENCY),
        ("ModelStreamErrorException", StatusCode::FAILED_DEPENDENCY),
        ("ThrottlingException", StatusCode::TOO_MANY_REQUESTS),
        ("ModelNotReadyException", StatusCode::TOO_MANY_REQUESTS),
        ("ServiceUnavailableException", StatusCode::SERVICE_UNAVAILABLE),
    ],
};

/// Reads the errors of the service.
pub(super) fn errors(quirks: &'static Quirks) -> Errors {
    Errors::new(&WORDS, quirks)
}

/// The error for an answer that is not a success.
pub(super) fn classify(quirks: &'static Quirks, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    aws::classify(errors(quirks), status, headers, body)
}

/// The error that an answer tells which began as a success; `None` when it tells none.
pub(super) fn told_inside(quirks: &'static Quirks, body: &[u8]) -> Option<Error> {
    #[derive(Deserialize)]
    struct Told {
        message: String,
    }
    let headers = HeaderMap::new();
    if aws::error_name(&headers, body).is_some() {
        let error = classify(quirks, StatusCode::INTERNAL_SERVER_ERROR, &headers, body);
        return Some(error.upstream_status(StatusCode::OK));
    }
    let told: Option<Told> = serde_json::from_slice(body).ok();
    told.filter(|told| !told.message.is_empty()).map(|_| errors(quirks).of_frame(body))
}

/// The error that an exception in a stream tells.
pub(super) fn exception(quirks: &'static Quirks, frame: &Frame) -> Error {
    let name = aws::plain_name(&String::from_utf8_lossy(&frame.name));
    aws::named(errors(quirks), &name, StatusCode::INTERNAL_SERVER_ERROR, &HeaderMap::new(), &frame.data)
}

/// Why an answer ended.
pub(super) fn finish_reason(word: &str) -> FinishReason {
    match word {
        "end_turn" => FinishReason::Stop,
        "stop_sequence" => FinishReason::StopSequence,
        "max_tokens" => FinishReason::Length,
        "model_context_window_exceeded" => FinishReason::ContextExceeded,
        "tool_use" => FinishReason::ToolCalls,
        "content_filtered" | "guardrail_intervened" => FinishReason::ContentFilter,
        "malformed_model_output" | "malformed_tool_use" => FinishReason::Error,
        _ => FinishReason::Unspecified,
    }
}
