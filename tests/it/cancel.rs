//! A caller who goes away takes the upstream's work with it, at every door, whole and streamed.

use std::fmt::Debug;

use futures_util::StreamExt as _;
use serde_json::json;

use crate::{
    doors::{self, Task, next_text},
    fake::{Answer, Fake, pieces, until},
    gateway::Running,
    predict,
    speech::{PIECES, chat_endpoint, chunk, config, endpoint, predict_endpoint},
};

async fn gateway(url: &str) -> Running {
    Running::start(&config(&[chat_endpoint(url, ""), endpoint("text", "llm/v1/completions", url, ""), predict_endpoint("iris", url, "")]))
        .await
}

/// Waits until all calls are counted, each as cancelled.
async fn all_cancelled(running: &Running, calls: usize) {
    until("the end of all calls", || running.in_flight() == 0 && running.counted("flowgate_calls_total", &[]) == calls).await;
    assert_eq!(running.counted("flowgate_errors_total", &["reason=\"CALLER_CANCELLED\"", "origin=\"caller\""]), calls);
}

/// Leaves a call once the upstream has it, and waits until the upstream sees that.
async fn leave<T: Debug>(upstream: &mut Fake, call: impl Future<Output = T>, door: &impl Debug) {
    let mut call = Box::pin(call);
    tokio::select! {
        told = &mut call => panic!("{door:?}: {told:?}"),
        () = upstream.called() => {}
    }
    drop(call);
    upstream.client_gone().await;
}

#[tokio::test]
async fn dropping_a_call_before_its_answer_closes_the_upstream() {
    for h2 in [false, true] {
        dropping_a_call_before_its_answer_over(h2).await;
    }
}

async fn dropping_a_call_before_its_answer_over(h2: bool) {
    let mut upstream = Fake::start(|_| Answer::Silence).await;
    let mut running = gateway(&upstream.url).await;
    if h2 {
        running.speak_h2();
    }
    let doors = [doors::doors(Task::Chat), doors::doors(Task::Complete)].concat();
    for door in &doors {
        let own = if door.task == Task::Chat { "chat" } else { "text" };
        leave(&mut upstream, door.ask(&running, own), &door).await;
    }
    for door in predict::DOORS {
        leave(&mut upstream, door.ask(&running, "iris"), &door).await;
    }
    // A stream of predictions counts beside its one request.
    all_cancelled(&running, doors.len() + predict::DOORS.len() + 1).await;
}

#[tokio::test]
async fn dropping_a_stream_after_its_first_piece_closes_the_upstream() {
    for h2 in [false, true] {
        dropping_a_stream_after_its_first_piece_over(h2).await;
    }
}

async fn dropping_a_stream_after_its_first_piece_over(h2: bool) {
    let mut upstream = Fake::start(|seen| {
        let first = match seen.path.ends_with("/chat/completions") {
            true => chunk(&json!({"content": PIECES[0]})),
            false => json!({"choices": [{"index": 0, "text": PIECES[0], "finish_reason": null}]}).to_string(),
        };
        Answer::sse(pieces(&[first]).chain(futures_util::stream::pending()))
    })
    .await;
    let mut running = gateway(&upstream.url).await;
    if h2 {
        running.speak_h2();
    }
    let doors = [doors::streaming(Task::Chat), doors::streaming(Task::Complete)].concat();
    for door in &doors {
        let own = if door.task == Task::Chat { "chat" } else { "text" };
        let mut stream = door.open(&running, own).await.unwrap();
        assert_eq!(next_text(&mut stream).await.unwrap(), PIECES[0], "{door:?}");
        drop(stream);
        upstream.client_gone().await;
    }
    all_cancelled(&running, doors.len()).await;
}

/// The body of an answer that has begun to come: the caller leaves while the gateway reads it.
#[tokio::test]
async fn dropping_a_call_whose_answer_is_half_there_closes_the_upstream() {
    let mut upstream = Fake::start(|_| Answer::Pieces {
        content_type: "application/json",
        pieces: futures_util::stream::iter([Ok("{\"predictions\": [1,".into())]).chain(futures_util::stream::pending()).boxed(),
    })
    .await;
    let running = gateway(&upstream.url).await;
    for door in predict::DOORS {
        leave(&mut upstream, door.ask(&running, "iris"), &door).await;
    }
    all_cancelled(&running, predict::DOORS.len() + 1).await;
}

/// Other requests of the same connection go on.
#[tokio::test]
async fn dropping_one_stream_leaves_its_neighbour_on_the_connection_alone() {
    let gate = crate::fake::Gate::new();
    let mut upstream = Fake::start({
        let gate = gate.clone();
        move |seen| {
            let rest = crate::speech::events(true);
            let begin = pieces(&rest[..2]);
            match seen.text().contains("stay") {
                true => Answer::sse(begin.chain(gate.before(pieces(&rest[2..])))),
                false => Answer::sse(begin.chain(futures_util::stream::pending())),
            }
        }
    })
    .await;
    let running = gateway(&upstream.url).await;
    let client = running.client();
    let mut leaves = client.stream_chat(doors::chat("chat", "leave")).await.unwrap().text();
    let mut stays = client.stream_chat(doors::chat("chat", "stay")).await.unwrap().text();
    assert_eq!(leaves.next().await.unwrap().unwrap(), PIECES[0]);
    assert_eq!(stays.next().await.unwrap().unwrap(), PIECES[0]);
    drop(leaves);
    upstream.client_gone().await;
    gate.open();
    let mut rest = String::new();
    while let Some(piece) = stays.next().await {
        rest.push_str(&piece.unwrap());
    }
    assert_eq!(rest, PIECES[1..].concat());
}

/// In a stream of predictions each request is a call of its own; leaving ends all of them.
#[tokio::test]
async fn dropping_a_stream_of_predictions_closes_every_upstream_call() {
    let mut upstream = Fake::start(|_| Answer::Silence).await;
    let running = gateway(&upstream.url).await;
    let requests = futures_util::stream::iter((0..3).map(|_| predict::request("iris"))).chain(futures_util::stream::pending());
    let client = running.client();
    let mut answers = crate::fake::soon("the head of the stream", client.stream_predict(requests)).await.unwrap();
    for _ in 0..3 {
        tokio::select! {
            answer = answers.next() => panic!("{answer:?}"),
            () = upstream.called() => {}
        }
    }
    drop(answers);
    for _ in 0..3 {
        upstream.client_gone().await;
    }
    // The stream, and each of its requests.
    all_cancelled(&running, 4).await;
}
