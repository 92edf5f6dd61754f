//! Policies: one file each, written once for unary and streamed calls. They know neither wire formats nor each other.
//!
//! A policy is an `async fn` around what comes [`Next`]; on the way back it looks at events through [`Reply::tap`]. What it is
//! a policy *of*, a [`Call`](crate::call::Call) or an [`Attempt`](crate::call::Attempt), says at which height it stands.
//! Their order is in `stack` and nowhere else.

use std::{future::Future, sync::Arc};

use crate::{call::Service, error::Result, event::Reply};

pub mod attribution;
pub mod batch;
pub mod commit;
pub mod compat;
pub mod concurrency;
pub mod defaults;
pub mod fallback;
pub mod hedge;
mod leaving;
pub mod media;
pub mod meter;
pub mod mirror;
pub mod readiness;
pub mod retry;
pub mod shed;
pub mod span;
pub mod table;
pub mod timeouts;

/// What stands below a policy.
pub trait Next<Req>: Send + Sync + 'static {
    /// Carries the request on.
    fn call(&self, request: Req) -> impl Future<Output = Result<Reply>> + Send;
}

/// A rule that every request passes through. Always ready: admission is decided in `handle`, with a typed error.
pub trait Policy<Req>: Send + Sync + 'static {
    /// Passes the request on to `next`, or answers itself.
    fn handle(&self, request: Req, next: &impl Next<Req>) -> impl Future<Output = Result<Reply>> + Send;
}

/// A policy over what stands below it.
#[derive(Debug)]
pub struct Over<P, N>(pub P, pub N);

impl<Req, P, N> Next<Req> for Over<P, N>
where
    Req: Send + 'static,
    P: Policy<Req>,
    N: Next<Req>,
{
    async fn call(&self, request: Req) -> Result<Reply> {
        self.0.handle(request, &self.1).await
    }
}

impl<Req: Send + 'static> Next<Req> for Service<Req> {
    async fn call(&self, request: Req) -> Result<Reply> {
        Self::call(self, request).await
    }
}

/// A whole stack as one service; the only place where a type is erased, so each height costs one box.
pub fn erase<Req: Send + 'static>(stack: impl Next<Req>) -> Service<Req> {
    let stack = Arc::new(stack);
    Service::new(move |request| {
        let stack = Arc::clone(&stack);
        async move { stack.call(request).await }
    })
}

#[cfg(test)]
pub(crate) mod testing {
    //! What policy tests share: a call, an attempt, and a next that answers as told.

    use std::sync::Mutex;

    use flowgate_proto::v1;
    use futures_util::Stream;
    use http::HeaderMap;

    use super::{Arc, Future, Next, Reply, Result};
    use crate::{
        balance::{self, Balance, rollout::Trial},
        call::{Attempt, Call, Choice, Record},
        catalog::Catalog,
        config::{self, Mock, Place},
        event::{Answer, Event, Head, Lane, Payload, Request, Tariff, Task},
        identity::Principal,
        stack::Grounds,
        telemetry::{metrics::Metrics, routing::EndpointMeter},
    };

    /// A next that runs a function.
    pub(crate) struct Then<F>(pub(crate) F);

    impl<Req, F, Fut> Next<Req> for Then<F>
    where
        Req: Send + 'static,
        F: Fn(Req) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Reply>> + Send,
    {
        async fn call(&self, request: Req) -> Result<Reply> {
            (self.0)(request).await
        }
    }

    /// A next that answers once with what it holds and remembers what it was asked.
    pub(crate) struct Once<Req>(pub(crate) Mutex<Option<Result<Reply>>>, pub(crate) Mutex<Option<Req>>);

    impl<Req> Once<Req> {
        pub(crate) fn new(reply: Result<Reply>) -> Self {
            Self(Mutex::new(Some(reply)), Mutex::new(None))
        }
    }

