//! Who of several deployments is called.

use crate::{
    doors::{Refusal, Task, doors},
    fake::Fake,
    gateway::Running,
    speech,
};

/// An item of `deployments:` before an LLM.
fn llm(alias: &str, weight: u32, url: &str) -> String {
    let model = format!("{{ provider: openai, name: gpt-x, config: {{ api_key: k, api_base: \"{url}/v1\" }} }}");
    format!("      - {{ alias: {alias}, weight: {weight}, model: {model} }}\n")
}

/// A predict deployment that this build does not serve.
fn later(weight: u32) -> String {
    format!("      - {{ alias: later, weight: {weight}, model: {{ provider: mlflow, uri: 'models:/x/1' }} }}\n")
}

/// A predict deployment before a scoring server.
fn now(weight: u32, url: &str) -> String {
    format!("      - {{ alias: now, weight: {weight}, model: {{ provider: mlflow, url: \"{url}\" }} }}\n")
}

fn split(task: &str, deployments: &[String]) -> String {
    let path = "path: /own/split";
    format!("endpoints:\n  - name: split\n    endpoint_type: {task}\n    {path}\n    deployments:\n{}", deployments.concat())
}

#[tokio::test]
async fn a_weight_of_nothing_gets_nothing() {
    let (a, b) = (Fake::start(speech::llm).await, Fake::start(speech::llm).await);
    for (weights, expected) in [((1, 0), "a"), ((0, 1), "b")] {
        let before = (a.seen().len(), b.seen().len());
        let deployments = [llm("a", weights.0, &a.url), llm("b", weights.1, &b.url)];
        let running = Running::start(&split("llm/v1/chat", &deployments)).await;
        let doors = doors(Task::Chat);
        for door in &doors {
            assert_eq!(door.ask(&running, "split").await.unwrap().text, speech::TEXT);
        }
        let answer = running.client().chat(crate::doors::chat("split", "hi")).await.unwrap();
        assert_eq!(answer.call.unwrap().deployment, expected);
        let calls = doors.len() + 1;
        let after = (a.seen().len() - before.0, b.seen().len() - before.1);
        assert_eq!(after, if expected == "a" { (calls, 0) } else { (0, calls) });
    }
}

#[tokio::test]
async fn a_weight_of_nothing_is_no_reserve() {
    let fake = Fake::start(speech::model).await;
    let running = Running::start(&split("mlflow/predict", &[later(1), now(0, &fake.url)])).await;
    let response = running.post("/own/split", r#"{"instances": [[1]]}"#).await;
    assert_eq!(Refusal::of_response(response).await.reason, "GATEWAY_NOT_SERVING");
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn a_deployment_that_does_not_serve_is_passed_over() {
    let fake = Fake::start(speech::model).await;
    let running = Running::start(&split("mlflow/predict", &[later(99), now(1, &fake.url)])).await;
    for calls in 1..=20 {
        let response = running.post("/endpoints/split/invocations", r#"{"instances": [[1]]}"#).await;
        assert_eq!(response.status(), 200);
        assert_eq!(fake.seen().len(), calls);
    }
}
