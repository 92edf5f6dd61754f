//! Tests of MLflow's doors before fake services.

use bytes::Bytes;
use flowgate_proto::v1;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::{
    api::testing::{self, asked, gate, headers, of_task, said},
    call::Call,
    config,
    event::{Event, Protocol, Reply, WireAnswer},
    policy::testing::{deployment, head, streamed, text},
};

/// A gate whose predict endpoints send back what they got, as received.
fn echoing(endpoints: Vec<config::Endpoint>) -> Arc<Gate> {
    gate(endpoints, |call: Call| async move {
        let wire = call.payload.wire().unwrap();
        assert_eq!(wire.protocol, Protocol::MlflowScoring);
        let answer = WireAnswer { content_type: wire.content_type.clone(), body: wire.body.clone(), usage: None };
        let mut head = head();
        head.headers = headers(&[("x-upstream-request-id", "up")]);
        Ok(Reply::one(head, Answer::Wire(answer)))
    })
}

fn iris() -> Vec<config::Endpoint> {
    vec![of_task("iris", Task::Predict), of_task("chat", Task::Chat)]
}

fn refusal(answer: Result<Response<Body>>) -> (ErrorReason, String) {
    let error = answer.unwrap_err();
    (error.reason(), error.to_string())
}

#[tokio::test]
async fn predictions_cross_as_they_came() {
    let gate = echoing(iris());
    for (content_type, body) in [("application/json; charset=utf-8", "{ \"inputs\": [NaN] }"), ("text/csv", "a,b\n1,2\n")] {
        for named in [true, false] {
            let mut asked = asked(if named { "iris" } else { "" }, body);
            asked.headers = headers(&[("content-type", content_type)]);
            let answered = if named { named_invocations(&gate, asked).await } else { default_invocations(&gate, asked).await };
            let response = answered.unwrap();
            assert_eq!(response.headers()[header::CONTENT_TYPE], content_type);
            assert_eq!(response.headers()["x-upstream-request-id"], "up");
            assert_eq!(said(response).await, body);
        }
    }
}

#[tokio::test]
async fn typed_predictions_are_written_as_mlflow_writes_them() {
    let gate = gate(iris(), |_| async {
        let frame = v1::Frame {
            columns: vec![v1::Column {
                name: "y".to_owned(),
                validity: Vec::new(),
                values: Some(v1::column::Values::Integers(v1::IntegerValues { values: vec![1, 2] })),
            }],
        };
        let output = Some(v1::predict_response::Output::Frame(frame));
        Ok(Reply::one(head(), Answer::Predict(v1::PredictResponse { output, ..Default::default() })))
    });
    let response = named_invocations(&gate, asked("iris", "{\"inputs\":[1]}")).await.unwrap();
    assert_eq!(testing::json(response).await, json!({ "predictions": [{ "y": 1 }, { "y": 2 }] }));
}

