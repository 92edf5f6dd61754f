//! The immutable snapshot of what can be called: endpoint, its deployments, where each of them is.

use std::{collections::HashMap, sync::Arc};

use flowgate_proto::v1::{self, ErrorReason};
use serde_json::{Map, Value};

use crate::{
    config::{self, Config, Place, suggest::nearest},
    dialect::{Dialect, Settings, Target, mlflow, scoring::message},
    error::{Error, Result},
    event::{Protocol, Tariff, Task},
    provider::models,
};

/// A longer name is not compared with those there are, and none is with more: a wrong name must cost little.
const MOST_LETTERS: usize = 64;
const MOST_NAMES: usize = 200;
/// From endpoint to endpoint; a configuration has no longer way.
const MOST_HOPS: usize = 4;

/// Everything that clients can call, by name and by path.
#[derive(Debug, Default)]
pub struct Catalog {
    by_name: HashMap<Arc<str>, Arc<Endpoint>>,
    by_path: HashMap<String, Arc<Endpoint>>,
    /// Sorted by name.
    all: Vec<Arc<Endpoint>>,
    default: Option<Arc<Endpoint>>,
    /// The registry has not yet said which endpoints there are beside these.
    is_partial: bool,
}

/// One endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// What clients call.
    pub name: Arc<str>,
    /// What its deployments do.
    pub task: Task,
    /// As the operator wrote it.
    pub config: config::Endpoint,
    /// Where calls may go. None for a chain.
    pub deployments: Vec<Arc<Deployment>>,
    /// The endpoints of a chain's steps, in order; none for what is no chain.
    pub steps: Vec<Arc<Self>>,
    /// Whether a condition, an affinity or a chain asks about the request itself, here or where calls are sent on to.
    pub asks: bool,
}

/// One place to send calls to.
#[derive(Debug)]
pub struct Deployment {
    /// The alias; unique within the endpoint.
    pub alias: Arc<str>,
    /// The provider's name.
    pub provider: &'static str,
    /// What it is asked for: the endpoint's task, or the other of chat and completion where its provider has only that one.
    pub task: Task,
    /// What it speaks; `None` when it cannot be called.
    pub dialect: Option<&'static dyn Dialect>,
    /// Its replicas; empty when it cannot be called.
    pub targets: Vec<Target>,
    /// Defaults for what callers leave unset.
    pub parameters: Map<String, Value>,
    /// What its answers cost.
    pub tariff: Tariff,
    /// As the operator wrote it.
    pub config: config::Deployment,
}

