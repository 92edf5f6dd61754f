//! The way to an upstream over real sockets on port 0, with a dialect of its own.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use futures_util::{FutureExt as _, StreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, timeout},
};

use super::*;
use crate::{
    call::{Call, Choice, Record},
    catalog::Endpoint,
    config::{self, Place, Timeouts},
    dialect::{Ask, Decoder, Dialect, Frame, Settings, Target, Unsupported, failure},
    event::{Answer, Event, Lane, Payload, Protocol, Request, Tariff, Task, Wire, WireAnswer, WireFrame},
    identity::Principal,
    provider,
};

mod connections;
mod credentials;
mod ejection;
mod embeddings;
mod health;
mod names;
mod replicas;
mod secrets;

const SOON: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Plain;

struct PlainDecoder;

impl Dialect for Plain {
    fn protocol(&self, _: Task) -> Option<Protocol> {
        None
    }

    fn encode(&self, ask: &Ask<'_>, target: &Target) -> Result<http::Request<Bytes>> {
        target.post("/x", HeaderValue::from_static("application/json"), ask.payload.wire().unwrap().body.clone())
    }

    fn decode(&self, ask: &Ask<'_>, _: &Target, headers: &HeaderMap, body: Bytes) -> Result<Answer> {
        assert!(!ask.streaming);
        if let Some(told) = body.strip_prefix(b"error: ") {
            return Err(told_inside(told));
        }
        Ok(Answer::Wire(WireAnswer { content_type: headers[http::header::CONTENT_TYPE].clone(), body, usage: None }))
    }

    fn decoder(&self, _: &Ask<'_>, _: &Target) -> Box<dyn Decoder> {
        Box::new(PlainDecoder)
    }

    fn classify(&self, _target: &Target, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        failure::by_status(status, headers, std::str::from_utf8(body).ok())
    }
}

fn told_inside(told: &[u8]) -> Error {
    let told = String::from_utf8_lossy(told).into_owned();
    Error::new(ErrorReason::ProviderFailed, told.clone()).credential_stale(told.contains("expired")).because(told)
}

impl Decoder for PlainDecoder {
    fn frame(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<()> {
        match &frame.data[..] {
            b"[DONE]" => events.push(Event::End),
            b"bad" => return Err(Error::new(ErrorReason::ProviderFailed, "an error event")),
            told if told.starts_with(b"error: ") => return Err(told_inside(told)),
            _ => events.push(Event::Wire(WireFrame { bytes: frame.raw, content: true, usage: None })),
        }
        Ok(())
    }
}

fn deployment(urls: &[&str], change: impl FnOnce(&mut config::Deployment)) -> Arc<Deployment> {
    let provider = provider::find("mlflow").unwrap();
    let addresses: Vec<Uri> = urls.iter().map(|url| url.parse().unwrap()).collect();
    let mut config = config::Deployment {
        alias: "fast".to_owned(),
        weight: None,
        condition: None,
        provider,
        model: "m".to_owned(),
        place: Place::Http(addresses.clone()),
        parameters: serde_json::Map::new(),
        credentials: Vec::new(),
        headers: HeaderMap::from_iter([(HeaderName::from_static("x-team"), HeaderValue::from_static("operator"))]),
        hidden: Vec::new(),
        settings: Settings::default(),
        templates: crate::dialect::templated::Templates::default(),
        proxy: None,
        ca: None,
        traits: config::Traits::default(),
    };
    change(&mut config);
    let target = |base: Uri| Target {
        provider: provider.name,
        base,
        model: config.model.clone(),
        settings: Settings::default(),
        headers: config.headers.clone(),
        templates: crate::dialect::templated::Templates::default(),
        quirks: &provider.quirks,
    };
    Arc::new(Deployment {
        task: Task::Chat,
        alias: config.alias.as_str().into(),
        provider: provider.name,
        dialect: Some(&Plain),
        targets: addresses.into_iter().map(target).collect(),
        parameters: serde_json::Map::new(),
        tariff: Tariff::default(),
        config,
    })
}

fn attempt(deployment: &Arc<Deployment>, streaming: bool) -> Attempt {
    let config = config::Endpoint {
        name: "e".to_owned(),
        task: Task::Chat,
        path: None,
        description: String::new(),
        tags: Vec::new(),
        limit: None,
        timeouts: Timeouts::defaults(Task::Chat),
        unsupported: Unsupported::Refuse,
        media: None,
        compat: None,
        is_split: false,
        routing: config::Routing::default(),
        deployments: Vec::new(),
    };
    let wire = Wire {
        protocol: Protocol::OpenAiChat,
        content_type: HeaderValue::from_static("application/json"),
        body: Bytes::from_static(b"{}"),
        decode: |_| Ok(Request::Chat(flowgate_proto::v1::ChatRequest::default())),
    };
    let sent = [("x-team", "caller"), ("x-trace", "1"), ("x-trace", "2")];
    let call = Call {
        id: "id-1".into(),
        endpoint: Arc::new(Endpoint {
            name: "e".into(),
            task: Task::Chat,
            config,
            deployments: Vec::new(),
            steps: Vec::new(),
            asks: false,
        }),
        principal: Arc::new(Principal::named("p")),
        task: Task::Chat,
        streaming,
        payload: Payload::wire_only(wire),
        deadline: Some(Instant::now() + Duration::from_secs(5)),
        own_total: None,
        headers: sent.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).into_iter().collect(),
        record: Arc::new(Record::default()),
        choice: Choice::default(),
        media: Arc::default(),
    };
    Attempt { call, deployment: Arc::clone(deployment), replica: None, credential: 0, number: 2, lane: Lane::Byte }
}

