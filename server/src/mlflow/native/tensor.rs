//! Tensors: a shape and values of one type, and the few ways to walk them that all operators share.

use std::sync::Arc;

use super::{bounds::room, fault::Fault};

/// How many values a tensor may have, a constant of a model too: more is a broken or hostile model.
pub(crate) const LIMIT: usize = 1 << 28;

/// How many dimensions a tensor may have, as in NumPy 2.
const MOST_DIMENSIONS: usize = 64;

/// How many bytes a text takes that was made for itself, nearly, and as many as a number has when it becomes one.
pub(crate) const TEXT: usize = 48;

/// The type of a tensor's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// `float`.
    F32,
    /// `double`.
    F64,
    /// `int64`.
    I64,
    /// `int32`.
    I32,
    /// `int8`.
    I8,
    /// `uint8`.
    U8,
    /// `bool`.
    Bool,
    /// `string`.
    Text,
}

/// The values of a tensor, the last dimension fastest.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// `float`.
    F32(Vec<f32>),
    /// `double`.
    F64(Vec<f64>),
    /// `int64`.
    I64(Vec<i64>),
    /// `int32`.
    I32(Vec<i32>),
    /// `int8`.
    I8(Vec<i8>),
    /// `uint8`.
    U8(Vec<u8>),
    /// `bool`.
    Bool(Vec<bool>),
    /// `string`; shared, for operators mostly pass texts on.
    Text(Vec<Arc<str>>),
}

/// A shape and as many values as it says.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    contents: Values,
}

/// What a tensor may hold.
pub(crate) trait Element: Clone + PartialEq + Send + Sync + 'static {
    const TYPE: Type;
    /// What fills a tensor that nothing else does.
    fn zero() -> Self;
    fn of(contents: &Values) -> Option<&[Self]>;
    fn wrap(values: Vec<Self>) -> Values;
}

macro_rules! element {
    ($rust:ty, $variant:ident, $zero:expr) => {
        impl Element for $rust {
            const TYPE: Type = Type::$variant;
            fn zero() -> Self {
                $zero
            }
            fn of(contents: &Values) -> Option<&[Self]> {
                if let Values::$variant(values) = contents { Some(values) } else { None }
            }
            fn wrap(values: Vec<Self>) -> Values {
                Values::$variant(values)
            }
        }
    };
}
element!(f32, F32, 0.0);
element!(f64, F64, 0.0);
element!(i64, I64, 0);
element!(i32, I32, 0);
element!(i8, I8, 0);
element!(u8, U8, 0);
element!(bool, Bool, false);
element!(Arc<str>, Text, Self::from(""));

/// Runs the same code for the type that a value of [`Type`] stands for: any, those of numbers, or those listed; the site refuses others.
macro_rules! for_type {
    ($kind:expr, $site:expr, [$($variant:ident = $rust:ty),+], $name:ident => $body:expr) => {
        match $kind {
            $($crate::mlflow::native::tensor::Type::$variant => { type $name = $rust; $body })+
            other => Err($site.refuse_type(other)),
        }
    };
    ($kind:expr, $site:expr, real, $name:ident => $body:expr) => {
        for_type!($kind, $site, [F32 = f32, F64 = f64], $name => $body)
    };
    ($kind:expr, $site:expr, number, $name:ident => $body:expr) => {
        for_type!($kind, $site, [F32 = f32, F64 = f64, I64 = i64, I32 = i32, I8 = i8, U8 = u8], $name => $body)
    };
    ($kind:expr, any, $name:ident => $body:expr) => {
        match $kind {
            $crate::mlflow::native::tensor::Type::F32 => { type $name = f32; $body }
            $crate::mlflow::native::tensor::Type::F64 => { type $name = f64; $body }
            $crate::mlflow::native::tensor::Type::I64 => { type $name = i64; $body }
            $crate::mlflow::native::tensor::Type::I32 => { type $name = i32; $body }
            $crate::mlflow::native::tensor::Type::I8 => { type $name = i8; $body }
            $crate::mlflow::native::tensor::Type::U8 => { type $name = u8; $body }
            $crate::mlflow::native::tensor::Type::Bool => { type $name = bool; $body }
            $crate::mlflow::native::tensor::Type::Text => { type $name = std::sync::Arc<str>; $body }
        }
    };
}
pub(crate) use for_type;

impl Type {
    /// The type that ONNX's `TensorProto.DataType` gives a number.
    pub(crate) fn from_code(code: i32) -> Option<Self> {
        Some(match code {
            1 => Self::F32,
            2 => Self::U8,
            3 => Self::I8,
            6 => Self::I32,
            7 => Self::I64,
            8 => Self::Text,
            9 => Self::Bool,
            11 => Self::F64,
            _ => return None,
        })
    }

