//! Tensors as the model's signature wants them. MLflow reads base64 as bytes only in tables, and only in columns of type `binary`: so tensors
//! that go into such columns are sent as a table, whatever bytes they hold. A column takes one value per row, which many clients send as
//! `[n, 1]`; what has another shape is refused here, where it is known which input that is.

use flowgate_proto::v1::{
    BooleanValues, BytesValues, Column, DataType, DoubleValues, Frame, IntegerValues, PredictRequest, StringValues, Tensor, Tensors,
    column::Values, predict_request::Input,
};

use super::{
    request::form,
    tensors::{self, UNNAMED, at, elements, from_half},
};
use crate::error::Result;

/// An input of a model, as its signature says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name; `None` where only its place tells.
    pub name: Option<String>,
    /// Whether it takes bytes as base64.
    pub is_binary: bool,
    /// What it takes.
    pub takes: Takes,
}

/// What an input of a model takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Takes {
    /// One value per row.
    Value,
    /// A tensor of this shape; `None` where any size is taken.
    Shape(Vec<Option<usize>>),
    /// The signature does not say.
    Any,
}

/// Whether a request holds tensors of bytes or text, or of several dimensions, which the signature then says how to send.
pub fn hangs_on_signature(request: &PredictRequest) -> bool {
    let hangs = |tensor: &Tensor| tensor.shape.len() > 1 || matches!(tensor.data_type(), DataType::String | DataType::Bytes);
    matches!(&request.input, Some(Input::Tensors(tensors)) if tensors.tensors.iter().any(hangs))
}

/// The request as the entries want it: with its tensors as a table where one of them is for an entry that takes base64; `None` where it is
/// as it should be.
///
/// # Errors
/// What is wrong with the tensors, or does not fit the entries, by field.
pub fn of(request: &PredictRequest, entries: &[Entry]) -> Result<Option<PredictRequest>> {
    let Some(Input::Tensors(Tensors { tensors })) = &request.input else { return Ok(None) };
    let found: Vec<_> = (0..).zip(tensors).map(|(n, tensor)| entry(n, tensor, tensors.len(), entries)).collect();
    let is_text = |tensor: &Tensor| matches!(tensor.data_type(), DataType::String | DataType::Bytes);
    if !tensors.iter().zip(&found).any(|(tensor, entry)| is_text(tensor) && entry.is_some_and(|entry| entry.is_binary)) {
        return fitted(request, tensors, &found);
    }
    let mut columns = Vec::with_capacity(tensors.len());
    let mut rows = None;
    for (n, (tensor, entry)) in tensors.iter().zip(found).enumerate() {
        let shape = tensors::checked(tensor, n)?;
        let ([count] | [count, 1]) = *shape.as_slice() else {
            return Err(at(n, ".shape", "must be [N] or [N, 1], since the model takes bytes in a table, which has one value per row"));
        };
        if *rows.get_or_insert(count) != count {
            return Err(at(n, ".shape", "must have as many rows as the first tensor"));
        }
        // A sole tensor may go by a name that stands for none.
        let name = if tensors.len() == 1 { entry.and_then(|entry| entry.name.as_ref()) } else { Some(&tensor.name) };
        let values = column(n, tensor, entry.is_some_and(|entry| entry.is_binary))?;
        columns.push(Column { name: name.cloned().unwrap_or_default(), validity: Vec::new(), values: Some(values) });
    }
    // The form is that of tensors, unless another is asked for.
    Ok(Some(with(request, Input::Frame(Frame { columns }), form(request)?.into())))
}

/// The request with another input. Its own may be large, and is not copied.
fn with(request: &PredictRequest, input: Input, prediction_form: i32) -> PredictRequest {
    PredictRequest {
        input: Some(input),
        prediction_form,
        params: request.params.clone(),
        endpoint: request.endpoint.clone(),
        metadata: request.metadata.clone(),
    }
}

