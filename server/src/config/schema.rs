//! Schemas of the values that need more than their Rust type says. Shapes only; meanings are in `raw.rs`.

use schemars::{JsonSchema as _, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::raw::RawMock;
use crate::provider::{PROVIDERS, Sets};

/// The mark of a value that placeholders are kept in until it is read, and that no message shows.
pub(super) const SECRET: &str = "writeOnly";
/// The mark of a value that the schema leaves alone.
pub(super) const UNCHECKED: &str = "x-unchecked";
/// The mark of a mapping in which unknown keys are warnings.
pub(super) const TOLERANT: &str = "x-tolerant";
/// The mark of a key that this build does not enforce yet.
pub(super) const LATER: &str = "x-not-enforced-yet";

/// A secret.
pub(super) fn secret(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "writeOnly": true })
}

/// Text that may look like a number.
pub(super) fn text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "number", "boolean"] })
}

/// A duration.
pub(super) fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "number"], "examples": ["2s", "100ms", "15m", "1h", 30] })
}

/// A size in bytes.
pub(super) fn bytes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "number"], "examples": ["32MiB", 1_048_576] })
}

/// A mapping of names to texts.
pub(super) fn texts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } })
}

/// A mapping of header names to values, which may be secrets.
pub(super) fn headers(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": { "type": "string", "writeOnly": true } })
}

/// A mapping of parameters to any values.
pub(super) fn parameters(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": true })
}

/// Anything.
pub(super) fn any(_: &mut SchemaGenerator) -> Schema {
    json_schema!({})
}

/// A provider's name.
pub(super) fn provider(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<_> = PROVIDERS.iter().map(|provider| provider.name).collect();
    json_schema!({ "type": "string", "examples": names })
}

/// A provider's `config`: which of the fields it takes is checked once the provider is known.
pub(super) fn config(generator: &mut SchemaGenerator) -> Schema {
    let mut fields = Map::new();
    fields.insert("api_key".to_owned(), field("every provider", Sets::ApiKey));
    fields.insert("api_base".to_owned(), field("every provider", Sets::ApiBase));
    for provider in PROVIDERS {
        for each in provider.fields {
            fields.entry(each.name).or_insert_with(|| field(provider.name, each.sets));
        }
    }
    let mock = RawMock::json_schema(generator);
    for (name, schema) in mock.get("properties").and_then(Value::as_object).into_iter().flatten() {
        fields.entry(name).or_insert_with(|| schema.clone());
    }
    json_schema!({ "type": "object", "x-unchecked": true, "properties": fields, "additionalProperties": true })
}

fn field(owner: &str, sets: Sets) -> Value {
    let meaning = match sets {
        Sets::ApiKey => "the credential",
        Sets::ApiBase => "the base address",
        Sets::Header(_) => "a header of every request",
        Sets::Flavour(_) => "the flavour of the API",
        Sets::Later(_) => "read by a later build",
    };
    let mut schema = json!({ "description": format!("{owner}: {meaning}.") });
    if let (Sets::ApiKey | Sets::Later(true), Some(schema)) = (sets, schema.as_object_mut()) {
        schema.insert(SECRET.to_owned(), Value::Bool(true));
    }
    schema
}
