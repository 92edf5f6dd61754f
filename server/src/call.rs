//! [`Call`]: a request that has been let in; [`Route`]: where it may go and where it has been; [`Attempt`]: one try of it at one
//! deployment; [`Service`]: what carries either out; [`Media`]: what was fetched for it; [`Record`]: what is known of both.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use flowgate_proto::v1::{self, ErrorReason};
use futures_util::{FutureExt as _, future::BoxFuture};
use http::HeaderMap;
use tokio::time::Instant;

use crate::{
    catalog::{Deployment, Endpoint},
    error::{Error, Result},
    event::{Lane, Payload, Reply, Task},
    expression::Request,
    identity::Principal,
};

/// A request that has been let in: who, what, until when. Cloning shares.
#[derive(Clone, Debug)]
pub struct Call {
    /// The request id.
    pub id: Arc<str>,
    /// What is called.
    pub endpoint: Arc<Endpoint>,
    /// Who calls.
    pub principal: Arc<Principal>,
    /// What the client asked for; chat and completion may differ from the endpoint's own task.
    pub task: Task,
    /// Whether the answer is wanted piece by piece.
    pub streaming: bool,
    /// The request.
    pub payload: Payload,
    /// When the caller stops waiting, or nobody waits any more.
    pub deadline: Option<Instant>,
    /// The endpoint's own `total`, where `deadline` is its end and not the caller's.
    pub own_total: Option<Duration>,
    /// Client headers that may cross to the upstream.
    pub headers: HeaderMap,
    /// What becomes of it.
    pub record: Arc<Record>,
    /// What is known for the choice of a deployment.
    pub choice: Choice,
    /// What was fetched that the request names by address.
    pub media: Arc<Media>,
}

/// What was fetched for a call, by address, so that its attempts do not fetch it anew. Whoever fetches holds it meanwhile: of two attempts
/// side by side, the second finds what the first got.
#[derive(Default)]
pub struct Media(pub tokio::sync::Mutex<HashMap<String, Fetched>>);

/// What was behind an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its media type, without parameters, in lower case.
    pub media_type: String,
    /// The bytes.
    pub bytes: Bytes,
}

/// What decides where a call goes, and where it goes next. Cloning shares the route.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Whether it gives way to others.
    pub priority: Priority,
    /// The alias of the deployment that alone may serve it, by the caller's wish.
    pub forced: Option<Arc<str>>,
    /// The request as expressions see it; `None` where no endpoint on its way asks.
    pub request: Option<Arc<Request>>,
    /// The endpoints that sent it on to this one: what they require goes on counting.
    pub via: Vec<Arc<Endpoint>>,
    /// Whether it comes here because another endpoint could not serve it: what is left alone here then stays so.
    pub spare: bool,
    /// The context window that was too small for it, in tokens; only a larger one will do. 0: none was.
    pub outgrown: u32,
    /// Where it may go within its endpoint, and where it has been.
    pub route: Arc<Route>,
    /// Where this attempt goes; set by whoever makes attempts.
    pub place: Option<Place>,
}

/// Who goes first where calls have to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// Somebody waits for the answer.
    #[default]
    Interactive,
    /// Nobody does.
    Batch,
}

/// A deployment's replica and credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The position of the deployment within its endpoint.
    pub deployment: usize,
    /// The replica. `None`: any.
    pub replica: Option<ReplicaId>,
    /// The position of the credential among the deployment's.
    pub credential: usize,
    /// Whether the call was nowhere before.
    pub is_first: bool,
}

/// The deployments that may serve a call, in order of choice, and the places that were tried. Shared by the attempts of a call.
#[derive(Debug, Default)]
pub struct Route(Mutex<Steps>);

/// What a [`Route`] holds.
#[derive(Debug, Default)]
pub struct Steps {
    /// Positions of deployments within the endpoint, the best first; decided when the first place is chosen.
    pub order: Option<Vec<usize>>,
    /// Whether the first of them was chosen for this call: by a condition, by what pins the caller, or by its wish.
    pub chosen: bool,
    /// Positions whose conditions were not asked, since an earlier one held.
    pub unasked: Vec<usize>,
    /// The places that were tried, in order.
    pub tried: Vec<Place>,
}

/// One try of a call at one deployment.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The call.
    pub call: Call,
    /// Where it is tried.
    pub deployment: Arc<Deployment>,
    /// Which of the deployment's replicas is asked. `None`: any.
    pub replica: Option<ReplicaId>,
    /// The position of the credential among the deployment's.
    pub credential: usize,
    /// Which try it is, from 1.
    pub number: u32,
    /// How the body is carried.
    pub lane: Lane,
}

/// Names one replica for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReplicaId(pub u64);

