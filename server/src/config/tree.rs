//! A configuration file as a tree in which every value knows its place. Knows no keys.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::{Location, options::DuplicateKeyPolicy};

use super::diagnostic::{Diagnostic, Report, Spot};

/// A value and where it was written.
#[derive(Clone)]
pub(super) struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub spot: Spot,
    /// Whether the value came out of a placeholder, so that its type is open.
    pub expanded: bool,
}

/// Any value of a file.
#[derive(Clone)]
pub(super) enum Any {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Tree>),
    /// A mapping in the order of the file.
    Map(Entries),
}

/// A value of a file with its place.
pub(super) type Tree = At<Any>;

/// The entries of a mapping.
pub(super) type Entries = Vec<(At<String>, Tree)>;

/// Reads the tree of one file of the report; `None` when it is not YAML, which is then in the report.
pub(super) fn read(source: u32, report: &mut Report) -> Option<Tree> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {},
        strict_booleans: true,
        // Duplicates are reported below, all of them and beside other findings.
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Tree>(report.text(source), options) {
        Ok(mut tree) => {
            settle(&mut tree, source, report);
            Some(tree)
        }
        Err(error) => {
            let spot = Spot { source, ..spot(error.location().unwrap_or(Location::UNKNOWN)) };
            let unquoted = report.line(spot).is_some_and(|line| [": {{", "[{{", "- {{"].iter().any(|brace| line.contains(brace)));
            report.error(spot, not_yaml(&error, unquoted));
            None
        }
    }
}

/// The parser's own words hold no text of the file but key names.
fn not_yaml(error: &serde_saphyr::Error, unquoted: bool) -> Diagnostic {
    let said = error.without_snippet().to_string();
    let said = said.lines().next().unwrap_or_default().trim_end_matches('.');
    Diagnostic::new(format!("not YAML: {said}"))
        .suggest(unquoted.then_some("put quotes around `{{ … }}`: in YAML, a brace opens a mapping"))
}

/// The parser's place.
pub(super) fn spot(location: Location) -> Spot {
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let span = location.span();
    Spot {
        source: 0,
        line: small(location.line()).max(1),
        column: small(location.column()).max(1),
        start: small(span.byte_offset().unwrap_or_default()),
        length: small(span.byte_len().unwrap_or_default()),
    }
}

/// Names the file of every value, and reports keys that stand twice.
fn settle(tree: &mut Tree, source: u32, report: &mut Report) {
    tree.spot.source = source;
    match &mut tree.value {
        Any::List(items) => items.iter_mut().for_each(|item| settle(item, source, report)),
        Any::Map(entries) => {
            let mut unique: Entries = Vec::with_capacity(entries.len());
            for (mut key, mut value) in std::mem::take(entries) {
                key.spot.source = source;
                settle(&mut value, source, report);
                if let Some((first, _)) = unique.iter().find(|(other, _)| other.value == key.value) {
                    let message = format!("duplicate key `{}`; it stands in line {} already", key.value, first.spot.line);
                    report.error(key.spot, Diagnostic::new(message).suggest(Some("keep one of the two")));
                } else {
                    unique.push((key, value));
                }
            }
            *entries = unique;
        }
        Any::Null | Any::Bool(_) | Any::Number(_) | Any::Text(_) => {}
    }
}

impl<T> At<T> {
    /// A value that stands somewhere.
    pub(super) fn new(value: T, spot: Spot) -> Self {
        Self { value, spot, expanded: false }
    }

    /// Another value in this one's place.
    pub(super) fn with<U>(&self, value: U) -> At<U> {
        At { value, spot: self.spot, expanded: self.expanded }
    }
}

