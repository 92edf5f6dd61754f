//! A schema over a tree: unknown keys, wrong types, wrong words, missing keys, all of them. What is refused is taken out of the tree.

use serde_json::{Map, Value};

use super::{
    diagnostic::Diagnostic,
    reading::Reading,
    schema::{LATER, SECRET, TOLERANT, UNCHECKED},
    suggest,
    tree::{Any, At, Entries, Tree},
};

/// Checks a tree, reports what is wrong, and leaves a tree that binds. `false` when nothing of it is left.
pub(super) fn check(tree: &mut Tree, schema: &Value, reading: &mut Reading<'_>) -> bool {
    let tolerant = false;
    Checker { root: schema, reading }.value(tree, schema, Position { key: "the file", tolerant })
}

struct Checker<'a, 'b> {
    root: &'a Value,
    reading: &'a mut Reading<'b>,
}

/// Where the checker is.
#[derive(Clone, Copy)]
struct Position<'a> {
    /// The key above, as messages show it.
    key: &'a str,
    /// Whether unknown keys are only warnings.
    tolerant: bool,
}

impl<'a> Checker<'a, '_> {
    fn value(&mut self, tree: &mut Tree, schema: &'a Value, position: Position<'_>) -> bool {
        let whole = schema;
        let schema = self.resolved(whole, tree);
        if schema.get(UNCHECKED).is_some() {
            return self.kind(tree, (schema, whole), position);
        }
        if schema.get(SECRET).is_some() {
            return self.secret(tree, position);
        }
        if wants_scalar(&types(schema)) && !self.reading.expand(tree) {
            return false;
        }
        if !self.kind(tree, (schema, whole), position) || !self.word(tree, schema, position) || !self.range(tree, schema, position) {
            return false;
        }
        match &mut tree.value {
            Any::Map(entries) => {
                let entries = std::mem::take(entries);
                let kept = self.entries(entries, tree, schema, position);
                tree.value = Any::Map(kept);
            }
            Any::List(items) => {
                let each = schema.get("items").unwrap_or(&Value::Bool(true));
                let written = items.len();
                items.retain_mut(|item| self.value(item, each, position));
                if items.len() < written {
                    self.reading.damage(tree.spot);
                }
            }
            Any::Null | Any::Bool(_) | Any::Number(_) | Any::Text(_) => {}
        }
        true
    }

    /// The schema behind references, and the branch of a choice that a value most likely means.
    fn resolved(&self, schema: &'a Value, tree: &Tree) -> &'a Value {
        let mut branches = Vec::new();
        self.branches(schema, &mut branches);
        let fits = |branch: &&&Value| types(branch).iter().any(|name| is_kind(tree, name));
        branches.iter().find(fits).or(branches.first()).copied().unwrap_or(&Value::Bool(true))
    }

    /// What a value may be, behind references and choices; `null` is always left out.
    fn branches(&self, schema: &'a Value, found: &mut Vec<&'a Value>) {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            self.branches(name.strip_prefix('#').and_then(|path| self.root.pointer(path)).unwrap_or(&Value::Bool(true)), found);
        } else if let Some(branches) = schema.get("anyOf").and_then(Value::as_array) {
            branches.iter().for_each(|branch| self.branches(branch, found));
        } else if schema.get("type").and_then(Value::as_str) != Some("null") {
            found.push(schema);
        }
    }

    /// The types that a value may have, over all branches.
    fn all_types(&self, schema: &'a Value) -> Vec<&'a str> {
        let mut branches = Vec::new();
        self.branches(schema, &mut branches);
        branches.into_iter().flat_map(types).collect()
    }

    /// A secret keeps its placeholders, and no message shows it.
    fn secret(&mut self, tree: &Tree, position: Position<'_>) -> bool {
        let is_text = tree.text().is_some();
        if !is_text {
            let message = format!("`{}` is {}", position.key, tree.kind());
            self.reading.error(tree.spot, Diagnostic::new(message).expected("text").suggest(Some("put quotes around it")));
        }
        is_text
    }

    /// The type, of the branch that is meant and of the whole choice; a placeholder's text takes the type that is wanted.
    fn kind(&mut self, tree: &mut Tree, (schema, whole): (&Value, &'a Value), position: Position<'_>) -> bool {
        let types = types(schema);
        if types.is_empty() || types.iter().any(|name| is_kind(tree, name)) {
            if types.contains(&"string") && !types.contains(&"object") {
                self.as_written(tree);
            }
            return true;
        }
        if tree.expanded && types.iter().any(|name| retype(tree, name)) {
            return true;
        }
        // What stands where a mapping or a list belongs may be a secret that belongs into it.
        let scalar = wants_scalar(&types) && !matches!(tree.value, Any::List(_) | Any::Map(_) | Any::Null);
        let found = if scalar { self.reading.shown(tree.spot) } else { tree.kind().to_owned() };
        let quote = (types == ["string"] && scalar).then(|| format!("put quotes around it: {}", found.replace('`', "\"")));
        let diagnostic = Diagnostic::new(format!("`{}` is {found}", position.key)).expected(kinds(&self.all_types(whole))).suggest(quote);
        self.reading.error(tree.spot, diagnostic);
        false
    }

    /// A number that may stand for text is the text as it was written: `1.10` is no `1.1`.
    fn as_written(&self, tree: &mut Tree) {
        tree.value = match &tree.value {
            Any::Number(value) if tree.expanded => Any::Text(value.to_string()),
            Any::Bool(value) if tree.expanded => Any::Text(value.to_string()),
            Any::Number(_) | Any::Bool(_) => Any::Text(self.reading.report.written(tree.spot).to_owned()),
            Any::Null | Any::Text(_) | Any::List(_) | Any::Map(_) => return,
        };
    }

    fn word(&mut self, tree: &Tree, schema: &Value, position: Position<'_>) -> bool {
        let words = words(schema);
        let Some(text) = tree.text().filter(|text| !words.is_empty() && !words.contains(text)) else { return true };
        self.reading.wrong_word(tree.spot, position.key, text, &words);
        false
    }

    fn range(&mut self, tree: &Tree, schema: &Value, position: Position<'_>) -> bool {
        let Any::Number(number) = &tree.value else { return true };
        let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
        let least = bound("minimum").unwrap_or(f64::MIN);
        let widest = match schema.get("format").and_then(Value::as_str) {
            Some("uint16") => f64::from(u16::MAX),
            Some("uint32") => f64::from(u32::MAX),
            _ => f64::MAX,
        };
        let most = bound("maximum").unwrap_or(widest);
        if number.as_f64().is_none_or(|number| (least..=most).contains(&number)) {
            return true;
        }
        let bounded = most < f64::from(u32::MAX) || number.as_f64().is_some_and(|number| number > most);
        let expected = if bounded { format!("{least} to {most}") } else { format!("{least} or more") };
        self.reading.wrong(tree.spot, position.key, expected);
        false
    }

    fn entries(&mut self, entries: Entries, tree: &Tree, schema: &'a Value, position: Position<'_>) -> Entries {
        let none = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object);
        let rest = schema.get("additionalProperties").unwrap_or(&Value::Bool(true));
        let tolerant = position.tolerant || schema.get(TOLERANT).is_some();
        let mut kept = Entries::with_capacity(entries.len());
        let mut given: Vec<String> = Vec::new();
        for (key, mut value) in entries {
            let property = properties.and_then(|properties| properties.get(&key.value));
            if property.is_none() && *rest == Value::Bool(false) {
                let known: Vec<_> = properties.unwrap_or(&none).keys().map(String::as_str).collect();
                self.reading.unknown_key(tree.spot, &key, &known, tolerant);
                continue;
            }
            if matches!(value.value, Any::Null) && properties.is_some() {
                continue;
            }
            given.push(key.value.clone());
            self.mark_later(&key, property);
            let whole = self.value(&mut value, property.unwrap_or(rest), Position { key: &suggest::short(&key.value), tolerant });
            if !whole || (matches!(value.value, Any::List(_)) && self.reading.is_damaged(value.spot)) {
                self.reading.damage(tree.spot);
            }
            if whole {
                kept.push((key, value));
            }
        }
        self.missing(&given, tree, schema);
        kept
    }

    fn mark_later(&mut self, key: &At<String>, property: Option<&Value>) {
        if property.is_some_and(|property| property.get(LATER).is_some()) {
            self.reading.later(key.spot, key.value.clone());
        }
    }

    fn missing(&mut self, given: &[String], tree: &Tree, schema: &'a Value) {
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        for key in required.filter(|key| !given.iter().any(|other| other == key)) {
            let property = schema.get("properties").and_then(|properties| properties.get(key)).unwrap_or(&Value::Null);
            let property = self.resolved(property, tree);
            let words = words(property);
            let expected = if words.is_empty() { kinds(&types(property)) } else { suggest::list(&words) };
            self.reading.error(tree.spot, Diagnostic::new(format!("`{key}` is missing")).expected(expected));
            self.reading.damage(tree.spot);
        }
    }
}