    /// How many bytes a value takes; of a text, what refers to it.
    pub const fn width(self) -> usize {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::Text => size_of::<Arc<str>>(),
        }
    }

    /// As NumPy calls it, and so does MLflow.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::I64 => "int64",
            Self::I32 => "int32",
            Self::I8 => "int8",
            Self::U8 => "uint8",
            Self::Bool => "bool",
            Self::Text => "string",
        }
    }
}

impl Values {
    /// The type of the values.
    pub const fn kind(&self) -> Type {
        match self {
            Self::F32(_) => Type::F32,
            Self::F64(_) => Type::F64,
            Self::I64(_) => Type::I64,
            Self::I32(_) => Type::I32,
            Self::I8(_) => Type::I8,
            Self::U8(_) => Type::U8,
            Self::Bool(_) => Type::Bool,
            Self::Text(_) => Type::Text,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::I8(values) => values.len(),
            Self::U8(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::Text(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes they take.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::F32(values) => size_of_val(values.as_slice()),
            Self::F64(values) => size_of_val(values.as_slice()),
            Self::I64(values) => size_of_val(values.as_slice()),
            Self::I32(values) => size_of_val(values.as_slice()),
            Self::I8(values) => size_of_val(values.as_slice()),
            Self::U8(values) => size_of_val(values.as_slice()),
            Self::Bool(values) => size_of_val(values.as_slice()),
            Self::Text(values) => size_of_val(values.as_slice()) + values.iter().map(|text| text.len()).sum::<usize>(),
        }
    }
}

impl Tensor {
    /// A tensor of values.
    ///
    /// # Errors
    /// When the shape asks for another number of values, or for too many.
    pub fn new(shape: Vec<usize>, contents: Values) -> Result<Self, Fault> {
        if size(&shape)? != contents.len() {
            return Err(Fault::new(format!("{} values do not make a tensor of shape {shape:?}", contents.len())));
        }
        Ok(Self { shape, contents })
    }

    pub(crate) fn of<T: Element>(shape: Vec<usize>, values: Vec<T>) -> Result<Self, Fault> {
        Self::new(shape, T::wrap(values))
    }

    pub(crate) fn scalar<T: Element>(value: T) -> Self {
        Self { shape: Vec::new(), contents: T::wrap(vec![value]) }
    }

    pub(crate) fn row<T: Element>(values: Vec<T>) -> Self {
        Self { shape: vec![values.len()], contents: T::wrap(values) }
    }

    /// The length of each dimension; none for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values.
    pub const fn contents(&self) -> &Values {
        &self.contents
    }

    /// The values, taken out.
    pub fn into_contents(self) -> Values {
        self.contents
    }

    /// The type of the values.
    pub const fn kind(&self) -> Type {
        self.contents.kind()
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.contents.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }

    /// The values of a type that the plan has checked.
    pub(crate) fn values<T: Element>(&self) -> Result<&[T], Fault> {
        T::of(&self.contents)
            .ok_or_else(|| Fault::new(format!("a tensor of {} stands where {} belongs", self.kind().name(), T::TYPE.name())))
    }

    /// Rows and columns, as the `ai.onnx.ml` operators see a tensor: one dimension is one row.
    pub(crate) fn matrix(&self) -> Result<(usize, usize), Fault> {
        match *self.shape.as_slice() {
            [] => Ok((1, 1)),
            [columns] => Ok((1, columns)),
            [rows, columns] => Ok((rows, columns)),
            [rows, ref rest @ ..] => Ok((rows, size(rest)?)),
        }
    }

    pub(crate) fn with_shape(&self, shape: Vec<usize>) -> Result<Self, Fault> {
        Self::new(shape, self.contents.clone())
    }
}

/// Checks that a tensor may have so many dimensions.
pub(crate) fn has_rank(rank: usize) -> Result<(), Fault> {
    if rank > MOST_DIMENSIONS { Err(Fault::new(format!("a tensor of {rank} dimensions is not supported"))) } else { Ok(()) }
}

/// How many values a shape asks for, within bounds. Empty dimensions count as one for the bound, so that strides cannot overflow.
pub(crate) fn size(shape: &[usize]) -> Result<usize, Fault> {
    has_rank(shape.len())?;
    let most = shape.iter().try_fold(1_usize, |size, dim| size.checked_mul((*dim).max(1)).filter(|size| *size <= LIMIT));
    let most = most.ok_or_else(|| Fault::large(format!("a tensor of shape {shape:?} is too large")))?;
    Ok(if shape.contains(&0) { 0 } else { most })
}

/// The distance in values between neighbours, for each dimension.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for at in (1..shape.len()).rev() {
        strides[at - 1] = strides[at] * shape[at].max(1);
    }
    strides
}

