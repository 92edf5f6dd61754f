//! Time: the caller's own may only shorten the operator's, what is left goes upstream, and what is late is told as such.

use std::time::Duration;

use futures_util::{StreamExt as _, future::join_all};
use serde_json::json;
use tonic::Code;

use crate::{
    doors::{self, Refusal, Task, Way},
    fake::{Answer, Fake, Seen, pieces, soon},
    gateway::Running,
    predict::{self, PredictDoor},
    speech::{PIECES, chat_endpoint, chunk, config, llm, predict_endpoint},
};

async fn gateway(url: &str, more: &str) -> Running {
    Running::start(&config(&[chat_endpoint(url, more), predict_endpoint("iris", url, more)])).await
}

fn check(door: &str, refusal: &Refusal, reason: &str) {
    assert_eq!(refusal.reason, reason, "{door}: {refusal:?}");
    assert!(refusal.http.is_none_or(|status| status == 504), "{door}: {refusal:?}");
    assert!(refusal.code.is_none_or(|code| code == Code::DeadlineExceeded), "{door}: {refusal:?}");
}

/// What the upstream was told to keep, in milliseconds.
fn told(upstream: &Fake) -> Option<u64> {
    kept(&upstream.last())
}

fn kept(seen: &Seen) -> Option<u64> {
    let value = seen.headers.get("x-request-timeout").map(|value| value.to_str().unwrap().to_owned())?;
    Some(value.strip_suffix("ms").unwrap().parse().unwrap())
}

/// Every call at every door fails for this reason, and what reached the upstream ends there too.
async fn all_late(running: &Running, upstream: &mut Fake, reason: &str) {
    let chats = join_all(
        doors::doors(Task::Chat).into_iter().map(|door| async move { (format!("{door:?}"), door.ask(running, "chat").await.err()) }),
    );
    let predictions = join_all(predict::DOORS.map(|door| async move { (format!("{door:?}"), door.ask(running, "iris").await.err()) }));
    let (chats, predictions) = soon("the end of all calls", async { tokio::join!(chats, predictions) }).await;
    for (door, refusal) in chats.into_iter().chain(predictions) {
        check(&door, &refusal.unwrap_or_else(|| panic!("{door} is a success")), reason);
    }
    upstream.all_gone().await;
    assert!(upstream.seen().iter().all(|seen| kept(seen).is_some_and(|left| left <= 100)));
}

#[tokio::test]
async fn the_callers_deadline_ends_its_call_at_every_door() {
    for (name, value) in
        [("x-request-timeout", "100ms"), ("x-request-timeout", "0.1"), ("grpc-timeout", "100m"), ("grpc-timeout", "100000u")]
    {
        let mut upstream = Fake::start(|_| Answer::Silence).await;
        let mut running = gateway(&upstream.url, "").await;
        running.send_header(name, value);
        all_late(&running, &mut upstream, "CALLER_DEADLINE_EXCEEDED").await;
    }
}

#[tokio::test]
async fn the_callers_deadline_may_only_shorten() {
    let mut upstream = Fake::start(|_| Answer::Silence).await;
    let mut running = gateway(&upstream.url, "timeouts: { total: 100ms }").await;
    running.send_header("x-request-timeout", "25s");
    all_late(&running, &mut upstream, "PROVIDER_TIMEOUT").await;
}

#[tokio::test]
async fn the_callers_deadline_ends_a_stream_that_has_begun() {
    let first = || pieces(&[chunk(&json!({"content": PIECES[0]}))]);
    let mut upstream = Fake::start(move |_| Answer::sse(first().chain(futures_util::stream::pending()))).await;
    let mut running = gateway(&upstream.url, "").await;
    running.send_header("x-request-timeout", "500ms");
    let doors = doors::streaming(Task::Chat);
    let refusals = join_all(doors.iter().map(|door| door.ask(&running, "chat"))).await;
    for (door, refusal) in doors.iter().zip(refusals) {
        check(&format!("{door:?}"), &refusal.unwrap_err(), "CALLER_DEADLINE_EXCEEDED");
    }
    upstream.all_gone().await;
}

#[tokio::test]
async fn what_is_left_goes_upstream() {
    let upstream = Fake::start(|seen| if seen.path == "/invocations" { crate::speech::model(seen) } else { llm(seen) }).await;
    let mut running = gateway(&upstream.url, "").await;
    // The operator's own ten minutes bound unary calls; streams have no bound.
    for door in doors::doors(Task::Chat) {
        door.ask(&running, "chat").await.unwrap();
        assert_eq!(told(&upstream).is_some(), !door.streaming, "{door:?}");
    }
    for (name, value) in [("x-request-timeout", "25s"), ("x-request-timeout", "25"), ("grpc-timeout", "25S"), ("grpc-timeout", "25000m")] {
        running.send_header(name, value);
        for door in doors::doors(Task::Chat) {
            door.ask(&running, "chat").await.unwrap();
            assert!((5_000..=25_000).contains(&told(&upstream).unwrap()), "{door:?} {name} {value}");
        }
        for door in predict::DOORS {
            door.ask(&running, "iris").await.unwrap();
            assert!((5_000..=25_000).contains(&told(&upstream).unwrap()), "{door:?} {name} {value}");
        }
    }
}

#[tokio::test]
async fn what_is_no_duration_is_refused() {
    let upstream = Fake::start(llm).await;
    for (name, values) in [("x-request-timeout", ["soon", "-1s", "1h"]), ("grpc-timeout", ["5", "5X", "-5S"])] {
        for value in values {
            let mut running = gateway(&upstream.url, "").await;
            running.send_header(name, value);
            for door in doors::doors(Task::Chat) {
                // tonic's client reads this header too, and sends nothing that it cannot read.
                if door.way == Way::Grpc && name == "grpc-timeout" {
                    continue;
                }
                let refusal = door.ask(&running, "chat").await.unwrap_err();
                assert_eq!(refusal.reason, "CALLER_INVALID_REQUEST", "{door:?} {name} {value}: {refusal:?}");
                assert!(refusal.message.contains(&format!("`{name}`")), "{door:?}: {}", refusal.message);
            }
            let refusal = PredictDoor::Default.ask(&running, "iris").await.unwrap_err();
            assert_eq!(refusal.http, Some(400));
        }
    }
    assert!(upstream.seen().is_empty());
}

/// Over gRPC the client's library speaks of its deadline in its own header.
#[tokio::test]
async fn a_clients_deadline_is_told_to_the_upstream() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url, "").await;
    let call = flowgate_client::CallOptions::new().deadline(Duration::from_secs(25));
    running.client().with(&call).chat(doors::chat("chat", "hi")).await.unwrap();
    assert!((5_000..=25_000).contains(&told(&upstream).unwrap()));
}