    impl<Req: Send + 'static> Next<Req> for Once<Req> {
        async fn call(&self, request: Req) -> Result<Reply> {
            *self.1.lock().unwrap() = Some(request);
            self.0.lock().unwrap().take().unwrap()
        }
    }

    pub(crate) fn head() -> Head {
        Head {
            lane: Lane::Typed,
            deployment: "only".into(),
            provider: "mock",
            tariff: Tariff::default(),
            attempts: 1,
            headers: HeaderMap::new(),
        }
    }

    pub(crate) fn unary() -> Reply {
        Reply::one(head(), Answer::Chat(v1::ChatResponse::default()))
    }

    pub(crate) fn streamed(events: impl Stream<Item = Result<Event>> + Send + 'static) -> Reply {
        Reply::many(head(), events)
    }

    pub(crate) fn text(text: &str) -> Event {
        Event::Delta(v1::ChatDelta { delta: Some(v1::chat_delta::Delta::Text(text.to_owned())), ..Default::default() })
    }

    pub(crate) fn endpoint(name: &str, deployments: Vec<config::Deployment>) -> config::Endpoint {
        config::Endpoint {
            name: name.to_owned(),
            task: Task::Chat,
            path: None,
            description: String::new(),
            tags: Vec::new(),
            limit: None,
            timeouts: config::Timeouts::defaults(Task::Chat),
            unsupported: crate::dialect::Unsupported::Refuse,
            media: None,
            compat: None,
            is_split: false,
            routing: config::Routing::default(),
            deployments,
        }
    }

    pub(crate) fn deployment(alias: &str) -> config::Deployment {
        config::Deployment {
            alias: alias.to_owned(),
            weight: None,
            condition: None,
            provider: crate::provider::find("mock").unwrap(),
            model: "m".to_owned(),
            place: Place::Mock(Mock::default()),
            parameters: serde_json::Map::new(),
            credentials: Vec::new(),
            headers: HeaderMap::new(),
            hidden: Vec::new(),
            settings: crate::dialect::Settings::default(),
            templates: crate::dialect::templated::Templates::default(),
            proxy: None,
            ca: None,
            traits: config::Traits::default(),
        }
    }

    pub(crate) fn catalog(endpoints: Vec<config::Endpoint>) -> Catalog {
        Catalog::new(&config::Config { endpoints, ..Default::default() })
    }

    pub(crate) fn call(streaming: bool) -> Call {
        let catalog = catalog(vec![endpoint("chat", vec![deployment("only")])]);
        Call {
            id: "id".into(),
            endpoint: Arc::clone(catalog.endpoint("chat").unwrap()),
            principal: Arc::new(Principal::named("tester")),
            task: Task::Chat,
            streaming,
            payload: Payload::typed_only(Request::Chat(v1::ChatRequest::default())),
            deadline: None,
            own_total: None,
            headers: HeaderMap::new(),
            record: Arc::new(Record::default()),
            choice: Choice::default(),
            media: Arc::default(),
        }
    }

    /// The balance over an endpoint's deployments, whose attempts nobody carries out, and a call of it.
    pub(crate) fn balance(config: &config::Endpoint) -> (Arc<Balance>, Call) {
        let catalog = catalog(vec![config.clone()]);
        let endpoint = Arc::clone(catalog.endpoint(&config.name).unwrap());
        let grounds = Grounds::new(&config::Models::default());
        let rollout = grounds.rollouts.of(&endpoint, grounds.metrics.routing());
        let callable = endpoint.deployments.iter().filter(|deployment| deployment.dialect.is_some());
        let choices = callable.map(|deployment| {
            let upstream = Arc::new(grounds.connections.upstream(deployment, &endpoint.config.timeouts).unwrap());
            let service = super::erase(Then(|_: Attempt| async { Ok(unary()) }));
            let choice = balance::Choice::new(deployment, grounds.ward.of(&endpoint, deployment), upstream, service);
            choice.on_trial(rollout.as_ref().and_then(|rollout| Trial::of(rollout, &endpoint, deployment)))
        });
        let balance = Balance::new(&endpoint, choices.collect(), meter());
        (Arc::new(balance), Call { endpoint, ..call(false) })
    }

    pub(crate) fn meter() -> EndpointMeter {
        Metrics::new().routing().endpoint(&"e".into())
    }

    pub(crate) fn attempt(streaming: bool) -> Attempt {
        let call = call(streaming);
        let deployment = Arc::clone(&call.endpoint.deployments[0]);
        call.attempt(deployment).unwrap()
    }
}