/// What carries a call or an attempt out, policies included, whatever it is made of. Always ready, and called without being cloned.
/// Cloning shares.
pub struct Service<Req, Out = Result<Reply>>(Arc<Carry<Req, Out>>);

type Carry<Req, Out> = dyn Fn(Req) -> BoxFuture<'static, Out> + Send + Sync;

/// What is known of a call so far, from the door on; read once, when it is over.
#[derive(Debug, Default)]
pub struct Record(Mutex<Facts>);

/// The facts of a [`Record`].
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The endpoint, once it is resolved.
    pub endpoint: Option<Arc<str>>,
    /// What is asked for.
    pub task: Option<Task>,
    /// Whether the answer is streamed.
    pub streaming: bool,
    /// Whether it is a stream of requests, each of which is a call of its own.
    pub is_series: bool,
    /// Who calls, once known.
    pub principal: Option<Arc<str>>,
    /// The deployment of the last attempt.
    pub deployment: Option<Arc<str>>,
    /// Its provider.
    pub provider: Option<&'static str>,
    /// Its lane.
    pub lane: Option<Lane>,
    /// Attempts made.
    pub attempts: u32,
    /// The last usage reported, and what was spent before.
    pub usage: Option<v1::Usage>,
    /// What all that costs, in pico-USD. `None`: unknown.
    pub cost: Option<i64>,
    /// What the steps of a chain consumed that came before the one which answers, and what that costs.
    pub spent: Option<(v1::Usage, Option<i64>)>,
    /// When the whole request was there.
    pub received: Option<Instant>,
    /// When the first event that commits was seen.
    pub first_event: Option<Instant>,
    /// Time spent waiting until then: for upstreams, for a free place, before another attempt.
    pub upstream: Duration,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// Why a call failed, as far as a record needs it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The reason.
    pub reason: ErrorReason,
    /// The reason's name.
    pub reason_name: &'static str,
    /// The message with its cause, for logs.
    pub message: String,
    /// The HTTP status with which an upstream failed.
    pub upstream_status: Option<u16>,
    /// The error, for a door that stands in front of another one.
    pub error: Error,
}

impl Call {
    /// A try at a deployment, at the place that was chosen; the byte lane where the deployment speaks what the client spoke and nothing
    /// changes the body.
    ///
    /// # Errors
    /// `GATEWAY_NOT_SERVING` when the deployment cannot be called.
    pub fn attempt(self, deployment: Arc<Deployment>) -> Result<Attempt> {
        let Some(dialect) = deployment.dialect else {
            return Err(Error::new(ErrorReason::GatewayNotServing, "the deployment cannot be called"));
        };
        let spoken = self.payload.wire().map(|wire| wire.protocol);
        let protocol = match deployment.targets.first() {
            Some(target) => dialect.protocol_at(deployment.task, target),
            None => dialect.protocol(deployment.task),
        };
        let same = spoken.is_some() && spoken == protocol;
        let lane = if same && deployment.parameters.is_empty() && !self.has_quirks() { Lane::Byte } else { Lane::Typed };
        let (replica, credential) = self.choice.place.map_or((None, 0), |place| (place.replica, place.credential));
        let mut number = 0;
        self.record.note(|facts| {
            facts.attempts += 1;
            number = facts.attempts;
        });
        Ok(Attempt { call: self, deployment, replica, credential, number, lane })
    }

    /// Whether it is one of those that the endpoint's `compat` changes.
    pub fn has_quirks(&self) -> bool {
        self.endpoint.config.compat.is_some() && matches!(self.task, Task::Chat | Task::Complete)
    }

    /// The call as another endpoint gets it that serves in this one's stead, or as a part of it.
    #[must_use]
    pub fn into_endpoint(mut self, endpoint: Arc<Endpoint>) -> Self {
        self.choice.via.push(std::mem::replace(&mut self.endpoint, endpoint));
        self.choice = Choice { forced: None, spare: false, route: Arc::default(), place: None, ..self.choice };
        self
    }

    /// A copy for an endpoint whose answer no caller waits for: with a route, a record and a time of its own, which is that endpoint's
    /// `total`, or `most` where it has none.
    #[must_use]
    pub fn mirrored(&self, endpoint: &Arc<Endpoint>, most: Duration) -> Self {
        let mut copy = self.clone().into_endpoint(Arc::clone(endpoint));
        let timeouts = &endpoint.config.timeouts;
        let total = if self.streaming { timeouts.total_stream } else { timeouts.total_unary };
        copy.deadline = Some(Instant::now() + total.unwrap_or(most));
        copy.own_total = total;
        copy.record = Arc::default();
        copy.choice.priority = Priority::Batch;
        // Two calls under one key would get one answer, be it the other's.
        copy.headers.remove("idempotency-key");
        copy
    }

