//! Sizes: what is too large is refused at every door, also when it was small on the wire; large answers are compressed when asked.

use std::io::{Read as _, Write as _};

use flowgate_client::proto::v1::{
    ChatResponse, chat_service_client::ChatServiceClient, prediction_service_client::PredictionServiceClient,
};
use flowgate_server::api::table::Table;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Code, codec::CompressionEncoding, transport::Channel};

use crate::{
    doors::{self, Door, Refusal, Task, Way, chat},
    fake::{Answer, Fake},
    gateway::Running,
    predict,
    speech::{TEXT, chat_endpoint, config, endpoint, llm, predict_endpoint},
};

const MOST: usize = 64 * 1024;
const LIMIT: &str = "max_request_bytes: 64KiB\n";
const TOO_LARGE: &str = "CALLER_TOO_LARGE";

async fn gateway(url: &str) -> Running {
    let endpoints = [chat_endpoint(url, ""), endpoint("text", "llm/v1/completions", url, ""), predict_endpoint("iris", url, "")];
    Running::start(&format!("{LIMIT}{}", config(&endpoints))).await
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).unwrap()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

async fn channel(running: &Running) -> Channel {
    Channel::from_shared(running.url("")).unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_and_one_below_is_not() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url).await;
    for (task, own) in [(Task::Chat, "chat"), (Task::Complete, "text")] {
        for door in doors::doors(task) {
            let told = door.say(&running, own, &"a".repeat(MOST - 300)).await;
            assert_eq!(told.unwrap_or_else(|refusal| panic!("{door:?}: {refusal:?}")).text, TEXT);
            let before = upstream.seen().len();
            let refusal = door.say(&running, own, &"a".repeat(MOST + 1)).await.unwrap_err();
            assert_eq!(refusal.reason, TOO_LARGE, "{door:?}: {refusal:?}");
            match door.way {
                Way::Grpc | Way::GrpcWeb => assert_eq!(refusal.code, Some(Code::ResourceExhausted), "{door:?}"),
                _ => assert_eq!(refusal.http, Some(413), "{door:?}"),
            }
            assert!(refusal.message.contains("max_request_bytes"), "{door:?}: {}", refusal.message);
            assert_eq!(upstream.seen().len(), before, "{door:?}: nothing goes upstream");
        }
    }
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
async fn the_limit_is_exact() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url).await;
    for door in doors::doors(Task::Chat) {
        let fits = MOST - size(door, MOST - 1000) + MOST - 1000;
        assert_eq!(size(door, fits), MOST);
        assert_eq!(door.say(&running, "chat", &"x".repeat(fits)).await.unwrap().text, TEXT, "{door:?}");
        assert_eq!(door.say(&running, "chat", &"x".repeat(fits + 1)).await.unwrap_err().reason, TOO_LARGE, "{door:?}");
    }
}

#[tokio::test]
async fn bodies_and_bombs_are_refused_on_every_path() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url).await;
    let large = vec![b' '; 1 << 20];
    let table = Table::new().unwrap();
    let rows = table.rows().iter().filter(|row| row.method == http::Method::POST).map(|row| row.path.replace("{endpoint}", "chat"));
    for path in rows.chain(["/own/chat".to_owned(), "/own/iris".to_owned()]) {
        for (coding, body) in [("identity", large[..=MOST].to_vec()), ("gzip", gzip(&large)), ("zstd", zstd(&large))] {
            let request = running.http().post(running.url(&path)).header("content-type", "application/json");
            let response = request.header("content-encoding", coding).body(body).send().await.unwrap();
            let refusal = Refusal::of_response(response).await;
            assert_eq!((refusal.http, refusal.reason.as_str()), (Some(413), TOO_LARGE), "{path} {coding}");
        }
    }
    assert!(upstream.seen().is_empty());
}

