//! RPCs over HTTP in process, over calls that answer as told.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use flowgate_proto::v1::{self, ErrorReason};
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{
        grpc::tests::{gate, services, visit},
        table::{Door, Table},
    },
    call::Call,
    event::{self, Answer, Event, Reply, WireAnswer},
    policy::testing::{head, streamed, text},
};

/// A message in its frame.
pub(in crate::api) fn frame(message: &[u8]) -> Bytes {
    frames::frame(message).unwrap()
}

/// A request over the table of paths, as the edge makes it.
async fn ask<F, Fut>(answer: F, line: &str, body: &str) -> Result<Response<Body>>
where
    F: Fn(Call) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply>> + Send + 'static,
{
    let (method, uri) = line.split_once(' ').unwrap();
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let (table, gate) = (Table::new().unwrap(), gate(answer));
    let found = table.find(&method.parse::<Method>().unwrap(), path).unwrap();
    let Door::Native(place) = found.row.door else { panic!("{path} is no RPC") };
    let headers = HeaderMap::from_iter([(header::CONTENT_LENGTH, HeaderValue::from(body.len()))]);
    let asked = Asked {
        visit: visit(),
        headers,
        query: query.to_owned(),
        endpoint: found.endpoint.clone(),
        version: String::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    };
    serve(&gate, &services(&gate), &table.rpcs()[place], asked).await
}

