//! What an upstream's HTTP failure means where a protocol does not say more: shared by all dialects.

use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, StatusCode};

use super::hint;
use crate::error::Error;

/// The error for a status that is not a success. `said` is the upstream's own message, if it is fit for callers.
pub fn by_status(status: StatusCode, headers: &HeaderMap, said: Option<&str>) -> Error {
    let reason = match status.as_u16() {
        401..=403 => ErrorReason::ProviderCredentialRejected,
        404 => ErrorReason::ProviderNotFound,
        // 524 is the same from a proxy in front of the provider, which could not reach it with the others from 521 on.
        408 | 504 | 524 => ErrorReason::ProviderTimeout,
        413 => ErrorReason::CallerTooLarge,
        429 => ErrorReason::ProviderRateLimited,
        503 | 521..=523 | 525..=527 | 529 | 530 => ErrorReason::ProviderUnavailable,
        // 424: what the provider itself relies on failed. 460, 499: something on the way takes us for gone, who are still here.
        424 | 460 | 499 | 500..=599 => ErrorReason::ProviderFailed,
        400..=499 => ErrorReason::ProviderRejectedRequest,
        _ => ErrorReason::ProviderBadAnswer,
    };
    build(reason, status, headers, said)
}

/// As [`by_status`], where the protocol says more than the status.
pub fn build(reason: ErrorReason, status: StatusCode, headers: &HeaderMap, said: Option<&str>) -> Error {
    let lead = match reason {
        // What the provider says of our credential is for the operator, not for the caller.
        ErrorReason::ProviderCredentialRejected => {
            return Error::new(reason, "the provider refused the gateway's credential; the operator must check the deployment's key")
                .upstream_status(status)
                // 402 and 403 are about what the credential may do, unless they say otherwise.
                .credential_stale(status == StatusCode::UNAUTHORIZED || said.is_some_and(tells_bad_token))
                .because(said.unwrap_or_default().to_owned());
        }
        ErrorReason::ProviderNotFound => "the provider does not know the configured model or path",
        ErrorReason::ProviderTimeout => "the provider did not answer in time; try again",
        ErrorReason::ProviderRateLimited => "the provider's rate limit is reached; try again later",
        ErrorReason::ProviderUnavailable => "the provider is unavailable; try again later",
        ErrorReason::ProviderFailed => "the provider failed; try again",
        ErrorReason::ProviderModelFailed => "the model raised an exception on this input; check the input, or ask the model's owner",
        ErrorReason::CallerTooLarge => "the provider takes no request of this size",
        ErrorReason::CallerContextTooLong => "the input does not fit the model's context window; shorten it",
        ErrorReason::ProviderRejectedRequest => "the provider refused the request",
        ErrorReason::ProviderBlocked => "the provider's content filter refused the request",
        _ => "the provider gave an answer that its protocol does not allow",
    };
    let message = match said.map(str::trim).filter(|said| !said.is_empty()) {
        Some(said) => format!("{lead}: {}", clip(said)),
        None => lead.to_owned(),
    };
    Error::new(reason, message).upstream_status(status).retry_after(hint::in_headers(status, headers))
}

/// Whether a text says that a token itself is bad or expired: some speakers have the same status for that as for a lacking permission.
pub fn tells_bad_token(text: &str) -> bool {
    const PHRASES: [&str; 6] =
        ["invalid access token", "invalid token", "expired token", "token expired", "token is expired", "token has expired"];
    let text = text.to_ascii_lowercase();
    PHRASES.iter().any(|phrase| text.contains(phrase))
}

/// An upstream's message, cut to a length that fits a header and a log line.
fn clip(said: &str) -> String {
    const MOST: usize = 1000;
    match said.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", said.get(..end).unwrap_or_default()),
        None => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_credential_may_do_only_where_this_one_is_bad_or_expired() {
        let is_stale = |status: u16, said| {
            let status = StatusCode::from_u16(status).unwrap();
            build(ErrorReason::ProviderCredentialRejected, status, &HeaderMap::new(), said).is_credential_stale()
        };
        assert!(is_stale(401, None) && is_stale(403, Some("Invalid access token.")));
        assert!(is_stale(403, Some("Token is expiring within 30 seconds. (token expired)")));
        for (status, said) in
            [(402, None), (403, None), (403, Some("You do not have permission.")), (429, Some("quota spent")), (500, None)]
        {
            assert!(!is_stale(status, said), "{status} {said:?}");
        }
        assert!(!by_status(StatusCode::BAD_REQUEST, &HeaderMap::new(), Some("invalid token at 3")).is_credential_stale());
    }
}
