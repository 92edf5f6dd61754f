//! The elements of a tensor as the typed lists of a message.

use bytes::{Buf as _, Bytes};
use flowgate_proto::{inference::InferTensorContents, v1::DataType};

/// How many lists hold elements.
pub(super) fn lists(contents: &InferTensorContents) -> usize {
    [
        contents.bool_contents.is_empty(),
        contents.int_contents.is_empty(),
        contents.int64_contents.is_empty(),
        contents.uint_contents.is_empty(),
        contents.uint64_contents.is_empty(),
        contents.fp32_contents.is_empty(),
        contents.fp64_contents.is_empty(),
        contents.bytes_contents.is_empty(),
    ]
    .into_iter()
    .filter(|is_empty| !is_empty)
    .count()
}

/// The elements of a type of fixed size, little-endian, from the list of that type; `None` when one of them does not fit into it.
pub(super) fn read(contents: &InferTensorContents, data_type: DataType) -> Option<Vec<u8>> {
    Some(match data_type {
        DataType::Bool => contents.bool_contents.iter().map(|truth| u8::from(*truth)).collect(),
        DataType::Int8 => packed(&contents.int_contents, |n| i8::try_from(n).ok().map(i8::to_le_bytes))?,
        DataType::Int16 => packed(&contents.int_contents, |n| i16::try_from(n).ok().map(i16::to_le_bytes))?,
        DataType::Int32 => packed(&contents.int_contents, |n| Some(n.to_le_bytes()))?,
        DataType::Int64 => packed(&contents.int64_contents, |n| Some(n.to_le_bytes()))?,
        DataType::Uint8 => packed(&contents.uint_contents, |n| u8::try_from(n).ok().map(u8::to_le_bytes))?,
        DataType::Uint16 => packed(&contents.uint_contents, |n| u16::try_from(n).ok().map(u16::to_le_bytes))?,
        DataType::Uint32 => packed(&contents.uint_contents, |n| Some(n.to_le_bytes()))?,
        DataType::Uint64 => packed(&contents.uint64_contents, |n| Some(n.to_le_bytes()))?,
        DataType::Float32 => packed(&contents.fp32_contents, |n| Some(n.to_le_bytes()))?,
        DataType::Float64 => packed(&contents.fp64_contents, |n| Some(n.to_le_bytes()))?,
        DataType::Float16 | DataType::String | DataType::Bytes | DataType::Unspecified => Vec::new(),
    })
}

fn packed<T: Copy, const N: usize>(list: &[T], bytes: impl Fn(T) -> Option<[u8; N]>) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(list.len() * N);
    for element in list {
        out.extend_from_slice(&bytes(*element)?);
    }
    Some(out)
}

/// Elements of a type of fixed size as the list of that type; `None` for FP16, which has none.
pub(super) fn write(data_type: DataType, data: &Bytes) -> Option<InferTensorContents> {
    let mut contents = InferTensorContents::default();
    match data_type {
        DataType::Bool => contents.bool_contents = data.iter().map(|byte| *byte != 0).collect(),
        DataType::Int8 => contents.int_contents = unpacked(data, 1, |mut data| data.get_i8().into()),
        DataType::Int16 => contents.int_contents = unpacked(data, 2, |mut data| data.get_i16_le().into()),
        DataType::Int32 => contents.int_contents = unpacked(data, 4, |mut data| data.get_i32_le()),
        DataType::Int64 => contents.int64_contents = unpacked(data, 8, |mut data| data.get_i64_le()),
        DataType::Uint8 => contents.uint_contents = unpacked(data, 1, |mut data| data.get_u8().into()),
        DataType::Uint16 => contents.uint_contents = unpacked(data, 2, |mut data| data.get_u16_le().into()),
        DataType::Uint32 => contents.uint_contents = unpacked(data, 4, |mut data| data.get_u32_le()),
        DataType::Uint64 => contents.uint64_contents = unpacked(data, 8, |mut data| data.get_u64_le()),
        DataType::Float32 => contents.fp32_contents = unpacked(data, 4, |mut data| data.get_f32_le()),
        DataType::Float64 => contents.fp64_contents = unpacked(data, 8, |mut data| data.get_f64_le()),
        DataType::Float16 | DataType::String | DataType::Bytes | DataType::Unspecified => return None,
    }
    Some(contents)
}

fn unpacked<T>(data: &[u8], size: usize, element: impl Fn(&[u8]) -> T) -> Vec<T> {
    data.chunks_exact(size).map(element).collect()
}