impl Catalog {
    /// The snapshot of a configuration.
    pub fn new(config: &Config) -> Self {
        let mut made = HashMap::new();
        let mut all: Vec<_> =
            config.endpoints.iter().map(|endpoint| made_once(endpoint, &config.endpoints, &mut made, MOST_HOPS)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let by_name: HashMap<_, _> = all.iter().map(|endpoint| (Arc::clone(&endpoint.name), Arc::clone(endpoint))).collect();
        let by_path = all.iter().filter_map(|endpoint| Some((endpoint.config.path.clone()?, Arc::clone(endpoint)))).collect();
        let mut predict = all.iter().filter(|endpoint| endpoint.task == Task::Predict);
        let default = match &config.default_endpoint {
            Some(name) => by_name.get(name.as_str()).cloned(),
            None => predict.next().filter(|_| predict.next().is_none()).cloned(),
        };
        Self { by_name, by_path, all, default, is_partial: false }
    }

    /// The same, to which the registry may add when it says which models there are.
    #[must_use]
    pub fn partial(self, is_partial: bool) -> Self {
        Self { is_partial, ..self }
    }

    /// Whether the registry may add endpoints that it has not named yet.
    pub fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// The endpoint of a name.
    ///
    /// # Errors
    /// `CALLER_ENDPOINT_NOT_FOUND`; `GATEWAY_NOT_SERVING` while it may be one that the registry has yet to name.
    pub fn endpoint(&self, name: &str) -> Result<&Arc<Endpoint>> {
        if name.is_empty() {
            return Err(Error::invalid("endpoint", "is missing; name the endpoint to call"));
        }
        self.by_name.get(name).ok_or_else(|| self.unknown(name))
    }

    /// Names an endpoint, as listings do: whoever is let in to call may list too. Where one day a principal may not, this must know it.
    fn unknown(&self, name: &str) -> Error {
        if self.is_partial {
            let message = "no endpoint has this name so far: the registry has not yet said which models there are; try again later";
            return Error::new(ErrorReason::GatewayNotServing, message);
        }
        let names: Vec<&str> = self.all.iter().map(|endpoint| &*endpoint.name).collect();
        let few = name.len() <= MOST_LETTERS && names.len() <= MOST_NAMES;
        let near = if few { nearest(name, &names) } else { None };
        let near = near.map(|near| format!("{near} ")).unwrap_or_default();
        let message = format!("no endpoint has this name; {near}list those there are with `GET /v1/endpoints`");
        Error::new(ErrorReason::CallerEndpointNotFound, message)
    }

    /// The endpoint that has this extra path.
    ///
    /// # Errors
    /// `CALLER_UNKNOWN_PATH`.
    pub fn at_path(&self, path: &str) -> Result<&Arc<Endpoint>> {
        self.by_path.get(path).ok_or_else(|| Error::new(ErrorReason::CallerUnknownPath, "no endpoint has this path"))
    }

    /// The endpoint behind `POST /invocations`.
    ///
    /// # Errors
    /// `CALLER_ENDPOINT_NOT_FOUND` when none is named and there is not exactly one predict endpoint.
    pub fn default_endpoint(&self) -> Result<&Arc<Endpoint>> {
        self.default.as_ref().ok_or_else(|| {
            Error::new(
                ErrorReason::CallerEndpointNotFound,
                "this path needs a single predict endpoint, or `default_endpoint` in the configuration; \
                 call `/endpoints/NAME/invocations` instead",
            )
        })
    }

    /// The endpoint whose deployments give the answers of this one: itself, or the last step of a chain. `None` where steps lead nowhere.
    pub fn answering<'a>(&'a self, endpoint: &'a Endpoint) -> Option<&'a Endpoint> {
        let next = |endpoint: &&'a Endpoint| self.by_name.get(endpoint.config.routing.steps.last()?.endpoint.as_str()).map(|next| &**next);
        // As many as there are endpoints: a configuration has no circles.
        std::iter::successors(Some(endpoint), next).take(self.all.len()).find(|endpoint| !endpoint.is_chain())
    }

    /// The endpoints that cannot be called, and why.
    pub fn not_serving(&self) -> impl Iterator<Item = (&str, String)> {
        self.all.iter().filter_map(|endpoint| Some((&*endpoint.name, endpoint.not_serving()?)))
    }

    /// All endpoints, sorted by name.
    pub fn all(&self) -> &[Arc<Endpoint>] {
        &self.all
    }
}

impl Endpoint {
    fn new(config: &config::Endpoint, steps: Vec<Arc<Self>>, asks: bool) -> Self {
        let deployments = config.deployments.iter().map(|deployment| Arc::new(Deployment::new(deployment, config.task))).collect();
        Self { name: config.name.as_str().into(), task: config.task, config: config.clone(), deployments, steps, asks }
    }

    /// Whether it has no deployments, but steps at other endpoints.
    pub fn is_chain(&self) -> bool {
        !self.config.routing.steps.is_empty()
    }

    /// Why no deployment can be called, or not every step of a chain; `None` when it serves.
    pub fn not_serving(&self) -> Option<String> {
        self.out_of_service(&|_| None)
    }

    /// As [`Endpoint::not_serving`], also where `fault` says of each deployment that could be called why it answers no call for now.
    pub fn out_of_service(&self, fault: &dyn Fn(&Deployment) -> Option<String>) -> Option<String> {
        if self.is_chain() {
            let reason = |(name, step): (&str, &Self)| Some(format!("step {name}: {}", step.out_of_service(fault)?));
            let reasons: Vec<_> = self.named_steps().filter_map(reason).collect();
            return Some(reasons.join("; ")).filter(|reasons| !reasons.is_empty());
        }
        let why = |deployment: &Arc<Deployment>| if deployment.dialect.is_some() { fault(deployment) } else { Some(deployment.why_not()) };
        let reasons = self.deployments.iter().map(why).collect::<Option<Vec<_>>>()?;
        if let [only] = reasons.as_slice() {
            return Some(only.clone());
        }
        let reasons: Vec<_> =
            self.deployments.iter().zip(reasons).map(|(deployment, why)| format!("{}: {why}", deployment.alias)).collect();
        Some(reasons.join("; "))
    }

    /// Why calls that are sent here can never be served; `None` when they may be, if only by a fallback.
    pub fn unreachable(&self) -> Option<String> {
        if !self.config.routing.fallback.is_empty() {
            return None;
        }
        if self.is_chain() {
            return self.named_steps().find_map(|(name, step)| Some(format!("step {name}: {}", step.unreachable()?)));
        }
        self.not_serving()
    }

