//! The OpenAPI document, from the table of paths and the comments in the descriptors.

use bytes::Bytes;
use flowgate_proto::v1::Permission;
use http::Method;
use prost_reflect::{FieldDescriptor, Kind};
use serde_json::{Map, Value, json};

use crate::api::table::{Door, Row, Rpc, Table};

mod foreign;
mod schema;

use schema::{Comments, Schemas};

const ABOUT: &str = "One door to every model: typed chat, completion, embedding and prediction. Streams are server-sent events; each \
                     `data:` is one message, and a failure is a last event with `error`.";

/// The document as JSON.
pub fn document(table: &Table) -> Bytes {
    let pool = table.rpcs().first().map(|rpc| rpc.descriptor.parent_pool().clone()).unwrap_or_default();
    let comments = Comments::new(&pool);
    let mut schemas = Schemas::new(&comments);
    let error = schemas.add("Error", error());
    let brief = schemas.add("InferenceError", inference_error());
    let mut paths = Map::new();
    for row in table.rows() {
        let operation = match row.door {
            Door::Native(place) => table.rpcs().get(place).map(|rpc| native(rpc, row, &comments, &mut schemas)),
            door => foreign::words(door).map(|words| other(words, row)),
        };
        let Some(mut operation) = operation else { continue };
        let failure = if matches!(row.door, Door::Oip(_)) { &brief } else { &error };
        operation["responses"]["default"] = json!({"description": "A failure.", "content": {"application/json": {"schema": failure}}});
        operation["security"] = security(row.permission);
        let item = paths.entry(row.path.clone()).or_insert_with(|| json!({}));
        item[row.method.as_str().to_ascii_lowercase()] = operation;
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Flowgate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas.into_map(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "api_key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    });
    Bytes::from(document.to_string())
}

/// The operation of an RPC of ours.
fn native(rpc: &Rpc, row: &Row, comments: &Comments, schemas: &mut Schemas<'_>) -> Value {
    let service = rpc.descriptor.parent_service();
    let about = comments.at(&service.parent_file(), rpc.descriptor.path());
    let input = rpc.descriptor.input();
    let output = schemas.message(&rpc.descriptor.output());
    let answer = if rpc.descriptor.is_server_streaming() {
        let events = json!({"type": "string", "contentMediaType": "application/json", "contentSchema": output});
        json!({"description": "Server-sent events; each `data:` is one message.", "content": {"text/event-stream": {"schema": events}}})
    } else {
        json!({"description": "The answer.", "content": {"application/json": {"schema": output}}})
    };
    let mut parameters = path_parameters(row);
    let mut operation = json!({
        "operationId": format!("{}_{}", service.name(), rpc.descriptor.name()),
        "summary": about.split_inclusive(". ").next().unwrap_or_default().trim(),
        "description": about,
        "tags": [service.name()],
        "responses": {"200": answer},
    });
    if row.method == Method::GET {
        let bound = |field: &FieldDescriptor| row.path.contains(&format!("{{{}}}", field.name()));
        let fields = input.fields().filter(|field| !bound(field) && !field.is_map() && !matches!(field.kind(), Kind::Message(_)));
        parameters.extend(fields.map(|field| {
            let mut schema = schemas.field(&field);
            let about = schema.as_object_mut().and_then(|schema| schema.remove("description")).unwrap_or_default();
            json!({"name": field.name(), "in": "query", "required": false, "description": about, "schema": schema})
        }));
    } else {
        let body = schemas.message(&input);
        operation["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": body}}});
    }
    operation["parameters"] = parameters.into();
    operation
}

/// The operation of a path of others.
fn other(words: foreign::Words, row: &Row) -> Value {
    let foreign::Words { tag, summary, request, answer } = words;
    let content = |forms: Vec<(&str, Value)>| -> Map<String, Value> {
        forms.into_iter().map(|(content_type, schema)| (content_type.to_owned(), json!({"schema": schema}))).collect()
    };
    let mut operation = json!({
        "operationId": operation_id(row),
        "summary": summary,
        "tags": [tag],
        "parameters": path_parameters(row),
        "responses": {"200": {"description": "The answer.", "content": content(answer)}},
    });
    if !request.is_empty() {
        operation["requestBody"] = json!({"required": true, "content": content(request)});
    }
    operation
}

