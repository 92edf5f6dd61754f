//! Schemas of the values that need more than their Rust type says. Shapes only; meanings are in `raw.rs`.

use flowgate_proto::v1::Capability;
use schemars::{JsonSchema as _, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::raw::{RawMock, RawRequire};
use crate::provider::{PROVIDERS, Sets};

/// The mark of a value that placeholders are kept in until it is read, and that no message shows.
pub(super) const SECRET: &str = "writeOnly";
/// The mark of a value that the schema leaves alone.
pub(super) const UNCHECKED: &str = "x-unchecked";
/// The mark of a mapping in which unknown keys are warnings.
pub(super) const TOLERANT: &str = "x-tolerant";
/// The mark of a key that this build does not enforce yet.
pub(super) const LATER: &str = "x-not-enforced-yet";

/// The field of `config` with several credentials, of every provider that takes one.
pub(super) const KEYS: &str = "api_keys";

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

/// A duration, or two with `..` between them.
pub(super) fn range(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "number"], "examples": ["100ms..2s", "1s"] })
}

/// A share of a whole.
pub(super) fn share(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "number"], "examples": ["20%", 0.2] })
}

/// How many times as much.
pub(super) fn factor(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "number"], "examples": ["1.5x", 1.5] })
}

/// A size in bytes.
pub(super) fn bytes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "number"], "examples": ["32MiB", 1_048_576] })
}

/// A mapping of names to texts.
pub(super) fn texts(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } })
}

/// A mapping of tags to a value or several.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    let value = json!({ "type": ["string", "number", "boolean"] });
    json_schema!({ "type": "object", "additionalProperties": { "anyOf": [value, { "type": "array", "items": value }] } })
}

/// Tags, or a list of conditions with tags.
pub(super) fn require(generator: &mut SchemaGenerator) -> Schema {
    let list = json!({ "type": "array", "items": generator.subschema_for::<RawRequire>() });
    json_schema!({ "anyOf": [labels(generator), list] })
}

/// A text whose braces are its own: no placeholder is looked for in it.
pub(super) fn template(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "x-unchecked": true, "examples": ["{{ steps.clean.text }}"] })
}

/// The words for what a deployment can do, in the order of the contract.
pub(super) fn capability_words() -> impl Iterator<Item = (String, Capability)> {
    let known = (1..).map_while(|number| Capability::try_from(number).ok());
    known.map(|each| (each.as_str_name().trim_start_matches("CAPABILITY_").to_ascii_lowercase(), each))
}

/// A list of what a deployment can do.
pub(super) fn capabilities(_: &mut SchemaGenerator) -> Schema {
    let words: Vec<_> = capability_words().map(|(word, _)| word).collect();
    json_schema!({ "type": "array", "items": { "type": "string", "enum": words } })
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
    let keys = json!({ "description": "every provider: several credentials, each call takes one.", "type": "array", "writeOnly": true });
    fields.insert(KEYS.to_owned(), keys);
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
        Sets::Setting(_) => "a setting of its API",
        Sets::Template(false) => "a template of its requests",
        Sets::Template(true) => "a template of the predictions in its answers",
        Sets::Secret(_) => "a secret that gets it credentials",
        Sets::Group => "further fields",
        Sets::Later(_) => "read by a later build",
    };
    let mut schema = json!({ "description": format!("{owner}: {meaning}.") });
    if let (Sets::ApiKey | Sets::Secret(_) | Sets::Later(true), Some(schema)) = (sets, schema.as_object_mut()) {
        schema.insert(SECRET.to_owned(), Value::Bool(true));
    }
    schema
}
