//! A model: what it wants, what it answers, and running it. Names are its own; the plan knows slots only.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use prost::Message;

use super::{
    beside::{Beside, places, places_of},
    bounds::Stop,
    fault::Fault,
    plan::{Budget, Ground, Plan},
    tensor::{Tensor, Type},
    value::{Kind, Value},
    wire::{Declared, DimForm, Graph, ModelFile, versions},
};

/// How long a model may compute what hangs on its constants alone: as a rule it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// A model that is ready to answer, from any number of threads.
#[derive(Debug)]
pub struct Model {
    inputs: Vec<Port>,
    outputs: Vec<(String, Kind)>,
    gives: Vec<Port>,
    plan: Plan,
    bytes: usize,
}

/// What a model says of itself, whoever runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// What it asks for, in the model's order.
    pub inputs: Vec<Port>,
    /// Those of its outputs that are tensors.
    pub gives: Vec<Port>,
    /// The names of the files beside it that it needs.
    pub beside: BTreeSet<String>,
}

/// An input or an output as the model declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// The type of its values.
    pub kind: Type,
    /// The length of each dimension, where the model fixes it; `None` when the model says nothing of its shape.
    pub shape: Option<Vec<Option<usize>>>,
}

impl Model {
    /// Reads a model and makes it ready.
    ///
    /// # Errors
    /// When the bytes are no ONNX model, or need an operator, type or version that this engine has not; the fault names it.
    pub fn load(bytes: &[u8]) -> Result<Self, Fault> {
        Self::load_beside(bytes, &|_| Err(Fault::new("the model keeps constants in another file")))
    }

    /// Reads a model that may keep constants in files beside it; `read` gives a file by its name there.
    ///
    /// # Errors
    /// As [`Model::load`], and when such a file cannot be read.
    pub fn load_beside(bytes: &[u8], read: &dyn Fn(&str) -> Result<Vec<u8>, Fault>) -> Result<Self, Fault> {
        let file = ModelFile::decode(bytes).map_err(|error| Fault::broken(format!("the bytes are no ONNX model: {error}")))?;
        let mut graph = file.graph.ok_or_else(|| Fault::broken("the model has no graph"))?;
        Beside::new(read).gather(&mut graph)?;
        let inputs = Port::all(&graph)?;
        let kinds: Vec<_> = inputs.iter().map(|port| (port.name.as_str(), Kind::Tensor(port.kind))).collect();
        let budget = Budget::new(PATIENCE);
        let ground = Ground { opsets: versions(&file.opsets), functions: &file.functions, budget: &budget, depth: 0 };
        let plan = Plan::new(&graph, &kinds, &ground)?;
        let (outputs, gives) = (named(&graph, plan.kinds()), Port::given(&graph));
        // Operators keep what they are made of in forms of their own, which take about as much as in the file.
        let bytes = budget.bytes().saturating_add(bytes.len());
        Ok(Self { inputs, outputs, gives, plan, bytes })
    }

    /// About how many bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What it asks for, in the model's order.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// What it answers, in the model's order.
    pub fn outputs(&self) -> &[(String, Kind)] {
        &self.outputs
    }

    /// Those of its outputs that are tensors, as the model declares them.
    pub fn gives(&self) -> &[Port] {
        &self.gives
    }

