//! What a dialect makes of answers that are not what its protocol says: fixtures, spoilt in every way that a seed of rules knows.

use std::collections::HashSet;

use flowgate_proto::v1::ErrorReason;
use http::HeaderMap;
use prost::Message as _;
use serde_json::{Value as Json, json};

use super::{Failure, Fixture, Suite, fixtures, frames, storm};
use crate::{
    dialect::Frame,
    error::{Error, Origin, Result},
    event::Event,
};

/// At least so many spoilt answers and streams are tried of every dialect.
const LEAST: usize = 200;

/// A text longer than any framing takes.
const LONG: usize = 10 << 20;

/// Spoils every answer, stream and failure of a dialect. Nothing panics, nothing is blamed on the caller or on the gateway, and what comes
/// out is not much larger than what went in.
pub(in crate::dialect) fn check(suite: &Suite) {
    let (mut tried, mut known, mut long) = (0, HashSet::new(), HashSet::new());
    for fixture in fixtures(suite.folder) {
        if let Some(body) = fixture.response() {
            tried += check_answers(suite, &fixture, &body);
            if long.insert("answer") {
                judge(&fixture, suite.decode(&fixture, lengthened(&body)).map(drop));
            }
        }
        if let Some((body, ending)) = fixture.stream_file() {
            let frames = frames(&body, ending, body.len());
            tried += check_streams(suite, &fixture, &frames, &mut known);
            tried += storm::check(suite, &fixture, &frames, &mut known);
            if let Some(frame) = frames.last().filter(|_| long.insert("stream")) {
                judge(&fixture, feed(suite, &fixture, vec![Frame { data: lengthened(&frame.data).into(), ..frame.clone() }]));
            }
        }
        if let Some(json) = fixture.read("failure.json") {
            tried += check_failures(suite, &fixture, &json);
        }
    }
    assert!(tried >= LEAST, "{} has only {tried} hostile answers", suite.folder);
}

/// JSON whose first text is longer than any framing takes; a text of that length where there is none.
fn lengthened(body: &[u8]) -> Vec<u8> {
    let mut json: Json = serde_json::from_slice(body).unwrap_or_default();
    let places = places(&json, String::new());
    let place = places.iter().find(|place| json.pointer(place).is_some_and(Json::is_string)).map_or("", String::as_str);
    *json.pointer_mut(place).unwrap() = "x".repeat(LONG).into();
    json.to_string().into_bytes()
}

fn check_answers(suite: &Suite, fixture: &Fixture, body: &[u8]) -> usize {
    let whole = body.trim_ascii_end();
    let cuts = (1..whole.len()).step_by(whole.len() / 24 + 1).map(|end| whole[..end].to_vec());
    let mut tried = 0;
    // Only JSON shows where it ends.
    for cut in cuts.filter(|_| whole.starts_with(b"{")) {
        let error = suite.decode(fixture, cut).expect_err(&fixture.name);
        assert_eq!(error.reason(), ErrorReason::ProviderBadAnswer, "{}: a cut answer", fixture.name);
        tried += 1;
    }
    for spoilt in spoilt(whole) {
        judge(fixture, suite.decode(fixture, spoilt).map(drop));
        tried += 1;
    }
    tried
}

/// Feeds a stream; what it is told to be is not much larger than it was.
pub(super) fn feed(suite: &Suite, fixture: &Fixture, frames: Vec<Frame>) -> Result<()> {
    let sent: usize = frames.iter().map(|frame| frame.data.len()).sum();
    let streamed = suite.stream(fixture, frames, true);
    let told: usize = streamed.events.iter().map(size).sum();
    assert!(told <= 8 * sent + 65_536, "{}: {sent} bytes became {told}", fixture.name);
    streamed.error.map_or(Ok(()), Err)
}

/// `known` are the shapes of frames that were spoilt before: a frame of the same shape is only cut, moved and left out.
fn check_streams(suite: &Suite, fixture: &Fixture, frames: &[Frame], known: &mut HashSet<String>) -> usize {
    let mut tried = 0;
    let data: Vec<usize> = (0..frames.len()).filter(|n| !frames[*n].data.is_empty()).collect();
    for n in data {
        let shape = serde_json::from_slice(&frames[n].data).map_or_else(|_| fixture.name.clone(), |json| shape(&json));
        let spoilt = if known.insert(format!("{} {:?} {shape}", fixture.case.quirks, frames[n].name)) {
            spoilt(&frames[n].data)
        } else {
            Vec::new()
        };
        let variants = spoilt.into_iter().step_by(3).chain([frames[n].data[..frames[n].data.len() / 2].to_vec()]);
        for data in variants {
            let mut changed = frames.to_vec();
            changed[n].data = data.into();
            judge(fixture, feed(suite, fixture, changed));
            tried += 1;
        }
        let (mut renamed, mut twice, mut without) = (frames.to_vec(), frames.to_vec(), frames.to_vec());
        renamed[n].name = "unheard_of".into();
        twice.insert(n, frames[n].clone());
        without.remove(n);
        for changed in [renamed, twice, without] {
            judge(fixture, feed(suite, fixture, changed));
            tried += 1;
        }
    }
    judge(fixture, feed(suite, fixture, frames.iter().rev().cloned().collect()));
    tried + 1
}

