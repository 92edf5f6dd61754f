//! Frames as JSON: written as MLflow's `dataframe_split` or as records, and read from predictions.

use std::collections::{HashMap, HashSet};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use chrono::{DateTime, Datelike as _, Timelike as _};
use flowgate_proto::v1::{BooleanValues, Column, DoubleValues, Frame, IntegerValues, StringValues, column::Values};

use super::{
    json::{list, put},
    tree::{Json, Kind, Unfit},
};
use crate::error::{Error, Result};

/// A frame whose columns are known to agree.
struct Table<'a> {
    columns: Vec<(&'a Column, &'a Values)>,
    rows: usize,
    named: bool,
}

/// Appends a frame as the value of `dataframe_split`.
///
/// # Errors
/// What is wrong with the frame, by field; an infinity, which JSON lacks.
pub(super) fn write_split(out: &mut Vec<u8>, frame: &Frame) -> Result<()> {
    let table = Table::new(frame)?;
    table.refuse_infinities()?;
    out.reserve(table.size());
    out.push(b'{');
    if table.named {
        out.extend_from_slice(b"\"columns\":");
        list(out, &table.columns, |out, (column, _)| -> Result<()> {
            put(out, column.name.as_str());
            Ok(())
        })?;
        out.push(b',');
    }
    out.extend_from_slice(b"\"data\":");
    list(out, 0..table.rows, |out, row| table.write_row(out, row))?;
    out.push(b'}');
    Ok(())
}

/// Appends a frame as MLflow writes predictions: a list of records; rows of a frame without names are lists, or bare values
/// when it has one column. Infinities become null.
///
/// # Errors
/// What is wrong with the frame, by field.
pub(super) fn write_records(out: &mut Vec<u8>, frame: &Frame) -> Result<()> {
    let table = Table::new(frame)?;
    out.reserve(table.size());
    let keys: Vec<Vec<u8>> = table.columns.iter().map(|(column, _)| key(&column.name)).collect();
    list(out, 0..table.rows, |out, row| {
        match (table.named, table.columns.as_slice()) {
            (false, [(column, values)]) => write_cell(out, column, values, row),
            (false, _) => table.write_row(out, row)?,
            (true, columns) => {
                out.push(b'{');
                for (n, ((column, values), key)) in columns.iter().zip(&keys).enumerate() {
                    // The comma is part of every key.
                    out.extend_from_slice(key.get(usize::from(n == 0)..).unwrap_or_default());
                    write_cell(out, column, values, row);
                }
                out.push(b'}');
            }
        }
        Ok(())
    })
}

fn key(name: &str) -> Vec<u8> {
    let mut out = vec![b','];
    put(&mut out, name);
    out.push(b':');
    out
}

impl<'a> Table<'a> {
    fn new(frame: &'a Frame) -> Result<Self> {
        let mut names = HashSet::new();
        let mut table = Table { columns: Vec::with_capacity(frame.columns.len()), rows: 0, named: false };
        for (n, column) in frame.columns.iter().enumerate() {
            let at = |field: &str, what: String| Err(Error::invalid(format!("frame.columns[{n}]{field}"), what));
            let Some(values) = &column.values else {
                return at(".values", "must hold one kind of values, for example `doubles`".to_owned());
            };
            let rows = count(values);
            if n == 0 {
                (table.rows, table.named) = (rows, !column.name.is_empty());
            }
            if rows != table.rows {
                return at("", format!("has {rows} rows where the first column has {}; give all the same number", table.rows));
            }
            if !column.validity.is_empty() && column.validity.len() != rows {
                return at(".validity", format!("has {} entries for {rows} rows; give one per row, or none", column.validity.len()));
            }
            if table.named == column.name.is_empty() {
                return at(".name", "must be set in all columns or in none".to_owned());
            }
            if table.named && !names.insert(column.name.as_str()) {
                return at(".name", "is the name of an earlier column; give each its own".to_owned());
            }
            table.columns.push((column, values));
        }
        if table.columns.is_empty() {
            return Err(Error::invalid("frame.columns", "must hold at least one column"));
        }
        Ok(table)
    }

