//! The access log: one line for each request, however it ends, and no secret in any line that is written.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{LazyLock, Mutex, Once},
};

use futures_util::StreamExt as _;
use serde_json::json;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

use crate::{
    doors::{self, Door, Task, Way, next_text},
    fake::{Answer, Fake, pieces, until},
    gateway::Running,
    speech::{OPERATOR_KEY, PIECES, TOKENS, chat_endpoint, chunk, config},
};

/// What the process writes, tests of other files included: the target of each line and its fields.
static LINES: LazyLock<Mutex<Vec<(String, Line)>>> = LazyLock::new(Mutex::default);
static COLLECT: Once = Once::new();

#[derive(Clone, Debug, Default)]
struct Line(BTreeMap<&'static str, String>);

struct Collector;

impl<S: Subscriber> Layer<S> for Collector {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        LINES.lock().unwrap().push((event.metadata().target().to_owned(), line));
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl Line {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

fn collect() {
    let only_ours = tracing_subscriber::filter::filter_fn(|metadata| {
        metadata.is_event() && (metadata.target() == "access" || metadata.target().starts_with("flowgate"))
    });
    COLLECT.call_once(|| tracing_subscriber::registry().with(Collector.with_filter(only_ours)).init());
}

/// The access lines of a request.
fn lines_of(id: &str) -> Vec<Line> {
    let lines = LINES.lock().unwrap();
    lines.iter().filter(|(target, line)| target == "access" && line.get("request_id") == id).map(|(_, line)| line.clone()).collect()
}

/// The only access line of a request, once nothing is in flight.
async fn line_of(running: &Running, id: &str) -> Line {
    until("the line", || running.in_flight() == 0 && !lines_of(id).is_empty()).await;
    let lines = lines_of(id);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.into_iter().next().unwrap()
}

async fn upstream() -> Fake {
    Fake::start(|seen| match seen.text() {
        text if text.contains("refused") => {
            Answer::status(401, json!({"error": {"message": format!("bad key {OPERATOR_KEY}"), "type": "x"}}).to_string())
        }
        text if text.contains("endless") => {
            Answer::sse(pieces(&[chunk(&json!({"content": PIECES[0]}))]).chain(futures_util::stream::pending()))
        }
        _ => crate::speech::llm(seen),
    })
    .await
}

const KEYS: &str = "identity: { keys: [{ name: app, key: fg-caller-key }] }\n";

#[tokio::test]
async fn each_request_has_one_line_that_says_what_became_of_it() {
    collect();
    let upstream = upstream().await;
    let mut running = Running::start(&config(&[chat_endpoint(&upstream.url, "price: { input: 1, output: 2 }")])).await;
    for door in doors::doors(Task::Chat) {
        let id = format!("id-{:?}-{}", door.way, door.streaming);
        running.send_header("x-request-id", &id);
        door.say(&running, "chat", "a private question").await.unwrap();
        let line = line_of(&running, &id).await;
        let lane = if matches!(door.way, Way::Grpc | Way::GrpcWeb | Way::Native) { "typed" } else { "byte" };
        for (field, wanted) in [
            ("status", "200"),
            ("endpoint", "chat"),
            ("task", "chat"),
            ("principal", "anonymous"),
            ("deployment", "gpt-x"),
            ("provider", "openai"),
            ("lane", lane),
            ("attempts", "1"),
            ("input_tokens", &TOKENS.0.to_string()),
            ("output_tokens", &TOKENS.1.to_string()),
            ("cost_usd", "0.000013"),
            ("method", "POST"),
            ("path", &door.path("chat")),
            ("reason", ""),
        ] {
            assert_eq!(line.get(field), wanted, "{field} at {door:?}: {line:?}");
        }
        assert!(line.get("peer").starts_with("127.0.0.1:") && !line.get("ms").is_empty(), "{line:?}");

        let id = format!("{id}-failed");
        running.send_header("x-request-id", &id);
        door.say(&running, "chat", "refused").await.unwrap_err();
        let line = line_of(&running, &id).await;
        assert_eq!((line.get("reason"), line.get("upstream_status")), ("PROVIDER_CREDENTIAL_REJECTED", "401"), "{door:?}: {line:?}");

        if door.streaming {
            let id = format!("{id}-left");
            running.send_header("x-request-id", &id);
            let mut stream = door.open_saying(&running, "chat", "endless").await.unwrap();
            next_text(&mut stream).await.unwrap();
            drop(stream);
            let line = line_of(&running, &id).await;
            assert_eq!((line.get("reason"), line.get("status")), ("CALLER_CANCELLED", "200"), "{door:?}: {line:?}");
        }
    }
    for (_, line) in LINES.lock().unwrap().iter() {
        let line = format!("{line:?}");
        assert!(!line.contains("a private question") && !line.contains(OPERATOR_KEY), "{line}");
    }
}

#[tokio::test]
async fn refusals_have_a_line_too_and_no_line_holds_a_key() {
    collect();
    let upstream = upstream().await;
    let running = Running::start(&format!("{KEYS}{}", config(&[chat_endpoint(&upstream.url, "")]))).await;
    let door = Door { way: Way::OpenAi, task: Task::Chat, streaming: false };
    let body = door.body("chat", "hi").to_string();
    for (id, path, key, reason, status, principal) in [
        ("refusal-1", "/v1/chat/completions", "fg-wrong-key", "CALLER_UNAUTHENTICATED", "401", ""),
        ("refusal-2", "/nothing?api_key=fg-query-key", "fg-caller-key", "CALLER_UNKNOWN_PATH", "404", ""),
        ("refusal-3", "/llm/v1/chat/unknown", "fg-caller-key", "CALLER_ENDPOINT_NOT_FOUND", "404", "app"),
        ("refusal-4", "/v1/chat/completions", "fg-caller-key", "", "200", "app"),
    ] {
        let request = running.http().post(running.url(path)).header("x-api-key", key).header("x-request-id", id);
        let response = request.header("content-type", "application/json").body(body.clone()).send().await.unwrap();
        assert_eq!(response.headers()["x-request-id"], id);
        response.bytes().await.unwrap();
        let line = line_of(&running, id).await;
        assert_eq!((line.get("reason"), line.get("status"), line.get("principal")), (reason, status, principal), "{line:?}");
    }
    for (_, line) in LINES.lock().unwrap().iter() {
        let line = format!("{line:?}");
        for secret in ["fg-wrong-key", "fg-caller-key", "fg-query-key"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}

/// A stream of predictions has a line, and each of its requests one of its own.
#[tokio::test]
async fn each_request_of_a_stream_of_predictions_has_a_line() {
    collect();
    let upstream = Fake::start(crate::speech::model).await;
    let mut running = Running::start(&config(&[crate::speech::predict_endpoint("iris", &upstream.url, "")])).await;
    running.send_header("x-request-id", "many");
    let requests = ["iris", "nothing"].map(crate::predict::request);
    let mut answers = running.client().stream_predict(futures_util::stream::iter(requests)).await.unwrap();
    while let Some(answer) = answers.next().await {
        answer.unwrap();
    }
    for (id, reason, task, endpoint) in
        [("many", "", "stream", ""), ("many/0", "", "prediction", "iris"), ("many/1", "CALLER_ENDPOINT_NOT_FOUND", "", "")]
    {
        let line = line_of(&running, id).await;
        let told = (line.get("door"), line.get("reason"), line.get("task"), line.get("endpoint"));
        assert_eq!(told, ("grpc", reason, task, endpoint), "{line:?}");
    }
}

/// Only a proxy of the operator's may say who the client is.
#[tokio::test]
async fn the_peer_is_the_client_behind_a_trusted_proxy() {
    collect();
    let upstream = upstream().await;
    for (n, (trusted, wanted)) in [("127.0.0.0/8", "203.0.113.7"), ("10.0.0.0/8", "127.0.0.1")].into_iter().enumerate() {
        let running = Running::start(&format!("trusted_proxies: [{trusted}]\n{}", config(&[chat_endpoint(&upstream.url, "")]))).await;
        let id = format!("proxied-{n}");
        let request = running.http().get(running.url("/health")).header("x-request-id", &id);
        request.header("x-forwarded-for", "198.51.100.1, 203.0.113.7").send().await.unwrap().bytes().await.unwrap();
        let line = line_of(&running, &id).await;
        assert!(line.get("peer").starts_with(wanted), "{line:?}");
    }
}

/// An id that could forge a line, or fill one, is replaced.
#[tokio::test]
async fn an_id_unfit_for_a_line_is_replaced() {
    let upstream = upstream().await;
    let running = Running::start(&config(&[chat_endpoint(&upstream.url, "")])).await;
    for id in ["a b", "", &"x".repeat(129), "a\tb"] {
        let response = running.http().get(running.url("/health")).header("x-request-id", id).send().await.unwrap();
        assert_eq!(response.headers()["x-request-id"].len(), 36, "{id}");
    }
}
