//! The only place that orders policies: builds the services over a catalog and publishes both as one snapshot.
//!
//! A call passes, outermost first: **meter** (what becomes of it is recorded), **shed** (a gateway with too much to do turns it away), **total**
//! (one time over everything), **mirror** (copies go elsewhere), and then the routing, where calls enter too that another endpoint sends on:
//! **fallback** (other endpoints, when its own deployments cannot), **hedge** (a second attempt beside a slow one), **retry** (one attempt
//! after the other, each where `balance` says), **commit** (nothing is passed on before the first content), and the choice of a place. A
//! chain has its steps instead of the last four. An attempt passes: **defaults** (the deployment's parameters), **compat** (another
//! gateway's quirks), **media** (what the provider does not fetch), **table** (bytes as the model's signature wants them), **batch** (requests
//! that become one), **concurrency** (a place, or the queue), **attribution** (whose fault a failure is), **readiness** (a model of the
//! gateway's own is loaded), **try** (the time of one attempt and of a stream's silences), **span**, and the send.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use flowgate_proto::v1::{self, ErrorReason};

use crate::{
    balance::{
        Balance, Choice,
        breaker::State,
        rollout::{Rollout, Rollouts, Trial},
        tempo::Tempi,
        vitals::{Vitals, Ward},
    },
    call::{Attempt, Call, Service},
    catalog::{Catalog, Deployment, Endpoint, shares},
    chain::{Chain, Stage},
    config::{self, Config, Place, Process, Step, Timeouts},
    error::{Error, Result},
    event::{Reply, Task},
    mlflow::models::{Generation, Models},
    policy::{
        Next, Over,
        attribution::Attribution,
        batch::Batch,
        commit::Commit,
        compat::Compat,
        concurrency::Concurrency,
        defaults::Defaults,
        erase,
        fallback::Fallback,
        hedge::Hedge,
        media::Media,
        meter::Meter,
        mirror::{Image, Mirror},
        readiness::Readiness,
        retry::Retry,
        shed::{Shed, UnderWay},
        span::Span,
        table::{Signed, Table},
        timeouts::{Total, Try},
    },
    task::Tasks,
    telemetry::metrics::Metrics,
    upstream::{Connections, Servers as _, Upstream, grants::Grants},
};

/// How far calls are sent on from endpoint to endpoint at most; a configuration has no longer way.
const MOST_HOPS: usize = 4;

/// What has a life of its own: it outlives every snapshot that is built over it.
#[derive(Debug)]
pub struct Grounds {
    /// Connections to upstreams.
    pub connections: Connections,
    /// Models that the gateway runs itself.
    pub models: Models,
    /// What is known of deployments.
    pub ward: Ward,
    /// How far rollouts are.
    pub rollouts: Rollouts,
    /// The calls under way.
    pub under_way: Arc<UnderWay>,
    /// What is known of endpoints that hedge.
    pub tempi: Tempi,
    /// Copies of calls under way to mirrors; nobody waits for them.
    pub mirrors: Tasks,
    /// Requests under way that were put together; who waits for them is in another task.
    pub batches: Tasks,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// A catalog and the services over it; calls in flight keep the one they began with.
#[derive(Debug)]
pub struct Snapshot {
    /// What can be called.
    pub catalog: Catalog,
    services: HashMap<Arc<str>, Service<Call>>,
    rollouts: BTreeMap<Arc<str>, Arc<Rollout>>,
    models: Models,
}

/// An endpoint and what carries its calls out, of one snapshot.
#[derive(Clone, Debug)]
pub struct Served {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    service: Service<Call>,
}

/// The bottom of the attempt stack.
struct Send(Arc<Upstream>);

/// The bottom of the call stack.
struct Choose(Arc<Balance>);

/// Builds the services of one catalog, each endpoint's routing once, however many endpoints send calls on to it.
struct Build<'a> {
    catalog: &'a Catalog,
    grounds: &'a Grounds,
    rollouts: &'a BTreeMap<Arc<str>, Arc<Rollout>>,
    /// `max_in_flight`.
    most_calls: u32,
    routings: HashMap<Arc<str>, Service<Call>>,
}

