//! What flows between operators: tensors, what ZipMap makes of probabilities, and sequences of tensors.

use std::sync::Arc;

use super::tensor::{Tensor, Type};

/// What an operator takes or gives.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A tensor.
    Tensor(Tensor),
    /// What ONNX calls a sequence of maps: a row of numbers per map, under the same labels.
    Maps(Maps),
    /// Tensors of one type, as for several outputs of one model.
    Sequence(Vec<Tensor>),
}

/// A value's form, known when a model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A tensor of a type.
    Tensor(Type),
    /// Maps from labels to numbers.
    Maps,
    /// A sequence of tensors of a type.
    Sequence(Type),
}

/// Numbers under labels: one map per row of the tensor, without its hash table.
#[derive(Debug, Clone, PartialEq)]
pub struct Maps {
    /// The keys of every map.
    pub labels: Arc<Labels>,
    /// `float`, a row per map, a column per label.
    pub rows: Tensor,
}

/// Classes of a classifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labels {
    /// Numbers.
    Numbers(Vec<i64>),
    /// Texts.
    Texts(Vec<Arc<str>>),
}

impl Value {
    /// What kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Tensor(tensor) => Kind::Tensor(tensor.kind()),
            Self::Maps(_) => Kind::Maps,
            Self::Sequence(tensors) => Kind::Sequence(tensors.first().map_or(Type::F32, Tensor::kind)),
        }
    }

    /// How many values it holds.
    pub(crate) fn len(&self) -> usize {
        self.tensors().map(Tensor::len).sum()
    }

    fn tensors(&self) -> std::slice::Iter<'_, Tensor> {
        match self {
            Self::Tensor(tensor) => std::slice::from_ref(tensor).iter(),
            Self::Maps(maps) => std::slice::from_ref(&maps.rows).iter(),
            Self::Sequence(tensors) => tensors.iter(),
        }
    }

    /// How many bytes its values take.
    pub(crate) fn bytes(&self) -> usize {
        self.tensors().map(|tensor| tensor.contents().bytes()).sum()
    }
}

impl Labels {
    /// How many classes there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers(labels) => labels.len(),
            Self::Texts(labels) => labels.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
