//! What a deployment is and what it can bear, as a person writes it.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Short;
use crate::config::{schema, tree::At};

/// Part of a deployment, and of an endpoint.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(in crate::config) struct RawTraits {
    /// What it costs.
    pub price: Option<At<RawPrice>>,
    /// The most tokens of a request and its answer together.
    #[schemars(range(min = 1))]
    pub context_window: Option<At<u32>>,
    /// What it can do, where that is not what the provider says.
    #[schemars(schema_with = "schema::capabilities")]
    pub capabilities: Option<Vec<At<String>>>,
    /// When it is left alone for a while.
    pub breaker: Option<At<RawBreaker>>,
    /// How many calls it gets at once; a number in short.
    pub concurrency: Option<At<Short<u32, RawConcurrency>>>,
    /// How requests of few rows that come at the same time are put together. Predict endpoints only.
    pub batch: Option<At<RawBatch>>,
}

/// How requests that come at the same time are put together into one.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Batch", deny_unknown_fields)]
pub(in crate::config) struct RawBatch {
    /// The most rows of one request to the model. Default 64.
    #[schemars(range(min = 2))]
    pub max_rows: Option<At<u32>>,
    /// How long a request waits for others at most, while one like it is under way. Default `5ms`.
    #[schemars(schema_with = "schema::duration")]
    pub max_delay: Option<At<String>>,
}

/// What a deployment costs, in US dollars for a million tokens. `input`, or `discount` alone.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Price", deny_unknown_fields)]
pub(in crate::config) struct RawPrice {
    /// What it reads.
    #[schemars(range(min = 0))]
    pub input: Option<At<f64>>,
    /// What it writes. May be left out where nothing is written.
    #[schemars(range(min = 0))]
    pub output: Option<At<f64>>,
    /// What it reads from the provider's prompt cache. Default: `input`.
    #[schemars(range(min = 0))]
    pub cache_read: Option<At<f64>>,
    /// What it writes to it. Default: `input`.
    #[schemars(range(min = 0))]
    pub cache_write: Option<At<f64>>,
    /// What it writes to it for an hour. Default: `input`, or unknown beside `cache_write`.
    #[schemars(range(min = 0))]
    pub cache_write_1h: Option<At<f64>>,
    /// What it spends on reasoning. Default: `output`.
    #[schemars(range(min = 0))]
    pub reasoning: Option<At<f64>>,
    /// Audio that it reads. Default: unknown.
    #[schemars(range(min = 0))]
    pub input_audio: Option<At<f64>>,
    /// Audio that it makes. Default: unknown.
    #[schemars(range(min = 0))]
    pub output_audio: Option<At<f64>>,
    /// Images that it reads. Default: `input`.
    #[schemars(range(min = 0))]
    pub input_image: Option<At<f64>>,
    /// Images that it makes. Default: unknown.
    #[schemars(range(min = 0))]
    pub output_image: Option<At<f64>>,
    /// A request, in US dollars. Default 0.
    #[schemars(range(min = 0))]
    pub request: Option<At<f64>>,
    /// A search that the provider makes for a call, in US dollars. Default: unknown.
    #[schemars(range(min = 0))]
    pub search: Option<At<f64>>,
    /// The share that comes off. Alone it comes off what is known of the model's prices. Default 0.
    #[schemars(schema_with = "schema::share")]
    pub discount: Option<At<String>>,
}

/// When a deployment is left alone for a while.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Breaker", deny_unknown_fields)]
pub(in crate::config) struct RawBreaker {
    /// So many faults of the provider in a row open it. Default 5.
    #[schemars(range(min = 1))]
    pub failures: Option<At<u32>>,
    /// Or this share of the calls of the window. Default `50%`.
    #[schemars(schema_with = "schema::share")]
    pub error_rate: Option<At<String>>,
    /// The window. Default `10s`.
    #[schemars(schema_with = "schema::duration")]
    pub window: Option<At<String>>,
    /// How many calls `error_rate` needs. Default 20.
    #[schemars(range(min = 1))]
    pub min_calls: Option<At<u32>>,
    /// How long it stays open before one call may try. Default `5s`.
    #[schemars(schema_with = "schema::duration")]
    pub open: Option<At<String>>,
}

/// How many calls a deployment gets at once: `limit`, or `adaptive`.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Concurrency", deny_unknown_fields)]
pub(in crate::config) struct RawConcurrency {
    /// So many.
    #[schemars(range(min = 1))]
    pub limit: Option<At<u32>>,
    /// As many as it serves without getting slower.
    pub adaptive: Option<At<RawAdaptive>>,
    /// How many more may wait. Default 100.
    pub queue: Option<At<u32>>,
    /// For how long at most. Default `1s`.
    #[schemars(schema_with = "schema::duration")]
    pub wait: Option<At<String>>,
}

/// The bounds of a limit that is found.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Adaptive", deny_unknown_fields)]
pub(in crate::config) struct RawAdaptive {
    /// The least. Default 4.
    #[schemars(range(min = 1))]
    pub min: Option<At<u32>>,
    /// The most. Default 1,000.
    #[schemars(range(min = 1))]
    pub max: Option<At<u32>>,
}

/// How replicas are asked whether they are well: `path`, or `grpc`.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Health", deny_unknown_fields)]
pub(in crate::config) struct RawHealth {
    /// A path whose GET must be answered with 2xx.
    pub path: Option<At<String>>,
    /// A service of `grpc.health.v1`; empty for the server as a whole.
    pub grpc: Option<At<String>>,
    /// How often. Default `10s`.
    #[schemars(schema_with = "schema::duration")]
    pub interval: Option<At<String>>,
    /// How long an answer may take. Default `2s`.
    #[schemars(schema_with = "schema::duration")]
    pub timeout: Option<At<String>>,
    /// So many failures in a row leave a replica out. Default 2.
    #[schemars(range(min = 1))]
    pub unhealthy: Option<At<u32>>,
    /// So many successes in a row bring it back. Default 1.
    #[schemars(range(min = 1))]
    pub healthy: Option<At<u32>>,
}

/// When a replica that fails is left out.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Ejection", deny_unknown_fields)]
pub(in crate::config) struct RawEjection {
    /// After so many failures in a row. Default 3.
    #[schemars(range(min = 1))]
    pub failures: Option<At<u32>>,
    /// For how long the first time; longer each further time. Default `5s`.
    #[schemars(schema_with = "schema::duration")]
    pub time: Option<At<String>>,
    /// The longest. Default `5m`.
    #[schemars(schema_with = "schema::duration")]
    pub max_time: Option<At<String>>,
    /// Never more than this share of the replicas. Default `50%`.
    #[schemars(schema_with = "schema::share")]
    pub max_share: Option<At<String>>,
}
