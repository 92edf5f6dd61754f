//! How AWS's services name their errors, whatever protocol they are of.

use std::borrow::Cow;

use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::{errors::Errors, failure};
use crate::error::Error;

/// What every service says of credentials and signatures that it does not take, without the `Exception` that only some of them add, and
/// whether newer keys may do: <https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html>.
const CREDENTIAL_FAULTS: [(&str, bool); 13] = [
    ("AccessDenied", false),
    ("ExpiredToken", true),
    ("IncompleteSignature", false),
    ("InvalidAccessKeyId", true),
    ("InvalidClientTokenId", true),
    ("InvalidSignature", true),
    ("MissingAuthenticationToken", false),
    ("NotAuthorized", false),
    ("OptInRequired", false),
    ("RequestExpired", true),
    ("SignatureDoesNotMatch", true),
    ("TokenRefreshRequired", true),
    ("UnrecognizedClient", true),
];

/// The error for an answer that is not a success, read by the words of one service and those that all have in common.
pub(super) fn classify(errors: Errors, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    match error_name(headers, body) {
        Some(name) => named(errors, &name, status, headers, body),
        None => errors.classify(status, headers, body),
    }
}

/// The error of this name, read likewise. The status is what it has where the name has none of its own.
pub(super) fn named(errors: Errors, name: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
    let bare = name.strip_suffix("Exception").unwrap_or(name);
    match CREDENTIAL_FAULTS.iter().find(|(fault, _)| *fault == bare) {
        Some((_, is_stale)) => {
            failure::build(ErrorReason::ProviderCredentialRejected, status, headers, Some(name)).credential_stale(*is_stale)
        }
        None => errors.named(name, status, headers, body),
    }
}

/// The name of the error that an answer tells, in a header or in its body; `None` when it tells none.
pub(super) fn error_name(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let told = headers.get("x-amzn-errortype").and_then(|told| told.to_str().ok()).map(Cow::Borrowed);
    let written = || {
        let body: Value = serde_json::from_slice(body).ok()?;
        Some(Cow::Owned(body.get("__type")?.as_str()?.to_owned()))
    };
    told.or_else(written).map(|told| plain_name(&told)).filter(|name| !name.is_empty())
}

/// The bare name of an error, one spelling for all: headers add an address after a colon, bodies a namespace before a hash, streams begin
/// it with a small letter.
pub(super) fn plain_name(told: &str) -> String {
    let name = told.split(':').next().unwrap_or_default();
    let name = name.rsplit('#').next().unwrap_or_default().trim();
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Quirks, errors::Vocabulary};

    static WORDS: Vocabulary = Vocabulary { reasons: &[], statuses: &[] };

    #[test]
    fn newer_keys_may_do_where_these_are_bad_or_expired_and_not_where_they_may_not() {
        let told = |name: &str| {
            let headers = HeaderMap::from_iter([("x-amzn-errortype".parse().unwrap(), name.parse().unwrap())]);
            classify(Errors::new(&WORDS, &Quirks::NONE), StatusCode::FORBIDDEN, &headers, b"{}")
        };
        for (name, is_stale) in [
            ("ExpiredTokenException:http://internal/", true),
            ("UnrecognizedClientException", true),
            ("InvalidSignatureException", true),
            ("RequestExpired", true),
            ("InvalidClientTokenId", true),
            ("AccessDeniedException", false),
            ("OptInRequired", false),
            ("NotAuthorized", false),
        ] {
            let error = told(name);
            assert_eq!((error.reason(), error.is_credential_stale()), (ErrorReason::ProviderCredentialRejected, is_stale), "{name}");
        }
    }
}
