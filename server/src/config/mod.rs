//! What a person wrote, lowered once to total types: nothing here is re-checked later.

mod bind;
mod check;
mod diagnostic;
#[cfg(test)]
mod docs;
#[cfg(test)]
pub(crate) mod fixture;
mod grant;
#[cfg(test)]
mod hostile;
mod later;
mod load;
pub(crate) mod lower;
mod media;
mod merge;
mod model;
mod model_uri;
mod place;
mod raw;
mod reading;
mod relative_path;
mod routing;
mod schema;
mod secrets;
pub(crate) mod suggest;
#[cfg(test)]
mod tests;
mod tracking;
mod tree;
mod units;
mod watch;

use std::{
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use flowgate_proto::v1::Capability;
use http::{HeaderMap, Uri};
use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::{
    dialect::{Credential, Settings, Unsupported, templated::Templates},
    event::Task,
    expression::Expression,
    provider::{Provider, models::Prices},
};

pub use self::{
    diagnostic::{Diagnostic, Diagnostics, FilePlace},
    grant::{AwsGrant, AwsKeys, AwsRole, AwsSource, ClientCredentials, GoogleCredentials, Grant, Proof, Secret},
    load::{LoadOptions, Loaded, Source, Unset, load, parse, schema, served},
    media::Media,
    model::{Found, Model, Models, PythonEnv, Resources, Runtime, Serve, Variables},
    model_uri::{BadModelUri, Location, ModelUri, Pick, Stage},
    relative_path::{BadPath, RelativePath},
    routing::{
        Affinity, Batch, Breaker, Concurrency, ConcurrencyLimit, Ejection, Health, HealthCheck, Hedge, HedgeAfter, Mirror, Prefer, Require,
        Retry, Rollout, Routing, Step, Tags,
    },
    secrets::{Environment, Process, SecretsMode},
    tracking::{NO_SERVER, NamedServer, NamedServers, ServerAddress, ServerKey, ServerRole},
    watch::Watch,
};

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `listen`: the data plane's address. Default `127.0.0.1:5000`.
    pub listen: SocketAddr,
    /// `admin.listen`: the admin listener's address. Default `127.0.0.1:5001`.
    pub admin: SocketAddr,
    /// `tls`: serve TLS on the data plane.
    pub tls: Option<Tls>,
    /// `trusted_proxies`: whose `X-Forwarded-For` and `Forwarded` name the client.
    pub trusted_proxies: Vec<Network>,
    /// `cors.allow_origins`: origins that browsers may call from; `*` for any. Default: none.
    pub cors_origins: Vec<String>,
    /// `identity.keys`. Empty: the door is open.
    pub keys: Vec<Key>,
    /// `max_request_bytes`: the largest request on every door, decompressed. Default 32 MiB.
    pub max_request_bytes: usize,
    /// `shutdown_delay`: how long calls and connections are still taken after SIGTERM, while readiness says no. Default: not at all.
    pub shutdown_delay: Duration,
    /// `shutdown_grace`: how long calls may finish after that. Default 30 s.
    pub shutdown_grace: Duration,
    /// `max_connection_age`: when a client's connection is asked to be made anew, ±10 %. Default 10 min.
    pub max_connection_age: Duration,
    /// `max_in_flight`: how many calls may be under way at once before new ones are refused. Default 10,000.
    pub max_in_flight: u32,
    /// `admin.key`: what opens the admin services. `None`: they are open, but only on loopback.
    pub admin_key: Option<SecretString>,
    /// `telemetry.log`: the form of log lines.
    pub log: LogFormat,
    /// `mlflow`: what holds for all models that Flowgate runs.
    pub models: Models,
    /// `default_endpoint`: the endpoint behind `POST /invocations`; else the only predict endpoint.
    pub default_endpoint: Option<String>,
    /// The endpoints, in the order of the file, splits (`routes:` with `destinations:`) included.
    pub endpoints: Vec<Endpoint>,
}

/// `tls`. Files are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Whose client certificates are asked for and accepted, PEM. `None`: no client certificates.
    pub client_ca: Option<PathBuf>,
}

/// A network in CIDR form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The address.
    pub address: std::net::IpAddr,
    /// How many leading bits count.
    pub prefix: u8,
}

/// One entry of `identity.keys`.
#[derive(Clone, Debug)]
pub struct Key {
    /// Who calls with it.
    pub name: String,
    /// The key.
    pub secret: SecretString,
    /// `may_choose_deployment`: whether `x-flowgate-deployment` is obeyed. Default no.
    pub may_choose_deployment: bool,
    /// `may_load_models`: whether it may load and unload models that Flowgate runs. Default no.
    pub may_load_models: bool,
    /// `require`: the tags that a deployment must have to serve its calls.
    pub require: Tags,
}

