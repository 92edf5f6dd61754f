//! JSON over HTTP: every documented path answers as documented, and what is wrong with a request is told where it stands.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::{
    doors::{self, Refusal, Task, datas},
    fake::{Answer, Fake},
    gateway::Running,
    predict::{self, PredictDoor},
    speech::{chat_endpoint, config, endpoint, llm, predict_endpoint},
};

const MOCKS: &str = "endpoints:
  - { name: chat, endpoint_type: llm/v1/chat, path: /my/chat, description: Talks., tags: { team: ml }, model: { provider: mock, name: m } }
  - { name: text, endpoint_type: llm/v1/completions, model: { provider: mock, name: m } }
  - { name: embed, endpoint_type: llm/v1/embeddings, model: { provider: mock, name: m } }
  - { name: iris, endpoint_type: mlflow/predict, model: { provider: mock, name: m } }
";

/// The endpoint and the body for a path of the document.
fn question(path: &str) -> (&'static str, Value) {
    let chat = json!({"messages": [{"role": "user", "content": "hi there"}]});
    let with_model = |mut body: Value, model: &str| {
        body["model"] = model.into();
        body
    };
    let rows = json!({"instances": [[1, 2], [3, 4]]});
    match path {
        "/v1/chat/completions" => ("chat", with_model(chat, "chat")),
        "/v1/completions" => ("text", json!({"model": "text", "prompt": "hi there"})),
        "/v1/embeddings" => ("embed", json!({"model": "embed", "input": "hi there"})),
        "/llm/v1/chat/{endpoint}" => ("chat", chat),
        "/llm/v1/completions/{endpoint}" => ("text", json!({"prompt": "hi there"})),
        "/llm/v1/embeddings/{endpoint}" => ("embed", json!({"input": "hi there"})),
        "/v1/endpoints/{endpoint}:chat" | "/v1/endpoints/{endpoint}:streamChat" => ("chat", json!({"messages": [{"text": "hi there"}]})),
        "/v1/endpoints/{endpoint}:complete" | "/v1/endpoints/{endpoint}:streamComplete" => ("text", json!({"prompts": ["hi there"]})),
        "/v1/endpoints/{endpoint}:embed" => ("embed", json!({"inputs": ["hi there"]})),
        "/v1/endpoints/{endpoint}:predict" => ("iris", rows),
        "/endpoints/{endpoint}/invocations" | "/gateway/{endpoint}/invocations" | "/invocations" => ("iris", rows),
        path if path.ends_with("/infer") => {
            ("iris", json!({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [[1, 2]]}]}))
        }
        path if path.starts_with("/v2/repository") => ("iris", json!({})),
        path if path.starts_with("/v2") => ("iris", Value::Null),
        _ => ("chat", Value::Null),
    }
}

/// Whether a path is there to be refused: endpoints have no versions, and the mock's models are not loaded.
fn refuses(path: &str) -> bool {
    path.contains("{version}") || path.ends_with("load")
}

/// Whether a value is what a schema says; loose where the schema is.
fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        return fits(document, document.pointer(&reference[1..]).expect("a reference leads somewhere"), value);
    }
    if let Some(names) = schema["enum"].as_array() {
        return if names.contains(value) { Ok(()) } else { Err(format!("{value} is none of {names:?}")) };
    }
    let is = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("number") => value.is_number(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("boolean") => value.is_boolean(),
        _ => true,
    };
    if !is {
        return Err(format!("{value} is no {}", schema["type"]));
    }
    for item in value.as_array().into_iter().flatten() {
        fits(document, &schema["items"], item)?;
    }
    let empty = Map::new();
    let (properties, more) = (schema["properties"].as_object().unwrap_or(&empty), &schema["additionalProperties"]);
    for (name, item) in value.as_object().into_iter().flatten() {
        match properties.get(name) {
            Some(schema) => fits(document, schema, item)?,
            None if more.is_null() && !properties.is_empty() => return Err(format!("`{name}` is not documented")),
            None => fits(document, more, item)?,
        }
    }
    Ok(())
}

