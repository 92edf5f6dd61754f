//! The end of a gateway: calls in flight finish, nobody new comes in, and whoever watches is told.

use std::net::TcpStream;

use bytes::Bytes;
use futures_util::stream;
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    doors::{Door, Task, Way},
    fake::{Answer, Fake, Gate, soon, until},
    gateway::Running,
    speech,
};

/// An upstream that answers once it is let.
async fn held(gate: &Gate) -> Fake {
    let gate = gate.clone();
    Fake::start(move |seen| match seen.wants_stream() {
        true => Answer::sse(gate.before(speech::stream(true))),
        false => Answer::Pieces {
            content_type: "application/json",
            pieces: gate.before(stream::iter([Ok(Bytes::from(speech::chat().to_string()))])),
        },
    })
    .await
}

#[tokio::test]
async fn calls_in_flight_finish_and_new_connections_are_refused() {
    for way in [Way::Grpc, Way::GrpcWeb, Way::Native, Way::OpenAi] {
        for streaming in [false, true] {
            let door = Door { way, task: Task::Chat, streaming };
            let gate = Gate::new();
            let mut fake = held(&gate).await;
            let running = Running::start(&speech::config(&[speech::chat_endpoint(&fake.url, "")])).await;
            let ends = async {
                fake.called().await;
                running.begin_stop();
                until("the end of listening", || TcpStream::connect(running.data).is_err()).await;
                gate.open();
            };
            let (told, ()) = tokio::join!(door.ask(&running, "chat"), ends);
            assert_eq!(told.unwrap().text, speech::TEXT, "{door:?}");
            soon("the stop", running.stopped()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_idle_gateway_stops_at_once() {
    let fake = Fake::start(speech::llm).await;
    let running = Running::start(&speech::config(&[speech::chat_endpoint(&fake.url, "")])).await;
    let door = Door { way: Way::OpenAi, task: Task::Chat, streaming: false };
    door.ask(&running, "chat").await.unwrap();
    let admin = running.admin;
    running.begin_stop();
    soon("the stop", running.stopped()).await.unwrap();
    assert!(TcpStream::connect(admin).is_err());
}

#[tokio::test]
async fn watchers_and_probes_hear_of_the_drain() {
    let gate = Gate::new();
    let mut fake = held(&gate).await;
    let running = Running::start(&speech::config(&[speech::chat_endpoint(&fake.url, "")])).await;
    let ready = async || running.http().get(format!("http://{}/readyz", running.admin)).send().await.unwrap().status().as_u16();
    let mut health = HealthClient::new(Endpoint::from_shared(running.url("")).unwrap().connect_lazy());
    let mut watches = Vec::new();
    for service in ["", "flowgate.v1.ChatService", "chat"] {
        let asked = HealthCheckRequest { service: service.to_owned() };
        let mut watch = health.watch(asked).await.unwrap().into_inner();
        let first = soon("the first status", watch.message()).await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving, "{service}");
        watches.push(watch);
    }
    assert_eq!(ready().await, 200);
    let door = Door { way: Way::Native, task: Task::Chat, streaming: true };
    let ends = async {
        fake.called().await;
        running.begin_stop();
        for watch in &mut watches {
            let next = soon("the next status", watch.message()).await.unwrap().unwrap();
            assert_eq!(next.status(), ServingStatus::NotServing);
        }
        assert_eq!(ready().await, 503, "the admin listener answers during the drain");
        for watch in &mut watches {
            assert!(soon("the end of the watch", watch.message()).await.unwrap().is_none(), "a watch must not hold the stop up");
        }
        gate.open();
    };
    let (told, ()) = tokio::join!(door.ask(&running, "chat"), ends);
    assert_eq!(told.unwrap().text, speech::TEXT);
    soon("the stop", running.stopped()).await.unwrap();
}
