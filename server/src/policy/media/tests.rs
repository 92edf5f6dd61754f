//! What is fetched for whom: a fetcher whose only server stands for the open internet, and a next that keeps what it is asked.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use flowgate_proto::v1::{ErrorReason, Message, ToolResultPart};
use http::HeaderValue;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::{Duration, advance},
};

use super::*;
use crate::{
    balance::{breaker::State, vitals::Ward},
    call::Call,
    config::Place as Where,
    dialect::openai::door,
    event::{Payload, Protocol, Wire},
    policy::testing::{Once, call, catalog, deployment, endpoint, unary},
    provider,
    task::Tasks,
    upstream::media::Fault,
};

/// A server of pictures, and how often it was asked.
async fn pictures() -> (String, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://pictures.example:{}/cat.png", listener.local_addr().unwrap().port());
    let count = Arc::clone(&asked);
    Tasks::default().spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Relaxed);
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await.unwrap());
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 3\r\n\r\npng";
            socket.write_all(answer).await.unwrap();
        }
    });
    (url, asked)
}

fn named(uri: &str) -> MediaPart {
    MediaPart { source: Some(Source::Uri(uri.to_owned())), ..Default::default() }
}

fn part(media: MediaPart) -> Part {
    Part { kind: Some(Kind::Media(media)), ..Default::default() }
}

fn message(parts: Vec<Part>) -> Message {
    Message { parts, ..Default::default() }
}

fn chat(messages: Vec<Message>) -> Payload {
    Payload::typed_only(Request::Chat(ChatRequest { messages, ..Default::default() }))
}

fn attempt(provider: &str, payload: Payload) -> Attempt {
    let mut only = deployment("only");
    only.provider = provider::find(provider).unwrap();
    only.place = Where::Http(vec!["http://127.0.0.1:1".parse().unwrap()]);
    let catalog = catalog(vec![endpoint("chat", vec![only])]);
    let endpoint = Arc::clone(catalog.endpoint("chat").unwrap());
    let deployment = Arc::clone(&endpoint.deployments[0]);
    Call { endpoint, payload, ..call(false) }.attempt(deployment).unwrap()
}

/// What the provider would get.
async fn carried(attempt: Attempt, allowed: bool) -> Result<Attempt> {
    let vitals = Ward::default().of(&attempt.call.endpoint, &attempt.deployment);
    let media = Media::new(allowed.then(|| (config::Media::default(), Fetcher::of_loopback())), vitals);
    let next = Once::new(Ok(unary()));
    media.handle(attempt, &next).await?;
    Ok(next.1.into_inner().unwrap().unwrap())
}

fn messages(attempt: &Attempt) -> Vec<Message> {
    let Request::Chat(chat) = attempt.call.payload.typed().unwrap() else { panic!("no conversation") };
    chat.messages.clone()
}

fn bytes() -> MediaPart {
    MediaPart { source: Some(Source::Data(Bytes::from_static(b"png"))), mime_type: "image/png".to_owned(), ..Default::default() }
}

fn result(parts: Vec<Part>) -> Part {
    Part { kind: Some(Kind::ToolResult(ToolResultPart { parts, ..Default::default() })), ..Default::default() }
}

#[tokio::test]
async fn bytes_take_the_place_of_addresses_where_the_provider_does_not_fetch() {
    let (url, asked) = pictures().await;
    for provider in ["ollama-native", "bedrock"] {
        let payload = chat(vec![message(vec![part(named(&url)), result(vec![part(named(&url))])])]);
        let carried = carried(attempt(provider, payload), true).await.unwrap();
        assert_eq!(messages(&carried), [message(vec![part(bytes()), result(vec![part(bytes())])])], "{provider}");
        assert_eq!(carried.lane, Lane::Typed);
    }
    assert_eq!(asked.load(Relaxed), 2, "once for each call");
}

#[tokio::test]
async fn all_attempts_of_a_call_share_what_was_fetched() {
    let (url, asked) = pictures().await;
    let first = attempt("bedrock", chat(vec![message(vec![part(named(&url)), part(named(&url))])]));
    for provider in ["bedrock", "ollama-native"] {
        let other = attempt(provider, first.call.payload.clone());
        let again = Attempt { call: Call { media: Arc::clone(&first.call.media), ..other.call.clone() }, ..other };
        let carried = carried(again, true).await.unwrap();
        assert_eq!(messages(&carried), [message(vec![part(bytes()), part(bytes())])], "{provider}");
    }
    assert_eq!(asked.load(Relaxed), 1);
}

#[tokio::test]
async fn what_a_call_has_is_judged_by_each_endpoint() {
    let (url, asked) = pictures().await;
    let (fetcher, kept) = (Fetcher::of_loopback(), crate::call::Media::default());
    let media = config::Media::default();
    let gather = async |media: &config::Media, addresses: &[&str]| fetcher.gather(addresses, media, &kept).await.map(|found| found.len());
    assert_eq!(gather(&media, &[&url]).await, Ok(1));
    let small = config::Media { max_bytes: 5, ..media.clone() };
    assert_eq!(gather(&small, &[&url]).await, Ok(1));
    assert_eq!(gather(&small, &[&url, &url]).await, Err((1, Fault::TooLarge)), "each place has its bytes");
    assert_eq!(gather(&small, &[&url, &url.replace("cat", "dog")]).await, Err((1, Fault::TooLarge)));
    let films = config::Media { types: vec!["video/*".to_owned()], ..media.clone() };
    assert_eq!(gather(&films, &[&url]).await, Err((0, Fault::Type)));
    assert_eq!(asked.load(Relaxed), 2);
}

