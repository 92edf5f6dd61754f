//! What goes wrong upstream is told at every door in its own protocol, with the right reason, and never as an empty success.

use futures_util::StreamExt as _;
use serde_json::json;
use tonic::Code;

use crate::{
    doors::{self, Door, Refusal, Task, Way},
    fake::{Answer, Fake, Nobody, Seen, cut, pieces},
    gateway::Running,
    predict::{self, PredictDoor},
    speech::{OPERATOR_KEY, PIECES, chat_endpoint, chunk, config, predict_endpoint},
};

/// Short, for upstreams that say nothing; the others have all the time that they need.
fn patience(fault: &str, began: bool) -> &'static str {
    match (fault.starts_with("silence"), began) {
        (false, _) => "",
        (true, false) => "timeouts: { first_event: 300ms, attempt: 300ms, idle: 300ms }",
        (true, true) => "timeouts: { idle: 300ms }",
    }
}

/// What the caller is told: reason, gRPC code, HTTP status.
type Wanted = (&'static str, Code, u16);

const REJECTED: Wanted = ("PROVIDER_REJECTED_REQUEST", Code::InvalidArgument, 400);
const TOO_LONG: Wanted = ("CALLER_CONTEXT_TOO_LONG", Code::InvalidArgument, 400);
const CREDENTIAL: Wanted = ("PROVIDER_CREDENTIAL_REJECTED", Code::Internal, 502);
const NOT_FOUND: Wanted = ("PROVIDER_NOT_FOUND", Code::Internal, 502);
const LIMITED: Wanted = ("PROVIDER_RATE_LIMITED", Code::ResourceExhausted, 429);
const FAILED: Wanted = ("PROVIDER_FAILED", Code::Unavailable, 502);
const UNAVAILABLE: Wanted = ("PROVIDER_UNAVAILABLE", Code::Unavailable, 503);
const TIMEOUT: Wanted = ("PROVIDER_TIMEOUT", Code::DeadlineExceeded, 504);
const BAD_ANSWER: Wanted = ("PROVIDER_BAD_ANSWER", Code::Unavailable, 502);
const CUT: Wanted = ("PROVIDER_STREAM_CUT", Code::Unavailable, 502);

/// A way to fail, and what it means to unary and to streamed calls.
struct Fault {
    name: &'static str,
    answer: fn(&Seen) -> Answer,
    unary: Wanted,
    streamed: Wanted,
}

const fn fault(name: &'static str, wanted: Wanted, answer: fn(&Seen) -> Answer) -> Fault {
    Fault { name, answer, unary: wanted, streamed: wanted }
}

/// An error body as OpenAI writes it, which shows more than any caller should see.
fn error(message: &str, kind: &str) -> String {
    let message = format!("{message}: key {OPERATOR_KEY} of org-abcdefgh");
    json!({"error": {"message": message, "type": kind, "param": null, "code": null}}).to_string()
}

const FAULTS: &[Fault] = &[
    fault("400", REJECTED, |_| Answer::status(400, error("bad", "invalid_request_error"))),
    fault("400 too long", TOO_LONG, |_| {
        Answer::status(400, r#"{"error":{"message":"too long","type":"invalid_request_error","code":"context_length_exceeded"}}"#)
    }),
    fault("401", CREDENTIAL, |_| Answer::status(401, error("wrong key", "authentication_error"))),
    fault("402", CREDENTIAL, |_| Answer::status(402, error("no money", "billing"))),
    fault("403", CREDENTIAL, |_| Answer::status(403, error("not allowed", "permission_error"))),
    fault("404", NOT_FOUND, |_| Answer::status(404, error("no such model", "not_found_error"))),
    fault("429", LIMITED, |_| Answer::Whole {
        status: 429,
        headers: vec![("content-type", "application/json".to_owned()), ("retry-after", "7".to_owned())],
        body: error("slow down", "requests").into(),
    }),
    fault("429 quota", CREDENTIAL, |_| Answer::status(429, r#"{"error":{"message":"no quota","type":"insufficient_quota"}}"#)),
    fault("500", FAILED, |_| Answer::status(500, error("broken", "server_error"))),
    fault("502 in HTML", FAILED, |_| Answer::of_type(502, "text/html", "<html><body><h1>502 Bad Gateway</h1></body></html>")),
    fault("503", UNAVAILABLE, |_| Answer::status(503, error("away", "server_error"))),
    fault("a redirect", BAD_ANSWER, |_| Answer::status(302, "")),
    fault("an error inside 200", FAILED, |_| Answer::json(error("broken", "server_error"))),
    fault("an error with a word inside 200", UNAVAILABLE, |_| Answer::json(error("busy", "overloaded_error"))),
    fault("nothing inside 200", BAD_ANSWER, |_| Answer::json("")),
    fault("an empty object inside 200", BAD_ANSWER, |_| Answer::json("{}")),
    fault("no choices inside 200", BAD_ANSWER, |_| Answer::json(r#"{"choices":[]}"#)),
    fault("HTML inside 200", BAD_ANSWER, |_| Answer::of_type(200, "text/html", "<html>login</html>")),
    fault("half a JSON body", BAD_ANSWER, |_| Answer::json(r#"{"choices":[{"#)),
    Fault { name: "a cut before anything", answer: |_| Answer::sse(cut()), unary: FAILED, streamed: CUT },
    fault("silence", TIMEOUT, |_| Answer::Silence),
];

/// Only streams fail these ways. `true`: after the first piece.
const STREAM_FAULTS: &[(bool, Fault)] = &[
    (false, fault("nothing but the end mark", BAD_ANSWER, |_| Answer::events(&["[DONE]"]))),
    (false, fault("an empty stream", CUT, |_| Answer::events::<&str>(&[]))),
    (false, fault("an error event at once", FAILED, |_| Answer::events(&[error("broken", "server_error")]))),
    (false, fault("silence after the head", TIMEOUT, |_| Answer::sse(pieces(&[role()]).chain(futures_util::stream::pending())))),
    (true, fault("a cut", CUT, |_| Answer::sse(pieces(&[role(), hello()]).chain(cut())))),
    (true, fault("no end mark", CUT, |_| Answer::events(&[role(), hello()]))),
    (true, fault("a finish without an end mark", CUT, |_| Answer::events(&[role(), hello(), crate::speech::finish()]))),
    (true, fault("an error event", FAILED, |_| Answer::events(&[role(), hello(), error("broken", "server_error")]))),
    (true, fault("an error event with a word", LIMITED, |_| Answer::events(&[hello(), error("slow down", "rate_limit_error")]))),
    (true, fault("rubbish", BAD_ANSWER, |_| Answer::events(&[role(), hello(), "{rubbish".to_owned(), "[DONE]".to_owned()]))),
    (true, fault("silence", TIMEOUT, |_| Answer::sse(pieces(&[role(), hello()]).chain(futures_util::stream::pending())))),
];

fn role() -> String {
    chunk(&json!({"role": "assistant", "content": ""}))
}

fn hello() -> String {
    chunk(&json!({"content": PIECES[0]}))
}

fn check(door: &str, fault: &str, refusal: &Refusal, wanted: Wanted) {
    let (reason, code, http) = wanted;
    assert_eq!(refusal.reason, reason, "{fault} at {door}: {refusal:?}");
    if let Some(told) = refusal.code {
        assert_eq!(told, code, "{fault} at {door}");
    }
    if let Some(told) = refusal.http {
        assert_eq!(told, http, "{fault} at {door}");
    }
    for secret in [OPERATOR_KEY, "org-abcdefgh", "<h", "127.0.0.1"] {
        assert!(!refusal.seen.contains(secret), "{fault} at {door} shows {secret}: {refusal:?}");
    }
    let first = refusal.message.chars().next().unwrap();
    assert!(!first.is_uppercase() && !refusal.message.ends_with('.'), "{fault} at {door}: {}", refusal.message);
}

/// A failure before the first piece is a plain refusal, also of a stream.
fn check_plain(door: Door, fault: &str, refusal: &Refusal, wanted: Wanted) {
    check(&format!("{door:?}"), fault, refusal, wanted);
    assert_eq!(refusal.http.is_some(), !matches!(door.way, Way::Grpc | Way::GrpcWeb), "{fault} at {door:?}: {refusal:?}");
    assert_eq!(refusal.retry_after, (fault == "429").then_some(7), "{fault} at {door:?}");
}

async fn chat_gateway(url: &str, timeouts: &str) -> Running {
    Running::start(&config(&[chat_endpoint(url, timeouts)])).await
}

#[tokio::test]
async fn failures_of_an_llm_are_told_at_every_door() {
    for fault in FAULTS {
        let upstream = Fake::start(fault.answer).await;
        let running = chat_gateway(&upstream.url, patience(fault.name, false)).await;
        let refusals = futures_util::future::join_all(doors::doors(Task::Chat).into_iter().map(|door| {
            let running = &running;
            async move { (door, door.ask(running, "chat").await) }
        }));
        for (door, refusal) in refusals.await {
            let refusal = refusal.err().unwrap_or_else(|| panic!("{} at {door:?} is a success", fault.name));
            check_plain(door, fault.name, &refusal, if door.streaming { fault.streamed } else { fault.unary });
        }
    }
}

#[tokio::test]
async fn failures_of_a_stream_are_told_at_every_door() {
    for (began, fault) in STREAM_FAULTS {
        let upstream = Fake::start(fault.answer).await;
        let running = chat_gateway(&upstream.url, patience(fault.name, *began)).await;
        let refusals = futures_util::future::join_all(doors::streaming(Task::Chat).into_iter().map(|door| {
            let running = &running;
            async move {
                if !began {
                    return (door, door.ask(running, "chat").await.unwrap_err());
                }
                let mut stream = door.open(running, "chat").await.unwrap_or_else(|refusal| panic!("{door:?}: {refusal:?}"));
                let first = doors::next_text(&mut stream).await;
                assert_eq!(first.as_deref().map_err(|refusal| format!("{}: {refusal:?}", fault.name)), Ok(PIECES[0]), "{door:?}");
                (door, doors::collect(stream).await.unwrap_err())
            }
        }));
        for (door, refusal) in refusals.await {
            if *began {
                check(&format!("{door:?}"), fault.name, &refusal, fault.streamed);
                assert_eq!(refusal.http, None, "the head was out");
            } else {
                check_plain(door, fault.name, &refusal, fault.streamed);
            }
        }
    }
}

#[tokio::test]
async fn nobody_at_the_address_is_told_at_every_door() {
    let nobody = Nobody::new();
    let running = Running::start(&config(&[chat_endpoint(&nobody.url, ""), predict_endpoint("iris", &nobody.url, "")])).await;
    for door in doors::doors(Task::Chat) {
        check_plain(door, "nobody", &door.ask(&running, "chat").await.unwrap_err(), UNAVAILABLE);
    }
    for door in predict::DOORS {
        check(&format!("{door:?}"), "nobody", &door.ask(&running, "iris").await.unwrap_err(), UNAVAILABLE);
    }
}

const MODEL_FAILED: Wanted = ("PROVIDER_MODEL_FAILED", Code::Internal, 500);
const INVALID: Wanted = ("CALLER_INVALID_REQUEST", Code::InvalidArgument, 400);
const MEDIA_TYPE: Wanted = ("CALLER_UNSUPPORTED_MEDIA_TYPE", Code::InvalidArgument, 415);

fn scoring_error(message: &str) -> String {
    let trace = format!("Traceback (most recent call last):\n  File \"/secret/model.py\", line 1\nValueError: {OPERATOR_KEY}");
    json!({"error_code": "BAD_REQUEST", "message": message, "stack_trace": trace}).to_string()
}

const PREDICT_FAULTS: &[Fault] = &[
    fault("the model raised", MODEL_FAILED, |_| {
        Answer::status(
            400,
            scoring_error("Encountered an unexpected error while evaluating the model. Verify that the input is compatible"),
        )
    }),
    fault("the input does not fit", INVALID, |_| {
        let message = "Failed to predict data '   a\n0  1' with schema 'None'. \nError: Model is missing inputs ['b'].";
        Answer::status(400, json!({"error_code": "BAD_REQUEST", "message": message}).to_string())
    }),
    fault("the body is not taken", INVALID, |_| {
        Answer::status(400, scoring_error("Failed to parse input from JSON. Ensure that input is a valid JSON formatted string."))
    }),
    fault("the content type is not taken", MEDIA_TYPE, |_| Answer::of_type(415, "text/plain", "supports only")),
    fault("401", CREDENTIAL, |_| Answer::of_type(401, "text/plain", format!("{OPERATOR_KEY} is wrong"))),
    fault("403", CREDENTIAL, |_| Answer::status(403, "{}")),
    fault("429", LIMITED, |_| Answer::Whole { status: 429, headers: vec![("retry-after", "7".to_owned())], body: "slow".into() }),
    fault("500", FAILED, |_| Answer::of_type(500, "text/html", "<h1>Internal Server Error</h1>")),
    fault("502 in HTML", FAILED, |_| Answer::of_type(502, "text/html", "<h1>502 Bad Gateway</h1>")),
    fault("503", UNAVAILABLE, |_| Answer::of_type(503, "text/plain", "loading")),
    fault("a cut", FAILED, |_| Answer::Pieces {
        content_type: "application/json",
        pieces: futures_util::stream::iter([Ok("{\"predictions\": [".into())]).chain(cut()).boxed(),
    }),
    fault("nothing inside 200", BAD_ANSWER, |_| Answer::json(" \n")),
    fault("silence", TIMEOUT, |_| Answer::Silence),
];

#[tokio::test]
async fn failures_of_a_model_are_told_at_every_door() {
    for fault in PREDICT_FAULTS {
        let upstream = Fake::start(fault.answer).await;
        let running = Running::start(&config(&[predict_endpoint("iris", &upstream.url, patience(fault.name, false))])).await;
        let refusals = futures_util::future::join_all(predict::DOORS.iter().map(|door| {
            let running = &running;
            async move { (door, door.ask(running, "iris").await) }
        }));
        for (door, refusal) in refusals.await {
            let refusal = refusal.err().unwrap_or_else(|| panic!("{} at {door:?} is a success", fault.name));
            check(&format!("{door:?}"), fault.name, &refusal, fault.unary);
            for secret in ["Traceback", "model.py", "0  1"] {
                assert!(!refusal.seen.contains(secret), "{} at {door:?} shows {secret}: {refusal:?}", fault.name);
            }
            let after = (fault.name == "429").then_some(7);
            assert_eq!(refusal.retry_after, after, "{} at {door:?}", fault.name);
        }
    }
}

/// The byte lane passes on what the server says with status 200; the typed doors must understand it.
#[tokio::test]
async fn an_answer_that_is_none_is_told_where_it_is_read() {
    for body in ["not JSON", "<html>login</html>", "{\"predictions\":"] {
        let upstream = Fake::start(move |_| Answer::json(body)).await;
        let running = Running::start(&config(&[predict_endpoint("iris", &upstream.url, "")])).await;
        for door in [PredictDoor::Grpc, PredictDoor::GrpcStream, PredictDoor::Native] {
            check(&format!("{door:?}"), body, &door.ask(&running, "iris").await.unwrap_err(), BAD_ANSWER);
        }
    }
}

#[tokio::test]
async fn a_failed_call_leaves_the_next_one_alone() {
    let upstream = Fake::start(|seen| match seen.text().contains("fail") {
        true => Answer::sse(pieces(&[hello()]).chain(cut())),
        false => crate::speech::llm(seen),
    })
    .await;
    let running = chat_gateway(&upstream.url, "").await;
    for door in doors::streaming(Task::Chat) {
        let refusal = door.say(&running, "chat", "fail").await.unwrap_err();
        assert_eq!(refusal.reason, "PROVIDER_STREAM_CUT", "{door:?}");
        assert_eq!(door.ask(&running, "chat").await.unwrap().text, crate::speech::TEXT, "{door:?}");
    }
}
