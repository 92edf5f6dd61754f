//! Where an operator is built: its attributes, the types of its inputs, the constants among them; and what it is given when it runs.

use super::{
    bounds::{Stop, fits},
    fault::Fault,
    plan::Ground,
    tensor::{Element, Tensor, Type},
    value::{Kind, Value},
    wire::{Attribute, Graph, Node},
};

/// An operator, ready to run on values of the kinds that it was built for.
pub(crate) type Kernel = Box<dyn Fn(&Given<'_>) -> Result<Vec<Value>, Fault> + Send + Sync>;

/// An operator that is built: its outputs come in the order of the node's.
pub(crate) struct Built {
    pub(crate) kernel: Kernel,
    pub(crate) kinds: Vec<Kind>,
}

/// What is known of an input when the model is loaded.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) kind: Kind,
    pub(crate) constant: Option<&'a Value>,
}

/// A node of the graph while its operator is built.
pub(crate) struct Site<'a> {
    pub(crate) node: &'a Node,
    /// The version of its domain's operators.
    pub(crate) version: i64,
    /// For graphs within.
    pub(crate) ground: &'a Ground<'a>,
    /// Those of the node, then those that graphs within it take from outside, whose names follow.
    pub(crate) inputs: Vec<Option<Known<'a>>>,
    pub(crate) taken: Vec<&'a str>,
}

/// The inputs of an operator that runs.
pub(crate) struct Given<'a> {
    pub(crate) values: &'a [Option<&'a Value>],
    /// For what takes long.
    pub(crate) stop: &'a Stop,
}

impl Built {
    /// An operator with one tensor for an answer.
    pub(crate) fn one(kind: Type, kernel: impl Fn(&Given<'_>) -> Result<Tensor, Fault> + Send + Sync + 'static) -> Self {
        Self { kernel: Box::new(move |given| Ok(vec![Value::Tensor(kernel(given)?)])), kinds: vec![Kind::Tensor(kind)] }
    }

    /// An operator with several.
    pub(crate) fn many(kinds: Vec<Kind>, kernel: impl Fn(&Given<'_>) -> Result<Vec<Value>, Fault> + Send + Sync + 'static) -> Self {
        Self { kernel: Box::new(kernel), kinds }
    }
}

impl<'a> Given<'a> {
    /// An input that must be there.
    pub(crate) fn value(&self, at: usize) -> Result<&'a Value, Fault> {
        self.values.get(at).copied().flatten().ok_or_else(|| Fault::new(format!("input {at} is missing")))
    }

    /// A tensor that must be there.
    pub(crate) fn tensor(&self, at: usize) -> Result<&'a Tensor, Fault> {
        match self.value(at)? {
            Value::Tensor(tensor) => Ok(tensor),
            Value::Maps(_) | Value::Sequence(_) => Err(Fault::new(format!("input {at} is no tensor"))),
        }
    }

    /// A tensor that may be left out.
    pub(crate) fn maybe(&self, at: usize) -> Result<Option<&'a Tensor>, Fault> {
        if self.values.get(at).copied().flatten().is_some() { self.tensor(at).map(Some) } else { Ok(None) }
    }

    /// All tensors, as of an operator that takes any number.
    pub(crate) fn tensors(&self) -> Result<Vec<&'a Tensor>, Fault> {
        (0..self.values.len()).map(|at| self.tensor(at)).collect()
    }

    /// All values from a place on, for a graph within.
    pub(crate) fn all_from(&self, first: usize) -> Result<Vec<Value>, Fault> {
        let all = (first..self.values.len()).map(|at| self.value(at)).collect::<Result<Vec<_>, _>>()?;
        fits(all.iter().map(|value| value.bytes()).sum())?;
        Ok(all.into_iter().cloned().collect())
    }

    /// A tensor's only value.
    pub(crate) fn single<T: Element>(&self, at: usize) -> Result<T, Fault> {
        match self.tensor(at)?.values::<T>()? {
            [value] => Ok(value.clone()),
            values => Err(Fault::new(format!("input {at} has {} values instead of one", values.len()))),
        }
    }

    /// Integers, as axes and shapes are given: of either width.
    pub(crate) fn ints(&self, at: usize) -> Result<Vec<i64>, Fault> {
        let tensor = self.tensor(at)?;
        match tensor.kind() {
            Type::I32 => Ok(tensor.values::<i32>()?.iter().map(|value| i64::from(*value)).collect()),
            _ => Ok(tensor.values::<i64>()?.to_vec()),
        }
    }
}

impl<'a> Site<'a> {
    pub(crate) fn fault(&self, what: impl AsRef<str>) -> Fault {
        Fault::new(format!("operator {} {}", self.node.operator, what.as_ref()))
    }

    pub(crate) fn refuse_type(&self, kind: Type) -> Fault {
        self.fault(format!("is not supported for {}", kind.name()))
    }

    /// Whether an input is connected.
    pub(crate) fn has(&self, at: usize) -> bool {
        self.inputs.get(at).is_some_and(Option::is_some)
    }

