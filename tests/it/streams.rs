//! The same question through every door has the same answer, and a stream is a stream all the way.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::{
    doors::{self, Door, Task, Told, Way, chat, collect, next_text},
    fake::{Answer, Fake, Gate, pieces},
    gateway::Running,
    speech::{PIECES, TEXT, TOKENS, chat_endpoint, chunk, config, endpoint, events, finish, llm},
};

async fn gateway(url: &str) -> Running {
    Running::start(&config(&[chat_endpoint(url, ""), endpoint("text", "llm/v1/completions", url, "")])).await
}

#[tokio::test]
async fn every_door_tells_the_same() {
    let upstream = Fake::start(llm).await;
    let mut running = gateway(&upstream.url).await;
    for (task, own, h2) in
        [(Task::Chat, "chat", false), (Task::Complete, "text", false), (Task::Chat, "chat", true), (Task::Complete, "text", true)]
    {
        if h2 {
            running.speak_h2();
        }
        for door in doors::doors(task) {
            let told = door.ask(&running, own).await.unwrap_or_else(|refusal| panic!("{door:?}: {refusal:?}"));
            assert_eq!(told, Told { text: TEXT.to_owned(), tokens: Some(TOKENS) }, "{door:?}");
            let wanted = if task == Task::Chat { "/v1/chat/completions" } else { "/v1/completions" };
            assert_eq!(upstream.last().path, wanted, "{door:?}");
        }
    }
}

#[tokio::test]
async fn chat_and_completion_stand_in_for_one_another() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url).await;
    for (task, other) in [(Task::Chat, "text"), (Task::Complete, "chat")] {
        // These two ask for the endpoint's own task.
        for door in doors::doors(task).into_iter().filter(|door| !matches!(door.way, Way::Invocations | Way::Own)) {
            let told = door.ask(&running, other).await.unwrap_or_else(|refusal| panic!("{door:?}: {refusal:?}"));
            assert_eq!(told, Told { text: TEXT.to_owned(), tokens: Some(TOKENS) }, "{door:?}");
        }
    }
}

#[tokio::test]
async fn the_first_piece_is_there_before_the_last_is_made() {
    let gate = Gate::new();
    let upstream = Fake::start({
        let gate = gate.clone();
        move |seen| {
            let events = events(seen.path.ends_with("/chat/completions"));
            let first = events.iter().position(|event| event.contains(PIECES[0])).unwrap() + 1;
            let (now, later) = events.split_at(first);
            Answer::sse(pieces(now).chain(gate.before(pieces(later))))
        }
    })
    .await;
    let running = gateway(&upstream.url).await;
    for (task, endpoint) in [(Task::Chat, "chat"), (Task::Complete, "text")] {
        for door in doors::streaming(task) {
            let mut stream = door.open(&running, endpoint).await.unwrap();
            let first = next_text(&mut stream).await.unwrap();
            assert_eq!(first, PIECES[0], "{door:?}");
            gate.open();
            let rest = collect(stream).await.unwrap();
            assert_eq!((first + &rest.text, rest.tokens), (TEXT.to_owned(), Some(TOKENS)), "{door:?}");
        }
    }
}

#[tokio::test]
async fn a_stream_collected_is_the_unary_answer() {
    let call = |arguments: Option<&str>| {
        let function = match arguments {
            None => json!({"name": "look", "arguments": ""}),
            Some(arguments) => json!({"arguments": arguments}),
        };
        let mut call = json!({"index": 0, "function": function});
        if arguments.is_none() {
            (call["id"], call["type"]) = (json!("call_1"), json!("function"));
        }
        chunk(&json!({"tool_calls": [call]}))
    };
    let streamed = [
        chunk(&json!({"role": "assistant"})),
        chunk(&json!({"reasoning_content": "hm"})),
        chunk(&json!({"content": "Let me "})),
        chunk(&json!({"content": "look."})),
        call(None),
        call(Some("{\"a\":")),
        call(Some("1}")),
        finish().replace("\"stop\"", "\"tool_calls\""),
        "[DONE]".to_owned(),
    ];
    let mut whole: Value = crate::speech::chat();
    whole["choices"][0]["finish_reason"] = json!("tool_calls");
    whole["choices"][0]["message"] = json!({
        "role": "assistant", "content": "Let me look.", "reasoning_content": "hm",
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{\"a\":1}"}}],
    });
    whole.as_object_mut().unwrap().remove("usage");
    let upstream = Fake::start(move |seen| match seen.wants_stream() {
        true => Answer::events(&streamed),
        false => Answer::json(whole.to_string()),
    })
    .await;
    let running = gateway(&upstream.url).await;
    let client = running.client();
    let mut unary = client.chat(chat("chat", "hi")).await.unwrap();
    let mut collected = client.stream_chat(chat("chat", "hi")).await.unwrap().collect().await.unwrap();
    let parts = unary.choices[0].message.as_ref().unwrap().parts.len();
    assert_eq!(parts, 3, "reasoning, text, tool call");
    for answer in [&mut unary, &mut collected] {
        let call = answer.call.take().unwrap();
        assert_eq!((call.endpoint.as_str(), call.provider.as_str(), call.attempts), ("chat", "openai", 1));
    }
    assert_eq!(collected, unary);
}