/// The names in a path's template.
fn path_parameters(row: &Row) -> Vec<Value> {
    let names = row.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    names
        .map(|name| {
            let about = if name == "version" { "A version, of which an endpoint has none." } else { "The endpoint's name." };
            json!({"name": name, "in": "path", "required": true, "description": about, "schema": {"type": "string"}})
        })
        .collect()
}

/// The verb and the path as one word.
fn operation_id(row: &Row) -> String {
    let words: Vec<_> = row.path.split(|char: char| !char.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let end = if row.path.ends_with('/') { "_list" } else { "" };
    format!("{}_{}{end}", row.method.as_str().to_ascii_lowercase(), words.join("_"))
}

fn security(permission: Permission) -> Value {
    match permission {
        Permission::Public | Permission::Unspecified => json!([]),
        Permission::List | Permission::Invoke | Permission::Admin => json!([{"bearer": []}, {"api_key": []}]),
    }
}

/// The body of a failure, as `api::failure` writes it.
fn error() -> Value {
    json!({
        "type": "object",
        "description": "Why a call failed.",
        "required": ["detail", "error"],
        "properties": {
            "detail": {"type": "string", "description": "What is wrong and what to do next, where MLflow's clients look for it."},
            "error": {
                "type": "object",
                "description": "The same where OpenAI's clients look for it.",
                "required": ["message", "type", "code", "param", "reason", "metadata"],
                "properties": {
                    "message": {"type": "string", "description": "What is wrong and what to do next."},
                    "type": {"type": "string", "description": "The kind of failure in OpenAI's words."},
                    "code": {"type": "string", "description": "The failure in OpenAI's words, else the reason in lower case."},
                    "param": {"type": ["string", "null"], "description": "The first request field at fault."},
                    "reason": {"type": "string", "description": "The reason, of the closed set `flowgate.v1.ErrorReason`."},
                    "metadata": {
                        "type": "object",
                        "description": "`request_id` and, where they are known, `endpoint`, `deployment`, `provider`, `upstream_status`.",
                        "additionalProperties": {"type": "string"},
                    },
                },
            },
        },
    })
}

/// The body of a failure in the words of the Open Inference Protocol.
fn inference_error() -> Value {
    json!({
        "type": "object",
        "description": "Why a call failed, in the words of the Open Inference Protocol.",
        "required": ["error", "reason"],
        "properties": {
            "error": {"type": "string", "description": "What is wrong and what to do next."},
            "reason": {"type": "string", "description": "The reason, of the closed set `flowgate.v1.ErrorReason`."},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read() -> Value {
        serde_json::from_slice(&document(&Table::new().unwrap())).unwrap()
    }

    #[test]
    fn every_path_is_there_once_with_its_permission() {
        let (table, document) = (Table::new().unwrap(), read());
        let mut ids = std::collections::HashSet::new();
        for row in table.rows() {
            let operation = &document["paths"][&row.path][row.method.as_str().to_ascii_lowercase()];
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{}", row.path);
            assert_eq!(operation["security"] == json!([]), row.permission == Permission::Public, "{}", row.path);
            assert_eq!(operation["parameters"].as_array().unwrap().iter().any(|p| p["in"] == "path"), row.path.contains('{'));
            assert!(!operation["summary"].as_str().unwrap().is_empty());
        }
    }

    #[test]
    fn messages_are_described_as_their_json_is() {
        let schemas = &read()["components"]["schemas"];
        let chat = &schemas["ChatRequest"]["properties"];
        assert_eq!(chat["seed"]["type"], "string");
        assert_eq!(chat["messages"]["items"]["$ref"], "#/components/schemas/Message");
        assert_eq!(chat["provider_options"]["additionalProperties"]["type"], "object");
        assert_eq!(schemas["Role"]["enum"][2], "ROLE_USER");
        assert_eq!(schemas["MediaPart"]["properties"]["data"]["contentEncoding"], "base64");
        assert!(schemas["PredictRequest"]["description"].as_str().unwrap().contains("At most one of `dataframe_split`"));
        for (name, schema) in schemas.as_object().unwrap() {
            assert!(schema["description"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_two_documents_are_alike() {
        let document = read();
        let text = document.to_string();
        for reference in text.split("\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document["components"]["schemas"][reference].is_object(), "{reference}");
        }
        assert_eq!(document, read());
    }
}
