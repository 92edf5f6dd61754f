//! Tests of replies brought into the shape that was asked for.

use flowgate_proto::v1::{
    Citation, FinishReason, MediaPart, Message, RawPart, ReasoningPart, RefusalPart, Role, TextPart, TokenLogprob, chat_delta::Delta as D,
};
use futures_util::FutureExt as _;

use super::*;
use crate::policy::testing::head;

fn part(kind: Kind) -> Part {
    Part { kind: Some(kind), cache_hint: None }
}

fn spread_out(answer: Answer) -> Vec<Event> {
    let reply = fit(Reply::one(head(), answer), Task::Chat, true);
    reply.map(Result::unwrap).collect::<Vec<_>>().now_or_never().unwrap()
}

fn rich() -> ChatResponse {
    let citation = Citation { uri: "https://a.example".to_owned(), ..Citation::default() };
    let call = ToolCallPart { id: "c1".to_owned(), name: "f".to_owned(), arguments: "{\"a\":1}".to_owned(), signature: "s".to_owned() };
    let reasoning = ReasoningPart { text: "because".to_owned(), signature: "sig".to_owned(), redacted: vec![1].into() };
    let parts = vec![
        part(Kind::Reasoning(reasoning)),
        part(Kind::Text(TextPart { text: "hello".to_owned(), citations: vec![citation] })),
        part(Kind::ToolCall(call)),
        part(Kind::Refusal(RefusalPart { text: "no".to_owned() })),
        part(Kind::Media(MediaPart::default())),
        part(Kind::Raw(RawPart { provider: "openai".to_owned(), json: "{}".to_owned() })),
    ];
    let logprobs = Logprobs { content: vec![TokenLogprob { token: "hello".to_owned(), ..Default::default() }], refusal: Vec::new() };
    let message = Some(Message { role: Role::Assistant.into(), parts, ..Message::default() });
    let choice = Choice {
        index: 1,
        message,
        finish_reason: FinishReason::Stop.into(),
        raw_finish_reason: "eos".to_owned(),
        stop_sequence: "END".to_owned(),
        logprobs: Some(logprobs),
    };
    ChatResponse {
        id: "id".to_owned(),
        model: "m".to_owned(),
        created: 7,
        choices: vec![choice],
        usage: Some(Usage::default()),
        ..Default::default()
    }
}

#[test]
fn every_part_of_a_whole_answer_is_in_the_stream() {
    let events = spread_out(Answer::Chat(rich()));
    let Some(Event::Start(start)) = events.first() else { panic!("{events:?}") };
    assert_eq!((start.id.as_str(), start.model.as_str(), start.created), ("id", "m", 7));
    let deltas: Vec<_> = events.iter().filter_map(|event| if let Event::Delta(delta) = event { Some(delta) } else { None }).collect();
    assert!(deltas.iter().all(|delta| delta.choice == 1));
    let places: Vec<_> = deltas.iter().map(|delta| delta.part).collect();
    assert_eq!(places, [0, 0, 0, 1, 1, 2, 2, 3, 4, 5]);
    let said: Vec<_> = deltas.iter().map(|delta| delta.delta.as_ref().unwrap()).collect();
    let [
        D::Reasoning(_),
        D::Signature(_),
        D::Redacted(_),
        D::Text(_),
        D::Citation(_),
        D::ToolCall(head),
        D::Arguments(arguments),
        rest @ ..,
    ] = said.as_slice()
    else {
        panic!("{said:?}")
    };
    assert!(matches!(rest, [D::Refusal(_), D::Media(_), D::Raw(_)]));
    assert_eq!((head.name.as_str(), head.arguments.as_str(), arguments.as_str()), ("f", "", "{\"a\":1}"));
    assert_eq!(deltas.iter().position(|delta| delta.logprobs.is_some()), Some(3));
    let [.., Event::ChoiceEnd(end), Event::Usage(_), Event::End] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((end.choice, end.finish_reason(), end.raw_finish_reason.as_str()), (1, FinishReason::Stop, "eos"));
    assert_eq!(end.stop_sequence, "END");
}

#[test]
fn a_whole_completion_and_a_body_as_received_become_streams_too() {
    let choice = CompletionChoice { index: 0, text: "hello".to_owned(), logprobs: Some(Logprobs::default()), ..Default::default() };
    let text = Answer::Complete(CompleteResponse { choices: vec![choice], ..Default::default() });
    let body = bytes::Bytes::from_static(b"{\"choices\":[{\"text\":\"hello\"}]}");
    let content_type = http::HeaderValue::from_static("application/json");
    let wire = Answer::Wire(crate::event::WireAnswer { content_type, body, usage: None });
    for answer in [text, wire] {
        let events = spread_out(answer);
        let [Event::Start(_), Event::Delta(delta), Event::ChoiceEnd(_), Event::End] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!(delta.delta, Some(D::Text("hello".to_owned())));
    }
}

#[test]
fn a_body_that_cannot_be_read_fails_the_stream() {
    let content_type = http::HeaderValue::from_static("application/json");
    let wire = Answer::Wire(crate::event::WireAnswer { content_type, body: bytes::Bytes::from_static(b"{}"), usage: None });
    let reply = fit(Reply::one(head(), wire), Task::Chat, true);
    let events: Vec<_> = reply.collect::<Vec<_>>().now_or_never().unwrap();
    assert!(matches!(events.as_slice(), [Err(_)]));
}

#[tokio::test]
async fn chat_and_completion_answer_in_each_others_shape() {
    let answer = async |answer: Answer, asked| fit(Reply::one(head(), answer), asked, false).answer().await.unwrap();
    let Answer::Complete(text) = answer(Answer::Chat(rich()), Task::Complete).await else { panic!() };
    assert_eq!(text.choices[0].text, "hellono");
    let Answer::Chat(_) = answer(Answer::Complete(text), Task::Chat).await else { panic!() };
    let Answer::Chat(_) = answer(Answer::Chat(rich()), Task::Chat).await else { panic!() };
}