#[tokio::test]
async fn addresses_stay_where_the_provider_fetches_or_nothing_is_allowed() {
    let (url, asked) = pictures().await;
    let request = vec![message(vec![part(named(&url))])];
    for (provider, allowed) in [("anthropic", true), ("openai", true), ("gemini", true), ("ollama-native", false)] {
        let carried = carried(attempt(provider, chat(request.clone())), allowed).await.unwrap();
        assert_eq!(messages(&carried), request, "{provider}");
    }
    // Addresses that are none of HTTP are the provider's business.
    let other = vec![message(vec![part(named("s3://bucket/key")), part(named("data:image/png;base64,AA==")), part(named("gs://a/b"))])];
    let carried = carried(attempt("bedrock", chat(other.clone())), true).await.unwrap();
    assert_eq!(messages(&carried), other);
    assert_eq!(asked.load(Relaxed), 0);
}

#[tokio::test]
async fn what_a_protocol_wants_as_bytes_is_fetched_though_pictures_are_not() {
    let (url, _) = pictures().await;
    let document = MediaPart { kind: MediaKind::Document.into(), ..named(&url) };
    let payload = chat(vec![message(vec![part(named(&url)), part(document)])]);
    let carried = carried(attempt("openai", payload), true).await.unwrap();
    let document = MediaPart { kind: MediaKind::Document.into(), ..bytes() };
    assert_eq!(messages(&carried), [message(vec![part(named(&url)), part(document)])]);
}

#[tokio::test]
async fn the_error_names_the_part() {
    let (url, _) = pictures().await;
    let fine = message(vec![part(named(&url))]);
    let inner = result(vec![part(bytes()), part(named("http://10.0.0.1/inside"))]);
    for (messages, field, said) in [
        (vec![fine.clone(), message(vec![part(bytes()), part(named("http://u@a/"))])], "messages[1].parts[1].media.uri", "no address"),
        (vec![fine.clone(), message(vec![inner])], "messages[1].parts[0].tool_result.parts[1].media.uri", "cannot be fetched from here"),
        (
            vec![message(vec![part(MediaPart { kind: MediaKind::Audio.into(), ..named(&url) })])],
            "messages[0].parts[0].media.uri",
            "is not of the kind",
        ),
        (vec![fine; MOST + 1], "messages[16].parts[0].media.uri", "at most 16"),
    ] {
        let error = carried(attempt("ollama-native", chat(messages)), true).await.unwrap_err();
        assert_eq!(error.reason(), ErrorReason::CallerInvalidRequest);
        let told = error.to_string();
        assert!(told.contains(field) && told.contains(said), "{told}");
        assert!(!told.contains("10.0.0.1") && !told.contains("inside"), "{told}");
    }
}

/// Of a deployment that is coming back only one call finds out whether it is there.
#[tokio::test(start_paused = true)]
async fn a_caller_at_fault_keeps_nobody_else_from_trying() {
    let attempt = attempt("ollama-native", chat(vec![message(vec![part(named("http://u@a/"))])]));
    let vitals = Ward::default().of(&attempt.call.endpoint, &attempt.deployment);
    (0..5).for_each(|_| _ = vitals.breaker.fault(Instant::now()));
    advance(Duration::from_secs(5)).await;
    vitals.breaker.enter();
    assert_eq!(vitals.breaker.state(), State::Open, "others wait");
    let media = Media::new(Some((config::Media::default(), Fetcher::of_loopback())), Arc::clone(&vitals));
    assert!(media.handle(attempt, &Once::new(Ok(unary()))).await.is_err());
    assert_eq!(vitals.breaker.state(), State::HalfOpen);
}

fn wire(body: String) -> Payload {
    Payload::wire_only(Wire {
        protocol: Protocol::OpenAiChat,
        content_type: HeaderValue::from_static("application/json"),
        body: body.into(),
        decode: door::decode_chat,
    })
}

#[tokio::test]
async fn the_byte_lane_is_left_only_for_what_is_fetched() {
    let (url, asked) = pictures().await;
    let with = |url: &str| {
        let image = format!(r#"{{"type":"image_url","image_url":{{"url":"{url}"}}}}"#);
        wire(format!(r#"{{"model":"chat","messages":[{{"role":"user","content":[{image}]}}]}}"#))
    };
    for (provider, url, lane) in [
        ("ollama", url.as_str(), Lane::Typed),
        ("ollama", "data:image/png;base64,AA==", Lane::Byte),
        ("openai-compatible", url.as_str(), Lane::Byte),
    ] {
        let attempt = attempt(provider, with(url));
        assert_eq!(attempt.lane, Lane::Byte);
        let carried = carried(attempt, true).await.unwrap();
        assert_eq!((carried.lane, carried.call.payload.wire().is_some()), (lane, lane == Lane::Byte), "{provider} {url}");
    }
    assert_eq!(asked.load(Relaxed), 1);
}
