//! A graph made ready to run: operators in order, a slot per value, constants computed. Knows no operator by name.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    fmt,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    bounds::{MOST_BYTES, Stop, fits},
    fault::Fault,
    operators,
    site::{Built, Given, Kernel, Known, Site},
    tensor::LIMIT,
    value::{Kind, Value},
    wire::{Function, Graph, Node, versions},
};

/// Graphs within graphs, and functions within functions: skl2onnx writes three levels.
const MAX_DEPTH: usize = 8;
/// How many operators a model may come to, functions counted as often as they are called.
const MAX_STEPS: usize = 100_000;
/// The newest versions of the operators that were looked at, per domain.
const NEWEST: &[(&str, i64)] = &[("", 26), ("ai.onnx.ml", 5), ("com.microsoft", 1)];

/// What the graphs of a model share.
pub(crate) struct Ground<'a> {
    /// The versions of the domains.
    pub(crate) opsets: HashMap<String, i64>,
    /// The operators that the model brings along.
    pub(crate) functions: &'a [Function],
    pub(crate) budget: &'a Budget,
    /// How many graphs stand around this one.
    pub(crate) depth: usize,
}

/// What planning may still cost.
pub(crate) struct Budget {
    /// What is left for what is computed of constants alone.
    time: Cell<Duration>,
    steps: Cell<usize>,
    values: Cell<usize>,
    bytes: Cell<usize>,
    computed: Cell<usize>,
}

impl Budget {
    /// What any model may cost, and so much time for what it computes of constants alone.
    pub(crate) fn new(time: Duration) -> Self {
        let none = Cell::default;
        Self { time: Cell::new(time), steps: none(), values: none(), bytes: none(), computed: none() }
    }

    /// Runs what hangs on constants alone.
    pub(crate) fn compute(&self, kernel: &Kernel, values: &[Option<&Value>], called: &str) -> Result<Vec<Value>, Fault> {
        let (begun, stop) = (Instant::now(), Stop::after(self.time.get()));
        let computed = stop.check().and_then(|()| kernel(&Given { values, stop: &stop }));
        // The rest of planning is as long as the model is large, on a busy machine the longer.
        self.time.set(self.time.get().saturating_sub(begun.elapsed()));
        computed.map_err(|fault| match stop.check() {
            Err(_) => Fault::new("what is computed of constants alone takes too long"),
            Ok(()) => fault.within(called),
        })
    }

    /// What the constants take that were planned.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
    }
}

/// A graph that can be run any number of times at once.
pub(crate) struct Plan {
    steps: Vec<Step>,
    constants: Vec<Value>,
    outputs: Vec<Source>,
    kinds: Vec<Kind>,
    slots: usize,
}

/// An operator, where its inputs are, and which slot its first output goes to.
struct Step {
    name: String,
    kernel: Kernel,
    inputs: Vec<Option<Source>>,
    first: usize,
    count: usize,
    /// Slots that nothing reads after this step.
    done: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Slot(usize),
    Constant(usize),
}

/// What a plan is made of so far.
struct Draft<'a> {
    ground: &'a Ground<'a>,
    names: HashMap<&'a str, Source>,
    kinds: Vec<Kind>,
    constants: Vec<Value>,
    steps: Vec<Step>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|step| &step.name)).finish()
    }
}

