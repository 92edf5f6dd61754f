//! Values that may be written in two ways, told apart by their kind: a scalar or the whole, one mapping or a list of them.

use std::{borrow::Cow, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{
        Error, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

use crate::config::tree::At;

/// A scalar in short, or the whole: a mapping or a list.
#[derive(Clone)]
pub(in crate::config) enum Short<S, W> {
    /// In short.
    Word(S),
    /// The whole.
    Whole(W),
}

/// One mapping, or a list of items.
pub(in crate::config) enum Many<M, T> {
    /// One.
    One(M),
    /// A list.
    List(Vec<At<T>>),
}

struct ShortVisitor<S, W>(PhantomData<(S, W)>);

impl<'de, S: Deserialize<'de>, W: Deserialize<'de>> Visitor<'de> for ShortVisitor<S, W> {
    type Value = Short<S, W>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value in short, or the whole")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        S::deserialize(value.into_deserializer()).map(Short::Word)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        S::deserialize(value.into_deserializer()).map(Short::Word)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        S::deserialize(value.into_deserializer()).map(Short::Word)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        W::deserialize(SeqAccessDeserializer::new(items)).map(Short::Whole)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
        W::deserialize(MapAccessDeserializer::new(entries)).map(Short::Whole)
    }
}

impl<'de, S: Deserialize<'de>, W: Deserialize<'de>> Deserialize<'de> for Short<S, W> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShortVisitor(PhantomData))
    }
}

struct ManyVisitor<M, T>(PhantomData<(M, T)>);

impl<'de, M: Deserialize<'de>, T: Deserialize<'de>> Visitor<'de> for ManyVisitor<M, T> {
    type Value = Many<M, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping, or a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(items)).map(Many::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
        M::deserialize(MapAccessDeserializer::new(entries)).map(Many::One)
    }
}

impl<'de, M: Deserialize<'de>, T: Deserialize<'de>> Deserialize<'de> for Many<M, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ManyVisitor(PhantomData))
    }
}

impl<S: JsonSchema, W: JsonSchema> JsonSchema for Short<S, W> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}_in_short", W::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        // The scalar first: a text that fits neither may be a placeholder for it.
        json_schema!({ "anyOf": [generator.subschema_for::<S>(), generator.subschema_for::<W>()] })
    }
}

impl<M: JsonSchema, T: JsonSchema> JsonSchema for Many<M, T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}_or_list", M::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [generator.subschema_for::<M>(), { "type": "array", "items": generator.subschema_for::<T>() }] })
    }
}
