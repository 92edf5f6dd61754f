//! Signatures as whoever sends tensors needs them.

use super::{Element, Kind, Scalar, Schema, Signature};
use crate::dialect::scoring::table::{Entry, Takes};

impl Signature {
    /// What its inputs take. Bytes as base64 in a table are for columns of type `binary`, and for tensors of bytes where the model runs in
    /// this process.
    pub fn entries(&self, is_native: bool) -> Vec<Entry> {
        match &self.inputs {
            None => Vec::new(),
            Some(Schema::Columns(columns)) => columns
                .iter()
                .map(|column| Entry {
                    name: column.name.clone(),
                    is_binary: column.kind == Kind::Scalar(Scalar::Binary),
                    takes: if matches!(column.kind, Kind::Scalar(_)) { Takes::Value } else { Takes::Any },
                })
                .collect(),
            Some(Schema::Tensors(tensors)) => tensors
                .iter()
                .map(|tensor| Entry {
                    name: tensor.name.clone(),
                    is_binary: is_native && tensor.element == Element::Bytes,
                    takes: if tensor.shape.is_empty() { Takes::Any } else { Takes::Shape(tensor.shape.clone()) },
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_read_as_base64_takes_it() {
        let columns = r#"[{"type": "binary", "name": "b"}, {"type": "string", "name": "s"}]"#;
        let tensors = r#"[{"type": "tensor", "tensor-spec": {"dtype": "bytes8", "shape": [-1]}}]"#;
        let told = |inputs: &str, is_native| {
            let entries = Signature::read(Some(inputs), None, None).unwrap().entries(is_native);
            entries.into_iter().map(|entry| (entry.name, entry.is_binary)).collect::<Vec<_>>()
        };
        for is_native in [false, true] {
            assert_eq!(told(columns, is_native), [(Some("b".to_owned()), true), (Some("s".to_owned()), false)]);
            assert_eq!(told(tensors, is_native), [(None, is_native)], "MLflow's own code reads it in columns only");
        }
    }
}
