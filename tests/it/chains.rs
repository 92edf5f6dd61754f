//! Endpoints made of steps: what each step is asked, what the caller gets, and what is told when a step fails.

use std::time::Duration;

use flowgate_client::CallOptions;
use flowgate_server::{
    config::{Config, Step},
    expression::Template,
};
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use crate::{
    doors::{self, Door, Task, Way, next_text},
    fake::{Answer, Fake, pieces, until},
    gateway::Running,
    predict,
    speech::{PIECES, TEXT, TOKENS, chat_endpoint, chunk, config, endpoint, llm, model, predict_endpoint},
};

/// The name of an endpoint, and its steps with their inputs.
type Chains = &'static [(&'static str, &'static [(&'static str, Option<&'static str>)])];

/// What a predict step is asked, whoever calls.
const ROW: Option<&str> = Some(r#"{"instances": [[1.5]]}"#);
const RATED: &[(&str, Option<&str>)] = &[("rate", ROW), ("chat", Some("rated {{ steps.rate.predictions[0] }}"))];

/// Makes these endpoints chains.
fn chained(config: &mut Config, chains: Chains) {
    for (name, steps) in chains {
        let endpoint = config.endpoints.iter_mut().find(|endpoint| endpoint.name == *name).unwrap();
        endpoint.deployments.clear();
        let step = |(endpoint, input): &(&str, Option<&str>)| Step {
            name: (*endpoint).to_owned(),
            endpoint: (*endpoint).to_owned(),
            input: input.map(|input| Template::compile(input).unwrap()),
        };
        endpoint.routing.steps = steps.iter().map(step).collect();
    }
}

/// Chains of the endpoints `chat` and `text` before one server, and of `rate` and `again` before another. `more`: further lines of each chain.
async fn gateway(llm: &Fake, rate: &Fake, more: &str, chains: Chains) -> Running {
    let chain = |(name, steps): &(&str, &[(&str, Option<&str>)])| {
        let task = match steps.last().unwrap().0 {
            "rate" | "again" => "mlflow/predict",
            "text" => "llm/v1/completions",
            _ => "llm/v1/chat",
        };
        endpoint(name, task, &llm.url, more)
    };
    let mut endpoints: Vec<_> = chains.iter().map(chain).collect();
    endpoints.extend([chat_endpoint(&llm.url, ""), endpoint("text", "llm/v1/completions", &llm.url, "")]);
    endpoints.extend([predict_endpoint("rate", &rate.url, ""), predict_endpoint("again", &rate.url, "")]);
    Running::start_with(&format!("default_endpoint: {}\n{}", chains[0].0, config(&endpoints)), |config| chained(config, chains)).await
}

/// Every door of a task, and those of its counterpart that name what they want.
fn all_doors(task: Task) -> Vec<Door> {
    let other = if task == Task::Chat { Task::Complete } else { Task::Chat };
    let mut all = doors::doors(task);
    all.extend(doors::doors(other).into_iter().filter(|door| !matches!(door.way, Way::Invocations | Way::Own)));
    all
}

#[tokio::test]
async fn a_prediction_goes_into_a_conversation_at_every_door() {
    let (llm, rate) = (Fake::start(llm).await, Fake::start(model).await);
    let running = gateway(&llm, &rate, "", &[("both", RATED)]).await;
    for (count, door) in (1..).zip(all_doors(Task::Chat)) {
        let told = door.ask(&running, "both").await.unwrap();
        assert_eq!((told.text.as_str(), told.tokens), (TEXT, Some(TOKENS)), "{door:?}");
        assert_eq!((llm.seen().len(), rate.seen().len()), (count, count), "{door:?}");
        assert_eq!(rate.last().json(), json!({"instances": [[1.5]]}), "{door:?}");
        let asked = llm.last().json();
        assert_eq!(asked["messages"], json!([{"role": "user", "content": "rated 1"}]), "{door:?}");
        assert_eq!(asked["stream"] == true, door.streaming, "{door:?}");
    }
    let call = running.client().chat(doors::chat("both", "hi")).await.unwrap().call.unwrap();
    assert_eq!((call.attempts, call.deployment.split_once('.').unwrap().0), (2, "chat"));
}

#[tokio::test]
async fn the_last_step_streams_and_all_steps_are_counted() {
    let (upstream, rate) = (Fake::start(llm).await, Fake::start(model).await);
    let steps: Chains = &[("both", &[("text", None), ("chat", None)]), ("back", &[("chat", None), ("text", None)])];
    let running = gateway(&upstream, &rate, "", steps).await;
    let mut calls = 0;
    for (name, task) in [("both", Task::Chat), ("back", Task::Complete)] {
        for door in all_doors(task) {
            let told = door.ask(&running, name).await.unwrap();
            assert_eq!((told.text.as_str(), told.tokens), (TEXT, Some(TOKENS)), "{door:?}");
            calls += 1;
            let seen = upstream.seen();
            let [first, last] = seen.last_chunk().unwrap();
            assert_eq!((first.wants_stream(), last.wants_stream()), (false, door.streaming), "{door:?}");
            let text = if name == "both" { &last.json()["messages"][0]["content"] } else { &last.json()["prompt"] };
            assert_eq!(*text, TEXT, "{door:?}");
            assert!(first.text().contains("hi"), "{door:?}");
        }
    }
    until("the end of all calls", || running.in_flight() == 0).await;
    let counted = |direction: &str| running.counted("flowgate_tokens_total", &[&format!("direction=\"{direction}\"")]);
    assert_eq!((counted("input"), counted("output")), (calls * 2 * TOKENS.0 as usize, calls * 2 * TOKENS.1 as usize));
}

#[tokio::test]
async fn predictions_go_from_model_to_model_at_every_door() {
    // No whole numbers: the contract's are all of one kind, MLflow's are of two.
    let (llm, rate) = (Fake::start(llm).await, Fake::start(|_: &_| Answer::json(r#"{"predictions": [0.5, 2.5]}"#)).await);
    let running = gateway(&llm, &rate, "", &[("scores", &[("again", None), ("rate", None)])]).await;
    for door in predict::DOORS {
        assert_eq!(door.ask(&running, "scores").await.unwrap(), json!([0.5, 2.5]), "{door:?}");
        let seen = rate.seen();
        let [first, last] = seen.last_chunk().unwrap();
        assert_eq!((first.json(), last.json()), (json!({"instances": [[1.5]]}), json!({"inputs": [0.5, 2.5]})), "{door:?}");
    }
}

#[tokio::test]
async fn a_failing_step_is_named_at_every_door_and_what_follows_is_not_asked() {
    let limited = |_: &_| Answer::Whole { status: 429, headers: vec![("retry-after", "2".to_owned())], body: "{}".into() };
    let (llm, rate) = (Fake::start(llm).await, Fake::start(limited).await);
    let running =
        gateway(&llm, &rate, "", &[("both", &[("text", None), ("rate", None), ("chat", None)]), ("outer", &[("both", None)])]).await;
    for (count, door) in (1..).zip(all_doors(Task::Chat)) {
        let refusal = door.ask(&running, "both").await.unwrap_err();
        assert_eq!((refusal.reason.as_str(), refusal.retry_after), ("PROVIDER_RATE_LIMITED", Some(2)), "{door:?}: {refusal:?}");
        assert!(refusal.message.starts_with("step `rate`: "), "{door:?}: {refusal:?}");
        assert!(refusal.http.is_none_or(|status| status == 429), "{door:?}: {refusal:?}");
        assert_eq!((llm.seen().len(), rate.seen().len()), (count, count), "{door:?}");
    }
    let error = running.client().chat(doors::chat("outer", "hi")).await.unwrap_err();
    assert!(error.to_string().contains("step `both.rate`: "), "{error}");
}

#[tokio::test]
async fn a_fallback_serves_when_a_step_fails_and_may_be_a_chain_itself() {
    let limited = |_: &_| Answer::status(429, "{}");
    let (llm, rate) = (Fake::start(llm).await, Fake::start(limited).await);
    let chains: Chains = &[("both", RATED), ("plain", &[("text", None), ("chat", None)])];
    let endpoints = [
        endpoint("both", "llm/v1/chat", &llm.url, ""),
        endpoint("plain", "llm/v1/chat", &llm.url, ""),
        endpoint("text", "llm/v1/completions", &llm.url, ""),
        chat_endpoint(&llm.url, ""),
        predict_endpoint("rate", &rate.url, ""),
    ];
    let running = Running::start_with(&config(&endpoints), |config| {
        chained(config, chains);
        config.endpoints[0].routing.fallback = vec!["plain".to_owned()];
    })
    .await;
    for door in all_doors(Task::Chat) {
        assert_eq!(door.ask(&running, "both").await.unwrap().text, TEXT, "{door:?}");
    }
    let call = running.client().chat(doors::chat("both", "hi")).await.unwrap().call.unwrap();
    assert!(call.deployment.starts_with("plain.chat."), "{call:?}");
}

#[tokio::test]
async fn leaving_stops_the_step_that_runs() {
    let (upstream, mut rate) = (Fake::start(llm).await, Fake::start(|_: &_| Answer::Silence).await);
    let running = gateway(&upstream, &rate, "", &[("both", &[("text", None), ("rate", None), ("chat", None)])]).await;
    for door in doors::doors(Task::Chat) {
        let mut call = Box::pin(door.ask(&running, "both"));
        tokio::select! {
            told = &mut call => panic!("{door:?}: {told:?}"),
            () = rate.called() => {}
        }
        drop(call);
        rate.client_gone().await;
    }
    let calls = doors::doors(Task::Chat).len();
    let cancelled = || running.counted("flowgate_errors_total", &["reason=\"CALLER_CANCELLED\""]);
    until("the end of all calls", || cancelled() == calls).await;
    assert_eq!(upstream.seen().len(), calls, "no step came after");
}

#[tokio::test]
async fn leaving_a_stream_stops_the_last_step() {
    let mut upstream = Fake::start(|seen| {
        if !seen.wants_stream() {
            return llm(seen);
        }
        let first = chunk(&json!({"content": PIECES[0]}));
        Answer::sse(pieces(&[first]).chain(stream::pending()))
    })
    .await;
    let rate = Fake::start(model).await;
    let running = gateway(&upstream, &rate, "", &[("both", &[("text", None), ("chat", None)])]).await;
    for door in doors::streaming(Task::Chat) {
        let mut stream = door.open(&running, "both").await.unwrap();
        assert_eq!(next_text(&mut stream).await.unwrap(), PIECES[0], "{door:?}");
        drop(stream);
        upstream.client_gone().await;
    }
}

#[tokio::test]
async fn one_time_is_for_all_steps() {
    for (total, call) in [("", CallOptions::new().deadline(Duration::from_millis(200))), ("timeouts: { total: 200ms }", CallOptions::new())]
    {
        let (upstream, mut rate) = (Fake::start(llm).await, Fake::start(|_: &_| Answer::Silence).await);
        let running = gateway(&upstream, &rate, total, &[("both", &[("text", None), ("rate", None), ("chat", None)])]).await;
        let error = running.client().with(&call).chat(doors::chat("both", "hi")).await.unwrap_err();
        rate.client_gone().await;
        assert_eq!(error.code(), tonic::Code::DeadlineExceeded);
        let told = rate.last().headers["x-request-timeout"].to_str().unwrap().to_owned();
        assert!(told.strip_suffix("ms").unwrap().parse::<u64>().unwrap() <= 200, "{told}");
        assert_eq!(upstream.seen().len(), 1, "{total}: no step came after");
    }
}
