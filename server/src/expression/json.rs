//! JSON as values of the engine: read in one go, without a tree between, and written. Once read, nothing of it is copied again.

use std::{cell::Cell, fmt, io, sync::Arc};

use minijinja::{
    Error, Value,
    value::{Enumerator, Object, ObjectExt as _, Tuple, ValueKind},
};
use serde::{
    Serialize,
    de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor},
};

use super::meter::{ITEM, MISSING, TOO_MUCH, charge, charge_each, refuse};

/// How many values a body may hold to be looked at.
const MAX_VALUES: usize = 1 << 20;
/// How much memory they may take, about, in bytes.
const MAX_BYTES: usize = 128 << 20;
/// What a value takes where it stands, with room that a growing list keeps free.
const VALUE: usize = 2 * size_of::<Value>();
/// What a list or dict takes beyond its entries.
const HEAD: usize = 96;
/// Up to so many keys are found by looking at each.
const FEW: usize = 8;

/// An object of JSON: keys in the order in which they were written, the last of equal ones counts.
#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<(Value, Value)>,
    /// Positions by key; empty where there are [`FEW`].
    order: Vec<usize>,
}

impl Table {
    /// Of entries whose keys are texts.
    pub(super) fn new(entries: Vec<(Value, Value)>) -> Self {
        if entries.len() > FEW {
            return Self::large(entries);
        }
        let mut kept: Vec<(Value, Value)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            match kept.iter_mut().find(|(known, _)| known.as_str() == key.as_str()) {
                Some((_, known)) => *known = value,
                None => kept.push((key, value)),
            }
        }
        Self { entries: kept, order: Vec::new() }
    }

    fn large(mut entries: Vec<(Value, Value)>) -> Self {
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_by(|a, b| entries[*a].0.as_str().cmp(&entries[*b].0.as_str()));
        order.dedup_by(|later, earlier| {
            let same = entries[*later].0.as_str() == entries[*earlier].0.as_str();
            if same {
                *earlier = *later;
            }
            same
        });
        if order.len() < entries.len() {
            order.sort_unstable();
            let kept = order.iter().filter_map(|place| entries.get_mut(*place).map(std::mem::take)).collect();
            return Self::new(kept);
        }
        Self { entries, order }
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        if self.entries.len() <= FEW {
            return self.entries.iter().find(|(known, _)| known.as_str() == Some(key)).map(|(_, value)| value);
        }
        let found = self.order.binary_search_by(|place| self.entries[*place].0.as_str().cmp(&Some(key))).ok()?;
        self.order.get(found).and_then(|place| self.entries.get(*place)).map(|(_, value)| value)
    }

    /// Keys and values.
    pub(super) fn entries(&self) -> &[(Value, Value)] {
        &self.entries
    }
}

impl Object for Table {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get(key.as_str()?).cloned()
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.get(key).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        self.mapped_key_value_enumerator(|table| Box::new(table.entries.iter().cloned()))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// The items of a list or tuple.
pub(super) fn items(value: &Value) -> Option<&[Value]> {
    value.downcast_object_ref::<Vec<Value>>().map(Vec::as_slice).or_else(|| value.downcast_object_ref::<Tuple>().map(|tuple| &tuple[..]))
}

/// Reads a body. `None`: it is no JSON, or holds too many values.
pub(super) fn read(body: &[u8]) -> Option<Value> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let left = Left { values: Cell::new(MAX_VALUES), bytes: Cell::new(MAX_BYTES) };
    let value = Reader { left: &left }.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok().map(|()| value)
}

/// A tree as values of the engine.
pub(super) fn of_tree(tree: &serde_json::Value) -> Value {
    use serde_json::Value as Tree;
    match tree {
        Tree::Null => Value::from(()),
        Tree::Bool(truth) => Value::from(*truth),
        Tree::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Value::from(whole),
            (None, Some(whole)) => Value::from(whole),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Tree::String(text) => Value::from(text.as_str()),
        Tree::Array(items) => Value::from(items.iter().map(of_tree).collect::<Vec<_>>()),
        Tree::Object(fields) => {
            Value::from_object(Table::new(fields.iter().map(|(key, value)| (Value::from(key.as_str()), of_tree(value))).collect()))
        }
    }
}

/// A value as JSON text.
///
/// # Errors
/// When it gets too long, or is no JSON.
pub(super) fn text(value: &Value) -> Result<String, Error> {
    let mut out = Metered(Vec::new());
    write(&mut out, value)?;
    // Only texts were written to it.
    Ok(String::from_utf8(out.0).unwrap_or_default())
}

/// JSON text that is paid for while it grows.
struct Metered(Vec<u8>);

