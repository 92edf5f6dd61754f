//! Sizes and codings of bodies, on the way in and on the way out.

use std::io::{Read as _, Write as _};

use flowgate_server::api::table::Table;
use http::Method;
use prost::Message as _;
use serde_json::json;
use tonic::Code;

use crate::{
    doors::{Door, Refusal, Task, Way, chat, doors},
    fake::{Answer, Fake},
    gateway::Running,
    speech,
};

const MOST: usize = 1000;

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn coded(coding: &str, body: &[u8]) -> Vec<u8> {
    if coding == "gzip" { gzip(body) } else { zstd::encode_all(body, 1).unwrap() }
}

fn decoded(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut plain).unwrap(),
        _ => zstd::Decoder::new(body).unwrap().read_to_end(&mut plain).unwrap(),
    };
    plain
}

async fn limited(fake: &Fake) -> Running {
    let endpoints = [
        speech::chat_endpoint(&fake.url, ""),
        speech::endpoint("complete", "llm/v1/completions", &fake.url, ""),
        speech::predict_endpoint("predict", &fake.url, ""),
    ];
    Running::start(&format!("max_request_bytes: '{MOST}'\n{}", speech::config(&endpoints))).await
}

fn too_large(door: Door, refusal: &Refusal) {
    assert_eq!(refusal.reason, "CALLER_TOO_LARGE", "{door:?}: {refusal:?}");
    assert!(refusal.http.is_none_or(|status| status == 413), "{door:?}");
    assert!(refusal.code.is_none_or(|code| code == Code::ResourceExhausted), "{door:?}");
}

/// How large a chat is with a prompt of `length` bytes.
fn size(door: Door, length: usize) -> usize {
    let prompt = "x".repeat(length);
    match door.way {
        Way::Grpc | Way::GrpcWeb => chat("chat", &prompt).encoded_len(),
        _ => door.body("chat", &prompt).to_string().len(),
    }
}

#[tokio::test]
async fn one_byte_too_many_is_refused_at_every_door() {
    let fake = Fake::start(speech::llm).await;
    let running = limited(&fake).await;
    for door in doors(Task::Chat) {
        let length = (1..).find(|length| size(door, *length) > MOST).unwrap();
        let calls = fake.seen().len();
        too_large(door, &door.say(&running, "chat", &"x".repeat(length)).await.unwrap_err());
        assert_eq!(fake.seen().len(), calls, "{door:?}");
        assert_eq!(door.say(&running, "chat", &"x".repeat(length - 1)).await.unwrap().text, speech::TEXT, "{door:?}");
    }
    for door in doors(Task::Complete) {
        too_large(door, &door.say(&running, "complete", &"x".repeat(MOST)).await.unwrap_err());
    }
}