    /// From when on a provider is at fault that was asked at this time and has said nothing: the end of the endpoint's own `total`, if
    /// it had at least half of that. `None`: never, since the caller's deadline is nearer, or others took most of the time.
    pub fn end_of_patience(&self, asked: Instant) -> Option<Instant> {
        let (total, end) = (self.own_total?, self.deadline?);
        (end.saturating_duration_since(asked) >= total / 2).then_some(end)
    }

    /// The time that is left.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

impl Steps {
    /// An order in which nothing was tried yet.
    pub fn of(order: Vec<usize>) -> Self {
        Self { order: Some(order), ..Self::default() }
    }
}

impl Route {
    /// Looks at the steps, or changes them.
    pub fn with<T>(&self, look: impl FnOnce(&mut Steps) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<Req, Out> Service<Req, Out> {
    /// A service that answers so.
    pub fn new<F>(carry: impl Fn(Req) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Out> + Send + 'static,
    {
        Self(Arc::new(move |request| carry(request).boxed()))
    }

    /// Carries a request out.
    pub fn call(&self, request: Req) -> BoxFuture<'static, Out> {
        (self.0)(request)
    }
}

impl<Req, Out> Clone for Service<Req, Out> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Media").finish_non_exhaustive()
    }
}

impl<Req, Out> fmt::Debug for Service<Req, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Service")
    }
}

impl Facts {
    /// Notes that an answer begins: what it costs is not known before it says what it consumed. Predictions have no price, so what was
    /// spent before one is all that there is.
    pub fn begin_answer(&mut self) {
        if self.task != Some(Task::Predict) {
            self.cost = None;
        }
    }

    /// Notes the usage that an answer reports so far, and what it costs.
    pub fn consume(&mut self, usage: &v1::Usage, cost: Option<i64>) {
        let (usage, cost) = match &self.spent {
            Some((spent, before)) => (sum(spent, usage), before.zip(cost).and_then(|(before, cost)| before.checked_add(cost))),
            None => (*usage, cost),
        };
        (self.usage, self.cost) = (Some(usage), cost);
    }

    /// Notes the usage of a step whose answer is not the call's, and what it costs.
    pub fn spend(&mut self, usage: &v1::Usage, cost: Option<i64>) {
        self.consume(usage, cost);
        self.spent = self.usage.map(|usage| (usage, self.cost));
    }
}

/// Counts that one of the two does not know are those of the other.
fn sum(a: &v1::Usage, b: &v1::Usage) -> v1::Usage {
    let add = |a: Option<u32>, b: Option<u32>| a.map(|a| a.saturating_add(b.unwrap_or(0))).or(b);
    v1::Usage {
        input_tokens: add(a.input_tokens, b.input_tokens),
        output_tokens: add(a.output_tokens, b.output_tokens),
        cache_read_tokens: add(a.cache_read_tokens, b.cache_read_tokens),
        cache_write_tokens: add(a.cache_write_tokens, b.cache_write_tokens),
        reasoning_tokens: add(a.reasoning_tokens, b.reasoning_tokens),
        input_audio_tokens: add(a.input_audio_tokens, b.input_audio_tokens),
        output_audio_tokens: add(a.output_audio_tokens, b.output_audio_tokens),
        input_image_tokens: add(a.input_image_tokens, b.input_image_tokens),
        output_image_tokens: add(a.output_image_tokens, b.output_image_tokens),
        cache_write_1h_tokens: add(a.cache_write_1h_tokens, b.cache_write_1h_tokens),
        search_queries: add(a.search_queries, b.search_queries),
        // What the two cost is summed where it is known what is not reported, too.
        cost_pico_usd: None,
        service_tier: if a.service_tier == b.service_tier { a.service_tier } else { 0 },
        // An estimate in one of the two makes the sum one.
        source: a.source.max(b.source),
    }
}

impl Record {
    /// Adds to what is known.
    pub fn note(&self, note: impl FnOnce(&mut Facts)) {
        note(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Says why the call failed; the first reason counts.
    pub fn fail(&self, error: &Error) {
        self.note(|facts| {
            facts.failure.get_or_insert_with(|| Failure {
                reason: error.reason(),
                reason_name: error.reason_name(),
                message: format!("{error:?}"),
                upstream_status: error.upstream_status_code(),
                error: error.clone(),
            });
        });
    }

    /// Looks at what is known now.
    pub fn read<T>(&self, read: impl FnOnce(&Facts) -> T) -> T {
        read(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is known now.
    pub fn facts(&self) -> Facts {
        self.read(Facts::clone)
    }
}