/// The refusal must reach a client that is still sending.
#[tokio::test]
async fn a_request_far_over_the_limit_is_refused_and_not_just_cut_off() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url).await;
    let prompt = "a".repeat(2 << 20);
    for door in doors::doors(Task::Chat) {
        let refusal = door.say(&running, "chat", &prompt).await.unwrap_err();
        assert_eq!(refusal.reason, TOO_LARGE, "{door:?}: {refusal:?}");
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_scoring_body_over_the_limit_is_refused() {
    let upstream = Fake::start(crate::speech::model).await;
    let running = gateway(&upstream.url).await;
    let large = |bytes: usize| format!("{{\"instances\":[[\"{}\"]]}}", "a".repeat(bytes));
    for path in ["/invocations", "/endpoints/iris/invocations", "/own/iris", "/v1/endpoints/iris:predict"] {
        assert_eq!(running.post(path, large(MOST - 300)).await.status(), 200, "{path}");
        // Sent in pieces, so that no length stands before it.
        let pieces: Vec<Result<_, std::io::Error>> = large(MOST).into_bytes().chunks(9000).map(|piece| Ok(piece.to_vec())).collect();
        for body in [reqwest::Body::from(large(MOST)), reqwest::Body::wrap_stream(futures_util::stream::iter(pieces))] {
            let refusal = Refusal::of_response(running.post(path, body).await).await;
            assert_eq!((refusal.http, refusal.reason.as_str()), (Some(413), TOO_LARGE), "{path}");
        }
    }
    assert_eq!(upstream.seen().len(), 4);
}

#[tokio::test]
async fn compressed_requests_are_read_and_bombs_are_refused() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url).await;
    let http = doors::doors(Task::Chat).into_iter().filter(|door| !matches!(door.way, Way::Grpc | Way::GrpcWeb));
    for door in http {
        for (encoding, encode) in [("gzip", gzip as fn(&[u8]) -> Vec<u8>), ("zstd", zstd)] {
            let send = async |body: Vec<u8>| {
                let request = running.http().post(running.url(&door.path("chat"))).header("content-type", "application/json");
                request.header("content-encoding", encoding).body(body).send().await.unwrap()
            };
            let prompt = "tell me ".repeat(100);
            let response = send(encode(door.body("chat", &prompt).to_string().as_bytes())).await;
            assert_eq!(response.status(), 200, "{door:?} {encoding}");
            assert_eq!(upstream.last().json()["messages"][0]["content"], prompt, "{door:?} {encoding}");
            assert!(!upstream.last().headers.contains_key("content-encoding"), "{door:?}");
            let before = upstream.seen().len();
            for (body, reason) in [
                (encode(door.body("chat", &"a".repeat(1 << 20)).to_string().as_bytes()), TOO_LARGE),
                (door.body("chat", "hi").to_string().into_bytes(), "CALLER_INVALID_REQUEST"),
            ] {
                assert!(body.len() < MOST);
                assert_eq!(Refusal::of_response(send(body).await).await.reason, reason, "{door:?} {encoding}");
            }
            assert_eq!(upstream.seen().len(), before, "{door:?}");
        }
        let request = running.http().post(running.url(&door.path("chat"))).header("content-type", "application/json");
        let response = request.header("content-encoding", "br").body("{}").send().await.unwrap();
        assert_eq!(Refusal::of_response(response).await.reason, "CALLER_UNSUPPORTED_MEDIA_TYPE", "{door:?}");
    }
}

#[tokio::test]
async fn compressed_messages_are_read_and_bombs_are_refused() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url).await;
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut client = ChatServiceClient::new(channel(&running).await).send_compressed(encoding);
        let prompt = "tell me ".repeat(100);
        client.chat(chat("chat", &prompt)).await.unwrap();
        assert_eq!(upstream.last().json()["messages"][0]["content"], prompt);
        let before = upstream.seen().len();
        let bomb = || chat("chat", &"a".repeat(1 << 20));
        for status in [client.chat(bomb()).await.unwrap_err(), client.stream_chat(bomb()).await.unwrap_err()] {
            let refusal = Refusal::from(flowgate_client::Error::from(status));
            assert_eq!((refusal.code, refusal.reason.as_str()), (Some(Code::ResourceExhausted), TOO_LARGE), "{encoding:?}");
        }
        assert_eq!(upstream.seen().len(), before);
    }
}

#[tokio::test]
async fn a_message_too_large_in_a_stream_of_predictions_ends_it_with_the_reason() {
    let upstream = Fake::start(crate::speech::model).await;
    let running = gateway(&upstream.url).await;
    let large =
        flowgate_client::proto::v1::PredictRequest { metadata: [("a".to_owned(), "a".repeat(MOST))].into(), ..predict::request("iris") };
    let requests = futures_util::stream::iter([predict::request("iris"), large]);
    let mut answers = running.client().stream_predict(requests).await.unwrap();
    let mut told = Vec::new();
    while let Some(answer) = answers.next().await {
        told.push(answer);
    }
    let refusal = Refusal::from(told.pop().unwrap().unwrap_err());
    assert_eq!((refusal.code, refusal.reason.as_str()), (Some(Code::ResourceExhausted), TOO_LARGE));
    assert!(told.into_iter().all(|answer| answer.unwrap().result.is_ok()), "what was read before is answered");
}