    fn refuse_infinities(&self) -> Result<()> {
        for (n, (column, values)) in self.columns.iter().enumerate() {
            let Values::Doubles(doubles) = values else { continue };
            let infinite = |(row, value): (usize, &f64)| value.is_infinite() && is_valid(column, row);
            if let Some(row) = doubles.values.iter().enumerate().position(infinite) {
                let field = format!("frame.columns[{n}].doubles.values[{row}]");
                return Err(Error::invalid(field, "is infinite, which JSON lacks; send NaN or a null, or a `raw` body"));
            }
        }
        Ok(())
    }

    /// About how many bytes the JSON takes.
    fn size(&self) -> usize {
        let texts = |values: &Values| match values {
            Values::Doubles(_) | Values::Integers(_) => self.rows * 20,
            Values::Strings(strings) => strings.values.iter().map(|text| text.len() + 4).sum(),
            Values::Booleans(_) => self.rows * 6,
            Values::Bytes(bytes) => bytes.values.iter().map(|bytes| bytes.len() * 4 / 3 + 7).sum(),
            Values::Timestamps(_) => self.rows * 32,
        };
        self.columns.iter().map(|(_, values)| texts(values)).sum::<usize>() + self.rows * 2 + 64
    }

    fn write_row(&self, out: &mut Vec<u8>, row: usize) -> Result<()> {
        list(out, &self.columns, |out, (column, values)| {
            write_cell(out, column, values, row);
            Ok(())
        })
    }
}

fn count(values: &Values) -> usize {
    match values {
        Values::Doubles(doubles) => doubles.values.len(),
        Values::Integers(integers) => integers.values.len(),
        Values::Strings(strings) => strings.values.len(),
        Values::Booleans(booleans) => booleans.values.len(),
        Values::Bytes(bytes) => bytes.values.len(),
        Values::Timestamps(timestamps) => timestamps.unix_nanos.len(),
    }
}

fn is_valid(column: &Column, row: usize) -> bool {
    column.validity.get(row).copied().unwrap_or(true)
}

fn write_cell(out: &mut Vec<u8>, column: &Column, values: &Values, row: usize) {
    let written = is_valid(column, row).then(|| match values {
        Values::Doubles(doubles) => doubles.values.get(row).map(|double| put(out, double)),
        Values::Integers(integers) => integers.values.get(row).map(|integer| put(out, integer)),
        Values::Strings(strings) => strings.values.get(row).map(|text| put(out, text.as_str())),
        Values::Booleans(booleans) => booleans.values.get(row).map(|truth| put(out, truth)),
        Values::Bytes(bytes) => bytes.values.get(row).map(|bytes| write_base64(out, bytes)),
        Values::Timestamps(timestamps) => timestamps.unix_nanos.get(row).map(|nanos| write_timestamp(out, *nanos)),
    });
    if written.flatten().is_none() {
        out.extend_from_slice(b"null");
    }
}

