//! The document keeps its word, and the native paths take JSON as people write it.

use serde_json::{Value, json};

use crate::{fake::Fake, gateway::Running, speech};

const MOCKS: &str = "
endpoints:
  - { name: chat, endpoint_type: llm/v1/chat, model: { provider: mock } }
  - { name: complete, endpoint_type: llm/v1/completions, model: { provider: mock } }
  - { name: embed, endpoint_type: llm/v1/embeddings, model: { provider: mock } }
  - { name: predict, endpoint_type: mlflow/predict, model: { provider: mock } }
";

/// The endpoint and the body that a path takes.
fn question(path: &str) -> (&'static str, Value) {
    let native = path.contains(':');
    match path {
        _ if path.contains("hat") => {
            let message = if native { json!({"text": "hi"}) } else { json!({"role": "user", "content": "hi"}) };
            ("chat", json!({"messages": [message]}))
        }
        _ if path.contains("omplet") => ("complete", if native { json!({"prompts": ["hi"]}) } else { json!({"prompt": "hi"}) }),
        _ if path.contains("embed") => ("embed", if native { json!({"inputs": ["hi"]}) } else { json!({"input": "hi"}) }),
        _ => ("predict", json!({"instances": [[1, 2]]})),
    }
}

async fn operations(running: &Running) -> Vec<(http::Method, String)> {
    let document: Value = running.http().get(running.url("/openapi.json")).send().await.unwrap().json().await.unwrap();
    let paths = document["paths"].as_object().unwrap();
    let of = |(path, item): (&String, &Value)| {
        let verbs = item.as_object().unwrap().keys().map(|verb| verb.to_uppercase().parse().unwrap()).collect::<Vec<_>>();
        verbs.into_iter().map(|verb| (verb, path.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
}

#[tokio::test]
async fn everything_that_is_documented_answers() {
    let running = Running::start(MOCKS).await;
    let operations = operations(&running).await;
    assert!(operations.len() >= 20, "{operations:?}");
    for (method, template) in operations {
        let (endpoint, mut body) = question(&template);
        if template.starts_with("/v1/") && !template.contains('{') {
            body["model"] = endpoint.into();
        }
        let path = template.replace("{endpoint}", endpoint);
        let request = running.http().request(method.clone(), running.url(&path)).header("content-type", "application/json");
        let response = request.body(if method == http::Method::POST { body.to_string() } else { String::new() }).send().await.unwrap();
        let status = response.status();
        assert_eq!(status, 200, "{method} {path}: {}", response.text().await.unwrap());
        let refused = running.http().delete(running.url(&path)).send().await.unwrap();
        assert_eq!(refused.status(), 405, "{path}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let running = Running::start(MOCKS).await;
    for path in ["/", "/v1", "/v2/chat/completions", "/v1/endpoints/chat:steal", "/v1/endpoints/chat/more", "/own/chat", "/metrics"] {
        let response = running.post(path, "{}").await;
        assert_eq!(response.status(), 404, "{path}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["reason"], "CALLER_UNKNOWN_PATH", "{path}");
    }
    for path in ["/v1/endpoints/nobody:chat", "/llm/v1/chat/nobody", "/endpoints/nobody/invocations"] {
        let (_, body) = question(path);
        let response = running.post(path, body.to_string()).await;
        assert_eq!(response.status(), 404, "{path}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["reason"], "CALLER_ENDPOINT_NOT_FOUND", "{path}");
    }
}

#[tokio::test]
async fn bad_json_is_refused_with_its_place() {
    let running = Running::start(MOCKS).await;
    for (method, template) in operations(&running).await {
        let endpoint = question(&template).0;
        // The scoring server reads predictions itself.
        if method != http::Method::POST || (endpoint == "predict" && !template.contains(':')) {
            continue;
        }
        let path = template.replace("{endpoint}", endpoint);
        let response = running.post(&path, "{\n  : }").await;
        assert_eq!(response.status(), 400, "{path}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["reason"], "CALLER_INVALID_REQUEST", "{path}");
        assert!(body["detail"].as_str().unwrap().contains("line 2 column 3"), "{path}: {body}");
    }
}

#[tokio::test]
async fn both_spellings_arrive_and_the_path_names_the_endpoint() {
    let fake = Fake::start(speech::llm).await;
    let running = Running::start(&speech::config(&[speech::chat_endpoint(&fake.url, "")])).await;
    for body in [
        json!({"messages": [{"text": "hi"}], "max_tokens": 5, "top_p": 0.5}),
        json!({"messages": [{"text": "hi"}], "maxTokens": 5, "topP": 0.5}),
        json!({"messages": [{"text": "hi"}], "max_tokens": 5, "topP": 0.5, "endpoint": "nobody"}),
    ] {
        for verb in ["chat", "streamChat"] {
            let response = running.post(&format!("/v1/endpoints/chat:{verb}"), body.to_string()).await;
            assert_eq!(response.status(), 200, "{body}");
            response.bytes().await.unwrap();
            let sent = fake.last().json();
            let most = if sent["max_tokens"].is_null() { &sent["max_completion_tokens"] } else { &sent["max_tokens"] };
            assert_eq!((most, &sent["top_p"]), (&json!(5), &json!(0.5)), "{body}");
        }
    }
    let body = json!({"model": "nobody", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(running.post("/llm/v1/chat/chat", body.to_string()).await.status(), 400, "OpenAI's body must agree with the path");
    let body = json!({"messages": [{"text": "hi"}], "no_such_field": 1});
    assert_eq!(running.post("/v1/endpoints/chat:chat", body.to_string()).await.status(), 400);
}

#[tokio::test]
async fn endpoints_are_listed_in_pages() {
    let running = Running::start(MOCKS).await;
    let get = async |query: &str| -> (u16, Value) {
        let response = running.http().get(running.url(&format!("/v1/endpoints{query}"))).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    };
    for (size, token) in [("page_size", "page_token"), ("pageSize", "pageToken")] {
        for (most, pages) in [(1, 4), (3, 2), (4, 1), (100, 1)] {
            let (mut names, mut next, mut seen) = (Vec::new(), String::new(), 0);
            loop {
                let (status, page) = get(&format!("?{size}={most}&{token}={next}")).await;
                assert_eq!(status, 200, "{page}");
                let endpoints = page["endpoints"].as_array().unwrap();
                names.extend(endpoints.iter().map(|endpoint| endpoint["name"].as_str().unwrap().to_owned()));
                next = page["next_page_token"].as_str().unwrap_or_default().to_owned();
                seen += 1;
                if next.is_empty() {
                    break;
                }
            }
            assert_eq!((names, seen), (["chat", "complete", "embed", "predict"].map(str::to_owned).to_vec(), pages), "{size}={most}");
        }
    }
    for query in ["?page_size=many", "?page_sise=1", "?page_size=-1"] {
        assert_eq!(get(query).await.0, 400, "{query}");
    }
}
