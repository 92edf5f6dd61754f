//! Tensors in and out as the contract's own messages, without JSON between; see [`crate::dialect::scoring::message`].
//!
//! Values mean what they would mean in JSON: NaN is a value that is missing, and the signature converts as it converts there. But an
//! infinity stays one, to trees greater or less than all else, though XGBoost's Python refuses it; and what the model answers keeps its type.

use std::borrow::Cow;

use bytes::Bytes;
use flowgate_proto::v1::{self, DataType, PredictRequest, PredictResponse, predict_request::Input as Sent, predict_response::Output};
use prost::Message as _;

use super::{
    answer::{Answer, Explained, has_rows, length},
    grid::{self, Cell, Cells, Grid, Packed},
    refusal::Refusal,
    request::{Input, Request},
};
use crate::{
    dialect::scoring::{
        element_size,
        message::{is_unnamed, is_wanted, params},
    },
    mlflow::native::{MOST_BYTES, Maps, Tensor, Value, Values},
};

/// Reads a message that is one.
pub(super) fn decode(body: &[u8]) -> Result<PredictRequest, Refusal> {
    PredictRequest::decode(body).map_err(|_| Refusal::bad("Invalid input. The body is no message of the contract"))
}

/// The tensors of a message, and whether predictions are wanted as such.
pub(super) fn read(message: &PredictRequest) -> Result<(Request<'_>, bool), Refusal> {
    let unfit = |error: crate::error::Error| Refusal::bad(format!("Invalid input. {error}"));
    let Some(Sent::Tensors(v1::Tensors { tensors })) = &message.input else {
        return Err(Refusal::bad("Invalid input. The message holds no tensors"));
    };
    let input = match tensors.as_slice() {
        [sole] if is_unnamed(&sole.name) => Input::Bare(grid(sole)?),
        named => Input::Named(named.iter().map(|tensor| Ok((Cow::Borrowed(&*tensor.name), grid(tensor)?))).collect::<Result<_, _>>()?),
    };
    let wanted = is_wanted(message).map_err(unfit)?;
    Ok((Request { input, is_table: false, params: params(message).map_err(unfit)? }, wanted))
}

fn grid(tensor: &v1::Tensor) -> Result<Grid<'_>, Refusal> {
    let torn = || Refusal::bad("Invalid input. A tensor's shape, type and elements do not agree");
    let shape: Vec<usize> = tensor.shape.iter().map(|size| usize::try_from(*size)).collect::<Result<_, _>>().map_err(|_| torn())?;
    let count = shape.iter().try_fold(1_usize, |count, size| count.checked_mul(*size)).ok_or_else(torn)?;
    let (cells, held) = match (tensor.data_type(), element_size(tensor.data_type())) {
        (DataType::String, _) => {
            grid::few(tensor.strings.len())?;
            let text = |text| Cell::Text(Cow::Borrowed(text));
            (Cells::Loose(tensor.strings.iter().map(|all| text(all.as_str())).collect()), tensor.strings.len())
        }
        (DataType::Bytes, _) => {
            grid::few(tensor.byte_strings.len())?;
            let text = |bytes| std::str::from_utf8(bytes).map(|text| Cell::Text(Cow::Borrowed(text))).map_err(|_| torn());
            (Cells::Loose(tensor.byte_strings.iter().map(|bytes| text(bytes)).collect::<Result<_, _>>()?), tensor.byte_strings.len())
        }
        (kind, Some(size)) if tensor.data.len().is_multiple_of(size) => {
            (Cells::Packed(Packed { kind, data: &tensor.data }), tensor.data.len() / size)
        }
        _ => return Err(torn()),
    };
    if held == count { Ok(Grid { shape, cells }) } else { Err(torn()) }
}

