//! A configuration that changes under calls.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use futures_util::stream;
use tonic::Code;

use crate::{
    doors::{Door, Task, Way, collect, doors},
    fake::{Answer, Fake, Gate},
    gateway::Running,
    speech,
};

const DOORS: [Door; 2] =
    [Door { way: Way::Grpc, task: Task::Chat, streaming: false }, Door { way: Way::OpenAi, task: Task::Chat, streaming: true }];

fn before(fake: &Fake) -> String {
    speech::config(&[speech::chat_endpoint(&fake.url, "")])
}

fn locked(key: &str, fake: &Fake) -> String {
    format!("identity: {{ keys: [{{ name: app, key: {key} }}] }}\n{}", before(fake))
}

#[tokio::test]
async fn no_call_fails_while_an_endpoint_moves() {
    let (mut a, mut b) = (Fake::start(speech::llm).await, Fake::start(speech::llm).await);
    let running = Running::start(&before(&a)).await;
    let (over, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    let call = |door: Door| {
        let (running, over, calls) = (&running, &over, &calls);
        async move {
            while !over.load(SeqCst) {
                assert_eq!(door.ask(running, "chat").await.unwrap().text, speech::TEXT, "{door:?}");
                calls.fetch_add(1, SeqCst);
            }
        }
    };
    let moves = async {
        for _ in 0..5 {
            a.called().await;
            running.reload(&before(&b)).await;
            b.called().await;
            running.reload(&before(&a)).await;
        }
        running.reload(&before(&b)).await;
        over.store(true, SeqCst);
    };
    tokio::join!(call(DOORS[0]), call(DOORS[1]), moves);
    assert!(calls.load(SeqCst) >= 10);
    let calls_of_a = a.seen().len();
    for door in doors(Task::Chat) {
        door.ask(&running, "chat").await.unwrap();
    }
    assert_eq!(a.seen().len(), calls_of_a, "later calls reach the new upstream");
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_not_found() {
    let fake = Fake::start(speech::llm).await;
    let running = Running::start(&before(&fake)).await;
    running.reload(&speech::config(&[speech::endpoint("other", "llm/v1/chat", &fake.url, "")])).await;
    for door in doors(Task::Chat) {
        let refusal = door.ask(&running, "chat").await.unwrap_err();
        // Its own path is gone with it.
        let reason = if door.way == Way::Own { "CALLER_UNKNOWN_PATH" } else { "CALLER_ENDPOINT_NOT_FOUND" };
        assert_eq!(refusal.reason, reason, "{door:?}");
        assert!(refusal.http.is_none_or(|status| status == 404), "{door:?}");
        assert!(refusal.code.is_none_or(|code| code == Code::NotFound), "{door:?}");
        door.ask(&running, "other").await.unwrap();
    }
}

#[tokio::test]
async fn keys_are_replaced() {
    let fake = Fake::start(speech::llm).await;
    let running = Running::start(&locked("fg-first-0123456789", &fake)).await;
    let ask = async |key: &str| {
        let client = flowgate_client::Client::options(running.url("")).key(key).unwrap().connect().unwrap();
        client.chat(crate::doors::chat("chat", "hi")).await.map_err(|error| error.code()).map(|_| ())
    };
    assert_eq!((ask("fg-first-0123456789").await, ask("fg-second-0123456789").await), (Ok(()), Err(Code::Unauthenticated)));
    running.reload(&locked("fg-second-0123456789", &fake)).await;
    assert_eq!((ask("fg-first-0123456789").await, ask("fg-second-0123456789").await), (Err(Code::Unauthenticated), Ok(())));
    running.reload(&before(&fake)).await;
    assert_eq!(ask("any").await, Ok(()));
}

#[tokio::test]
async fn a_call_in_flight_ends_where_it_began() {
    for door in doors(Task::Chat) {
        let gate = Gate::new();
        let mut a = Fake::start({
            let gate = gate.clone();
            move |seen| match seen.wants_stream() {
                true => Answer::sse(gate.before(speech::stream(true))),
                false => Answer::Pieces {
                    content_type: "application/json",
                    pieces: gate.before(stream::iter([Ok(Bytes::from(speech::chat().to_string()))])),
                },
            }
        })
        .await;
        let b = Fake::start(speech::llm).await;
        let running = Running::start(&before(&a)).await;
        let moved = async {
            a.called().await;
            running.reload(&before(&b)).await;
            gate.open();
        };
        let (told, ()) = match door.streaming {
            true => tokio::join!(async { collect(door.open(&running, "chat").await?).await }, moved),
            false => tokio::join!(door.ask(&running, "chat"), moved),
        };
        assert_eq!(told.unwrap().text, speech::TEXT, "{door:?}");
        assert!(b.seen().is_empty(), "{door:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_reached_leaves_the_old_configuration() {
    let fake = Fake::start(speech::llm).await;
    let running = Running::start(&before(&fake)).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, rcgen::generate_simple_self_signed(["upstream.test".to_owned()]).unwrap().cert.pem()).unwrap();
    let more = format!("upstream: {{ ca: \"{}\" }}", ca.display());
    let config = crate::gateway::parse(&speech::config(&[speech::endpoint("other", "llm/v1/chat", "https://127.0.0.1:1", &more)]));
    std::fs::remove_file(&ca).unwrap();
    assert!(running.gateway.reload(&config).await.is_err());
    assert!(running.metrics().await.contains("flowgate_config_reloads_refused_total 1"));
    DOORS[0].ask(&running, "chat").await.unwrap();
}
