//! Copies to a fake endpoint, under paused time.

use std::{future::pending, sync::Mutex};

use flowgate_proto::v1::ErrorReason;
use futures_util::stream;
use tokio::time::sleep;

use super::*;
use crate::{
    call::Priority,
    event::{Answer, Event},
    policy::{
        erase,
        testing::{self, Once, Then, call, deployment, endpoint, head, streamed, text, unary},
    },
    telemetry::metrics::Metrics,
};

struct Bench {
    mirror: Mirror,
    tasks: Tasks,
    metrics: Metrics,
    seen: Arc<Mutex<Vec<Call>>>,
}

const HUNDRED_MS: Duration = Duration::from_millis(100);

/// A mirror that is sent this share of the calls and answers so.
fn bench<F>(share: f64, answer: impl Fn() -> F + Send + Sync + 'static) -> Bench
where
    F: Future<Output = Result<Reply>> + Send + 'static,
{
    let (metrics, tasks, seen) = (Metrics::new(), Tasks::default(), Arc::new(Mutex::new(Vec::new())));
    let meter = metrics.routing().mirrors().mirror(&"chat".into(), &"shadow".into());
    let catalog = testing::catalog(vec![endpoint("shadow", vec![deployment("only")])]);
    let kept = Arc::clone(&seen);
    let service = erase(Then(move |call: Call| {
        kept.lock().unwrap().push(call);
        answer()
    }));
    let image = Image::new((Arc::clone(catalog.endpoint("shadow").unwrap()), service), share, meter);
    let mirror = Mirror { draw: || 0.3, ..Mirror::new(vec![image], tasks.clone()) };
    Bench { mirror, tasks, metrics, seen }
}

impl Bench {
    async fn run(&self, call: Call, reply: Result<Reply>) -> Result<Vec<Result<Event>>> {
        let next = Once::new(reply);
        Ok(self.mirror.handle(call, &next).await?.collect().await)
    }

    /// Waits for all copies; how many ended so.
    async fn ended(&self, outcome: &str) -> usize {
        self.tasks.finished().await;
        let line = format!("flowgate_mirror_calls_total{{endpoint=\"chat\",mirror=\"shadow\",outcome=\"{outcome}\"}} ");
        let page = self.metrics.render();
        page.lines().find_map(|each| each.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
    }

    fn has(&self, lines: &[&str]) {
        let page = self.metrics.render();
        for line in lines {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
    }
}

fn words(words: &[&str]) -> Reply {
    let words: Vec<_> = words.iter().map(|word| Ok(text(word))).chain([Ok(Event::End)]).collect();
    streamed(stream::iter(words))
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_a_call_of_its_own() {
    let bench = bench(1.0, || async { Ok(unary()) });
    let mut call = call(false);
    let second = Duration::from_secs(1);
    (call.deadline, call.own_total) = (Some(Instant::now() + second), Some(second));
    call.headers.insert("idempotency-key", "once".parse().unwrap());
    call.headers.insert("traceparent", "00".parse().unwrap());
    call.choice.forced = Some("only".into());
    assert_eq!(bench.run(call.clone(), Ok(unary())).await.unwrap().len(), 1);
    assert_eq!(bench.ended("ok").await, 1);
    let copy = bench.seen.lock().unwrap().remove(0);
    assert_eq!((&*copy.endpoint.name, &*copy.choice.via[0].name), ("shadow", "chat"));
    assert_eq!((copy.choice.priority, copy.choice.forced), (Priority::Batch, None));
    assert_eq!(copy.deadline, Some(Instant::now() + Duration::from_secs(600)));
    assert_eq!(copy.own_total, copy.endpoint.config.timeouts.total_unary);
    assert_eq!(copy.headers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>(), ["traceparent"]);
    assert!(!Arc::ptr_eq(&copy.record, &call.record) && !Arc::ptr_eq(&copy.choice.route, &call.choice.route));
}

#[tokio::test(start_paused = true)]
async fn only_a_share_of_the_calls_is_copied() {
    for (share, copies) in [(0.0, 0), (0.3, 0), (0.31, 1)] {
        let bench = bench(share, || async { Ok(unary()) });
        bench.run(call(false), Ok(unary())).await.unwrap();
        assert_eq!(bench.ended("ok").await, copies, "a lot of 0.3 for a share of {share}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_neither_waits_for_its_copy_nor_fails_with_it() {
    let hangs = bench(1.0, pending);
    let fails = bench(1.0, || async { Err(Error::new(ErrorReason::ProviderFailed, "x")) });
    let breaks = bench(1.0, || async { Ok(streamed(stream::iter([Ok(text("a")), Err(Error::stream_cut())]))) });
    let stops = bench(1.0, || async { Ok(streamed(stream::iter([Ok(text("a"))]))) });
    for bench in [hangs, fails, breaks, stops] {
        let since = Instant::now();
        let events = bench.run(call(true), Ok(words(&["a", "b"]))).await.unwrap();
        assert!(matches!(events.as_slice(), [Ok(Event::Delta(_)), Ok(Event::Delta(_)), Ok(Event::End)]));
        assert!(since.elapsed().is_zero());
        assert_eq!(bench.ended("error").await, 1);
        assert!(since.elapsed() <= MOST_TIME, "it does not hang for ever");
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_goes_on_when_its_caller_leaves_and_is_not_compared() {
    let answered = || async {
        sleep(HUNDRED_MS).await;
        Ok(unary())
    };
    let bench = bench(1.0, answered);
    let open = Once::new(Ok(streamed(stream::iter([Ok(text("a"))]).chain(stream::pending()))));
    let mut reply = bench.mirror.handle(call(true), &open).await.unwrap();
    assert!(reply.next().await.is_some());
    drop(reply);
    assert!(bench.run(call(false), Err(Error::new(ErrorReason::ProviderFailed, "x"))).await.is_err());
    let cut = [Ok(text("a")), Err(Error::stream_cut())];
    assert_eq!(bench.run(call(true), Ok(streamed(stream::iter(cut)))).await.unwrap().len(), 2);
    let since = Instant::now();
    assert_eq!((bench.ended("unread").await, since.elapsed()), (3, HUNDRED_MS));
    assert!(!bench.metrics.render().contains("flowgate_mirror_latency_seconds_count"));
}

#[tokio::test(start_paused = true)]
async fn beyond_so_many_at_once_copies_are_dropped_and_counted() {
    let bench = bench(1.0, || async {
        sleep(HUNDRED_MS).await;
        Ok(unary())
    });
    for _ in 0..MOST_AT_ONCE + 3 {
        bench.run(call(false), Ok(unary())).await.unwrap();
    }
    assert_eq!((bench.ended("ok").await, bench.ended("dropped").await), (MOST_AT_ONCE, 3));
    bench.run(call(false), Ok(unary())).await.unwrap();
    assert_eq!(bench.ended("ok").await, MOST_AT_ONCE + 1, "a place is free again");
}

#[tokio::test(start_paused = true)]
async fn the_differences_are_counted() {
    let bench = bench(1.0, || async {
        sleep(HUNDRED_MS).await;
        Ok(words(&["abc", "d"]))
    });
    bench.run(call(true), Ok(words(&["ab"]))).await.unwrap();
    assert_eq!(bench.ended("ok").await, 1);
    let large = "x".repeat(1 << 20);
    let answer = |text: &str| {
        let body = format!("{{\"choices\":[{{\"index\":0,\"message\":{{\"content\":\"{text}\"}}}}]}}");
        let content_type = http::HeaderValue::from_static("application/json");
        Answer::Wire(crate::event::WireAnswer { content_type, body: body.into(), usage: None })
    };
    bench.run(call(false), Ok(Reply::one(head(), answer(&large)))).await.unwrap();
    assert_eq!(bench.ended("unread").await, 1, "too large to be kept");
    let labels = "endpoint=\"chat\",mirror=\"shadow\"";
    bench.has(&[
        &format!("flowgate_mirror_latency_seconds_sum{{{labels},side=\"primary\"}} 0.0"),
        &format!("flowgate_mirror_latency_seconds_sum{{{labels},side=\"mirror\"}} 0.1"),
        &format!("flowgate_mirror_length_difference_characters_sum{{{labels}}} 2.0"),
        &format!("flowgate_mirror_mismatches_total{{{labels},kind=\"shape\"}} 0"),
    ]);
}
