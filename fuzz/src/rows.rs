//! The dialect of a provider: what it makes of answers, streams and failures, and of requests in the contract's JSON.
//!
//! The first byte of an input says what the rest is (its lowest two bits), for which task (the next two) and in which lane (the next);
//! the second byte says which words the settings have and which model is asked. `seeds.py` writes the same.

use bytes::Bytes;
use flowgate_proto::v1::{self, ErrorReason};
use flowgate_server::{
    dialect::{Ask, Dialect, Frame, Framing, Settings, Target, Unsupported, mlflow, openai::door, scoring, templated::Templates},
    event::{Event, Lane, Payload, Protocol, Request, Task, Wire},
    provider::{self, Provider},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};

use crate::judge;

const TASKS: [Task; 4] = [Task::Chat, Task::Complete, Task::Embed, Task::Predict];

/// Names that some dialects tell protocols by.
const MODELS: [&str; 8] = [
    "m",
    "claude-sonnet-4-5",
    "meta/llama-4-maas",
    "text-embedding-005",
    "amazon.titan-embed-text-v2:0",
    "us.cohere.embed-v4:0",
    "gemini-embedding-2-preview",
    "us.amazon.nova-2-lite-v1:0",
];

const STATUSES: [u16; 8] = [400, 401, 403, 404, 413, 429, 500, 529];

/// Feeds one input to the dialect of a row.
pub fn feed(row: &'static Provider, input: &[u8]) {
    feed_to(row, |target| target, input);
}

/// Feeds one input to the dialect of models of language behind a scoring server of Flowgate's own, which streams.
pub fn agents(input: &[u8]) {
    feed_to(row("mlflow"), |target| Target { quirks: &mlflow::OWN, ..target }, input);
}

/// Whom a row's provider is asked at.
pub fn plain(name: &str) -> Target {
    target(row(name), 0)
}

fn row(name: &str) -> &'static Provider {
    provider::find(name).expect("a row")
}

fn feed_to(row: &'static Provider, at: impl Fn(Target) -> Target, input: &[u8]) {
    let [how, variant, rest @ ..] = input else { return };
    let task = TASKS[usize::from(how >> 2 & 3)];
    let Some(dialect) = row.dialect(task) else { return };
    let target = at(target(row, usize::from(*variant)));
    let lane = if how & 16 != 0 && dialect.protocol_at(task, &target).is_some() { Lane::Byte } else { Lane::Typed };
    let payload = payload(task, lane, i32::from(variant / 8));
    let ask = Ask { task, streaming: how & 3 == 1, lane, payload: &payload, unsupported: Unsupported::Refuse };
    match how & 3 {
        0 => unary(dialect, &ask, &target, rest),
        1 => stream(dialect, &ask, &target, rest),
        2 => failure(dialect, &ask, &target, rest),
        _ => request(dialect, &ask, &target, rest),
    }
}

fn target(row: &'static Provider, variant: usize) -> Target {
    let mut choice = variant % 8;
    let settings = row.settings().into_iter().map(|setting| {
        let among = setting.words.len().max(1);
        let value = setting.words.get(choice % among).unwrap_or(&setting.default);
        choice /= among;
        (setting.name, (*value).to_owned())
    });
    Target {
        provider: row.name,
        base: Uri::from_static("https://upstream.test/v1"),
        model: MODELS[variant / 8 % MODELS.len()].to_owned(),
        headers: HeaderMap::new(),
        settings: Settings(settings.collect()),
        quirks: &row.quirks,
        templates: Templates::default(),
    }
}