fn types(schema: &Value) -> Vec<&str> {
    let types = match schema.get("type") {
        Some(Value::String(name)) => vec![name.as_str()],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    types.into_iter().filter(|name| *name != "null").collect()
}

/// Whether a scalar may stand here, and so a placeholder.
fn wants_scalar(types: &[&str]) -> bool {
    types.is_empty() || types.iter().any(|name| !matches!(*name, "object" | "array"))
}

fn words(schema: &Value) -> Vec<&str> {
    schema.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn is_kind(tree: &Tree, name: &str) -> bool {
    match &tree.value {
        Any::Null => false,
        Any::Bool(_) => name == "boolean",
        Any::Number(number) => name == "number" || (name == "integer" && !number.is_f64()),
        Any::Text(_) => name == "string",
        Any::List(_) => name == "array",
        Any::Map(_) => name == "object",
    }
}

/// Gives an expanded scalar the type that is wanted, if its text can have it.
fn retype(tree: &mut Tree, name: &str) -> bool {
    let wanted = match (&tree.value, name) {
        (Any::Text(text), "integer" | "number" | "boolean") => match serde_json::from_str(text) {
            Ok(Value::Bool(value)) => Any::Bool(value),
            Ok(Value::Number(value)) => Any::Number(value),
            _ => return false,
        },
        (Any::Number(value), "string") => Any::Text(value.to_string()),
        (Any::Bool(value), "string") => Any::Text(value.to_string()),
        _ => return false,
    };
    let wanted = tree.with(wanted);
    let fits = is_kind(&wanted, name);
    if fits {
        *tree = wanted;
    }
    fits
}

fn kinds(types: &[&str]) -> String {
    let name = |name: &&str| match *name {
        "object" => "a mapping",
        "array" => "a list",
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        _ => "a value",
    };
    let names: Vec<_> = types.iter().map(name).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => (*last).to_owned(),
        None => "a value".to_owned(),
    }
}