#[tokio::test]
async fn a_prediction_without_a_content_type_is_told_what_to_send() {
    let mut asked = asked("iris", "{\"inputs\":[1]}");
    asked.headers = HeaderMap::new();
    let (reason, message) = refusal(named_invocations(&echoing(iris()), asked).await);
    assert_eq!(reason, ErrorReason::CallerUnsupportedMediaType);
    assert!(message.contains("application/json"));
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_not_found() {
    let gate = echoing(iris());
    assert_eq!(refusal(named_invocations(&gate, asked("none", "{}")).await).0, ErrorReason::CallerEndpointNotFound);
    let two = echoing(vec![of_task("a", Task::Predict), of_task("b", Task::Predict)]);
    let (reason, message) = refusal(default_invocations(&two, asked("", "{}")).await);
    assert_eq!(reason, ErrorReason::CallerEndpointNotFound);
    assert!(message.contains("default_endpoint"));
}

#[tokio::test]
async fn llm_endpoints_take_openais_body_of_their_task() {
    let gate = gate(vec![of_task("chat", Task::Chat), of_task("complete", Task::Complete)], |call: Call| async move {
        if call.streaming {
            return Ok(streamed(stream::iter([Ok(text("hel")), Ok(Event::End)])));
        }
        call.payload.typed()?;
        Ok(Reply::one(
            head(),
            match call.endpoint.task {
                Task::Chat => Answer::Chat(v1::ChatResponse::default()),
                _ => Answer::Complete(v1::CompleteResponse::default()),
            },
        ))
    });
    let messages = r#"{"messages":[{"role":"user","content":"hi"}]}"#;
    for (name, body, object) in [("chat", messages, "chat.completion"), ("complete", r#"{"prompt":"hi"}"#, "text_completion")] {
        let answer = testing::json(named_invocations(&gate, asked(name, body)).await.unwrap()).await;
        assert_eq!(answer["object"], object);
    }
    let response = named_invocations(&gate, asked("chat", r#"{"messages":[],"stream":true}"#)).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], HeaderValue::from_static("text/event-stream; charset=utf-8"));
    assert!(said(response).await.ends_with("data: [DONE]\n\n"));
    let (reason, message) = refusal(named_invocations(&gate, asked("chat", r#"{"model":"gpt-4o","messages":[]}"#)).await);
    assert_eq!((reason, message.contains("`model`")), (ErrorReason::CallerInvalidRequest, true));
}

async fn list(gate: &Gate, query: &str) -> Value {
    let listed = endpoints(gate, &Asked { query: query.to_owned(), ..asked("", "") }).unwrap();
    assert_eq!(listed.status(), StatusCode::OK);
    testing::json(listed).await
}

/// A chat endpoint that is a chain with this last step.
fn chain(name: &str, last: &str) -> config::Endpoint {
    let step = config::Step { name: last.to_owned(), endpoint: last.to_owned(), input: None };
    let routing = config::Routing { steps: vec![step], ..config::Routing::default() };
    config::Endpoint { routing, deployments: Vec::new(), ..of_task(name, Task::Chat) }
}

#[tokio::test]
async fn endpoints_are_listed_as_mlflows_client_reads_them() {
    let limit = Some(config::Limit { calls: 10, renewal_period: "minute".to_owned() });
    let gate = echoing(vec![
        config::Endpoint { limit, ..of_task("chat", Task::Chat) },
        of_task("iris", Task::Predict),
        of_task("last", Task::Chat),
        chain("two", "last"),
        config::Endpoint { is_split: true, deployments: vec![deployment("a"), deployment("b")], ..of_task("split", Task::Chat) },
    ]);
    let one = |name: &str, kind: &str, limit: Value| {
        json!({
            "name": name, "endpoint_type": kind, "model": { "name": "m", "provider": "mock" },
            "endpoint_url": format!("/gateway/{name}/invocations"), "limit": limit,
        })
    };
    let chat = one("chat", "llm/v1/chat", json!({ "calls": 10, "key": null, "renewal_period": "minute" }));
    let iris = one("iris", "mlflow/predict", Value::Null);
    let (last, two) = (one("last", "llm/v1/chat", Value::Null), one("two", "llm/v1/chat", Value::Null));
    assert_eq!(list(&gate, "").await, json!({ "endpoints": [&chat, iris, last, two], "next_page_token": null }));
    assert_eq!(testing::json(endpoint(&gate, &asked("chat", "")).unwrap()).await, chat);
    for name in ["none", "split"] {
        let (reason, message) = refusal(endpoint(&gate, &asked(name, "")));
        assert_eq!(reason, ErrorReason::CallerEndpointNotFound);
        assert!(message.starts_with("the endpoint is not present or active on the server"));
    }
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let names = (0..PAGE + 2).map(|n| format!("e{n:05}"));
    let gate = echoing(names.map(|name| of_task(&name, Task::Predict)).collect());
    let first = list(&gate, "").await;
    assert_eq!(first["endpoints"].as_array().unwrap().len(), PAGE);
    let token = first["next_page_token"].as_str().unwrap();
    assert_eq!(STANDARD.decode(token).unwrap(), b"{\"index\":3000}");
    for token in [token.to_owned(), token.replace('=', "%3D"), STANDARD.encode("{\"index\": 3000}")] {
        let second = list(&gate, &format!("x=1&page_token={token}")).await;
        assert_eq!((second["endpoints"][0]["name"].as_str(), &second["next_page_token"]), (Some("e03000"), &Value::Null));
    }
    for token in ["nonsense", "e30=", "%ff"] {
        let asked = Asked { query: format!("page_token={token}"), ..asked("", "") };
        assert_eq!(refusal(endpoints(&gate, &asked)).0, ErrorReason::CallerInvalidRequest, "{token}");
    }
    let beyond = STANDARD.encode(format!("{{\"index\":{}}}", usize::MAX));
    assert_eq!(list(&gate, &format!("page_token={beyond}")).await["endpoints"], json!([]));
}

#[tokio::test]
async fn bodies_are_not_copied_on_the_way_out() {
    static BODY: &[u8] = b"{\"predictions\":[1]}";
    let gate = gate(iris(), |_| async {
        let content_type = HeaderValue::from_static("application/json");
        Ok(Reply::one(head(), Answer::Wire(WireAnswer { content_type, body: Bytes::from_static(BODY), usage: None })))
    });
    let response = named_invocations(&gate, asked("iris", "{\"inputs\":[1]}")).await.unwrap();
    assert_eq!(response.body().whole().unwrap().as_ptr(), BODY.as_ptr());
}
