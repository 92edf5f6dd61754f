//! Tests of the edge: a whole request over a connection in memory.

use http::StatusCode;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use super::*;
use crate::{
    api::testing::{gate, of_task, peer},
    call::Call,
    config::{self, Key},
    event::{Reply, Task},
    policy::testing::unary,
};

/// An edge without gRPC services, over an endpoint `chat` that answers as told.
fn edge<Fut>(answer: fn(Call) -> Fut, config: &Config) -> Edge
where
    Fut: Future<Output = Result<Reply>> + Send + 'static,
{
    let chat = config::Endpoint { path: Some("/own/chat".to_owned()), ..of_task("chat", Task::Chat) };
    let gate = gate(vec![chat], answer);
    gate.identity.replace(&config.keys);
    let table = Arc::new(Table::new().unwrap());
    let none = GrpcService::new(|_| async { tonic::Status::unimplemented("none").into_http() });
    let grpc = admitted(&gate, &table, none);
    Edge(Arc::new(Inner {
        health: grpc::Health::new(),
        gate,
        openapi: openapi::document(&table),
        table,
        grpc_web: grpc.clone(),
        grpc_inside: grpc.clone(),
        grpc,
        cors: Cors::new(&config.cors_origins),
        trusted: Vec::new(),
        on_loopback: true,
    }))
}

/// Sends one request over a connection in memory.
async fn send(edge: &Edge, request: Request<&'static str>) -> (http::response::Parts, Value) {
    let (client, server) = tokio::io::duplex(1 << 20);
    let edge = edge.clone();
    let serve = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        put_peer(&mut request);
        hyper::service::Service::call(&edge, request)
    });
    let server = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), serve);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
    let exchange = async {
        let answer = sender.send_request(request.map(|body| Full::new(Bytes::from_static(body.as_bytes())))).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        drop(sender);
        (parts, serde_json::from_slice(&body).unwrap_or(Value::Null))
    };
    let (answer, client, server) = tokio::join!(exchange, connection, server);
    client.unwrap();
    server.unwrap();
    answer
}

#[expect(clippy::disallowed_methods, reason = "stands for `listen`")]
fn put_peer(request: &mut Request<Incoming>) {
    request.extensions_mut().insert(peer());
}

fn post(path: &str) -> http::request::Builder {
    Request::post(path).header(header::CONTENT_TYPE, "application/json")
}

fn code(body: &Value) -> &str {
    body["error"]["reason"].as_str().unwrap_or_default()
}

const CHAT: &str = r#"{"model":"chat","messages":[{"role":"user","content":"hi"}]}"#;

#[tokio::test]
async fn an_answer_carries_the_request_id_and_closes_one_record() {
    let edge = edge(|_| async { Ok(unary()) }, &Config::default());
    let (parts, body) = send(&edge, post("/v1/chat/completions").header("x-request-id", "mine").body(CHAT).unwrap()).await;
    assert_eq!((parts.status, body["object"].as_str()), (StatusCode::OK, Some("chat.completion")));
    assert_eq!(parts.headers["x-request-id"], "mine");
    let page = edge.0.gate.metrics.render();
    assert!(page.contains("flowgate_calls_total{endpoint=\"chat\",task=\"chat\",door=\"openai\",outcome=\"ok\"} 1"), "{page}");
    for fit in ["", "not fit"] {
        let (parts, _) = send(&edge, Request::get("/health").header("x-request-id", fit).body("").unwrap()).await;
        assert_eq!(parts.headers["x-request-id"].len(), 36);
    }
}

#[tokio::test]
async fn a_fault_inside_ends_one_request_and_is_recorded() {
    let edge = edge(
        |call| async move {
            assert!(call.streaming, "poison");
            Ok(unary())
        },
        &Config::default(),
    );
    let (parts, body) = send(&edge, post("/v1/chat/completions").body(CHAT).unwrap()).await;
    assert_eq!((parts.status, code(&body)), (StatusCode::INTERNAL_SERVER_ERROR, "GATEWAY_INTERNAL"));
    assert!(edge.0.gate.metrics.render().contains("reason=\"GATEWAY_INTERNAL\",origin=\"gateway\"} 1"));
    assert!(!body["error"]["message"].as_str().unwrap().contains("poison"));
}

#[tokio::test]
async fn refusals_speak_json_and_count_too() {
    let config = Config { keys: vec![Key::new("app".to_owned(), "k".to_owned().into())], ..Config::default() };
    let edge = edge(|_| async { Ok(unary()) }, &config);
    for (request, status, reason) in [
        (Request::get("/nowhere").body(""), 404, "CALLER_UNKNOWN_PATH"),
        (Request::get("/v1/chat/completions").body(""), 405, "CALLER_METHOD_NOT_ALLOWED"),
        (post("/v1/chat/completions").body(CHAT), 401, "CALLER_UNAUTHENTICATED"),
        (post("/own/chat").body(CHAT), 401, "CALLER_UNAUTHENTICATED"),
        (
            post("/v1/chat/completions").header("x-api-key", "k").header("content-encoding", "br").body(CHAT),
            415,
            "CALLER_UNSUPPORTED_MEDIA_TYPE",
        ),
        (post("/v1/chat/completions").header("x-api-key", "k").body(""), 400, "CALLER_INVALID_REQUEST"),
    ] {
        let (parts, body) = send(&edge, request.unwrap()).await;
        assert_eq!((parts.status.as_u16(), code(&body)), (status, reason));
        assert_eq!(body["detail"], body["error"]["message"]);
        assert!(edge.0.gate.metrics.render().contains(&format!("reason=\"{reason}\"")));
    }
    let (parts, _) = send(&edge, post("/v1/chat/completions").header("authorization", "Bearer k").body(CHAT).unwrap()).await;
    assert_eq!(parts.status, StatusCode::OK);
    let (parts, _) = send(&edge, Request::get("/health").body("").unwrap()).await;
    assert_eq!(parts.status, StatusCode::OK);
}

