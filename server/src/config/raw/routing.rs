//! The keys of an endpoint that decide where a call goes and how it survives, as a person writes them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Many, Short};
use crate::config::{
    schema,
    tree::{Any, At, Tree},
};

/// Part of an endpoint.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(in crate::config) struct RawRouting {
    /// How a failed attempt is made again.
    pub retry: Option<At<RawRetry>>,
    /// Endpoints that serve, in order, when none of its own deployments can.
    pub fallback: Option<At<Short<String, Vec<At<String>>>>>,
    /// Whether a prediction may be asked for twice. Default `false`.
    pub idempotent: Option<At<bool>>,
    /// A second attempt beside one that is slow; `true` for the defaults.
    pub hedge: Option<At<Short<bool, RawHedge>>>,
    /// Where copies of calls are sent, whose answers are compared and thrown away.
    pub mirror: Option<At<Many<RawMirror, RawMirror>>>,
    /// What pins a caller's calls to a deployment: one of its keys, or `principal` in short.
    pub affinity: Option<At<Short<String, RawAffinity>>>,
    /// Moves the split to one deployment, step by step.
    pub rollout: Option<At<RawRollout>>,
    /// Tags that a deployment must have, or a list of conditions with tags.
    #[schemars(schema_with = "schema::require")]
    pub require: Option<At<Many<Any, RawRequire>>>,
    /// By which signal deployments are chosen, instead of by weight.
    pub prefer: Option<At<RawPrefer>>,
    /// Deployments that write fewer tokens a second than this are passed over.
    pub min_throughput: Option<At<f64>>,
    /// A chain: endpoints that are called one after the other, instead of deployments.
    pub steps: Option<At<Vec<At<RawStep>>>>,
}

/// How a failed attempt is made again.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Retry", deny_unknown_fields)]
pub(in crate::config) struct RawRetry {
    /// The most attempts of one call. Default: each place at most once, three or as many as there are deployments.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: Option<At<u32>>,
    /// The wait before the same place is tried again: below the first, doubling up to the second. Default `100ms..2s`.
    #[schemars(schema_with = "schema::range")]
    pub backoff: Option<At<String>>,
    /// Repeated attempts as a share of the calls. Default `20%`.
    #[schemars(schema_with = "schema::share")]
    pub budget: Option<At<String>>,
}

/// A second attempt beside one that is slow.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Hedge", deny_unknown_fields)]
pub(in crate::config) struct RawHedge {
    /// When it begins: a quantile of recent calls, for example `p95`, or a time. Default `p95`.
    #[schemars(schema_with = "schema::duration")]
    pub after: Option<At<String>>,
    /// Second attempts as a share of the calls. Default `5%`.
    #[schemars(schema_with = "schema::share")]
    pub budget: Option<At<String>>,
}

/// Where copies of calls are sent.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Mirror", deny_unknown_fields, extend("required" = ["endpoint"]))]
pub(in crate::config) struct RawMirror {
    /// The endpoint.
    pub endpoint: Option<At<String>>,
    /// Which share of the calls. Default: all.
    #[schemars(schema_with = "schema::share")]
    pub share: Option<At<String>>,
}

/// What pins a caller's calls to a deployment: one of the four.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Affinity", deny_unknown_fields)]
pub(in crate::config) struct RawAffinity {
    /// A header of the request.
    pub header: Option<At<String>>,
    /// A key of the request's metadata.
    pub metadata: Option<At<String>>,
    /// A path in the request's JSON, for example `params.user`.
    pub field: Option<At<String>>,
    /// Who calls.
    pub principal: Option<At<bool>>,
}

/// Moves the split to one deployment, step by step, and back when it does worse.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Rollout", deny_unknown_fields, extend("required" = ["steps", "every"]))]
pub(in crate::config) struct RawRollout {
    /// The alias of that deployment. Default: the last without a condition.
    pub canary: Option<At<String>>,
    /// Its shares in percent, rising.
    pub steps: Option<At<Vec<At<u32>>>>,
    /// How long each step lasts.
    #[schemars(schema_with = "schema::duration")]
    pub every: Option<At<String>>,
    /// When it is rolled back.
    pub abort_if: Option<At<RawAbort>>,
}

/// When a rollout is rolled back.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "AbortIf", deny_unknown_fields)]
pub(in crate::config) struct RawAbort {
    /// More than this share of the canary's calls in a step failed.
    #[schemars(schema_with = "schema::share")]
    pub error_rate: Option<At<String>>,
    /// The canary's 95th percentile is more than so many times that of the others.
    #[schemars(schema_with = "schema::factor")]
    pub p95: Option<At<String>>,
    /// How many calls of the canary a judgement needs. Default 20.
    #[schemars(range(min = 1))]
    pub min_calls: Option<At<u32>>,
}

/// Tags that a deployment must have when a condition holds.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Require", deny_unknown_fields, extend("required" = ["tags"]))]
pub(in crate::config) struct RawRequire {
    /// The condition. Unset: always.
    pub when: Option<At<String>>,
    /// The tags; one of the values where several are listed.
    #[schemars(schema_with = "schema::labels")]
    pub tags: Option<Tree>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Prefer", inline)]
pub(in crate::config) enum RawPrefer {
    Cheapest,
    Fastest,
    LeastLoaded,
}

/// One step of a chain.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Step", deny_unknown_fields, extend("required" = ["endpoint"]))]
pub(in crate::config) struct RawStep {
    /// Its name. Default: the endpoint's.
    pub name: Option<At<String>>,
    /// The endpoint that is called.
    pub endpoint: Option<At<String>>,
    /// What it is asked, a template. Default: the caller's request for the first step, what the step before said for others.
    #[schemars(schema_with = "schema::template")]
    pub input: Option<At<String>>,
}