#[tokio::test]
async fn a_stream_is_numbered_without_gaps_from_one_start_to_one_end() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url).await;
    let response = running.post("/v1/endpoints/chat:streamChat", r#"{"messages":[{"text":"hi"}]}"#).await;
    let events: Vec<Value> = doors::datas(response).map(|data| serde_json::from_str(&data.unwrap()).unwrap()).collect::<Vec<_>>().await;
    let kinds: Vec<_> =
        events.iter().map(|event| event.as_object().unwrap().keys().find(|key| *key != "sequence").unwrap().as_str()).collect();
    assert_eq!(kinds, ["start", "delta", "delta", "delta", "choice_end", "usage", "end"]);
    // Zero is the default of the number, which JSON leaves out.
    let numbers: Vec<_> = events.iter().map(|event| event["sequence"].as_u64().unwrap_or(0)).collect();
    assert_eq!(numbers, (0..7).collect::<Vec<_>>());
    assert_eq!(events[6]["end"]["call"]["endpoint"], "chat");
}

#[tokio::test]
async fn pings_of_the_upstream_and_pieces_cut_anywhere_change_nothing() {
    let upstream = Fake::start(|seen| {
        let body: String =
            events(seen.path.ends_with("/chat/completions")).iter().map(|event| format!(": ping\n\ndata: {event}\n\n")).collect();
        let bytes: Vec<_> = body.into_bytes().chunks(7).map(|piece| Ok(bytes::Bytes::copy_from_slice(piece))).collect();
        Answer::sse(futures_util::stream::iter(bytes))
    })
    .await;
    let running = gateway(&upstream.url).await;
    for door in doors::streaming(Task::Chat) {
        assert_eq!(door.ask(&running, "chat").await.unwrap(), Told { text: TEXT.to_owned(), tokens: Some(TOKENS) }, "{door:?}");
    }
}

#[tokio::test]
async fn a_whole_answer_to_a_streamed_call_becomes_a_stream() {
    let upstream = Fake::start(|_| Answer::json(crate::speech::chat().to_string())).await;
    let running = gateway(&upstream.url).await;
    for door in doors::streaming(Task::Chat) {
        assert_eq!(door.ask(&running, "chat").await.unwrap(), Told { text: TEXT.to_owned(), tokens: Some(TOKENS) }, "{door:?}");
    }
}

#[tokio::test]
async fn a_question_that_is_odd_crosses_every_door() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url).await;
    let odd = "tabs\tand \"quotes\"\nlines \u{2028} — 日本語 \u{1f980} \\ \u{1}";
    for door in doors::doors(Task::Chat) {
        door.say(&running, "chat", odd).await.unwrap();
        let content = &upstream.last().json()["messages"][0]["content"];
        assert_eq!(content, odd, "{door:?}");
    }
}

#[tokio::test]
async fn a_refused_stream_is_no_stream() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url).await;
    for door in doors::streaming(Task::Chat) {
        let refusal = door.ask(&running, "nothing").await.unwrap_err();
        let reason = "CALLER_ENDPOINT_NOT_FOUND";
        let Door { way, .. } = door;
        match way {
            Way::Grpc | Way::GrpcWeb => assert_eq!((refusal.code, refusal.reason.as_str()), (Some(tonic::Code::NotFound), reason)),
            Way::Own => assert_eq!((refusal.http, refusal.reason.as_str()), (Some(404), "CALLER_UNKNOWN_PATH")),
            _ => assert_eq!((refusal.http, refusal.reason.as_str()), (Some(404), reason)),
        }
    }
    assert!(upstream.seen().is_empty());
}
