//! The doors: they route and let in; dialects translate. Only this room knows HTTP paths.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use tokio::time::Instant;

use crate::{
    call::{Call, Choice, Priority, Record},
    catalog::{Catalog, Endpoint},
    error::{Error, Result},
    event::{Payload, Reply, Task},
    expression::{CREDENTIALS, Request, Seen},
    identity::{Identity, Peer, Principal},
    stack::{Served, Snapshot},
    task::Cut,
    telemetry::metrics::Metrics,
};

pub mod body;
pub mod client;
pub mod compress;
pub mod cors;
pub mod edge;
pub mod failure;
pub mod grpc;
pub mod mlflow;
pub mod oip;
pub mod openai;
pub mod record;
pub mod shape;
#[cfg(test)]
mod simulation;
pub mod sse;
pub mod table;
#[cfg(test)]
pub(crate) mod testing;
pub mod transcode;

/// Client headers that may cross to an upstream.
const FORWARDED: [HeaderName; 4] = [
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("openai-beta"),
];

/// Who goes first where calls have to wait.
const PRIORITY: HeaderName = HeaderName::from_static("x-flowgate-priority");
/// The deployment that a caller wants; in an answer, the one that served it.
const DEPLOYMENT: HeaderName = HeaderName::from_static("x-flowgate-deployment");

/// What every door stands on: the current snapshot, who may call, and what is counted.
#[derive(Debug)]
pub struct Gate {
    /// The snapshot that new calls use.
    pub snapshot: ArcSwap<Snapshot>,
    /// Who may call.
    pub identity: Identity,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The largest request on every door, in bytes, decompressed.
    pub max_request_bytes: usize,
    /// Ends what is still running when the shutdown's grace is over.
    pub cut: Cut,
}

/// One request at a door. The edge makes it, and puts it beside the request where tonic stands between the two.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The request id.
    pub id: Arc<str>,
    /// The client; behind a trusted proxy, the one that the proxy names.
    pub peer: Peer,
    /// Who calls.
    pub principal: Arc<Principal>,
    /// What becomes of the request.
    pub record: Arc<Record>,
    /// The method of its HTTP request.
    pub method: Method,
    /// The address of its HTTP request.
    pub uri: Uri,
}

/// What a door asks for.
#[derive(Debug)]
pub struct Knock {
    /// The task that the client asked for.
    pub task: Task,
    /// Whether the answer is wanted piece by piece.
    pub streaming: bool,
    /// The request.
    pub payload: Payload,
}

impl Visit {
    /// The request as expressions see it.
    fn request(&self, headers: &HeaderMap, payload: &Payload) -> Request {
        let mut headers = headers.clone();
        for name in CREDENTIALS {
            headers.remove(*name);
        }
        Request {
            method: self.method.clone(),
            path: self.uri.path().to_owned(),
            query: self.uri.query().unwrap_or_default().to_owned(),
            remote: self.peer.address.ip(),
            headers,
            principal: Arc::clone(&self.principal.name),
            payload: payload.clone(),
            seen: Seen::default(),
        }
    }
}

impl Gate {
    /// What the record of a request stands on.
    fn books(&self) -> (&Arc<Metrics>, &Cut) {
        (&self.metrics, &self.cut)
    }

    /// Steps 5 to 11 for an endpoint's name.
    ///
    /// # Errors
    /// `CALLER_ENDPOINT_NOT_FOUND`, and as [`Gate::call_served`].
    pub async fn call(&self, visit: &Visit, headers: &HeaderMap, endpoint: &str, knock: Knock) -> Result<Reply> {
        let served = self.served(|catalog| catalog.endpoint(endpoint))?;
        self.call_served(visit, headers, served, knock).await
    }

    /// The endpoint that `find` picks, of the current snapshot: what is found serves, even if a reload comes between.
    ///
    /// # Errors
    /// What `find` says.
    pub fn served(&self, find: impl FnOnce(&Catalog) -> Result<&Arc<Endpoint>>) -> Result<Served> {
        self.snapshot.load().served(find)
    }

    /// Steps 5 to 11: deadline, call stack, attempts, until the reply's first event that commits. The reply has the shape that
    /// was asked for: a stream if `streaming`, else a whole answer; of the asked task, or of the byte lane.
    ///
    /// # Errors
    /// `CALLER_WRONG_TASK`, and whatever fails before the first event.
    pub async fn call_served(&self, visit: &Visit, headers: &HeaderMap, served: Served, knock: Knock) -> Result<Reply> {
        let endpoint = &served.endpoint;
        visit.record.note(|facts| {
            facts.received.get_or_insert_with(Instant::now);
            facts.endpoint = Some(Arc::clone(&endpoint.name));
            facts.task = Some(knock.task);
            facts.streaming = knock.streaming;
        });
        if !endpoint.task.answers(knock.task) {
            let message =
                format!("the endpoint is of type {}, which does not answer {} calls", endpoint.task.endpoint_type(), knock.task.name());
            return Err(Error::new(ErrorReason::CallerWrongTask, message));
        }
        let choice = Choice {
            priority: priority(headers)?,
            forced: forced(headers, &visit.principal)?,
            request: endpoint.asks.then(|| Arc::new(visit.request(headers, &knock.payload))),
            ..Choice::default()
        };
        let call = Call {
            id: Arc::clone(&visit.id),
            endpoint: Arc::clone(endpoint),
            principal: Arc::clone(&visit.principal),
            task: knock.task,
            streaming: knock.streaming,
            payload: knock.payload,
            deadline: deadline(headers)?.map(|left| Instant::now() + left),
            own_total: None,
            headers: forwarded(headers),
            record: Arc::clone(&visit.record),
            choice,
            media: Arc::default(),
        };
        let mut reply = self.cut.race(served.call(call)).await?;
        if let Ok(alias) = HeaderValue::from_str(&reply.head.deployment) {
            reply.head.headers.insert(DEPLOYMENT, alias);
        }
        let reply = shape::fit(reply, knock.task, knock.streaming);
        Ok(if reply.is_unary() { reply } else { reply.wrap(|reply| self.cut.until(reply, |error| error)) })
    }
}

