//! The protocol's tensors and those of the contract, which hold the same bytes; only BYTES are written in another way.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flowgate_proto::{
    inference::InferTensorContents,
    v1::{DataType, Tensor},
};
use serde_json::value::RawValue;

use super::{contents, datatype, elements};
use crate::error::{Error, Result};

/// As many dimensions as any tensor library takes.
const MOST_DIMENSIONS: usize = 32;

/// A tensor but for its elements.
pub(super) struct Head {
    /// Which of the request's tensors it is.
    n: usize,
    name: String,
    data_type: DataType,
    shape: Vec<i64>,
    /// How many elements it has.
    count: usize,
}

impl Head {
    /// Checks name, type and shape.
    ///
    /// # Errors
    /// What is wrong with them, by field.
    pub(super) fn new(n: usize, name: String, datatype: &str, shape: Vec<i64>) -> Result<Self> {
        if name.is_empty() {
            return Err(at(n, "name", "is missing"));
        }
        let data_type = datatype::read(datatype, || format!("inputs[{n}].datatype"))?;
        let Some(count) = count(&shape) else {
            return Err(at(
                n,
                "shape",
                format!("must have at most {MOST_DIMENSIONS} dimensions, each 0 or more, of a size that there can be"),
            ));
        };
        Ok(Self { n, name, data_type, shape, count })
    }

    /// With elements as they stand in `raw_input_contents` and in binary data; `field` is where.
    ///
    /// # Errors
    /// Other bytes than shape and type ask for.
    pub(super) fn raw(self, field: &str, data: Bytes) -> Result<Tensor> {
        let (count, size) = (self.count, datatype::size(self.data_type));
        if size == 0 {
            let wrong = || Error::invalid(field, format!("must hold {count} elements, each after its length as four bytes, little-endian"));
            let elements = split(data, count).ok_or_else(wrong)?;
            return Ok(self.of_bytes(elements));
        }
        if Some(data.len()) != count.checked_mul(size) {
            let held = data.len();
            return Err(Error::invalid(field, format!("holds {held} bytes where shape and type ask for {count} × {size}")));
        }
        Ok(self.of_data(data))
    }

    /// With elements as the lists of a message.
    ///
    /// # Errors
    /// Other elements than shape and type ask for.
    pub(super) fn contents(self, mut contents: InferTensorContents) -> Result<Tensor> {
        let n = self.n;
        if self.data_type == DataType::Float16 {
            return Err(at(n, "contents", "has no list for FP16; send `raw_input_contents`"));
        }
        let held = if datatype::size(self.data_type) == 0 {
            Ok(std::mem::take(&mut contents.bytes_contents))
        } else {
            let read = contents::read(&contents, self.data_type);
            Err(read.ok_or_else(|| at(n, "contents", "holds a number that its type does not"))?)
        };
        let elements = match &held {
            Ok(elements) => elements.len(),
            Err(data) => data.len() / datatype::size(self.data_type),
        };
        let lists = contents::lists(&contents);
        let own = usize::from(held.is_err() && elements > 0);
        if elements != self.count || lists != own {
            let count = self.count;
            return Err(at(n, "contents", format!("must hold {count} elements, which the shape asks for, in the list of its type alone")));
        }
        Ok(match held {
            Ok(elements) => self.of_bytes(elements),
            Err(data) => self.of_data(data.into()),
        })
    }

    /// With elements as JSON: one list, or nested ones.
    ///
    /// # Errors
    /// Other elements than shape and type ask for.
    pub(super) fn json(self, json: &RawValue) -> Result<Tensor> {
        let n = self.n;
        if self.data_type == DataType::Float16 {
            return Err(at(n, "data", "has no JSON form for FP16; send it as binary data, or as FP32"));
        }
        let read = elements::read(json, self.data_type);
        let elements = read.map_err(|_| at(n, "data", "must be a list, or nested lists, of values that its `datatype` holds exactly"))?;
        if elements.count != self.count {
            let (held, count) = (elements.count, self.count);
            return Err(at(n, "data", format!("holds {held} elements where the shape asks for {count}")));
        }
        Ok(if datatype::size(self.data_type) == 0 { self.of_bytes(elements.texts) } else { self.of_data(elements.data.into()) })
    }

    fn of_data(self, data: Bytes) -> Tensor {
        Tensor { name: self.name, data_type: self.data_type.into(), shape: self.shape, data, ..Tensor::default() }
    }

