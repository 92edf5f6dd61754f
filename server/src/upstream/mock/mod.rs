//! A model server without a socket: takes the request that a dialect wrote and answers as a real server would.
//! Deterministic; what it says stands in the configuration.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::body::{Body, BoxError};
use crate::config::{self, MockFailureMode};

mod embed;
mod generate;
mod predict;

/// How many events of a stream that fails come through.
const EVENTS_BEFORE_FAILURE: usize = 2;

/// A made-up model server.
#[derive(Debug)]
pub(super) struct Mock {
    config: config::Mock,
    calls: AtomicU64,
}

/// What the server has to say.
enum Made {
    /// One body.
    Whole(StatusCode, Value),
    /// The `data` of each event.
    Events(Vec<Bytes>),
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failing {
    Status(StatusCode),
    Cut,
    ErrorEvent,
    NoEnd,
    Silent,
}

impl Mock {
    pub(super) fn new(config: config::Mock) -> Self {
        Self { config, calls: AtomicU64::new(0) }
    }

    /// Answers a request, in its time.
    pub(super) async fn answer(&self, request: http::Request<Bytes>) -> Response<Body> {
        let failing = self.failing();
        match failing {
            Some(Failing::Silent) => std::future::pending().await,
            Some(Failing::Status(status)) => return respond(refusal(&request, status), None, &self.config).await,
            _ => {}
        }
        respond(self.make(&request), failing, &self.config).await
    }

    fn make(&self, request: &http::Request<Bytes>) -> Made {
        let path = request.uri().path();
        let body = request.body();
        if path.ends_with("/invocations") {
            predict::predict(&self.config, request.headers().get(header::CONTENT_TYPE), body)
        } else if path.ends_with("/chat/completions") {
            json_body(body, |body| generate::chat(&self.config, body))
        } else if path.ends_with("/completions") {
            json_body(body, |body| generate::complete(&self.config, body))
        } else if path.ends_with("/embeddings") {
            json_body(body, |body| embed::embed(&self.config, body))
        } else {
            refusal(request, StatusCode::NOT_FOUND)
        }
    }

    fn failing(&self) -> Option<Failing> {
        let failure = self.config.failure.as_ref()?;
        let call = self.calls.fetch_add(1, Relaxed) + 1;
        if !call.is_multiple_of(failure.every.max(1)) {
            return None;
        }
        let status = failure.status.and_then(|status| StatusCode::from_u16(status).ok());
        Some(match (status, failure.mode) {
            (Some(status), _) => Failing::Status(status),
            (None, MockFailureMode::Status) => Failing::Status(StatusCode::INTERNAL_SERVER_ERROR),
            (None, MockFailureMode::Cut) => Failing::Cut,
            (None, MockFailureMode::ErrorEvent) => Failing::ErrorEvent,
            (None, MockFailureMode::NoEnd) => Failing::NoEnd,
            (None, MockFailureMode::Silent) => Failing::Silent,
        })
    }
}

/// The response, after the delay of a whole answer; a stream's delays stand between its events.
async fn respond(made: Made, failing: Option<Failing>, config: &config::Mock) -> Response<Body> {
    let (status, kind, body) = match made {
        Made::Whole(status, value) => {
            pause(config.first_delay).await;
            let status = if failing == Some(Failing::ErrorEvent) { StatusCode::INTERNAL_SERVER_ERROR } else { status };
            (status, "application/json", whole(value.to_string().into(), failing))
        }
        Made::Events(events) => (StatusCode::OK, "text/event-stream; charset=utf-8", timed(cut_short(events, failing), config)),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn whole(body: Bytes, failing: Option<Failing>) -> Body {
    let half = body.slice(..body.len() / 2);
    match failing {
        Some(Failing::Cut) => Body::made(stream::iter([Ok(half), Err(cut())])),
        Some(Failing::NoEnd) => Body::full(half),
        _ => Body::full(body),
    }
}

/// The frames of a stream, as far as they come.
fn cut_short(events: Vec<Bytes>, failing: Option<Failing>) -> Vec<Result<Bytes, BoxError>> {
    let frame = |data: Bytes| Ok([b"data: ", &data[..], b"\n\n"].concat().into());
    let most = if failing.is_some() { EVENTS_BEFORE_FAILURE } else { events.len() };
    let mut frames: Vec<_> = events.into_iter().take(most).map(frame).collect();
    match failing {
        Some(Failing::Cut) => frames.push(Err(cut())),
        Some(Failing::ErrorEvent) => {
            frames.push(frame(openai_error(StatusCode::INTERNAL_SERVER_ERROR, "the mock fails as it is configured").to_string().into()));
        }
        _ => {}
    }
    frames
}

fn timed(frames: Vec<Result<Bytes, BoxError>>, config: &config::Mock) -> Body {
    let (first, later) = (config.first_delay, config.delay);
    let frames = stream::iter(frames);
    if (first, later) == (Duration::ZERO, Duration::ZERO) {
        return Body::made(frames);
    }
    let delays = stream::iter(std::iter::once(first).chain(std::iter::repeat(later)));
    let delayed = frames.zip(delays).then(async |(frame, delay)| {
        pause(delay).await;
        frame
    });
    Body::made(delayed)
}

/// Even a sleep of nothing waits for the next tick of the clock.
async fn pause(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

fn cut() -> BoxError {
    io::Error::from(io::ErrorKind::ConnectionReset).into()
}

fn json_body(body: &[u8], make: impl FnOnce(&Value) -> Result<Made, &'static str>) -> Made {
    let made = serde_json::from_slice(body).map_err(|_| "the body is not JSON").and_then(|body| make(&body));
    made.unwrap_or_else(|what| Made::Whole(StatusCode::BAD_REQUEST, openai_error(StatusCode::BAD_REQUEST, what)))
}

/// A refusal in the form of the protocol that was spoken.
fn refusal(request: &http::Request<Bytes>, status: StatusCode) -> Made {
    const WHAT: &str = "the mock fails as it is configured";
    let scoring = request.uri().path().ends_with("/invocations");
    Made::Whole(status, if scoring { scoring_error(WHAT) } else { openai_error(status, WHAT) })
}

fn openai_error(status: StatusCode, what: &str) -> Value {
    let kind = if status.is_client_error() { "invalid_request_error" } else { "server_error" };
    json!({ "error": { "message": what, "type": kind, "param": null, "code": null } })
}

fn scoring_error(what: &str) -> Value {
    json!({ "error_code": "BAD_REQUEST", "message": what })
}

/// A short name of a body, for ids; the same body has the same.
fn digest(body: &Value) -> String {
    blake3::hash(body.to_string().as_bytes()).to_hex().chars().take(16).collect()
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

#[cfg(test)]
mod tests;
