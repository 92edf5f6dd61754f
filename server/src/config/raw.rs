//! The configuration as a person writes it: the one source of keys, types, their schema and its errors. Nothing here is judged.

mod choice;
mod models;
mod older;
mod routing;
mod traits;

use schemars::JsonSchema;
use serde::Deserialize;

pub(super) use self::{
    choice::{Many, Short},
    models::{RawMlflow, RawPythonEnv, RawResources, RawRun, RawRuntime},
    older::{RawDestination, RawModelEndpoint, RawModelRoute, RawOlderModel, RawRateLimit, RawRoute, RawRouteType},
    routing::{RawAbort, RawAffinity, RawHedge, RawMirror, RawPrefer, RawRequire, RawRetry, RawRollout, RawRouting, RawStep},
    traits::{RawBatch, RawBreaker, RawConcurrency, RawEjection, RawHealth, RawPrice, RawTraits},
};
use super::{
    later::{self, Scope},
    schema,
    tree::{At, Tree},
};

/// A Flowgate configuration.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Config", deny_unknown_fields, transform = later::keys_of(Scope::Root))]
pub(super) struct RawConfig {
    /// The data plane's address: gRPC, gRPC-Web and JSON over HTTP on one port. Default `127.0.0.1:5000`.
    pub listen: Option<At<String>>,
    /// The admin listener.
    pub admin: Option<At<RawAdmin>>,
    /// Serve TLS on the data plane.
    pub tls: Option<At<RawTls>>,
    /// Networks whose `X-Forwarded-For` and `Forwarded` name the client, for example `10.0.0.0/8`.
    pub trusted_proxies: Vec<At<String>>,
    /// Calls from browsers.
    pub cors: Option<At<RawCors>>,
    /// Who may call. Absent: the door is open.
    pub identity: Option<At<RawIdentity>>,
    /// The largest request on every door, decompressed, for example `32MiB`, which is the default.
    #[schemars(schema_with = "schema::bytes")]
    pub max_request_bytes: Option<At<String>>,
    /// How long calls and connections are still taken after SIGTERM, while readiness says no. Default `0s`.
    #[schemars(schema_with = "schema::duration")]
    pub shutdown_delay: Option<At<String>>,
    /// How long calls may finish after that. Default `30s`.
    #[schemars(schema_with = "schema::duration")]
    pub shutdown_grace: Option<At<String>>,
    /// When a client's connection is asked to be made anew, ±10 %. Default `10m`.
    #[schemars(schema_with = "schema::duration")]
    pub max_connection_age: Option<At<String>>,
    /// How many calls may be under way at once before new ones are refused. Default 10,000.
    #[schemars(range(min = 1))]
    pub max_in_flight: Option<At<u32>>,
    /// Logs and traces.
    pub telemetry: Option<At<RawTelemetry>>,
    /// MLflow's servers, and what holds for all models that Flowgate runs.
    pub mlflow: Option<At<RawMlflow>>,
    /// A file of models and their prices, laid over the table that is built in.
    pub prices: Option<At<String>>,
    /// Where `{{ secrets.NAME }}` is looked up. Default: environment variables.
    pub secrets: Option<At<RawSecrets>>,
    /// The endpoint behind `POST /invocations`. Default: the only predict endpoint.
    pub default_endpoint: Option<At<String>>,
    /// The endpoints.
    pub endpoints: Vec<At<RawEndpoint>>,
    /// Traffic splits over endpoints (`destinations`), or endpoints in MLflow's older form (`route_type`).
    pub routes: Vec<At<RawRoute>>,
    /// Predict endpoints in the form of model URIs and conditions.
    pub model_endpoints: Vec<At<RawModelEndpoint>>,
}

/// The admin listener.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Admin", deny_unknown_fields)]
pub(super) struct RawAdmin {
    /// Its address. Default `127.0.0.1:5001`.
    pub listen: Option<At<String>>,
    /// What opens the admin services. Absent: they are open, but only on loopback.
    #[schemars(schema_with = "schema::secret")]
    pub key: Option<At<String>>,
}

