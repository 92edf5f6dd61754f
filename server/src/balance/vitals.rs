//! What is known of a deployment from the calls it got: breaker, credentials, speed, places. It outlives a reload that leaves the deployment alone.

use std::{sync::Arc, time::Duration};

use super::{
    breaker::{Breaker, State},
    budget::Budget,
    credentials::Credentials,
    kept::Kept,
    latency::{Average, Quantiles},
    limiter::{Limiter, Room},
};
use crate::{
    catalog::{Deployment, Endpoint},
    config::{Routing, Traits},
};

/// Speed that was not measured for so long is unknown.
const FRESH: Duration = Duration::from_secs(60);
/// Silence is a fault when it is so many times as long as the slowest hundredth of answers takes, and at least so long.
const OVERDUE: u32 = 3;
const LEAST_OVERDUE: Duration = Duration::from_secs(1);
/// A stream that is shorter is no measure.
const LEAST_TOKENS: u32 = 10;
const LEAST_WRITING: Duration = Duration::from_millis(100);
/// Repeated attempts that are allowed within ten seconds however few calls there are.
const FREE_RETRIES: u32 = 3;

/// What is known of one deployment.
#[derive(Debug)]
pub struct Vitals {
    /// Whether it is left alone.
    pub breaker: Breaker,
    /// Which credentials can be used.
    pub credentials: Credentials,
    /// How long it takes to its answer, or to a stream's first event.
    pub latency: Quantiles,
    /// The average of that, in seconds.
    pub pace: Average,
    /// Tokens per second of its streams, from the first event on.
    pub throughput: Average,
    /// How many repeated attempts it may get.
    pub retries: Budget,
    /// How many calls it gets at once. `None`: as many as there are.
    pub limiter: Option<Limiter>,
}

/// How fit a deployment is to get a call now; what is worse comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fitness {
    /// It is.
    Fit,
    /// Its streams are slower than the endpoint wants them.
    Slow,
    /// It has as many calls as it may have at once; others wait for a place.
    Busy,
    /// So has its queue.
    Full,
    /// All its credentials rest.
    Resting,
    /// All its replicas are out.
    Out,
    /// Its breaker is open.
    Open,
}

/// The vitals of all deployments.
#[derive(Debug, Default)]
pub struct Ward(Kept<[u8; 32], Vitals>);

impl Vitals {
    /// Nothing is known of a deployment yet.
    pub fn new(deployment: &Deployment, routing: &Routing) -> Self {
        Self {
            breaker: Breaker::new(deployment.config.traits.breaker),
            credentials: Credentials::new(deployment.config.credentials.len()),
            latency: Quantiles::new(),
            pace: Average::new(),
            throughput: Average::new(),
            retries: Budget::new(routing.retry.budget, FREE_RETRIES),
            limiter: deployment.config.traits.concurrency.map(Limiter::new),
        }
    }

    /// Whether it is fit for a call, its replicas aside.
    pub fn fitness(&self, min_throughput: Option<f64>) -> Fitness {
        if self.breaker.state() == State::Open {
            return Fitness::Open;
        }
        if !self.credentials.has_free(|_| false) {
            return Fitness::Resting;
        }
        match self.limiter.as_ref().map(Limiter::room) {
            Some(Room::None) => return Fitness::Full,
            Some(Room::Queue) => return Fitness::Busy,
            Some(Room::Free) | None => {}
        }
        // What was found slow is left alone until that is forgotten, and then tried again.
        let too_slow = min_throughput.is_some_and(|least| self.throughput.get(FRESH).is_some_and(|pace| pace < least));
        if too_slow { Fitness::Slow } else { Fitness::Fit }
    }

    /// It answered after so long, and then wrote so many tokens in a time, where that is known.
    pub fn answered(&self, latency: Duration, (tokens, writing): (u32, Duration)) {
        self.latency.add(latency);
        self.pace.add(latency.as_secs_f64());
        // What comes in one piece says nothing of a pace.
        if tokens >= LEAST_TOKENS && writing >= LEAST_WRITING {
            self.throughput.add(f64::from(tokens) / writing.as_secs_f64());
        }
    }

    /// Whether silence of that length is the provider's fault: far longer than its slowest answers take.
    pub fn is_overdue(&self, waited: Duration) -> bool {
        waited >= LEAST_OVERDUE && self.latency.get(0.99).is_some_and(|slow| waited >= OVERDUE * slow)
    }

