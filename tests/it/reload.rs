//! A new configuration under load: no call fails, later calls use it, and what did not change is kept.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use futures_util::StreamExt as _;
use tokio::task::JoinSet;

use crate::{
    doors::{self, Door, Task, Told, Way, chat, collect, next_text},
    fake::{Answer, Fake, Gate, pieces, soon, until},
    gateway::{Running, parse},
    predict,
    speech::{PIECES, TEXT, chat_endpoint, config, endpoint, events, llm, predict_endpoint},
};

const KEYS: &str = "identity: { keys: [{ name: app, key: fg-1 }] }\n";

fn both(url: &str) -> String {
    config(&[chat_endpoint(url, ""), endpoint("text", "llm/v1/completions", url, "")])
}

/// Calls through every door without pause until told to stop; how many calls were made is counted.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    callers: JoinSet<()>,
}

impl Load {
    fn start(running: &Arc<Running>) -> Self {
        let (stop, done, mut callers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), JoinSet::new());
        for door in doors::doors(Task::Chat) {
            let (running, stop, done) = (Arc::clone(running), Arc::clone(&stop), Arc::clone(&done));
            callers.spawn(async move {
                while !stop.load(SeqCst) {
                    let told = door.ask(&running, "chat").await;
                    assert_eq!(told.unwrap_or_else(|refusal| panic!("{door:?}: {refusal:?}")).text, TEXT, "{door:?}");
                    done.fetch_add(1, SeqCst);
                }
            });
        }
        Self { stop, done, callers }
    }

    /// Waits until some more calls are done.
    async fn more(&self) {
        let wanted = self.done.load(SeqCst) + 2 * self.callers.len();
        until("more calls", || self.done.load(SeqCst) >= wanted).await;
    }

    async fn stop(mut self) {
        self.stop.store(true, SeqCst);
        while let Some(caller) = self.callers.join_next().await {
            caller.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_move_under_load_without_a_failed_call() {
    let (a, b) = (Fake::start(llm).await, Fake::start(llm).await);
    let running = Arc::new(Running::start(&both(&a.url)).await);
    let load = Load::start(&running);
    for _ in 0..5 {
        load.more().await;
        running.reload(&both(&b.url)).await;
        load.more().await;
        running.reload(&both(&a.url)).await;
    }
    load.stop().await;
    assert!(!a.seen().is_empty() && !b.seen().is_empty());
    let before = (a.seen().len(), b.seen().len());
    running.reload(&both(&b.url)).await;
    for door in doors::doors(Task::Chat) {
        door.ask(&running, "chat").await.unwrap();
    }
    assert_eq!(
        (a.seen().len(), b.seen().len()),
        (before.0, before.1 + doors::doors(Task::Chat).len()),
        "later calls reach only the new one"
    );
    assert_eq!(running.counted("flowgate_config_generation", &[]), 11);
    assert_eq!(running.counted("flowgate_errors_total", &[]), 0);
}

#[tokio::test]
async fn a_stream_goes_on_with_what_it_began_with() {
    let gate = Gate::new();
    let a = Fake::start({
        let gate = gate.clone();
        move |_| {
            let events = events(true);
            Answer::sse(pieces(&events[..2]).chain(gate.before(pieces(&events[2..]))))
        }
    })
    .await;
    let running = Running::start(&both(&a.url)).await;
    for door in doors::streaming(Task::Chat) {
        let mut stream = door.open(&running, "chat").await.unwrap();
        assert_eq!(next_text(&mut stream).await.unwrap(), PIECES[0], "{door:?}");
        // Even the endpoint itself may go.
        running.reload("endpoints: []").await;
        gate.open();
        assert_eq!(collect(stream).await.unwrap().text, PIECES[1..].concat(), "{door:?}");
        running.reload(&both(&a.url)).await;
    }
}

#[tokio::test]
async fn later_requests_of_a_stream_of_predictions_use_the_new_configuration() {
    let (a, b) = (Fake::start(crate::speech::model).await, Fake::start(crate::speech::model).await);
    let running = Running::start(&config(&[predict_endpoint("iris", &a.url, "")])).await;
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let requests = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
    let mut answers = running.client().stream_predict(requests).await.unwrap();
    let mut next = async || {
        sender.send(predict::request("iris")).unwrap();
        soon("an answer", answers.next())
            .await
            .unwrap()
            .unwrap()
            .result
            .map(|_| ())
            .map_err(|error| error.reason_name().unwrap().to_owned())
    };
    assert_eq!(next().await, Ok(()));
    running.reload(&config(&[predict_endpoint("iris", &b.url, "")])).await;
    assert_eq!(next().await, Ok(()));
    running.reload("endpoints: []").await;
    assert_eq!(next().await, Err("CALLER_ENDPOINT_NOT_FOUND".to_owned()));
    assert_eq!((a.seen().len(), b.seen().len()), (1, 1));
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_not_found() {
    let upstream = Fake::start(llm).await;
    let running = Running::start(&config(&[chat_endpoint(&upstream.url, ""), predict_endpoint("iris", &upstream.url, "")])).await;
    for door in doors::doors(Task::Chat) {
        assert!(door.ask(&running, "chat").await.is_ok());
    }
    running.reload(&config(&[endpoint("other", "llm/v1/chat", &upstream.url, "")])).await;
    for door in doors::doors(Task::Chat) {
        let refusal = door.ask(&running, "chat").await.unwrap_err();
        let wanted = if door.way == Way::Own { "CALLER_UNKNOWN_PATH" } else { "CALLER_ENDPOINT_NOT_FOUND" };
        assert_eq!(refusal.reason, wanted, "{door:?}");
        assert!(door.ask(&running, "other").await.is_ok(), "{door:?}");
    }
    assert_eq!(predict::PredictDoor::Default.ask(&running, "iris").await.unwrap_err().reason, "CALLER_ENDPOINT_NOT_FOUND");
    let names = running.client().list_endpoints().await.unwrap();
    assert_eq!(names.iter().map(|endpoint| endpoint.name.as_str()).collect::<Vec<_>>(), ["other"]);
}

/// The endpoint goes, or becomes another, while the body of its call is still on its way.
#[tokio::test]
async fn an_endpoint_that_changes_while_a_body_comes_is_the_new_one() {
    let upstream = Fake::start(llm).await;
    let predicts = config(&[predict_endpoint("chat", &upstream.url, "")]);
    for (becomes, status) in [("endpoints: []", 404), (predicts.as_str(), 200)] {
        let running = Running::start(&both(&upstream.url)).await;
        let (gate, began) = (Gate::new(), Arc::new(tokio::sync::Notify::new()));
        let piece = |text: &str| futures_util::stream::iter([Ok::<_, std::io::Error>(text.to_owned())]);
        let told = Arc::clone(&began);
        let pieces = piece("{\"messages\":[{\"role\":").chain(gate.before(piece("\"user\",\"content\":\"hi\"}]}")));
        let pieces = pieces.inspect(move |_| told.notify_one());
        let call = running.post("/own/chat", reqwest::Body::wrap_stream(pieces));
        let change = async {
            began.notified().await;
            until("the call is in", || running.in_flight() == 1).await;
            running.reload(becomes).await;
            gate.open();
        };
        let (response, ()) = soon("the answer", async { tokio::join!(call, change) }).await;
        assert_eq!(response.status(), status, "{becomes}");
        if status == 200 {
            assert_eq!(upstream.last().path, "/invocations");
        } else {
            assert!(upstream.seen().is_empty());
        }
    }
}

/// Whole calls as well as streams, before their first piece.
#[tokio::test]
async fn a_call_in_flight_ends_where_it_began() {
    for door in doors::doors(Task::Chat) {
        let gate = Gate::new();
        let mut a = Fake::start({
            let gate = gate.clone();
            move |seen| match seen.wants_stream() {
                true => Answer::sse(gate.before(crate::speech::stream(true))),
                false => {
                    let whole = futures_util::stream::iter([Ok(crate::speech::chat().to_string().into())]);
                    Answer::Pieces { content_type: "application/json", pieces: gate.before(whole) }
                }
            }
        })
        .await;
        let b = Fake::start(llm).await;
        let running = Running::start(&both(&a.url)).await;
        let moved = async {
            a.called().await;
            running.reload(&both(&b.url)).await;
            gate.open();
        };
        let (told, ()) = tokio::join!(door.ask(&running, "chat"), moved);
        assert_eq!(told.unwrap().text, TEXT, "{door:?}");
        assert!(b.seen().is_empty(), "{door:?}");
    }
}

#[tokio::test]
async fn keys_are_replaced() {
    let upstream = Fake::start(llm).await;
    let running = Running::start(&format!("{KEYS}{}", both(&upstream.url))).await;
    let ask = async |key: &str| {
        let request =
            running.http().post(running.url("/llm/v1/chat/chat")).header("x-api-key", key).header("content-type", "application/json");
        request.body(r#"{"messages":[{"role":"user","content":"hi"}]}"#).send().await.unwrap().status().as_u16()
    };
    assert_eq!((ask("fg-1").await, ask("fg-2").await), (200, 401));
    running.reload(&format!("{}{}", KEYS.replace("fg-1", "fg-2"), both(&upstream.url))).await;
    assert_eq!((ask("fg-1").await, ask("fg-2").await), (401, 200));
    running.reload(&both(&upstream.url)).await;
    assert_eq!(ask("any").await, 200);
}

#[tokio::test]
async fn connections_to_what_did_not_change_are_kept() {
    let (upstream, other) = (Fake::start(llm).await, Fake::start(llm).await);
    let two = |more: &str| config(&[chat_endpoint(&upstream.url, ""), endpoint("other", "llm/v1/chat", &other.url, more)]);
    let running = Running::start(&two("")).await;
    let client = running.client();
    for round in 0..4 {
        for _ in 0..3 {
            client.chat(chat("chat", "hi")).await.unwrap();
            client.chat(chat("other", "hi")).await.unwrap();
        }
        // What changes beside it, and what changes on it but not in how it is reached.
        running.reload(&two(&format!("upstream: {{ headers: {{ x-round: \"{round}\" }} }}"))).await;
    }
    assert_eq!(upstream.connections(), 1);
    assert_eq!(upstream.seen().len(), 12);
    assert_eq!(other.last().headers["x-round"], "2");
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_changes_nothing() {
    let upstream = Fake::start(llm).await;
    let running = Running::start(&both(&upstream.url)).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, "no certificate").unwrap();
    let bad = config(&[endpoint("new", "llm/v1/chat", "https://localhost", &format!("upstream: {{ ca: {} }}", ca.display()))]);
    let error = running.gateway.reload(&parse(&bad)).await.unwrap_err();
    assert!(error.to_string().contains("ca.pem"), "{error}");
    let door = Door { way: Way::Grpc, task: Task::Chat, streaming: false };
    let told: Told = door.ask(&running, "chat").await.unwrap();
    assert_eq!(told.text, TEXT);
    assert_eq!(door.ask(&running, "new").await.unwrap_err().reason, "CALLER_ENDPOINT_NOT_FOUND");
    assert_eq!(running.counted("flowgate_config_reloads_refused_total", &[]), 1);
    assert_eq!(running.counted("flowgate_config_generation", &[]), 0);
}
