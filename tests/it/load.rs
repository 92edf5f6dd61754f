//! Load: a deployment gets only so many calls at once, others wait in order, and a gateway with too much to do says so at every door.

use std::time::Duration;

use flowgate_client::{CallOptions, Client};
use flowgate_server::config::{Concurrency, ConcurrencyLimit, Config};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tonic::Code;

use crate::{
    doors::{self, Door, Pieces, Refusal, Task, Way, chat, next_text},
    fake::{Answer, Fake, Gate, Seen, pieces, soon, until},
    gateway::{Running, parse},
    predict,
    speech::{PIECES, TEXT, chat_endpoint, config, endpoint, events, llm, predict_endpoint},
};

const PRIORITY: &str = "x-flowgate-priority";
const UNARY: Door = Door { way: Way::Grpc, task: Task::Chat, streaming: false };

/// Every deployment gets so many calls at once, and so many more may wait, for as long as a test takes.
fn limit(limit: u32, queue: usize) -> impl Fn(&mut Config) {
    move |config| {
        let deployments = config.endpoints.iter_mut().flat_map(|endpoint| &mut endpoint.deployments);
        let concurrency = Concurrency { limit: ConcurrencyLimit::Fixed(limit), queue, wait: Duration::from_secs(60) };
        deployments.for_each(|deployment| deployment.traits.concurrency = Some(concurrency));
    }
}

async fn gateway(url: &str, change: impl FnOnce(&mut Config)) -> Running {
    let endpoints = [chat_endpoint(url, ""), endpoint("text", "llm/v1/completions", url, ""), predict_endpoint("iris", url, "")];
    Running::start_with(&config(&endpoints), change).await
}

/// Answers what says `hold` once the gate lets it, and anything else at once.
async fn held_by(gate: &Gate) -> Fake {
    let gate = gate.clone();
    Fake::start(move |seen| match (seen.text().contains("hold"), seen.wants_stream()) {
        (false, _) => said(seen),
        (true, false) => {
            let body = stream::iter([Ok(crate::speech::chat().to_string().into())]);
            Answer::Pieces { content_type: "application/json", pieces: gate.before(body) }
        }
        (true, true) => {
            let events = events(true);
            Answer::sse(pieces(&events[..2]).chain(gate.before(pieces(&events[2..]))))
        }
    })
    .await
}

fn said(seen: &Seen) -> Answer {
    if seen.path == "/invocations" { crate::speech::model(seen) } else { llm(seen) }
}

/// A stream that has begun and waits at the gate.
async fn hold(running: &Running, door: Door, endpoint: &str) -> Pieces {
    let mut stream = door.open_saying(running, endpoint, "hold").await.unwrap();
    assert_eq!(next_text(&mut stream).await.unwrap(), PIECES[0], "{door:?}");
    stream
}

fn must_be_overloaded(told: Result<impl std::fmt::Debug, Refusal>, door: &dyn std::fmt::Debug) {
    let refusal = told.map(|told| panic!("{door:?}: {told:?}")).unwrap_err();
    assert_eq!(refusal.reason, "GATEWAY_OVERLOADED", "{door:?}: {refusal:?}");
    match refusal.http {
        Some(status) => assert_eq!(status, 503, "{door:?}"),
        None => assert_eq!(refusal.code, Some(Code::ResourceExhausted), "{door:?}"),
    }
    assert_eq!(refusal.retry_after, Some(1), "{door:?}: {refusal:?}");
}

fn of_priority(running: &Running, priority: &str) -> Client {
    running.client().with(&CallOptions::new().metadata(PRIORITY, priority).unwrap())
}

async fn waiting(running: &Running, calls: usize) {
    until("the queue's length", || running.counted("flowgate_queue_length", &[]) == calls).await;
}