    /// The average time it takes, in seconds, if it was called of late.
    pub fn recent_pace(&self) -> Option<f64> {
        self.pace.get(FRESH)
    }
}

impl Ward {
    /// The vitals of a deployment; those of before if nothing that they rest on has changed.
    pub fn of(&self, endpoint: &Endpoint, deployment: &Deployment) -> Arc<Vitals> {
        self.0.of(key(endpoint, deployment), || Vitals::new(deployment, &endpoint.config.routing))
    }
}

/// What a deployment is, its share of the calls, its price and how requests to it are put together aside.
fn key(endpoint: &Endpoint, deployment: &Deployment) -> [u8; 32] {
    let config = &deployment.config;
    let mut hasher = blake3::Hasher::new();
    let traits = Traits { price: None, batch: None, ..config.traits.clone() };
    let told = format!("{:?}", (&endpoint.name, &config.alias, config.provider.name, &config.model, &config.place, &traits));
    hasher.update(told.as_bytes()).update(format!("{:?}", endpoint.config.routing.retry).as_bytes());
    for credential in &config.credentials {
        // A changed key is a new one, with a clean slate.
        hasher.update(&credential.fingerprint());
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        call::Priority,
        config::{self, Concurrency, ConcurrencyLimit},
        policy::testing::{catalog, deployment, endpoint},
    };

    fn of(ward: &Ward, change: impl FnOnce(&mut config::Deployment)) -> Arc<Vitals> {
        let mut config = deployment("only");
        change(&mut config);
        let catalog = catalog(vec![endpoint("e", vec![config])]);
        let endpoint = catalog.endpoint("e").unwrap();
        ward.of(endpoint, &endpoint.deployments[0])
    }

    fn limit_of(limit: u32) -> Concurrency {
        Concurrency { limit: ConcurrencyLimit::Fixed(limit), queue: 1, wait: FRESH }
    }

    #[test]
    fn vitals_outlive_a_reload_that_leaves_the_deployment_alone() {
        let ward = Ward::default();
        let first = of(&ward, |_| {});
        assert!(Arc::ptr_eq(&first, &of(&ward, |config| config.weight = Some(3))), "a share is none of its traits");
        assert!(Arc::ptr_eq(&first, &of(&ward, |config| config.traits.batch = Some(config::Batch::default()))));
        assert!(!Arc::ptr_eq(&first, &of(&ward, |config| config.model = "other".to_owned())));
        let limited = |limit| of(&ward, |config| config.traits.concurrency = Some(limit_of(limit)));
        let (few, many) = (limited(1), limited(2));
        assert!(Arc::ptr_eq(&few, &limited(1)) && !Arc::ptr_eq(&few, &many));
    }

    #[tokio::test(start_paused = true)]
    async fn the_worst_that_is_known_decides() {
        let vitals = of(&Ward::default(), |_| {});
        assert_eq!(vitals.fitness(Some(20.0)), Fitness::Fit);
        vitals.throughput.add(10.0);
        assert_eq!((vitals.fitness(Some(20.0)), vitals.fitness(None)), (Fitness::Slow, Fitness::Fit));
        tokio::time::advance(FRESH + Duration::from_secs(1)).await;
        assert_eq!(vitals.fitness(Some(20.0)), Fitness::Fit, "what is forgotten is tried again");
        vitals.credentials.bench(0, super::super::credentials::Fault::Refused);
        assert_eq!(vitals.fitness(None), Fitness::Resting);
        (0..5).for_each(|_| _ = vitals.breaker.fault(tokio::time::Instant::now()));
        assert_eq!(vitals.fitness(None), Fitness::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_free_place_it_is_busy_and_without_one_in_the_queue_full() {
        let vitals = of(&Ward::default(), |config| config.traits.concurrency = Some(limit_of(1)));
        let enter = || vitals.limiter.as_ref().unwrap().enter(Priority::Interactive).unwrap();
        assert_eq!(vitals.fitness(None), Fitness::Fit);
        let _in = enter();
        assert_eq!(vitals.fitness(None), Fitness::Busy);
        let _queued = enter();
        assert_eq!(vitals.fitness(None), Fitness::Full);
        vitals.credentials.bench(0, super::super::credentials::Fault::Refused);
        assert_eq!(vitals.fitness(None), Fitness::Resting);
    }
}
