//! Requests, answers, events and errors as the text of golden files, and small readers of streams.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::{
    dialect::Frame,
    error::Error,
    event::{Answer, Event, Request, Task},
};

/// The task that a case's name begins with.
pub(in crate::dialect) fn task(name: &str) -> Task {
    match name {
        "chat" => Task::Chat,
        "complete" => Task::Complete,
        "embed" => Task::Embed,
        "predict" => Task::Predict,
        other => panic!("no task {other}"),
    }
}

pub(in crate::dialect) fn request_from(kind: Task, json: &[u8]) -> Request {
    match kind {
        Task::Chat => Request::Chat(serde_json::from_slice(json).unwrap()),
        Task::Complete => Request::Complete(serde_json::from_slice(json).unwrap()),
        Task::Embed => Request::Embed(serde_json::from_slice(json).unwrap()),
        Task::Predict => Request::Predict(serde_json::from_slice(json).unwrap()),
    }
}

pub(super) fn request_json(request: &Request) -> Json {
    match request {
        Request::Chat(request) => serde_json::to_value(request),
        Request::Complete(request) => serde_json::to_value(request),
        Request::Embed(request) => serde_json::to_value(request),
        Request::Predict(request) => serde_json::to_value(request),
    }
    .unwrap()
}

pub(in crate::dialect) fn answer_json(answer: &Answer) -> Json {
    match answer {
        Answer::Chat(answer) => serde_json::to_value(answer),
        Answer::Complete(answer) => serde_json::to_value(answer),
        Answer::Embed(answer) => serde_json::to_value(answer),
        Answer::Predict(answer) => serde_json::to_value(answer),
        Answer::Wire(_) => panic!("not typed"),
    }
    .unwrap()
}

pub(in crate::dialect) fn pretty(json: &Json) -> String {
    serde_json::to_string_pretty(json).unwrap() + "\n"
}

pub(in crate::dialect) fn said(error: &Error) -> String {
    let mut text = format!("{}: {error}\n", error.reason_name());
    for violation in error.violations() {
        text += &format!("field {}: {}\n", violation.field, violation.description);
    }
    if let Some(status) = error.upstream_status_code() {
        text += &format!("upstream status {status}\n");
    }
    if let Some(after) = error.retry_after_hint() {
        text += &format!("retry after {after:?}\n");
    }
    text
}

/// JSON with line breaks, its tokens and their order untouched.
pub(in crate::dialect) fn indented(json: &str) -> String {
    let (mut out, mut depth, mut in_text, mut escaped) = (String::new(), 0_usize, false, false);
    for c in json.chars() {
        if in_text {
            out.push(c);
            (in_text, escaped) = (escaped || c != '"', !escaped && c == '\\');
            continue;
        }
        let line = |depth: usize| format!("\n{}", "  ".repeat(depth));
        match c {
            '{' | '[' => {
                depth += 1;
                out.push(c);
                out += &line(depth);
            }
            '}' | ']' => {
                depth -= 1;
                out += &line(depth);
                out.push(c);
            }
            ',' => out += &(",".to_owned() + &line(depth)),
            ':' => out += ": ",
            '"' => {
                in_text = true;
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out + "\n"
}

pub(in crate::dialect) fn event_json(event: &Event) -> Json {
    let one = |name: &str, value: serde_json::Result<Json>| Json::Object([(name.to_owned(), value.unwrap())].into_iter().collect());
    match event {
        Event::Start(start) => one("start", serde_json::to_value(start)),
        Event::Delta(delta) => one("delta", serde_json::to_value(delta)),
        Event::ChoiceEnd(end) => one("choice_end", serde_json::to_value(end)),
        Event::Usage(usage) => one("usage", serde_json::to_value(usage)),
        Event::Ping => Json::from("ping"),
        Event::End => Json::from("end"),
        Event::Answer(_) | Event::Wire(_) => panic!("not of the typed lane"),
    }
}

/// The frames of a stream that comes in pieces of so many bytes.
pub(in crate::dialect) fn frames(bytes: &[u8], ending: &str, piece: usize) -> Vec<Frame> {
    let (mut buffer, mut frames) = (Vec::new(), Vec::new());
    let mark: &[u8] = if ending == "sse" { b"\n\n" } else { b"\n" };
    for piece in bytes.chunks(piece.max(1)) {
        buffer.extend_from_slice(piece);
        while let Some(end) = buffer.windows(mark.len()).position(|window| window == mark) {
            let raw: Vec<u8> = buffer.drain(..end + mark.len()).collect();
            frames.extend(match ending {
                "sse" => Some(sse(raw.into())),
                "ndjson" => {
                    Some(Frame { data: raw.trim_ascii().to_vec().into(), ..Frame::default() }).filter(|frame| !frame.data.is_empty())
                }
                _ => event(&raw),
            });
        }
    }
    frames
}

fn sse(raw: Bytes) -> Frame {
    let text = String::from_utf8(raw.to_vec()).unwrap();
    let field = |name: &str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix(name).map(|value| value.strip_prefix(' ').unwrap_or(value)));
        lines.collect::<Vec<_>>().join("\n").into_bytes()
    };
    Frame { name: field("event:").into(), data: field("data:").into(), raw, is_exception: false }
}

/// A frame of an event stream, written as a line: its name, its payload (JSON, or text as it is), and whether it is an exception.
fn event(line: &[u8]) -> Option<Frame> {
    #[derive(Deserialize)]
    struct Line {
        name: String,
        data: Json,
        #[serde(default)]
        exception: bool,
    }
    let Line { name, data, exception } =
        Some(line.trim_ascii()).filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).unwrap())?;
    let data = data.as_str().map_or_else(|| data.to_string(), str::to_owned);
    Some(Frame { name: name.into(), data: data.into(), raw: Bytes::new(), is_exception: exception })
}