    /// The protocol has one type for bytes and for text, so that they are bytes here, whatever they hold.
    fn of_bytes(self, elements: Vec<Bytes>) -> Tensor {
        Tensor { name: self.name, data_type: DataType::Bytes.into(), shape: self.shape, byte_strings: elements, ..Tensor::default() }
    }
}

fn at(n: usize, field: &str, what: impl Into<String>) -> Error {
    Error::invalid(format!("inputs[{n}].{field}"), what)
}

/// How many elements a shape has; `None` when it is none.
pub(super) fn count(shape: &[i64]) -> Option<usize> {
    if shape.len() > MOST_DIMENSIONS {
        return None;
    }
    let sizes: Vec<usize> = shape.iter().map(|size| usize::try_from(*size).ok()).collect::<Option<_>>()?;
    if sizes.contains(&0) {
        return Some(0);
    }
    sizes.iter().try_fold(1_usize, |count, size| count.checked_mul(*size))
}

/// The elements of BYTES, which are `count`.
fn split(mut data: Bytes, count: usize) -> Option<Vec<Bytes>> {
    // Each takes four bytes at least, so no small message asks for much memory.
    let mut elements = Vec::with_capacity(count.min(data.len() / 4));
    while data.has_remaining() {
        let length = usize::try_from(data.try_get_u32_le().ok()?).ok()?;
        if data.len() < length || elements.len() == count {
            return None;
        }
        elements.push(data.split_to(length));
    }
    (elements.len() == count).then_some(elements)
}

/// The protocol's name of a tensor's type.
///
/// # Errors
/// `CALLER_INVALID_REQUEST` when it has none; `n` is its place.
pub(super) fn datatype_of(n: usize, tensor: &Tensor) -> Result<&'static str> {
    datatype::name(tensor.data_type())
        .ok_or_else(|| Error::invalid(format!("tensors.tensors[{n}].data_type"), "must be one of the named types"))
}

/// The elements as they stand in raw contents and in binary data.
///
/// # Errors
/// A tensor that does not agree with itself; `n` is its place.
pub(super) fn raw_of(n: usize, tensor: &Tensor) -> Result<Bytes> {
    let wrong = |what: &str| Error::invalid(format!("tensors.tensors[{n}]"), what);
    let count = count(&tensor.shape).ok_or_else(|| wrong("has a shape that no tensor can have"))?;
    let disagrees = || wrong("must hold as many elements as its shape asks for, in the field of its type alone");
    let is_alone = |data: bool, strings: bool, byte_strings: bool| {
        (data || tensor.data.is_empty()) && (strings || tensor.strings.is_empty()) && (byte_strings || tensor.byte_strings.is_empty())
    };
    match tensor.data_type() {
        DataType::String if tensor.strings.len() == count && is_alone(false, true, false) => {
            Ok(joined(tensor.strings.iter().map(String::as_bytes)))
        }
        DataType::Bytes if tensor.byte_strings.len() == count && is_alone(false, false, true) => {
            Ok(joined(tensor.byte_strings.iter().map(|bytes| &**bytes)))
        }
        DataType::String | DataType::Bytes => Err(disagrees()),
        sized if Some(tensor.data.len()) == count.checked_mul(datatype::size(sized)) && is_alone(true, false, false) => {
            Ok(tensor.data.clone())
        }
        _ => Err(disagrees()),
    }
}

/// The elements as the lists of a message; `None` for FP16, which has none.
///
/// # Errors
/// As [`raw_of`].
pub(super) fn contents_of(n: usize, tensor: &Tensor) -> Result<Option<InferTensorContents>> {
    raw_of(n, tensor)?;
    let bytes_contents = match tensor.data_type() {
        DataType::String => tensor.strings.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect(),
        DataType::Bytes => tensor.byte_strings.clone(),
        sized => return Ok(contents::write(sized, &tensor.data)),
    };
    Ok(Some(InferTensorContents { bytes_contents, ..InferTensorContents::default() }))
}

fn joined<'a>(elements: impl Iterator<Item = &'a [u8]> + Clone) -> Bytes {
    let mut out = BytesMut::with_capacity(elements.clone().map(|element| element.len() + 4).sum());
    for element in elements {
        // No message holds an element of 4 GiB.
        out.put_u32_le(u32::try_from(element.len()).unwrap_or(u32::MAX));
        out.put_slice(element);
    }
    out.freeze()
}
