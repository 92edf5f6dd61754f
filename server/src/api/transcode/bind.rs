//! Path and query as fields of a message, by its descriptor. Dotted names reach into messages, repeated names fill lists.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use percent_encoding::percent_decode_str;
use prost::Message as _;
use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, Value};

use crate::error::{Error, Result};

/// The encoded fields; appended to an encoded message they win over its own, and add to its lists.
///
/// # Errors
/// A name that the message does not have, or a value that does not fit its field.
pub(super) fn bind(descriptor: &MessageDescriptor, query: &str, endpoint: &str) -> Result<Vec<u8>> {
    let mut message = DynamicMessage::new(descriptor.clone());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        set(&mut message, &decoded(name)?, &decoded(value)?)?;
    }
    if !endpoint.is_empty() {
        set(&mut message, "endpoint", endpoint)?;
    }
    Ok(message.encode_to_vec())
}

fn decoded(text: &str) -> Result<String> {
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text).decode_utf8();
    decoded.map(Into::into).map_err(|_| Error::invalid("query", "is not UTF-8 once it is percent-decoded"))
}

fn set(message: &mut DynamicMessage, name: &str, text: &str) -> Result<()> {
    let descriptor = message.descriptor();
    let (first, rest) = name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
    let found = descriptor.get_field_by_name(first).or_else(|| descriptor.get_field_by_json_name(first));
    let field = found.ok_or_else(|| unknown(&descriptor))?;
    match (message.get_field_mut(&field), rest) {
        (Value::Message(inner), Some(rest)) => set(inner, rest, text),
        (_, Some(_)) => Err(unknown(&descriptor)),
        (Value::List(list), None) => {
            list.push(scalar(&field, text)?);
            Ok(())
        }
        (value, None) => {
            *value = scalar(&field, text)?;
            Ok(())
        }
    }
}

fn scalar(field: &FieldDescriptor, text: &str) -> Result<Value> {
    let wrong = |what: &str| Error::invalid(field.name(), what.to_owned());
    let number = |value: Option<Value>| value.ok_or_else(|| wrong("is not a number of the field's type"));
    if field.is_map() {
        return Err(wrong("cannot stand in a query"));
    }
    match field.kind() {
        Kind::String => Ok(Value::String(text.to_owned())),
        Kind::Bool => text.parse().map(Value::Bool).map_err(|_| wrong("must be `true` or `false`")),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => number(text.parse().ok().map(Value::I32)),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => number(text.parse().ok().map(Value::I64)),
        Kind::Uint32 | Kind::Fixed32 => number(text.parse().ok().map(Value::U32)),
        Kind::Uint64 | Kind::Fixed64 => number(text.parse().ok().map(Value::U64)),
        Kind::Float => number(text.parse().ok().map(Value::F32)),
        Kind::Double => number(text.parse().ok().map(Value::F64)),
        Kind::Bytes => BASE64_STANDARD.decode(text).map(|bytes| Value::Bytes(bytes.into())).map_err(|_| wrong("is not base64")),
        Kind::Enum(names) => by_name(&names, text).map(Value::EnumNumber).ok_or_else(|| wrong("is not a name of the field's enum")),
        Kind::Message(_) => Err(wrong("cannot stand in a query")),
    }
}

fn by_name(names: &EnumDescriptor, text: &str) -> Option<i32> {
    // The short word too, as in a body: what follows the prefix that an enum's names share.
    let zero = names.default_value();
    let prefix = zero.name().strip_suffix("UNSPECIFIED").filter(|_| !text.contains(|c: char| c.is_ascii_uppercase()));
    let short = || names.get_value_by_name(&format!("{}{}", prefix?, text.to_ascii_uppercase()));
    names.get_value_by_name(text).or_else(short).map(|value| value.number()).or_else(|| text.parse().ok())
}

fn unknown(descriptor: &MessageDescriptor) -> Error {
    let names: Vec<_> = descriptor.fields().map(|field| format!("`{}`", field.name())).collect();
    Error::invalid("query", format!("holds a name that `{}` does not have; it has {}", descriptor.name(), names.join(", ")))
}

#[cfg(test)]
mod tests {
    use flowgate_proto::v1::{ChatRequest, ListEndpointsRequest};
    use prost_reflect::DescriptorPool;

    use super::*;

    fn bound(message: &str, query: &str) -> Result<Vec<u8>> {
        let pool = DescriptorPool::decode(flowgate_proto::FILE_DESCRIPTOR_SET).unwrap();
        bind(&pool.get_message_by_name(message).unwrap(), query, "")
    }

    #[test]
    fn names_of_every_spelling_and_depth_are_bound() {
        let list = bound("flowgate.v1.ListEndpointsRequest", "page_size=3&pageToken=a%2Bb+c").unwrap();
        let list = ListEndpointsRequest::decode(&*list).unwrap();
        assert_eq!((list.page_size, list.page_token.as_str()), (3, "a+b c"));
        let query = "stop=a&stop=b&reasoning.effort=low&temperature=0.5&tool_choice.mode=TOOL_CHOICE_MODE_NONE&logprobs=true";
        let chat = ChatRequest::decode(&*bound("flowgate.v1.ChatRequest", query).unwrap()).unwrap();
        assert_eq!(chat.stop, ["a", "b"]);
        assert_eq!((chat.temperature, chat.logprobs), (Some(0.5), Some(true)));
        assert_eq!(chat.reasoning.unwrap().effort, "low");
        assert_eq!(chat.tool_choice.unwrap().mode, 2);
        let chat = ChatRequest::decode(&*bound("flowgate.v1.ChatRequest", "tool_choice.mode=none").unwrap()).unwrap();
        assert_eq!(chat.tool_choice.unwrap().mode, 2);
    }

    #[test]
    fn what_has_no_place_is_refused_by_name() {
        for query in ["nonsense=1", "page_size=many", "page_size.x=1", "page_size=-1", "page_token=%ff"] {
            assert!(bound("flowgate.v1.ListEndpointsRequest", query).is_err(), "{query}");
        }
        for query in ["metadata=x", "messages=x", "reasoning=x"] {
            assert!(bound("flowgate.v1.ChatRequest", query).is_err(), "{query}");
        }
        let error = bound("flowgate.v1.ListEndpointsRequest", "nonsense=1").unwrap_err();
        assert!(error.to_string().contains("`page_size`, `page_token`"), "{error}");
        assert!(!error.to_string().contains("nonsense"));
    }
}