fn upstream(deployment: &Arc<Deployment>) -> Upstream {
    Connections::default().upstream(deployment, &Timeouts::defaults(Task::Chat)).unwrap()
}

/// A server that hands each connection to `serve`, with its number from 0.
async fn server<F>(serve: impl Fn(usize, TcpStream) -> F + Send + Sync + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let tasks = Tasks::default();
    tasks.clone().spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tasks.spawn(serve(number, stream));
        }
    });
    address
}

/// One request, its head in lower case; `None` when the client went away.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = memchr::memmem::find(&read, b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |length| length.parse().unwrap());
    while read.len() < end + length {
        stream.read_buf(&mut read).await.unwrap();
    }
    Some(head)
}

fn whole(status: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nx-request-id: up-1\r\nset-cookie: no\r\n\r\n{body}",
        body.len()
    )
}

/// A server that gives every request the same answer and then closes, if told so.
async fn answering(answer: String, close: bool) -> String {
    server(move |_, mut stream| {
        let answer = answer.clone();
        async move {
            while request(&mut stream).await.is_some() {
                stream.write_all(answer.as_bytes()).await.unwrap();
                if close {
                    return;
                }
            }
        }
    })
    .await
}

const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";

async fn fails(answer: &str, streaming: bool) -> Error {
    let url = answering(answer.to_owned(), true).await;
    let deployment = deployment(&[&url], |_| ());
    match upstream(&deployment).send(attempt(&deployment, streaming)).await {
        Err(error) => error,
        Ok(reply) => reply.filter_map(async |event| event.err()).boxed().next().await.unwrap(),
    }
}

