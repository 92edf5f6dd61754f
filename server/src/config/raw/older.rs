//! The older forms of an endpoint and traffic splits, as a person writes them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::RawTask;
use crate::config::{
    later::{self, Scope},
    schema,
    tree::{At, Tree},
};

/// A traffic split over endpoints, or an endpoint in MLflow's older form.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Route", deny_unknown_fields, transform = later::keys_of(Scope::Route), extend("x-tolerant" = true, "required" = ["name"]))]
pub(in crate::config) struct RawRoute {
    /// Its name: letters, digits, `.`, `_` and `-`.
    pub name: Option<At<String>>,
    /// Of a split: what its destinations do.
    pub task_type: Option<At<RawTask>>,
    /// Of a split: the endpoints.
    pub destinations: Option<Vec<At<RawDestination>>>,
    /// Of a split: how a destination is chosen.
    pub routing_strategy: Option<At<RawRouting>>,
    /// Of the older form: what it does.
    pub route_type: Option<At<RawRouteType>>,
    /// Of the older form: an extra HTTP path.
    pub endpoint: Option<At<String>>,
    /// Of the older form: the model.
    #[schemars(with = "Option<RawOlderModel>")]
    pub model: Option<Tree>,
    /// Of the older form: default parameters.
    #[schemars(schema_with = "schema::parameters")]
    pub config: Option<Tree>,
    /// Of the older form: how often it may be called.
    pub rate_limit: Option<At<RawRateLimit>>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[schemars(rename = "Routing", inline)]
pub(in crate::config) enum RawRouting {
    #[serde(rename = "TRAFFIC_SPLIT")]
    TrafficSplit,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[schemars(rename = "RouteType", inline)]
pub(in crate::config) enum RawRouteType {
    #[serde(rename = "llm/v1/chat")]
    Chat,
    #[serde(rename = "llm/v1/completions")]
    Complete,
    #[serde(rename = "llm/v1/embeddings")]
    Embed,
    #[serde(rename = "mlflow-model")]
    Model,
}

/// An endpoint of a split and its share.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Destination", deny_unknown_fields, extend("required" = ["name", "traffic_percentage"]))]
pub(in crate::config) struct RawDestination {
    /// The endpoint's name.
    pub name: Option<At<String>>,
    /// Its share of the calls; all shares together are 100.
    #[schemars(range(max = 100))]
    pub traffic_percentage: Option<At<u32>>,
}

/// A model in the older form. Credentials may stand beside these keys, or in a block named after the provider.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "OlderModel", transform = later::keys_of(Scope::OlderModel), extend("additionalProperties" = { "x-unchecked": true }))]
pub(in crate::config) struct RawOlderModel {
    /// Who serves it; not needed for a registered model.
    #[schemars(schema_with = "schema::provider")]
    pub provider: Option<At<String>>,
    /// The provider's name for it, or the registered model.
    pub name: Option<At<String>>,
    /// The version of the registered model.
    #[schemars(schema_with = "schema::text")]
    pub version: Option<At<String>>,
    /// The stage of the registered model.
    pub stage: Option<At<String>>,
    /// Credential and address, and default parameters.
    #[schemars(schema_with = "schema::config")]
    pub config: Option<Tree>,
}

/// How often a route may be called.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "RateLimit", deny_unknown_fields, extend("required" = ["calls", "period"]))]
pub(in crate::config) struct RawRateLimit {
    /// Calls per period.
    pub calls: Option<At<u64>>,
    /// The period: `60s`, `1m`, `1h`, …
    #[schemars(schema_with = "schema::text")]
    pub period: Option<At<String>>,
}

/// A predict endpoint.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "ModelEndpoint", deny_unknown_fields, extend("required" = ["name", "routes"]))]
pub(in crate::config) struct RawModelEndpoint {
    /// Its name: letters, digits, `.`, `_` and `-`.
    pub name: Option<At<String>>,
    /// Its models; the first without a condition is the default.
    pub routes: Vec<At<RawModelRoute>>,
}

/// A model of a predict endpoint.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "ModelRoute", deny_unknown_fields, extend("required" = ["model_uri"]))]
pub(in crate::config) struct RawModelRoute {
    /// The model, for example `models:/Name/Production`.
    pub model_uri: Option<At<String>>,
    /// Its name within the endpoint.
    pub alias: Option<At<String>>,
    /// The condition under which it serves.
    pub model_request_condition: Option<At<String>>,
}
