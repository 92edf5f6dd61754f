//! The end: calls in flight finish, nothing new is let in, and the gateway says so before it is gone.

use std::sync::Arc;

use futures_util::StreamExt as _;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    doors::{self, Door, Refusal, Task, Told, collect, next_text},
    fake::{Answer, Fake, Gate, pieces, soon, until},
    gateway::{Running, counted},
    predict::{self, PredictDoor},
    speech::{PIECES, TEXT, TOKENS, chat_endpoint, config, endpoint, events, predict_endpoint},
};

async fn gateway(url: &str) -> Running {
    Running::start(&config(&[chat_endpoint(url, ""), endpoint("text", "llm/v1/completions", url, ""), predict_endpoint("iris", url, "")]))
        .await
}

/// An upstream that stops in the middle of each answer until the gate is opened.
async fn halting(gate: &Gate) -> Fake {
    let gate = gate.clone();
    Fake::start(move |seen| {
        let is_chat = seen.path.ends_with("/chat/completions");
        if seen.wants_stream() {
            let events = events(is_chat);
            let first = events.iter().position(|event| event.contains(PIECES[0])).unwrap() + 1;
            return Answer::sse(pieces(&events[..first]).chain(gate.before(pieces(&events[first..]))));
        }
        let body = match seen.path.as_str() {
            "/invocations" => r#"{"predictions":[1]}"#.to_owned(),
            _ if is_chat => crate::speech::chat().to_string(),
            _ => crate::speech::completion().to_string(),
        };
        Answer::Pieces { content_type: "application/json", pieces: gate.before(futures_util::stream::iter([Ok(body.into())])) }
    })
    .await
}