    /// Answers inputs by name with outputs in the order of [`Model::outputs`].
    ///
    /// # Errors
    /// When an input is missing, unknown, given twice or of another type or shape, when an operator cannot compute with the values or would
    /// need too much memory for them, and when it is told to stop.
    pub fn run(&self, inputs: Vec<(&str, Tensor)>, stop: &Stop) -> Result<Vec<Value>, Fault> {
        let mut given: Vec<Option<Value>> = vec![None; self.inputs.len()];
        for (turn, (name, tensor)) in inputs.into_iter().enumerate() {
            // Mostly they come in the model's order.
            let expected = self.inputs.get(turn).is_some_and(|port| port.name == name).then_some(turn);
            let at = expected.or_else(|| self.inputs.iter().position(|port| port.name == name));
            let at = at.ok_or_else(|| Fault::new(format!("the model has no input `{name}`")))?;
            self.inputs[at].check(&tensor)?;
            if given[at].replace(Value::Tensor(tensor)).is_some() {
                return Err(Fault::new(format!("the input `{name}` is given twice")));
            }
        }
        let missing = given.iter().position(Option::is_none).map(|at| &self.inputs[at].name);
        match missing {
            Some(name) => Err(Fault::new(format!("the input `{name}` is missing"))),
            None => self.plan.run(given.into_iter().flatten().collect(), stop),
        }
    }
}

impl Outline {
    /// Reads it.
    ///
    /// # Errors
    /// When the bytes are no ONNX model, or it asks for what no tensor of ours can be; the fault names the input.
    pub fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let file = ModelFile::decode(bytes).map_err(|error| Fault::broken(format!("the bytes are no ONNX model: {error}")))?;
        let graph = file.graph.ok_or_else(|| Fault::broken("the model has no graph"))?;
        let mut beside = BTreeSet::new();
        places(&graph, &mut beside);
        file.functions.iter().for_each(|function| places_of(&function.nodes, &mut beside));
        Ok(Self { inputs: Port::all(&graph)?, gives: Port::given(&graph), beside })
    }
}

impl Port {
    fn all(graph: &Graph) -> Result<Vec<Self>, Fault> {
        let constants: HashSet<&str> = graph.initializers.iter().map(|stored| stored.name.as_str()).collect();
        // Older models list their constants among the inputs.
        let asked = graph.inputs.iter().filter(|input| !constants.contains(input.name.as_str()));
        asked.map(Self::read).collect()
    }

    /// What is no tensor has no place here, nor a tensor of types that are none of ours.
    fn given(graph: &Graph) -> Vec<Self> {
        graph.outputs.iter().filter_map(|output| Self::read(output).ok()).collect()
    }

    fn read(declared: &Declared) -> Result<Self, Fault> {
        let name = declared.name.clone();
        let tensor = declared.form.as_ref().and_then(|form| form.tensor.as_ref());
        let tensor = tensor.ok_or_else(|| Fault::new(format!("the input `{name}` is no tensor")))?;
        let kind = Type::from_code(tensor.code);
        let kind =
            kind.ok_or_else(|| Fault::new(format!("the input `{name}` has element type {}, which is not supported", tensor.code)))?;
        // Some exporters write 0 for "any".
        let length = |dim: &DimForm| dim.size.and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
        let shape = tensor.shape.as_ref().map(|shape| shape.dims.iter().map(length).collect());
        Ok(Self { name, kind, shape })
    }

    pub(in crate::mlflow) fn check(&self, tensor: &Tensor) -> Result<(), Fault> {
        if tensor.kind() != self.kind {
            return Err(Fault::new(format!("the input `{}` is {}, not {}", self.name, self.kind.name(), tensor.kind().name())));
        }
        let Some(shape) = &self.shape else { return Ok(()) };
        let fits = shape.len() == tensor.shape().len()
            && shape.iter().zip(tensor.shape()).all(|(want, given)| want.is_none_or(|want| want == *given));
        if fits {
            return Ok(());
        }
        let want: Vec<String> = shape.iter().map(|dim| dim.map_or_else(|| "?".to_owned(), |dim| dim.to_string())).collect();
        Err(Fault::new(format!("the input `{}` has shape {:?}, not [{}]", self.name, tensor.shape(), want.join(", "))))
    }
}

fn named(graph: &Graph, kinds: &[Kind]) -> Vec<(String, Kind)> {
    graph.outputs.iter().map(|output| output.name.clone()).zip(kinds.iter().copied()).collect()
}