/// What a frame is like: its fields, the kinds of their values, and the words that say what it is.
pub(super) fn shape(json: &Json) -> String {
    match json {
        Json::Object(fields) => {
            let one = |(name, value): (&String, &Json)| match value {
                Json::String(word) if matches!(name.as_str(), "type" | "event" | "object" | "role") => format!("{name}={word}"),
                value => format!("{name}:{}", shape(value)),
            };
            format!("{{{}}}", fields.iter().map(one).collect::<Vec<_>>().join(","))
        }
        Json::Array(list) => format!("[{}]", list.iter().map(shape).collect::<Vec<_>>().join(",")),
        Json::String(_) => "s".to_owned(),
        Json::Number(number) => if number.is_f64() { "f" } else { "n" }.to_owned(),
        Json::Bool(_) => "b".to_owned(),
        Json::Null => "0".to_owned(),
    }
}

fn check_failures(suite: &Suite, fixture: &Fixture, json: &[u8]) -> usize {
    let Failure { status, headers, body } = serde_json::from_slice(json).unwrap();
    let mut all = spoilt(body.to_string().as_bytes());
    all.extend([b"<html>502</html>".to_vec(), b"\xff\xfe".to_vec(), Vec::new()]);
    let tried = all.len();
    let status = http::StatusCode::from_u16(status).unwrap();
    let headers: HeaderMap = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    for body in all {
        let error = suite.dialect.classify(&(suite.target)(&fixture.case), status, &headers, &body);
        judge(fixture, Err(error));
    }
    tried
}

/// Whatever happens is the provider's doing; only a failure may say that the request was too long, or refused, and predictions may not fit
/// the form that they were asked in.
pub(super) fn judge(fixture: &Fixture, outcome: Result<()>) {
    let Err(error) = outcome else { return };
    let too_long = matches!(error.reason(), ErrorReason::CallerContextTooLong | ErrorReason::CallerTooLarge);
    let unfit = error.violations().iter().any(|violation| violation.field == "prediction_form");
    assert!(error.origin() == Origin::Provider || too_long || unfit, "{}: {}", fixture.name, told(&error));
}

fn told(error: &Error) -> String {
    format!("{}: {error}", error.reason_name())
}

fn size(event: &Event) -> usize {
    match event {
        Event::Start(start) => start.encoded_len(),
        Event::Delta(delta) => delta.encoded_len(),
        Event::ChoiceEnd(end) => end.encoded_len(),
        _ => 0,
    }
}

/// A text of JSON with one value after the other exchanged for one that does not belong there, lists whose entries stand twice, fields that
/// do; and bytes that are no text.
fn spoilt(body: &[u8]) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = vec![b"null".to_vec(), b"[]".to_vec(), b"{}".to_vec(), b"\"x\"".to_vec(), b"\xff\xfe{".to_vec()];
    all.push([&b"["[..]; 300].concat());
    let Ok(json) = serde_json::from_slice::<Json>(body) else { return all };
    let strange = [
        json!(null),
        json!(true),
        json!(-1),
        json!(u64::MAX),
        json!(1e308),
        json!("\u{0}strange"),
        json!([]),
        json!({}),
        json!([[{ "type": 7 }]]),
    ];
    let places = places(&json, String::new());
    let step = places.len() / 40 + 1;
    for (n, place) in places.iter().enumerate().step_by(step) {
        // Each place meets other values, so that all meet all kinds of places.
        for value in strange.iter().cycle().skip(n).take(3) {
            let mut changed = json.clone();
            *changed.pointer_mut(place).unwrap() = value.clone();
            all.push(changed.to_string().into_bytes());
        }
    }
    for place in &places {
        let mut changed = json.clone();
        if let Some(list) = changed.pointer_mut(place).unwrap().as_array_mut().filter(|list| !list.is_empty()) {
            list.extend_from_within(..);
            all.push(changed.to_string().into_bytes());
        }
    }
    if let Some(place) = places.iter().find(|place| json.pointer(place).is_some_and(Json::is_string)) {
        let text = json.to_string();
        let at = json.pointer(place).map(Json::to_string).unwrap_or_default();
        let long = format!("\"{}\"", "x".repeat(1 << 16));
        for other in ["123456789012345678901234567890", "-1e999", "\"\u{1}\"", "\"\\ud800\"", &long] {
            all.push(text.replacen(&at, other, 1).into_bytes());
        }
        // A text that is not Unicode.
        all.push(text.replacen(&at, "\"~\"", 1).bytes().map(|byte| if byte == b'~' { b'\xff' } else { byte }).collect());
    }
    if let Some(first) = json.as_object().and_then(|object| object.iter().next()) {
        let field = json!({ first.0.as_str(): first.1 }).to_string();
        all.push(format!("{},{}", field.trim_end_matches('}'), json.to_string().trim_start_matches('{')).into_bytes());
    }
    all
}

/// The JSON pointers of all values within.
fn places(json: &Json, here: String) -> Vec<String> {
    let inner: Vec<String> = match json {
        Json::Array(list) => list.iter().enumerate().flat_map(|(n, value)| places(value, format!("{here}/{n}"))).collect(),
        Json::Object(object) => object
            .iter()
            .flat_map(|(name, value)| places(value, format!("{here}/{}", name.replace('~', "~0").replace('/', "~1"))))
            .collect(),
        _ => Vec::new(),
    };
    std::iter::once(here).chain(inner).collect()
}
