//! Keys: every path and every RPC is shut without one, but for those that the table calls public.

use std::collections::BTreeSet;

use flowgate_client::proto::v1::Permission;
use flowgate_server::api::table::{Row, Table};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::{
    doors::{self, Refusal, Task, Way},
    fake::Fake,
    gateway::Running,
    speech::{chat_endpoint, config, endpoint, llm, predict_endpoint},
};

const KEYS: &str = "identity: { keys: [{ name: app, key: fg-right-1 }, { name: other, key: fg-right-2 }] }\n";
const RIGHT: (&str, &str) = ("authorization", "Bearer fg-right-1");

/// What stands in for a key.
const WRONG: [&[(&str, &str)]; 10] = [
    &[],
    &[("authorization", "Bearer wrong")],
    &[("authorization", "Bearer fg-right")],
    &[("authorization", "Bearer fg-right-1x")],
    &[("authorization", "Bearer ")],
    &[("authorization", "Basic fg-right-1")],
    &[("authorization", "fg-right-1")],
    &[("x-api-key", "wrong")],
    &[("x-api-key", "")],
    // The name of a key is no key, nor does a right one beside a wrong one help.
    &[("authorization", "Bearer app"), ("x-api-key", "fg-right-1")],
];

/// Services of others that anyone may call.
const PUBLIC_RPCS: [&str; 8] = [
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
    "/inference.GRPCInferenceService/ServerMetadata",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.health.v1.Health/List",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

async fn gateway(url: &str, head: &str) -> Running {
    let endpoints = [
        chat_endpoint(url, ""),
        endpoint("text", "llm/v1/completions", url, ""),
        endpoint("embed", "llm/v1/embeddings", url, ""),
        predict_endpoint("iris", url, ""),
    ];
    Running::start(&format!("{head}{}", config(&endpoints))).await
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
}

/// Every path with an endpoint's name in it, those of the endpoints' own among them.
fn paths() -> Vec<(Method, String, Permission)> {
    let table = Table::new().unwrap();
    let of = |row: &Row| (row.method.clone(), row.path.replace("{endpoint}", "chat").replace("{version}", "1"), row.permission);
    let own = ["/own/chat", "/own/iris"].map(|path| (Method::POST, path.to_owned(), Permission::Invoke));
    table.rows().iter().map(of).chain(own).collect()
}

#[tokio::test]
async fn only_public_paths_answer_without_a_key() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url, KEYS).await;
    let mut public = BTreeSet::new();
    for wrong in WRONG {
        for (method, path, permission) in paths() {
            let request = running.http().request(method.clone(), running.url(&path)).header("content-type", "application/json");
            let response = request.headers(headers(wrong)).body("{}").send().await.unwrap();
            if permission == Permission::Public {
                assert_eq!(response.status(), 200, "{method} {path}");
                public.insert(path);
                continue;
            }
            let refusal = Refusal::of_response(response).await;
            assert_eq!((refusal.http, refusal.reason.as_str()), (Some(401), "CALLER_UNAUTHENTICATED"), "{method} {path} {wrong:?}");
            assert!(!refusal.seen.contains("fg-right") && !refusal.seen.contains("wrong"), "{refusal:?}");
        }
    }
    assert_eq!(public.into_iter().collect::<Vec<_>>(), ["/health", "/openapi.json", "/v2", "/v2/health/live", "/v2/health/ready"]);
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn only_public_rpcs_answer_without_a_key() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url, KEYS).await;
    let h2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let table = Table::new().unwrap();
    let ours = table.rpcs().iter().map(|rpc| rpc.path.clone());
    let rpcs: Vec<_> = ours.chain(PUBLIC_RPCS.map(str::to_owned)).collect();
    assert!(rpcs.len() > 12, "the contract has more RPCs than that");
    for path in rpcs {
        for content_type in ["application/grpc", "application/grpc+proto", "application/grpc-web", "application/grpc-web+proto"] {
            for wrong in WRONG {
                let request = h2.post(running.url(&path)).header("content-type", content_type).header("te", "trailers");
                // An empty message; the watch of health answers for ever, so no body is waited for.
                let response = request.headers(headers(wrong)).body(vec![0; 5]).send().await.unwrap();
                let code = response.headers().get("grpc-status").map(|code| code.to_str().unwrap().to_owned());
                let shut = code.as_deref() == Some("16");
                assert_eq!(shut, !PUBLIC_RPCS.contains(&path.as_str()), "{path} {content_type} {wrong:?} {code:?}");
                assert_eq!(response.status(), 200, "{path}: gRPC tells by trailers");
            }
        }
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn what_is_not_there_is_not_there_with_or_without_a_key() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url, KEYS).await;
    let h2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    for given in [&[][..], &[RIGHT]] {
        let response = running.http().get(running.url("/admin")).headers(headers(given)).send().await.unwrap();
        assert_eq!(Refusal::of_response(response).await.reason, "CALLER_UNKNOWN_PATH");
        for path in ["/flowgate.v1.ChatService/Nothing", "/flowgate.admin.v1.KeyService/List", "/x/y", "/x"] {
            let request = h2.post(running.url(path)).header("content-type", "application/grpc").header("te", "trailers");
            let response = request.headers(headers(given)).body(vec![0; 5]).send().await.unwrap();
            assert_eq!(response.headers()["grpc-status"], "12", "{path}");
        }
    }
}