/// TLS. The files are read again when they change.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Tls", deny_unknown_fields, extend("required" = ["cert", "key"]))]
pub(super) struct RawTls {
    /// The certificate chain, a PEM file.
    pub cert: Option<At<String>>,
    /// Its private key, a PEM file.
    pub key: Option<At<String>>,
    /// Whose client certificates are asked for and accepted, a PEM file.
    pub client_ca: Option<At<String>>,
}

/// Calls from browsers.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Cors", deny_unknown_fields)]
pub(super) struct RawCors {
    /// Origins that may call, for example `https://app.example.com`; `*` for any.
    pub allow_origins: Vec<At<String>>,
}

/// Who may call.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Identity", deny_unknown_fields)]
pub(super) struct RawIdentity {
    /// Keys that open the door.
    pub keys: Vec<At<RawKey>>,
}

/// A key that opens the door.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Key", deny_unknown_fields, extend("required" = ["name", "key"]))]
pub(super) struct RawKey {
    /// Who calls with it.
    pub name: Option<At<String>>,
    /// The key: best a placeholder such as `$APP_KEY`.
    #[schemars(schema_with = "schema::secret")]
    pub key: Option<At<String>>,
    /// Whether it may name the deployment that serves a call. Default `false`.
    pub may_choose_deployment: Option<At<bool>>,
    /// Whether it may load and unload models that Flowgate runs, by the Open Inference Protocol. Default `false`.
    pub may_load_models: Option<At<bool>>,
    /// Tags that a deployment must have to serve its calls.
    #[schemars(schema_with = "schema::labels")]
    pub require: Option<Tree>,
}

/// Logs and traces.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Telemetry", deny_unknown_fields, transform = later::keys_of(Scope::Telemetry))]
pub(super) struct RawTelemetry {
    /// The form of log lines. Default `text`.
    pub log: Option<At<RawLog>>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Log", inline)]
pub(super) enum RawLog {
    Text,
    Json,
}

/// Where `{{ secrets.NAME }}` is looked up.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Secrets", deny_unknown_fields)]
pub(super) struct RawSecrets {
    /// Environment variables, files of a folder, or a secret manager (not read yet).
    pub source: Option<At<RawSecretSource>>,
    /// What stands before the name: the begin of a variable's name, or the folder.
    pub prefix: Option<At<String>>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "SecretSource", inline)]
pub(super) enum RawSecretSource {
    Env,
    File,
    Aws,
    Vault,
}

