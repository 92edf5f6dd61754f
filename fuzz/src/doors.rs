//! The doors: what they make of request bodies, and what a dialect then writes in either lane.

use bytes::Bytes;
use flowgate_server::{
    dialect::{Ask, Settings, Target, Unsupported, openai::door, scoring, templated::Templates},
    event::{Lane, Payload, Protocol, Task, Wire},
    provider::{PROVIDERS, Provider},
};
use http::{HeaderMap, HeaderValue, Uri};

use crate::judge;

/// Feeds one input to the OpenAI door: a byte for the task, and the body.
pub fn openai(input: &[u8]) {
    let [task, body @ ..] = input else { return };
    let (task, protocol, decode): (_, _, fn(&Wire) -> _) = match task % 3 {
        0 => (Task::Chat, Protocol::OpenAiChat, door::decode_chat),
        1 => (Task::Complete, Protocol::OpenAiCompletions, door::decode_complete),
        _ => (Task::Embed, Protocol::OpenAiEmbeddings, door::decode_embed),
    };
    if let Err(error) = door::peek(body) {
        judge::request(&error);
    }
    let content_type = HeaderValue::from_static("application/json");
    send(task, protocol, Wire { protocol, content_type, body: Bytes::copy_from_slice(body), decode });
}

/// Feeds one input to the scoring door: a byte for the content type, and the body.
pub fn scoring(input: &[u8]) {
    let [kind, body @ ..] = input else { return };
    let told = ["application/json", "application/json; format=pandas-split", "text/csv", "application/x-parquet"][usize::from(kind % 4)];
    let wire = scoring::door::wire(Some(&HeaderValue::from_static(told)), Bytes::copy_from_slice(body));
    send(Task::Predict, Protocol::MlflowScoring, wire);
}

/// Reads a body, and writes it for the first row that speaks its protocol, in the lane of bytes and in the typed one.
fn send(task: Task, protocol: Protocol, wire: Wire) {
    let speaks = |row: &&Provider| row.dialect(task).is_some_and(|dialect| dialect.protocol(task) == Some(protocol));
    let row = PROVIDERS.iter().find(speaks).expect("a row that speaks it");
    let dialect = row.dialect(task).expect("a dialect");
    let target = Target {
        provider: row.name,
        base: Uri::from_static("https://upstream.test/v1"),
        model: "m".to_owned(),
        headers: HeaderMap::new(),
        settings: Settings::default(),
        quirks: &row.quirks,
        templates: Templates::default(),
    };
    let payload = Payload::wire_only(wire);
    if let Err(error) = payload.typed() {
        judge::request(&error);
    }
    for lane in [Lane::Byte, Lane::Typed] {
        for streaming in [false, true] {
            let ask = Ask { task, streaming, lane, payload: &payload, unsupported: Unsupported::Refuse };
            if let Err(error) = dialect.encode(&ask, &target) {
                judge::request(&error);
            }
        }
    }
}
