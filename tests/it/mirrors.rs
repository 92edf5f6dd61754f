//! Copies of calls at another endpoint: they see what was asked, callers see nothing of them, and the answers are compared.

use flowgate_server::config::{Config, Mirror};
use futures_util::StreamExt as _;
use serde_json::json;

use crate::{
    doors::{self, Task, next_text},
    fake::{Answer, Fake, pieces, until},
    gateway::Running,
    predict::{self, PredictDoor},
    speech::{PIECES, TEXT, chat_endpoint, chunk, config, endpoint, finish, llm, predict_endpoint},
};

/// Endpoints of all tasks, each with a mirror of the same task before another server.
async fn gateway(primary: &str, mirror: &str) -> Running {
    let typed = |endpoint: String| endpoint.replace("name: gpt-x,", "name: gpt-x, parameters: { user: u },");
    let pairs = [
        (chat_endpoint(primary, ""), endpoint("shadow-chat", "llm/v1/chat", mirror, "")),
        (endpoint("embed", "llm/v1/embeddings", primary, ""), endpoint("shadow-embed", "llm/v1/embeddings", mirror, "")),
        (predict_endpoint("iris", primary, ""), predict_endpoint("shadow-iris", mirror, "")),
        // Carried in one lane here and in the other there.
        (typed(endpoint("mixed", "llm/v1/chat", primary, "")), endpoint("shadow-mixed", "llm/v1/chat", mirror, "")),
    ];
    let yaml = config(&pairs.map(|(own, shadow)| own + &shadow));
    Running::start_with(&yaml, |config: &mut Config| {
        for endpoint in config.endpoints.iter_mut().filter(|endpoint| !endpoint.name.starts_with("shadow-")) {
            endpoint.routing.mirrors = vec![Mirror { endpoint: format!("shadow-{}", endpoint.name), share: 1.0 }];
        }
    })
    .await
}

const OUTCOMES: [&str; 4] = ["ok", "error", "dropped", "unread"];

/// Waits until so many copies are over; how they ended.
async fn outcomes(running: &Running, copies: usize) -> [usize; 4] {
    until("the end of all copies", || running.counted("flowgate_mirror_calls_total", &[]) >= copies).await;
    OUTCOMES.map(|outcome| running.counted("flowgate_mirror_calls_total", &[&format!("outcome=\"{outcome}\"")]))
}