async fn document(running: &Running) -> Value {
    let response = running.http().get(running.url("/openapi.json")).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

async fn call(running: &Running, method: &str, path: &str, body: &Value) -> reqwest::Response {
    let request = running.http().request(method.to_uppercase().parse().unwrap(), running.url(path));
    let request = if body.is_null() { request } else { request.header("content-type", "application/json").body(body.to_string()) };
    request.send().await.unwrap()
}

#[tokio::test]
async fn every_documented_path_answers_as_documented() {
    let running = Running::start(MOCKS).await;
    let document = document(&running).await;
    let mut called = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if refuses(path) {
                continue;
            }
            let (endpoint, body) = question(path);
            assert_eq!(operation["requestBody"].is_null(), body.is_null(), "{method} {path}");
            let response = call(&running, method, &path.replace("{endpoint}", endpoint), &body).await;
            assert_eq!(response.status(), 200, "{method} {path}");
            let content_type = response.headers()["content-type"].to_str().unwrap().split(';').next().unwrap().to_owned();
            let documented = &operation["responses"]["200"]["content"][&content_type];
            assert!(documented.is_object(), "{method} {path} answers in {content_type}");
            let schema = &documented["schema"];
            if content_type == "text/event-stream" {
                let events: Vec<_> = futures_util::StreamExt::collect(datas(response)).await;
                assert!(events.len() > 3, "{path}");
                for event in events {
                    let event = serde_json::from_str(&event.unwrap()).unwrap();
                    fits(&document, &schema["contentSchema"], &event).unwrap_or_else(|why| panic!("{path}: {why}"));
                }
            } else {
                let answer = serde_json::from_str(&response.text().await.unwrap()).unwrap();
                fits(&document, schema, &answer).unwrap_or_else(|why| panic!("{method} {path}: {why}"));
            }
            called += 1;
        }
    }
    assert!(called >= 24, "{called} operations");
}