    /// The names of a chain's steps and their endpoints.
    fn named_steps(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.config.routing.steps.iter().map(|step| step.name.as_str()).zip(self.steps.iter().map(|step| &**step))
    }

    /// What answers its calls; for a chain that of each step, in order, each named by the step, too.
    fn models(&self) -> Vec<v1::Model> {
        let model = |(deployment, share): (&Arc<Deployment>, Option<f64>)| v1::Model {
            deployment: deployment.alias.to_string(),
            provider: deployment.provider.to_owned(),
            name: deployment.config.model.clone(),
            share,
            ..Default::default()
        };
        let of_step = |(name, step): (&str, &Self)| {
            let models = step.models().into_iter();
            models.map(|model| v1::Model { deployment: format!("{name}.{}", model.deployment), ..model }).collect::<Vec<_>>()
        };
        self.deployments.iter().zip(shares(&self.weights())).map(model).chain(self.named_steps().flat_map(of_step)).collect()
    }

    /// The endpoint as clients see it.
    pub fn describe(&self) -> v1::Endpoint {
        let state_reason = self.not_serving();
        let state = if state_reason.is_none() { v1::EndpointState::Serving } else { v1::EndpointState::NotServing };
        let task = match self.task {
            Task::Chat => v1::Task::Chat,
            Task::Complete => v1::Task::Completion,
            Task::Embed => v1::Task::Embedding,
            Task::Predict => v1::Task::Prediction,
        };
        v1::Endpoint {
            name: self.name.to_string(),
            task: task.into(),
            description: self.config.description.clone(),
            tags: self.config.tags.iter().cloned().collect(),
            state: state.into(),
            state_reason: state_reason.unwrap_or_default(),
            models: self.models(),
            capabilities: self.capabilities().into_iter().map(Into::into).collect(),
            signature: None,
            rollout: None,
        }
    }

    /// What each deployment weighs in the split; `None` where a condition or a signal decides.
    fn weights(&self) -> Vec<Option<f64>> {
        let has_weights = self.deployments.iter().any(|deployment| deployment.config.weight.is_some());
        let mut is_first = true;
        let weight = |deployment: &Arc<Deployment>| {
            if deployment.config.condition.is_some() || self.config.routing.prefer.is_some() {
                None
            } else if deployment.dialect.is_none() {
                Some(0.0)
            } else if has_weights {
                Some(f64::from(deployment.config.weight.unwrap_or(0)))
            } else {
                Some(if std::mem::take(&mut is_first) { 1.0 } else { 0.0 })
            }
        };
        self.deployments.iter().map(weight).collect()
    }

    /// What every deployment of the endpoint can do; for a chain what is left of that at its last step, which gets texts only.
    fn capabilities(&self) -> Vec<v1::Capability> {
        if let Some(last) = self.steps.last() {
            let of_input = [v1::Capability::ImageInput, v1::Capability::AudioInput];
            return last.capabilities().into_iter().filter(|capability| !of_input.contains(capability)).collect();
        }
        let Some((first, rest)) = self.deployments.split_first().filter(|_| self.task == Task::Chat || self.task == Task::Complete) else {
            return Vec::new();
        };
        let all = first.capabilities().iter().copied();
        let chat_only = |capability: &v1::Capability| *capability == v1::Capability::Stream || self.task == Task::Chat;
        all.filter(chat_only).filter(|capability| rest.iter().all(|deployment| deployment.capabilities().contains(capability))).collect()
    }
}

/// The endpoint of a name, with those of its steps, each made once.
fn made_once<'a>(
    config: &'a config::Endpoint,
    all: &'a [config::Endpoint],
    made: &mut HashMap<&'a str, Arc<Endpoint>>,
    hops: usize,
) -> Arc<Endpoint> {
    if let Some(known) = made.get(config.name.as_str()) {
        return Arc::clone(known);
    }
    let of_step = |step: &config::Step| all.iter().find(|next| next.name == step.endpoint).filter(|_| hops > 0);
    let steps = config.routing.steps.iter().filter_map(of_step).map(|next| made_once(next, all, made, hops - 1)).collect();
    let endpoint = Arc::new(Endpoint::new(config, steps, asks(config, all, MOST_HOPS)));
    made.insert(config.name.as_str(), Arc::clone(&endpoint));
    endpoint
}

