//! The paths that are not RPCs of ours, in a few words and with loose schemas: their own makers document them.

use serde_json::{Value, json};

use crate::{
    api::table::{Door, Oip},
    event::Task,
};

/// What the document says of a door.
pub(super) struct Words {
    /// Under which heading it stands.
    pub(super) tag: &'static str,
    /// One sentence.
    pub(super) summary: &'static str,
    /// Bodies by content type; empty when it takes none.
    pub(super) request: Vec<(&'static str, Value)>,
    /// Answers by content type.
    pub(super) answer: Vec<(&'static str, Value)>,
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

/// The words for a door; `None` for an RPC of ours.
pub(super) fn words(door: Door) -> Option<Words> {
    let whole = || vec![(JSON, object())];
    Some(match door {
        Door::Health => Words { tag: "Gateway", summary: "Says that the gateway answers.", request: vec![], answer: whole() },
        Door::OpenApi => Words { tag: "Gateway", summary: "This document.", request: vec![], answer: whole() },
        Door::OpenAi(task) => open_ai(task, true),
        Door::Named(task) => open_ai(task, false),
        Door::Models => Words { tag: "OpenAI", summary: "Lists the endpoints as OpenAI lists models.", request: vec![], answer: whole() },
        Door::Model => Words { tag: "OpenAI", summary: "Returns one endpoint as an OpenAI model.", request: vec![], answer: whole() },
        Door::Invocations => Words {
            tag: "MLflow",
            summary: "Calls the endpoint, whatever its task, with MLflow's or OpenAI's body for it.",
            request: invocation(),
            answer: vec![(JSON, object()), (EVENTS, events())],
        },
        Door::DefaultInvocations => Words {
            tag: "MLflow",
            summary: "Asks the default predict endpoint, as MLflow's scoring server does.",
            request: invocation(),
            answer: whole(),
        },
        Door::MlflowEndpoints => {
            Words { tag: "MLflow", summary: "Lists the endpoints as MLflow's gateway does.", request: vec![], answer: whole() }
        }
        Door::MlflowEndpoint => {
            Words { tag: "MLflow", summary: "Returns one endpoint as MLflow's gateway does.", request: vec![], answer: whole() }
        }
        Door::Oip(path) => inference(path),
        Door::Native(_) => return None,
    })
}

fn open_ai(task: Task, by_model: bool) -> Words {
    let tag = "OpenAI";
    let (summary, field) = match (task, by_model) {
        (Task::Chat, true) => ("Answers a conversation in OpenAI's form; `model` names the endpoint.", "messages"),
        (Task::Chat, false) => ("Answers a conversation in OpenAI's form at the endpoint of the path.", "messages"),
        (Task::Complete, true) => ("Completes a prompt in OpenAI's form; `model` names the endpoint.", "prompt"),
        (Task::Complete, false) => ("Completes a prompt in OpenAI's form at the endpoint of the path.", "prompt"),
        (Task::Embed | Task::Predict, true) => ("Returns vectors in OpenAI's form; `model` names the endpoint.", "input"),
        (Task::Embed | Task::Predict, false) => ("Returns vectors in OpenAI's form at the endpoint of the path.", "input"),
    };
    let required = if by_model { json!(["model", field]) } else { json!([field]) };
    let mut properties = json!({"model": {"type": "string", "description": "The endpoint's name."}});
    properties[field] = json!({});
    let mut answer = vec![(JSON, object())];
    if matches!(task, Task::Chat | Task::Complete) {
        properties["stream"] = json!({"type": "boolean", "description": "Whether the answer is sent as server-sent events."});
        answer.push((EVENTS, events()));
    }
    let body = json!({"type": "object", "properties": properties, "required": required, "additionalProperties": true});
    Words { tag, summary, request: vec![(JSON, body)], answer }
}

fn inference(path: Oip) -> Words {
    let tag = "Open Inference Protocol";
    let tensor = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "datatype": {"type": "string", "description": "BOOL, UINT8 to UINT64, INT8 to INT64, FP16, FP32, FP64 or BYTES."},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "data": {"type": "array", "items": {}, "description": "The elements, row-major, in one list or nested ones."},
        },
        "required": ["name", "datatype", "shape"],
        "additionalProperties": true,
    });
    let body = json!({
        "type": "object",
        "properties": {"id": {"type": "string"}, "inputs": {"type": "array", "items": tensor}},
        "required": ["inputs"],
        "additionalProperties": true,
    });
    let binary = ("application/octet-stream", json!({"type": "string", "description": "JSON, and binary data behind it."}));
    let (summary, request) = match path {
        Oip::Server => ("Says who answers.", vec![]),
        Oip::Live => ("Says whether the gateway runs.", vec![]),
        Oip::Ready => ("Says whether the gateway takes calls.", vec![]),
        Oip::Model => ("Says what a model takes and gives.", vec![]),
        Oip::ModelReady => ("Says whether a model can be called.", vec![]),
        Oip::Infer => ("Asks a predict endpoint with tensors.", vec![(JSON, body), binary.clone()]),
        Oip::Index => ("Lists the predict endpoints as models.", vec![(JSON, object())]),
        Oip::Load => ("Loads a model that Flowgate runs itself.", vec![(JSON, object())]),
        Oip::Unload => ("Unloads a model that Flowgate runs itself.", vec![(JSON, object())]),
    };
    let list = || json!({"type": "array", "items": object()});
    let mut answer = vec![(JSON, if path == Oip::Index { list() } else { object() })];
    answer.extend((path == Oip::Infer).then_some(binary));
    Words { tag, summary, request, answer }
}

fn invocation() -> Vec<(&'static str, Value)> {
    let forms = "For predictions one of `dataframe_split`, `dataframe_records`, `instances`, `inputs`; else OpenAI's body.";
    let json = json!({"type": "object", "description": forms, "additionalProperties": true});
    vec![(JSON, json), ("text/csv", json!({"type": "string"}))]
}

fn object() -> Value {
    json!({"type": "object", "additionalProperties": true})
}

fn events() -> Value {
    json!({"type": "string", "description": "Server-sent events."})
}
