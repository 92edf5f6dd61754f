//! A JSON body as a message. What is wrong with it is told by place and expectation, never by what stands there.

use bytes::Bytes;
use flowgate_proto::JsonCodec;
use http::HeaderMap;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, error::Category};

use super::super::compress::must_be_json;
use crate::error::{Error, Result};

/// The encoded message; an empty body is an empty one.
///
/// # Errors
/// `CALLER_UNSUPPORTED_MEDIA_TYPE`, `CALLER_INVALID_REQUEST`.
pub(super) fn read(codec: &JsonCodec, descriptor: &MessageDescriptor, headers: &HeaderMap, body: &Bytes) -> Result<Vec<u8>> {
    if body.is_empty() {
        return Ok(Vec::new());
    }
    must_be_json(headers)?;
    (codec.to_proto)(body).or_else(|error| {
        let first = explain(&error, true);
        // The mapping knows null for messages only, the specification for every field; such a body is read a second time.
        let without = if error.classify() == Category::Data { without_nulls(descriptor, body) } else { None };
        without.map_or(Err(first), |body| (codec.to_proto)(&body).map_err(|error| explain(&error, false)))
    })
}

/// The error with its place, unless the place is of a text that the caller has not written.
fn explain(error: &serde_json::Error, has_place: bool) -> Error {
    let told = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let told = told.strip_suffix(&place).unwrap_or(&told);
    let what = match error.classify() {
        // Only of syntax does the parser speak without showing what it read.
        Category::Syntax | Category::Eof | Category::Io => format!("must be JSON: {told}"),
        Category::Data => format!("does not fit the message: {}", expectation(told)),
    };
    Error::invalid("body", if has_place { what + &place } else { what })
}

/// The part of a parser's message that does not show the input, except for a field's name.
fn expectation(told: &str) -> String {
    let quoted = |lead: &str| told.strip_prefix(lead).and_then(|rest| rest.split('`').next());
    let is_name = |name: &&str| name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if told.starts_with("unknown field") {
        let name = quoted("unknown field `").filter(is_name);
        return name.map_or_else(|| "a field is not known".to_owned(), |name| format!("field `{name}` is not known"));
    }
    if let Some(name) = quoted("duplicate field `").filter(is_name) {
        return format!("field `{name}` stands twice, or beside another one of which only one may be set");
    }
    match told.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {}", expected.trim_start_matches("expected ")),
        None => "a value is not of its field's type".to_owned(),
    }
}

/// The body without members that are null and whose field has no null; `None` when there is none.
fn without_nulls(descriptor: &MessageDescriptor, body: &[u8]) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    if !drop_nulls(&mut value, descriptor) {
        return None;
    }
    serde_json::to_vec(&value).ok()
}

fn drop_nulls(value: &mut Value, descriptor: &MessageDescriptor) -> bool {
    let Value::Object(members) = value else { return false };
    let before = members.len();
    let field = |name: &str| descriptor.get_field_by_name(name).or_else(|| descriptor.get_field_by_json_name(name));
    members.retain(|name, value| !value.is_null() || field(name).is_none_or(|field| is_free(&field)));
    let mut dropped = members.len() < before;
    for (name, value) in members {
        let Some(field) = field(name).filter(|field| !is_free(field)) else { continue };
        dropped |= drop_inside(value, &field);
    }
    dropped
}

fn drop_inside(value: &mut Value, field: &FieldDescriptor) -> bool {
    let Kind::Message(inner) = field.kind() else { return false };
    match value {
        Value::Object(entries) if field.is_map() => {
            let Kind::Message(inner) = inner.map_entry_value_field().kind() else { return false };
            entries.values_mut().fold(false, |dropped, value| drop_nulls(value, &inner) | dropped)
        }
        Value::Array(items) => items.iter_mut().fold(false, |dropped, item| drop_nulls(item, &inner) | dropped),
        value => drop_nulls(value, &inner),
    }
}

/// Whether a field holds free JSON, in which null is a value.
fn is_free(field: &FieldDescriptor) -> bool {
    let Kind::Message(message) = field.kind() else { return false };
    let message = if field.is_map() {
        match message.map_entry_value_field().kind() {
            Kind::Message(message) => message,
            _ => return false,
        }
    } else {
        message
    };
    message.package_name() == "google.protobuf"
}