#[tokio::test]
async fn a_unary_call_is_dressed_answered_and_its_connection_kept() {
    let (heads, mut seen) = mpsc::unbounded_channel();
    let url = server(move |number, mut stream| {
        let heads = heads.clone();
        async move {
            while let Some(head) = request(&mut stream).await {
                heads.send((number, head)).unwrap();
                stream.write_all(whole("200 OK", "application/json", "{\"a\":1}").as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let deployment = deployment(&[&url], |_| ());
    let upstream = upstream(&deployment);
    for _ in 0..3 {
        let attempt = attempt(&deployment, false);
        let record = Arc::clone(&attempt.call.record);
        let reply = upstream.send(attempt).await.unwrap();
        let head = reply.head.clone();
        let Answer::Wire(answer) = reply.answer().await.unwrap() else { panic!("not the dialect's answer") };
        assert_eq!(answer.body, "{\"a\":1}");
        assert_eq!((head.lane, &*head.deployment, head.attempts), (Lane::Byte, "fast", 2));
        assert_eq!(head.headers, HeaderMap::from_iter([("x-upstream-request-id".parse().unwrap(), HeaderValue::from_static("up-1"))]));
        let facts = record.facts();
        assert_eq!((facts.deployment.as_deref(), facts.provider), (Some("fast"), Some("mlflow")));
        assert!(facts.upstream > Duration::ZERO);
        let (number, head) = seen.recv().await.unwrap();
        assert_eq!(number, 0, "the same connection");
        assert!(head.contains("x-team: operator") && !head.contains("x-team: caller"), "{head}");
        for line in [
            "post /x http/1.1",
            "x-trace: 1",
            "x-trace: 2",
            "x-request-id: id-1",
            "x-request-timeout: 4",
            "user-agent: flowgate/",
            "accept-encoding: identity",
        ] {
            assert!(head.contains(line), "{line} in {head}");
        }
    }
}

#[tokio::test]
async fn a_stream_comes_piece_by_piece_and_its_connection_is_kept() {
    let (go, told) = mpsc::unbounded_channel::<()>();
    let told = Arc::new(tokio::sync::Mutex::new(told));
    let url = server(move |number, mut stream| {
        let told = Arc::clone(&told);
        async move {
            while request(&mut stream).await.is_some() {
                assert_eq!(number, 0, "the same connection");
                let mut told = told.lock().await;
                let mut write = async |text: &str| stream.write_all(text.as_bytes()).await.unwrap();
                write(&format!("{EVENTS}transfer-encoding: chunked\r\n\r\n")).await;
                write("18\r\ndata: one\n\ndata: two\n\nda\r\n").await;
                told.recv().await.unwrap();
                write("e\r\nta: three\n\ndat\r\n").await;
                write("c\r\na: [DONE]\n\nx\r\n").await;
                told.recv().await.unwrap();
                write("0\r\n\r\n").await;
            }
        }
    })
    .await;
    let deployment = deployment(&[&url], |_| ());
    let first = upstream(&deployment);
    for _ in 0..2 {
        // The same connections, with tasks that can be waited for.
        let upstream =
            Upstream { deployment: Arc::clone(&deployment), group: Arc::clone(&first.group), ways: Vec::new(), tasks: Tasks::default() };
        let mut reply = upstream.send(attempt(&deployment, true)).await.unwrap();
        assert!(matches!(reply.next().await, Some(Ok(Event::Wire(frame))) if frame.bytes == "data: one\n\n"));
        let second = reply.next().now_or_never().expect("events of one chunk come without waiting");
        assert!(matches!(second, Some(Ok(Event::Wire(frame))) if frame.bytes == "data: two\n\n"));
        assert!(reply.next().now_or_never().is_none());
        go.send(()).unwrap();
        assert!(matches!(reply.next().await, Some(Ok(Event::Wire(frame))) if frame.bytes == "data: three\n\n"));
        assert!(matches!(reply.next().await, Some(Ok(Event::End))));
        assert!(reply.next().await.is_none(), "nothing follows the end mark");
        drop(reply);
        go.send(()).unwrap();
        upstream.tasks.finished().await;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_stream_that_stops_before_its_end_mark_has_failed() {
    let cut_in_a_chunk = format!("{EVENTS}transfer-encoding: chunked\r\n\r\n50\r\ndata: one\n\ndata: tw");
    let ends_cleanly = format!("{EVENTS}\r\ndata: one\n\n");
    let ends_in_a_frame = format!("{EVENTS}\r\ndata: one\n\ndata: ba");
    let says_nothing = format!("{EVENTS}content-length: 0\r\n\r\n");
    for answer in [cut_in_a_chunk, ends_cleanly, ends_in_a_frame, says_nothing] {
        let error = fails(&answer, true).await;
        assert_eq!(error.reason(), ErrorReason::ProviderStreamCut, "{answer}");
        assert!(error.to_string().contains("`fast`"));
    }
    let error = fails(&format!("{EVENTS}\r\ndata: one\n\ndata: bad\n\n"), true).await;
    assert_eq!(error.reason(), ErrorReason::ProviderFailed, "the dialect's error stands");
}

#[tokio::test]
async fn an_unclosed_end_mark_is_an_end_mark() {
    let url = answering(format!("{EVENTS}\r\ndata: one\n\ndata: [DONE]"), true).await;
    let deployment = deployment(&[&url], |_| ());
    let reply = upstream(&deployment).send(attempt(&deployment, true)).await.unwrap();
    assert!(matches!(reply.collect::<Vec<_>>().await.as_slice(), [Ok(Event::Wire(_)), Ok(Event::End)]));
}

#[tokio::test]
async fn failures_before_the_answer_have_their_reason_and_no_address() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let dead = deployment(&[&url], |_| ());
    let error = upstream(&dead).send(attempt(&dead, false)).await.unwrap_err();
    assert_eq!(error.reason(), ErrorReason::ProviderUnavailable);
    assert!(!error.to_string().contains("127.0.0.1"), "{error}");
    assert!(format!("{error:?}").to_lowercase().contains("refused"), "{error:?}");

    let nowhere = deployment(&["http://nowhere.invalid"], |_| ());
    let error = upstream(&nowhere).send(attempt(&nowhere, false)).await.unwrap_err();
    assert_eq!(error.reason(), ErrorReason::ProviderUnavailable);

    let answers = [
        ("", ErrorReason::ProviderUnavailable),
        ("SSH-2.0-OpenSSH\r\n", ErrorReason::ProviderBadAnswer),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", ErrorReason::ProviderFailed),
        ("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\n{", ErrorReason::ProviderBadAnswer),
        (&whole("429 Slow", "text/plain", "calm down"), ErrorReason::ProviderRateLimited),
        (&whole("500 No", "text/plain", "sorry"), ErrorReason::ProviderFailed),
        (&whole("302 There", "text/plain", ""), ErrorReason::ProviderBadAnswer),
    ];
    for (answer, reason) in answers {
        assert_eq!(fails(answer, false).await.reason(), reason, "{answer}");
    }
}

#[tokio::test]
async fn a_whole_answer_to_a_streamed_call_is_an_answer_if_it_is_json() {
    let url = answering(whole("200 OK", "application/json; charset=utf-8", "{\"error\":null}"), false).await;
    let deployment = deployment(&[&url], |_| ());
    let reply = upstream(&deployment).send(attempt(&deployment, true)).await.unwrap();
    assert!(reply.is_unary() && matches!(reply.answer().await, Ok(Answer::Wire(_))));

    let error = fails(&whole("200 OK", "text/html", "<p>"), true).await;
    assert_eq!(error.reason(), ErrorReason::ProviderBadAnswer);
}

#[tokio::test]
async fn dropping_a_call_or_a_reply_closes_the_connection() {
    let (closed, mut seen) = mpsc::unbounded_channel();
    let (asked, mut arrived) = mpsc::unbounded_channel();
    let url = server(move |number, mut stream| {
        let (closed, asked) = (closed.clone(), asked.clone());
        async move {
            request(&mut stream).await;
            if number == 1 {
                stream.write_all(format!("{EVENTS}\r\ndata: one\n\n").as_bytes()).await.unwrap();
            }
            asked.send(()).unwrap();
            closed.send(stream.read(&mut [0]).await.unwrap_or(0)).unwrap();
        }
    })
    .await;
    let deployment = deployment(&[&url], |_| ());
    let upstream = upstream(&deployment);

    let mut silent = Box::pin(upstream.send(attempt(&deployment, false)));
    tokio::select! {
        _ = &mut silent => panic!("nobody answered"),
        _ = arrived.recv() => {}
    }
    drop(silent);
    assert_eq!(timeout(SOON, seen.recv()).await.unwrap(), Some(0), "the call");

    let mut reply = upstream.send(attempt(&deployment, true)).await.unwrap();
    assert!(reply.next().await.is_some());
    assert!(reply.next().now_or_never().is_none());
    drop(reply);
    assert_eq!(timeout(SOON, seen.recv()).await.unwrap(), Some(0), "the reply");
}

#[tokio::test]
async fn a_mock_goes_the_same_way() {
    let deployment = deployment(&["http://mock.invalid/v1"], |config| {
        let failure = Some(config::MockFailure { every: 2, status: Some(503), mode: config::MockFailureMode::Status });
        config.place = Place::Mock(config::Mock { failure, ..config::Mock::default() });
    });
    let upstream = upstream(&deployment);
    // The dialect of these tests posts to a path that no server of models knows.
    let error = upstream.send(attempt(&deployment, false)).await.unwrap_err();
    assert_eq!(error.reason(), ErrorReason::ProviderNotFound);
    let error = upstream.send(attempt(&deployment, false)).await.unwrap_err();
    assert_eq!(error.reason(), ErrorReason::ProviderUnavailable);
}