impl Grounds {
    /// Nothing is under way yet.
    pub fn new(models: &config::Models) -> Self {
        let metrics = Arc::new(Metrics::new());
        let grants = Arc::new(Grants::new(Arc::new(Process), Tasks::default()));
        let models = Models::new(models.clone(), Arc::new(Process), Arc::clone(&grants), metrics.models().clone());
        Self {
            connections: Connections::new(metrics.upstreams().clone(), grants, Arc::new(models.clone())),
            models,
            ward: Ward::default(),
            rollouts: Rollouts::default(),
            under_way: Arc::default(),
            tempi: Tempi::default(),
            mirrors: Tasks::default(),
            batches: Tasks::default(),
            metrics,
        }
    }
}

impl Next<Attempt> for Send {
    async fn call(&self, attempt: Attempt) -> Result<Reply> {
        self.0.send(attempt).await
    }
}

impl Next<Call> for Choose {
    async fn call(&self, call: Call) -> Result<Reply> {
        self.0.call(call).await
    }
}

impl Snapshot {
    /// Builds the services of a configuration; what has a life of its own is kept where its definition did not change.
    ///
    /// # Errors
    /// What makes a deployment impossible to reach, for example an unreadable `upstream.ca`.
    pub fn build(config: &Config, grounds: &Grounds) -> Result<Self> {
        let catalog = Catalog::new(config).partial(grounds.models.is_unlisted());
        let routing = grounds.metrics.routing();
        let rollouts =
            catalog.all().iter().filter_map(|endpoint| Some((Arc::clone(&endpoint.name), grounds.rollouts.of(endpoint, routing)?)));
        let rollouts = rollouts.collect();
        let mut build =
            Build { catalog: &catalog, grounds, rollouts: &rollouts, most_calls: config.max_in_flight, routings: HashMap::new() };
        let services = catalog.all().iter().map(|endpoint| {
            let service = build.call_stack(endpoint)?;
            Ok((Arc::clone(&endpoint.name), service))
        });
        let services = services.collect::<Result<_>>()?;
        Ok(Self { catalog, services, rollouts, models: grounds.models.clone() })
    }

    /// A snapshot with services made by hand.
    #[cfg(test)]
    pub(crate) fn of(catalog: Catalog, services: HashMap<Arc<str>, Service<Call>>) -> Self {
        Self { catalog, services, rollouts: BTreeMap::new(), models: Models::default() }
    }

    /// An endpoint as clients see it.
    pub fn describe(&self, endpoint: &Endpoint) -> v1::Endpoint {
        let mut described = endpoint.describe();
        if let Some(reason) = self.not_serving(endpoint) {
            described.set_state(v1::EndpointState::NotServing);
            described.state_reason = reason;
        }
        self.tell_models(endpoint, &mut described);
        let Some(rollout) = self.rollouts.get(&endpoint.name) else { return described };
        let told = rollout.describe();
        let weight = |deployment: &Arc<Deployment>| {
            let trial = Trial::of(rollout, endpoint, deployment)?;
            Some(trial.weight(told.share_percent).filter(|_| deployment.dialect.is_some()).unwrap_or(0.0))
        };
        let weights: Vec<_> = endpoint.deployments.iter().map(weight).collect();
        for (model, share) in described.models.iter_mut().zip(shares(&weights)) {
            model.share = share;
        }
        described.rollout = Some(told);
        described
    }

    /// Why none of an endpoint's deployments answers for now, models included that could not be loaded; `None` when it serves.
    pub fn not_serving(&self, endpoint: &Endpoint) -> Option<String> {
        endpoint.out_of_service(&|deployment| {
            let Place::Model(model) = &deployment.config.place else { return None };
            Some(self.models.known(model)?.not_serving()?.to_string())
        })
    }