#[tokio::test]
async fn a_right_key_opens_every_door_by_either_header() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url, KEYS).await;
    let right = [RIGHT, ("authorization", "bearer fg-right-2"), ("authorization", "BEARER  fg-right-2"), ("x-api-key", "fg-right-1")];
    let http = doors::doors(Task::Chat).into_iter().filter(|door| !matches!(door.way, Way::Grpc | Way::GrpcWeb));
    for door in http {
        for given in right {
            let request = running.http().post(running.url(&door.path("chat"))).header("content-type", "application/json");
            let response = request.headers(headers(&[given])).body(door.body("chat", "hi").to_string()).send().await.unwrap();
            assert_eq!(response.status(), 200, "{door:?} {given:?}");
            assert_eq!(upstream.last().headers["authorization"], format!("Bearer {}", crate::speech::OPERATOR_KEY));
        }
    }
    let client = flowgate_client::Client::options(running.url("")).key("fg-right-1").unwrap().connect().unwrap();
    assert!(client.chat(doors::chat("chat", "hi")).await.is_ok());
    assert!(upstream.seen().iter().all(|seen| !format!("{:?}", seen.headers).contains("fg-right")), "a caller's key stays here");
    assert!(client.stream_chat(doors::chat("chat", "hi")).await.unwrap().collect().await.is_ok());
    assert_eq!(client.list_endpoints().await.unwrap().len(), 4);
    let other = flowgate_client::Client::options(running.url("")).metadata("x-api-key", "fg-right-2").unwrap().connect().unwrap();
    assert!(other.chat(doors::chat("chat", "hi")).await.is_ok());
    let error = running.client().chat(doors::chat("chat", "hi")).await.unwrap_err();
    assert_eq!((error.code(), error.reason_name()), (tonic::Code::Unauthenticated, Some("CALLER_UNAUTHENTICATED")));
}

#[tokio::test]
async fn a_door_without_keys_is_open_also_to_those_who_send_one() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url, "").await;
    for given in [&[][..], &[("authorization", "Bearer anything")], &[("authorization", "Basic dXNlcjpw")]] {
        let request =
            running.http().post(running.url("/llm/v1/chat/chat")).headers(headers(given)).header("content-type", "application/json");
        let response = request.body(r#"{"messages":[{"role":"user","content":"hi"}]}"#).send().await.unwrap();
        assert_eq!(response.status(), 200, "{given:?}");
    }
}

/// The refusal comes before the body is read, and must still reach a client that sends a large one; the connection is of use after it.
#[tokio::test]
async fn a_refusal_reaches_those_who_send_much() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url, KEYS).await;
    let body = "a".repeat(4 << 20);
    for (path, key, reason) in [
        ("/v1/chat/completions", "wrong", "CALLER_UNAUTHENTICATED"),
        ("/v1/endpoints/chat:chat", "wrong", "CALLER_UNAUTHENTICATED"),
        ("/nothing", "fg-right-1", "CALLER_UNKNOWN_PATH"),
        ("/health", "fg-right-1", "CALLER_METHOD_NOT_ALLOWED"),
    ] {
        for _ in 0..5 {
            let request = running.http().post(running.url(path)).header("x-api-key", key).body(body.clone());
            assert_eq!(Refusal::of_response(request.send().await.unwrap()).await.reason, reason, "{path}");
        }
    }
}

/// A browser asks first, and never sends its key with that question.
#[tokio::test]
async fn a_browsers_question_needs_no_key_and_opens_nothing() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url, &format!("cors: {{ allow_origins: [\"https://app.example\"] }}\n{KEYS}")).await;
    for (origin, allowed) in [("https://app.example", true), ("https://evil.example", false)] {
        let ask = running.http().request(Method::OPTIONS, running.url("/v1/chat/completions")).header("origin", origin);
        let ask = ask.header("access-control-request-method", "POST").header("access-control-request-headers", "authorization");
        let response = ask.send().await.unwrap();
        assert_eq!(response.headers().contains_key("access-control-allow-origin"), allowed, "{origin}");
        let real = running.http().post(running.url("/v1/chat/completions")).header("origin", origin).body("{}").send().await.unwrap();
        // Without a key for its own page; not at all for another's.
        let status = if allowed { 401 } else { 403 };
        assert_eq!((real.status().as_u16(), real.headers().contains_key("access-control-allow-origin")), (status, allowed), "{origin}");
    }
    assert!(upstream.seen().is_empty());
}
