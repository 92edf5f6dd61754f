//! Predictions as JSON, in the shapes in which MLflow writes them; NaN and infinities are null.

use serde::Serialize;

use super::refusal::Refusal;
use crate::mlflow::native::{Labels, MOST_BYTES, Maps, Tensor, Value, Values};

/// What a model answers.
#[derive(Debug)]
pub(super) enum Answer<'m> {
    /// Outputs by name.
    Outputs(Vec<(&'m str, Value)>),
    /// One array.
    Array(Tensor),
    /// Predictions, each with what led to it.
    Explained(Explained<'m>),
}

/// Predictions and what each feature adds to their raw scores.
#[derive(Debug)]
pub(super) struct Explained<'m> {
    pub(super) predictions: Tensor,
    /// Per row and score a value per feature, and a last one that no feature has a part in.
    pub(super) contributions: Vec<f64>,
    pub(super) features: &'m [String],
    pub(super) scores: usize,
    pub(super) rows: usize,
}

/// Text that grows, up to what an answer may have; what would come after that is left out.
struct Out(Vec<u8>);

/// `{"predictions": …}`.
///
/// # Errors
/// When it is longer than an answer may be.
pub(super) fn write(answer: &Answer<'_>, is_table: bool, rows: usize) -> Result<Vec<u8>, Refusal> {
    let mut out = Out(Vec::with_capacity(64 + rows * 24));
    out.text(r#"{"predictions":"#);
    match answer {
        Answer::Array(tensor) => out.tensor(tensor),
        Answer::Outputs(outputs) if is_table && out.records(outputs, rows) => {}
        Answer::Outputs(outputs) => out.object(outputs),
        Answer::Explained(explained) => out.explained(explained),
    }
    out.text("}");
    if out.is_full() { Err(Refusal::too_large()) } else { Ok(out.0) }
}

impl Out {
    fn is_full(&self) -> bool {
        self.0.len() > MOST_BYTES
    }

    fn text(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// A number, a truth value or a text; what is no number is null.
    fn put<T: Serialize + ?Sized>(&mut self, scalar: &T) {
        // A scalar always has a JSON form, and a Vec takes every byte.
        serde_json::to_writer(&mut self.0, scalar).ok();
    }

    fn list<T>(&mut self, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Self, T)) {
        self.text("[");
        for (at, item) in items.into_iter().enumerate() {
            if self.is_full() {
                break;
            }
            if at > 0 {
                self.text(",");
            }
            write(self, item);
        }
        self.text("]");
    }

    fn key(&mut self, at: usize, name: &str) {
        if self.is_full() {
            return;
        }
        self.text(if at > 0 { "," } else { "" });
        self.put(name);
        self.text(":");
    }

    /// A record per row, if that can be: every output has a value for each, or as many values as the others.
    fn records(&mut self, outputs: &[(&str, Value)], rows: usize) -> bool {
        let lengths: Vec<usize> = outputs.iter().map(|(_, value)| length(value)).collect();
        let first = lengths.first().copied().unwrap_or(0);
        if lengths.iter().all(|length| *length == first) {
            self.list(0..first, |out, row| out.record(outputs, |out, value| out.value_at(value, row)));
            return true;
        }
        // MLflow fails at these; a list per row is what its users make of them.
        if !outputs.iter().all(|(_, value)| has_rows(value, rows)) {
            return false;
        }
        self.list(0..rows, |out, row| out.record(outputs, |out, value| out.row_of(value, row)));
        true
    }

    fn record(&mut self, outputs: &[(&str, Value)], mut write: impl FnMut(&mut Self, &Value)) {
        self.text("{");
        for (at, (name, value)) in outputs.iter().enumerate() {
            self.key(at, name);
            write(self, value);
        }
        self.text("}");
    }

    fn object(&mut self, outputs: &[(&str, Value)]) {
        self.record(outputs, |out, value| match value {
            Value::Tensor(tensor) => out.tensor(tensor),
            Value::Maps(maps) => out.list(0..length(value), |out, row| out.map(maps, row)),
            Value::Sequence(tensors) => out.list(tensors, |out, tensor| out.tensor(tensor)),
        });
    }

    /// A value of an output whose dimensions do not count.
    fn value_at(&mut self, value: &Value, mut at: usize) {
        match value {
            Value::Tensor(tensor) => self.cell(tensor.contents(), at),
            Value::Maps(maps) => self.map(maps, at),
            Value::Sequence(tensors) => {
                for tensor in tensors {
                    if at < tensor.len() {
                        return self.cell(tensor.contents(), at);
                    }
                    at -= tensor.len();
                }
            }
        }
    }

    fn row_of(&mut self, value: &Value, row: usize) {
        match value {
            Value::Tensor(tensor) => self.slice(tensor, row),
            Value::Maps(maps) => self.map(maps, row),
            Value::Sequence(tensors) => self.list(tensors, |out, tensor| out.slice(tensor, row)),
        }
    }

    fn map(&mut self, maps: &Maps, row: usize) {
        let count = maps.labels.len();
        self.text("{");
        for at in 0..count {
            match &*maps.labels {
                Labels::Numbers(labels) => self.key(at, &labels[at].to_string()),
                Labels::Texts(labels) => self.key(at, &labels[at]),
            }
            self.cell(maps.rows.contents(), row * count + at);
        }
        self.text("}");
    }

    fn tensor(&mut self, tensor: &Tensor) {
        self.nested(tensor, tensor.shape(), 0);
    }

    fn slice(&mut self, tensor: &Tensor, row: usize) {
        let inner = tensor.shape().get(1..).unwrap_or_default();
        self.nested(tensor, inner, row * inner.iter().product::<usize>());
    }

    fn nested(&mut self, tensor: &Tensor, shape: &[usize], start: usize) {
        match shape {
            [] => self.cell(tensor.contents(), start),
            [length] => self.list(start..start + length, |out, at| out.cell(tensor.contents(), at)),
            [length, rest @ ..] => {
                let size: usize = rest.iter().product();
                self.list(0..*length, |out, at| out.nested(tensor, rest, start + at * size));
            }
        }
    }

    fn cell(&mut self, values: &Values, at: usize) {
        match values {
            // As the double that it is, which is what NumPy gives to Python.
            Values::F32(values) => self.put(&f64::from(values[at])),
            Values::F64(values) => self.put(&values[at]),
            Values::I64(values) => self.put(&values[at]),
            Values::I32(values) => self.put(&values[at]),
            Values::I8(values) => self.put(&values[at]),
            Values::U8(values) => self.put(&values[at]),
            Values::Bool(values) => self.put(&values[at]),
            Values::Text(values) => self.put(&*values[at]),
        }
    }

    fn explained(&mut self, explained: &Explained<'_>) {
        let (width, scores) = (explained.features.len() + 1, explained.scores);
        self.list(0..explained.rows, |out, row| {
            let of = |score: usize| explained.contributions.get((row * scores + score) * width..).unwrap_or_default();
            out.text(r#"{"prediction":"#);
            out.slice(&explained.predictions, row);
            out.text(r#","bias":"#);
            let bias = |out: &mut Self, score: usize| out.put(&of(score).get(width - 1));
            if scores == 1 {
                bias(out, 0);
            } else {
                out.list(0..scores, bias);
            }
            out.text(r#","contributions":"#);
            let added = |out: &mut Self, score: usize| out.added(explained.features, of(score));
            if scores == 1 {
                added(out, 0);
            } else {
                out.list(0..scores, added);
            }
            out.text("}");
        });
    }

    fn added(&mut self, features: &[String], values: &[f64]) {
        self.text("{");
        for (at, (name, value)) in features.iter().zip(values).enumerate() {
            self.key(at, name);
            self.put(value);
        }
        self.text("}");
    }
}

/// How many values an output has in one row; of maps, how many maps.
pub(super) fn length(value: &Value) -> usize {
    match value {
        Value::Tensor(tensor) => tensor.len(),
        Value::Maps(maps) => maps.rows.shape().first().copied().unwrap_or(0),
        Value::Sequence(tensors) => tensors.iter().map(Tensor::len).sum(),
    }
}

pub(super) fn has_rows(value: &Value, rows: usize) -> bool {
    let of = |tensor: &Tensor| tensor.shape().first() == Some(&rows);
    match value {
        Value::Tensor(tensor) => of(tensor),
        Value::Maps(maps) => of(&maps.rows),
        Value::Sequence(tensors) => tensors.iter().all(of),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn an_answer_has_an_end() {
        let label: Arc<str> = "x".repeat(MOST_BYTES / 8).into();
        let answer = |rows: usize| {
            let labels = Arc::new(Labels::Texts(vec![Arc::clone(&label)]));
            let rows = Tensor::new(vec![rows, 1], Values::F32(vec![1.0; rows])).unwrap();
            Answer::Outputs(vec![("y", Value::Maps(Maps { labels, rows }))])
        };
        assert!(write(&answer(2), true, 2).unwrap().len() > MOST_BYTES / 4);
        // Were all of it written, it would not fit into memory.
        let told = String::from_utf8(write(&answer(1 << 20), true, 1 << 20).unwrap_err().body()).unwrap();
        assert!(told.contains("send fewer rows at a time"), "{told}");
    }
}
