//! Attempts that end in every way, and who is told of it.

use flowgate_proto::v1::ErrorReason;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use tokio::time::{Duration, advance, timeout};

use super::*;
use crate::{
    balance::{
        breaker::State,
        rollout::{Rollout, Rollouts},
        vitals::{Fitness, Ward},
    },
    call::Place,
    config::{self, Timeouts},
    error::Error,
    event::{Event, Task},
    policy::testing::{Once, Then, attempt, catalog, deployment, endpoint, streamed, text, unary},
    telemetry::metrics::Metrics,
    upstream::Connections,
};

struct Bench {
    policy: Attribution,
    vitals: Arc<Vitals>,
}

fn bench() -> Bench {
    let Attempt { call, deployment, .. } = attempt(false);
    let vitals = Ward::default().of(&call.endpoint, &deployment);
    let upstream = Arc::new(Connections::default().upstream(&deployment, &Timeouts::defaults(Task::Chat)).unwrap());
    let meter = Metrics::new().routing().deployment(&"e".into(), &"only".into());
    Bench { policy: Attribution::new(Arc::clone(&vitals), upstream, meter, None), vitals }
}

/// The same as the canary of a rollout that judges nothing.
fn on_trial() -> (Bench, Arc<Rollout>) {
    let mut config = endpoint("e", vec![deployment("stable"), deployment("only")]);
    let (canary, steps, every) = ("only".to_owned(), vec![5], Duration::from_secs(3600));
    config.routing.rollout = Some(config::Rollout { canary, steps, every, error_rate: None, p95: None, min_calls: 1 });
    let catalog = catalog(vec![config]);
    let endpoint = catalog.endpoint("e").unwrap();
    let rollout = Rollouts::default().of(endpoint, Metrics::new().routing()).unwrap();
    let mut bench = bench();
    Arc::get_mut(&mut bench.policy.0).unwrap().trial = Trial::of(&rollout, endpoint, &endpoint.deployments[1]);
    (bench, rollout)
}

fn counted(rollout: &Rollout) -> (u32, u32) {
    let tally = rollout.describe().canary_tally.unwrap();
    (tally.calls, tally.failures)
}