/// `telemetry.log`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people. The default.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// One endpoint.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// What clients call.
    pub name: String,
    /// What it does.
    pub task: Task,
    /// `path`: an extra HTTP path.
    pub path: Option<String>,
    /// `description`.
    pub description: String,
    /// `tags`, sorted.
    pub tags: Vec<(String, String)>,
    /// `limit`, for listings; not enforced yet.
    pub limit: Option<Limit>,
    /// `timeouts`.
    pub timeouts: Timeouts,
    /// `unsupported`.
    pub unsupported: Unsupported,
    /// `media`. `None`: nothing is fetched.
    pub media: Option<Media>,
    /// `compat`. `None`: nobody's quirks are copied.
    pub compat: Option<Compat>,
    /// Whether it came from a traffic split, which MLflow's listings leave out.
    pub is_split: bool,
    /// Where a call goes, and how it survives.
    pub routing: Routing,
    /// The deployments, in the order of the file. At least one, but for a chain.
    pub deployments: Vec<Deployment>,
}

/// `compat`: whose quirks are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compat {
    /// Those of MLflow's gateway.
    Mlflow,
}

/// `limit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Calls per period.
    pub calls: u64,
    /// The period as written, for example `minute`.
    pub renewal_period: String,
}

/// `timeouts`. `None`: no such limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To open an upstream connection. Default 2 s.
    pub connect: Duration,
    /// One unary try. Default 60 s for predictions, none for LLMs.
    pub attempt: Option<Duration>,
    /// Until a stream's first event. Default 120 s.
    pub first_event: Option<Duration>,
    /// Between a stream's events. Default 60 s.
    pub idle: Option<Duration>,
    /// The whole unary call. Default 600 s.
    pub total_unary: Option<Duration>,
    /// The whole streamed call. Default none.
    pub total_stream: Option<Duration>,
}

/// One place to send: provider, model, credential.
#[derive(Clone)]
pub struct Deployment {
    /// `alias`; the model's name or the position when none is given. Unique within the endpoint.
    pub alias: String,
    /// `weight`. `None`: no weights were given.
    pub weight: Option<u32>,
    /// `when`.
    pub condition: Option<Expression>,
    /// The provider's row.
    pub provider: &'static Provider,
    /// `model.name`; empty when none is given.
    pub model: String,
    /// Where it is.
    pub place: Place,
    /// `model.parameters`: defaults for what the caller leaves unset.
    pub parameters: Map<String, Value>,
    /// The credentials, from `config` or `upstream.auth`; each call takes one of them. None where none is needed.
    pub credentials: Vec<Access>,
    /// Headers of the provider and of `upstream.headers`.
    pub headers: HeaderMap,
    /// What stands in these headers and came from an environment variable or a file: no text of an upstream may repeat it.
    pub hidden: Vec<SecretString>,
    /// What the dialect reads of `config`.
    pub settings: Settings,
    /// What the dialect makes of requests and answers, as `config` says.
    pub templates: Templates,
    /// `upstream.proxy`: an HTTP proxy, `http://[user:password@]host:port`.
    pub proxy: Option<Uri>,
    /// `upstream.ca`: PEM file of certificate authorities to trust beside the system's.
    pub ca: Option<PathBuf>,
    /// What it is and what it can bear.
    pub traits: Traits,
}

/// How a deployment comes to a credential.
#[derive(Clone, Debug)]
pub enum Access {
    /// It stands in the file.
    Held(Credential),
    /// It is got, and got anew before it expires.
    Granted(Grant),
}

/// What a deployment is and what it can bear.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traits {
    /// `tags`, for example its region.
    pub tags: Tags,
    /// `price`, else what is known of the model's. `None`: unknown.
    pub price: Option<Arc<Prices>>,
    /// `context_window`, in tokens, else what is known of the model's. `None`: unknown.
    pub context_window: Option<u32>,
    /// `capabilities`, else what is known of the model's, where they are not the provider's.
    pub capabilities: Option<Vec<Capability>>,
    /// `breaker`.
    pub breaker: Breaker,
    /// `concurrency`. `None`: no limit.
    pub concurrency: Option<Concurrency>,
    /// `batch`. `None`: each request is sent as it is.
    pub batch: Option<Batch>,
    /// `upstream.health`. `None`: replicas are not asked.
    pub health: Option<Health>,
    /// `upstream.ejection`.
    pub ejection: Ejection,
}

/// Where a deployment is.
#[derive(Clone, Debug)]
pub enum Place {
    /// At these base addresses, all alike. At least one.
    Http(Vec<Uri>),
    /// Where Flowgate runs it.
    Model(Box<Model>),
    /// In this process, made up.
    Mock(Mock),
    /// Nowhere yet, and why; the endpoint is not serving.
    Nowhere(String),
}