async fn read(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn read_json(response: Result<Response<Body>>) -> Value {
    let response = response.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    serde_json::from_str(&read(response).await).unwrap()
}

async fn said(_call: Call) -> Result<Reply> {
    let part =
        v1::Part { kind: Some(v1::part::Kind::Text(v1::TextPart { text: "hi".to_owned(), ..Default::default() })), cache_hint: None };
    let message = v1::Message { role: v1::Role::Assistant.into(), parts: vec![part], ..Default::default() };
    let choices = vec![v1::Choice { message: Some(message), ..Default::default() }];
    let mut head = head();
    head.headers.insert("x-upstream", HeaderValue::from_static("seen"));
    Ok(Reply::one(head, Answer::Chat(v1::ChatResponse { choices, ..Default::default() })))
}

const CHAT: &str = r#"{"messages": [{"text": "hello"}]}"#;

#[tokio::test]
async fn a_unary_rpc_is_json_both_ways_and_the_path_names_the_endpoint() {
    let body = r#"{"endpoint": "another", "messages": [{"text": "hello"}]}"#;
    let response = ask(said, "POST /v1/endpoints/chat:chat", body).await;
    assert_eq!(response.as_ref().unwrap().headers()["x-upstream"], "seen");
    let answer = read_json(response).await;
    assert_eq!(answer["choices"][0]["message"]["parts"][0]["text"]["text"], "hi");
    assert_eq!(answer["call"]["endpoint"], "chat");
    assert_eq!(answer["call"]["request_id"], "id-1");
}

#[tokio::test]
async fn what_a_client_says_of_grpc_ends_at_the_door_but_for_its_patience() {
    let (table, gate) = (
        Table::new().unwrap(),
        gate(|call: Call| async move {
            assert!(call.deadline.is_some());
            said(call).await
        }),
    );
    let Door::Native(place) = table.find(&Method::POST, "/v1/endpoints/chat:chat").unwrap().row.door else { panic!() };
    let told = [("grpc-encoding", "gzip"), ("grpc-accept-encoding", "gzip"), ("grpc-timeout", "5S"), ("grpc-status", "3")];
    let asked = || Asked {
        visit: visit(),
        headers: crate::api::testing::headers(&told),
        query: String::new(),
        endpoint: "chat".to_owned(),
        version: String::new(),
        body: Bytes::from_static(CHAT.as_bytes()),
    };
    let rpc = &table.rpcs()[place];
    let passed = request(rpc, asked(), b"").unwrap();
    let names: Vec<_> = passed.headers().keys().filter(|name| name.as_str().starts_with("grpc-")).collect();
    assert_eq!(names, ["grpc-timeout"]);
    assert!(serve(&gate, &services(&gate), rpc, asked()).await.is_ok());
}

#[tokio::test]
async fn failures_keep_their_reason_across_the_hop() {
    let refused = |line: &'static str, body: &'static str| async move { ask(said, line, body).await.unwrap_err() };
    let error = refused("POST /v1/endpoints/nowhere:chat", CHAT).await;
    assert_eq!((error.reason(), error.http_status()), (ErrorReason::CallerEndpointNotFound, StatusCode::NOT_FOUND));
    let error = refused("POST /v1/endpoints/chat:chat", r#"{"max_tokens": 0}"#).await;
    let fields: Vec<_> = error.violations().iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["messages", "max_tokens"]);
    let error = refused("POST /v1/endpoints/chat:chat?alt=sse", CHAT).await;
    assert_eq!(error.reason(), ErrorReason::CallerInvalidRequest);
    let late = |_| async { Err(Error::new(ErrorReason::ProviderRateLimited, "slow down").retry_after(Some(Duration::from_secs(2)))) };
    let error = ask(late, "POST /v1/endpoints/chat:chat", CHAT).await.unwrap_err();
    assert_eq!((error.http_status(), error.retry_after_hint()), (StatusCode::TOO_MANY_REQUESTS, Some(Duration::from_secs(2))));
}

fn data(body: &str) -> Vec<Value> {
    body.split_terminator("\n\n").filter_map(|event| serde_json::from_str(event.strip_prefix("data: ")?).ok()).collect()
}

#[tokio::test]
async fn a_stream_is_server_sent_events() {
    let pieces = |_| async { Ok(streamed(stream::iter([Ok(text("a")), Ok(text("b")), Ok(Event::End)]))) };
    let response = ask(pieces, "POST /v1/endpoints/chat:streamChat", CHAT).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream; charset=utf-8");
    let mut body = response.into_body().into_data_stream();
    let first = body.next().await.unwrap().unwrap();
    assert!(body.next().await.is_none(), "what is ready goes out in one write");
    let events = data(std::str::from_utf8(&first).unwrap());
    assert_eq!(events.len(), 4);
    assert_eq!(events[1]["delta"]["text"], "a");
    assert_eq!(events[3]["end"]["call"]["endpoint"], "chat");
}

#[tokio::test]
async fn a_failure_in_a_stream_is_its_last_event() {
    let broken =
        |_| async { Ok(streamed(stream::iter([Ok(text("a")), Err(Error::new(ErrorReason::ProviderStreamCut, "the stream stopped"))]))) };
    let response = ask(broken, "POST /v1/endpoints/chat:streamChat", CHAT).await.unwrap();
    let events = data(&read(response).await);
    assert_eq!(events.len(), 3);
    assert_eq!((&events[2]["detail"], &events[2]["error"]["reason"]), (&json!("the stream stopped"), &json!("PROVIDER_STREAM_CUT")));
}

#[tokio::test]
async fn a_failure_before_the_stream_is_a_status() {
    let broken = |_| async { Ok(streamed(stream::iter([Err(Error::new(ErrorReason::ProviderUnavailable, "down"))]))) };
    let error = ask(broken, "POST /v1/endpoints/chat:streamChat", CHAT).await.unwrap_err();
    assert_eq!(error.http_status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn a_slow_stream_is_kept_alive() {
    let slow = |_| async {
        tokio::time::sleep(Duration::from_secs(25)).await;
        Ok(streamed(stream::iter([Ok(text("a")), Ok(Event::End)])))
    };
    let response = ask(slow, "POST /v1/endpoints/chat:streamChat", CHAT).await.unwrap();
    let body = read(response).await;
    assert_eq!(body.matches(": ping\n\n").count(), 2);
    assert_eq!(data(body.trim_start_matches(": ping\n\n")).len(), 3);
}

#[tokio::test]
async fn predictions_cross_to_the_letter() {
    let wire = |call: Call| async move {
        let wire = call.payload.wire().unwrap();
        assert_eq!(wire.body, r#"{"instances":[9007199254740993, 1.10, 1e400],"params":{"a": 0.30}}"#);
        let body = Bytes::from_static(br#"{"predictions": [9007199254740993, 0.10, NaN]}"#);
        Ok(Reply::one(head(), Answer::Wire(WireAnswer { content_type: HeaderValue::from_static("application/json"), body, usage: None })))
    };
    let body = r#"{"instances": [9007199254740993, 1.10, 1e400], "params": {"a": 0.30}}"#;
    let response = ask(wire, "POST /v1/endpoints/predict:predict", body).await.unwrap();
    let answer = read(response).await;
    assert!(answer.starts_with(r#"{"predictions":[9007199254740993, 0.10, null],"model":{"name":"only"},"call":{"#), "{answer}");
}

#[tokio::test]
async fn typed_predictions_are_written_whole_where_they_are_whole() {
    let typed = |_| async {
        let value = |number| wkt_value(number);
        let list = flowgate_proto::wkt::ListValue { values: vec![value(1.0), value(0.5)] };
        let predictions = flowgate_proto::wkt::Value { kind: Some(flowgate_proto::wkt::value::Kind::ListValue(list)) };
        let output = Some(v1::predict_response::Output::Predictions(predictions));
        Ok(Reply::one(head(), Answer::Predict(v1::PredictResponse { output, ..Default::default() })))
    };
    let answer = read(ask(typed, "POST /v1/endpoints/predict:predict", r#"{"inputs": 1}"#).await.unwrap()).await;
    assert!(answer.starts_with(r#"{"predictions":[1,0.5],"#), "{answer}");
}

fn wkt_value(number: f64) -> flowgate_proto::wkt::Value {
    flowgate_proto::wkt::Value { kind: Some(flowgate_proto::wkt::value::Kind::NumberValue(number)) }
}

#[tokio::test]
async fn typed_forms_of_a_prediction_go_through_the_contract() {
    let typed = |call: Call| async move {
        assert!(call.payload.wire().is_none());
        let event::Request::Predict(request) = call.payload.typed()? else { panic!("not a prediction") };
        let Some(v1::predict_request::Input::Frame(frame)) = request.input.clone() else { panic!("not a frame") };
        let output = Some(v1::predict_response::Output::Frame(frame));
        Ok(Reply::one(head(), Answer::Predict(v1::PredictResponse { output, ..Default::default() })))
    };
    let body = r#"{"frame": {"columns": [{"name": "a", "integers": {"values": ["9007199254740993", 2]}}]}}"#;
    let answer = read_json(ask(typed, "POST /v1/endpoints/predict:predict", body).await).await;
    assert_eq!(answer["frame"]["columns"][0]["integers"]["values"], json!(["9007199254740993", "2"]));
    let error = ask(typed, "POST /v1/endpoints/predict:predict", r#"{"inputs": 1, "instances": [2]}"#).await.unwrap_err();
    assert!(error.to_string().contains("stands twice"), "{error}");
}

#[tokio::test]
async fn reads_take_their_fields_from_path_and_query() {
    let list = read_json(ask(said, "GET /v1/endpoints?page_size=1", "").await).await;
    assert_eq!((list["endpoints"].as_array().unwrap().len(), &list["endpoints"][0]["name"]), (1, &json!("chat")));
    let next = format!("GET /v1/endpoints?pageToken={}", list["next_page_token"].as_str().unwrap());
    let list = read_json(ask(said, &next, "").await).await;
    assert_eq!(list["endpoints"].as_array().unwrap().len(), 3);
    let one = read_json(ask(said, "GET /v1/endpoints/predict", "").await).await;
    assert_eq!(one["endpoint"]["task"], "TASK_PREDICTION");
    let error = ask(said, "GET /v1/endpoints/nowhere", "").await.unwrap_err();
    assert_eq!(error.reason(), ErrorReason::CallerEndpointNotFound);
}

#[test]
fn every_annotated_rpc_has_json_for_both_of_its_messages() {
    for rpc in Table::new().unwrap().rpcs().iter().filter(|rpc| rpc.http.is_some()) {
        assert!(!rpc.descriptor.is_client_streaming(), "{} has no form over HTTP", rpc.path);
        for message in [rpc.descriptor.input(), rpc.descriptor.output()] {
            assert!(codec(message.full_name()).is_ok(), "{}", message.full_name());
        }
    }
}
