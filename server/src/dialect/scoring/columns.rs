//! MLflow's JSON forms as tensors, for servers that take nothing else: one for each column, or one for all.

use std::borrow::Cow;

use bytes::Bytes;
use flowgate_proto::v1::{DataType, PredictRequest, Tensor, Tensors};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    request, tensors,
    tree::{Json, Unfit},
};
use crate::error::{Error, Result};

/// A request's forms; at most one is there.
#[derive(Deserialize)]
struct Forms<'a> {
    #[serde(borrow)]
    dataframe_split: Option<Table<'a>>,
    #[serde(borrow)]
    dataframe_records: Option<&'a RawValue>,
    #[serde(borrow)]
    instances: Option<&'a RawValue>,
    #[serde(borrow)]
    inputs: Option<&'a RawValue>,
}

/// A table; what its rows are called means nothing to a tensor.
#[derive(Deserialize)]
struct Table<'a> {
    #[serde(borrow)]
    columns: Option<&'a RawValue>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// The tensors of a request in one of MLflow's JSON forms. Numbers are doubles, since JSON does not tell what else they are meant to be.
///
/// # Errors
/// What is wrong with the request, by field, and what no tensor holds.
pub fn tensors(request: &PredictRequest) -> Result<Tensors> {
    let (_, body) = request::body(request)?;
    let forms: Forms<'_> = serde_json::from_slice(&body).map_err(broken)?;

    let names: Vec<Json<'_>>;
    let (field, table) = match (&forms.dataframe_split, forms.dataframe_records, forms.instances, forms.inputs) {
        (Some(Table { columns, data }), ..) => {
            names = columns.map(parsed).transpose()?.unwrap_or_default();
            ("dataframe_split", records(&names, parsed(data)?))
        }
        (_, Some(records), ..) => ("dataframe_records", Ok(parsed(records)?)),
        (_, _, Some(instances), _) => ("instances", Ok(parsed(instances)?)),
        (.., inputs) => ("inputs", Ok(inputs.map(parsed).transpose()?.unwrap_or(Json::Null))),
    };
    let unfit = |what: &str| Error::invalid(field, format!("cannot be sent as tensors, which is what the model takes: its values {what}"));
    let read = table.and_then(|table| tensors::read(&table));
    let mut tensors = read.map_err(|(Unfit::Shape(what) | Unfit::Number(what))| unfit(what))?;
    for tensor in &mut tensors.tensors {
        to_doubles(tensor).ok_or_else(|| unfit("hold an integer that no double holds exactly"))?;
    }
    Ok(tensors)
}

fn parsed<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T> {
    serde_json::from_str(raw.get()).map_err(broken)
}

fn broken(error: serde_json::Error) -> Error {
    Error::internal("a request's JSON is none").because(error)
}

/// A table as records, or as rows if its columns have no names. All rows share the names, which may be long.
fn records<'a>(columns: &'a [Json<'a>], data: Vec<Json<'a>>) -> Result<Json<'a>, Unfit> {
    if columns.is_empty() {
        return Ok(Json::List(data));
    }
    let names: Option<Vec<&str>> = columns.iter().map(|name| if let Json::Text(name) = name { Some(&**name) } else { None }).collect();
    let names = names.ok_or(Unfit::Shape("stand in columns whose names are no texts"))?;
    let record = |row| match row {
        Json::List(cells) if cells.len() == names.len() => {
            Ok(Json::Object(names.iter().map(|name| Cow::Borrowed(*name)).zip(cells).collect()))
        }
        _ => Err(Unfit::Shape("are not one for each column")),
    };
    data.into_iter().map(record).collect::<Result<_, _>>().map(Json::List)
}

/// Makes doubles of integers; `None` if one of them is lost by that.
fn to_doubles(tensor: &mut Tensor) -> Option<()> {
    let whole = |bytes: [u8; 8]| match tensor.data_type() {
        DataType::Uint64 => Json::Unsigned(u64::from_le_bytes(bytes)),
        _ => Json::Integer(i64::from_le_bytes(bytes)),
    };
    if !matches!(tensor.data_type(), DataType::Int64 | DataType::Uint64) {
        return Some(());
    }
    let mut data = Vec::with_capacity(tensor.data.len());
    for bytes in tensor.data.as_chunks().0 {
        data.extend_from_slice(&whole(*bytes).as_double()?.to_le_bytes());
    }
    tensor.data = Bytes::from(data);
    tensor.set_data_type(DataType::Float64);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name of megabytes would else stand in memory once for each of a million rows.
    #[test]
    fn rows_share_the_names_of_their_columns() {
        let columns = [Json::Text(Cow::Owned("a\nb".to_owned()))];
        let row = || Json::List(vec![Json::Integer(1)]);
        let Ok(Json::List(records)) = records(&columns, vec![row(), row()]) else { panic!("records") };
        for record in records {
            let Json::Object(fields) = record else { panic!("a record") };
            assert!(matches!(fields.as_slice(), [(Cow::Borrowed("a\nb"), Json::Integer(1))]), "{fields:?}");
        }
    }
}