impl Bench {
    async fn fails(&self, error: Error) {
        let next = Once::new(Err(error));
        assert!(self.policy.handle(attempt(false), &next).await.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_providers_fault_opens_the_breaker() {
    let bench = bench();
    let poison = [ErrorReason::ProviderModelFailed, ErrorReason::ProviderRejectedRequest, ErrorReason::CallerContextTooLong];
    for reason in poison.into_iter().cycle().take(1000) {
        bench.fails(Error::new(reason, "x").upstream_status(StatusCode::BAD_REQUEST)).await;
    }
    assert_eq!(bench.vitals.fitness(None), Fitness::Fit);
    for state in [State::Closed, State::Closed, State::Closed, State::Closed, State::Open] {
        bench.fails(Error::new(ErrorReason::ProviderTimeout, "x")).await;
        assert_eq!(bench.vitals.breaker.state(), state);
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_and_a_refused_key_rest_the_credential_alone() {
    let bench = bench();
    bench.fails(Error::new(ErrorReason::ProviderRateLimited, "x").retry_after(Some(Duration::from_secs(2)))).await;
    assert_eq!((bench.vitals.fitness(None), bench.vitals.breaker.state()), (Fitness::Resting, State::Closed));
    advance(Duration::from_secs(2)).await;
    assert_eq!(bench.vitals.fitness(None), Fitness::Fit);
    bench.fails(Error::new(ErrorReason::ProviderCredentialRejected, "x")).await;
    assert_eq!(bench.vitals.fitness(None), Fitness::Resting);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_judged_by_its_end() {
    let bench = bench();
    let cut = || [Ok(text("a")), Err(Error::stream_cut())];
    for _ in 0..5 {
        let next = Once::new(Ok(streamed(stream::iter(cut()))));
        let reply = bench.policy.handle(attempt(true), &next).await.unwrap();
        assert_eq!(reply.count().await, 2);
    }
    assert_eq!(bench.vitals.breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_is_told_what_each_attempt_came_to() {
    let (bench, rollout) = on_trial();
    for error in [Error::new(ErrorReason::ProviderTimeout, "x"), Error::new(ErrorReason::ProviderRejectedRequest, "x")] {
        bench.fails(error).await;
    }
    let slow = Then(|_: Attempt| async {
        advance(Duration::from_secs(1)).await;
        Ok(unary())
    });
    assert!(bench.policy.handle(attempt(false), &slow).await.is_ok());
    for (events, ends) in [(vec![Ok(text("a")), Err(Error::stream_cut())], 2), (vec![Ok(text("a")), Ok(Event::End)], 1)] {
        let next = Once::new(Ok(streamed(stream::iter(events))));
        bench.policy.handle(attempt(true), &next).await.unwrap().take(ends).count().await;
    }
    let tally = rollout.describe().canary_tally.unwrap();
    assert_eq!((tally.calls, tally.failures, tally.p95.unwrap().seconds), (4, 2, 1), "the last one was left after its first event");
}

#[tokio::test(start_paused = true)]
async fn speed_is_measured_from_the_first_event_and_an_abandoned_attempt_says_nothing() {
    let bench = bench();
    let usage = flowgate_proto::v1::Usage { output_tokens: Some(30), ..Default::default() };
    let events = stream::iter([text("a"), Event::Usage(usage), Event::End]).enumerate().then(|(place, event)| async move {
        advance(Duration::from_secs(place as u64)).await;
        Ok(event)
    });
    let next = Once::new(Ok(streamed(events)));
    assert_eq!(bench.policy.handle(attempt(true), &next).await.unwrap().count().await, 3);
    assert_eq!(bench.vitals.throughput.get(Duration::MAX), Some(10.0), "30 tokens in 1 s and 2 s");
    drop(bench.policy.handle(attempt(true), &Once::new(Ok(streamed(stream::pending())))).await.unwrap());
    drop(bench.policy.handle(attempt(false), &Once::new(Ok(unary()))).await.unwrap());
    assert_eq!(bench.vitals.fitness(None), Fitness::Fit);
}

/// What comes second failed elsewhere first, or was slow there.
#[tokio::test(start_paused = true)]
async fn only_the_first_attempt_of_a_call_counts_in_a_rollout() {
    let (bench, rollout) = on_trial();
    for (is_first, counts) in [(false, (0, 0)), (true, (3, 2))] {
        let attempt = |streaming| {
            let mut attempt = attempt(streaming);
            attempt.call.choice.place = Some(Place { deployment: 1, replica: None, credential: 0, is_first });
            attempt
        };
        let failing = Once::new(Err(Error::new(ErrorReason::ProviderFailed, "x")));
        assert!(bench.policy.handle(attempt(false), &failing).await.is_err());
        assert!(bench.policy.handle(attempt(false), &Once::new(Ok(unary()))).await.is_ok());
        let cut = Once::new(Ok(streamed(stream::iter([Err(Error::stream_cut())]))));
        bench.policy.handle(attempt(true), &cut).await.unwrap().count().await;
        assert_eq!(counted(&rollout), counts);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_until_the_end_of_the_endpoints_own_time_is_the_providers_fault() {
    let total = Duration::from_secs(60);
    let hangs = async |bench: &Bench, own: Option<Duration>, left: Duration, after: Duration| {
        let mut attempt = attempt(false);
        (attempt.call.deadline, attempt.call.own_total) = (Some(Instant::now() + left), own);
        let next = Then(|_: Attempt| std::future::pending());
        assert!(timeout(after, bench.policy.handle(attempt, &next)).await.is_err());
    };
    let (bench, rollout) = on_trial();
    for _ in 0..9 {
        hangs(&bench, None, total, total).await;
        hangs(&bench, Some(total), total, total / 2).await;
        hangs(&bench, Some(total), total / 3, total / 3).await;
    }
    assert_eq!((counted(&rollout), bench.vitals.breaker.state()), ((0, 0), State::Closed), "the caller's time, its going, others' time");
    for failures in 1..=5 {
        hangs(&bench, Some(total), total, total).await;
        assert_eq!(counted(&rollout), (failures, failures));
    }
    assert_eq!(bench.vitals.breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_has_begun_is_not_silent_when_its_time_is_over() {
    let (bench, rollout) = on_trial();
    let total = Duration::from_secs(60);
    let mut attempt = attempt(true);
    (attempt.call.deadline, attempt.call.own_total) = (Some(Instant::now() + total), Some(total));
    let events = Once::new(Ok(streamed(stream::iter([Ok(text("a"))]).chain(stream::pending()))));
    let reply = bench.policy.handle(attempt, &events).await.unwrap();
    assert!(timeout(total, reply.count()).await.is_err());
    assert_eq!(counted(&rollout), (1, 0));
}
