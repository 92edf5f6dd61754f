//! Who may come in: every path and every RPC with no key, with wrong ones and with the right one.

use flowgate_proto::v1::Permission;
use flowgate_server::api::table::Table;
use http::Method;
use serde_json::Value;

use crate::{
    doors::{Task, doors},
    fake::Fake,
    gateway::Running,
    speech,
};

const KEY: &str = "fg-right-0123456789";
const FOREIGN_RPCS: [&str; 4] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// Credentials that open nothing.
const WRONG: [Option<(&str, &str)>; 6] = [
    None,
    Some(("authorization", "Bearer fg-right-012345678")),
    Some(("authorization", "Basic fg-right-0123456789")),
    Some(("authorization", "fg-right-0123456789")),
    Some(("x-api-key", "fg-right-01234567890")),
    Some(("x-api-key", "")),
];
const RIGHT: [(&str, &str); 2] = [("authorization", "Bearer fg-right-0123456789"), ("x-api-key", KEY)];

async fn locked(fake: &Fake) -> Running {
    let endpoints = [speech::chat_endpoint(&fake.url, ""), speech::predict_endpoint("predict", &fake.url, "")];
    Running::start(&format!("identity: {{ keys: [{{ name: app, key: {KEY} }}] }}\n{}", speech::config(&endpoints))).await
}

/// Verb, path and whether anyone may ask.
fn paths() -> Vec<(Method, String, bool)> {
    let table = Table::new().unwrap();
    let rows = table.rows().iter().map(|row| {
        let path = row.path.replace("{endpoint}", "chat");
        (row.method.clone(), path, row.permission == Permission::Public)
    });
    rows.chain(["chat", "predict"].map(|name| (Method::POST, format!("/own/{name}"), false))).collect()
}

async fn http(running: &Running, method: &Method, path: &str, credential: Option<(&str, &str)>) -> (u16, Value) {
    let request = running.http().request(method.clone(), running.url(path)).header("content-type", "application/json");
    let request = credential.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    let body = if method == Method::POST { r#"{"model":"chat","messages":[{"role":"user","content":"hi"}]}"# } else { "" };
    let response = request.body(body).send().await.unwrap();
    (response.status().as_u16(), serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
}

/// The status that an RPC with an empty message is refused with; `None` when it answers.
async fn rpc(running: &Running, path: &str, credential: Option<(&str, &str)>, web: bool) -> Option<String> {
    let client = if web { running.http().clone() } else { reqwest::Client::builder().http2_prior_knowledge().build().unwrap() };
    let content_type = if web { "application/grpc-web+proto" } else { "application/grpc" };
    let request = client.post(running.url(path)).header("content-type", content_type).header("te", "trailers");
    let request = credential.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    let response = request.body(vec![0; 5]).send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    response.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn without_the_key_only_public_paths_answer() {
    let fake = Fake::start(speech::llm).await;
    let running = locked(&fake).await;
    for credential in WRONG {
        for (method, path, public) in paths() {
            let (status, body) = http(&running, &method, &path, credential).await;
            assert_eq!(status, if public { 200 } else { 401 }, "{method} {path} with {credential:?}");
            if !public {
                assert_eq!(body["error"]["reason"], "CALLER_UNAUTHENTICATED", "{method} {path}");
                assert_eq!(body["detail"], body["error"]["message"]);
            }
        }
    }
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn without_the_key_only_public_rpcs_answer() {
    let fake = Fake::start(speech::llm).await;
    let running = locked(&fake).await;
    let table = Table::new().unwrap();
    let ours = table.rpcs().iter().map(|rpc| rpc.path.as_str());
    for path in ours.chain(FOREIGN_RPCS) {
        let public = table.permission(path) == Some(Permission::Public);
        for credential in WRONG {
            for web in [false, true] {
                let status = rpc(&running, path, credential, web).await;
                assert_eq!(status.as_deref(), if public { None } else { Some("16") }, "{path} with {credential:?}");
            }
        }
        for credential in RIGHT {
            assert_ne!(rpc(&running, path, Some(credential), false).await.as_deref(), Some("16"), "{path}");
        }
    }
    assert_eq!(rpc(&running, "/flowgate.v1.ChatService/Steal", None, false).await.as_deref(), Some("12"));
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn the_harness_without_a_key_is_refused_at_every_door() {
    let fake = Fake::start(speech::llm).await;
    let running = locked(&fake).await;
    for door in doors(Task::Chat) {
        let refusal = door.ask(&running, "chat").await.unwrap_err();
        assert_eq!(refusal.reason, "CALLER_UNAUTHENTICATED", "{door:?}");
    }
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn the_right_key_opens_every_path_and_stays_here() {
    let fake = Fake::start(speech::llm).await;
    let running = locked(&fake).await;
    for (name, value) in RIGHT {
        for (method, path, _) in paths() {
            let (status, body) = http(&running, &method, &path, Some((name, value))).await;
            assert_ne!(status, 401, "{method} {path}: {body}");
        }
        assert_eq!(http(&running, &Method::POST, "/v1/chat/completions", Some((name, value))).await.0, 200);
        let client = flowgate_client::Client::options(running.url("")).metadata(name, value).unwrap().connect().unwrap();
        client.chat(crate::doors::chat("chat", "hi")).await.unwrap();
    }
    for seen in fake.seen() {
        assert!(!format!("{:?}", seen.headers).contains(KEY), "the caller's key went upstream");
    }
}
