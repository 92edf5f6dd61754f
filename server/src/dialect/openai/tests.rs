//! Golden fixtures of the dialect. Beside what those of every dialect show: answers give `door.json`, streams `door.sse`, and both lanes
//! agree.

use flowgate_proto::v1;
use http::HeaderMap;
use serde_json::Value as Json;

use super::{OPENAI, chunks, door, reply};
use crate::{
    dialect::{
        Dialect, Frame, Habit, Quirks, ReasoningField, ReportedCost, Target,
        golden::{self, Case, Fixture, Streamed, Suite, checks, frames, indented, request_from, said, wire},
    },
    error::Result,
    event::{Answer, Event, Lane, Payload, Request, Task},
};

mod round_trip;
mod units;

static SUITE: Suite = Suite { dialect: &OPENAI, folder: "openai", target: target_of };
checks!(SUITE, Chat, Complete, Embed);

static OLD: Quirks =
    Quirks { max_tokens_field: "max_tokens", stream_usage: false, lacks: &["user", "seed", "thought_signature"], ..Quirks::NONE };

fn fixtures() -> Vec<Fixture> {
    golden::fixtures("openai")
}

/// One with every habit.
static HABITS: Quirks = Quirks {
    max_tokens_field: "max_tokens",
    lacks: &["name"],
    errors: &[
        ("1113", v1::ErrorReason::ProviderCredentialRejected),
        ("1004", v1::ErrorReason::ProviderCredentialRejected),
        ("1027", v1::ErrorReason::ProviderBlocked),
        ("2013", v1::ErrorReason::ProviderRejectedRequest),
        ("498", v1::ErrorReason::ProviderUnavailable),
    ],
    outcome: "base_resp",
    renames: &[("seed", "random_seed")],
    takes: &["top_k", "include_reasoning"],
    habits: &[Habit::FlatContent, Habit::ShortToolIds, Habit::CountsLogprobs, Habit::NoDeveloper, Habit::AnyForRequired],
    output_excludes: &["reasoning_tokens", "citation_tokens"],
    cost: Some(ReportedCost { path: &["cost", "total_cost"], pico_usd: 1e12 }),
    ..Quirks::NONE
};
/// One that takes nothing but words, and makes no JSON to a schema.
static WORDS: Quirks = Quirks { lacks: &["image_url", "input_audio", "file", "json_schema"], ..Quirks::NONE };
/// One that refuses fields of messages.
static FEW_FIELDS: Quirks = Quirks { lacks: &["reasoning_content", "annotations", "refusal"], ..Quirks::NONE };
static FORTY: Quirks = Quirks { longest_tool_id: 40, ..Quirks::NONE };
static AUTO: Quirks = Quirks { habits: &[Habit::AutoOnly], ..Quirks::NONE };
static OBJECT: Quirks = Quirks { reasoning: ReasoningField::Object, ..Quirks::NONE };
static THINKING: Quirks = Quirks { reasoning: ReasoningField::Thinking, ..Quirks::NONE };
static BUDGET: Quirks = Quirks { reasoning: ReasoningField::Budget, ..Quirks::NONE };

/// Whom a case asks.
fn target_of(case: &Case) -> Target {
    target(match &*case.quirks {
        "" => &Quirks::NONE,
        "old" => &OLD,
        "habits" => &HABITS,
        "words" => &WORDS,
        "fields" => &FEW_FIELDS,
        "forty" => &FORTY,
        "auto" => &AUTO,
        "object" => &OBJECT,
        "thinking" => &THINKING,
        "budget" => &BUDGET,
        other => panic!("no quirks {other}"),
    })
}

fn encode(fixture: &Fixture, request: Request) -> Result<String> {
    let payload = Payload::typed_only(request);
    let request = OPENAI.encode(&fixture.ask(&payload, Lane::Typed), &target_of(&fixture.case))?;
    Ok(String::from_utf8(request.into_body().to_vec()).unwrap())
}

fn form(fixture: &Fixture) -> reply::Form<'static> {
    let encoding = if fixture.case.encoding == "base64" { super::Encoding::Base64 } else { super::Encoding::Float };
    reply::Form { id: "req-1", model: "endpoint", created: 1_700_000_000, encoding, include_usage: true }
}

fn target(quirks: &'static Quirks) -> Target {
    Target { quirks, ..golden::target("openai", "https://api.openai.com/v1", "gpt-4o-mini") }
}

fn stream(fixture: &Fixture, payload: &Payload, lane: Lane, frames: Vec<Frame>) -> Streamed {
    let mut decoder = OPENAI.decoder(&fixture.ask(payload, lane), &target_of(&fixture.case));
    let mut streamed = Streamed { events: Vec::new(), error: None, commit: None };
    for (n, frame) in frames.into_iter().enumerate() {
        let before = streamed.events.len();
        if let Err(error) = decoder.frame(frame, &mut streamed.events) {
            streamed.error = Some(error);
            break;
        }
        if streamed.commit.is_none() && streamed.events[before..].iter().any(Event::commits) {
            streamed.commit = Some(n);
        }
    }
    streamed
}

