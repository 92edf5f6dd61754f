//! Tensors as JSON: written as nested lists, and read from predictions.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use flowgate_proto::v1::{DataType, Tensor, Tensors};
use serde::Serialize;

use super::{
    json::put,
    tree::{Json, Kind, Unfit},
};
use crate::error::{Error, Result};

/// As many dimensions as NumPy takes before its version 2.
const MOST_DIMENSIONS: usize = 32;
/// The most lists that tensors may stand for beyond two for each element; a request of a few bytes must not become gigabytes.
const MOST_LISTS: usize = 1 << 20;

/// What is wrong with bytes where the model is sent JSON. Read as base64 they would be other bytes to it, so they are never guessed to be that.
const NO_TEXT: &str = "is no UTF-8 text, which is all that this model is sent; only a column of type binary of a model that Flowgate runs takes \
                       any bytes, else send them as base64 in `dataframe_split`";

/// Who reads what is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// A model: an infinity is refused, and a float is the very double that it is, as Python's clients write it. Its shortest text is another
    /// double, which may be on the other side of a threshold.
    Model,
    /// Who called it: an infinity becomes null, as NaN does, and a float is its shortest text.
    Caller,
}

/// The lists that the tensors of a request stand for beyond two for each element.
#[derive(Debug, Default)]
pub(super) struct Lists(usize);

/// What clients of other protocols, in which every tensor has a name, call the input of a model that has no name for it.
pub(super) const UNNAMED: [&str; 3] = ["", "predict", "input-0"];

/// Appends tensors as the value of `inputs` or of `predictions`: a sole one with one of the names `unnamed` as nested lists, else an object.
///
/// # Errors
/// What is wrong with the tensors, by field.
pub(super) fn write(out: &mut Vec<u8>, tensors: &Tensors, unnamed: &[&str], reader: Reader) -> Result<()> {
    if let Some(sole) = named(tensors, unnamed)? {
        return write_tensor(out, sole, 0, reader, &mut Lists::default());
    }
    let mut lists = Lists::default();
    out.push(b'{');
    for (n, tensor) in tensors.tensors.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        put(out, tensor.name.as_str());
        out.push(b':');
        write_tensor(out, tensor, n, reader, &mut lists)?;
    }
    out.push(b'}');
    Ok(())
}

/// The sole tensor with one of the names `unnamed`; `None` when all have names of their own.
///
/// # Errors
/// Which has none, or that there is no tensor.
pub(super) fn named<'a>(tensors: &'a Tensors, unnamed: &[&str]) -> Result<Option<&'a Tensor>> {
    match tensors.tensors.as_slice() {
        [] => return Err(Error::invalid("tensors.tensors", "must hold at least one tensor")),
        [sole] if unnamed.contains(&sole.name.as_str()) => return Ok(Some(sole)),
        _ => {}
    }
    let mut names = HashSet::new();
    match tensors.tensors.iter().position(|tensor| tensor.name.is_empty() || !names.insert(tensor.name.as_str())) {
        Some(n) => Err(at(n, ".name", "must be set, and be no other tensor's, when there are several")),
        None => Ok(None),
    }
}

pub(super) fn at(n: usize, field: &str, what: impl Into<String>) -> Error {
    Error::invalid(format!("tensors.tensors[{n}]{field}"), what)
}

impl Lists {
    /// Counts those of a tensor's shape.
    ///
    /// # Errors
    /// When they are too many.
    pub(super) fn count(&mut self, shape: &[usize], n: usize) -> Result<()> {
        self.0 = self.0.saturating_add(spare_lists(shape));
        if self.0 > MOST_LISTS { Err(at(n, ".shape", "has too many rows for so few elements")) } else { Ok(()) }
    }
}

/// Appends a tensor.
fn write_tensor(out: &mut Vec<u8>, tensor: &Tensor, n: usize, reader: Reader, lists: &mut Lists) -> Result<()> {
    let shape = checked(tensor, n)?;
    lists.count(&shape, n)?;
    match tensor.data_type() {
        DataType::String => {
            out.reserve(tensor.strings.iter().map(|text| text.len() + 3).sum());
            let mut strings = tensor.strings.iter();
            nest(out, &shape, &mut |out| put(out, strings.next().map_or("", String::as_str)));
        }
        DataType::Bytes => {
            let mut texts = texts(tensor, n)?.into_iter();
            nest(out, &shape, &mut |out| put(out, &texts.next()));
        }
        sized => {
            truths(tensor, n)?;
            if reader == Reader::Model && has_infinity(sized, &tensor.data) {
                return Err(at(n, ".data", "holds an infinity, which JSON lacks; send NaN, or a `raw` body"));
            }
            out.reserve(tensor.data.len().saturating_mul(12));
            write_elements(out, &shape, (sized, reader), &tensor.data);
        }
    }
    Ok(())
}

