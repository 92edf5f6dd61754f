//! Every request is counted once, however it ends.

use crate::{
    doors::{Door, Task, Way, doors, next_text, streaming},
    fake::{Answer, Fake, Gate, until},
    gateway::Running,
    speech,
};

/// The sum of a metric's samples whose labels contain `label`.
fn sum(running: &Running, name: &str, label: &str) -> u64 {
    let page = running.gateway.metrics().render();
    let lines = page.lines().filter(|line| line.split_once('{').is_some_and(|(found, labels)| found == name && labels.contains(label)));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Waits until nothing is in flight and `all` requests are counted, `failed` of them for a reason.
async fn counted(running: &Running, door: Door, all: u64, failed: (u64, &str)) {
    until("the end of the request's record", || {
        sum(running, "flowgate_in_flight", "") == 0 && sum(running, "flowgate_calls_total", "") >= all
    })
    .await;
    let reason = format!("reason=\"{}\"", failed.1);
    let told = (
        sum(running, "flowgate_calls_total", ""),
        sum(running, "flowgate_calls_total", "outcome=\"error\""),
        sum(running, "flowgate_errors_total", ""),
        sum(running, "flowgate_errors_total", &reason),
    );
    assert_eq!(told, (all, failed.0, failed.0, failed.0), "{door:?}\n{}", running.gateway.metrics().render());
}

/// The door's name in metrics.
fn name(door: Door) -> &'static str {
    match door.way {
        Way::Grpc => "grpc",
        Way::GrpcWeb => "grpc-web",
        Way::Native => "json",
        Way::OpenAi | Way::Named => "openai",
        Way::Invocations | Way::Own => "mlflow",
    }
}

#[tokio::test]
async fn a_complete_call_is_counted_once_with_its_tokens() {
    let fake = Fake::start(speech::llm).await;
    let running = Running::start(&speech::config(&[speech::chat_endpoint(&fake.url, "")])).await;
    for (door, all) in doors(Task::Chat).into_iter().zip(1..) {
        door.ask(&running, "chat").await.unwrap();
        counted(&running, door, all, (0, "")).await;
        assert_eq!(sum(&running, "flowgate_tokens_total", "direction=\"output\""), all * u64::from(speech::TOKENS.1), "{door:?}");
        assert_eq!(sum(&running, "flowgate_call_duration_seconds_count", "endpoint=\"chat\",task=\"chat\""), all, "{door:?}");
        assert!(sum(&running, "flowgate_calls_total", &format!("door=\"{}\"", name(door))) > 0, "{door:?}");
    }
    assert!(running.metrics().await.contains("flowgate_calls_total"));
}

#[tokio::test]
async fn a_failed_call_is_counted_once() {
    let fake = Fake::start(|_| Answer::status(500, r#"{"error":{"message":"no"}}"#)).await;
    let running = Running::start(&speech::config(&[speech::chat_endpoint(&fake.url, "")])).await;
    for (door, all) in doors(Task::Chat).into_iter().zip(1..) {
        door.ask(&running, "chat").await.unwrap_err();
        counted(&running, door, all, (all, "PROVIDER_FAILED")).await;
    }
}

#[tokio::test]
async fn a_stream_that_breaks_is_counted_once() {
    let fake = Fake::start(|seen| {
        let events = speech::events(seen.path.ends_with("/chat/completions"));
        Answer::events(&events[..2])
    })
    .await;
    let running = Running::start(&speech::config(&[speech::chat_endpoint(&fake.url, "")])).await;
    for (door, all) in streaming(Task::Chat).into_iter().zip(1..) {
        assert_eq!(door.ask(&running, "chat").await.unwrap_err().reason, "PROVIDER_STREAM_CUT", "{door:?}");
        counted(&running, door, all, (all, "PROVIDER_STREAM_CUT")).await;
    }
}

#[tokio::test]
async fn a_cancelled_call_is_counted_once() {
    let gate = Gate::new();
    let mut fake = Fake::start(move |seen| {
        use futures_util::StreamExt as _;
        let events = speech::events(true);
        match seen.wants_stream() {
            true => Answer::sse(crate::fake::pieces(&events[..2]).chain(gate.before(crate::fake::pieces(&events[2..])))),
            false => Answer::Silence,
        }
    })
    .await;
    let running = Running::start(&speech::config(&[speech::chat_endpoint(&fake.url, "")])).await;
    for (door, all) in doors(Task::Chat).into_iter().zip(1..) {
        if door.streaming {
            let mut pieces = door.open(&running, "chat").await.unwrap();
            next_text(&mut pieces).await.unwrap();
            fake.called().await;
            assert_eq!(sum(&running, "flowgate_in_flight", ""), 1, "{door:?}");
        } else {
            tokio::select! {
                told = door.ask(&running, "chat") => panic!("{told:?}"),
                () = fake.called() => {}
            }
        }
        fake.client_gone().await;
        counted(&running, door, all, (all, "CALLER_CANCELLED")).await;
    }
}

#[tokio::test]
async fn a_refused_request_is_counted_once() {
    let fake = Fake::start(speech::llm).await;
    let endpoints = speech::config(&[speech::chat_endpoint(&fake.url, "")]);
    for (config, endpoint, prompt, reason) in [
        ("", "nobody", 1, "CALLER_ENDPOINT_NOT_FOUND"),
        ("max_request_bytes: '1000'\n", "chat", 1000, "CALLER_TOO_LARGE"),
        ("identity: { keys: [{ name: app, key: fg-0123456789 }] }\n", "chat", 1, "CALLER_UNAUTHENTICATED"),
    ] {
        let running = Running::start(&format!("{config}{endpoints}")).await;
        let named = doors(Task::Chat).into_iter().filter(|door| endpoint == "chat" || door.way != Way::Own);
        for (door, all) in named.zip(1..) {
            door.say(&running, endpoint, &"x".repeat(prompt)).await.unwrap_err();
            counted(&running, door, all, (all, reason)).await;
        }
    }
    assert!(fake.seen().is_empty());
}
