//! Tests of OpenAI's doors before fake services.

use bytes::Bytes;
use flowgate_proto::v1::{self, ErrorReason, part::Kind};
use futures_util::{FutureExt as _, future::BoxFuture, stream};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use super::*;
use crate::{
    api::testing::{self, asked, gate, headers, of_task, said},
    call::Call,
    event::{Protocol, Reply, WireAnswer, WireFrame},
    policy::testing::{head, streamed, text},
};

const DONE: &str = "data: [DONE]\n\n";
const CHAT: &str = r#"{"model":"chat","messages":[{"role":"user","content":"hi"}]}"#;

fn message(text: &str) -> v1::Message {
    let part = v1::Part { kind: Some(Kind::Text(v1::TextPart { text: text.to_owned(), citations: Vec::new() })), cache_hint: None };
    v1::Message { role: v1::Role::Assistant.into(), parts: vec![part], ..Default::default() }
}

fn chat_answer(text: &str) -> Answer {
    let choice = v1::Choice { message: Some(message(text)), finish_reason: v1::FinishReason::Stop.into(), ..Default::default() };
    let usage = v1::Usage { input_tokens: Some(3), output_tokens: Some(1), ..Default::default() };
    Answer::Chat(v1::ChatResponse { choices: vec![choice], usage: Some(usage), ..Default::default() })
}

fn complete_answer(text: &str) -> Answer {
    let choice = v1::CompletionChoice { text: text.to_owned(), finish_reason: v1::FinishReason::Length.into(), ..Default::default() };
    Answer::Complete(v1::CompleteResponse { choices: vec![choice], model: "m-1".to_owned(), ..Default::default() })
}

fn wire_answer(body: &'static str) -> Answer {
    Answer::Wire(WireAnswer {
        content_type: HeaderValue::from_static("application/json; odd=1"),
        body: Bytes::from_static(body.as_bytes()),
        usage: None,
    })
}

fn frame(bytes: &'static str) -> Result<Event> {
    Ok(Event::Wire(WireFrame { bytes: Bytes::from_static(bytes.as_bytes()), content: true, usage: None }))
}

/// A gate with an endpoint of each task, named after it, whose answers follow from the call.
fn answering(answer: fn(&Call) -> Result<Reply>) -> Arc<Gate> {
    let endpoints = [("chat", Task::Chat), ("complete", Task::Complete), ("embed", Task::Embed), ("predict", Task::Predict)];
    gate(endpoints.map(|(name, task)| of_task(name, task)).into(), move |call| {
        let reply = answer(&call);
        async move { reply }
    })
}

/// A gate that answers each endpoint's task, typed, once the request could be read.
fn typed() -> Arc<Gate> {
    answering(|call| {
        call.payload.typed()?;
        Ok(Reply::one(
            head(),
            match call.endpoint.task {
                Task::Chat => chat_answer("hello"),
                Task::Complete => complete_answer("hello"),
                _ => Answer::Embed(v1::EmbedResponse {
                    embeddings: vec![v1::Embedding { index: 0, values: vec![1.0, 0.5] }],
                    ..Default::default()
                }),
            },
        ))
    })
}

fn streaming(events: fn() -> Vec<Result<Event>>) -> Arc<Gate> {
    gate(vec![of_task("chat", Task::Chat)], move |call: Call| {
        assert!(call.streaming);
        async move { Ok(streamed(stream::iter(events()))) }
    })
}

async fn ask(gate: &Arc<Gate>, task: Task, body: &str) -> Result<Response<Body>> {
    by_model(gate, task, asked("", body)).await
}

fn refusal(answer: Result<Response<Body>>) -> (ErrorReason, String) {
    let error = answer.unwrap_err();
    (error.reason(), error.to_string())
}