#[tokio::test]
async fn large_whole_answers_are_compressed_when_asked_and_small_ones_are_not() {
    let text = "large ".repeat(8000);
    let answer = json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}).to_string();
    let upstream = Fake::start({
        let answer = answer.clone();
        move |seen| if seen.text().contains("small") { llm(seen) } else { Answer::json(answer.clone()) }
    })
    .await;
    let running = gateway(&upstream.url).await;
    let plain = reqwest::Client::builder().build().unwrap();
    for door in doors::doors(Task::Chat).into_iter().filter(|door| !door.streaming && !matches!(door.way, Way::Grpc | Way::GrpcWeb)) {
        for (accept, wanted) in [("", None), ("gzip", Some("gzip")), ("gzip, zstd;q=0", Some("gzip")), ("br, gzip, zstd", Some("zstd"))] {
            for (prompt, wanted) in [("large", wanted), ("small", None)] {
                let request = plain.post(running.url(&door.path("chat"))).header("content-type", "application/json");
                let response = request.header("accept-encoding", accept).body(door.body("chat", prompt).to_string()).send().await.unwrap();
                let told = response.headers().get("content-encoding").map(|value| value.to_str().unwrap().to_owned());
                assert_eq!(told.as_deref(), wanted, "{door:?} {accept} {prompt}");
                assert!(wanted.is_none() || response.headers()["vary"] == "accept-encoding", "{door:?}");
                let bytes = response.bytes().await.unwrap();
                let body: Vec<u8> = match wanted {
                    Some("gzip") => gunzip(&bytes),
                    Some(_) => zstd::stream::decode_all(&*bytes).unwrap(),
                    None => bytes.to_vec(),
                };
                let body: Value = serde_json::from_slice(&body).unwrap();
                let said = if door.way == Way::Native {
                    &body["choices"][0]["message"]["parts"][0]["text"]["text"]
                } else {
                    &body["choices"][0]["message"]["content"]
                };
                assert_eq!(said, if prompt == "large" { text.as_str() } else { TEXT }, "{door:?}");
            }
        }
    }
}

#[tokio::test]
async fn large_messages_are_compressed_when_asked_and_streams_are_not() {
    let text = "large ".repeat(8000);
    let upstream = Fake::start({
        let text = text.clone();
        move |seen| {
            let said = json!({"role": "assistant", "content": text});
            match seen.wants_stream() {
                true => Answer::events(&[crate::speech::chunk(&said), crate::speech::finish(), "[DONE]".to_owned()]),
                false => Answer::json(json!({"choices": [{"index": 0, "message": said, "finish_reason": "stop"}]}).to_string()),
            }
        }
    })
    .await;
    let running = gateway(&upstream.url).await;
    let mut client = ChatServiceClient::new(channel(&running).await).accept_compressed(CompressionEncoding::Gzip);
    let response = client.chat(chat("chat", "hi")).await.unwrap();
    assert_eq!(response.metadata().get("grpc-encoding").unwrap(), "gzip");
    let answer: ChatResponse = response.into_inner();
    assert!(answer.encoded_len() > text.len());
    let response = client.stream_chat(chat("chat", "hi")).await.unwrap();
    assert_eq!(response.metadata().get("grpc-encoding").map(|value| value.to_str().unwrap()).filter(|value| *value != "identity"), None);
    let mut small = PredictionServiceClient::new(channel(&running).await).accept_compressed(CompressionEncoding::Gzip);
    let refused = small.predict(predict::request("nothing")).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn a_head_too_large_is_refused() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url).await;
    let request = running.http().post(running.url("/llm/v1/chat/chat")).header("x-large", "a".repeat(80 << 10)).body("{}");
    assert_eq!(request.send().await.unwrap().status(), 431);
    assert!(upstream.seen().is_empty());
}

/// Deep JSON must not reach the end of the stack.
#[tokio::test]
async fn json_too_deep_is_refused() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url).await;
    let deep = |lead: &str| format!("{lead}{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
    for (path, body) in [("/v1/endpoints/chat:chat", deep("{\"provider_options\":")), ("/v1/endpoints/chat:chat", deep("{\"messages\":"))] {
        let response = running.post(path, body).await;
        assert_eq!(Refusal::of_response(response).await.http, Some(400), "{path}");
    }
    // The byte lane reads no more than it must; whatever it says, the gateway lives.
    for path in ["/llm/v1/chat/chat", "/endpoints/iris/invocations", "/v1/endpoints/iris:predict"] {
        running.post(path, deep("{\"inputs\":")).await;
    }
    assert_eq!(running.http().get(running.url("/health")).send().await.unwrap().status(), 200);
}