#[tokio::test]
async fn a_path_of_an_endpoints_own_leads_to_it() {
    let edge = edge(|_| async { Ok(unary()) }, &Config::default());
    let (parts, body) = send(&edge, post("/own/chat").body(CHAT).unwrap()).await;
    assert_eq!((parts.status, body["object"].as_str()), (StatusCode::OK, Some("chat.completion")));
    let (parts, _) = send(&edge, Request::get("/own/chat").body("").unwrap()).await;
    assert_eq!(parts.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn grpc_needs_http_2_and_protobuf() {
    let edge = edge(|_| async { Ok(unary()) }, &Config::default());
    for content_type in ["application/grpc", "Application/gRPC+proto", "application/grpc+json", "application/grpc-web+thrift"] {
        let rpc = Request::post("/flowgate.v1.ChatService/Chat").header(header::CONTENT_TYPE, content_type);
        let (parts, body) = send(&edge, rpc.body("").unwrap()).await;
        assert_eq!((parts.status.as_u16(), code(&body)), (415, "CALLER_UNSUPPORTED_MEDIA_TYPE"), "{content_type}");
    }
}

#[tokio::test]
async fn a_page_of_another_site_reaches_no_endpoint() {
    let edge = edge(|_| async { panic!("the call got through") }, &Config::default());
    let (parts, body) = send(&edge, post("/own/chat").header("origin", "https://evil.example").body(CHAT).unwrap()).await;
    assert_eq!((parts.status.as_u16(), code(&body)), (403, "CALLER_FORBIDDEN"));
}

#[tokio::test]
async fn pages_of_named_origins_may_ask_and_read() {
    let config = Config { cors_origins: vec!["https://app.example".to_owned()], ..Config::default() };
    let edge = edge(|_| async { Ok(unary()) }, &config);
    for (origin, allowed) in [("https://app.example", true), ("https://evil.example", false)] {
        let ask = Request::options("/v1/chat/completions").header("origin", origin).header("access-control-request-method", "POST");
        let (parts, _) = send(&edge, ask.body("").unwrap()).await;
        assert_eq!(parts.status, StatusCode::NO_CONTENT);
        assert_eq!(parts.headers.contains_key("access-control-allow-methods"), allowed);
        let (parts, _) = send(&edge, post("/v1/chat/completions").header("origin", origin).body(CHAT).unwrap()).await;
        assert_eq!(parts.headers.contains_key("access-control-allow-origin"), allowed);
    }
}

#[tokio::test]
async fn a_request_beyond_the_limit_is_refused() {
    static LARGE: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| " ".repeat((1 << 20) + 1));
    let edge = edge(|_| async { Ok(unary()) }, &Config::default());
    let (parts, body) = send(&edge, post("/v1/chat/completions").body(LARGE.as_str()).unwrap()).await;
    assert_eq!((parts.status.as_u16(), code(&body)), (413, "CALLER_TOO_LARGE"));
}

/// What is answered to a request that is sent as it stands and never ended by the client.
async fn answer_to(edge: &Edge, request: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (mut client, server) = tokio::io::duplex(1 << 16);
    let edge = edge.clone();
    let serve = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        put_peer(&mut request);
        hyper::service::Service::call(&edge, request)
    });
    let server = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), serve);
    let read = async {
        client.write_all(request.as_bytes()).await.unwrap();
        let mut head = vec![0; 1 << 12];
        let length = client.read(&mut head).await.unwrap();
        head.truncate(length);
        String::from_utf8(head).unwrap()
    };
    let answered = async {
        tokio::select! {
            head = read => head,
            _ = async { server.await.ok(); std::future::pending::<()>().await } => String::new(),
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), answered).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_declared_too_large_or_never_comes_is_refused() {
    let edge = edge(|_| async { Ok(unary()) }, &Config::default());
    let lead = "POST /v1/chat/completions HTTP/1.1\r\nhost: flowgate.test\r\ncontent-type: application/json\r\ncontent-length: ";
    let began = Instant::now();
    let answer = answer_to(&edge, &format!("{lead}99999999\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(began.elapsed().is_zero(), "nothing of the body was waited for");
    let answer = answer_to(&edge, &format!("{lead}100\r\n\r\n{{\"model\"")).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("stalled"), "{answer}");
}

#[tokio::test]
async fn a_question_for_the_head_is_answered_as_get_and_counts_as_complete() {
    let config = Config { keys: vec![Key::new("app".to_owned(), "k".to_owned().into())], ..Config::default() };
    let edge = edge(|_| async { Ok(unary()) }, &config);
    let (parts, body) = send(&edge, Request::head("/health").body("").unwrap()).await;
    assert_eq!((parts.status, body), (StatusCode::OK, Value::Null));
    assert_eq!(parts.headers[header::CONTENT_LENGTH], "15");
    assert!(!edge.0.gate.metrics.render().contains("CALLER_CANCELLED"));
    for (request, allowed) in [(Request::delete("/v1/models"), "GET, HEAD"), (Request::head("/v1/chat/completions"), "POST")] {
        let (parts, _) = send(&edge, request.body("").unwrap()).await;
        assert_eq!((parts.status.as_u16(), parts.headers[header::ALLOW].to_str().unwrap()), (405, allowed));
    }
    let (parts, _) = send(&edge, Request::get("/v1/models").body("").unwrap()).await;
    assert_eq!((parts.status.as_u16(), parts.headers[header::WWW_AUTHENTICATE].to_str().unwrap()), (401, "Bearer"));
}