    /// What is known of the models that answer an endpoint's calls and that the gateway runs itself, once they are loaded.
    fn tell_models(&self, endpoint: &Endpoint, described: &mut v1::Endpoint) {
        let mut signatures = Vec::new();
        for (deployment, told) in endpoint.deployments.iter().zip(&mut described.models) {
            let Place::Model(model) = &deployment.config.place else { return };
            let known = self.models.known(model).and_then(|hosted| hosted.current());
            signatures.push(known.as_ref().and_then(|current| current.signature().cloned()));
            if let Some(version) = known.and_then(|current| current.resolved().version) {
                told.version = version.version.to_string();
                told.aliases = version.aliases;
                if told.name.is_empty() {
                    told.name = version.name;
                }
            }
        }
        // Of several models that differ there is no one signature.
        let first = signatures.first().cloned().flatten();
        described.signature = first.filter(|first| signatures.iter().all(|other| other.as_ref() == Some(first))).map(|one| one.to_proto());
    }

    /// The models that the gateway runs itself for an endpoint, for each deployment what answers now, if anything does. None where other
    /// deployments answer, too.
    pub fn current(&self, endpoint: &Endpoint) -> Vec<Option<Arc<Generation>>> {
        let current = |deployment: &Arc<Deployment>| match &deployment.config.place {
            Place::Model(model) => Some(self.models.known(model).and_then(|hosted| hosted.current())),
            Place::Http(_) | Place::Mock(_) | Place::Nowhere(_) => None,
        };
        endpoint.deployments.iter().map(current).collect::<Option<_>>().unwrap_or_default()
    }

    /// The rollout of an endpoint.
    ///
    /// # Errors
    /// `CALLER_ENDPOINT_NOT_FOUND`, `CALLER_ROLLOUT_NOT_FOUND`.
    pub fn rollout(&self, endpoint: &str) -> Result<&Arc<Rollout>> {
        let endpoint = self.catalog.endpoint(endpoint)?;
        self.rollouts.get(&endpoint.name).ok_or_else(|| {
            let message = "the endpoint has no rollout; the operator gives it one by `rollout` in the configuration";
            Error::new(ErrorReason::CallerRolloutNotFound, message)
        })
    }

    /// All rollouts, by the endpoint's name.
    pub fn rollouts(&self) -> impl Iterator<Item = &Arc<Rollout>> {
        self.rollouts.values()
    }

    /// Models that the gateway runs itself.
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// Says what moves by itself, once this snapshot is the one in use.
    pub fn announce(&self, metrics: &Metrics) {
        metrics.routing().forget_shares();
        self.rollouts.values().for_each(|rollout| rollout.announce());
    }

    /// The endpoint that `find` picks, with what carries its calls out.
    ///
    /// # Errors
    /// What `find` says.
    pub fn served(&self, find: impl FnOnce(&Catalog) -> Result<&Arc<Endpoint>>) -> Result<Served> {
        let endpoint = find(&self.catalog)?;
        let service = self.services.get(&endpoint.name).cloned().ok_or_else(|| Error::internal("an endpoint has no service"))?;
        Ok(Served { endpoint: Arc::clone(endpoint), service })
    }
}

impl Served {
    /// Carries a call of this endpoint out.
    ///
    /// # Errors
    /// Whatever fails before the first event that commits.
    pub async fn call(self, call: Call) -> Result<Reply> {
        self.service.call(call).await
    }
}

