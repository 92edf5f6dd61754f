//! One question to a server and its answer, or what its refusal means.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use http::{Request, StatusCode};
use percent_encoding::utf8_percent_encode;
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

use super::{Server, answers::Refusal};
use crate::{
    dialect::sigv4::UNRESERVED,
    error::{Error, Result},
    upstream::control::Fetch,
};

/// The longest answer that is read.
const MOST_ANSWER: usize = 16 << 20;
/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is asked, and how long the second try waits, about; the next one waits four times as long.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// What cannot be found is named so in errors: `model \`Iris\``.
pub(super) async fn ask<T: DeserializeOwned>(fetch: &Fetch, server: &Server, path: &str, query: &[(&str, &str)], what: &str) -> Result<T> {
    let escape = |text| utf8_percent_encode(text, UNRESERVED);
    let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    let uri = format!("{}/api/2.0/mlflow/{path}?{}", server.address(), pairs.join("&"));
    let mut tried = 0;
    loop {
        tried += 1;
        let answer = timeout(PATIENCE, once(fetch, server, &uri, what)).await;
        let answer = answer
            .unwrap_or_else(|_| Err(Error::new(ErrorReason::ProviderTimeout, format!("{} gave no answer within 10 s", server.named()))));
        match answer {
            Ok(body) => {
                return serde_json::from_slice(&body).map_err(|error| bad_answer(server, &format!("{path}: {error}")));
            }
            Err(error) if is_passing(&error) && tried < TRIES => {
                sleep(PAUSE.mul_f64(4_f64.powi(tried.cast_signed() - 1) * (0.5 + fastrand::f64()))).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// What may be better in a moment; an answer that makes no sense will make none then.
fn is_passing(error: &Error) -> bool {
    use ErrorReason as R;
    matches!(error.reason(), R::ProviderUnavailable | R::ProviderTimeout | R::ProviderFailed | R::ProviderRateLimited)
}

async fn once(fetch: &Fetch, server: &Server, uri: &str, what: &str) -> Result<Bytes> {
    let mut request = Request::get(uri).body(Bytes::new()).map_err(|error| Error::internal("the question is no address").because(error))?;
    server.authorize(request.headers_mut())?;
    let answer = Arc::clone(fetch)(request).await.map_err(|error| away(server, "cannot be reached", error))?;
    let status = answer.status;
    let body = answer.whole(MOST_ANSWER).await.map_err(|error| away(server, "broke off its answer", error))?;
    if status.is_success() { Ok(body) } else { Err(refusal(server, status, &body, what)) }
}

/// A connection that failed, in words for whoever named the server.
pub(super) fn away(server: &Server, what: &str, error: Error) -> Error {
    if !matches!(error.reason(), ErrorReason::ProviderUnavailable | ErrorReason::ProviderTimeout) {
        return error;
    }
    let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
    Error::new(error.reason(), format!("{} {what}; start it, or correct its address", server.named())).because(cause)
}

/// What a refusal means, in words for whoever wrote the configuration.
pub(super) fn refusal(server: &Server, status: StatusCode, body: &[u8], what: &str) -> Error {
    let said: Option<Refusal> = serde_json::from_slice(body).ok();
    let is_html = said.is_none();
    let said = said.unwrap_or_default();
    let (place, key) = (server.address(), server.key());
    let not_found =
        || (ErrorReason::ProviderNotFound, format!("the registry at {place} knows no {what}; correct the name, or register it"));
    let (reason, message) = match (status.as_u16(), said.error_code.as_str()) {
        (401 | 403, _) | (_, "UNAUTHENTICATED" | "CUSTOMER_UNAUTHORIZED" | "PERMISSION_DENIED") => (
            ErrorReason::ProviderCredentialRejected,
            format!(
                "the registry at {place} refuses the gateway's credential for {what}; check MLFLOW_TRACKING_USERNAME and \
                 MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, and what that user may read"
            ),
        ),
        (_, "RESOURCE_DOES_NOT_EXIST" | "NOT_FOUND") => not_found(),
        // MLflow answers so to an alias that nobody set.
        (400, "INVALID_PARAMETER_VALUE") if said.message.contains("not found") => not_found(),
        (404, _) if is_html || said.error_code.is_empty() || said.error_code == "ENDPOINT_NOT_FOUND" => {
            (ErrorReason::ProviderBadAnswer, format!("{place} is no MLflow tracking server, or too old a one; check {key}"))
        }
        (429, _) => (ErrorReason::ProviderRateLimited, format!("the registry at {place} limits the gateway's rate; try again later")),
        (502..=504, _) | (_, "TEMPORARILY_UNAVAILABLE") => {
            (ErrorReason::ProviderUnavailable, format!("{} is away; try again later", server.named()))
        }
        (500.., _) => (ErrorReason::ProviderFailed, format!("the registry at {place} failed; its log says why")),
        (300..=399, _) => (ErrorReason::ProviderBadAnswer, format!("{place} answers with a redirection; set {key} to where it leads")),
        _ => (ErrorReason::ProviderRejectedRequest, format!("the registry at {place} refuses the question for {what}; the log says why")),
    };
    let told: String = said.message.chars().take(300).collect();
    Error::new(reason, message).upstream_status(status).because(format!("{status}: {}: {told}", said.error_code))
}

fn bad_answer(server: &Server, why: &str) -> Error {
    let message = format!("what {} answers is not what a registry answers; check {}", server.address(), server.key());
    Error::new(ErrorReason::ProviderBadAnswer, message).because(why.to_owned())
}
