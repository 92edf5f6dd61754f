//! Frames as tensors, one for each column, and tensors as frames.

use flowgate_proto::v1::{Column, DataType, Frame, Tensor, Tensors, column::Values};

use crate::{
    dialect::scoring::table,
    error::{Error, Result},
};

/// The columns as tensors of one dimension.
///
/// # Errors
/// What is wrong with the frame, by field, and what tensors cannot hold.
pub(super) fn write(frame: &Frame) -> Result<Vec<Tensor>> {
    frame.columns.iter().enumerate().map(|(n, column)| write_column(n, column)).collect()
}

fn write_column(n: usize, column: &Column) -> Result<Tensor> {
    let wrong = |what: &str| Error::invalid(format!("frame.columns[{n}]"), what);
    let Some(values) = &column.values else { return Err(wrong("has no values")) };
    let is_null = |row: usize| column.validity.get(row) == Some(&false);
    if !matches!(values, Values::Doubles(_)) && column.validity.contains(&false) {
        return Err(wrong("holds nulls, for which a tensor of its type has no value; send doubles, whose nulls become NaN"));
    }
    let of_data = |data_type: DataType, data: Vec<u8>| Tensor { data_type: data_type.into(), data: data.into(), ..Tensor::default() };
    let (rows, tensor) = match values {
        Values::Doubles(doubles) => {
            let nulled = doubles.values.iter().enumerate().map(|(row, value)| if is_null(row) { f64::NAN } else { *value });
            (doubles.values.len(), of_data(DataType::Float64, nulled.flat_map(f64::to_le_bytes).collect()))
        }
        Values::Integers(integers) => {
            let data = integers.values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (integers.values.len(), of_data(DataType::Int64, data))
        }
        Values::Booleans(booleans) => {
            (booleans.values.len(), of_data(DataType::Bool, booleans.values.iter().map(|truth| u8::from(*truth)).collect()))
        }
        Values::Strings(strings) => {
            let tensor = Tensor { data_type: DataType::String.into(), strings: strings.values.clone(), ..Tensor::default() };
            (strings.values.len(), tensor)
        }
        Values::Bytes(bytes) => {
            let tensor = Tensor { data_type: DataType::Bytes.into(), byte_strings: bytes.values.clone(), ..Tensor::default() };
            (bytes.values.len(), tensor)
        }
        Values::Timestamps(_) => return Err(wrong("holds timestamps, which tensors do not; send integers or texts")),
    };
    if !column.validity.is_empty() && column.validity.len() != rows {
        return Err(wrong("must have one entry of `validity` for each row, or none"));
    }
    let rows = i64::try_from(rows).map_err(|_| wrong("has more rows than there can be"))?;
    Ok(Tensor { name: column.name.clone(), shape: vec![rows], ..tensor })
}

/// Tensors as columns, if each has one value per row.
///
/// # Errors
/// That the predictions have another shape or numbers that no column holds.
pub(super) fn read(tensors: Tensors) -> Result<Frame> {
    let columns = tensors.tensors.into_iter().map(read_column).collect::<Result<_>>()?;
    Ok(Frame { columns })
}

fn read_column(tensor: Tensor) -> Result<Column> {
    let ([_] | [_, 1]) = tensor.shape.as_slice() else {
        return Err(unfit("are tensors of more than one value per row"));
    };
    let values = table::values(&tensor).map_err(unfit)?;
    Ok(Column { name: tensor.name, validity: Vec::new(), values: Some(values) })
}

fn unfit(what: &str) -> Error {
    Error::invalid("prediction_form", format!("cannot hold the predictions, which {what}; ask for PREDICTION_FORM_TENSORS"))
}