/// Predictions as a message; `None` for those that are no tensors, which JSON can hold.
///
/// # Errors
/// When it is longer than an answer may be.
pub(super) fn write(answer: &Answer<'_>, is_table: bool, rows: usize) -> Result<Option<Vec<u8>>, Refusal> {
    let tensors = match answer {
        Answer::Array(tensor) => Some(vec![named("", tensor)]),
        Answer::Outputs(outputs) => of_outputs(outputs, is_table, rows),
        Answer::Explained(explained) => Some(of_explained(explained)),
    };
    let Some(tensors) = tensors else { return Ok(None) };
    let message = PredictResponse { output: Some(Output::Tensors(v1::Tensors { tensors })), ..PredictResponse::default() };
    if message.encoded_len() > MOST_BYTES { Err(Refusal::too_large()) } else { Ok(Some(message.encode_to_vec())) }
}

/// A tensor per output. Of a table those of one value per row are columns; the others keep their shape, which MLflow's tables have not.
fn of_outputs(outputs: &[(&str, Value)], is_table: bool, rows: usize) -> Option<Vec<v1::Tensor>> {
    let is_even = || outputs.windows(2).all(|pair| length(&pair[0].1) == length(&pair[1].1));
    if is_table && !is_even() && !outputs.iter().all(|(_, value)| has_rows(value, rows)) {
        return None;
    }
    let tensor = |(name, value): &(&str, Value)| match value {
        Value::Tensor(tensor) => match tensor.shape() {
            [count, 1] if is_table => Some(packed(name, &[*count], tensor.contents())),
            _ => Some(named(name, tensor)),
        },
        Value::Maps(Maps { rows, .. }) => Some(named(name, rows)),
        Value::Sequence(_) => None,
    };
    outputs.iter().map(tensor).collect()
}

/// The predictions, what no feature has a part in, and what each has: the features in their order.
fn of_explained(explained: &Explained<'_>) -> Vec<v1::Tensor> {
    let Explained { predictions, contributions, features, scores, rows } = explained;
    let several = (*scores > 1).then_some(*scores);
    let shape = |last: Option<usize>| [Some(*rows), several, last].into_iter().flatten().collect::<Vec<_>>();
    let lines = || contributions.chunks_exact(features.len() + 1);
    let bias = lines().filter_map(|line| line.last().copied()).collect();
    let added = lines().flat_map(|line| &line[..features.len()]).copied().collect();
    vec![
        named("prediction", predictions),
        packed("bias", &shape(None), &Values::F64(bias)),
        packed("contributions", &shape(Some(features.len())), &Values::F64(added)),
    ]
}

fn named(name: &str, tensor: &Tensor) -> v1::Tensor {
    packed(name, tensor.shape(), tensor.contents())
}

fn packed(name: &str, shape: &[usize], values: &Values) -> v1::Tensor {
    fn bytes<T: Copy, const N: usize>(values: &[T], of: impl Fn(T) -> [u8; N]) -> Bytes {
        let mut data = Vec::with_capacity(values.len() * N);
        values.iter().for_each(|value| data.extend_from_slice(&of(*value)));
        data.into()
    }
    let shape = shape.iter().filter_map(|size| i64::try_from(*size).ok()).collect();
    let mut tensor = v1::Tensor { name: name.to_owned(), shape, ..v1::Tensor::default() };
    let (kind, data) = match values {
        Values::F32(values) => (DataType::Float32, bytes(values, f32::to_le_bytes)),
        Values::F64(values) => (DataType::Float64, bytes(values, f64::to_le_bytes)),
        Values::I64(values) => (DataType::Int64, bytes(values, i64::to_le_bytes)),
        Values::I32(values) => (DataType::Int32, bytes(values, i32::to_le_bytes)),
        Values::I8(values) => (DataType::Int8, bytes(values, i8::to_le_bytes)),
        Values::U8(values) => (DataType::Uint8, bytes(values, u8::to_le_bytes)),
        Values::Bool(values) => (DataType::Bool, bytes(values, |truth| [truth.into()])),
        Values::Text(texts) => {
            tensor.strings = texts.iter().map(|text| text.as_ref().to_owned()).collect();
            (DataType::String, Bytes::new())
        }
    };
    tensor.data = data;
    tensor.set_data_type(kind);
    tensor
}

#[cfg(test)]
mod tests;