fn write_base64(out: &mut Vec<u8>, bytes: &Bytes) {
    out.push(b'"');
    out.extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

/// ISO 8601 without a zone, which the scoring server refuses, and with all nine digits, because pandas takes the first
/// row's form for the whole column.
fn write_timestamp(out: &mut Vec<u8>, nanos: i64) {
    let time = DateTime::from_timestamp_nanos(nanos).naive_utc();
    out.push(b'"');
    for (lead, number, width) in [
        ("", time.year().unsigned_abs(), 4),
        ("-", time.month(), 2),
        ("-", time.day(), 2),
        ("T", time.hour(), 2),
        (":", time.minute(), 2),
        (":", time.second(), 2),
        (".", time.nanosecond(), 9),
    ] {
        out.extend_from_slice(lead.as_bytes());
        for place in (0..width).rev() {
            out.push(b"0123456789"[(number / 10_u32.pow(place) % 10) as usize]);
        }
    }
    out.push(b'"');
}

/// Reads predictions as a frame: a list of scalars is one unnamed column, a list of lists unnamed columns, a list of objects
/// or an object of lists named ones.
pub(super) fn read(predictions: &Json<'_>) -> Result<Frame, Unfit> {
    let columns = match predictions {
        Json::List(rows) => match rows.first() {
            None => Vec::new(),
            Some(Json::Object(_)) => from_records(rows)?,
            Some(Json::List(first)) => from_rows(rows, first.len())?,
            Some(_) => vec![read_column("", rows.iter())?],
        },
        Json::Object(fields) => from_columns(fields)?,
        _ => return Err(Unfit::Shape("are one value, not a table")),
    };
    Ok(Frame { columns })
}

fn from_rows(rows: &[Json<'_>], width: usize) -> Result<Vec<Column>, Unfit> {
    let mut columns: Vec<Vec<&Json<'_>>> = (0..width).map(|_| Vec::with_capacity(rows.len())).collect();
    for row in rows {
        let Json::List(cells) = row else { return Err(Unfit::Shape("are rows of different kinds")) };
        if cells.len() != width {
            return Err(Unfit::Shape("are rows of different lengths"));
        }
        for (column, cell) in columns.iter_mut().zip(cells) {
            column.push(cell);
        }
    }
    columns.iter().map(|cells| read_column("", cells.iter().copied())).collect()
}

fn from_records<'a>(rows: &'a [Json<'a>]) -> Result<Vec<Column>, Unfit> {
    let mut columns: Vec<(&'a str, Vec<&'a Json<'a>>)> = Vec::new();
    let mut places: HashMap<&'a str, usize> = HashMap::new();
    for (row, record) in rows.iter().enumerate() {
        let Json::Object(fields) = record else { return Err(Unfit::Shape("are rows of different kinds")) };
        for (n, (name, cell)) in fields.iter().enumerate() {
            // Records nearly always have their keys in the same order.
            let place = match columns.get(n) {
                Some((expected, _)) if *expected == name => n,
                _ => *places.entry(name).or_insert_with(|| {
                    columns.push((name, Vec::with_capacity(rows.len())));
                    columns.len() - 1
                }),
            };
            if let Some((_, cells)) = columns.get_mut(place) {
                cells.resize(row, &Json::Null);
                cells.push(cell);
            }
        }
    }
    columns
        .into_iter()
        .map(|(name, mut cells)| {
            cells.resize(rows.len(), &Json::Null);
            read_column(name, cells.iter().copied())
        })
        .collect()
}

fn from_columns(fields: &[(std::borrow::Cow<'_, str>, Json<'_>)]) -> Result<Vec<Column>, Unfit> {
    let mut rows = None;
    fields
        .iter()
        .map(|(name, cells)| match cells {
            Json::List(cells) if *rows.get_or_insert(cells.len()) == cells.len() => read_column(name, cells.iter()),
            Json::List(_) => Err(Unfit::Shape("are columns of different lengths")),
            _ => Err(Unfit::Shape("are one object, not a table")),
        })
        .collect()
}

fn read_column<'a>(name: &str, cells: impl Iterator<Item = &'a Json<'a>> + Clone) -> Result<Column, Unfit> {
    let mut kind = Kind::Null;
    let mut nulls = false;
    for cell in cells.clone() {
        let next = cell.kind().ok_or(Unfit::Shape("are nested"))?;
        nulls |= next == Kind::Null;
        kind = kind.join(next).ok_or(Unfit::Shape("mix kinds in one column"))?;
    }
    let validity = if nulls { cells.clone().map(|cell| cell.kind() != Some(Kind::Null)).collect() } else { Vec::new() };
    let values = match kind {
        Kind::Null | Kind::Double => {
            let doubles: Option<_> = cells.map(Json::as_double).collect();
            Values::Doubles(DoubleValues { values: doubles.ok_or(Unfit::Number("mix fractions with an integer that no double holds"))? })
        }
        Kind::Integer => Values::Integers(IntegerValues {
            values: cells.map(|cell| if let Json::Integer(integer) = cell { *integer } else { 0 }).collect(),
        }),
        Kind::Unsigned => return Err(Unfit::Number("hold an integer beyond int64")),
        Kind::Bool => Values::Booleans(BooleanValues { values: cells.map(|cell| matches!(cell, Json::Bool(true))).collect() }),
        Kind::Text => Values::Strings(StringValues {
            values: cells.map(|cell| if let Json::Text(text) = cell { text.clone().into_owned() } else { String::new() }).collect(),
        }),
    };
    Ok(Column { name: name.to_owned(), validity, values: Some(values) })
}
