//! The elements of a tensor as JSON: read from one list or from nested ones, written as one.

use std::fmt;

use bytes::{Buf as _, Bytes};
use flowgate_proto::v1::{DataType, Tensor};
use serde::{
    Serialize, Serializer as _,
    de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// Elements that were read.
#[derive(Debug, Default)]
pub(super) struct Elements {
    /// How many there are.
    pub(super) count: usize,
    /// Those of a type of fixed size, little-endian.
    pub(super) data: Vec<u8>,
    /// Those of BYTES.
    pub(super) texts: Vec<Bytes>,
}

struct Reader<'a> {
    data_type: DataType,
    out: &'a mut Elements,
}

/// Reads the elements of a type.
///
/// # Errors
/// Something else than lists of values of the type.
pub(super) fn read(json: &RawValue, data_type: DataType) -> Result<Elements, serde_json::Error> {
    let mut out = Elements::default();
    Reader { data_type, out: &mut out }.deserialize(&mut serde_json::Deserializer::from_str(json.get()))?;
    Ok(out)
}

impl Reader<'_> {
    fn again(&mut self) -> Reader<'_> {
        Reader { data_type: self.data_type, out: self.out }
    }

    fn push<E: serde::de::Error, const N: usize>(self, bytes: Option<[u8; N]>) -> Result<(), E> {
        self.out.data.extend_from_slice(&bytes.ok_or_else(|| E::custom("a number that the type does not hold"))?);
        self.out.count += 1;
        Ok(())
    }

    fn integer<E: serde::de::Error>(self, number: i128) -> Result<(), E> {
        match self.data_type {
            DataType::Int8 => self.push(i8::try_from(number).ok().map(i8::to_le_bytes)),
            DataType::Int16 => self.push(i16::try_from(number).ok().map(i16::to_le_bytes)),
            DataType::Int32 => self.push(i32::try_from(number).ok().map(i32::to_le_bytes)),
            DataType::Int64 => self.push(i64::try_from(number).ok().map(i64::to_le_bytes)),
            DataType::Uint8 => self.push(u8::try_from(number).ok().map(u8::to_le_bytes)),
            DataType::Uint16 => self.push(u16::try_from(number).ok().map(u16::to_le_bytes)),
            DataType::Uint32 => self.push(u32::try_from(number).ok().map(u32::to_le_bytes)),
            DataType::Uint64 => self.push(u64::try_from(number).ok().map(u64::to_le_bytes)),
            _ => self.float(as_double(number)),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the nearest number of the type is what its elements are")]
    fn float<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        match self.data_type {
            DataType::Float32 => self.push(Some(number as f32).filter(|float| float.is_finite()).map(f32::to_le_bytes)),
            DataType::Float64 => self.push(Some(number.to_le_bytes())),
            _ => Err(E::custom("a number for another type")),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "the nearest double is what JSON's numbers are to FP32 and FP64")]
fn as_double(number: i128) -> f64 {
    number as f64
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("elements")
    }

    fn visit_bool<E: serde::de::Error>(self, truth: bool) -> Result<(), E> {
        match self.data_type {
            DataType::Bool => self.push(Some([u8::from(truth)])),
            _ => Err(E::custom("a truth value for another type")),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<(), E> {
        self.integer(number.into())
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        self.integer(number.into())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        self.float(number)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        if !matches!(self.data_type, DataType::Bytes | DataType::String) {
            return Err(E::custom("a text for another type"));
        }
        self.out.texts.push(Bytes::copy_from_slice(text.as_bytes()));
        self.out.count += 1;
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self.again())?.is_some() {}
        Ok(())
    }
}

/// Appends the elements of a tensor that agrees with itself, as one list. NaN and infinities become null, since JSON has neither.
///
/// # Errors
/// FP16 and bytes that are no text, which have no JSON form.
pub(super) fn write(out: &mut Vec<u8>, tensor: &Tensor) -> Result<(), serde_json::Error> {
    match tensor.data_type() {
        DataType::Bool => list(out, tensor.data.iter().map(|byte| *byte != 0)),
        DataType::Int8 => list(out, tensor.data.chunks_exact(1).map(|mut data| data.get_i8())),
        DataType::Int16 => list(out, tensor.data.chunks_exact(2).map(|mut data| data.get_i16_le())),
        DataType::Int32 => list(out, tensor.data.chunks_exact(4).map(|mut data| data.get_i32_le())),
        DataType::Int64 => list(out, tensor.data.chunks_exact(8).map(|mut data| data.get_i64_le())),
        DataType::Uint8 => list(out, tensor.data.iter()),
        DataType::Uint16 => list(out, tensor.data.chunks_exact(2).map(|mut data| data.get_u16_le())),
        DataType::Uint32 => list(out, tensor.data.chunks_exact(4).map(|mut data| data.get_u32_le())),
        DataType::Uint64 => list(out, tensor.data.chunks_exact(8).map(|mut data| data.get_u64_le())),
        DataType::Float32 => list(out, tensor.data.chunks_exact(4).map(|mut data| data.get_f32_le())),
        DataType::Float64 => list(out, tensor.data.chunks_exact(8).map(|mut data| data.get_f64_le())),
        DataType::String => list(out, tensor.strings.iter()),
        DataType::Bytes => {
            let texts: Result<Vec<_>, _> = tensor.byte_strings.iter().map(|bytes| std::str::from_utf8(bytes)).collect();
            list(out, texts.map_err(serde_json::Error::custom)?.iter())
        }
        DataType::Float16 | DataType::Unspecified => Err(serde_json::Error::custom("a type that has no JSON form")),
    }
}

fn list<T: Serialize>(out: &mut Vec<u8>, elements: impl Iterator<Item = T>) -> Result<(), serde_json::Error> {
    serde_json::Serializer::new(out).collect_seq(elements)
}