/// What clients call.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Endpoint", deny_unknown_fields, transform = later::keys_of(Scope::Endpoint), extend("required" = ["name", "endpoint_type"]))]
pub(super) struct RawEndpoint {
    /// Its name: letters, digits, `.`, `_` and `-`.
    pub name: Option<At<String>>,
    /// What it does.
    pub endpoint_type: Option<At<RawTask>>,
    /// An extra HTTP path, for example `/llm/openai/chat`.
    pub path: Option<At<String>>,
    /// What it is for, shown in listings.
    pub description: Option<At<String>>,
    /// Words for listings and for choice.
    #[schemars(schema_with = "schema::texts")]
    pub tags: Option<Tree>,
    /// The only deployment, in short form.
    pub model: Option<At<RawModel>>,
    /// The deployments, of which one is chosen per call.
    pub deployments: Option<Vec<At<RawDeployment>>>,
    /// How long things may take.
    pub timeouts: Option<At<RawTimeouts>>,
    /// What to do with a parameter that the chosen provider does not have. Default `refuse`.
    pub unsupported: Option<At<RawUnsupported>>,
    /// Whose quirks are copied: of MLflow's gateway the scale of temperatures, `n`, and what it leaves of tools' schemas.
    pub compat: Option<At<RawCompat>>,
    /// Whether the gateway fetches media for providers that do not.
    pub media: Option<At<RawMedia>>,
    /// How its deployments are reached.
    pub upstream: Option<At<RawUpstream>>,
    /// How often it may be called.
    pub limit: Option<At<RawLimit>>,
    /// Where a call goes, and how it survives.
    #[serde(rename = "&routing")]
    #[schemars(flatten)]
    pub routing: RawRouting,
    /// What its only deployment is, and what each of them can bear.
    #[serde(rename = "&traits")]
    #[schemars(flatten)]
    pub traits: RawTraits,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[schemars(rename = "Task", inline)]
pub(super) enum RawTask {
    #[serde(rename = "llm/v1/chat")]
    Chat,
    #[serde(rename = "llm/v1/completions")]
    Complete,
    #[serde(rename = "llm/v1/embeddings")]
    Embed,
    #[serde(rename = "mlflow/predict")]
    Predict,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Unsupported", inline)]
pub(super) enum RawUnsupported {
    Refuse,
    Drop,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Compat", inline)]
pub(super) enum RawCompat {
    Mlflow,
}

/// What the gateway fetches for callers.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Media", deny_unknown_fields, extend("required" = ["fetch"]))]
pub(super) struct RawMedia {
    /// Whether it fetches http(s) addresses that media of a chat request name, where the provider does not.
    pub fetch: Option<At<bool>>,
    /// The most bytes of one request's media together. Default `20MiB`.
    #[schemars(schema_with = "schema::bytes")]
    pub max_bytes: Option<At<String>>,
    /// How long one request's media may take together. Default `10s`.
    #[schemars(schema_with = "schema::duration")]
    pub timeout: Option<At<String>>,
    /// Media types that are taken, for example `image/png`, or `image/*`.
    pub types: Option<Vec<At<String>>>,
}

/// One place to send calls.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Deployment", deny_unknown_fields, extend("required" = ["model"]))]
pub(super) struct RawDeployment {
    /// Its name within the endpoint. Default: the model's name, or the position.
    pub alias: Option<At<String>>,
    /// Its share of the calls, in proportion to the other weights; 0 for none.
    pub weight: Option<At<u32>>,
    /// The condition under which it serves, for example `request.headers['x-team'] == 'ml'`.
    pub when: Option<At<String>>,
    /// The model.
    pub model: Option<At<RawModel>>,
    /// How it is reached; what is set here wins over the endpoint's.
    pub upstream: Option<At<RawUpstream>>,
    /// Tags for `require`, for example its region.
    #[schemars(schema_with = "schema::labels")]
    pub tags: Option<Tree>,
    /// What it is and what it can bear.
    #[serde(rename = "&traits")]
    #[schemars(flatten)]
    pub traits: RawTraits,
}

/// A model of a provider.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Model", deny_unknown_fields, extend("required" = ["provider"]))]
pub(super) struct RawModel {
    /// Who serves it; the examples are all there are, each with other spellings.
    #[schemars(schema_with = "schema::provider")]
    pub provider: Option<At<String>>,
    /// The provider's name for it.
    pub name: Option<At<String>>,
    /// The base address, for example of a running `mlflow models serve`.
    pub url: Option<At<String>>,
    /// Base addresses of equal replicas.
    pub urls: Option<Vec<At<String>>>,
    /// A model of MLflow's that Flowgate runs itself: `models:/Name@alias`, `models:/Name/3`, `models:/Name/Production`, `runs:/…`,
    /// `s3://…` or a folder.
    pub uri: Option<At<String>>,
    /// The address at which a server of the Open Inference Protocol speaks gRPC: KServe, MLServer or Triton.
    pub oip: Option<At<String>>,
    /// Credential, address and what else the provider needs.
    #[schemars(schema_with = "schema::config")]
    pub config: Option<Tree>,
    /// Defaults for what the caller leaves unset, for example `max_tokens`.
    #[schemars(schema_with = "schema::parameters")]
    pub parameters: Option<Tree>,
    /// How the model of a `uri` is run.
    #[serde(rename = "&run")]
    #[schemars(flatten)]
    pub run: RawRun,
}

/// How long things may take; `none` for no limit.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Timeouts", deny_unknown_fields)]
pub(super) struct RawTimeouts {
    /// To open an upstream connection. Default `2s`.
    #[schemars(schema_with = "schema::duration")]
    pub connect: Option<At<String>>,
    /// One unary try. Default `60s` for predictions, none for LLMs.
    #[schemars(schema_with = "schema::duration")]
    pub attempt: Option<At<String>>,
    /// Until a stream's first event. Default `120s`.
    #[schemars(schema_with = "schema::duration")]
    pub first_event: Option<At<String>>,
    /// Between a stream's events. Default `60s`.
    #[schemars(schema_with = "schema::duration")]
    pub idle: Option<At<String>>,
    /// The whole call. Default `600s` for unary ones, none for streams.
    #[schemars(schema_with = "schema::duration")]
    pub total: Option<At<String>>,
}

/// How deployments are reached.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Upstream", deny_unknown_fields)]
pub(super) struct RawUpstream {
    /// An HTTP proxy: `http://[user:password@]host:port`.
    #[schemars(schema_with = "schema::secret")]
    pub proxy: Option<At<String>>,
    /// Certificate authorities to trust beside the system's, a PEM file.
    pub ca: Option<At<String>>,
    /// Headers of every request.
    #[schemars(schema_with = "schema::headers")]
    pub headers: Option<Tree>,
    /// The credential, where it is not the provider's own.
    pub auth: Option<At<RawAuth>>,
    /// How replicas are asked whether they are well; in short a path.
    pub health: Option<At<Short<String, RawHealth>>>,
    /// When a replica that fails is left out.
    pub ejection: Option<At<RawEjection>>,
}

/// A credential: `bearer`, or `basic`, or `header` with `value`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Auth", deny_unknown_fields)]
pub(super) struct RawAuth {
    /// `Authorization: Bearer …`.
    #[schemars(schema_with = "schema::secret")]
    pub bearer: Option<At<String>>,
    /// `Authorization: Basic …`.
    pub basic: Option<At<RawBasic>>,
    /// A header of its own.
    pub header: Option<At<String>>,
    /// What stands in that header.
    #[schemars(schema_with = "schema::secret")]
    pub value: Option<At<String>>,
}

/// A user and a password.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Basic", deny_unknown_fields, extend("required" = ["username", "password"]))]
pub(super) struct RawBasic {
    /// The user.
    pub username: Option<At<String>>,
    /// The password.
    #[schemars(schema_with = "schema::secret")]
    pub password: Option<At<String>>,
}

/// How often an endpoint may be called.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Limit", deny_unknown_fields, extend("required" = ["calls", "renewal_period"]))]
pub(super) struct RawLimit {
    /// Calls per period.
    pub calls: Option<At<u64>>,
    /// `second`, `minute`, `hour`, `day`, `month` or `year`, also `5 minutes`.
    pub renewal_period: Option<At<String>>,
    /// Unused; MLflow declares it.
    #[schemars(schema_with = "schema::any")]
    pub key: Option<Tree>,
}

/// `config` of `provider: mock`: a deterministic model for development.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Mock", deny_unknown_fields)]
pub(super) struct RawMock {
    /// What it answers. Unset: an echo of the last user message or prompt.
    pub text: Option<At<String>>,
    /// How many words a generated answer has; the text is repeated or cut to it. Unset: the text's own length.
    pub tokens: Option<At<u32>>,
    /// How long it waits before the answer, or its first event. Default 0.
    #[schemars(schema_with = "schema::duration")]
    pub first_delay: Option<At<String>>,
    /// How long it waits between the events of a stream. Default 0.
    #[schemars(schema_with = "schema::duration")]
    pub delay: Option<At<String>>,
    /// What a predict endpoint answers. Unset: one number per row, a hash of the row.
    #[schemars(schema_with = "schema::any")]
    pub predictions: Option<Tree>,
    /// The length of embedding vectors. Default 8.
    #[schemars(range(min = 1, max = 65536))]
    pub dimensions: Option<At<u32>>,
    /// How it fails. Unset: it does not.
    pub failure: Option<At<RawMockFailure>>,
}

/// How a mock fails.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "MockFailure", deny_unknown_fields)]
pub(super) struct RawMockFailure {
    /// Each n-th call fails. Default 1: every call.
    #[schemars(range(min = 1))]
    pub every: Option<At<u64>>,
    /// The HTTP status of the failure. Unset: the answer starts and fails by `mode`.
    #[schemars(range(min = 400, max = 599))]
    pub status: Option<At<u16>>,
    /// How a streamed answer fails after its first events.
    pub mode: Option<At<RawMockMode>>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "MockMode", inline)]
pub(super) enum RawMockMode {
    Status,
    Cut,
    ErrorEvent,
    NoEnd,
    Silent,
}
