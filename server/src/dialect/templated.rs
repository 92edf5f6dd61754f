//! Model servers with JSON of their own, such as people write with Flask or `FastAPI`: MLflow's scoring protocol on our side, and on theirs
//! what the operator's templates make of it. Without templates the scoring JSON goes on as it is. With `GET` the template makes an object,
//! which becomes the query.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::{
    Ask, Decoder, Dialect, Target, failure, is_json,
    scoring::{self, JSON, SCORING, written},
};
use crate::{
    error::{Error, Result},
    event::{Answer, Protocol, Task},
};

mod query;

/// The setting for the HTTP method.
pub const METHOD: &str = "method";
/// The methods: those that carry a body, and [`GET`].
pub const METHODS: &[&str] = &["POST", "PUT", "PATCH", GET];
/// The value of [`METHOD`] with which the template makes the query.
pub const GET: &str = "GET";
/// The setting for the path below the address.
pub const PATH: &str = "path";
/// The setting for what the body is, where it is not JSON.
pub const CONTENT_TYPE: &str = "content_type";
/// The template of the body.
pub const REQUEST: &str = "request";
/// The template of the predictions.
pub const RESPONSE: &str = "response";

/// How much of what a server says is kept for the log, in bytes. The log has less: what is cut there is hidden first, and a secret that is
/// cut here stands far behind that.
const TOLD: usize = 16 << 10;

/// The dialect.
pub static TEMPLATED: Templated = Templated;

/// A server that takes what a template makes.
#[derive(Clone, Copy, Debug)]
pub struct Templated;

/// What the operator makes of requests and answers. Cloning shares.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    /// Of a request in MLflow's JSON, the body. `None`: it goes on as it is.
    pub request: Option<Fill>,
    /// Of an answer, the predictions. `None`: what stands under `predictions`, else the whole.
    pub response: Option<Fill>,
}

/// A template, filled by whoever made it. Cloning shares.
#[derive(Clone)]
pub struct Fill {
    apply: Arc<FillIn>,
    is_sent: bool,
}

type FillIn = dyn Fn(&Bytes) -> Result<Bytes, String> + Send + Sync;

impl Fill {
    /// A template that is filled so: with a body of JSON, or why it cannot be, in words that hold nothing of the body. What is to be JSON is
    /// so whatever the body holds.
    pub fn new(fill: impl Fn(&Bytes) -> Result<Bytes, String> + Send + Sync + 'static) -> Self {
        Self { apply: Arc::new(fill), is_sent: false }
    }

    /// The same, of a template that hands on what was sent or a part of it, as it is.
    #[must_use]
    pub fn of_what_is_sent(self) -> Self {
        Self { is_sent: true, ..self }
    }

    /// What it makes of a body.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn apply(&self, body: &Bytes) -> Result<Bytes, String> {
        (self.apply)(body)
    }
}

impl fmt::Debug for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fill")
    }
}

impl Dialect for Templated {
    fn protocol(&self, task: Task) -> Option<Protocol> {
        SCORING.protocol(task)
    }

    fn encode(&self, ask: &Ask<'_>, target: &Target) -> Result<http::Request<Bytes>> {
        let (content_type, body) = written(ask)?;
        let path = match target.settings.get(PATH) {
            "" if target.base.path().trim_end_matches('/').is_empty() => "/",
            path => path,
        };
        if target.settings.get(METHOD) == GET {
            return asked(target, path, &content_type, &body);
        }
        let (content_type, body) = match &target.templates.request {
            Some(fill) => made(fill, &content_type, &body, target)?,
            None => (content_type, body),
        };
        let mut request = target.post(path, content_type, body)?;
        if let Ok(method) = Method::from_bytes(target.settings.get(METHOD).as_bytes()) {
            *request.method_mut() = method;
        }
        Ok(request)
    }

    fn decode(&self, ask: &Ask<'_>, target: &Target, _headers: &HeaderMap, body: Bytes) -> Result<Answer> {
        let bad = |message| Error::new(ErrorReason::ProviderBadAnswer, message);
        let predictions = match &target.templates.response {
            Some(fill) => fill.apply(&body).map_err(|why| {
                let message = "the model server's answer does not fit the deployment's `response` template; the operator must correct it";
                bad(message).because(format!("{why}; {}", said(target, &body)))
            })?,
            None => scoring::predictions(&body).map_err(|_| {
                bad("the model server's answer is not JSON; the operator must check the deployment's `path`, and see the log for the answer")
                    .because(said(target, &body))
            })?,
        };
        let body = [b"{\"predictions\": ".as_slice(), &predictions, b"}"].concat();
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, JSON)]);
        SCORING.decode(ask, target, &headers, body.into())
    }

    fn decoder(&self, ask: &Ask<'_>, target: &Target) -> Box<dyn Decoder> {
        SCORING.decoder(ask, target)
    }

    fn classify(&self, target: &Target, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        // What such a server says is made of its input and its insides as often as not, so that nothing of it is repeated to callers.
        let error = match status {
            // The template's body is the operator's.
            StatusCode::UNSUPPORTED_MEDIA_TYPE if target.templates.request.is_some() => {
                let message = "the model server does not take the content type that it is sent; the operator must correct `content_type`";
                Error::new(ErrorReason::ProviderRejectedRequest, message).upstream_status(status)
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                let message = "the model server does not take this content type; send `application/json`";
                Error::new(ErrorReason::CallerUnsupportedMediaType, message).upstream_status(status)
            }
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                // FastAPI, for one, says what it was sent, which no log has unless it is asked for.
                tracing::debug!(said = said(target, body), "a model server refused a request");
                let next = "the input does not fit the model; compare it with what its owner says it takes";
                let cause = format!("{} refused it; what it said is in the log at level debug", path_of(target));
                return failure::by_status(status, headers, Some(next)).because(cause);
            }
            _ => failure::by_status(status, headers, None),
        };
        error.because(said(target, body))
    }
}