/// The elements of a tensor of bytes as texts.
///
/// # Errors
/// Which is none.
pub(super) fn texts(tensor: &Tensor, n: usize) -> Result<Vec<&str>> {
    let texts = tensor.byte_strings.iter().enumerate();
    texts.map(|(place, bytes)| std::str::from_utf8(bytes).map_err(|_| at(n, &format!(".byte_strings[{place}]"), NO_TEXT))).collect()
}

/// The shape of a tensor that agrees with itself.
///
/// # Errors
/// What in it does not, by field.
pub(super) fn checked(tensor: &Tensor, n: usize) -> Result<Vec<usize>> {
    let shape = shape(tensor, n)?;
    let data_type = DataType::try_from(tensor.data_type).unwrap_or_default();
    let count: usize = if shape.contains(&0) { 0 } else { shape.iter().product() };
    let Some(size) = element_size(data_type) else { return Err(at(n, ".data_type", "must be one of the named types")) };
    sole_field(tensor, n, data_type)?;
    let counted = |field: &str, held: usize| {
        let fits = held == count;
        if fits { Ok(()) } else { Err(at(n, field, format!("holds {held} elements where the shape asks for {count}"))) }
    };
    match data_type {
        DataType::String => counted(".strings", tensor.strings.len())?,
        DataType::Bytes => counted(".byte_strings", tensor.byte_strings.len())?,
        _ if Some(tensor.data.len()) != count.checked_mul(size) => {
            let held = tensor.data.len();
            return Err(at(n, ".data", format!("holds {held} bytes where shape and type ask for {count} × {size}")));
        }
        _ => {}
    }
    Ok(shape)
}

/// Refuses elements in another field than that of their type.
fn sole_field(tensor: &Tensor, n: usize, data_type: DataType) -> Result<()> {
    let fields = [
        (".data", tensor.data.is_empty() || !matches!(data_type, DataType::String | DataType::Bytes)),
        (".strings", tensor.strings.is_empty() || data_type == DataType::String),
        (".byte_strings", tensor.byte_strings.is_empty() || data_type == DataType::Bytes),
    ];
    match fields.iter().find(|(_, is_right)| !is_right) {
        Some((field, _)) => Err(at(n, field, "must be empty, since elements of this type stand in another field")),
        None => Ok(()),
    }
}

/// The shape as sizes, once it is known to be no trap.
fn shape(tensor: &Tensor, n: usize) -> Result<Vec<usize>> {
    if tensor.shape.len() > MOST_DIMENSIONS {
        return Err(at(n, ".shape", format!("has more than {MOST_DIMENSIONS} dimensions")));
    }
    let mut shape = Vec::with_capacity(tensor.shape.len());
    for (dimension, size) in tensor.shape.iter().enumerate() {
        match usize::try_from(*size) {
            Ok(size) => shape.push(size),
            Err(_) => return Err(at(n, &format!(".shape[{dimension}]"), "must be a real size, 0 or more")),
        }
    }
    if !shape.contains(&0) && shape.iter().try_fold(1_usize, |count, size| count.checked_mul(*size)).is_none() {
        return Err(at(n, ".shape", "has more elements than any machine can address"));
    }
    Ok(shape)
}

/// How many lists a shape stands for beyond two for each element.
fn spare_lists(shape: &[usize]) -> usize {
    let (mut lists, mut count) = (0_usize, 1_usize);
    for size in shape {
        count = count.saturating_mul(*size);
        lists = lists.saturating_add(count);
    }
    // The last dimension's are the elements themselves.
    lists.saturating_sub(count.saturating_mul(3))
}

/// The size of one element in bytes, 0 for those that have none; `None` when the type is none.
pub fn element_size(data_type: DataType) -> Option<usize> {
    Some(match data_type {
        DataType::Unspecified => return None,
        DataType::String | DataType::Bytes => 0,
        DataType::Bool | DataType::Int8 | DataType::Uint8 => 1,
        DataType::Int16 | DataType::Uint16 | DataType::Float16 => 2,
        DataType::Int32 | DataType::Uint32 | DataType::Float32 => 4,
        DataType::Int64 | DataType::Uint64 | DataType::Float64 => 8,
    })
}

/// Refuses truth values that are none.
pub(super) fn truths(tensor: &Tensor, n: usize) -> Result<()> {
    if tensor.data_type() == DataType::Bool && tensor.data.iter().any(|byte| *byte > 1) {
        return Err(at(n, ".data", "holds a truth value that is neither 0 nor 1"));
    }
    Ok(())
}

