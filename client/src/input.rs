//! Short ways to write the input of a prediction as typed columns.

use flowgate_proto::v1::{BooleanValues, Column, DoubleValues, Frame, IntegerValues, StringValues, column::Values, predict_request::Input};

/// A table of columns, all of one length.
pub fn frame(columns: impl IntoIterator<Item = Column>) -> Input {
    Input::Frame(Frame { columns: columns.into_iter().collect() })
}

/// A column of floating point numbers.
pub fn doubles(name: impl Into<String>, values: impl Into<Vec<f64>>) -> Column {
    column(name, Values::Doubles(DoubleValues { values: values.into() }))
}

/// A column of whole numbers, exact in all 64 bits.
pub fn integers(name: impl Into<String>, values: impl Into<Vec<i64>>) -> Column {
    column(name, Values::Integers(IntegerValues { values: values.into() }))
}

/// A column of texts.
pub fn strings<T: Into<String>>(name: impl Into<String>, values: impl IntoIterator<Item = T>) -> Column {
    column(name, Values::Strings(StringValues { values: values.into_iter().map(Into::into).collect() }))
}

/// A column of truth values.
pub fn booleans(name: impl Into<String>, values: impl Into<Vec<bool>>) -> Column {
    column(name, Values::Booleans(BooleanValues { values: values.into() }))
}

fn column(name: impl Into<String>, values: Values) -> Column {
    Column { name: name.into(), validity: Vec::new(), values: Some(values) }
}