/// Weights as shares of their sum.
pub fn shares(weights: &[Option<f64>]) -> Vec<Option<f64>> {
    let sum: f64 = weights.iter().flatten().sum();
    weights.iter().map(|weight| weight.map(|weight| if sum > 0.0 { weight / sum } else { 0.0 })).collect()
}

/// Whether an endpoint's own keys, or those of endpoints that it sends calls on to, ask about the request.
fn asks(endpoint: &config::Endpoint, all: &[config::Endpoint], hops: usize) -> bool {
    let routing = &endpoint.routing;
    let own = endpoint.deployments.iter().any(|deployment| deployment.condition.is_some())
        || routing.affinity.as_ref().is_some_and(|affinity| *affinity != config::Affinity::Principal)
        || routing.require.iter().any(|require| require.when.is_some())
        || !routing.steps.is_empty();
    let mut names = routing.fallback.iter().chain(routing.mirrors.iter().map(|mirror| &mirror.endpoint));
    own || (hops > 0 && names.any(|name| all.iter().any(|next| next.name == *name && asks(next, all, hops - 1))))
}

impl Deployment {
    /// How requests to it are put together: in MLflow's scoring protocol, which tells one row from another.
    pub fn batch(&self) -> Option<config::Batch> {
        let protocol = self.dialect?.protocol_at(self.task, self.targets.first()?);
        self.config.traits.batch.filter(|_| protocol == Some(Protocol::MlflowScoring))
    }

    fn new(config: &config::Deployment, task: Task) -> Self {
        let addresses = match &config.place {
            Place::Http(addresses) => addresses.clone(),
            Place::Mock(_) => vec![http::Uri::from_static("http://mock.invalid/v1")],
            Place::Model(_) => vec![http::Uri::from_static("http://model.invalid")],
            Place::Nowhere(_) => Vec::new(),
        };
        let target = |address: http::Uri| Target {
            provider: config.provider.name,
            base: address,
            model: model_name(config),
            headers: config.headers.clone(),
            settings: settings(config),
            templates: config.templates.clone(),
            quirks: if matches!(config.place, Place::Model(_)) { &mlflow::OWN } else { &config.provider.quirks },
        };
        let twin = match task {
            Task::Chat => Task::Complete,
            Task::Complete => Task::Chat,
            Task::Embed | Task::Predict => task,
        };
        let spoken = [task, twin].into_iter().find_map(|task| Some((task, config.provider.dialect(task)?)));
        Self {
            alias: config.alias.as_str().into(),
            provider: config.provider.name,
            task: spoken.map_or(task, |(task, _)| task),
            dialect: spoken.map(|(_, dialect)| dialect).filter(|_| !addresses.is_empty()),
            targets: addresses.into_iter().map(target).collect(),
            parameters: config.parameters.clone(),
            tariff: tariff(config),
            config: config.clone(),
        }
    }

    /// What it can do beyond its task.
    pub fn capabilities(&self) -> &[v1::Capability] {
        self.config.traits.capabilities.as_deref().unwrap_or(self.config.provider.capabilities)
    }

    fn why_not(&self) -> String {
        match &self.config.place {
            Place::Nowhere(reason) => reason.clone(),
            Place::Http(_) | Place::Model(_) | Place::Mock(_) => format!("this build cannot serve the task by provider {}", self.provider),
        }
    }
}

/// What the operator set. Requests that are put together are JSON, and so is then each of them, lest answers differ by what else comes.
fn settings(config: &config::Deployment) -> Settings {
    let mut settings = config.settings.clone();
    if config.traits.batch.is_some() {
        settings.0.push((message::TAKEN, message::IN_JSON.to_owned()));
    }
    settings
}

/// The model as its provider knows it.
fn model_name(config: &config::Deployment) -> String {
    let prefix = config.provider.quirks.model_prefix;
    if prefix.is_empty() || config.model.is_empty() || config.model.contains('/') {
        return config.model.clone();
    }
    format!("{prefix}{}", config.model)
}