/// Who goes first where calls have to wait.
fn priority(headers: &HeaderMap) -> Result<Priority> {
    match headers.get(PRIORITY).map(|value| value.as_bytes().trim_ascii()) {
        None => Ok(Priority::default()),
        Some(word) if word.eq_ignore_ascii_case(b"interactive") => Ok(Priority::Interactive),
        Some(word) if word.eq_ignore_ascii_case(b"batch") => Ok(Priority::Batch),
        Some(_) => Err(Error::invalid(PRIORITY.as_str(), "is neither `interactive` nor `batch`")),
    }
}

/// The deployment that the caller wants, if it may.
fn forced(headers: &HeaderMap, principal: &Principal) -> Result<Option<Arc<str>>> {
    let Some(alias) = headers.get(DEPLOYMENT) else { return Ok(None) };
    if !principal.may_choose_deployment {
        let message = "the caller may not choose a deployment; leave out `x-flowgate-deployment`, or ask the operator for a key with \
                       `may_choose_deployment`";
        return Err(Error::new(ErrorReason::CallerForbidden, message));
    }
    let alias = alias.to_str().map_err(|_| Error::invalid(DEPLOYMENT.as_str(), "is not text"))?;
    Ok(Some(alias.trim().into()))
}

fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in &FORWARDED {
        if let Some(value) = headers.get(name) {
            kept.insert(name, value.clone());
        }
    }
    kept
}

/// The time that the caller allows: `grpc-timeout` as gRPC writes it, or `x-request-timeout` as `30s`, `500ms` or plain seconds.
fn deadline(headers: &HeaderMap) -> Result<Option<Duration>> {
    let wrong = |name: &str| Error::invalid(name, "is not a duration; write for example `30s` or `500ms`");
    if let Some(value) = headers.get("grpc-timeout") {
        let left = value.to_str().ok().and_then(|text| {
            let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
            let number: u64 = number.parse().ok()?;
            Some(match unit {
                "H" => Duration::from_secs(number.checked_mul(3600)?),
                "M" => Duration::from_secs(number.checked_mul(60)?),
                "S" => Duration::from_secs(number),
                "m" => Duration::from_millis(number),
                "u" => Duration::from_micros(number),
                "n" => Duration::from_nanos(number),
                _ => return None,
            })
        });
        return left.map(clamp).map(Some).ok_or_else(|| wrong("grpc-timeout"));
    }
    let Some(value) = headers.get("x-request-timeout") else { return Ok(None) };
    let left = value.to_str().ok().and_then(|text| {
        let text = text.trim();
        let (number, scale) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
            (Some(number), _) => (number, 0.001),
            (None, Some(number)) => (number, 1.0),
            (None, None) => (text, 1.0),
        };
        let seconds = number.trim().parse::<f64>().ok()? * scale;
        Duration::try_from_secs_f64(seconds).ok()
    });
    left.map(clamp).map(Some).ok_or_else(|| wrong("x-request-timeout"))
}

/// Keeps absurd deadlines from overflowing the clock.
fn clamp(left: Duration) -> Duration {
    left.min(Duration::from_secs(365 * 24 * 3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_see_no_credentials() {
        let mut headers: HeaderMap =
            CREDENTIALS.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("s"))).collect();
        headers.insert("x-team", HeaderValue::from_static("red"));
        let payload = Payload::typed_only(crate::event::Request::Chat(flowgate_proto::v1::ChatRequest::default()));
        let seen = testing::visit().request(&headers, &payload);
        assert_eq!(seen.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-team"]);
    }

    #[test]
    fn deadlines_are_read_in_both_spellings() {
        let read =
            |name: &'static str, value: &str| deadline(&HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())]));
        assert_eq!(read("grpc-timeout", "250m").unwrap(), Some(Duration::from_millis(250)));
        assert_eq!(read("grpc-timeout", "3S").unwrap(), Some(Duration::from_secs(3)));
        assert_eq!(read("x-request-timeout", "1.5").unwrap(), Some(Duration::from_millis(1500)));
        assert_eq!(read("x-request-timeout", "500ms").unwrap(), Some(Duration::from_millis(500)));
        assert_eq!(read("x-request-timeout", "30s").unwrap(), Some(Duration::from_secs(30)));
        for (name, value) in [("grpc-timeout", "3"), ("grpc-timeout", "S"), ("x-request-timeout", "soon"), ("x-request-timeout", "-1")] {
            assert!(read(name, value).is_err(), "{name}: {value}");
        }
    }
}
