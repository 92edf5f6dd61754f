//! The one list of keys that load and are not enforced yet. It shrinks to nothing.

use schemars::Schema;
use serde_json::{Map, Value, json};

use super::schema;

/// A key of a later build.
struct Row {
    /// The mapping it stands in.
    scope: Scope,
    /// The key.
    key: &'static str,
    /// What it is for.
    about: &'static str,
    /// The keys in it; empty when it may hold anything.
    keys: &'static [&'static str],
}

/// A mapping that holds later keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Root,
    Telemetry,
    Endpoint,
    Route,
    OlderModel,
}

const fn row(scope: Scope, key: &'static str, about: &'static str) -> Row {
    Row { scope, key, about, keys: &[] }
}

const CACHE: &[&str] = &["ttl", "max_entries"];

const LATER: &[Row] = &[
    row(Scope::Root, "store", "Where keys and the ledger are kept."),
    row(Scope::Root, "shared", "Where replicas share counters and cache."),
    row(Scope::Telemetry, "otlp", "Where traces and metrics are sent."),
    row(Scope::Endpoint, "limit", "How often it may be called."),
    Row { keys: CACHE, ..row(Scope::Endpoint, "cache", "How long answers are kept.") },
    row(Scope::Route, "rate_limit", "How often it may be called."),
    Row { keys: CACHE, ..row(Scope::Route, "cache", "How long answers are kept.") },
    Row { keys: CACHE, ..row(Scope::OlderModel, "cache", "How long answers are kept.") },
];

/// Marks the later keys of a mapping in its schema.
pub(super) fn keys_of(scope: Scope) -> impl FnMut(&mut Schema) {
    move |schema| mark(scope, schema)
}

fn mark(scope: Scope, schema: &mut Schema) {
    let properties = schema.ensure_object().entry("properties").or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(properties) = properties else { return };
    for row in LATER.iter().filter(|row| row.scope == scope) {
        let property = properties.entry(row.key).or_insert_with(|| property(row));
        if let Value::Object(property) = property {
            property.insert(schema::LATER.to_owned(), Value::Bool(true));
        }
    }
}

fn property(row: &Row) -> Value {
    if row.keys.is_empty() {
        return json!({ "description": row.about });
    }
    let keys: Map<String, Value> = row.keys.iter().map(|key| ((*key).to_owned(), json!({}))).collect();
    json!({ "description": row.about, "type": "object", "properties": keys, "additionalProperties": false })
}
