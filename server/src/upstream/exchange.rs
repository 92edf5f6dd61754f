//! One attempt carried out: ask, request, response, reply. What an answer means is for the dialect to say.

use std::{
    borrow::Cow,
    error::Error as StdError,
    sync::Arc,
    time::{Duration, SystemTime},
};

use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::Instant;

use super::{
    Upstream, Used, batches,
    body::{Body, Unread},
    events::Events,
    pool::Unsent,
    replica::InFlight,
    secrets::Secrets,
};
use crate::{
    call::{Attempt, Call, Record},
    dialect::{Ask, Dialect, Framing, Target, is_json, media_type},
    error::{Error, Result},
    event::{Head, Reply},
};

/// The largest whole answer that is taken.
const MOST_ANSWER: usize = 256 << 20;
/// How much of an error's body is read.
const MOST_ERROR: usize = 64 << 10;

const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const MOST_GRPC_TIME: u128 = 99_999_999;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-upstream-request-id");

/// Adds the time until it is dropped to what the call waited for upstreams.
#[derive(Debug)]
pub(super) struct Wait {
    record: Arc<Record>,
    since: Instant,
}

/// What is asked, and of whom.
struct Exchange<'a> {
    upstream: &'a Upstream,
    dialect: &'static dyn Dialect,
    target: &'a Target,
    used: Option<&'a Used>,
    secrets: &'a Secrets,
    ask: Ask<'a>,
    attempt: &'a Attempt,
}

/// How a successful response to a streamed ask is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Events,
    Json,
    Other,
}

/// One attempt, which is one request, or several where the provider takes no more at once.
pub(super) async fn exchange(upstream: &Upstream, attempt: &Attempt) -> Result<Reply> {
    match batches::of(upstream, attempt)? {
        Some(batches) => batches::exchange(upstream, attempt, &batches).await,
        None => one(upstream, attempt).await,
    }
}

/// One request; once more where its credential is no good any more and another one is to be had, since nothing was done then.
pub(super) async fn one(upstream: &Upstream, attempt: &Attempt) -> Result<Reply> {
    let deployment = &upstream.deployment;
    attempt.call.record.note(|facts| {
        facts.deployment = Some(Arc::clone(&deployment.alias));
        facts.provider = Some(deployment.provider);
        facts.lane = Some(attempt.lane);
    });
    let used = match upstream.ways.get(attempt.credential).or(upstream.ways.first()) {
        Some(way) => Some(Used::by(way).await.map_err(not_granted)?),
        None => None,
    };
    match (once(upstream, attempt, used.as_ref()).await, &used) {
        (Err(error), Some(used)) if error.is_credential_stale() => match used.another().await {
            Some(other) => once(upstream, attempt, Some(&other)).await,
            None => Err(error),
        },
        (answer, _) => answer,
    }
}

async fn once(upstream: &Upstream, attempt: &Attempt, used: Option<&Used>) -> Result<Reply> {
    let deployment = &upstream.deployment;
    let call = &attempt.call;
    let (Some(dialect), Some((position, busy))) = (deployment.dialect, upstream.group.enter(attempt.replica)) else {
        return Err(upstream.error(ErrorReason::GatewayNotServing, "cannot be called; the operator must give it an address"));
    };
    let ask = Ask {
        task: attempt.deployment.task,
        streaming: call.streaming,
        lane: attempt.lane,
        payload: &call.payload,
        unsupported: call.endpoint.config.unsupported,
    };
    let secrets = Secrets::new(used.map(|used| Arc::clone(&used.credential)), deployment);
    let waiting = || Wait { record: Arc::clone(&call.record), since: Instant::now() };
    let reach = {
        let _until_it_is_ready = waiting();
        busy.ready().await?
    };
    let target = deployment.targets[position].knowing(reach.settings());
    let exchange = Exchange { secrets: &secrets, upstream, dialect, target: &target, used, ask, attempt };
    let mut request = dialect.encode(&ask, exchange.target)?;
    if let Some(used) = used {
        used.credential.authorize(&mut request, SystemTime::now())?;
    }
    dress(request.headers_mut(), call);
    let wait = waiting();
    let response = reach.send(request).await.map_err(|error| unsent(upstream, error))?;
    exchange.read(response, wait, busy).await.map_err(|error| {
        if let Some(used) = used {
            used.learn(&error);
        }
        secrets.hide_in(error)
    })
}