/// A view of values: where it begins and, per dimension, how many there are and how far apart.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) start: usize,
    pub(crate) shape: Vec<usize>,
    pub(crate) steps: Vec<isize>,
}

impl View {
    /// Copies what the view shows. Every view is made from a shape, so its places exist; one that does not is a fault, not a panic.
    pub(crate) fn copy<T: Clone>(&self, values: &[T]) -> Result<Vec<T>, Fault> {
        let total = room::<T>(&self.shape)?;
        let mut out = Vec::with_capacity(total);
        if total == 0 {
            return Ok(out);
        }
        let lost = || Fault::new("a view leaves its tensor");
        let (inner, step) = (self.shape.last().copied().unwrap_or(1), self.steps.last().copied().unwrap_or(1));
        let outer = self.shape.len().saturating_sub(1);
        let mut index = vec![0; outer];
        let mut place = self.start.cast_signed();
        while out.len() < total {
            let mut at = place;
            for _ in 0..inner {
                let value = usize::try_from(at).ok().and_then(|at| values.get(at)).ok_or_else(lost)?;
                out.push(value.clone());
                at += step;
            }
            for dim in (0..outer).rev() {
                index[dim] += 1;
                place += self.steps[dim];
                if index[dim] < self.shape[dim] {
                    break;
                }
                place -= self.steps[dim] * index[dim].cast_signed();
                index[dim] = 0;
            }
        }
        Ok(out)
    }
}

/// The shape that two shapes broadcast to.
pub(crate) fn broadcast(left: &[usize], right: &[usize]) -> Result<Vec<usize>, Fault> {
    let rank = left.len().max(right.len());
    let dim = |shape: &[usize], at: usize| (at + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    let dims = (0..rank).map(|at| match (dim(left, at), dim(right, at)) {
        (left, right) if left == right => Some(left),
        (1, other) | (other, 1) => Some(other),
        _ => None,
    });
    dims.collect::<Option<_>>().ok_or_else(|| Fault::new(format!("shapes {left:?} and {right:?} do not go together")))
}

/// Values of a tensor repeated to a shape that it broadcasts to.
pub(crate) fn expand<T: Clone>(values: &[T], shape: &[usize], wide: &[usize]) -> Result<Vec<T>, Fault> {
    if shape == wide {
        return Ok(values.to_vec());
    }
    let own = strides(shape);
    let missing = wide.len() - shape.len().min(wide.len());
    let step = |at: usize| match at.checked_sub(missing) {
        Some(at) if shape[at] != 1 => own[at].cast_signed(),
        _ => 0,
    };
    View { start: 0, shape: wide.to_vec(), steps: (0..wide.len()).map(step).collect() }.copy(values)
}

/// Joins two tensors value by value, broadcasting.
pub(crate) fn zip<A: Element, B: Element, C: Element>(left: &Tensor, right: &Tensor, join: impl Fn(&A, &B) -> C) -> Result<Tensor, Fault> {
    let (a, b) = (left.values::<A>()?, right.values::<B>()?);
    if left.shape == right.shape {
        return Tensor::of(left.shape.clone(), a.iter().zip(b).map(|(a, b)| join(a, b)).collect());
    }
    let shape = broadcast(&left.shape, &right.shape)?;
    room::<C>(&shape)?;
    let values = match (a, b) {
        (a, [b]) if shape == left.shape => a.iter().map(|a| join(a, b)).collect(),
        ([a], b) if shape == right.shape => b.iter().map(|b| join(a, b)).collect(),
        (a, b) if shape == left.shape && shape.ends_with(&right.shape) && !b.is_empty() => {
            a.chunks(b.len()).flat_map(|row| row.iter().zip(b)).map(|(a, b)| join(a, b)).collect()
        }
        (a, b) => {
            let (a, b) = (expand(a, &left.shape, &shape)?, expand(b, &right.shape, &shape)?);
            a.iter().zip(&b).map(|(a, b)| join(a, b)).collect()
        }
    };
    Tensor::of(shape, values)
}

/// The place of an axis that may be counted from the end.
pub(crate) fn axis(given: i64, rank: usize) -> Result<usize, Fault> {
    let signed = if given < 0 { given.checked_add_unsigned(rank as u64) } else { Some(given) };
    let found = signed.and_then(|axis| usize::try_from(axis).ok()).filter(|axis| *axis < rank);
    found.ok_or_else(|| Fault::new(format!("axis {given} is none of a tensor of {rank} dimensions")))
}