/// The JSON of each event of a stream, `[DONE]` left out but counted.
async fn chunks(response: Response<Body>) -> (Vec<Value>, usize) {
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream; charset=utf-8");
    let said = said(response).await;
    let data: Vec<_> = said.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
    let chunks = data.iter().filter(|data| **data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect();
    (chunks, data.iter().filter(|data| **data == "[DONE]").count())
}

#[tokio::test]
async fn the_bodys_model_names_the_endpoint() {
    let gate = typed();
    assert_eq!(ask(&gate, Task::Chat, CHAT).await.unwrap().status(), StatusCode::OK);
    for body in [r#"{"messages":[]}"#, r#"{"model":null}"#, r#"{"model":""}"#] {
        let error = ask(&gate, Task::Chat, body).await.unwrap_err();
        assert_eq!((error.reason(), &*error.violations()[0].field), (ErrorReason::CallerInvalidRequest, "model"));
    }
    let (reason, _) = refusal(ask(&gate, Task::Chat, r#"{"model":"gpt-4o"}"#).await);
    assert_eq!(reason, ErrorReason::CallerEndpointNotFound);
    for body in ["", "[]", r#"{"model":1}"#, r#"{"model":"chat","model":"embed"}"#] {
        let (reason, _) = refusal(ask(&gate, Task::Chat, body).await);
        assert_eq!(reason, ErrorReason::CallerInvalidRequest, "{body}");
    }
}

#[tokio::test]
async fn the_paths_endpoint_wins_and_the_body_may_only_agree() {
    let gate = typed();
    let ask = |body: &'static str| by_path(&gate, Task::Chat, asked("chat", body));
    for body in [r#"{"messages":[{"role":"user","content":"hi"}]}"#, CHAT] {
        assert_eq!(ask(body).await.unwrap().status(), StatusCode::OK);
    }
    let (reason, message) = refusal(ask(r#"{"model":"gpt-4o","messages":[]}"#).await);
    assert_eq!(reason, ErrorReason::CallerInvalidRequest);
    assert!(message.contains("`model`") && !message.contains("gpt-4o"), "{message}");
    let (reason, _) = refusal(by_path(&gate, Task::Chat, asked("none", CHAT)).await);
    assert_eq!(reason, ErrorReason::CallerEndpointNotFound);
}

#[tokio::test]
async fn an_endpoint_of_another_task_refuses() {
    let gate = typed();
    for (task, body) in [
        (Task::Chat, r#"{"model":"embed","messages":[]}"#),
        (Task::Embed, r#"{"model":"chat"}"#),
        (Task::Complete, r#"{"model":"predict","prompt":"p"}"#),
    ] {
        assert_eq!(refusal(ask(&gate, task, body).await).0, ErrorReason::CallerWrongTask, "{body}");
    }
}

#[tokio::test]
async fn only_json_is_taken() {
    let gate = typed();
    let ask = |content_type: &'static str| {
        let mut asked = asked("", CHAT);
        asked.headers = if content_type.is_empty() { HeaderMap::new() } else { headers(&[("content-type", content_type)]) };
        by_model(&gate, Task::Chat, asked)
    };
    for content_type in ["", "application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"] {
        assert!(ask(content_type).await.is_ok(), "{content_type}");
    }
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
        assert_eq!(refusal(ask(content_type).await).0, ErrorReason::CallerUnsupportedMediaType, "{content_type}");
    }
}

#[tokio::test]
async fn the_byte_lane_is_open_and_answers_cross_as_they_came() {
    const BODY: &str = r#"{ "model": "chat", "messages": [], "odd": 1e400 }"#;
    let gate = answering(|call| {
        let wire = call.payload.wire().unwrap();
        assert_eq!((wire.protocol, &*wire.body), (Protocol::OpenAiChat, BODY.as_bytes()));
        let mut head = head();
        head.headers = headers(&[("x-upstream-request-id", "up"), ("content-type", "never/this")]);
        Ok(Reply::one(head, wire_answer(r#"{ "choices": [ 1e400 ] }"#)))
    });
    let response = ask(&gate, Task::Chat, BODY).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json; odd=1");
    assert_eq!(response.headers()["x-upstream-request-id"], "up");
    assert_eq!(said(response).await, r#"{ "choices": [ 1e400 ] }"#);
}

#[tokio::test]
async fn a_typed_answer_is_written_in_openais_shape() {
    let body = testing::json(ask(&typed(), Task::Chat, CHAT).await.unwrap()).await;
    assert_eq!(body["object"], "chat.completion");
    assert_eq!((&body["id"], &body["model"]), (&json!("chatcmpl-id-1"), &json!("chat")));
    assert!(body["created"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(body["choices"][0]["message"]["content"], "hello");
    assert_eq!(body["usage"]["total_tokens"], 4);
}

#[tokio::test]
async fn vectors_are_written_as_asked() {
    let embed = async |more: &str| {
        let body = format!(r#"{{"model":"embed","input":"a"{more}}}"#);
        testing::json(ask(&typed(), Task::Embed, &body).await.unwrap()).await["data"][0]["embedding"].clone()
    };
    assert_eq!(embed("").await, json!([1.0, 0.5]));
    assert_eq!(embed(r#","encoding_format":"base64""#).await, "AACAPwAAAD8=");
    let (_, message) = refusal(ask(&typed(), Task::Embed, r#"{"model":"embed","input":"a","stream":true}"#).await);
    assert!(message.contains("`stream`"), "{message}");
}

#[tokio::test]
async fn the_called_path_gives_the_shape_whatever_the_endpoint_and_the_body_are() {
    let messages = r#""messages":[{"role":"user","content":"hi"}]"#;
    let prompt = r#""prompt":"hi""#;
    for name in ["chat", "complete"] {
        for body in [messages, prompt] {
            for (task, object, text) in
                [(Task::Chat, "chat.completion", "/choices/0/message/content"), (Task::Complete, "text_completion", "/choices/0/text")]
            {
                let response = by_path(&typed(), task, asked(name, &format!("{{{body}}}"))).await.unwrap();
                let answer = testing::json(response).await;
                assert_eq!((&answer["object"], answer.pointer(text)), (&json!(object), Some(&json!("hello"))), "{name} {body}");
                let response = by_path(&typed(), task, asked(name, &format!("{{{body},\"stream\":true}}"))).await.unwrap();
                let (chunks, done) = chunks(response).await;
                assert_eq!((chunks[0]["object"].as_str().unwrap().split('.').next(), done), (object.split('.').next(), 1));
            }
        }
    }
}

#[tokio::test]
async fn a_body_of_the_other_task_never_takes_the_byte_lane() {
    let gate = answering(|call| {
        assert!(call.payload.wire().is_none());
        assert!(matches!(call.payload.typed()?, Request::Chat(request) if request.messages.len() == 1));
        Ok(Reply::one(head(), chat_answer("hello")))
    });
    let body = testing::json(by_path(&gate, Task::Complete, asked("chat", CHAT)).await.unwrap()).await;
    assert_eq!(body["choices"][0]["text"], "hello");
}

#[tokio::test]
async fn frames_of_the_byte_lane_cross_as_they_came_and_end_once() {
    let gate = streaming(|| vec![frame("data: {\"odd\" : 1}\n\n"), frame(""), frame(": hi\r\n\r\n"), frame(DONE), Ok(Event::End)]);
    let body = r#"{"model":"chat","messages":[],"stream":true}"#;
    let response = ask(&gate, Task::Chat, body).await.unwrap();
    assert_eq!(said(response).await, format!("data: {{\"odd\" : 1}}\n\n: hi\r\n\r\n{DONE}"));
}

#[tokio::test]
async fn typed_events_are_written_as_chunks() {
    let gate = streaming(|| {
        let usage = v1::Usage { input_tokens: Some(3), output_tokens: Some(2), ..Default::default() };
        let end = v1::ChoiceEnd { finish_reason: v1::FinishReason::Stop.into(), ..v1::ChoiceEnd::default() };
        vec![Ok(text("hel")), Ok(Event::Ping), Ok(text("lo")), Ok(Event::ChoiceEnd(end)), Ok(Event::Usage(usage)), Ok(Event::End)]
    });
    for (options, usage) in [("", None), (r#","stream_options":{"include_usage":true}"#, Some(5))] {
        let body = format!(r#"{{"model":"chat","messages":[],"stream":true{options}}}"#);
        let response = ask(&gate, Task::Chat, &body).await.unwrap();
        let said = said(response).await.replace(": ping\n\n", "");
        assert!(said.ends_with(DONE));
        let chunks: Vec<Value> = said
            .strip_suffix(DONE)
            .unwrap()
            .split_terminator("\n\n")
            .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
            .collect();
        let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!((text.as_str(), &chunks[0]["id"]), ("hello", &json!("chatcmpl-id-1")));
        assert_eq!(chunks.last().unwrap()["usage"]["total_tokens"].as_u64(), usage);
    }
}

#[tokio::test]
async fn a_stream_that_was_answered_whole_is_still_a_stream() {
    let answers: [fn() -> Answer; 2] = [
        || chat_answer("hello"),
        || {
            wire_answer(
                r#"{"id":"w","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}]}"#,
            )
        },
    ];
    for answer in answers {
        let gate = gate(vec![of_task("chat", Task::Chat)], move |_| async move { Ok(Reply::one(head(), answer())) });
        let response = ask(&gate, Task::Chat, r#"{"model":"chat","messages":[],"stream":true}"#).await.unwrap();
        let (chunks, done) = chunks(response).await;
        assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": "hello"}));
        assert_eq!((&chunks[1]["choices"][0]["finish_reason"], chunks.len(), done), (&json!("stop"), 2, 1));
    }
}

#[tokio::test]
async fn a_failure_before_the_first_event_is_no_stream() {
    let gate = answering(|_| Err(Error::new(ErrorReason::ProviderRateLimited, "slow down")));
    let (reason, _) = refusal(ask(&gate, Task::Chat, r#"{"model":"chat","messages":[],"stream":true}"#).await);
    assert_eq!(reason, ErrorReason::ProviderRateLimited);
}

#[tokio::test]
async fn a_failure_later_is_an_event_and_then_the_end_mark() {
    let failing: [fn() -> Vec<Result<Event>>; 3] = [
        || vec![Ok(text("hel")), Err(Error::new(ErrorReason::ProviderStreamCut, "the stream was cut"))],
        || vec![Ok(text("hel"))],
        || vec![frame("data: {}\n\n")],
    ];
    for events in failing {
        let asked = asked("", r#"{"model":"chat","messages":[],"stream":true}"#);
        let record = Arc::clone(&asked.visit.record);
        let response = by_model(&streaming(events), Task::Chat, asked).await.unwrap();
        let (chunks, done) = chunks(response).await;
        assert_eq!((chunks.len(), done), (2, 1));
        assert_eq!(chunks[1]["error"]["reason"], "PROVIDER_STREAM_CUT");
        assert_eq!(chunks[1]["detail"], chunks[1]["error"]["message"]);
        assert_eq!(record.facts().failure.unwrap().reason, ErrorReason::ProviderStreamCut);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_may_still_fail_in_openais_way() {
    let gate = gate(vec![of_task("chat", Task::Chat)], |_| -> BoxFuture<'static, Result<Reply>> {
        async {
            tokio::time::sleep(std::time::Duration::from_secs(11)).await;
            Err(Error::new(ErrorReason::ProviderUnavailable, "away"))
        }
        .boxed()
    });
    let response = ask(&gate, Task::Chat, r#"{"model":"chat","messages":[],"stream":true}"#).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let said = said(response).await;
    assert!(said.starts_with(": ping\n\ndata: {") && said.contains("PROVIDER_UNAVAILABLE") && said.ends_with(DONE), "{said}");
}

#[tokio::test]
async fn models_are_the_endpoints() {
    let gate = typed();
    let list = testing::json(models(&gate, &asked("", "")).unwrap()).await;
    let one = |name: &str| json!({ "id": name, "object": "model", "created": 0, "owned_by": "flowgate" });
    let all = ["chat", "complete", "embed", "predict"].map(one);
    assert_eq!(list, json!({ "object": "list", "data": all }));
    assert_eq!(testing::json(model(&gate, &asked("chat", "")).unwrap()).await, one("chat"));
    assert_eq!(refusal(model(&gate, &asked("none", ""))).0, ErrorReason::CallerEndpointNotFound);
}
