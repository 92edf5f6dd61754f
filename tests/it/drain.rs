//! The end: calls in flight finish, nothing new is let in, and the gateway says so before it is gone.

use futures_util::StreamExt as _;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    doors::{self, Door, Task, Told, collect, next_text},
    fake::{Answer, Fake, Gate, pieces, soon},
    gateway::Running,
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
    soon("the gateway's end", running.stopped()).await.unwrap();
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

/// Nobody may keep the gateway alive for ever.
#[tokio::test]
async fn calls_that_do_not_finish_are_cut_when_the_grace_is_over() {
    let mut upstream = Fake::start(|_| Answer::Silence).await;
    let running = Running::start(&format!("shutdown_grace: 50ms\n{}", config(&[chat_endpoint(&upstream.url, "")]))).await;
    let client = running.client();
    let stop = async {
        upstream.called().await;
        running.begin_stop();
        upstream.client_gone().await;
    };
    let (told, ()) = tokio::join!(client.chat(doors::chat("chat", "hi")), stop);
    assert!(told.is_err());
    soon("the gateway's end", running.stopped()).await.unwrap();
}
