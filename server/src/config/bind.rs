//! A tree as the types of `raw.rs`: serde reads from it, and places survive in [`At`]. What the schema refuses never gets here.

use std::{borrow::Cow, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor, value::Error},
    forward_to_deserialize_any,
};
use serde_saphyr::Spanned;

use super::{
    diagnostic::Spot,
    tree::{self, Any, At, Tree},
};

/// The name by which [`At`] asks this deserializer for a place.
const AT: &str = "flowgate::At";

/// How the name of a field begins that is a part of its owner: it is bound to the whole mapping, for one that is too large for one type.
const PART: char = '&';

/// The raw type in a checked tree.
pub(super) fn bind<T: DeserializeOwned>(tree: &Tree) -> Result<T, Error> {
    T::deserialize(Binder(tree))
}

#[derive(Clone, Copy)]
struct Binder<'a>(&'a Tree);

impl<'de> Deserializer<'de> for Binder<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.0.value {
            Any::Null => visitor.visit_unit(),
            Any::Bool(value) => visitor.visit_bool(*value),
            Any::Number(value) => value.deserialize_any(visitor).map_err(said),
            Any::Text(value) => visitor.visit_str(value),
            Any::List(items) => visitor.visit_seq(Items(items.iter())),
            Any::Map(entries) => visitor.visit_map(Pairs { whole: self.0, entries: entries.iter(), parts: [].iter(), value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.value {
            Any::Null => visitor.visit_none(),
            Any::Bool(_) | Any::Number(_) | Any::Text(_) | Any::List(_) | Any::Map(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if name == AT { visitor.visit_seq(AtParts { tree: self.0, step: 0 }) } else { visitor.visit_newtype_struct(self) }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0.entries() {
            Some(entries) => visitor.visit_map(Pairs { whole: self.0, entries: entries.iter(), parts: fields.iter(), value: None }),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self.0.text().unwrap_or_default().into_deserializer())
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct
        map identifier ignored_any
    }
}

fn said(error: impl fmt::Display) -> Error {
    de::Error::custom(error)
}

struct Items<'a>(std::slice::Iter<'a, Tree>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|item| seed.deserialize(Binder(item))).transpose()
    }
}

struct Pairs<'a> {
    whole: &'a Tree,
    parts: std::slice::Iter<'static, &'static str>,
    entries: std::slice::Iter<'a, (At<String>, Tree)>,
    value: Option<&'a Tree>,
}

impl<'de> MapAccess<'de> for Pairs<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.entries.next() else {
            let Some(part) = self.parts.find(|field| field.starts_with(PART)) else { return Ok(None) };
            self.value = Some(self.whole);
            return seed.deserialize(part.into_deserializer()).map(Some);
        };
        self.value = Some(value);
        seed.deserialize(Binder(&key.with(Any::Text(key.value.clone())))).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let value = self.value.take().ok_or_else(|| said("a value without a key"))?;
        seed.deserialize(Binder(value))
    }
}

/// The parts of an [`At`], in the order in which its visitor takes them.
struct AtParts<'a> {
    tree: &'a Tree,
    step: u8,
}

impl<'de> SeqAccess<'de> for AtParts<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.step += 1;
        match self.step {
            1 => {
                let Spot { source, line, column, start, length } = self.tree.spot;
                seed.deserialize(vec![source, line, column, start, length].into_deserializer())
            }
            2 => seed.deserialize(self.tree.expanded.into_deserializer()),
            3 => seed.deserialize(Binder(self.tree)),
            _ => return Ok(None),
        }
        .map(Some)
    }
}

struct AtVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for AtVisitor<T> {
    type Value = At<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value with its place")
    }

    /// From a tree.
    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<At<T>, A::Error> {
        let short = || de::Error::custom("a value without its place");
        let [source, line, column, start, length] = parts.next_element()?.ok_or_else(short)?;
        let expanded = parts.next_element()?.ok_or_else(short)?;
        let value = parts.next_element()?.ok_or_else(short)?;
        Ok(At { value, spot: Spot { source, line, column, start, length }, expanded })
    }

    /// From YAML.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<At<T>, D::Error> {
        let Spanned { value, defined, .. } = Spanned::deserialize(deserializer)?;
        Ok(At::new(value, tree::spot(defined)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(AT, AtVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