fn tariff(config: &config::Deployment) -> Tariff {
    let price = config.traits.price.clone();
    Tariff::new(move |usage| models::cost(usage, price.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LoadOptions, Process, Source, parse};

    fn catalog(names: impl IntoIterator<Item = String>) -> Catalog {
        let endpoint = |name: String| format!("  - {{ name: {name}, endpoint_type: llm/v1/chat, model: {{ provider: mock }} }}\n");
        let text = format!("endpoints:\n{}", names.into_iter().map(endpoint).collect::<String>());
        Catalog::new(&parse(&[Source { name: "x".to_owned(), text }], &Process, LoadOptions::default()).unwrap().config)
    }

    #[test]
    fn the_nearest_name_is_suggested_and_a_far_one_not() {
        let catalog = catalog(["chat", "iris-champion", "writer"].map(str::to_owned));
        assert!(catalog.endpoint("chat").is_ok());
        let told = |name: &str| catalog.endpoint(name).unwrap_err().to_string();
        assert_eq!(told("chta"), "no endpoint has this name; did you mean `chat`? list those there are with `GET /v1/endpoints`");
        assert!(told("iris_champoin").contains("did you mean `iris-champion`?"));
        for far in ["gpt-4o", "x", &"chat".repeat(1000)] {
            assert_eq!(told(far), "no endpoint has this name; list those there are with `GET /v1/endpoints`", "{far}");
        }
    }

    #[test]
    fn a_name_that_the_registry_may_still_say_is_not_the_callers_fault() {
        let whole = catalog(["chat".to_owned()]).partial(true);
        assert!(whole.endpoint("chat").is_ok());
        let error = whole.endpoint("iris").unwrap_err();
        assert_eq!(error.reason(), ErrorReason::GatewayNotServing);
        assert!(error.to_string().contains("the registry has not yet said which models there are"), "{error}");
        assert_eq!(whole.partial(false).endpoint("iris").unwrap_err().reason(), ErrorReason::CallerEndpointNotFound);
    }

    /// Endpoints of the mock, the last of which is made of the others.
    fn chained(names: &[&str]) -> Vec<config::Endpoint> {
        use crate::policy::testing::{deployment, endpoint};
        let step = |name: &&str| config::Step { name: format!("s-{name}"), endpoint: (*name).to_owned(), input: None };
        let mut chain = endpoint("all", Vec::new());
        chain.routing.steps = names.iter().map(step).collect();
        let mut all = vec![chain];
        all.extend(names.iter().map(|name| endpoint(name, vec![deployment("d")])));
        all
    }

    #[test]
    fn a_chain_tells_of_its_steps() {
        let endpoints = chained(&["a", "b"]);
        let catalog = Catalog::new(&Config { endpoints, ..Default::default() });
        let chain = catalog.endpoint("all").unwrap();
        assert!(Arc::ptr_eq(&chain.steps[0], catalog.endpoint("a").unwrap()), "each endpoint is made once");
        let described = chain.describe();
        assert_eq!(described.state(), v1::EndpointState::Serving);
        assert_eq!(described.models.iter().map(|model| &*model.deployment).collect::<Vec<_>>(), ["s-a.d", "s-b.d"]);
        let capabilities: Vec<_> = described.capabilities().collect();
        assert!(capabilities.contains(&v1::Capability::Stream) && !capabilities.contains(&v1::Capability::ImageInput), "{capabilities:?}");
    }

    #[test]
    fn a_chain_serves_when_all_its_steps_do() {
        let mut endpoints = chained(&["a", "b"]);
        endpoints[2].deployments[0].place = Place::Nowhere("no address".to_owned());
        let catalog = Catalog::new(&Config { endpoints, ..Default::default() });
        let reasons: HashMap<_, _> = catalog.not_serving().collect();
        assert_eq!(reasons.get("all").map(String::as_str), Some("step s-b: no address"));
        assert!(!reasons.contains_key("a"));
    }

    #[test]
    fn the_last_step_of_a_chain_answers_for_it() {
        let text = "endpoints:\n  - { name: a, endpoint_type: llm/v1/chat, model: { provider: mock } }\n  \
            - { name: both, endpoint_type: llm/v1/chat, steps: [{ endpoint: a }, { name: again, endpoint: a }] }\n  \
            - { name: rows, endpoint_type: mlflow/predict, model: { provider: mock } }\n";
        let source = Source { name: "x".to_owned(), text: text.to_owned() };
        let catalog = Catalog::new(&parse(&[source], &Process, LoadOptions::default()).unwrap().config);
        let last = |name: &str| catalog.answering(catalog.endpoint(name).unwrap()).unwrap().name.to_string();
        assert_eq!((last("both"), last("rows")), ("a".to_owned(), "rows".to_owned()));
    }

    #[test]
    fn a_wrong_name_costs_little_among_many() {
        let name = |n: usize| format!("n{n}");
        let told = |count: usize| catalog((0..count).map(name)).endpoint("n1x").unwrap_err().to_string();
        assert!(told(MOST_NAMES).contains("did you mean"));
        assert!(!told(MOST_NAMES + 1).contains("did you mean"));
    }
}