impl Build<'_> {
    /// Step 6 of a request's life, outermost first: what a caller meets at the endpoint that it named.
    fn call_stack(&mut self, endpoint: &Arc<Endpoint>) -> Result<Service<Call>> {
        let routing = self.routing(endpoint, MOST_HOPS)?;
        // Directly over the routing: a copy is sent when a call is, and outlives it.
        let mirror = Over(self.mirror(endpoint)?, routing);
        // Over all attempts, so that several tries share one time.
        let total = Over(Total(endpoint.config.timeouts), mirror);
        // Over all that costs anything: a gateway with too much to do does nothing for a call that it turns away.
        let shed = Over(self.shed(), total);
        // Outermost: sees just what the client gets, refusals of the policies below included.
        let meter = Over(Meter, shed);
        Ok(erase(meter))
    }

    /// Steps 7 and 8: where calls enter too that another endpoint sends on.
    fn routing(&mut self, endpoint: &Arc<Endpoint>, hops: usize) -> Result<Service<Call>> {
        if let Some(known) = self.routings.get(&endpoint.name) {
            return Ok(known.clone());
        }
        let routing = &endpoint.config.routing;
        let meter = self.grounds.metrics.routing().endpoint(&endpoint.name);
        let balance = Arc::new(Balance::new(endpoint, self.choices(endpoint)?, meter.clone()));
        // Over all attempts at the endpoint's own deployments, and over all steps: others serve only when these cannot.
        let others = routing.fallback.iter().map(|name| self.other(name, hops)).collect::<Result<_>>()?;
        let fallback = Fallback { balance: Arc::clone(&balance), others, meter: meter.clone() };
        let service = if endpoint.is_chain() {
            // Retries and all that chooses are the business of the steps' endpoints, whose routing each step enters.
            erase(Over(fallback, self.chain(endpoint, hops)?))
        } else {
            // Nearest to the choice: what passes it has its first content, so nothing above it ever sees a failure that could be retried.
            let commit = Over(Commit, Choose(Arc::clone(&balance)));
            let retry = Over(Retry::new(balance, routing.retry, meter.clone()), commit);
            // Either of two attempts side by side has its own retries, and wins by what passes the commit point.
            let tempo = routing.hedge.map(|hedge| self.grounds.tempi.of(&endpoint.name, hedge));
            erase(Over(fallback, Over(Hedge { tempo, meter }, retry)))
        };
        self.routings.insert(Arc::clone(&endpoint.name), service.clone());
        Ok(service)
    }

    /// Where copies of an endpoint's calls go: to a routing, which has no mirrors.
    fn mirror(&mut self, endpoint: &Endpoint) -> Result<Mirror> {
        let images = endpoint.config.routing.mirrors.iter().map(|mirror| {
            let other = self.other(&mirror.endpoint, MOST_HOPS)?;
            let meter = self.grounds.metrics.routing().mirrors().mirror(&endpoint.name, &other.0.name);
            // A copy is a call like any other batch call, and goes first when there is too much to do.
            let (endpoint, routing) = other;
            Ok(Image::new((endpoint, erase(Over(self.shed(), routing))), mirror.share, meter))
        });
        Ok(Mirror::new(images.collect::<Result<_>>()?, self.grounds.mirrors.clone()))
    }

    fn shed(&self) -> Shed {
        Shed::new(Arc::clone(&self.grounds.under_way), self.most_calls, self.grounds.metrics.load().shed())
    }

    /// An endpoint that calls are sent on to.
    fn other(&mut self, name: &str, hops: usize) -> Result<(Arc<Endpoint>, Service<Call>)> {
        let endpoint = Arc::clone(self.catalog.endpoint(name)?);
        let hops = hops.checked_sub(1).ok_or_else(|| Error::internal("endpoints send calls on too often, or in a circle"))?;
        let service = self.routing(&endpoint, hops)?;
        Ok((endpoint, service))
    }

    fn chain(&mut self, endpoint: &Endpoint, hops: usize) -> Result<Chain> {
        let stage = |step: &Step| {
            let (endpoint, routing) = self.other(&step.endpoint, hops)?;
            Ok(Stage::new(step, endpoint, routing))
        };
        endpoint.config.routing.steps.iter().map(stage).collect::<Result<_>>().map(Chain::new)
    }

    fn choices(&self, endpoint: &Endpoint) -> Result<Vec<Choice>> {
        let media = endpoint.config.media.as_ref();
        let media = media.map(|media| Ok((media.clone(), self.grounds.connections.fetcher()?))).transpose()?;
        let callable = endpoint.deployments.iter().filter(|deployment| deployment.dialect.is_some());
        let choice = |deployment: &Arc<Deployment>| {
            let upstream = Arc::new(self.grounds.connections.upstream(deployment, &endpoint.config.timeouts)?);
            let vitals = self.grounds.ward.of(endpoint, deployment);
            let trial = self.rollouts.get(&endpoint.name).and_then(|rollout| Trial::of(rollout, endpoint, deployment));
            let meter = self.grounds.metrics.routing().deployment(&endpoint.name, &deployment.alias);
            // A deployment that is another one since a reload has a breaker of its own.
            meter.breaker(vitals.breaker.state() != State::Closed);
            let attribution = Attribution::new(Arc::clone(&vitals), Arc::clone(&upstream), meter, trial.clone());
            let concurrency = self.concurrency(endpoint, deployment, &vitals);
            let own = match &deployment.config.place {
                Place::Model(model) => Some(self.grounds.models.of(model)?),
                Place::Http(_) | Place::Mock(_) | Place::Nowhere(_) => None,
            };
            let limited = Over(concurrency, attempted(endpoint.config.timeouts, &upstream, attribution, Readiness(own)));
            let media = Media::new(media.clone(), Arc::clone(&vitals));
            let signed = match &deployment.config.place {
                Place::Model(model) if endpoint.task == Task::Predict => Some(self.grounds.models.hosted(model) as Arc<dyn Signed>),
                _ => None,
            };
            let table = Table::new(signed, Arc::clone(&vitals));
            let compat = Compat(endpoint.config.compat);
            let service = match deployment.batch() {
                // Under all that changes a request, over all that a request to the model counts for once.
                Some(batch) => {
                    let limited = erase(limited);
                    let meter = self.grounds.metrics.batches().deployment(&endpoint.name, &deployment.alias);
                    let batch = Batch::new(batch, limited.clone(), self.grounds.batches.clone(), meter);
                    edited(compat, media, Over(table, Over(batch, limited)))
                }
                None => edited(compat, media, Over(table, limited)),
            };
            Ok(Choice::new(deployment, vitals, upstream, service).on_trial(trial))
        };
        callable.map(choice).collect()
    }

    fn concurrency(&self, endpoint: &Endpoint, deployment: &Deployment, vitals: &Vitals) -> Concurrency {
        let load = self.grounds.metrics.load();
        match &vitals.limiter {
            Some(limiter) => Concurrency::limited(limiter.clone(), load.deployment(&endpoint.name, &deployment.alias)),
            None => {
                load.unlimited(&endpoint.name, &deployment.alias);
                Concurrency::unlimited()
            }
        }
    }
}

/// Steps 9 and 10, outermost first, once there is a place.
fn attempted(timeouts: Timeouts, upstream: &Arc<Upstream>, attribution: Attribution, readiness: Readiness) -> impl Next<Attempt> {
    // Nearest to the exchange: the span covers what is spent on the upstream and nothing else.
    let span = Over(Span, Send(Arc::clone(upstream)));
    let bounded = Over(Try(timeouts), span);
    // Over the timeouts: a server that says nothing has failed, too.
    Over(attribution, Over(readiness, bounded))
}

/// What comes before there is a place: to wait for one is neither the provider's time nor its fault.
fn edited(compat: Compat, media: Media, limited: impl Next<Attempt>) -> Service<Attempt> {
    // Over the place: what a caller's server takes its time for keeps nobody else out.
    let media = Over(media, limited);
    // Under the defaults, which are meant on the same scale as what callers say.
    let compat = Over(compat, media);
    // Before anything reads the request: from here on it is what the upstream gets.
    let defaults = Over(Defaults, compat);
    erase(defaults)
}