#[tokio::test]
async fn a_full_deployment_is_told_at_every_door() {
    let gate = Gate::new();
    let mut upstream = held_by(&gate).await;
    let running = gateway(&upstream.url, limit(1, 0)).await;
    let held = hold(&running, Door { streaming: true, ..UNARY }, "chat").await;
    for door in doors::doors(Task::Chat) {
        must_be_overloaded(door.ask(&running, "chat").await, &door);
    }
    assert_eq!(upstream.seen().len(), 1);
    drop(held);
    upstream.client_gone().await;

    let silent = Fake::start(|_| Answer::Silence).await;
    let running = gateway(&silent.url, limit(1, 0)).await;
    let ask = |door: predict::PredictDoor| door.ask(&running, "iris");
    let mut holds = Box::pin(ask(predict::PredictDoor::Native));
    tokio::select! {
        told = &mut holds => panic!("{told:?}"),
        () = until("a call", || !silent.seen().is_empty()) => {}
    }
    for door in predict::DOORS {
        must_be_overloaded(ask(door).await, &door);
    }
    assert_eq!(silent.seen().len(), 1);
    let labels = ["endpoint=\"iris\""];
    assert_eq!(running.counted("flowgate_queue_refused_total", &labels), predict::DOORS.len());
    assert_eq!((running.counted("flowgate_concurrency_limit", &labels), running.counted("flowgate_concurrency_in_use", &labels)), (1, 1));
    let metrics = running.metrics().await;
    assert!(!metrics.contains("flowgate_attempts_total{endpoint=\"iris\",deployment=\"only\",outcome=\"GATEWAY"), "{metrics}");
}

#[tokio::test]
async fn an_interactive_call_overtakes_a_batch_call_and_a_cancelled_one_leaves_its_place() {
    let gate = Gate::new();
    let upstream = held_by(&gate).await;
    let running = gateway(&upstream.url, limit(1, 3)).await;
    let _held = hold(&running, Door { streaming: true, ..UNARY }, "chat").await;
    let ask = |priority: &str, prompt: &str| {
        let (client, request) = (of_priority(&running, priority), chat("chat", prompt));
        Box::pin(async move { client.chat(request).await })
    };
    let mut batch = ask("batch", "batch");
    assert!(batch.as_mut().now_or_never().is_none());
    waiting(&running, 1).await;
    let mut gone = ask("interactive", "gone");
    assert!(gone.as_mut().now_or_never().is_none());
    waiting(&running, 2).await;
    let mut interactive = ask("Interactive", "interactive");
    assert!(interactive.as_mut().now_or_never().is_none());
    waiting(&running, 3).await;
    drop(gone);
    waiting(&running, 2).await;
    gate.open();
    let (batch, interactive) = soon("both answers", futures_util::future::join(batch, interactive)).await;
    assert_eq!((batch.is_ok(), interactive.is_ok()), (true, true));
    let prompts: Vec<_> = upstream.seen().iter().map(|seen| seen.json()["messages"][0]["content"].to_string()).collect();
    assert_eq!(prompts, ["\"hold\"", "\"interactive\"", "\"batch\""]);
    until("an empty deployment", || running.counted("flowgate_concurrency_in_use", &[]) == 0).await;
    assert_eq!(running.counted("flowgate_queue_wait_seconds_count", &["endpoint=\"chat\""]), 3);
}

#[tokio::test]
async fn a_stream_keeps_its_place_until_its_end_at_every_door() {
    let gate = Gate::new();
    let mut upstream = held_by(&gate).await;
    let running = gateway(&upstream.url, limit(1, 0)).await;
    let is_free = async || until("a free place", || running.counted("flowgate_concurrency_in_use", &[]) == 0).await;
    for door in doors::streaming(Task::Chat) {
        let held = hold(&running, door, "chat").await;
        must_be_overloaded(UNARY.ask(&running, "chat").await, &door);
        gate.open();
        doors::collect(held).await.unwrap();
        is_free().await;
        assert_eq!(UNARY.ask(&running, "chat").await.unwrap().text, TEXT, "{door:?}");
        drop(hold(&running, door, "chat").await);
        upstream.client_gone().await;
        is_free().await;
    }
}