impl io::Write for Metered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        charge(bytes.len()).map_err(io::Error::other)?;
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(out: &mut Metered, value: &Value) -> Result<(), Error> {
    charge(ITEM / 4)?;
    match value.kind() {
        ValueKind::None => put(out, &()),
        ValueKind::Bool => put(out, &value.is_true()),
        ValueKind::Number => write_number(out, value),
        ValueKind::String => put(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq => write_between(out, ["[", "]"], items(value).unwrap_or_default(), write),
        ValueKind::Map => match value.downcast_object_ref::<Table>() {
            Some(table) => write_between(out, ["{", "}"], table.entries(), write_entry),
            None => write_between(out, ["{", "}"], &pairs(value)?, write_entry),
        },
        ValueKind::Undefined => Err(refuse(MISSING)),
        _ => Err(refuse("a value has no JSON form")),
    }
}

/// Keys and values of whatever has them.
///
/// # Errors
/// When it is no dict, or too large.
pub(super) fn pairs(value: &Value) -> Result<Vec<(Value, Value)>, Error> {
    let object = value.as_object().filter(|_| value.kind() == ValueKind::Map).ok_or_else(|| refuse("only a dict has keys"))?;
    charge_each(object.enumerator_len().unwrap_or_default(), ITEM)?;
    Ok(object.try_iter_pairs().into_iter().flatten().collect())
}

fn write_entry(out: &mut Metered, (key, value): &(Value, Value)) -> Result<(), Error> {
    match key.as_str() {
        Some(text) => put(out, text)?,
        None => put(out, &key.to_string())?,
    }
    raw(out, ": ")?;
    write(out, value)
}

fn write_between<T>(
    out: &mut Metered,
    [open, close]: [&str; 2],
    items: &[T],
    each: fn(&mut Metered, &T) -> Result<(), Error>,
) -> Result<(), Error> {
    raw(out, open)?;
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            raw(out, ", ")?;
        }
        each(out, item)?;
    }
    raw(out, close)
}

fn write_number(out: &mut Metered, value: &Value) -> Result<(), Error> {
    let is_endless = !value.is_integer() && f64::try_from(value.clone()).is_ok_and(|number| !number.is_finite());
    raw(out, if is_endless { "null".to_owned() } else { value.to_string() }.as_str())
}

fn raw(out: &mut Metered, text: &str) -> Result<(), Error> {
    charge(text.len())?;
    out.0.extend_from_slice(text.as_bytes());
    Ok(())
}

fn put<T: Serialize + ?Sized>(out: &mut Metered, scalar: &T) -> Result<(), Error> {
    serde_json::to_writer(out, scalar).map_err(|_| refuse(TOO_MUCH))
}

/// What a body may still take.
struct Left {
    values: Cell<usize>,
    bytes: Cell<usize>,
}

impl Left {
    fn value<E: de::Error>(&self) -> Result<(), E> {
        let values = self.values.get().checked_sub(1).ok_or_else(|| E::custom("too many values"))?;
        self.values.set(values);
        self.bytes(VALUE)
    }

    fn bytes<E: de::Error>(&self, bytes: usize) -> Result<(), E> {
        let left = self.bytes.get().checked_sub(bytes).ok_or_else(|| E::custom("too large"))?;
        self.bytes.set(left);
        Ok(())
    }
}

/// Reads one value, or one key.
#[derive(Clone, Copy)]
struct Reader<'a> {
    left: &'a Left,
}

/// Reads one key.
struct Key<'a>(Reader<'a>);

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.left.value()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::from(()))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::from(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        self.left.bytes(text.len())?;
        Ok(Value::from(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.left.bytes(HEAD)?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        if items.capacity() > 2 * items.len() {
            items.shrink_to_fit();
        }
        Ok(Value::from(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.left.bytes(HEAD)?;
        let mut entries = Vec::new();
        while let Some(key) = map.next_key_seed(Key(self))? {
            entries.push((key, map.next_value_seed(self)?));
        }
        entries.shrink_to_fit();
        Ok(Value::from_object(Table::new(entries)))
    }
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.0.left.bytes(VALUE)?;
        deserializer.deserialize_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(body: &str) -> Option<String> {
        super::super::meter::start(1 << 20);
        text(&read(body.as_bytes())?).ok()
    }

    #[test]
    fn what_is_read_is_written_again() {
        for (body, want) in [
            ("null", "null"),
            ("[1, -2, 1.5, true, 18446744073709551615]", "[1, -2, 1.5, true, 18446744073709551615]"),
            (r#"{"b": "é\n\"", "a": {"c": []}}"#, r#"{"b": "é\n\"", "a": {"c": []}}"#),
            (r#"{"a": 1, "b": 2, "a": 3}"#, r#"{"a": 3, "b": 2}"#),
            ("1e400", ""),
            ("[1,", ""),
            ("[1] 2", ""),
            ("NaN", ""),
        ] {
            assert_eq!(written(body).unwrap_or_default(), want, "{body}");
        }
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert!(read(deep.as_bytes()).is_none(), "a body nested too deeply is none");
    }

    #[test]
    fn keys_are_found_in_small_and_large_objects_and_the_last_of_equal_ones_counts() {
        for count in [1, 8, 9, 1000] {
            let entries = (0..count).chain(0..1).map(|n| (Value::from(format!("key {}", n * 7 % count)), Value::from(n)));
            let mut entries: Vec<_> = entries.collect();
            entries.last_mut().unwrap().1 = Value::from("last");
            let table = Table::new(entries);
            assert_eq!(table.entries().len(), count);
            assert_eq!(table.get("key 0"), Some(&Value::from("last")));
            for n in 1..count {
                assert_eq!(table.get(&format!("key {}", n * 7 % count)), Some(&Value::from(n)), "{n} of {count}");
            }
            assert!(table.get("key").is_none());
        }
    }
}
