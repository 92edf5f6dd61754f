//! Messages and enums as JSON Schema, with the comments of the contract as descriptions.

use std::collections::{BTreeMap, HashMap};

use prost_reflect::{
    Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor, OneofDescriptor,
};
use serde_json::{Map, Value, json};

/// Comments by file and by place in it.
pub(super) struct Comments(HashMap<(String, Vec<i32>), String>);

/// The schemas that references have asked for so far.
pub(super) struct Schemas<'c> {
    comments: &'c Comments,
    done: BTreeMap<String, Value>,
}

impl Comments {
    /// Every comment before an element.
    pub(super) fn new(pool: &DescriptorPool) -> Self {
        let mut comments = HashMap::new();
        for file in pool.files() {
            let described = file.file_descriptor_proto();
            for place in described.source_code_info.iter().flat_map(|source| &source.location) {
                let lines: Vec<_> = place.leading_comments().lines().map(str::trim).collect();
                let text = lines.join(" ").trim().to_owned();
                if !text.is_empty() {
                    comments.insert((file.name().to_owned(), place.path.clone()), text);
                }
            }
        }
        Self(comments)
    }

    /// The comment before the element at a path of a file; empty when it has none.
    pub(super) fn at(&self, file: &FileDescriptor, path: &[i32]) -> &str {
        self.0.get(&(file.name().to_owned(), path.to_vec())).map_or("", String::as_str)
    }
}

impl<'c> Schemas<'c> {
    /// None yet.
    pub(super) fn new(comments: &'c Comments) -> Self {
        Self { comments, done: BTreeMap::new() }
    }

    /// All that were referred to, by name.
    pub(super) fn into_map(self) -> Map<String, Value> {
        self.done.into_iter().collect()
    }

    /// A schema of its own, beside those of the contract.
    pub(super) fn add(&mut self, name: &str, schema: Value) -> Value {
        self.done.insert(name.to_owned(), schema);
        reference(name)
    }

    /// The schema of a message, by reference; free forms are written out.
    pub(super) fn message(&mut self, message: &MessageDescriptor) -> Value {
        if let Some(schema) = well_known(message.full_name()) {
            return schema;
        }
        let name = name_of(message.full_name());
        if !self.done.contains_key(&name) {
            // In place before its fields are: a message may hold itself.
            self.done.insert(name.clone(), Value::Null);
            let schema = self.object(message);
            self.done.insert(name.clone(), schema);
        }
        reference(&name)
    }

    /// The schema of one field, with its comment.
    pub(super) fn field(&mut self, field: &FieldDescriptor) -> Value {
        let mut schema = if field.is_map() {
            let Kind::Message(entry) = field.kind() else { return json!({}) };
            json!({"type": "object", "additionalProperties": self.kind(&entry.map_entry_value_field().kind())})
        } else if field.cardinality() == Cardinality::Repeated {
            json!({"type": "array", "items": self.kind(&field.kind())})
        } else {
            self.kind(&field.kind())
        };
        describe(&mut schema, self.comments.at(&field.parent_file(), field.path()));
        schema
    }

    fn object(&mut self, message: &MessageDescriptor) -> Value {
        let mut fields: Vec<_> = message.fields().collect();
        fields.sort_by_key(FieldDescriptor::number);
        let properties: Map<String, Value> = fields.iter().map(|field| (field.name().to_owned(), self.field(field))).collect();
        let mut about = vec![self.comments.at(&message.parent_file(), message.path()).to_owned()];
        about.extend(message.oneofs().filter(|oneof| !oneof.is_synthetic()).map(|oneof| one_of(&oneof)));
        let mut schema = json!({"type": "object", "properties": properties});
        describe(&mut schema, about.join(" ").trim());
        schema
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::String => json!({"type": "string"}),
            Kind::Bool => json!({"type": "boolean"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({"type": "integer", "format": "int32"}),
            Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({"type": "string", "format": "int64"}),
            Kind::Uint64 | Kind::Fixed64 => json!({"type": "string", "format": "uint64"}),
            Kind::Double => json!({"type": "number", "format": "double"}),
            Kind::Float => json!({"type": "number", "format": "float"}),
            Kind::Enum(names) => self.names(names),
            Kind::Message(message) => self.message(message),
        }
    }

    fn names(&mut self, names: &EnumDescriptor) -> Value {
        if names.full_name() == "google.protobuf.NullValue" {
            return json!({"type": "null"});
        }
        let name = name_of(names.full_name());
        let values: Vec<_> = names.values().map(|value| value.name().to_owned()).collect();
        let mut about = vec![self.comments.at(&names.parent_file(), names.path()).to_owned()];
        about.extend(names.values().map(|value| format!("`{}`: {}", value.name(), self.comments.at(&names.parent_file(), value.path()))));
        let mut schema = json!({"type": "string", "enum": values});
        describe(&mut schema, &about.join("\n\n"));
        self.done.insert(name.clone(), schema);
        reference(&name)
    }
}

/// Schemas of `google.protobuf`, whose JSON is not their fields.
fn well_known(name: &str) -> Option<Value> {
    Some(match name {
        "google.protobuf.Struct" => json!({"type": "object", "additionalProperties": true}),
        "google.protobuf.Value" => json!({}),
        "google.protobuf.ListValue" => json!({"type": "array", "items": {}}),
        "google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
        "google.protobuf.Duration" => json!({"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$"}),
        "google.protobuf.Any" => json!({
            "type": "object",
            "properties": {"@type": {"type": "string", "description": "The message's type."}},
            "additionalProperties": true,
        }),
        _ => return None,
    })
}

fn one_of(oneof: &OneofDescriptor) -> String {
    let names: Vec<_> = oneof.fields().map(|field| format!("`{}`", field.name())).collect();
    format!("At most one of {} may be set.", names.join(", "))
}

fn describe(schema: &mut Value, text: &str) {
    if let (Value::Object(schema), false) = (schema, text.is_empty()) {
        schema.insert("description".to_owned(), text.into());
    }
}

/// The name of a component: that of the contract's own package is left out.
fn name_of(full_name: &str) -> String {
    full_name.strip_prefix("flowgate.v1.").unwrap_or(full_name).to_owned()
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}
