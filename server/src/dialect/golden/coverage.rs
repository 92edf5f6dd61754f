//! Every field of the requests has a fixture: it changes the bytes on the wire, or is refused by name.

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::Value as Json;

use super::{Fixture, Suite, fixtures, request_from};
use crate::event::Task;

/// Fields that are not the provider's: the endpoint is chosen by then, these labels are for usage records only, and the form of predictions
/// is ours to make.
const OURS: [&str; 8] = [
    "ChatRequest.endpoint",
    "CompleteRequest.endpoint",
    "CompleteRequest.metadata",
    "EmbedRequest.endpoint",
    "EmbedRequest.metadata",
    "PredictRequest.endpoint",
    "PredictRequest.metadata",
    "PredictRequest.prediction_form",
];

/// Holds a dialect to every field of the tasks that it has.
pub(in crate::dialect) fn check(suite: &Suite, tasks: &[Task]) {
    let pool = DescriptorPool::decode(flowgate_proto::FILE_DESCRIPTOR_SET).unwrap();
    let fixtures = fixtures(suite.folder);
    let mut missing = Vec::new();
    for task in tasks {
        let name = match task {
            Task::Chat => "ChatRequest",
            Task::Complete => "CompleteRequest",
            Task::Embed => "EmbedRequest",
            Task::Predict => "PredictRequest",
        };
        let message = pool.get_message_by_name(&format!("flowgate.v1.{name}")).unwrap();
        let mut paths = Vec::new();
        leaves(&message, &mut Vec::new(), &mut Vec::new(), &mut paths);
        let own: Vec<_> = fixtures.iter().filter(|fixture| fixture.kind == *task && fixture.task() == *task).collect();
        for path in paths {
            let full = format!("{name}.{}", path.join("."));
            if !OURS.contains(&full.as_str()) && !own.iter().any(|fixture| shows(suite, fixture, &path)) {
                missing.push(full);
            }
        }
    }
    assert!(missing.is_empty(), "no fixture shows what becomes of: {missing:#?}");
}

fn leaves(message: &MessageDescriptor, path: &mut Vec<String>, seen: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
    for field in message.fields() {
        path.push(field.name().to_owned());
        match nested(&field) {
            Some(inner) if !seen.contains(&inner.full_name().to_owned()) => {
                seen.push(inner.full_name().to_owned());
                leaves(&inner, path, seen, out);
                seen.pop();
            }
            Some(_) => {}
            None => out.push(path.clone()),
        }
        path.pop();
    }
}

fn nested(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(message) if !field.is_map() && !message.full_name().starts_with("google.") => Some(message),
        _ => None,
    }
}

/// Whether the fixture sets the field, and its removal changes the outcome or its refusal names it.
fn shows(suite: &Suite, fixture: &Fixture, path: &[String]) -> bool {
    let Some(json) = fixture.read("request.json") else { return false };
    let original: Json = serde_json::from_slice(&json).unwrap();
    let outcome = |json: &Json| {
        let request = request_from(fixture.kind, json.to_string().as_bytes());
        suite
            .encode(fixture, request)
            .map_err(|error| error.violations().first().map(|violation| violation.field.clone()).unwrap_or_default())
    };
    let mut without = original.clone();
    if !remove(&mut without, path) {
        return false;
    }
    match outcome(&original) {
        Ok(body) => outcome(&without).map_or(true, |other| other != body),
        Err(field) => {
            let named: Vec<&str> = field.split('.').map(|name| name.split('[').next().unwrap_or_default()).collect();
            path.len() >= named.len() && path.iter().zip(&named).all(|(a, b)| a == b)
        }
    }
}

/// Removes a field everywhere; false when it is nowhere.
fn remove(json: &mut Json, path: &[String]) -> bool {
    match (json, path) {
        (Json::Array(list), path) => list.iter_mut().filter_map(|entry| remove(entry, path).then_some(())).count() > 0,
        (Json::Object(object), [last]) => object.remove(last).is_some(),
        (Json::Object(object), [first, rest @ ..]) => object.get_mut(first).is_some_and(|inner| remove(inner, rest)),
        _ => false,
    }
}