/// The request that is answered. In the byte lane it is there as received.
fn payload(task: Task, lane: Lane, form: i32) -> Payload {
    let (protocol, decode, body): (_, fn(&Wire) -> _, _) = match task {
        Task::Chat => (Protocol::OpenAiChat, door::decode_chat, r#"{"messages":[{"role":"user","content":"a"}]}"#),
        Task::Complete => (Protocol::OpenAiCompletions, door::decode_complete, r#"{"prompt":"a"}"#),
        Task::Embed => (Protocol::OpenAiEmbeddings, door::decode_embed, r#"{"input":["a","b"]}"#),
        Task::Predict if lane == Lane::Byte => return Payload::wire_only(scoring::door::wire(None, Bytes::from_static(b"{}"))),
        Task::Predict => {
            let request = v1::PredictRequest { prediction_form: form % 5, ..v1::PredictRequest::default() };
            return Payload::typed_only(Request::Predict(request));
        }
    };
    let content_type = HeaderValue::from_static("application/json");
    let payload = Payload::wire_only(Wire { protocol, content_type, body: Bytes::from_static(body.as_bytes()), decode });
    match lane {
        Lane::Byte => payload,
        Lane::Typed => Payload::typed_only(payload.typed().expect("a request that is right").clone()),
    }
}

fn unary(dialect: &dyn Dialect, ask: &Ask<'_>, target: &Target, body: &[u8]) {
    let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    match dialect.decode(ask, target, &headers, Bytes::copy_from_slice(body)) {
        Ok(answer) => judge::size(body.len(), judge::answer_size(&answer)),
        // A form of predictions is the caller's choice.
        Err(error) if ask.task == Task::Predict => judge::request(&error),
        // Such a model is not asked at all.
        Err(error) if error.reason() == ErrorReason::GatewayUnsupportedTask => {}
        Err(error) => judge::provider(&error),
    }
}

fn stream(dialect: &dyn Dialect, ask: &Ask<'_>, target: &Target, bytes: &[u8]) {
    let mut decoder = dialect.decoder(ask, target);
    let mut events = Vec::new();
    let mut told = Ok(());
    for frame in frames(dialect.framing(ask, target), bytes) {
        told = decoder.frame(frame, &mut events);
        if told.is_err() || matches!(events.last(), Some(Event::End)) {
            break;
        }
    }
    if told.is_ok() && !matches!(events.last(), Some(Event::End)) {
        told = decoder.finish(&mut events);
    }
    if let Err(error) = told {
        judge::provider(&error);
    }
    judge::size(bytes.len(), events.iter().map(judge::event_size).sum());
}

fn failure(dialect: &dyn Dialect, ask: &Ask<'_>, target: &Target, input: &[u8]) {
    let [status, body @ ..] = input else { return };
    let status = StatusCode::from_u16(STATUSES[usize::from(*status) % STATUSES.len()]).expect("a status");
    let error = dialect.classify(target, status, &HeaderMap::new(), body);
    // A scoring body is the caller's own.
    if ask.task == Task::Predict { judge::request(&error) } else { judge::provider(&error) }
}

fn request(dialect: &dyn Dialect, ask: &Ask<'_>, target: &Target, json: &[u8]) {
    let read = match ask.task {
        Task::Chat => serde_json::from_slice::<v1::ChatRequest>(json).map(Request::Chat),
        Task::Complete => serde_json::from_slice::<v1::CompleteRequest>(json).map(Request::Complete),
        Task::Embed => serde_json::from_slice::<v1::EmbedRequest>(json).map(Request::Embed),
        Task::Predict => serde_json::from_slice::<v1::PredictRequest>(json).map(Request::Predict),
    };
    let Ok(request) = read else { return };
    let payload = Payload::typed_only(request);
    for (streaming, unsupported) in [(false, Unsupported::Refuse), (true, Unsupported::Drop)] {
        match dialect.encode(&Ask { streaming, lane: Lane::Typed, payload: &payload, unsupported, ..*ask }, target) {
            Ok(_) if ask.task == Task::Predict => {}
            Ok(request) => {
                serde_json::from_slice::<serde::de::IgnoredAny>(request.body()).expect("what is sent is JSON");
            }
            Err(error) => judge::request(&error),
        }
    }
}

/// Cuts plainly, so that a changed byte changes one frame: blocks of lines for server-sent events, lines for all else. A line of an event
/// stream is a name, a space and a payload; a block or line that begins with `!` is an exception, written likewise.
fn frames(framing: Framing, bytes: &[u8]) -> Vec<Frame> {
    let mark: &[u8] = if matches!(framing, Framing::Sse | Framing::PayloadSse) { b"\n\n" } else { b"\n" };
    let mut rest = Bytes::copy_from_slice(bytes);
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let end = rest.windows(mark.len()).position(|window| window == mark).map_or(rest.len(), |at| at + mark.len());
        frames.push(frame(framing, rest.split_to(end)));
    }
    frames
}

fn frame(framing: Framing, raw: Bytes) -> Frame {
    let whole = raw.slice_ref(raw.trim_ascii());
    match (framing, whole.first()) {
        (_, Some(b'!')) => Frame { is_exception: true, ..named(whole.slice(1..)) },
        (Framing::EventStream, _) => named(whole),
        (Framing::Lines | Framing::PayloadLines, _) => Frame { data: whole, raw, ..Frame::default() },
        (Framing::Sse | Framing::PayloadSse, _) => {
            Frame { name: field(&raw, b"event: "), data: field(&raw, b"data: "), raw, ..Frame::default() }
        }
    }
}

fn named(line: Bytes) -> Frame {
    let at = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    Frame { name: line.slice(..at), data: line.slice((at + 1).min(line.len())..), ..Frame::default() }
}

/// The first line with that lead, without it.
fn field(block: &Bytes, lead: &[u8]) -> Bytes {
    block.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(lead)).map_or_else(Bytes::new, |value| block.slice_ref(value))
}
