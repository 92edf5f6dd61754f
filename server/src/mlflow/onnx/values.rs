//! Values of ours as ONNX Runtime's, and back. What goes in is lent, what comes out is copied.

use std::sync::Arc;

use ort::{
    session::SessionInputValue,
    value::{
        DynMapValueType, DynTensorValueType, DynValue, PrimitiveTensorElementType, Shape, Tensor as OrtTensor, TensorElementType,
        TensorRef, ValueType,
    },
};

use crate::mlflow::native::{Fault, Labels, Maps, Tensor, Value, Values};

/// Whether an output is one that can be answered.
///
/// # Errors
/// When it is not; it is named.
pub(super) fn check(name: &str, kind: &ValueType) -> Result<(), Fault> {
    let is_known = |element: &TensorElementType| {
        use TensorElementType as Element;
        matches!(
            element,
            Element::Float32
                | Element::Float64
                | Element::Int64
                | Element::Int32
                | Element::Int8
                | Element::Uint8
                | Element::Bool
                | Element::String
        )
    };
    let fits = match kind {
        ValueType::Tensor { ty, .. } => is_known(ty),
        ValueType::Sequence(inner) => match &**inner {
            ValueType::Tensor { ty, .. } => is_known(ty),
            ValueType::Map { key, value } => {
                matches!(key, TensorElementType::Int64 | TensorElementType::String) && *value == TensorElementType::Float32
            }
            ValueType::Sequence(_) | ValueType::Optional(_) => false,
        },
        ValueType::Map { .. } | ValueType::Optional(_) => false,
    };
    if fits { Ok(()) } else { Err(Fault::new(format!("its output `{name}` is {kind}, which is not supported"))) }
}

/// A tensor, lent.
pub(super) fn give(tensor: &Tensor) -> Result<SessionInputValue<'_>, ort::Error> {
    let shape = tensor.shape();
    Ok(match tensor.contents() {
        Values::F32(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        Values::F64(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        Values::I64(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        Values::I32(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        Values::I8(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        Values::U8(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        Values::Bool(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        Values::Text(values) => OrtTensor::from_string_array((shape, values.as_slice()))?.into(),
    })
}

/// An output, copied.
pub(super) fn take(name: &str, value: &DynValue) -> Result<Value, Fault> {
    match value.dtype() {
        ValueType::Tensor { .. } => tensor(value).map(Value::Tensor),
        ValueType::Sequence(inner) if matches!(**inner, ValueType::Map { .. }) => maps(name, value, inner).map(Value::Maps),
        ValueType::Sequence(_) => {
            let tensors = value.try_extract_sequence::<DynTensorValueType>().map_err(lost)?;
            tensors.into_iter().map(|value| tensor(&value.into_dyn())).collect::<Result<_, _>>().map(Value::Sequence)
        }
        kind @ (ValueType::Map { .. } | ValueType::Optional(_)) => Err(Fault::new(format!("its output `{name}` is {kind}"))),
    }
}

fn tensor(value: &DynValue) -> Result<Tensor, Fault> {
    use TensorElementType as Element;
    let ValueType::Tensor { ty, .. } = value.dtype() else { return Err(Fault::new("what should be a tensor is none")) };
    match ty {
        Element::Float32 => plain(value, Values::F32),
        Element::Float64 => plain(value, Values::F64),
        Element::Int64 => plain(value, Values::I64),
        Element::Int32 => plain(value, Values::I32),
        Element::Int8 => plain(value, Values::I8),
        Element::Uint8 => plain(value, Values::U8),
        Element::Bool => plain(value, Values::Bool),
        Element::String => {
            let (shape, texts) = value.try_extract_strings().map_err(lost)?;
            Tensor::new(lengths(shape)?, Values::Text(texts.into_iter().map(Into::into).collect()))
        }
        other => Err(Fault::new(format!("a tensor of {other} is not supported"))),
    }
}

fn plain<T: PrimitiveTensorElementType + Clone>(value: &DynValue, wrap: fn(Vec<T>) -> Values) -> Result<Tensor, Fault> {
    let (shape, values) = value.try_extract_tensor::<T>().map_err(lost)?;
    Tensor::new(lengths(shape)?, wrap(values.to_vec()))
}

fn lengths(shape: &Shape) -> Result<Vec<usize>, Fault> {
    let lengths: Result<_, _> = shape.iter().map(|length| usize::try_from(*length)).collect();
    lengths.map_err(|_| Fault::new("a tensor has a negative dimension"))
}

/// What `ZipMap` makes: every map has the same labels, in the same order.
fn maps(name: &str, value: &DynValue, kind: &ValueType) -> Result<Maps, Fault> {
    let maps = value.try_extract_sequence::<DynMapValueType>().map_err(lost)?;
    let count = maps.len();
    let (labels, numbers) = if matches!(kind, ValueType::Map { key: TensorElementType::String, .. }) {
        let rows = maps.iter().map(|map| map.try_extract_key_values::<String, f32>()).collect::<Result<Vec<_>, _>>().map_err(lost)?;
        let (labels, numbers) = table(name, rows)?;
        (Labels::Texts(labels.into_iter().map(Into::into).collect()), numbers)
    } else {
        let rows = maps.iter().map(|map| map.try_extract_key_values::<i64, f32>()).collect::<Result<Vec<_>, _>>().map_err(lost)?;
        let (labels, numbers) = table(name, rows)?;
        (Labels::Numbers(labels), numbers)
    };
    let rows = Tensor::new(vec![count, labels.len()], Values::F32(numbers))?;
    Ok(Maps { labels: Arc::new(labels), rows })
}

fn table<K: PartialEq>(name: &str, rows: Vec<Vec<(K, f32)>>) -> Result<(Vec<K>, Vec<f32>), Fault> {
    let mut known: Option<Vec<K>> = None;
    let mut numbers = Vec::new();
    for row in rows {
        let (labels, values): (Vec<K>, Vec<f32>) = row.into_iter().unzip();
        if known.as_ref().is_some_and(|known| *known != labels) {
            return Err(Fault::new(format!("the maps of its output `{name}` have different keys, which is not supported")));
        }
        known = Some(labels);
        numbers.extend(values);
    }
    Ok((known.unwrap_or_default(), numbers))
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn lost(error: ort::Error) -> Fault {
    Fault::new(error.to_string())
}