/// How an answer begins, and whose it is: for the log, which makes one line of it and cuts that. It is not cut before, since secrets are
/// hidden in between, and half of one would not be known.
fn said(target: &Target, body: &[u8]) -> String {
    let start = String::from_utf8_lossy(body.get(..TOLD).unwrap_or(body));
    let lines: Vec<&str> = start.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let path = path_of(target);
    if lines.is_empty() { format!("{path} said nothing") } else { format!("{path} said:\n{}", lines.join("\n")) }
}

/// Where a server is asked, below its host.
fn path_of(target: &Target) -> String {
    // A query may hold a key.
    let path = target.settings.get(PATH).split('?').next().unwrap_or_default();
    match format!("{}{path}", target.base.path().trim_end_matches('/')) {
        path if path.is_empty() => "/".to_owned(),
        path => path,
    }
}

/// Whether JSON can become a query.
pub fn is_query(json: &[u8]) -> bool {
    query::of(json).is_some()
}

/// A request without a body, and with the query that a template makes.
fn asked(target: &Target, path: &str, content_type: &HeaderValue, body: &Bytes) -> Result<http::Request<Bytes>> {
    let fill = target.templates.request.as_ref().ok_or_else(|| Error::internal("a query has no template"))?;
    let made = filled(fill, content_type, body)?;
    let query = query::of(&made).ok_or_else(|| no_query(fill, &made))?;
    if query.len() > query::LONGEST {
        let message = "the model server is asked by its address, which this input would make too long; send fewer rows in a call";
        return Err(Error::new(ErrorReason::CallerTooLarge, message));
    }
    let mark = match (query.is_empty(), path.contains('?')) {
        (true, _) => "",
        (false, true) => "&",
        (false, false) => "?",
    };
    let mut request = target.post(&format!("{path}{mark}{query}"), JSON, Bytes::new())?;
    *request.method_mut() = Method::GET;
    request.headers_mut().remove(header::CONTENT_TYPE);
    Ok(request)
}

/// What is wrong with JSON that can be no query: an object is one of the operator's with values that callers choose, anything else is what
/// the template makes, or what it hands on.
fn no_query(fill: &Fill, made: &[u8]) -> Error {
    let what = match (made.trim_ascii_start().starts_with(b"{"), fill.is_sent) {
        (true, _) => {
            "does not hold what the model server's query is made of; send texts, numbers, booleans or lists of them, without objects or lists in \
             these"
        }
        (false, true) => {
            "does not hold the object that the model server's query is made of; send one of texts, numbers, booleans and lists of them"
        }
        (false, false) => {
            let message = "the deployment's `request` template made no query of this request; the operator must have it make an object of \
                           texts, numbers, booleans and lists of them";
            return Error::new(ErrorReason::GatewayNotServing, message);
        }
    };
    Error::invalid("body", what).because("the `request` template made something else of it")
}

/// What a template makes of a body, which must be JSON.
fn filled(fill: &Fill, content_type: &HeaderValue, body: &Bytes) -> Result<Bytes> {
    if !is_json(media_type(content_type)) {
        let message = "the model server takes a body that is made of JSON; send `application/json`";
        return Err(Error::new(ErrorReason::CallerUnsupportedMediaType, message));
    }
    fill.apply(body).map_err(|why| {
        Error::invalid("body", "does not hold what the model server's input is made of; send another of MLflow's forms").because(why)
    })
}

/// The body that a template makes, and what it is.
fn made(fill: &Fill, content_type: &HeaderValue, body: &Bytes, target: &Target) -> Result<(HeaderValue, Bytes)> {
    let made = filled(fill, content_type, body)?;
    let content_type = match target.settings.get(CONTENT_TYPE) {
        "" => JSON,
        told => HeaderValue::from_str(told).map_err(|error| Error::internal("a content type is none").because(error))?,
    };
    Ok((content_type, made))
}

/// Whether a body is JSON whose deployment says so of it, with nothing said for JSON.
pub fn is_json_body(content_type: &str) -> bool {
    content_type.is_empty() || HeaderValue::from_str(content_type).is_ok_and(|told| is_json(media_type(&told)))
}

fn media_type(content_type: &HeaderValue) -> &[u8] {
    content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests;
