//! The mock's predictions: MLflow's scoring protocol, one number per row unless the configuration says what to answer.

use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::{Made, scoring_error};
use crate::config;

/// Answers `POST /invocations`.
pub(super) fn predict(config: &config::Mock, content_type: Option<&HeaderValue>, body: &[u8]) -> Made {
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let rows = match content_type.split(';').next().unwrap_or_default().trim() {
        "application/json" => json_rows(body),
        "text/csv" => csv_rows(body),
        _ => {
            return Made::Whole(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                scoring_error("the content type is not one of application/json, text/csv"),
            );
        }
    };
    match rows {
        Err(what) => Made::Whole(StatusCode::BAD_REQUEST, scoring_error(what)),
        Ok(rows) => {
            let made = || rows.iter().map(number).collect();
            let predictions = config.predictions.clone().unwrap_or_else(made);
            Made::Whole(StatusCode::OK, json!({ "predictions": predictions }))
        }
    }
}

/// Four digits of a hash of the row: the same row gets the same number, however its numbers are written.
fn number(row: &Value) -> Value {
    let hash = blake3::hash(plain(row).to_string().as_bytes());
    let [a, b, ..] = hash.as_bytes();
    json!(f64::from(u16::from_le_bytes([*a, *b]) % 10_000) / 10_000.0)
}

/// The value with each number in one spelling: an integer where it is whole.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().filter(|_| number.is_f64()).and_then(whole).unwrap_or_else(|| value.clone()),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

/// The integer that a double is, if one is.
#[expect(clippy::cast_possible_truncation, reason = "a cast of a double stops at the ends of i128, which no JSON integer reaches")]
fn whole(number: f64) -> Option<Value> {
    let integer = Some(number as i128).filter(|_| number.fract() == 0.0)?;
    let signed = i64::try_from(integer).map(Value::from);
    signed.or_else(|_| u64::try_from(integer).map(Value::from)).ok()
}

fn json_rows(body: &[u8]) -> Result<Vec<Value>, &'static str> {
    let body: Value = serde_json::from_slice(body).map_err(|_| "the body is not JSON")?;
    let form = ["dataframe_split", "dataframe_records", "instances", "inputs"].into_iter().find(|form| body.get(form).is_some());
    let Some(form) = form else {
        return Err("the body has none of dataframe_split, dataframe_records, instances, inputs");
    };
    match (form, &body[form]) {
        ("dataframe_split", split) => split["data"].as_array().cloned().ok_or("`dataframe_split` has no list of rows in `data`"),
        (_, Value::Array(rows)) => Ok(rows.clone()),
        (_, Value::Object(columns)) => Ok(by_row(columns)),
        (_, value) => Ok(vec![value.clone()]),
    }
}

/// Rows of columns; a value that is no list is a column of one.
fn by_row(columns: &Map<String, Value>) -> Vec<Value> {
    let cell = |column: &Value, row: usize| match column {
        Value::Array(values) => values.get(row).cloned().unwrap_or_default(),
        value => value.clone(),
    };
    let count = columns.values().map(|column| column.as_array().map_or(1, Vec::len)).max().unwrap_or(0);
    (0..count).map(|row| columns.iter().map(|(name, column)| (name.clone(), cell(column, row))).collect()).collect()
}

/// The lines below the header, their cells numbers where they look so.
fn csv_rows(body: &[u8]) -> Result<Vec<Value>, &'static str> {
    let text = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8")?;
    let cell = |cell: &str| serde_json::from_str(cell).ok().filter(Value::is_number).unwrap_or_else(|| json!(cell));
    let row = |line: &str| line.split(',').map(cell).collect();
    Ok(text.lines().filter(|line| !line.trim().is_empty()).skip(1).map(row).collect())
}