/// The sum of what a histogram observed, with these labels.
fn sum(running: &Running, name: &str, labels: &str) -> f64 {
    let page = running.gateway.metrics().render();
    let lines = page.lines().filter(|line| line.starts_with(&format!("{name}_sum")) && line.contains(labels));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[tokio::test]
async fn a_mirror_is_asked_the_same_and_its_texts_are_compared() {
    let primary = Fake::start(llm).await;
    // One character less, and cut short.
    let mirror = Fake::start(|seen| {
        let text = TEXT.strip_suffix('d').unwrap();
        let choice = |field: &str| json!({"choices": [{"index": 0, field: {"content": text}, "finish_reason": "length"}]}).to_string();
        if seen.wants_stream() { Answer::events(&[choice("delta"), "[DONE]".to_owned()]) } else { Answer::json(choice("message")) }
    })
    .await;
    let running = gateway(&primary.url, &mirror.url).await;
    let mut copies = 0;
    for endpoint in ["chat", "mixed"] {
        for door in doors::doors(Task::Chat) {
            assert_eq!(door.ask(&running, endpoint).await.unwrap().text, TEXT, "{door:?}");
            copies += 1;
            assert_eq!(outcomes(&running, copies).await, [copies, 0, 0, 0], "{door:?} {endpoint}");
            let (mut asked, copied) = (primary.last().json(), mirror.last().json());
            asked.as_object_mut().unwrap().retain(|key, _| key != "user");
            assert_eq!(asked, copied, "{door:?}");
            if door.way == doors::Way::OpenAi && endpoint == "chat" {
                assert_eq!(primary.last().body, mirror.last().body, "{door:?}");
            }
        }
    }
    let calls = copies / 2;
    for endpoint in ["endpoint=\"chat\",mirror=\"shadow-chat\"", "endpoint=\"mixed\",mirror=\"shadow-mixed\""] {
        let of = |name: &str, label: &str| running.counted(name, &[endpoint, label]);
        assert_eq!(of("flowgate_mirror_mismatches_total", "finish_reason"), calls);
        assert_eq!(of("flowgate_mirror_mismatches_total", "shape"), 0);
        assert_eq!(of("flowgate_mirror_length_difference_characters_bucket", "le=\"1.0\""), calls);
        assert_eq!(of("flowgate_mirror_length_difference_characters_bucket", "le=\"0.0\""), 0);
        assert_eq!(of("flowgate_mirror_latency_seconds_count", "side=\"mirror\""), calls);
    }
}

#[tokio::test]
async fn predictions_and_vectors_drift() {
    let vectors = |x: f64| Answer::json(json!({"data": [{"index": 0, "embedding": [x, 1.0]}]}).to_string());
    let primary = Fake::start(move |seen| match seen.path.as_str() {
        "/invocations" => Answer::json(r#"{"predictions": [1, 2.5]}"#),
        _ => vectors(0.0),
    })
    .await;
    let mirror = Fake::start(move |seen| match seen.path.as_str() {
        "/invocations" => Answer::json(r#"{"predictions": [1, 2.0]}"#),
        _ => vectors(1e9),
    })
    .await;
    let running = gateway(&primary.url, &mirror.url).await;
    let doors = predict::DOORS.into_iter().filter(|door| *door != PredictDoor::Default);
    let mut calls = 0;
    for door in doors {
        door.ask(&running, "iris").await.unwrap();
        calls += 1;
        assert_eq!(outcomes(&running, calls).await, [calls, 0, 0, 0], "{door:?}");
    }
    running.post("/v1/embeddings", r#"{"model":"embed","input":"a"}"#).await;
    assert_eq!(outcomes(&running, calls + 1).await, [calls + 1, 0, 0, 0]);
    let calls = f64::from(u32::try_from(calls).unwrap());
    for (measure, wanted) in [("absolute", 0.5 * calls), ("relative", 0.2 * calls), ("cosine", 1.0)] {
        let told = sum(&running, "flowgate_mirror_drift", &format!("measure=\"{measure}\""));
        assert!((told - wanted).abs() < 1e-6, "{measure}: {told}");
    }
}

#[tokio::test]
async fn callers_see_the_same_bytes_whatever_becomes_of_the_copy() {
    let odd = "{\"choices\" : [{\"message\":{\"content\":\"a\"}, \"x\":1.50}]}\n";
    let frames = format!("data: {}\r\n\r\ndata: [DONE]\n\n", chunk(&json!({"content": "a"})));
    let primary = {
        let frames = frames.clone();
        Fake::start(move |seen| match seen.wants_stream() {
            true => Answer::of_type(200, "text/event-stream", frames.clone()),
            false => Answer::json(odd),
        })
        .await
    };
    let silent = Fake::start(|_| Answer::Silence).await;
    let failing = Fake::start(|_| Answer::status(500, "{}")).await;
    let refusing = Fake::start(|_| Answer::status(400, "{}")).await;
    let babbling = Fake::start(|_| Answer::json("{\"choices\": 7")).await;
    let nobody = crate::fake::Nobody::new();
    for mirror in [&silent.url, &failing.url, &refusing.url, &babbling.url, &nobody.url] {
        let running = gateway(&primary.url, mirror).await;
        for (stream, wanted) in [(false, odd), (true, &frames)] {
            let body = json!({"model": "chat", "messages": [{"role": "user", "content": "hi"}], "stream": stream});
            let response = running.post("/v1/chat/completions", body.to_string()).await;
            assert_eq!(response.status(), 200);
            assert_eq!(response.text().await.unwrap(), *wanted);
        }
        until("the end of both calls", || running.in_flight() == 0).await;
        assert_eq!(running.counted("flowgate_errors_total", &[]), 0);
        if mirror != &silent.url {
            assert_eq!(outcomes(&running, 2).await, [0, 2, 0, 0], "{mirror}");
        }
    }
}

#[tokio::test]
async fn a_copy_goes_on_when_its_caller_leaves() {
    let mut primary =
        Fake::start(|_| Answer::sse(pieces(&[chunk(&json!({"content": PIECES[0]}))]).chain(futures_util::stream::pending()))).await;
    let gate = crate::fake::Gate::new();
    let mirror = {
        let gate = gate.clone();
        let rest = move || pieces(&[finish(), "[DONE]".to_owned()]);
        Fake::start(move |_| Answer::sse(pieces(&[chunk(&json!({"content": PIECES[0]}))]).chain(gate.before(rest())))).await
    };
    let running = gateway(&primary.url, &mirror.url).await;
    let doors = doors::streaming(Task::Chat);
    for (copies, door) in doors.iter().enumerate() {
        let mut stream = door.open(&running, "chat").await.unwrap();
        assert_eq!(next_text(&mut stream).await.unwrap(), PIECES[0], "{door:?}");
        drop(stream);
        primary.client_gone().await;
        until("the end of the call", || running.in_flight() == 0).await;
        assert_eq!(running.counted("flowgate_mirror_calls_total", &[]), copies, "{door:?}");
        gate.open();
        assert_eq!(outcomes(&running, copies + 1).await, [0, 0, 0, copies + 1], "{door:?}");
    }
}
