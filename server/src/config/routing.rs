//! How an endpoint chooses among its deployments and what it does when one fails: the lowered form of `retry`, `hedge`, `rollout`
//! and their like.

use std::time::Duration;

use http::HeaderName;

use crate::expression::{Expression, Template};

/// The keys of an endpoint that decide where a call goes and how it survives.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// `retry`.
    pub retry: Retry,
    /// `fallback`: endpoints that serve, in order, when none of its own deployments can.
    pub fallback: Vec<String>,
    /// `idempotent`: whether a prediction may be asked for twice, which hedging needs.
    pub idempotent: bool,
    /// `hedge`.
    pub hedge: Option<Hedge>,
    /// `mirror`.
    pub mirrors: Vec<Mirror>,
    /// `affinity`.
    pub affinity: Option<Affinity>,
    /// `rollout`.
    pub rollout: Option<Rollout>,
    /// `require`: the tags that a deployment must have.
    pub require: Vec<Require>,
    /// `prefer`.
    pub prefer: Option<Prefer>,
    /// `min_throughput`, in tokens per second: slower deployments are passed over.
    pub min_throughput: Option<f64>,
    /// `steps`: a chain; the endpoint then has no deployments.
    pub steps: Vec<Step>,
}

/// `retry`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// `attempts`: the most attempts of one call within the endpoint. Unset: each place at most once, three or as many as there are
    /// deployments.
    pub attempts: Option<u32>,
    /// `backoff`: before the same place is tried again: full jitter below a bound that doubles from the first to the second. Default
    /// `100ms..2s`.
    pub backoff: (Duration, Duration),
    /// `budget`: repeated attempts at a deployment as a share of the calls it gets. Default 0.2.
    pub budget: f64,
}

/// `hedge`: a second attempt beside one that is slow; the first answer counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hedge {
    /// `after`: when the second begins.
    pub after: HedgeAfter,
    /// `budget`: second attempts as a share of the calls. Default 0.05.
    pub budget: f64,
}

/// `hedge.after`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HedgeAfter {
    /// `p95`: this share of recent calls was faster. The default is 0.95.
    Quantile(f64),
    /// A fixed time.
    Delay(Duration),
}

/// One entry of `mirror`: where copies of calls are sent, whose answers are compared and thrown away.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// `endpoint`.
    pub endpoint: String,
    /// `share` of the calls, from 0 to 1. Default 1.
    pub share: f64,
}

/// `affinity`: what pins a caller's calls to a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// `header`.
    Header(HeaderName),
    /// `metadata`: a key of the request's metadata.
    Metadata(String),
    /// `principal`.
    Principal,
    /// `field`: a path in the request's JSON, for example `user` or `params.customer`.
    Field(Vec<String>),
}

/// `rollout`: moves the split from the other deployments to one, step by step, and back when it does worse.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// `canary`: the alias. Default: the last deployment without a condition.
    pub canary: String,
    /// `steps`: its shares in percent, rising.
    pub steps: Vec<u32>,
    /// `every`: how long each step lasts.
    pub every: Duration,
    /// `abort_if.error_rate`, from 0 to 1: the canary's failed calls in a step above which it is rolled back.
    pub error_rate: Option<f64>,
    /// `abort_if.p95`: how many times the stable deployments' 95th percentile the canary may take.
    pub p95: Option<f64>,
    /// `abort_if.min_calls`: how many calls of the canary a judgement needs. Default 20.
    pub min_calls: u32,
}

/// One entry of `require`.
#[derive(Clone, Debug)]
pub struct Require {
    /// `when`. Unset: always.
    pub when: Option<Expression>,
    /// `tags` that a deployment must have; one of the values where several are listed.
    pub tags: Tags,
}

/// Tags with the values that are allowed or had, sorted by key.
pub type Tags = Vec<(String, Vec<String>)>;

/// `prefer`: by which signal the order of choice is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    /// By `price`; unknown prices last.
    Cheapest,
    /// By recent latency.
    Fastest,
    /// By calls in flight.
    LeastLoaded,
}