#[tokio::test]
async fn another_deployment_is_taken_while_one_is_full() {
    let gate = Gate::new();
    let upstream = held_by(&gate).await;
    let model = format!("{{ provider: openai, name: m, config: {{ api_key: k, api_base: \"{}/v1\" }} }}", upstream.url);
    let deployments = ["a", "b"].map(|alias| format!("      - {{ alias: {alias}, model: {model} }}\n")).concat();
    let text = format!("endpoints:\n  - name: chat\n    endpoint_type: llm/v1/chat\n    deployments:\n{deployments}");
    let running = Running::start_with(&text, limit(1, 1)).await;
    let client = running.client();
    let serves = async |prompt: &str| {
        let answer = client.chat(chat("chat", prompt)).await.unwrap();
        answer.call.map(|call| (call.deployment, call.attempts)).unwrap()
    };
    assert_eq!(serves("hi").await, ("a".to_owned(), 1));
    let streaming = Door { streaming: true, ..UNARY };
    let first = hold(&running, streaming, "chat").await;
    assert_eq!(serves("hi").await, ("b".to_owned(), 1));
    let _second = hold(&running, streaming, "chat").await;
    let mut third = Box::pin(serves("hi"));
    assert!(third.as_mut().now_or_never().is_none());
    waiting(&running, 1).await;
    assert_eq!(running.counted("flowgate_queue_length", &["deployment=\"a\""]), 1, "the first of those that are busy");
    drop(first);
    assert_eq!(soon("the third answer", third).await, ("a".to_owned(), 1));
}

#[tokio::test]
async fn a_gateway_with_too_many_calls_turns_batch_away_first_at_every_door() {
    let gate = Gate::new();
    let upstream = held_by(&gate).await;
    let mut running = gateway(&upstream.url, |config| config.max_in_flight = 5).await;
    let streaming = Door { streaming: true, ..UNARY };
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(hold(&running, streaming, "chat").await);
    }
    for (priority, is_let_in) in [("interactive", true), ("batch", false)] {
        running.send_header(PRIORITY, priority);
        for door in [doors::doors(Task::Chat), doors::doors(Task::Complete)].concat() {
            let told = door.ask(&running, if door.task == Task::Chat { "chat" } else { "text" }).await;
            if is_let_in { assert_eq!(told.unwrap().text, TEXT) } else { must_be_overloaded(told, &door) }
        }
        for door in predict::DOORS {
            let told = door.ask(&running, "iris").await;
            if is_let_in { assert!(told.is_ok(), "{told:?}") } else { must_be_overloaded(told, &door) }
        }
    }
    running.send_header(PRIORITY, "interactive");
    held.push(hold(&running, streaming, "chat").await);
    let doors = doors::doors(Task::Chat);
    for door in &doors {
        must_be_overloaded(door.ask(&running, "chat").await, door);
    }
    assert_eq!(running.http().get(running.url("/health")).send().await.unwrap().status(), 200);
    let ready = running.http().get(format!("http://{}/readyz", running.admin)).send().await.unwrap();
    assert_eq!(ready.status(), 200, "who has much to do is not ill");
    assert_eq!(running.counted("flowgate_shed_total", &["priority=\"interactive\""]), doors.len());
    let shed = running.counted("flowgate_shed_total", &[]);
    until("the records", || running.counted("flowgate_errors_total", &["reason=\"GATEWAY_OVERLOADED\"", "origin=\"gateway\""]) == shed)
        .await;

    let endpoints = [chat_endpoint(&upstream.url, "")];
    let mut more = parse(&config(&endpoints));
    more.max_in_flight = 6;
    running.gateway.reload(&more).await.unwrap();
    assert_eq!(UNARY.ask(&running, "chat").await.unwrap().text, TEXT, "a reload raises the limit, and what is under way still counts");
    more.max_in_flight = 5;
    running.gateway.reload(&more).await.unwrap();
    must_be_overloaded(UNARY.ask(&running, "chat").await, &UNARY);
    drop(held);
    until("the end of the streams", || running.in_flight() == 0).await;
    assert_eq!(UNARY.ask(&running, "chat").await.unwrap().text, TEXT);
}

#[tokio::test]
async fn a_priority_that_there_is_not_is_refused_at_every_door() {
    let upstream = Fake::start(llm).await;
    let mut running = gateway(&upstream.url, |_| {}).await;
    running.send_header(PRIORITY, "urgent");
    for door in doors::doors(Task::Chat) {
        let refusal = door.ask(&running, "chat").await.unwrap_err();
        assert_eq!(refusal.reason, "CALLER_INVALID_REQUEST", "{door:?}");
        assert!(refusal.message.contains(PRIORITY), "{}", refusal.message);
    }
    assert!(upstream.seen().is_empty());
}