#[cfg(test)]
mod tests {
    use flowgate_proto::v1::{ChatRequest, ErrorReason, PredictRequest, predict_request::Input};
    use prost::Message as _;
    use prost_reflect::DescriptorPool;

    use super::*;

    fn parsed(message: &str, json: &'static str) -> Result<Vec<u8>> {
        let pool = DescriptorPool::decode(flowgate_proto::FILE_DESCRIPTOR_SET).unwrap();
        let descriptor = pool.get_message_by_name(message).unwrap();
        read(super::super::codec(message).unwrap(), &descriptor, &HeaderMap::new(), &Bytes::from_static(json.as_bytes()))
    }

    fn chat(json: &'static str) -> Result<ChatRequest> {
        parsed("flowgate.v1.ChatRequest", json).map(|bytes| ChatRequest::decode(&*bytes).unwrap())
    }

    #[test]
    fn both_spellings_and_null_for_unset_are_read() {
        let request =
            chat(r#"{"maxTokens": 3, "top_p": null, "endpoint": null, "messages": [{"text": "a", "name": null, "parts": null}]}"#);
        let request = request.unwrap();
        assert_eq!((request.max_tokens, request.top_p, request.messages[0].text.as_str()), (Some(3), None, "a"));
        assert_eq!(chat("").unwrap(), ChatRequest::default());
    }

    #[test]
    fn an_enum_takes_its_short_word() {
        use flowgate_proto::v1::{ResponseFormatType, Role, ToolChoiceMode};
        let request = chat(
            r#"{"messages": [{"role": "system"}, {"role": "ROLE_USER"}, {"role": "assistant"}, {"role": 4}],
                "tool_choice": {"mode": "required"}, "response_format": {"type": "json_schema"}}"#,
        )
        .unwrap();
        let roles: Vec<_> = request.messages.iter().map(flowgate_proto::v1::Message::role).collect();
        assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Tool]);
        assert_eq!(request.tool_choice.unwrap().mode(), ToolChoiceMode::Required);
        assert_eq!(request.response_format.unwrap().r#type(), ResponseFormatType::JsonSchema);
        let error = chat(r#"{"messages": [{"role": "User"}]}"#).unwrap_err().to_string();
        assert!(error.contains("`ROLE_SYSTEM`, `ROLE_USER`"), "{error}");
    }

    #[test]
    fn null_stays_a_value_in_free_json() {
        let json = r#"{"endpoint": null, "inputs": {"a": null}, "params": {"b": null}}"#;
        let request = PredictRequest::decode(&*parsed("flowgate.v1.PredictRequest", json).unwrap()).unwrap();
        assert!(request.params.unwrap().fields.contains_key("b"));
        assert!(matches!(request.input, Some(Input::Inputs(_))));
    }

    #[test]
    fn faults_have_a_place_and_show_nothing_of_the_input() {
        for (json, want) in [
            (r#"{"messages": [}"#, "must be JSON: expected value at line 1 column 15"),
            (r#"{"messages": "#, "must be JSON: EOF while parsing a value at line 1 column 13"),
            ("{\n  \"top_p\": \"secret\"}", "does not fit the message: "),
            (r#"{"endpoint": {"secret": 1}}"#, "expected a string at line 1 column 13"),
            (r#"{"secrets!": 1}"#, "a field is not known at line 1"),
            (r#"{"mesages": []}"#, "field `mesages` is not known at line 1"),
            (r#"{"endpoint": "a", "endpoint": "b"}"#, "field `endpoint` stands twice"),
            (r#"{"max_tokens": -5}"#, "does not fit the message: "),
            (r#"{"messages": [{"role": "secret"}]}"#, "does not fit the message: "),
            (r#"{"top_p": null, "max_tokens": "secret"}"#, "does not fit the message: "),
            (r#"{"messages": [{"role": 99}]}"#, "the message: expected one of"),
            ("[1]", "expected struct flowgate.v1.ChatRequest"),
        ] {
            let error = chat(json).unwrap_err();
            assert_eq!(error.reason(), ErrorReason::CallerInvalidRequest);
            assert!(error.to_string().contains(want), "{json}: {error}");
            assert!(!error.to_string().contains("secret"), "{json}: {error}");
        }
    }
}