impl Tree {
    /// The value of a key, if this is a mapping that has it and it is not null.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let entries = self.entries()?;
        entries.iter().find(|(name, _)| name.value == key).map(|(_, value)| value).filter(|value| !matches!(value.value, Any::Null))
    }

    /// The entries, if this is a mapping.
    pub(super) fn entries(&self) -> Option<&Entries> {
        match &self.value {
            Any::Map(entries) => Some(entries),
            Any::Null | Any::Bool(_) | Any::Number(_) | Any::Text(_) | Any::List(_) => None,
        }
    }

    /// The text, if it is text.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Any::Text(text) => Some(text),
            Any::Null | Any::Bool(_) | Any::Number(_) | Any::List(_) | Any::Map(_) => None,
        }
    }

    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            Any::Null => "nothing",
            Any::Bool(_) => "a boolean",
            Any::Number(_) => "a number",
            Any::Text(_) => "text",
            Any::List(_) => "a list",
            Any::Map(_) => "a mapping",
        }
    }

    /// The value without places.
    pub(super) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.value {
            Any::Null => Value::Null,
            Any::Bool(value) => Value::Bool(*value),
            Any::Number(value) => Value::Number(value.clone()),
            Any::Text(value) => Value::String(value.clone()),
            Any::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Any::Map(entries) => Value::Object(entries.iter().map(|(key, value)| (key.value.clone(), value.to_json())).collect()),
        }
    }
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor)
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Any;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Any, E> {
        Ok(Any::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Any, E> {
        Ok(Any::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Any, E> {
        Ok(Any::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Any, E> {
        Ok(Any::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Any, E> {
        Ok(Number::from_f64(value).map_or_else(|| Any::Text(value.to_string()), Any::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Any, E> {
        Ok(Any::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Any, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Any::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Any, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Any::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Option<Tree>, String) {
        let mut report = Report::new(vec![("f.yaml".to_owned(), text.to_owned())]);
        let tree = read(0, &mut report);
        (tree, report.finish().err().map(|found| found.to_string()).unwrap_or_default())
    }

    fn at(text: &str, tree: &Tree, key: &str) -> (u32, u32, String) {
        let spot = tree.get(key).unwrap().spot;
        let report = Report::new(vec![("f.yaml".to_owned(), text.to_owned())]);
        (spot.line, spot.column, report.written(spot).to_owned())
    }

    #[test]
    fn scalars_keep_their_place_and_their_text() {
        let text = "a: 1.10\nb: 'x y' # c\nc: { d: no }\ne: $X\nf: |\n  long\n  text\ng: 0x1f\nh: é\ni: [ü, z]\n";
        let (tree, errors) = parse(text);
        assert_eq!(errors, "");
        let tree = tree.unwrap();
        assert_eq!(at(text, &tree, "a"), (1, 4, "1.10".to_owned()));
        assert_eq!(at(text, &tree, "b"), (2, 4, "'x y'".to_owned()));
        assert_eq!(at(text, tree.get("c").unwrap(), "d"), (3, 9, "no".to_owned()));
        assert!(matches!(tree.get("c").unwrap().get("d").unwrap().value, Any::Text(_)), "`no` is no boolean");
        assert_eq!(at(text, &tree, "e"), (4, 4, "$X".to_owned()));
        assert_eq!(tree.get("f").unwrap().text(), Some("long\ntext\n"));
        assert_eq!(tree.get("g").unwrap().to_json(), 31);
        assert_eq!(at(text, &tree, "h"), (9, 4, "é".to_owned()));
        assert_eq!((tree.entries().unwrap()[1].0.spot.line, tree.entries().unwrap()[1].0.spot.column), (2, 1));
    }

    #[test]
    fn every_duplicate_is_found_with_its_place() {
        let (_, errors) = parse("a: 1\nb: { c: 1, c: 2 }\na: 2\n");
        assert_eq!(
            errors,
            "f.yaml:2:12: duplicate key `c`; it stands in line 2 already\n    keep one of the two\n\
             f.yaml:3:1: duplicate key `a`; it stands in line 1 already\n    keep one of the two"
        );
    }

    #[test]
    fn merge_keys_are_no_duplicates() {
        let text = "x: &x { a: 1, b: 2 }\ny: { <<: *x, a: 3 }\nz: *x\n";
        let (tree, errors) = parse(text);
        assert_eq!(errors, "");
        let tree = tree.unwrap();
        assert_eq!(tree.get("y").unwrap().to_json(), serde_json::json!({"a": 3, "b": 2}));
        assert_eq!(at(text, tree.get("z").unwrap(), "b"), (1, 18, "2".to_owned()));
    }

    #[test]
    fn what_is_not_yaml_has_a_place() {
        let (tree, errors) = parse("a: 1\nb: [1, 2\nc: 3\n");
        assert!(tree.is_none());
        assert!(errors.starts_with("f.yaml:"), "{errors}");
        let (_, errors) = parse("a:\n  b: {{ secrets.X }}\n");
        assert!(errors.contains("f.yaml:2:") && errors.contains("put quotes around"), "{errors}");
        let (_, errors) = parse(&"[".repeat(20_000));
        assert!(errors.starts_with("f.yaml:1:"), "{errors}");
    }

    #[test]
    fn nothing_is_a_tree() {
        for text in ["", "# only a comment\n", "\u{feff}a: 1\n"] {
            let (tree, errors) = parse(text);
            assert_eq!(errors, "", "{text:?}");
            assert!(tree.is_some(), "{text:?}");
        }
    }
}