#[tokio::test]
async fn bodies_and_bombs_are_refused_on_every_path() {
    let fake = Fake::start(speech::llm).await;
    let running = limited(&fake).await;
    let large = vec![b' '; 1 << 18];
    let table = Table::new().unwrap();
    let rows = table.rows().iter().filter(|row| row.method == Method::POST).map(|row| row.path.replace("{endpoint}", "chat"));
    for path in rows.chain(["/own/chat".to_owned(), "/own/predict".to_owned()]) {
        for coding in ["identity", "gzip", "zstd"] {
            let body = if coding == "identity" { large[..=MOST].to_vec() } else { coded(coding, &large) };
            assert!(coding == "identity" || body.len() < MOST);
            let request = running.http().post(running.url(&path)).header("content-type", "application/json");
            let response = request.header("content-encoding", coding).body(body).send().await.unwrap();
            assert_eq!(response.status(), 413, "{path} {coding}");
            let body: serde_json::Value = response.json().await.unwrap();
            assert_eq!(body["error"]["reason"], "CALLER_TOO_LARGE", "{path} {coding}");
        }
    }
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn a_bomb_over_grpc_is_refused() {
    let fake = Fake::start(speech::llm).await;
    let running = limited(&fake).await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let message = chat("chat", &"x".repeat(1 << 18)).encode_to_vec();
    for coding in ["gzip", "zstd"] {
        for rpc in ["Chat", "StreamChat"] {
            let compressed = coded(coding, &message);
            assert!(compressed.len() < MOST);
            let mut frame = vec![1];
            frame.extend(u32::try_from(compressed.len()).unwrap().to_be_bytes());
            frame.extend(compressed);
            let request = client.post(running.url(&format!("/flowgate.v1.ChatService/{rpc}"))).header("content-type", "application/grpc");
            let response = request.header("te", "trailers").header("grpc-encoding", coding).body(frame).send().await.unwrap();
            let status = tonic::Status::from_header_map(response.headers()).expect("a refusal");
            assert_eq!(status.code(), Code::ResourceExhausted, "{coding} {rpc} {status:?}");
            let error = flowgate_client::Error::from(status);
            assert_eq!(error.reason_name(), Some("CALLER_TOO_LARGE"), "{coding} {rpc}");
        }
    }
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn compressed_requests_are_read() {
    let fake = Fake::start(speech::llm).await;
    let running = limited(&fake).await;
    for coding in ["gzip", "zstd"] {
        for way in [Way::Native, Way::OpenAi, Way::Named, Way::Invocations, Way::Own] {
            for streaming in [false, true] {
                let door = Door { way, task: Task::Chat, streaming };
                let body = coded(coding, door.body("chat", "packed").to_string().as_bytes());
                let request = running.http().post(running.url(&door.path("chat"))).header("content-type", "application/json");
                let response = request.header("content-encoding", coding).body(body).send().await.unwrap();
                assert_eq!(response.status(), 200, "{door:?} {coding}");
                response.bytes().await.unwrap();
                assert_eq!(fake.last().json()["messages"][0]["content"], "packed", "{door:?}");
                assert!(fake.last().headers.get("content-encoding").is_none());
            }
        }
        let request = running.http().post(running.url("/v1/chat/completions")).header("content-encoding", coding);
        assert_eq!(request.body("{}").send().await.unwrap().status(), 400, "{coding}");
    }
    let client = flowgate_client::Client::options(running.url("")).gzip(true).connect().unwrap();
    client.chat(chat("chat", "packed")).await.unwrap();
    assert_eq!(fake.last().json()["messages"][0]["content"], "packed");
}

#[tokio::test]
async fn only_large_whole_answers_are_compressed() {
    let text = "word ".repeat(8000);
    let fake = Fake::start({
        let text = text.clone();
        move |seen| {
            let large = seen.text().contains("large");
            match seen.wants_stream() {
                true if large => {
                    let chunks = [speech::chunk(&json!({"role": "assistant", "content": text})), speech::finish(), "[DONE]".to_owned()];
                    Answer::events(&chunks)
                }
                false if large => {
                    let mut chat = speech::chat();
                    chat["choices"][0]["message"]["content"] = text.as_str().into();
                    Answer::json(chat.to_string())
                }
                _ => speech::llm(seen),
            }
        }
    })
    .await;
    let running = Running::start(&speech::config(&[speech::chat_endpoint(&fake.url, "")])).await;
    for way in [Way::Native, Way::OpenAi, Way::Named, Way::Invocations, Way::Own] {
        for (prompt, streaming, accepted, expected) in [
            ("large", false, "gzip", Some("gzip")),
            ("large", false, "gzip, deflate, zstd", Some("zstd")),
            ("large", false, "identity", None),
            ("small", false, "gzip, zstd", None),
            ("large", true, "gzip, zstd", None),
        ] {
            let door = Door { way, task: Task::Chat, streaming };
            let request = running.http().post(running.url(&door.path("chat"))).header("content-type", "application/json");
            let body = door.body("chat", prompt).to_string();
            let response = request.header("accept-encoding", accepted).body(body).send().await.unwrap();
            let coding = response.headers().get("content-encoding").map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(coding.as_deref(), expected, "{door:?} {prompt}");
            assert!(coding.is_none() || response.headers()["vary"] == "accept-encoding", "{door:?}");
            let body = response.bytes().await.unwrap();
            let body = coding.map_or(body.to_vec(), |coding| decoded(&coding, &body));
            assert_eq!(String::from_utf8(body).unwrap().contains(&text), prompt == "large", "{door:?}");
        }
    }
}
