//! Numbers: each request is counted exactly once, however it ends, and nothing is left in flight.

use futures_util::StreamExt as _;
use serde_json::json;

use crate::{
    doors::{self, Door, Task, Way, next_text},
    fake::{Answer, Fake, pieces, until},
    gateway::Running,
    predict,
    speech::{PIECES, TOKENS, chat_endpoint, chunk, config, endpoint, predict_endpoint},
};

/// Answers by what the prompt says.
async fn upstream() -> Fake {
    Fake::start(|seen| {
        let text = String::from_utf8_lossy(&seen.body).into_owned();
        let said = || pieces(&[chunk(&json!({"content": PIECES[0]}))]);
        match () {
            () if text.contains("fail") => Answer::status(500, "{}"),
            () if text.contains("break") && seen.wants_stream() => Answer::sse(said().chain(crate::fake::cut())),
            () if text.contains("wait") && seen.wants_stream() => Answer::sse(said().chain(futures_util::stream::pending())),
            () if text.contains("wait") => Answer::Silence,
            () if seen.path == "/invocations" => crate::speech::model(seen),
            () => crate::speech::llm(seen),
        }
    })
    .await
}

async fn gateway(url: &str) -> Running {
    Running::start(&config(&[chat_endpoint(url, ""), endpoint("text", "llm/v1/completions", url, ""), predict_endpoint("iris", url, "")]))
        .await
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

/// What has been counted, once nothing is in flight: calls, and errors by reason.
async fn settled(running: &Running, calls: usize) {
    until("the end of all calls", || running.in_flight() == 0 && running.counted("flowgate_calls_total", &[]) >= calls).await;
    assert_eq!(running.counted("flowgate_calls_total", &[]), calls, "{}", running.gateway.metrics().render());
    assert_eq!(running.counted("flowgate_call_duration_seconds_count", &[]), calls);
}

#[tokio::test]
async fn each_call_is_counted_once_however_it_ends() {
    let mut upstream = upstream().await;
    for door in doors::doors(Task::Chat) {
        let running = gateway(&upstream.url).await;
        let (name, errors) = (format!("door=\"{}\"", name(door)), "flowgate_errors_total");
        let of_chat = "endpoint=\"chat\"";
        door.ask(&running, "chat").await.unwrap();
        settled(&running, 1).await;
        assert_eq!(running.counted("flowgate_calls_total", &[&name, of_chat, "task=\"chat\"", "outcome=\"ok\""]), 1, "{door:?}");
        assert_eq!(running.counted("flowgate_tokens_total", &[of_chat, "direction=\"input\""]), TOKENS.0 as usize, "{door:?}");
        assert_eq!(running.counted("flowgate_tokens_total", &[of_chat, "direction=\"output\""]), TOKENS.1 as usize, "{door:?}");
        assert_eq!(running.counted("flowgate_first_event_seconds_count", &[&name]), usize::from(door.streaming), "{door:?}");
        assert_eq!(running.counted("flowgate_overhead_seconds_count", &[&name]), 1, "{door:?}");
        assert_eq!(running.counted(errors, &[]), 0, "{door:?}");

        door.say(&running, "chat", "fail").await.unwrap_err();
        settled(&running, 2).await;
        assert_eq!(running.counted(errors, &[&name, of_chat, "reason=\"PROVIDER_FAILED\"", "origin=\"provider\""]), 1, "{door:?}");

        door.ask(&running, "nothing").await.unwrap_err();
        settled(&running, 3).await;
        let reason = if door.way == Way::Own { "reason=\"CALLER_UNKNOWN_PATH\"" } else { "reason=\"CALLER_ENDPOINT_NOT_FOUND\"" };
        assert_eq!(running.counted(errors, &["endpoint=\"\"", reason, "origin=\"caller\""]), 1, "{door:?}");

        if door.streaming {
            door.say(&running, "chat", "break").await.unwrap_err();
            let mut stream = door.open_saying(&running, "chat", "wait").await.unwrap();
            next_text(&mut stream).await.unwrap();
            assert_eq!(running.in_flight(), 1, "{door:?}");
        } else {
            upstream.forget_calls();
            let mut call = Box::pin(door.say(&running, "chat", "wait"));
            tokio::select! {
                told = &mut call => panic!("{door:?}: {told:?}"),
                () = upstream.called() => {}
            }
        }
        let broken = usize::from(door.streaming);
        settled(&running, 4 + broken).await;
        assert_eq!(running.counted(errors, &[&name, of_chat, "reason=\"PROVIDER_STREAM_CUT\""]), broken, "{door:?}");
        assert_eq!(running.counted(errors, &[&name, of_chat, "reason=\"CALLER_CANCELLED\"", "origin=\"caller\""]), 1, "{door:?}");
        assert_eq!(running.counted("flowgate_calls_total", &["outcome=\"ok\""]), 1, "{door:?}");
    }
}

#[tokio::test]
async fn predictions_are_counted_at_every_door() {
    let upstream = upstream().await;
    let running = gateway(&upstream.url).await;
    let mut streams = 0;
    for (door, calls) in predict::DOORS.into_iter().zip(1..) {
        door.ask(&running, "iris").await.unwrap();
        // A stream of predictions counts beside its one request, and as none.
        streams += usize::from(door == predict::PredictDoor::GrpcStream);
        settled(&running, calls + streams).await;
        let labels = ["endpoint=\"iris\"", "task=\"prediction\""];
        assert_eq!(running.counted("flowgate_calls_total", &[&labels[..], &["outcome=\"ok\""]].concat()), calls, "{door:?}");
        assert_eq!(running.counted("flowgate_call_duration_seconds_count", &labels), calls, "{door:?}");
        assert_eq!(running.counted("flowgate_calls_total", &["endpoint=\"\"", "task=\"stream\""]), streams, "{door:?}");
    }
    assert_eq!(running.counted("flowgate_calls_total", &["door=\"mlflow\""]), 3);
    assert_eq!(running.counted("flowgate_errors_total", &[]), 0);
}

#[tokio::test]
async fn refusals_before_routing_count_too() {
    let upstream = upstream().await;
    let keys = "identity: { keys: [{ name: app, key: fg-1 }] }\nmax_request_bytes: 1KiB\n";
    let running = Running::start(&format!("{keys}{}", config(&[chat_endpoint(&upstream.url, "")]))).await;
    let post = async |path: &str, key: &str, body: String| {
        let request = running.http().post(running.url(path)).header("x-api-key", key).header("content-type", "application/json");
        request.body(body).send().await.unwrap().bytes().await.unwrap();
    };
    post("/v1/chat/completions", "wrong", "{}".to_owned()).await;
    post("/v1/chat/completions", "fg-1", "{".to_owned()).await;
    post("/v1/chat/completions", "fg-1", "a".repeat(5000)).await;
    post("/v1/endpoints/chat:chat", "fg-1", "{}".to_owned()).await;
    post("/nothing", "fg-1", "{}".to_owned()).await;
    post("/health", "fg-1", "{}".to_owned()).await;
    running.client().chat(doors::chat("chat", "hi")).await.unwrap_err();
    settled(&running, 7).await;
    for (door, reason, count) in [
        ("openai", "CALLER_UNAUTHENTICATED", 1),
        ("openai", "CALLER_INVALID_REQUEST", 1),
        ("openai", "CALLER_TOO_LARGE", 1),
        ("json", "CALLER_INVALID_REQUEST", 1),
        ("http", "CALLER_UNKNOWN_PATH", 1),
        ("http", "CALLER_METHOD_NOT_ALLOWED", 1),
        ("grpc", "CALLER_UNAUTHENTICATED", 1),
    ] {
        let labels = [format!("door=\"{door}\""), format!("reason=\"{reason}\"")];
        assert_eq!(running.counted("flowgate_errors_total", &[&labels[0], &labels[1]]), count, "{door} {reason}");
    }
}

#[tokio::test]
async fn a_refused_request_is_counted_once_at_every_door() {
    let upstream = upstream().await;
    let endpoints = config(&[chat_endpoint(&upstream.url, "")]);
    for (head, prompt, reason) in [
        ("max_request_bytes: '1000'\n", 1000, "CALLER_TOO_LARGE"),
        ("identity: { keys: [{ name: app, key: fg-1 }] }\n", 1, "CALLER_UNAUTHENTICATED"),
    ] {
        let running = Running::start(&format!("{head}{endpoints}")).await;
        for (door, calls) in doors::doors(Task::Chat).into_iter().zip(1..) {
            door.say(&running, "chat", &"x".repeat(prompt)).await.unwrap_err();
            settled(&running, calls).await;
            let reason = format!("reason=\"{reason}\"");
            assert_eq!(running.counted("flowgate_errors_total", &[&reason, "origin=\"caller\""]), calls, "{door:?}");
        }
    }
    assert!(upstream.seen().is_empty());
}

/// Endpoints that nobody has, and paths, must not become labels: anyone could fill memory with them.
#[tokio::test]
async fn labels_come_from_the_file_and_not_from_callers() {
    let upstream = upstream().await;
    let running = gateway(&upstream.url).await;
    for n in 0..20 {
        for door in doors::doors(Task::Chat).into_iter().filter(|door| !door.streaming) {
            door.ask(&running, &format!("invented-{n}")).await.unwrap_err();
        }
        running.http().get(running.url(&format!("/invented-{n}"))).send().await.unwrap();
    }
    let page = running.metrics().await;
    assert!(!page.contains("invented"), "{page}");
    assert!(page.contains("# TYPE flowgate_calls counter") && page.ends_with("# EOF\n"), "{page}");
}