#[test]
fn doors_and_lanes() {
    for fixture in fixtures() {
        if let Some(json) = fixture.read("request.json") {
            check_request(&fixture, &json);
        }
        if let Some(body) = fixture.read("response.json") {
            check_answer(&fixture, body);
        }
        if let Some(body) = fixture.read("stream.sse") {
            check_stream(&fixture, &body);
        }
    }
}

fn check_request(fixture: &Fixture, json: &[u8]) {
    let Ok(body) = encode(fixture, request_from(fixture.kind, json)) else { return };
    if fixture.case.quirks == "habits" {
        // A form of its own, which is not for the door to read.
        return;
    }
    let task = fixture.task();
    let again = door::decode_request(task, &wire(task, body.clone())).unwrap();
    assert_eq!(set_fields(&encode(fixture, again).unwrap()), set_fields(&body), "{}: decoded and encoded again", fixture.name);
}

/// The fields of a body whatever their order; null is unset.
fn set_fields(body: &str) -> Json {
    let mut json: Json = serde_json::from_str(body).unwrap();
    json.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    json
}

fn check_answer(fixture: &Fixture, body: Vec<u8>) {
    let body = bytes::Bytes::from(body);
    let payload = Payload::wire_only(wire(fixture.kind, "{}"));
    let decode = |lane| OPENAI.decode(&fixture.ask(&payload, lane), &target_of(&fixture.case), &HeaderMap::new(), body.clone());
    let (typed, wire) = (decode(Lane::Typed), decode(Lane::Byte));
    match (typed, wire) {
        (Ok(typed), Ok(Answer::Wire(wire))) => {
            assert_eq!(wire.body, body);
            assert_eq!(wire.usage.as_ref(), typed.usage(), "{}: both lanes read the same usage", fixture.name);
            let door = reply::encode_answer(&typed, &form(fixture)).unwrap();
            fixture.golden("door.json", &indented(std::str::from_utf8(&door).unwrap()));
        }
        (Err(typed), Err(wire)) => assert_eq!(said(&typed), said(&wire), "{}: both lanes fail alike", fixture.name),
        // The byte lane does not look inside vectors.
        (Err(_), Ok(_)) => assert_eq!(fixture.kind, Task::Embed, "{}: one lane fails, the other does not", fixture.name),
        _ => panic!("{}: one lane fails, the other does not", fixture.name),
    }
}

fn check_stream(fixture: &Fixture, body: &[u8]) {
    let payload = Payload::wire_only(wire(fixture.kind, "{}"));
    let whole = stream(fixture, &payload, Lane::Typed, frames(body, "sse", body.len()));
    let mut encoder = chunks::ChunkEncoder::new(fixture.kind, &form(fixture));
    let mut out = bytes::BytesMut::new();
    whole.events.iter().for_each(|event| encoder.event(event, &mut out).unwrap());
    fixture.golden("door.sse", std::str::from_utf8(&out).unwrap());
    check_byte_lane(fixture, body, &whole);
}

fn check_byte_lane(fixture: &Fixture, body: &[u8], typed: &Streamed) {
    let asked = Payload::wire_only(wire(fixture.kind, r#"{"stream":true,"stream_options":{"include_usage":true}}"#));
    let all = frames(body, "sse", body.len());
    let streamed = stream(fixture, &asked, Lane::Byte, all.clone());
    assert_eq!(streamed.commit, typed.commit, "{}: both lanes commit at the same frame", fixture.name);
    assert_eq!(streamed.error.as_ref().map(said), typed.error.as_ref().map(said), "{}: both lanes fail alike", fixture.name);
    let usage = |streamed: &Streamed| streamed.events.iter().filter_map(Event::usage).copied().collect::<Vec<_>>();
    assert_eq!(usage(&streamed), usage(typed), "{}: both lanes read the same usage", fixture.name);
    let is_end = |streamed: &Streamed| matches!(streamed.events.last(), Some(Event::End));
    assert_eq!(is_end(&streamed), is_end(typed));
    if streamed.error.is_none() {
        let passed: Vec<u8> =
            streamed.events.iter().flat_map(|event| if let Event::Wire(frame) = event { &frame.bytes[..] } else { &[] }).copied().collect();
        let sent: Vec<u8> = all.iter().filter(|frame| !frame.data.is_empty()).flat_map(|frame| frame.raw.to_vec()).collect();
        assert_eq!(String::from_utf8(passed).unwrap(), String::from_utf8(sent).unwrap(), "{}: frames pass verbatim", fixture.name);
    }
}