/// `config` of `provider: mock`: a deterministic model for development.
#[derive(Clone, Debug, PartialEq)]
pub struct Mock {
    /// `text`: what it answers. Unset: an echo of the last user message or prompt.
    pub text: Option<String>,
    /// `tokens`: how many words a generated answer has; the text is repeated or cut to it. Unset: the text's own length.
    pub tokens: Option<u32>,
    /// `first_delay`: before the answer, or its first event. Default 0.
    pub first_delay: Duration,
    /// `delay`: between the events of a stream. Default 0.
    pub delay: Duration,
    /// `predictions`: what a predict endpoint answers. Unset: one number per row, a hash of the row.
    pub predictions: Option<Value>,
    /// `dimensions`: the length of embedding vectors. Default 8.
    pub dimensions: u32,
    /// `failure`: how it fails. Unset: it does not.
    pub failure: Option<MockFailure>,
}

/// `config.failure` of `provider: mock`.
#[derive(Clone, Debug, PartialEq)]
pub struct MockFailure {
    /// `every`: each n-th call fails. Default 1: every call.
    pub every: u64,
    /// `status`: the HTTP status of the failure. Unset: the answer starts and fails by `mode`.
    pub status: Option<u16>,
    /// `mode`: how a streamed answer fails after its first events.
    pub mode: MockFailureMode,
}

/// How a mock's stream fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MockFailureMode {
    /// By the status alone.
    #[default]
    Status,
    /// The connection is cut.
    Cut,
    /// An error event.
    ErrorEvent,
    /// It ends without the end mark.
    NoEnd,
    /// It never says anything.
    Silent,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 5000)),
            admin: SocketAddr::from(([127, 0, 0, 1], 5001)),
            tls: None,
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            keys: Vec::new(),
            max_request_bytes: 32 << 20,
            shutdown_delay: Duration::ZERO,
            shutdown_grace: Duration::from_secs(30),
            max_connection_age: Duration::from_secs(600),
            max_in_flight: 10_000,
            admin_key: None,
            log: LogFormat::Text,
            models: Models::default(),
            default_endpoint: None,
            endpoints: Vec::new(),
        }
    }
}

impl Key {
    /// A key that may do what any caller may.
    pub fn new(name: String, secret: SecretString) -> Self {
        Self { name, secret, may_choose_deployment: false, may_load_models: false, require: Tags::new() }
    }
}

impl Access {
    /// What tells it from others.
    pub fn fingerprint(&self) -> [u8; 32] {
        match self {
            Self::Held(credential) => credential.fingerprint(),
            Self::Granted(grant) => {
                let mut hasher = DefaultHasher::new();
                grant.hash(&mut hasher);
                *blake3::hash(&hasher.finish().to_le_bytes()).as_bytes()
            }
        }
    }
}

impl Traits {
    /// Whether it has all tags that are required: of each key one of the values.
    pub fn has_tags(&self, required: &Tags) -> bool {
        let has = |key: &String, allowed: &[String]| {
            self.tags.iter().any(|(own, values)| own == key && values.iter().any(|value| allowed.contains(value)))
        };
        required.iter().all(|(key, allowed)| has(key, allowed))
    }
}

impl fmt::Debug for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deployment")
            .field("alias", &self.alias)
            .field("weight", &self.weight)
            .field("condition", &self.condition)
            .field("provider", &self.provider.name)
            .field("model", &self.model)
            .field("place", &self.place)
            .field("parameters", &self.parameters)
            .field("credentials", &self.credentials)
            .field("headers", &self.headers)
            .field("settings", &self.settings)
            .field("templates", &self.templates)
            // Its address may hold a password.
            .field("proxy", &self.proxy.as_ref().map(Uri::host))
            .field("ca", &self.ca)
            .field("traits", &self.traits)
            .finish()
    }
}

impl Timeouts {
    /// The defaults of a task.
    pub fn defaults(task: Task) -> Self {
        Self {
            connect: Duration::from_secs(2),
            attempt: (task == Task::Predict).then_some(Duration::from_secs(60)),
            first_event: Some(Duration::from_secs(120)),
            idle: Some(Duration::from_secs(60)),
            total_unary: Some(Duration::from_secs(600)),
            total_stream: None,
        }
    }
}

impl Default for Mock {
    fn default() -> Self {
        Self {
            text: None,
            tokens: None,
            first_delay: Duration::ZERO,
            delay: Duration::ZERO,
            predictions: None,
            dimensions: 8,
            failure: None,
        }
    }
}

impl Network {
    /// Whether an address lies in the network; an IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: std::net::IpAddr) -> bool {
        use std::net::IpAddr::{V4, V6};
        match (self.address, address.to_canonical()) {
            (V4(network), V4(address)) => {
                let drop = 32 - u32::from(self.prefix.min(32));
                u32::from(network).checked_shr(drop) == u32::from(address).checked_shr(drop)
            }
            (V6(network), V6(address)) => {
                let drop = 128 - u32::from(self.prefix.min(128));
                u128::from(network).checked_shr(drop) == u128::from(address).checked_shr(drop)
            }
            (V4(_), V6(_)) | (V6(_), V4(_)) => false,
        }
    }
}
