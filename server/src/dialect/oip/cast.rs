//! An answer's elements in the types that the model's metadata announces. An answer of JSON has none but integers and doubles.

use bytes::Bytes;
use flowgate_proto::v1::{DataType, Tensor};

/// A tensor in another type. One that holds a number which the type does not stays as it is: so does text.
pub(super) fn cast(tensor: Tensor, to: DataType) -> Tensor {
    let data = &tensor.data;
    let data = match tensor.data_type() {
        from if from == to => None,
        DataType::Bool => packed(data, |bytes| of_integer(u8::from_le_bytes(bytes).into(), to)),
        DataType::Int8 => packed(data, |bytes| of_integer(i8::from_le_bytes(bytes).into(), to)),
        DataType::Int32 => packed(data, |bytes| of_integer(i32::from_le_bytes(bytes).into(), to)),
        DataType::Int64 => packed(data, |bytes| of_integer(i64::from_le_bytes(bytes).into(), to)),
        DataType::Uint8 => packed(data, |bytes| of_integer(u8::from_le_bytes(bytes).into(), to)),
        DataType::Uint64 => packed(data, |bytes| of_integer(u64::from_le_bytes(bytes).into(), to)),
        DataType::Float32 => packed(data, |bytes| of_double(f32::from_le_bytes(bytes).into(), to)),
        DataType::Float64 if to == DataType::Bytes && data.is_empty() => {
            // No elements are of no type.
            return Tensor { data_type: to.into(), ..tensor };
        }
        DataType::Float64 => packed(data, |bytes| of_double(f64::from_le_bytes(bytes), to)),
        _ => None,
    };
    match data {
        Some(data) => Tensor { data_type: to.into(), data, ..tensor },
        None => tensor,
    }
}

/// One element: its bytes, and how many they are.
type Element = ([u8; 8], usize);

fn packed<const N: usize>(data: &[u8], element: impl Fn([u8; N]) -> Option<Element>) -> Option<Bytes> {
    let mut out = Vec::with_capacity(data.len());
    for bytes in data.as_chunks().0 {
        let (bytes, size) = element(*bytes)?;
        out.extend_from_slice(bytes.get(..size)?);
    }
    Some(out.into())
}

fn wide<const N: usize>(bytes: [u8; N]) -> Element {
    let mut wide = [0; 8];
    wide.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    (wide, N)
}

/// An integer, which no type may make another one.
fn of_integer(number: i128, to: DataType) -> Option<Element> {
    Some(match to {
        DataType::Int8 => wide(i8::try_from(number).ok()?.to_le_bytes()),
        DataType::Int16 => wide(i16::try_from(number).ok()?.to_le_bytes()),
        DataType::Int32 => wide(i32::try_from(number).ok()?.to_le_bytes()),
        DataType::Int64 => wide(i64::try_from(number).ok()?.to_le_bytes()),
        DataType::Uint8 => wide(u8::try_from(number).ok()?.to_le_bytes()),
        DataType::Uint16 => wide(u16::try_from(number).ok()?.to_le_bytes()),
        DataType::Uint32 => wide(u32::try_from(number).ok()?.to_le_bytes()),
        DataType::Uint64 => wide(u64::try_from(number).ok()?.to_le_bytes()),
        DataType::Float16 => wide(half(exact(number)?)?.to_le_bytes()),
        DataType::Float32 => wide(single(exact(number)?).filter(|single| whole((*single).into()) == Some(number))?.to_le_bytes()),
        DataType::Float64 => wide(exact(number)?.to_le_bytes()),
        DataType::Bool | DataType::String | DataType::Bytes | DataType::Unspecified => return None,
    })
}

/// A double, as which JSON writes the shorter floats, or one of these.
fn of_double(number: f64, to: DataType) -> Option<Element> {
    match to {
        DataType::Float64 => Some(wide(number.to_le_bytes())),
        DataType::Float16 => Some(wide(half(number)?.to_le_bytes())),
        DataType::Float32 => Some(wide(single(number)?.to_le_bytes())),
        _ => of_integer(whole(number)?, to),
    }
}

#[expect(clippy::cast_precision_loss, reason = "what is lost is seen")]
fn exact(number: i128) -> Option<f64> {
    Some(number as f64).filter(|double| whole(*double) == Some(number))
}

#[expect(clippy::cast_possible_truncation, reason = "within the range of integers")]
fn whole(number: f64) -> Option<i128> {
    (number.fract() == 0.0 && number.abs() < 1e30).then_some(number as i128)
}

/// The nearest float of 32 bits, if there is one.
#[expect(clippy::cast_possible_truncation, reason = "that is what the model announces")]
fn single(number: f64) -> Option<f32> {
    Some(number as f32).filter(|single| single.is_finite() || !number.is_finite())
}

/// The float of 16 bits that is the very number.
fn half(number: f64) -> Option<u16> {
    let single = single(number)?;
    if single.is_nan() {
        return Some(0x7e00);
    }
    if f64::from(single).to_bits() != number.to_bits() {
        return None;
    }
    let bits = single.to_bits();
    let (sign, exponent, fraction) = (bits >> 16 & 0x8000, bits >> 23 & 0xff, bits & 0x7f_ffff);
    // What stands below the last bit that 16 have must be nothing.
    let kept = |all: u32, below: u32| (all & ((1 << below) - 1) == 0).then_some(all >> below);
    let magnitude = match exponent {
        0 if fraction == 0 => 0,
        0xff => 0x7c00,
        113..=142 => (exponent - 112) << 10 | kept(fraction, 13)?,
        103..=112 => kept(fraction | 0x80_0000, 126 - exponent)?,
        _ => return None,
    };
    u16::try_from(sign | magnitude).ok()
}