/// One of `steps`: an endpoint that is called with what came before.
#[derive(Clone, Debug)]
pub struct Step {
    /// `name`; the endpoint's when none is given. Unique within the chain.
    pub name: String,
    /// `endpoint`.
    pub endpoint: String,
    /// `input`: what it is asked. Unset: the caller's request for the first step, the text or predictions of the step before for others.
    pub input: Option<Template>,
}

/// `breaker`: when a deployment is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breaker {
    /// `failures`: so many provider faults in a row open it. Default 5.
    pub failures: u32,
    /// `error_rate`: or this share of the calls of `window`, from 0 to 1. Default 0.5.
    pub error_rate: f64,
    /// `window`. Default 10 s.
    pub window: Duration,
    /// `min_calls`: how many calls `error_rate` needs. Default 20.
    pub min_calls: u32,
    /// `open`: how long it stays open before one call may try; doubles up to ten times with each failed try. Default 5 s.
    pub open: Duration,
}

/// `batch` of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// `max_rows`: the most rows of one request to the model. Default 64.
    pub max_rows: usize,
    /// `max_delay`: how long a request waits for others at most, while one like it is under way. Default 5 ms.
    pub max_delay: Duration,
}

/// `concurrency` of a deployment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Concurrency {
    /// How many calls it gets at once.
    pub limit: ConcurrencyLimit,
    /// `queue`: how many more may wait. Default 100.
    pub queue: usize,
    /// `wait`: for how long at most. Default 1 s.
    pub wait: Duration,
}

/// `concurrency.limit`, or `concurrency.adaptive`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConcurrencyLimit {
    /// So many.
    Fixed(u32),
    /// As many as it serves without getting slower, between these.
    Adaptive {
        /// `min`. Default 4.
        min: u32,
        /// `max`. Default 1,000.
        max: u32,
    },
}

/// `upstream.health`: replicas are asked on their own, and left out while they do not answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Health {
    /// What is asked.
    pub check: HealthCheck,
    /// `interval`. Default 10 s.
    pub interval: Duration,
    /// `timeout`. Default 2 s.
    pub timeout: Duration,
    /// `unhealthy`: so many failures in a row leave a replica out. Default 2.
    pub unhealthy: u32,
    /// `healthy`: so many successes in a row bring it back. Default 1.
    pub healthy: u32,
}

/// What an active health check asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HealthCheck {
    /// `path`: a GET of this path on the server, which must be answered with 2xx.
    Http(String),
    /// `grpc`: `grpc.health.v1` for this service; empty for the server as a whole.
    Grpc(String),
}

/// `upstream.ejection`: replicas that fail are left out for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ejection {
    /// `failures`: so many in a row. Default 3.
    pub failures: u32,
    /// `time`: for how long the first time; longer each further time. Default 5 s.
    pub time: Duration,
    /// `max_time`. Default 5 min.
    pub max_time: Duration,
    /// `max_share`: never more than this share of the replicas, from 0 to 1. Default 0.5. One is always left.
    pub max_share: f64,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: None, backoff: (Duration::from_millis(100), Duration::from_secs(2)), budget: 0.2 }
    }
}

impl Default for Hedge {
    fn default() -> Self {
        Self { after: HedgeAfter::Quantile(0.95), budget: 0.05 }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self { max_rows: 64, max_delay: Duration::from_millis(5) }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 5, error_rate: 0.5, window: Duration::from_secs(10), min_calls: 20, open: Duration::from_secs(5) }
    }
}

impl Default for Ejection {
    fn default() -> Self {
        Self { failures: 3, time: Duration::from_secs(5), max_time: Duration::from_secs(300), max_share: 0.5 }
    }
}

impl ConcurrencyLimit {
    /// `adaptive` with nothing in it.
    pub const ADAPTIVE: Self = Self::Adaptive { min: 4, max: 1000 };
}

impl Concurrency {
    /// A limit with a queue of the default's length and patience.
    pub fn new(limit: ConcurrencyLimit) -> Self {
        Self { limit, queue: 100, wait: Duration::from_secs(1) }
    }
}

impl Health {
    /// A check as often and as patient as by default.
    pub fn new(check: HealthCheck) -> Self {
        Self { check, interval: Duration::from_secs(10), timeout: Duration::from_secs(2), unhealthy: 2, healthy: 1 }
    }
}
