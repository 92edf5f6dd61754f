//! Golden fixtures of the dialects, and where their bodies go.

use super::{DATABRICKS, INVOCATIONS};
use crate::{
    dialect::{
        Dialect, Quirks, Target,
        golden::{Case, Suite, ask, checks, request_from, target},
    },
    event::{Payload, Protocol, Task},
};

static SUITE: Suite = Suite { dialect: &DATABRICKS, folder: "databricks", target: target_of };
checks!(SUITE, Embed);

static QUIRKS: Quirks = Quirks { max_tokens_field: "max_tokens", ..Quirks::NONE };

fn target_of(case: &Case) -> Target {
    let (url, model) = (case.url_or("https://adb-1.azuredatabricks.net"), case.model_or("databricks-claude-sonnet-4"));
    Target { settings: case.settings(&["api"]), quirks: &QUIRKS, ..target("databricks", url, model) }
}

fn uri(dialect: &dyn Dialect, task: Task, model: &str, url: &str) -> String {
    let json: &[u8] = match task {
        Task::Embed => br#"{"inputs":["a"]}"#,
        Task::Predict => br#"{"instances":[1]}"#,
        _ => br#"{"messages":[{"text":"Hi"}]}"#,
    };
    let payload = Payload::typed_only(request_from(task, json));
    let target = target_of(&Case { model: model.to_owned(), url: url.to_owned(), ..Case::default() });
    dialect.encode(&ask(task, &payload), &target).unwrap().uri().to_string()
}

#[test]
fn the_name_of_a_model_tells_where_it_is_served() {
    let at = |model, url| uri(&DATABRICKS, Task::Chat, model, url);
    assert_eq!(at("m.v1", "https://h"), "https://h/serving-endpoints/chat/completions");
    assert_eq!(at("main.ai.m", "https://h/"), "https://h/ai-gateway/mlflow/v1/chat/completions");
    assert_eq!(at("main.ai.m", "https://h/serving-endpoints"), "https://h/serving-endpoints/chat/completions");
    assert_eq!(at("m", "https://h/ai-gateway/mlflow/v1/"), "https://h/ai-gateway/mlflow/v1/chat/completions");
    assert_eq!(uri(&DATABRICKS, Task::Embed, "main.ai.m", "https://h/ai-gateway"), "https://h/ai-gateway/mlflow/v1/embeddings");
}

#[test]
fn predictions_go_to_a_serving_endpoint() {
    let at = |url| uri(&INVOCATIONS, Task::Predict, "my model", url);
    let whole = "https://h/serving-endpoints/my%20model/invocations";
    assert_eq!(at("https://h"), whole);
    assert_eq!(at("https://h/serving-endpoints/"), whole);
    assert_eq!(at("https://h/serving-endpoints/other/invocations"), "https://h/serving-endpoints/other/invocations");
    assert_eq!(INVOCATIONS.protocol(Task::Predict), Some(Protocol::MlflowScoring));
    assert_eq!(INVOCATIONS.protocol(Task::Chat), None);
}

#[test]
fn llm_tasks_only() {
    let payload = Payload::typed_only(request_from(Task::Predict, br#"{"instances":[1]}"#));
    assert!(DATABRICKS.encode(&ask(Task::Predict, &payload), &target_of(&Case::default())).is_err());
}