fn has_infinity(data_type: DataType, data: &[u8]) -> bool {
    match data_type {
        DataType::Float16 => elements(data).any(|bytes| from_half(bytes).is_infinite()),
        DataType::Float32 => elements(data).any(|bytes| f32::from_le_bytes(bytes).is_infinite()),
        DataType::Float64 => elements(data).any(|bytes| f64::from_le_bytes(bytes).is_infinite()),
        _ => false,
    }
}

/// A 16-bit float, which every 32-bit one holds exactly.
pub fn from_half(bytes: [u8; 2]) -> f32 {
    let bits = u16::from_le_bytes(bytes);
    let (sign, exponent, fraction) = (u32::from(bits >> 15) << 31, u32::from(bits >> 10 & 0x1f), u32::from(bits & 0x3ff));
    match exponent {
        // 2^-24 is the least there is.
        0 => f32::from_bits(sign | (f32::from(bits & 0x3ff) * 2.0_f32.powi(-24)).to_bits()),
        31 => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

/// The elements of `N` bytes each.
pub(super) fn elements<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> {
    data.as_chunks().0.iter().copied()
}

fn write_elements(out: &mut Vec<u8>, shape: &[usize], (data_type, reader): (DataType, Reader), data: &[u8]) {
    match data_type {
        DataType::Unspecified | DataType::String | DataType::Bytes => {}
        DataType::Bool => write_all(out, shape, elements(data).map(|[byte]| byte != 0)),
        DataType::Int8 => write_all(out, shape, elements(data).map(i8::from_le_bytes)),
        DataType::Int16 => write_all(out, shape, elements(data).map(i16::from_le_bytes)),
        DataType::Int32 => write_all(out, shape, elements(data).map(i32::from_le_bytes)),
        DataType::Int64 => write_all(out, shape, elements(data).map(i64::from_le_bytes)),
        DataType::Uint8 => write_all(out, shape, elements(data).map(u8::from_le_bytes)),
        DataType::Uint16 => write_all(out, shape, elements(data).map(u16::from_le_bytes)),
        DataType::Uint32 => write_all(out, shape, elements(data).map(u32::from_le_bytes)),
        DataType::Uint64 => write_all(out, shape, elements(data).map(u64::from_le_bytes)),
        DataType::Float16 => write_floats(out, shape, reader, elements(data).map(from_half)),
        DataType::Float32 => write_floats(out, shape, reader, elements(data).map(f32::from_le_bytes)),
        DataType::Float64 => write_all(out, shape, elements(data).map(f64::from_le_bytes)),
    }
}

fn write_floats(out: &mut Vec<u8>, shape: &[usize], reader: Reader, floats: impl Iterator<Item = f32>) {
    match reader {
        Reader::Model => write_all(out, shape, floats.map(f64::from)),
        Reader::Caller => write_all(out, shape, floats),
    }
}

fn write_all<T: Serialize>(out: &mut Vec<u8>, shape: &[usize], mut elements: impl Iterator<Item = T>) {
    nest(out, shape, &mut |out| put(out, &elements.next()));
}

/// Appends nested lists of a shape, in row-major order; `leaf` appends the next element.
fn nest(out: &mut Vec<u8>, shape: &[usize], leaf: &mut impl FnMut(&mut Vec<u8>)) {
    let Some((size, inner)) = shape.split_first() else { return leaf(out) };
    out.push(b'[');
    for n in 0..*size {
        if n > 0 {
            out.push(b',');
        }
        nest(out, inner, leaf);
    }
    out.push(b']');
}

/// Reads predictions as tensors: an object is one named tensor per key, a list of records one per column, anything else one without a
/// name.
pub(super) fn read(predictions: &Json<'_>) -> Result<Tensors, Unfit> {
    let tensors = match predictions {
        Json::Object(fields) => fields.iter().map(|(name, value)| read_tensor(name, value)).collect::<Result<_, Unfit>>()?,
        Json::List(rows) if matches!(rows.first(), Some(Json::Object(_))) => read_columns(rows)?,
        value => vec![read_tensor("", value)?],
    };
    Ok(Tensors { tensors })
}

/// The columns of records, in the order of the first.
fn read_columns(rows: &[Json<'_>]) -> Result<Vec<Tensor>, Unfit> {
    const RAGGED: Unfit = Unfit::Shape("are records of different columns");
    let records: Option<Vec<_>> = rows.iter().map(|row| if let Json::Object(fields) = row { Some(fields) } else { None }).collect();
    let records = records.ok_or(RAGGED)?;
    let Some((first, others)) = records.split_first() else { return Ok(Vec::new()) };
    let mut columns: Vec<Vec<&Json<'_>>> = first.iter().map(|(_, value)| vec![value]).collect();
    let places: HashMap<&str, usize> = first.iter().zip(0..).map(|((name, _), place)| (&**name, place)).collect();
    for record in others {
        if record.len() != columns.len() {
            return Err(RAGGED);
        }
        for (name, value) in *record {
            let column = places.get(&**name).and_then(|place| columns.get_mut(*place)).ok_or(RAGGED)?;
            column.push(value);
        }
    }
    if columns.iter().any(|column| column.len() != records.len()) {
        return Err(RAGGED);
    }
    first.iter().zip(columns).map(|((name, _), column)| read_items(name, &column)).collect()
}

fn read_tensor(name: &str, value: &Json<'_>) -> Result<Tensor, Unfit> {
    let shape = shape_of(value);
    let mut cells = Vec::new();
    flatten(value, &shape, &mut cells)?;
    typed(name, &shape, &cells)
}

/// A tensor whose first dimension is that of `items`.
fn read_items(name: &str, items: &[&Json<'_>]) -> Result<Tensor, Unfit> {
    let inner = items.first().map(|item| shape_of(item)).unwrap_or_default();
    let mut cells = Vec::with_capacity(items.len());
    items.iter().try_for_each(|item| flatten(item, &inner, &mut cells))?;
    typed(name, &[&[items.len()], &inner[..]].concat(), &cells)
}

/// The shape that a value has if its lists are all alike.
fn shape_of(value: &Json<'_>) -> Vec<usize> {
    let mut shape = Vec::new();
    let mut corner = Some(value);
    while let Some(Json::List(items)) = corner {
        shape.push(items.len());
        corner = items.first();
    }
    shape
}

fn typed(name: &str, shape: &[usize], cells: &[&Json<'_>]) -> Result<Tensor, Unfit> {
    let mut kind = Kind::Null;
    let mut nulls = cells.is_empty();
    for cell in cells {
        let next = cell.kind().ok_or(Unfit::Shape("hold objects inside lists"))?;
        nulls |= next == Kind::Null;
        kind = kind.join(next).ok_or(Unfit::Shape("mix kinds in one tensor"))?;
    }
    let mut tensor =
        Tensor { name: name.to_owned(), shape: shape.iter().filter_map(|size| i64::try_from(*size).ok()).collect(), ..Tensor::default() };
    let data_type = fill(&mut tensor, cells, kind, nulls)?;
    tensor.set_data_type(data_type);
    Ok(tensor)
}

/// Sets the elements and tells their type. A null is NaN, which is how it came to be, so numbers with nulls are doubles.
fn fill(tensor: &mut Tensor, cells: &[&Json<'_>], kind: Kind, nulls: bool) -> Result<DataType, Unfit> {
    let (data_type, data) = match kind {
        Kind::Integer if !nulls => {
            (DataType::Int64, pack(cells, |cell| if let Json::Integer(integer) = cell { Some(integer.to_le_bytes()) } else { None }))
        }
        Kind::Unsigned if !nulls => (DataType::Uint64, pack(cells, |cell| as_unsigned(cell).map(u64::to_le_bytes))),
        Kind::Null | Kind::Integer | Kind::Unsigned | Kind::Double => {
            (DataType::Float64, pack(cells, |cell| cell.as_double().map(f64::to_le_bytes)))
        }
        Kind::Bool | Kind::Text if nulls => return Err(Unfit::Shape("hold nulls, for which a tensor of their type has no value")),
        Kind::Bool => (DataType::Bool, pack(cells, |cell| Some([u8::from(matches!(cell, Json::Bool(true)))]))),
        Kind::Text => {
            let texts = cells.iter().filter_map(|cell| if let Json::Text(text) = cell { Some(text.clone().into_owned()) } else { None });
            tensor.strings = texts.collect();
            return Ok(DataType::String);
        }
    };
    tensor.data = data.ok_or(Unfit::Number("hold an integer that no common type holds exactly"))?;
    Ok(data_type)
}

fn as_unsigned(cell: &Json<'_>) -> Option<u64> {
    match cell {
        Json::Integer(integer) => u64::try_from(*integer).ok(),
        Json::Unsigned(integer) => Some(*integer),
        _ => None,
    }
}

fn pack<const N: usize>(cells: &[&Json<'_>], bytes: impl Fn(&Json<'_>) -> Option<[u8; N]>) -> Option<Bytes> {
    let mut data = Vec::with_capacity(cells.len() * N);
    for cell in cells {
        data.extend_from_slice(&bytes(cell)?);
    }
    Some(data.into())
}

fn flatten<'a>(value: &'a Json<'a>, shape: &[usize], cells: &mut Vec<&'a Json<'a>>) -> Result<(), Unfit> {
    match (value, shape.split_first()) {
        (Json::List(items), Some((size, inner))) if items.len() == *size => items.iter().try_for_each(|item| flatten(item, inner, cells)),
        (Json::List(_), _) | (_, Some(_)) => Err(Unfit::Shape("are lists of different lengths")),
        (scalar, None) => {
            cells.push(scalar);
            Ok(())
        }
    }
}