impl Exchange<'_> {
    async fn read(&self, response: http::Response<Body>, wait: Wait, busy: InFlight) -> Result<Reply> {
        let (parts, body) = response.into_parts();
        if !parts.status.is_success() {
            let body = self.secrets.hide(body.start(MOST_ERROR).await);
            return Err(self.dialect.classify(self.target, parts.status, &parts.headers, &body));
        }
        if parts.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            let what = "answered compressed, which was not asked for; have the operator turn its compression off";
            return Err(self.upstream.error(ErrorReason::ProviderBadAnswer, what).upstream_status(parts.status));
        }
        let framing = self.dialect.framing(&self.ask, self.target);
        match form(&parts.headers, framing) {
            _ if !self.ask.streaming => self.whole(&parts, body, wait).await,
            Form::Events => {
                let decoder = self.dialect.decoder(&self.ask, self.target);
                let alias = Arc::clone(&self.upstream.deployment.alias);
                let events = Events::new(alias, body, framing, decoder, self.upstream.tasks.clone());
                let events = events.timed(wait, busy).with(self.secrets.clone(), self.used.cloned());
                Ok(Reply::many(self.head(&parts.headers), events))
            }
            Form::Json => self.whole(&parts, body, wait).await,
            Form::Other => Err(self
                .upstream
                .error(ErrorReason::ProviderBadAnswer, "answered a streamed call with something else than a stream; check its address")
                .upstream_status(parts.status)),
        }
    }

    /// A whole answer, also to a streamed ask: some providers answer short calls at once, or fail with status 200, which the
    /// dialect finds out.
    async fn whole(&self, parts: &http::response::Parts, body: Body, wait: Wait) -> Result<Reply> {
        let (body, trailers) = body.collect(MOST_ANSWER).await.map_err(|error| self.unread(error))?;
        drop(wait);
        let ask = Ask { streaming: false, ..self.ask };
        let mut headers = Cow::Borrowed(&parts.headers);
        if !trailers.is_empty() {
            headers.to_mut().extend(trailers);
        }
        let answer = self.dialect.decode(&ask, self.target, &headers, body)?;
        batches::judge(self.upstream, &ask, &answer)?;
        Ok(Reply::one(self.head(&parts.headers), answer))
    }

    fn head(&self, headers: &HeaderMap) -> Head {
        let deployment = &self.upstream.deployment;
        Head {
            lane: self.attempt.lane,
            deployment: Arc::clone(&deployment.alias),
            provider: deployment.provider,
            tariff: deployment.tariff.clone(),
            attempts: self.attempt.number,
            headers: crossing(headers),
        }
    }

    fn unread(&self, error: Unread) -> Error {
        match error {
            Unread::TooLarge => {
                self.upstream.error(ErrorReason::ProviderBadAnswer, "sent an answer of more than 256 MiB; ask for less at once")
            }
            Unread::Cut(error) => self
                .upstream
                .error(ErrorReason::ProviderFailed, "closed the connection in the middle of its answer; try again")
                .because(chain(error.as_ref())),
        }
    }
}

/// Whoever grants credentials failed, and not the replica, which was not asked: the credential is at fault, whatever the reason.
fn not_granted(error: Error) -> Error {
    let message = error.to_string();
    Error::new(ErrorReason::ProviderCredentialRejected, message).because(error)
}

/// The headers that the gateway adds; those of the dialect stand.
fn dress(headers: &mut HeaderMap, call: &Call) {
    let left = |unit: &str, of: fn(&Duration) -> u128| {
        call.remaining().and_then(|left| HeaderValue::try_from(format!("{}{unit}", of(&left))).ok())
    };
    // gRPC has its own name for it, and takes no more than eight digits.
    let is_grpc = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/grpc");
    let own = [
        (REQUEST_ID, HeaderValue::from_str(&call.id).ok()),
        // Without it any coding would do.
        (header::ACCEPT_ENCODING, Some(HeaderValue::from_static("identity"))),
        (header::USER_AGENT, Some(HeaderValue::from_static(concat!("flowgate/", env!("CARGO_PKG_VERSION"))))),
        if is_grpc {
            (GRPC_TIMEOUT, left("m", |left| left.as_millis().min(MOST_GRPC_TIME)))
        } else {
            (REQUEST_TIMEOUT, left("ms", Duration::as_millis))
        },
    ];
    for name in call.headers.keys() {
        if !headers.contains_key(name) {
            for value in call.headers.get_all(name) {
                headers.append(name, value.clone());
            }
        }
    }
    for (name, value) in own {
        if let (false, Some(value)) = (headers.contains_key(&name), value) {
            headers.insert(name, value);
        }
    }
}

/// The upstream's headers that clients may see.
fn crossing(headers: &HeaderMap) -> HeaderMap {
    let mut crossing = HeaderMap::new();
    for (name, value) in headers {
        match name.as_str() {
            "x-request-id" => crossing.append(UPSTREAM_REQUEST_ID, value.clone()),
            "retry-after" | "openai-processing-ms" | "openai-version" => crossing.append(name, value.clone()),
            "x-flowgate-model" | "x-flowgate-model-version" | "x-flowgate-model-aliases" => crossing.append(name, value.clone()),
            other if other.starts_with("x-ratelimit-") => crossing.append(name, value.clone()),
            _ => continue,
        };
    }
    crossing
}

fn form(headers: &HeaderMap, framing: Framing) -> Form {
    match media_type(headers) {
        None => Form::Events,
        Some(told) if told.eq_ignore_ascii_case(framing.media_type().as_bytes()) => Form::Events,
        Some(told) if is_json(told) => Form::Json,
        Some(_) => Form::Other,
    }
}

/// Why there is no response. The gateway's own retries decide whether it is sent again: the pool does so only for a request
/// of which nothing was written.
fn unsent(upstream: &Upstream, unsent: Unsent) -> Error {
    let (reason, what, cause) = match unsent {
        // It says itself what is to be done.
        Unsent::Refused(error) => return error,
        Unsent::Connect(told) => (
            ErrorReason::ProviderUnavailable,
            "cannot be reached; try again later, or have the operator check its address",
            told.to_string(),
        ),
        Unsent::Exchange(error) if error.is_parse() => {
            (ErrorReason::ProviderBadAnswer, "gave an answer that is not HTTP; have the operator check its address", chain(&error))
        }
        Unsent::Exchange(error) => (ErrorReason::ProviderUnavailable, "closed the connection before it answered; try again", chain(&error)),
    };
    upstream.error(reason, what).because(cause)
}

/// An error and its causes in one line, for logs.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}

impl Drop for Wait {
    fn drop(&mut self) {
        let waited = self.since.elapsed();
        self.record.note(|facts| facts.upstream += waited);
    }
}