#[tokio::test]
async fn a_failure_is_what_the_document_says() {
    let running = Running::start(MOCKS).await;
    let document = document(&running).await;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if !path.contains("{endpoint}") || path.contains("{version}") {
                continue;
            }
            let (_, body) = question(path);
            let response = call(&running, method, &path.replace("{endpoint}", "nothing"), &body).await;
            assert_eq!(response.status(), 404, "{method} {path}");
            let schema = &operation["responses"]["default"]["content"]["application/json"]["schema"];
            let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
            fits(&document, schema, &answer).unwrap_or_else(|why| panic!("{method} {path}: {why}"));
            let reason = if path.starts_with("/v2/") { &answer["reason"] } else { &answer["error"]["reason"] };
            assert_eq!(reason, "CALLER_ENDPOINT_NOT_FOUND", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn another_verb_and_another_path_are_refused_by_name() {
    let running = Running::start(MOCKS).await;
    let document = document(&running).await;
    for (path, item) in document["paths"].as_object().unwrap() {
        let known: BTreeSet<_> = item.as_object().unwrap().keys().map(String::as_str).collect();
        for method in ["get", "post", "put", "delete", "patch"].into_iter().filter(|method| !known.contains(method)) {
            let response = call(&running, method, &path.replace("{endpoint}", "chat"), &Value::Null).await;
            let refusal = Refusal::of_response(response).await;
            assert_eq!((refusal.http, refusal.reason.as_str()), (Some(405), "CALLER_METHOD_NOT_ALLOWED"), "{method} {path}");
            let verb = known.first().unwrap().to_uppercase();
            assert!(refusal.message.contains(&verb), "{}", refusal.message);
        }
    }
    let refusal = Refusal::of_response(running.post("/v1/endpoints/chat:sing", "{}").await).await;
    assert_eq!((refusal.http, refusal.reason.as_str()), (Some(404), "CALLER_UNKNOWN_PATH"));
    for path in ["/", "/v1", "/v1/chat", "/v2/chat/completions", "/v1/endpoints/chat/extra:chat", "/my/other"] {
        for method in ["get", "post"] {
            let refusal = Refusal::of_response(call(&running, method, path, &Value::Null).await).await;
            assert_eq!((refusal.http, refusal.reason.as_str()), (Some(404), "CALLER_UNKNOWN_PATH"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn bad_json_is_told_with_its_place_and_without_what_stands_there() {
    let running = Running::start(MOCKS).await;
    let paths = [
        "/v1/endpoints/chat:chat",
        "/v1/endpoints/chat:streamChat",
        "/v1/endpoints/text:complete",
        "/v1/endpoints/embed:embed",
        "/v1/chat/completions",
        "/llm/v1/chat/chat",
        "/endpoints/chat/invocations",
        "/my/chat",
    ];
    for path in paths {
        let field = if path.starts_with("/v1/endpoints") { "endpoint" } else { "model" };
        for (body, place) in
            [("{\n  \"FIELD\": secret}", "at line 2 column"), ("{", "at line 1 column 1"), ("{\"FIELD\": \"secret", "at line 1 column")]
        {
            let body = body.replace("FIELD", field);
            let refusal = Refusal::of_response(running.post(path, body.clone()).await).await;
            assert_eq!((refusal.http, refusal.reason.as_str()), (Some(400), "CALLER_INVALID_REQUEST"), "{path} {body}");
            assert!(refusal.message.contains(place), "{path} {body}: {}", refusal.message);
            assert!(!refusal.seen.contains("secret"), "{path} {body}: {}", refusal.seen);
        }
    }
    for (path, item) in document(&running).await["paths"].as_object().unwrap() {
        let endpoint = question(path).0;
        // The scoring server reads predictions itself.
        if item.get("post").is_none() || (endpoint == "iris" && !path.contains(':')) {
            continue;
        }
        let refusal = Refusal::of_response(running.post(&path.replace("{endpoint}", endpoint), "{\n  : }").await).await;
        assert_eq!((refusal.http, refusal.reason.as_str()), (Some(400), "CALLER_INVALID_REQUEST"), "{path}");
        assert!(refusal.message.contains("at line 2 column 3"), "{path}: {}", refusal.message);
    }
    for path in paths.into_iter().chain(["/v1/endpoints/iris:predict"]) {
        let request = running.http().post(running.url(path)).header("content-type", "application/x-www-form-urlencoded");
        let refusal = Refusal::of_response(request.body("a=b").send().await.unwrap()).await;
        assert_eq!((refusal.http, refusal.reason.as_str()), (Some(415), "CALLER_UNSUPPORTED_MEDIA_TYPE"), "{path}");
    }
}

#[tokio::test]
async fn a_fault_names_its_field() {
    let running = Running::start(MOCKS).await;
    for (path, body, field) in [
        ("/v1/endpoints/chat:chat", json!({}), "messages"),
        ("/v1/endpoints/chat:chat", json!({"messages": [{"text": "hi"}], "max_tokens": 0}), "max_tokens"),
        ("/v1/endpoints/chat:chat", json!({"messages": [{"text": "hi"}], "top_p": 1.5}), "top_p"),
        ("/v1/endpoints/chat:chat", json!({"messages": [{"text": "hi"}], "nonsense": 1}), "nonsense"),
        ("/v1/endpoints/chat:chat", json!({"messages": [{"text": "hi", "parts": [{"text": {"text": "a"}}]}]}), "messages[0].text"),
        ("/v1/endpoints/chat:streamChat", json!({}), "messages"),
        ("/v1/endpoints/text:complete", json!({}), "prompts"),
        ("/v1/endpoints/embed:embed", json!({}), "inputs"),
        ("/v1/endpoints/iris:predict", json!({}), "input"),
        ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": "hi"}]}), "model"),
        ("/v1/chat/completions", json!({"model": 7, "messages": []}), "model"),
        ("/llm/v1/chat/chat", json!({"stream": "yes", "messages": []}), "stream"),
        ("/llm/v1/chat/chat", json!({"model": "other", "messages": []}), "model"),
    ] {
        let refusal = Refusal::of_response(running.post(path, body.to_string()).await).await;
        assert_eq!((refusal.http, refusal.reason.as_str()), (Some(400), "CALLER_INVALID_REQUEST"), "{path} {body}: {refusal:?}");
        assert!(refusal.message.contains(&format!("`{field}`")), "{path} {body}: {}", refusal.message);
    }
    for (path, body) in [
        ("/v1/endpoints/iris:chat", json!({"messages": [{"text": "hi"}]})),
        ("/v1/endpoints/chat:embed", json!({"inputs": ["a"]})),
        ("/v1/endpoints/chat:predict", json!({"inputs": [1]})),
        ("/v1/embeddings", json!({"model": "chat", "input": "a"})),
        ("/llm/v1/chat/embed", json!({"messages": [{"role": "user", "content": "hi"}]})),
    ] {
        let refusal = Refusal::of_response(running.post(path, body.to_string()).await).await;
        assert_eq!((refusal.http, refusal.reason.as_str()), (Some(400), "CALLER_WRONG_TASK"), "{path}");
    }
}

#[tokio::test]
async fn both_spellings_are_read_and_one_is_written() {
    let upstream = Fake::start(llm).await;
    let running = Running::start(&config(&[chat_endpoint(&upstream.url, "")])).await;
    for body in [
        json!({"messages": [{"role": "ROLE_USER", "text": "hi"}], "max_tokens": 5, "top_p": 0.5, "seed": "7", "choice_count": 1}),
        json!({"messages": [{"role": "ROLE_USER", "text": "hi"}], "maxTokens": 5, "topP": 0.5, "seed": 7, "choiceCount": 1}),
    ] {
        let response = running.post("/v1/endpoints/chat:chat", body.to_string()).await;
        let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!(answer["choices"][0]["finish_reason"], "FINISH_REASON_STOP");
        assert_eq!(answer["call"]["request_id"].as_str().unwrap().len(), 36);
        let seen = upstream.last().json();
        let limit = seen.get("max_completion_tokens").or(seen.get("max_tokens"));
        assert_eq!((limit, &seen["top_p"], &seen["seed"]), (Some(&json!(5)), &json!(0.5), &json!(7)), "{seen}");
    }
}

#[tokio::test]
async fn the_path_names_the_endpoint_whatever_the_body_says() {
    let (one, other) = (Fake::start(llm).await, Fake::start(llm).await);
    let running = Running::start(&config(&[chat_endpoint(&one.url, ""), endpoint("other", "llm/v1/chat", &other.url, "")])).await;
    for path in ["/v1/endpoints/chat:chat", "/v1/endpoints/chat:streamChat", "/v1/endpoints/ch%61t:chat"] {
        let response = running.post(path, r#"{"endpoint":"other","messages":[{"text":"hi"}]}"#).await;
        assert_eq!(response.status(), 200, "{path}");
        response.bytes().await.unwrap();
    }
    assert_eq!((one.seen().len(), other.seen().len()), (3, 0));
}

#[tokio::test]
async fn a_name_may_hold_all_that_names_may() {
    let upstream = Fake::start(llm).await;
    let name = "Team.chat_v1-2";
    let running = Running::start(&config(&[endpoint(name, "llm/v1/chat", &upstream.url, "")])).await;
    for door in doors::doors(Task::Chat) {
        assert!(door.ask(&running, name).await.is_ok(), "{door:?}");
    }
    let one = running.http().get(running.url(&format!("/v1/models/{name}"))).send().await.unwrap();
    assert_eq!(one.status(), 200);
}

#[tokio::test]
async fn predictions_keep_their_numbers_over_json() {
    let answer = r#"{"predictions":[9007199254740993,1.10,1e3,[0.1]]}"#;
    let upstream = Fake::start(move |_| Answer::json(answer)).await;
    let running = Running::start(&config(&[predict_endpoint("iris", &upstream.url, "")])).await;
    let response =
        running.post("/v1/endpoints/iris:predict", r#"{"instances":[[9007199254740993,1.50]],"params":{"k":18446744073709551615}}"#).await;
    let text = response.text().await.unwrap();
    assert!(text.contains("[9007199254740993,1.10,1e3,[0.1]]"), "{text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&body["model"]["name"], &body["call"]["endpoint"]), (&json!("iris"), &json!("iris")));
    assert_eq!(upstream.last().text(), r#"{"instances":[[9007199254740993,1.50]],"params":{"k":18446744073709551615}}"#);
    assert_eq!(PredictDoor::Native.ask(&running, "iris").await.unwrap()[3], json!([0.1]));
    assert!(predict::DOORS.contains(&PredictDoor::Native));
}

#[tokio::test]
async fn lists_have_pages() {
    let running = Running::start(MOCKS).await;
    let get = async |query: &str| {
        let response = running.http().get(running.url(&format!("/v1/endpoints{query}"))).send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str::<Value>(&response.text().await.unwrap()).unwrap())
    };
    let names =
        |page: &Value| page["endpoints"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let (_, all) = get("").await;
    assert_eq!(names(&all), ["chat", "embed", "iris", "text"]);
    let chat = &all["endpoints"][0];
    assert_eq!(
        (&chat["task"], &chat["description"], &chat["tags"]["team"], &chat["state"]),
        (&json!("TASK_CHAT"), &json!("Talks."), &json!("ml"), &json!("ENDPOINT_STATE_SERVING"))
    );
    for spelling in ["page_size", "pageSize"] {
        let (_, first) = get(&format!("?{spelling}=3")).await;
        assert_eq!(names(&first), ["chat", "embed", "iris"]);
        let token = first["next_page_token"].as_str().unwrap();
        let (_, second) = get(&format!("?{spelling}=3&page_token={token}")).await;
        assert_eq!((names(&second), second.get("next_page_token")), (vec!["text".to_owned()], None));
    }
    for query in ["?page_size=many", "?nonsense=1", "?page_token=%25"] {
        let (status, body) = get(query).await;
        assert_eq!((status, &body["error"]["reason"]), (400, &json!("CALLER_INVALID_REQUEST")), "{query}");
    }
    let (status, one) = get("/chat").await;
    assert_eq!((status, &one["endpoint"]), (200, chat));
}