/// The request with `[n, 1]` as `[n]` for columns; `None` where nothing is to be changed.
fn fitted(request: &PredictRequest, tensors: &[Tensor], entries: &[Option<&Entry>]) -> Result<Option<PredictRequest>> {
    let mut changed = None;
    for (n, (tensor, entry)) in tensors.iter().zip(entries).enumerate() {
        let Some(Entry { name, takes, .. }) = entry else { continue };
        // A sole tensor may go by a name that stands for none, and is no column then but all of them.
        let is_named = name.as_ref() == Some(&tensor.name) && (tensors.len() > 1 || !UNNAMED.contains(&tensor.name.as_str()));
        let shape = tensor.shape.as_slice();
        match (takes, shape) {
            (Takes::Value, [rows, 1]) if is_named => {
                let tensors: &mut Vec<Tensor> = changed.get_or_insert_with(|| tensors.to_vec());
                tensors[n].shape = vec![*rows];
            }
            (Takes::Value, [rows, _, ..]) if is_named => {
                let column = &tensor.name;
                let what = format!("is {shape:?}, and the model's column `{column}` takes one value per row: [{rows}] or [{rows}, 1]");
                return Err(at(n, ".shape", what));
            }
            (Takes::Shape(wanted), [_, _, ..]) if !fits(shape, wanted) => {
                let sizes: Vec<String> = wanted.iter().map(|size| size.map_or_else(|| "-1".to_owned(), |size| size.to_string())).collect();
                let input = name.as_ref().map(|name| format!(" `{name}`")).unwrap_or_default();
                let what = format!("is {shape:?}, and the model's input{input} takes [{}], where -1 is any size", sizes.join(", "));
                return Err(at(n, ".shape", what));
            }
            _ => {}
        }
    }
    Ok(changed.map(|tensors| with(request, Input::Tensors(Tensors { tensors }), request.prediction_form)))
}

fn fits(shape: &[i64], wanted: &[Option<usize>]) -> bool {
    let is_size = |(given, wanted): (&i64, &Option<usize>)| wanted.is_none_or(|wanted| usize::try_from(*given) == Ok(wanted));
    shape.len() == wanted.len() && shape.iter().zip(wanted).all(is_size)
}

/// The entry that a tensor is for.
fn entry<'a>(n: usize, tensor: &Tensor, count: usize, entries: &'a [Entry]) -> Option<&'a Entry> {
    match entries {
        [only] if count == 1 && (only.name.is_none() || UNNAMED.contains(&tensor.name.as_str())) => Some(only),
        _ if entries.iter().all(|entry| entry.name.is_none()) => entries.get(n),
        _ => entries.iter().find(|entry| entry.name.as_ref() == Some(&tensor.name)),
    }
}

fn column(n: usize, tensor: &Tensor, is_binary: bool) -> Result<Values> {
    match tensor.data_type() {
        DataType::String if is_binary => {
            Ok(Values::Bytes(BytesValues { values: tensor.strings.iter().map(|text| text.clone().into()).collect() }))
        }
        // In a table all bytes are base64, which any other column takes for text.
        DataType::Bytes if !is_binary => {
            let texts = tensors::texts(tensor, n)?;
            Ok(Values::Strings(StringValues { values: texts.into_iter().map(ToOwned::to_owned).collect() }))
        }
        _ => values(tensor).map_err(|what| at(n, "", format!("cannot stand in a table: its elements {what}"))),
    }
}

/// The elements of a tensor that agrees with itself as values of a column.
///
/// # Errors
/// What they are that no column holds.
pub fn values(tensor: &Tensor) -> Result<Values, &'static str> {
    let data = &tensor.data;
    Ok(match tensor.data_type() {
        DataType::Bool => Values::Booleans(BooleanValues { values: data.iter().map(|byte| *byte != 0).collect() }),
        DataType::String => Values::Strings(StringValues { values: tensor.strings.clone() }),
        DataType::Bytes => Values::Bytes(BytesValues { values: tensor.byte_strings.clone() }),
        DataType::Float16 => doubles(elements(data).map(|bytes| from_half(bytes).into())),
        DataType::Float32 => doubles(elements(data).map(|bytes| f32::from_le_bytes(bytes).into())),
        DataType::Float64 => doubles(elements(data).map(f64::from_le_bytes)),
        DataType::Int8 => integers(elements(data).map(|bytes| i8::from_le_bytes(bytes).into())),
        DataType::Int16 => integers(elements(data).map(|bytes| i16::from_le_bytes(bytes).into())),
        DataType::Int32 => integers(elements(data).map(|bytes| i32::from_le_bytes(bytes).into())),
        DataType::Int64 => integers(elements(data).map(i64::from_le_bytes)),
        DataType::Uint8 => integers(elements(data).map(|bytes| u8::from_le_bytes(bytes).into())),
        DataType::Uint16 => integers(elements(data).map(|bytes| u16::from_le_bytes(bytes).into())),
        DataType::Uint32 => integers(elements(data).map(|bytes| u32::from_le_bytes(bytes).into())),
        DataType::Uint64 => {
            let values: Option<_> = elements(data).map(|bytes| i64::try_from(u64::from_le_bytes(bytes)).ok()).collect();
            Values::Integers(IntegerValues { values: values.ok_or("hold an integer above those of a column")? })
        }
        DataType::Unspecified => return Err("are of a type that no column has"),
    })
}

fn doubles(values: impl Iterator<Item = f64>) -> Values {
    Values::Doubles(DoubleValues { values: values.collect() })
}

fn integers(values: impl Iterator<Item = i64>) -> Values {
    Values::Integers(IntegerValues { values: values.collect() })
}
