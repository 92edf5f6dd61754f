//! Who of several deployments is called.

use crate::{
    doors::{Task, doors},
    fake::Fake,
    gateway::Running,
    speech,
};

/// An item of `deployments:` before an LLM.
fn llm(alias: &str, weight: u32, url: &str) -> String {
    let model = format!("{{ provider: openai, name: gpt-x, config: {{ api_key: k, api_base: \"{url}/v1\" }} }}");
    format!("      - {{ alias: {alias}, weight: {weight}, model: {model} }}\n")
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
async fn weights_of_nothing_everywhere_say_so() {
    let fake = Fake::start(speech::llm).await;
    let config = split("llm/v1/chat", &[llm("a", 0, &fake.url), llm("b", 0, &fake.url)]);
    let sources = [flowgate_server::config::Source { name: "split.yaml".to_owned(), text: config.clone() }];
    let loaded = flowgate_server::config::parse(&sources, &flowgate_server::config::Process, Default::default());
    if loaded.is_ok() {
        let running = Running::start(&config).await;
        for door in doors(Task::Chat) {
            assert_eq!(door.ask(&running, "split").await.unwrap_err().reason, "GATEWAY_NOT_SERVING", "{door:?}");
        }
    }
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn a_deployment_that_does_not_serve_is_passed_over() {
    let fake = Fake::start(speech::model).await;
    let deployments = [
        "      - { alias: later, weight: 99, model: { provider: mlflow, uri: 'models:/x/1' } }\n".to_owned(),
        format!("      - {{ alias: now, weight: 1, model: {{ provider: mlflow, url: \"{}\" }} }}\n", fake.url),
    ];
    let running = Running::start(&split("mlflow/predict", &deployments)).await;
    for calls in 1..=20 {
        let response = running.post("/endpoints/split/invocations", r#"{"instances": [[1]]}"#).await;
        assert_eq!(response.status(), 200);
        assert_eq!(fake.seen().len(), calls);
    }
}