async fn refuses_connections(running: &Running) {
    let address = running.data;
    soon("the end of listening", async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Stops the gateway in the middle of a call at one door.
async fn stop_within(door: Door) {
    let gate = Gate::new();
    let mut upstream = halting(&gate).await;
    let running = gateway(&upstream.url).await;
    let own = if door.task == Task::Chat { "chat" } else { "text" };
    let told = if door.streaming {
        let mut stream = door.open(&running, own).await.unwrap();
        let first = next_text(&mut stream).await.unwrap();
        running.begin_stop();
        refuses_connections(&running).await;
        gate.open();
        let rest = collect(stream).await.unwrap_or_else(|refusal| panic!("{door:?}: {refusal:?}"));
        Told { text: first + &rest.text, ..rest }
    } else {
        let stop = async {
            upstream.called().await;
            running.begin_stop();
            refuses_connections(&running).await;
            gate.open();
        };
        tokio::join!(door.ask(&running, own), stop).0.unwrap_or_else(|refusal| panic!("{door:?}: {refusal:?}"))
    };
    assert_eq!(told, Told { text: TEXT.to_owned(), tokens: Some(TOKENS) }, "{door:?}");
    assert_eq!(soon("the gateway's end", running.stopped()).await.unwrap(), 0, "{door:?}");
}

#[tokio::test]
async fn calls_in_flight_finish_and_new_connections_are_refused() {
    let doors = [doors::doors(Task::Chat), doors::doors(Task::Complete)].concat();
    futures_util::future::join_all(doors.into_iter().map(stop_within)).await;
}

#[tokio::test]
async fn predictions_in_flight_finish() {
    for door in predict::DOORS {
        let gate = Gate::new();
        let mut upstream = halting(&gate).await;
        let running = gateway(&upstream.url).await;
        let stop = async {
            upstream.called().await;
            running.begin_stop();
            refuses_connections(&running).await;
            gate.open();
        };
        let (told, ()) = tokio::join!(door.ask(&running, "iris"), stop);
        let wanted =
            if matches!(door, PredictDoor::Grpc | PredictDoor::GrpcStream) { serde_json::json!([1.0]) } else { serde_json::json!([1]) };
        assert_eq!(told.unwrap(), wanted, "{door:?}");
        soon("the gateway's end", running.stopped()).await.unwrap();
    }
}

#[tokio::test]
async fn an_idle_gateway_stops_at_once_whatever_connections_are_open() {
    let upstream = Fake::start(crate::speech::llm).await;
    let running = gateway(&upstream.url).await;
    let client = running.client();
    client.chat(doors::chat("chat", "hi")).await.unwrap();
    assert_eq!(running.post("/llm/v1/chat/chat", r#"{"messages":[{"role":"user","content":"hi"}]}"#).await.status(), 200);
    let admin = running.admin;
    running.begin_stop();
    soon("the gateway's end", running.stopped()).await.unwrap();
    assert!(tokio::net::TcpStream::connect(admin).await.is_err());
    assert_eq!(client.chat(doors::chat("chat", "hi")).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn health_and_readiness_say_so_while_the_last_call_finishes() {
    let gate = Gate::new();
    let mut upstream = halting(&gate).await;
    let running = gateway(&upstream.url).await;
    let channel = tonic::transport::Channel::from_shared(running.url("")).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel);
    let mut watches = Vec::new();
    for service in ["", "flowgate.v1.ChatService", "chat"] {
        let asked = HealthCheckRequest { service: service.to_owned() };
        let mut watch = health.watch(asked).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status, 1, "{service}");
        watches.push((service, watch));
    }
    let ready = async |path: &str| running.http().get(format!("http://{}{path}", running.admin)).send().await.unwrap().status().as_u16();
    assert_eq!((ready("/readyz").await, ready("/livez").await), (200, 200));
    let call = doors::Door { way: doors::Way::OpenAi, task: Task::Chat, streaming: false };
    let stop = async {
        upstream.called().await;
        running.begin_stop();
        for (service, watch) in &mut watches {
            let told = soon("the change of health", watch.message()).await.unwrap().unwrap();
            assert_eq!(told.status, 2, "{service}");
        }
        assert_eq!((ready("/readyz").await, ready("/livez").await), (503, 200));
        gate.open();
    };
    let (told, ()) = tokio::join!(call.ask(&running, "chat"), stop);
    assert_eq!(told.unwrap().text, TEXT);
    for (service, mut watch) in watches {
        assert!(soon("the end of the watch", watch.message()).await.unwrap().is_none(), "a watch of {service} must not hold the stop up");
    }
    soon("the gateway's end", running.stopped()).await.unwrap();
}

/// A gateway whose calls have only a moment left once the shutdown has begun.
async fn impatient(url: &str) -> Running {
    let endpoints = [chat_endpoint(url, ""), endpoint("text", "llm/v1/completions", url, ""), predict_endpoint("iris", url, "")];
    Running::start(&format!("shutdown_grace: 50ms\n{}", config(&endpoints))).await
}

/// What a caller is told whose call the shutdown has ended.
fn assert_cut(refusal: &Refusal, door: &impl std::fmt::Debug) {
    assert_eq!(refusal.reason, "GATEWAY_UNAVAILABLE", "{door:?}: {refusal:?}");
    assert!(refusal.message.contains("shut down"), "{door:?}: {refusal:?}");
    assert!(refusal.code.is_none_or(|code| code == Code::Unavailable), "{door:?}: {refusal:?}");
}

/// The gateway ends, and says of how many calls that it ended them.
async fn ended(running: Running, cut: usize, door: &impl std::fmt::Debug) {
    let gateway = Arc::clone(&running.gateway);
    assert_eq!(soon("the gateway's end", running.stopped()).await.unwrap(), cut, "{door:?}");
    assert_eq!(counted(&gateway, "flowgate_errors_total", &["GATEWAY_UNAVAILABLE", "origin=\"gateway\""]), cut, "{door:?}");
    assert_eq!(counted(&gateway, "flowgate_calls_total", &[]), cut, "{door:?}");
    assert_eq!(counted(&gateway, "flowgate_in_flight", &[]), 0, "{door:?}");
}

/// Lets the grace pass in the middle of a call at one door.
async fn cut_within(door: Door, h2: bool) {
    let mut upstream = halting(&Gate::new()).await;
    let mut running = impatient(&upstream.url).await;
    if h2 {
        running.speak_h2();
    }
    let own = if door.task == Task::Chat { "chat" } else { "text" };
    let refusal = if door.streaming {
        let mut stream = door.open(&running, own).await.unwrap();
        assert_eq!(next_text(&mut stream).await.unwrap(), PIECES[0]);
        running.begin_stop();
        collect(stream).await.unwrap_err()
    } else {
        let stop = async {
            upstream.called().await;
            running.begin_stop();
        };
        tokio::join!(door.ask(&running, own), stop).0.unwrap_err()
    };
    assert_cut(&refusal, &door);
    assert!(refusal.http.is_none_or(|status| status == 503), "{door:?}: {refusal:?}");
    upstream.client_gone().await;
    ended(running, 1, &door).await;
}

#[tokio::test]
async fn calls_that_do_not_finish_in_the_grace_are_told_so_at_every_door() {
    let doors = [doors::doors(Task::Chat), doors::doors(Task::Complete)].concat();
    let both = doors.into_iter().flat_map(|door| [false, true].map(|h2| cut_within(door, h2)));
    futures_util::future::join_all(both).await;
}

/// A call of which nothing has come when the grace is over.
async fn cut_before<T: std::fmt::Debug>(running: &Running, upstream: &mut Fake, call: impl Future<Output = Result<T, Refusal>>) -> Refusal {
    let stop = async {
        upstream.called().await;
        running.begin_stop();
    };
    tokio::join!(call, stop).0.unwrap_err()
}

#[tokio::test]
async fn streams_that_have_not_begun_are_refused_with_a_status() {
    let cut = async |door: Door| {
        let mut upstream = Fake::start(|_| Answer::Silence).await;
        let running = impatient(&upstream.url).await;
        let refusal = cut_before(&running, &mut upstream, door.ask(&running, "chat")).await;
        assert_cut(&refusal, &door);
        assert_eq!(refusal.http, (!matches!(door.way, doors::Way::Grpc | doors::Way::GrpcWeb)).then_some(503), "{door:?}");
        ended(running, 1, &door).await;
    };
    futures_util::future::join_all(doors::streaming(Task::Chat).into_iter().map(cut)).await;
}

#[tokio::test]
async fn predictions_that_do_not_finish_in_the_grace_are_told_so() {
    let cut = async |door: PredictDoor| {
        let mut upstream = Fake::start(|_| Answer::Silence).await;
        let running = impatient(&upstream.url).await;
        assert_cut(&cut_before(&running, &mut upstream, door.ask(&running, "iris")).await, &door);
        let gateway = Arc::clone(&running.gateway);
        assert_eq!(soon("the gateway's end", running.stopped()).await.unwrap(), 1, "{door:?}");
        // The stream around a request had nothing more to do: the refusal was the request's answer.
        let calls = if door == PredictDoor::GrpcStream { 2 } else { 1 };
        assert_eq!(counted(&gateway, "flowgate_calls_total", &[]), calls, "{door:?}");
        assert_eq!(counted(&gateway, "flowgate_errors_total", &["reason=\"GATEWAY_UNAVAILABLE\""]), 1, "{door:?}");
    };
    futures_util::future::join_all(predict::DOORS.into_iter().map(cut)).await;
}

/// Neither the stream nor its requests hold the end up, and each is told.
#[tokio::test]
async fn a_stream_of_predictions_that_does_not_end_is_ended() {
    let mut upstream = Fake::start(|_| Answer::Silence).await;
    let running = impatient(&upstream.url).await;
    let requests = futures_util::stream::iter((0..3).map(|_| predict::request("iris"))).chain(futures_util::stream::pending());
    let mut answers = soon("the head of the stream", running.client().stream_predict(requests)).await.unwrap();
    for _ in 0..3 {
        tokio::select! {
            answer = answers.next() => panic!("{answer:?}"),
            () = upstream.called() => {}
        }
    }
    running.begin_stop();
    for _ in 0..3 {
        let answer = soon("the answer", answers.next()).await.unwrap().unwrap();
        assert_cut(&Refusal::from(answer.result.unwrap_err()), &answer.index);
    }
    assert_cut(&Refusal::from(soon("the end", answers.next()).await.unwrap().unwrap_err()), &"the stream");
    ended(running, 4, &"the stream").await;
}

/// The caller is still sending.
#[tokio::test]
async fn a_request_that_is_not_yet_whole_is_refused_when_the_grace_is_over() {
    let running = impatient("http://127.0.0.1:9").await;
    let piece = futures_util::stream::iter([Ok::<_, std::io::Error>("{\"messages\": [")]).chain(futures_util::stream::pending());
    let stop = async {
        until("the request", || running.in_flight() == 1).await;
        running.begin_stop();
    };
    let (response, ()) = tokio::join!(running.post("/llm/v1/chat/chat", reqwest::Body::wrap_stream(piece)), stop);
    assert_eq!(response.status(), 503);
    assert_cut(&Refusal::of_response(response).await, &"the body");
    ended(running, 1, &"the body").await;
}

/// Who does not read cannot be told; the connection is cut then, and the record says why.
#[tokio::test]
async fn a_client_that_does_not_read_cannot_hold_the_end_up() {
    for h2 in [false, true] {
        let endless = futures_util::stream::repeat_with(|| crate::speech::chunk(&serde_json::json!({"content": "x".repeat(10_000)})));
        let endless = endless.map(|event| Ok(format!("data: {event}\n\n").into()));
        let endless = std::sync::Mutex::new(Some(endless));
        let mut upstream = Fake::start(move |_| Answer::sse(endless.lock().unwrap().take().unwrap())).await;
        let mut running = impatient(&upstream.url).await;
        if h2 {
            running.speak_h2();
        }
        let door = Door { way: doors::Way::OpenAi, task: Task::Chat, streaming: true };
        let unread = door.open(&running, "chat").await.unwrap();
        running.begin_stop();
        upstream.client_gone().await;
        ended(running, 1, &h2).await;
        drop(unread);
    }
}

/// Whoever balances load hears at once that this gateway goes, and may still send calls until it has acted on that.
#[tokio::test]
async fn new_connections_are_served_for_the_delay_while_readiness_says_no() {
    let upstream = Fake::start(crate::speech::llm).await;
    let running = Running::start(&format!("shutdown_delay: 1h\n{}", config(&[chat_endpoint(&upstream.url, "")]))).await;
    let channel = tonic::transport::Channel::from_shared(running.url("")).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1);
    running.begin_stop();
    assert_eq!(soon("the change of health", watch.message()).await.unwrap().unwrap().status, 2);
    let admin = async |path: &str| running.http().get(format!("http://{}{path}", running.admin)).send().await.unwrap().status().as_u16();
    assert_eq!((admin("/readyz").await, admin("/livez").await, admin("/metrics").await), (503, 200, 200));
    for door in doors::doors(Task::Chat) {
        // Each gRPC call makes a client, and so a connection, of its own.
        assert_eq!(door.ask(&running, "chat").await.unwrap().text, TEXT, "{door:?}");
    }
    let fresh = reqwest::Client::new().get(running.url("/health")).send().await.unwrap();
    assert_eq!(fresh.status(), 200);
    assert!(fresh.headers().get("connection").is_none(), "the connection stays for the delay");
    assert_eq!(health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status, 2);
}

#[tokio::test]
async fn the_drain_begins_when_the_delay_is_over() {
    let upstream = Fake::start(crate::speech::llm).await;
    let delay = std::time::Duration::from_millis(300);
    let running = Running::start(&format!("shutdown_delay: 300ms\n{}", config(&[chat_endpoint(&upstream.url, "")]))).await;
    let channel = tonic::transport::Channel::from_shared(running.url("")).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel);
    let mut first = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(first.message().await.unwrap().unwrap().status, 1);
    let begun = tokio::time::Instant::now();
    running.begin_stop();
    // Who watches again must not hold the stop up either.
    while let Some(told) = soon("the end of the watch", first.message()).await.unwrap() {
        assert_eq!(told.status, 2);
    }
    assert!(begun.elapsed() >= delay, "a watch goes on for the delay");
    let again = soon("the second watch", health.watch(HealthCheckRequest::default())).await;
    if let Ok(again) = again {
        let mut again = again.into_inner();
        while let Ok(Some(told)) = soon("the end of the second watch", again.message()).await {
            assert_eq!(told.status, 2);
        }
    }
    refuses_connections(&running).await;
    let before = tokio::time::Instant::now();
    assert_eq!(soon("the gateway's end", running.stopped()).await.unwrap(), 0);
    assert!(before.elapsed() < std::time::Duration::from_secs(8), "nothing waited for the grace");
}