impl Plan {
    /// Plans a graph whose inputs have these names and kinds, in the order in which they fill the first slots.
    pub(crate) fn new<'a>(graph: &'a Graph, inputs: &[(&'a str, Kind)], ground: &'a Ground<'a>) -> Result<Self, Fault> {
        if ground.depth > MAX_DEPTH {
            return Err(Fault::new("graphs are nested too deeply"));
        }
        if !graph.sparse.is_empty() {
            return Err(Fault::new("sparse constants are not supported"));
        }
        let mut draft = Draft { ground, names: HashMap::new(), kinds: Vec::new(), constants: Vec::new(), steps: Vec::new() };
        for (name, kind) in inputs {
            draft.slot(name, *kind)?;
        }
        for stored in &graph.initializers {
            draft.constant(&stored.name, Value::Tensor(stored.read()?))?;
        }
        for node in &graph.nodes {
            draft.add(node).map_err(|fault| if node.name.is_empty() { fault } else { fault.within(&format!("node `{}`", node.name)) })?;
        }
        draft.finish(graph)
    }

    /// The kinds of the outputs.
    pub(crate) fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Runs the graph on inputs of the kinds that it was planned for, unless it is told to stop.
    pub(crate) fn run(&self, inputs: Vec<Value>, stop: &Stop) -> Result<Vec<Value>, Fault> {
        let mut held: usize = inputs.iter().map(Value::bytes).sum();
        fits(held)?;
        let mut slots: Vec<Option<Value>> = inputs.into_iter().map(Some).collect();
        slots.resize_with(self.slots, || None);
        for step in &self.steps {
            stop.check()?;
            let inputs: Vec<Option<&Value>> = step.inputs.iter().map(|source| source.and_then(|source| self.at(&slots, source))).collect();
            let outputs = (step.kernel)(&Given { values: &inputs, stop }).map_err(|fault| fault.within(&step.name))?;
            if outputs.len() < step.count {
                return Err(Fault::new("an output is missing").within(&step.name));
            }
            for (at, output) in outputs.into_iter().take(step.count).enumerate() {
                held += output.bytes();
                slots[step.first + at] = Some(output);
            }
            fits(held).map_err(|fault| fault.within(&step.name))?;
            for done in &step.done {
                held = held.saturating_sub(slots[*done].take().map_or(0, |value| value.bytes()));
            }
        }
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for (at, source) in self.outputs.iter().enumerate() {
            let again = self.outputs[at + 1..].contains(source);
            let value = match *source {
                Source::Slot(slot) if !again => slots[slot].take(),
                source => {
                    // One value may be many outputs.
                    held += self.at(&slots, source).map_or(0, Value::bytes);
                    fits(held)?;
                    self.at(&slots, source).cloned()
                }
            };
            outputs.push(value.ok_or_else(|| Fault::new("an output was not computed"))?);
        }
        Ok(outputs)
    }

    fn at<'a>(&'a self, slots: &'a [Option<Value>], source: Source) -> Option<&'a Value> {
        match source {
            Source::Slot(slot) => slots[slot].as_ref(),
            Source::Constant(constant) => self.constants.get(constant),
        }
    }
}

fn spend(spent: &Cell<usize>, more: usize, most: usize, message: &str) -> Result<(), Fault> {
    spent.set(spent.get().saturating_add(more));
    if spent.get() > most { Err(Fault::new(message)) } else { Ok(()) }
}

/// An operator of the model's own, planned for the types that it is called with.
fn call(function: &Function, site: &Site<'_>) -> Result<Built, Fault> {
    let is_plain = function.attributes.is_empty() && function.defaults.is_empty() && site.node.attributes.is_empty();
    if !is_plain || function.inputs.len() != site.inputs.len() {
        return Err(site.fault("is a function with attributes or optional inputs, which is not supported"));
    }
    let inputs =
        function.inputs.iter().enumerate().map(|(at, name)| Ok((name.as_str(), site.kind(at)?))).collect::<Result<Vec<_>, Fault>>()?;
    let ground = site.ground;
    let ground = Ground { opsets: versions(&function.opsets), depth: ground.depth + 1, ..*ground };
    let plan = Plan::new(&function.graph(), &inputs, &ground)?;
    let kinds = plan.kinds().to_vec();
    Ok(Built::many(kinds, move |given| plan.run(given.all_from(0)?, given.stop)))
}

impl<'a> Draft<'a> {
    fn name(&mut self, name: &'a str, source: Source) -> Result<(), Fault> {
        match self.names.insert(name, source) {
            Some(_) if !name.is_empty() => Err(Fault::new(format!("the value `{name}` is defined twice"))),
            _ => Ok(()),
        }
    }

    fn slot(&mut self, name: &'a str, kind: Kind) -> Result<(), Fault> {
        self.name(name, Source::Slot(self.kinds.len()))?;
        self.kinds.push(kind);
        Ok(())
    }

    fn constant(&mut self, name: &'a str, value: Value) -> Result<(), Fault> {
        spend(&self.ground.budget.values, value.len(), LIMIT, "the constants need too much memory")?;
        let bytes = &self.ground.budget.bytes;
        bytes.set(bytes.get().saturating_add(value.bytes()));
        self.name(name, Source::Constant(self.constants.len()))?;
        self.constants.push(value);
        Ok(())
    }

    fn known(&self, source: Source) -> Known<'_> {
        match source {
            Source::Slot(slot) => Known { kind: self.kinds[slot], constant: None },
            Source::Constant(at) => Known { kind: self.constants[at].kind(), constant: Some(&self.constants[at]) },
        }
    }

