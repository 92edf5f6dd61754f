//! A limit of one place before attempts that take as long as they are told.

use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{join, join3},
    stream,
};
use tokio::time::{Instant, sleep};

use super::*;
use crate::{
    call::Priority,
    config::{self, ConcurrencyLimit},
    policy::testing::{Once, Then, attempt, streamed, text, unary},
    telemetry::metrics::Metrics,
};

const SECOND: Duration = Duration::from_secs(1);

struct Bench {
    metrics: Metrics,
    limiter: Limiter,
    policy: Concurrency,
}

impl Bench {
    fn new(limit: ConcurrencyLimit) -> Self {
        let (metrics, limiter) = (Metrics::new(), Limiter::new(config::Concurrency { limit, queue: 1, wait: SECOND }));
        let policy = Concurrency::limited(limiter.clone(), metrics.load().deployment(&"e".into(), &"d".into()));
        Self { metrics, limiter, policy }
    }

    fn counts(&self, name: &str, value: &str) -> bool {
        self.metrics.render().contains(&format!("flowgate_{name}{{endpoint=\"e\",deployment=\"d\"}} {value}\n"))
    }

    fn is_empty(&self) -> bool {
        self.counts("concurrency_in_use", "0") && self.counts("queue_length", "0")
    }

    async fn run(&self, reply: Result<Reply>) -> Result<Reply> {
        self.policy.handle(attempt(true), &Once::new(reply)).await
    }
}

/// Answers after so long.
fn slow(time: Duration) -> impl Next<Attempt> {
    Then(move |_: Attempt| async move {
        sleep(time).await;
        Ok(unary())
    })
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_answered_later_and_the_wait_is_none_of_the_gateways_own_time() {
    let bench = Bench::new(ConcurrencyLimit::Fixed(1));
    let (first, second) = (attempt(false), attempt(false));
    let record = Arc::clone(&second.call.record);
    let next = slow(SECOND / 2);
    let since = Instant::now();
    let (first, second) = join(bench.policy.handle(first, &next), bench.policy.handle(second, &next)).await;
    assert!(first.is_ok() && second.is_ok());
    assert_eq!((since.elapsed(), record.facts().upstream), (SECOND, SECOND / 2));
    assert!(bench.is_empty() && bench.counts("queue_wait_seconds_count", "1") && bench.counts("concurrency_limit", "1"));
}

#[tokio::test(start_paused = true)]
async fn who_gets_no_place_is_told_when_to_come_back() {
    let bench = Bench::new(ConcurrencyLimit::Fixed(1));
    let next = slow(60 * SECOND);
    let mut first = Box::pin(bench.policy.handle(attempt(false), &next));
    assert!(first.as_mut().now_or_never().is_none());
    let mut late = Box::pin(bench.policy.handle(attempt(false), &next));
    assert!(late.as_mut().now_or_never().is_none());
    let refused = bench.policy.handle(attempt(false), &next).now_or_never().unwrap().unwrap_err();
    assert_eq!((refused.reason(), refused.retry_after_hint()), (ErrorReason::GatewayOverloaded, Some(SECOND)));
    let since = Instant::now();
    assert_eq!(late.await.unwrap_err().reason(), ErrorReason::GatewayOverloaded);
    assert_eq!(since.elapsed(), SECOND);
    assert!(bench.counts("queue_refused_total", "2") && bench.counts("concurrency_in_use", "1"));
    drop(first);
    assert!(bench.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_interactive_call_goes_before_a_batch_call() {
    let bench = Bench::new(ConcurrencyLimit::Fixed(1));
    let next = slow(SECOND / 2);
    let mut first = Box::pin(bench.policy.handle(attempt(false), &next));
    assert!(first.as_mut().now_or_never().is_none());
    let mut batch = attempt(false);
    batch.call.choice.priority = Priority::Batch;
    let calls = (first, bench.policy.handle(batch, &next), bench.policy.handle(attempt(false), &next));
    let (first, batch, interactive) = join3(calls.0, calls.1, calls.2).await;
    assert!(first.is_ok() && interactive.is_ok());
    assert_eq!(batch.unwrap_err().reason(), ErrorReason::GatewayOverloaded, "the queue has room for one");
}

#[tokio::test(start_paused = true)]
async fn a_stream_holds_its_place_until_its_end_its_failure_or_its_drop() {
    let bench = Bench::new(ConcurrencyLimit::Fixed(1));
    let is_taken = || bench.counts("concurrency_in_use", "1");
    for last in [Ok(Event::End), Err(Error::stream_cut())] {
        let events = stream::iter([Ok(text("a")), last]).chain(stream::pending());
        let mut reply = bench.run(Ok(streamed(events))).await.unwrap();
        assert!(reply.next().await.unwrap().is_ok() && is_taken());
        reply.next().await.unwrap().unwrap_or(Event::End);
        assert!(bench.is_empty(), "though the stream is still there");
    }
    let reply = bench.run(Ok(streamed(stream::pending()))).await.unwrap();
    assert!(is_taken());
    drop(reply);
    assert!(bench.is_empty());
    assert!(bench.run(Err(Error::stream_cut())).await.is_err() && bench.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_learns_from_answers_and_from_what_says_too_much() {
    let bench = Bench::new(ConcurrencyLimit::Adaptive { min: 1, max: 10 });
    let begun = async |events: Vec<Result<Event>>| {
        let events = stream::iter(events).then(|event| async {
            sleep(SECOND / 10).await;
            event
        });
        let reply = bench.run(Ok(streamed(events))).await.unwrap();
        reply.collect::<Vec<_>>().await.len()
    };
    for _ in 0..100 {
        begun(vec![Ok(Event::Ping), Ok(text("a")), Ok(text("b")), Ok(Event::End)]).await;
    }
    let grown = bench.limiter.limit();
    assert!(grown >= 2, "it grows to what one call at a time needs: {grown}");
    assert!(bench.counts("concurrency_limit", &grown.to_string()));
    let fails = |reason| Err(Error::new(reason, "x"));
    for (event, falls) in [
        (fails(ErrorReason::ProviderFailed), false),
        (fails(ErrorReason::ProviderUnavailable), false),
        (Err(Error::new(ErrorReason::ProviderUnavailable, "x").upstream_status(http::StatusCode::SERVICE_UNAVAILABLE)), true),
    ] {
        let before = bench.limiter.limit();
        begun(vec![event]).await;
        assert_eq!(bench.limiter.limit() < before, falls, "of {before}");
    }
    assert!(bench.is_empty() && bench.counts("concurrency_limit", "1"));
    begun(vec![Ok(text("a")), fails(ErrorReason::ProviderTimeout)]).await;
}

#[tokio::test]
async fn without_a_limit_nothing_is_held() {
    let reply = Concurrency::unlimited().handle(attempt(true), &Once::new(Ok(streamed(stream::iter([Ok(Event::End)]))))).await.unwrap();
    assert_eq!(reply.count().await, 1);
}
