//! Scoring requests of one kind put together into one, and its answer cut apart again: by pieces of text, so that every value stays as
//! it was written.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{json::present, native::Split};
use crate::dialect::is_json;

mod answer;
mod kind;
#[cfg(test)]
mod tests;

pub use answer::split;
use kind::Kind;

/// A request's rows, and what must be the same in another request for their rows to stand in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Form, names, parameters, and the kinds of values in the rows.
    pub kind: Box<[u8]>,
    /// How many rows there are; at least one.
    pub count: usize,
    /// What stands around the lists of rows: one more than there are lists.
    around: Vec<Vec<u8>>,
    /// What stands between the brackets of each list. Only `inputs` by name has several.
    lists: Vec<Bytes>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    dataframe_split: Option<Split<'a>>,
    #[serde(borrow)]
    dataframe_records: Option<&'a RawValue>,
    #[serde(borrow)]
    instances: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    inputs: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// What is found on the way through a body.
struct Found<'a> {
    body: &'a Bytes,
    count: usize,
    kind: Vec<u8>,
    around: Vec<Vec<u8>>,
    lists: Vec<Bytes>,
}

/// The rows of a body, one of MLflow's four forms; `None` when it is anything else, or they are not all of one kind.
pub fn rows(content_type: &[u8], body: &Bytes) -> Option<Rows> {
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if !is_json(media_type) {
        return None;
    }
    let read: Body<'_> = serde_json::from_slice(body).ok()?;
    let mut found = Found { body, count: 0, kind: Vec::new(), around: vec![b"{".to_vec()], lists: Vec::new() };
    match read {
        Body { dataframe_split: Some(split), dataframe_records: None, instances: None, inputs: None, .. } => found.split(&split)?,
        Body { dataframe_split: None, dataframe_records: Some(records), instances: None, inputs: None, .. } => {
            found.list("dataframe_records", records, Kind::is_record)?;
        }
        Body { dataframe_split: None, dataframe_records: None, instances: Some(instances), inputs: None, .. } => {
            found.list("instances", instances, |_| true)?;
        }
        Body { dataframe_split: None, dataframe_records: None, instances: None, inputs: Some(inputs), .. } => found.inputs(inputs)?,
        Body { .. } => return None,
    }
    if let Some(params) = read.params {
        found.put(b",\"params\":");
        found.put(&compact(params.get()));
    }
    found.put(b"}");
    found.rows()
}

/// One body with the rows of all, in this order; they are of one kind.
pub fn merge<'a>(parts: &(impl Iterator<Item = &'a Rows> + Clone)) -> Bytes {
    let mut out = Vec::with_capacity(parts.clone().map(Rows::bytes).sum::<usize>() + 256);
    let around = parts.clone().next().map(|first| first.around.as_slice()).unwrap_or_default();
    for (n, text) in around.iter().enumerate() {
        out.extend_from_slice(text);
        for (m, list) in parts.clone().filter_map(|part| part.lists.get(n)).enumerate() {
            if m > 0 {
                out.push(b',');
            }
            out.extend_from_slice(list);
        }
    }
    out.into()
}

impl Rows {
    /// How much text they are.
    pub fn bytes(&self) -> usize {
        self.lists.iter().map(Bytes::len).sum()
    }
}

impl Found<'_> {
    /// Adds to what stands around the lists.
    fn put(&mut self, text: &[u8]) {
        if let Some(last) = self.around.last_mut() {
            last.extend_from_slice(text);
        }
    }

    fn split(&mut self, split: &Split<'_>) -> Option<()> {
        let data = split.data?;
        self.put(b"\"dataframe_split\":{");
        if let Some(columns) = split.columns {
            self.put(b"\"columns\":");
            self.put(&compact(columns.get()));
            self.put(b",");
        }
        self.put(b"\"data\":");
        self.rows_of(data, Kind::of_row)?;
        // Labels that are not those which rows have anyway would stand twice in the whole.
        if split.index.is_some_and(|index| !counts_up(index, self.count)) {
            return None;
        }
        self.put(b"}");
        Some(())
    }

    fn list(&mut self, field: &str, list: &RawValue, fits: fn(&Kind) -> bool) -> Option<()> {
        self.put(format!("\"{field}\":").as_bytes());
        self.rows_of(list, |row| Kind::of(row).filter(fits))
    }

    /// A list, or lists of one length by name.
    fn inputs(&mut self, inputs: &RawValue) -> Option<()> {
        if inputs.get().starts_with('[') {
            return self.list("inputs", inputs, |_| true);
        }
        self.put(b"\"inputs\":{");
        let members = kind::members(inputs)?;
        for (n, (name, list)) in members.iter().enumerate() {
            if n > 0 {
                self.put(b",");
            }
            let name = serde_json::to_vec(name).ok()?;
            self.put(&name);
            self.put(b":");
            self.rows_of(list, Kind::of)?;
        }
        self.put(b"}");
        Some(())
    }

    /// Takes a list whose items are rows of one kind, as many as in the lists before.
    fn rows_of(&mut self, list: &RawValue, of: impl Fn(&RawValue) -> Option<Kind>) -> Option<()> {
        let rows: Vec<&RawValue> = serde_json::from_str(list.get()).ok()?;
        let mut kinds = rows.iter().map(|row| of(row));
        let first = kinds.next()??;
        let kind = kinds.try_fold(first, |all, kind| all.join(kind?))?;
        if !self.lists.is_empty() && rows.len() != self.count {
            return None;
        }
        self.count = rows.len();
        kind.write(&mut self.kind);
        let inner = list.get().strip_prefix('[')?.strip_suffix(']')?.trim_ascii();
        self.put(b"[");
        self.lists.push(self.body.slice_ref(inner.as_bytes()));
        self.around.push(b"]".to_vec());
        Some(())
    }

    fn rows(self) -> Option<Rows> {
        let Self { count, mut kind, around, lists, .. } = self;
        for text in &around {
            // No JSON holds it as it is.
            kind.push(0);
            kind.extend_from_slice(text);
        }
        (count > 0).then(|| Rows { kind: kind.into(), count, around, lists })
    }
}

/// Whether labels are 0, 1, 2, … for so many rows.
fn counts_up(index: &RawValue, rows: usize) -> bool {
    let labels: Result<Vec<u64>, _> = serde_json::from_str(index.get());
    labels.is_ok_and(|labels| labels.is_empty() || (labels.len() == rows && labels.iter().zip(0_u64..).all(|(label, n)| *label == n)))
}

/// JSON text without the space between its tokens.
fn compact(text: &str) -> Vec<u8> {
    let (mut is_text, mut is_escaped) = (false, false);
    let keep = |byte: &u8| {
        if is_text {
            is_text = is_escaped || *byte != b'"';
            is_escaped = !is_escaped && *byte == b'\\';
            return true;
        }
        is_text = *byte == b'"';
        !byte.is_ascii_whitespace()
    };
    text.bytes().filter(keep).collect()
}