    fn known(&self, at: usize) -> Result<Known<'a>, Fault> {
        self.inputs.get(at).copied().flatten().ok_or_else(|| self.fault(format!("lacks input {at}")))
    }

    pub(crate) fn kind(&self, at: usize) -> Result<Kind, Fault> {
        Ok(self.known(at)?.kind)
    }

    /// The type of an input that must be a tensor.
    pub(crate) fn kind_of(&self, at: usize) -> Result<Type, Fault> {
        match self.kind(at)? {
            Kind::Tensor(kind) => Ok(kind),
            Kind::Maps | Kind::Sequence(_) => Err(self.fault(format!("needs a tensor for input {at}"))),
        }
    }

    /// The type that all inputs share.
    pub(crate) fn same_kind(&self) -> Result<Type, Fault> {
        let kind = self.kind_of(0)?;
        for at in 1..self.inputs.len() {
            let other = self.kind_of(at)?;
            if other != kind {
                return Err(self.fault(format!("is given {} and {} together", kind.name(), other.name())));
            }
        }
        Ok(kind)
    }

    /// The type that the two inputs of an operator on pairs share.
    pub(crate) fn pair_kind(&self) -> Result<Type, Fault> {
        self.known(1)?;
        self.same_kind()
    }

    /// A connected input must be of a type.
    pub(crate) fn expect(&self, at: usize, kinds: &[Type]) -> Result<(), Fault> {
        if !self.has(at) {
            return Ok(());
        }
        let kind = self.kind_of(at)?;
        if kinds.contains(&kind) { Ok(()) } else { Err(self.fault(format!("is not supported for {} as input {at}", kind.name()))) }
    }

    /// A constant tensor's values, when the input is one.
    pub(crate) fn constant(&self, at: usize) -> Option<&'a Tensor> {
        match self.inputs.get(at).copied().flatten()?.constant? {
            Value::Tensor(tensor) => Some(tensor),
            Value::Maps(_) | Value::Sequence(_) => None,
        }
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&'a Attribute> {
        self.node.attributes.iter().find(|attribute| attribute.name == name)
    }

    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name).map(|attribute| attribute.int.unwrap_or(0))
    }

    pub(crate) fn flag(&self, name: &str, otherwise: bool) -> bool {
        self.int(name).map_or(otherwise, |int| int != 0)
    }

    pub(crate) fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name).map(|attribute| attribute.float.unwrap_or(0.0))
    }

    pub(crate) fn floats(&self, name: &str) -> Vec<f32> {
        self.attribute(name).map(|attribute| attribute.floats.clone()).unwrap_or_default()
    }

    pub(crate) fn ints(&self, name: &str) -> Vec<i64> {
        self.attribute(name).map(|attribute| attribute.ints.clone()).unwrap_or_default()
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, Fault> {
        let Some(attribute) = self.attribute(name) else { return Ok(None) };
        let text = std::str::from_utf8(attribute.text.as_deref().unwrap_or_default());
        text.map(Some).map_err(|_| self.fault(format!("has an attribute `{name}` that is no UTF-8")))
    }

    pub(crate) fn texts(&self, name: &str) -> Result<Vec<std::sync::Arc<str>>, Fault> {
        let Some(attribute) = self.attribute(name) else { return Ok(Vec::new()) };
        let texts = attribute.texts.iter().map(|text| std::str::from_utf8(text).map(Into::into));
        texts.collect::<Result<_, _>>().map_err(|_| self.fault(format!("has an attribute `{name}` that is no UTF-8")))
    }

    pub(crate) fn tensor(&self, name: &str) -> Result<Option<Tensor>, Fault> {
        self.attribute(name).and_then(|attribute| attribute.tensor.as_ref()).map(super::wire::Stored::read).transpose()
    }

    pub(crate) fn graph(&self, name: &str) -> Result<&'a Graph, Fault> {
        let graph = self.attribute(name).and_then(|attribute| attribute.graph.as_ref());
        graph.ok_or_else(|| self.fault(format!("lacks its graph `{name}`")))
    }

    /// The inputs of a graph within: its own, of the kinds of the node's inputs from a place on, then those from outside.
    pub(crate) fn within(&self, graph: &'a Graph, from: usize) -> Result<Vec<(&'a str, Kind)>, Fault> {
        let own = graph.inputs.iter().map(|input| input.name.as_str()).zip(from..self.node.inputs.len());
        let taken = self.taken.iter().copied().zip(self.node.inputs.len()..);
        own.chain(taken).map(|(name, at)| Ok((name, self.kind(at)?))).collect()
    }

    /// Axes: an attribute in older models, an input in newer ones.
    pub(crate) fn axes(&self, at: usize) -> Axes {
        if self.has(at) { Axes::Input(at) } else { Axes::Fixed(self.ints("axes"), self.attribute("axes").is_some()) }
    }
}

/// Axes that are fixed in the model, or come with each call.
pub(crate) enum Axes {
    Fixed(Vec<i64>, bool),
    Input(usize),
}

impl Axes {
    /// The axes of a tensor, sorted; `None` when the model names none.
    pub(crate) fn of(&self, given: &Given<'_>, rank: usize) -> Result<Option<Vec<usize>>, Fault> {
        let axes = match self {
            Self::Fixed(_, false) => return Ok(None),
            Self::Fixed(axes, true) => axes.clone(),
            Self::Input(at) => given.ints(*at)?,
        };
        if axes.is_empty() && matches!(self, Self::Input(_)) {
            return Ok(None);
        }
        let mut axes = axes.into_iter().map(|axis| super::tensor::axis(axis, rank)).collect::<Result<Vec<_>, _>>()?;
        axes.sort_unstable();
        axes.dedup();
        Ok(Some(axes))
    }
}