    fn add(&mut self, node: &'a Node) -> Result<(), Fault> {
        spend(&self.ground.budget.steps, 1, MAX_STEPS, "the model has too many operators")?;
        let mut taken = Vec::new();
        node.attributes.iter().filter_map(|attribute| attribute.graph.as_ref()).for_each(|graph| graph.free(&mut taken));
        let names = node.inputs.iter().map(String::as_str).chain(taken.iter().copied());
        let sources = names.map(|name| self.source(name)).collect::<Result<Vec<_>, _>>()?;
        let domain = if node.domain == "ai.onnx" { "" } else { node.domain.as_str() };
        if operators::passes_on(domain, &node.operator) {
            return self.alias(node, sources.first().copied().flatten());
        }
        let called = if domain.is_empty() { node.operator.clone() } else { format!("{domain}.{}", node.operator) };
        let inputs: Vec<Option<Known<'_>>> = sources.iter().map(|source| source.map(|source| self.known(source))).collect();
        let constants: Option<Vec<Option<&Value>>> =
            inputs.iter().map(|known| known.map_or(Some(None), |known| known.constant.map(Some))).collect();
        let site = Site { node, version: 0, ground: self.ground, inputs, taken };
        let own = self.ground.functions.iter().find(|function| function.domain == node.domain && function.name == node.operator);
        let built = match own {
            Some(function) => call(function, &site)?,
            None => operators::build(domain, &Site { version: self.version(domain, &called)?, ..site })?,
        };
        let Some(values) = constants else { return self.step(node, called, sources, built) };
        let outputs = self.ground.budget.compute(&built.kernel, &values, &called)?;
        // What the file holds itself is as long as the file, unless it is called for again and again.
        let computed = if sources.is_empty() && self.ground.depth == 0 { 0 } else { outputs.iter().map(Value::bytes).sum() };
        spend(&self.ground.budget.computed, computed, MOST_BYTES, "what is computed of constants alone needs too much memory")?;
        node.outputs.iter().zip(outputs).try_for_each(|(name, value)| self.constant(name, value))
    }

    /// The version of a domain's operators, when it is one that is known.
    fn version(&self, domain: &str, called: &str) -> Result<i64, Fault> {
        let newest = NEWEST.iter().find(|(known, _)| *known == domain).map(|(_, newest)| *newest);
        let newest = newest.ok_or_else(|| Fault::new(format!("operator {called} is not supported")))?;
        // A model need not import Microsoft's domain by version: ONNX Runtime knows one.
        let version = self.ground.opsets.get(domain).copied().unwrap_or(1);
        if version > newest {
            return Err(Fault::new(format!("operator {called} of version {version} is not supported, {newest} is the newest known")));
        }
        Ok(version)
    }

    fn step(&mut self, node: &'a Node, name: String, inputs: Vec<Option<Source>>, built: Built) -> Result<(), Fault> {
        let (first, count) = (self.kinds.len(), node.outputs.len());
        if count > built.kinds.len() {
            return Err(Fault::new(format!("operator {name} has {} outputs at most, not {count}", built.kinds.len())));
        }
        for (name, kind) in node.outputs.iter().zip(built.kinds) {
            self.slot(name, kind)?;
        }
        self.steps.push(Step { name, kernel: built.kernel, inputs, first, count, done: Vec::new() });
        Ok(())
    }

    /// A node that hands on what it is given needs no step.
    fn alias(&mut self, node: &'a Node, source: Option<Source>) -> Result<(), Fault> {
        let source = source.ok_or_else(|| Fault::new(format!("operator {} lacks its input", node.operator)))?;
        match node.outputs.as_slice() {
            [name] => self.name(name, source),
            _ => Err(Fault::new(format!("operator {} is supported with one output only", node.operator))),
        }
    }

    fn source(&self, name: &str) -> Result<Option<Source>, Fault> {
        if name.is_empty() {
            return Ok(None); // an optional input that is left out
        }
        let source = self.names.get(name).copied();
        source.map(Some).ok_or_else(|| Fault::new(format!("the value `{name}` is used before it is defined")))
    }

    fn finish(mut self, graph: &Graph) -> Result<Plan, Fault> {
        let outputs = graph.outputs.iter().map(|output| self.source(&output.name)?.ok_or_else(|| Fault::new("an output has no name")));
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        let kinds = outputs.iter().map(|source| self.known(*source).kind).collect();
        // From the end, the first step that names a slot is the last that reads it.
        let mut seen: HashSet<Source> = outputs.iter().copied().collect();
        for step in self.steps.iter_mut().rev() {
            let made = (step.first..step.first + step.count).map(Source::Slot).map(Some);
            for source in step.inputs.iter().copied().chain(made).flatten() {
                if let (Source::Slot(slot), true) = (source, seen.insert(source)) {
                    step.done.push(slot);
                }
            }
        }
        Ok(Plan { steps: self.steps, constants: self.constants, outputs, kinds, slots: self.kinds.len() })
    }
}
