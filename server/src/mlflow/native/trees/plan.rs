//! Trees as plain nodes, which every reader makes and the layout takes; the one place where their shape is checked.

use crate::mlflow::native::fault::Fault;

/// How the trees' scores become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregate {
    /// Their sum.
    #[default]
    Sum,
    /// Their sum, divided by the number of trees.
    Average,
    /// The least.
    Min,
    /// The greatest.
    Max,
}

/// What an inner node asks of its feature.
#[derive(Clone, Debug)]
pub(super) enum Test {
    /// `x <= t`.
    AtMost(f64),
    /// `x < t`.
    Below(f64),
    /// As `AtMost`, but zero counts as missing.
    AtMostZeroMissing(f64),
    /// `x == t`.
    Equal(f64),
    /// One of these, to the letter.
    Member(Vec<f64>),
    /// The whole part is one of these.
    Truncated(Vec<f64>),
    /// As `Truncated`, but nothing below zero is.
    Category(Vec<f64>),
}

/// A node; children are indices into the nodes of the same tree.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Split {
        feature: u32,
        test: Test,
        yes: usize,
        no: usize,
        missing: bool,
    },
    /// Its weights' place in the tree's.
    Leaf {
        start: usize,
        end: usize,
    },
}

/// A tree; the root is node 0.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    /// Per leaf the outputs and what it adds to them.
    pub(super) weights: Vec<(u32, f64)>,
    /// How much of the training went through each node; empty when the model does not tell.
    pub(super) covers: Vec<f64>,
}

/// A whole ensemble.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) trees: Vec<Tree>,
    pub(super) outputs: usize,
    /// One per output, or none.
    pub(super) base_values: Vec<f64>,
    pub(super) aggregate: Aggregate,
}

/// More outputs than any classifier has classes.
pub(super) const MAX_OUTPUTS: usize = 1 << 16;
/// More columns than any table has.
pub(super) const MAX_FEATURES: usize = 1 << 24;

impl Test {
    /// The thresholds that it compares with.
    fn values(&self) -> &[f64] {
        match self {
            Self::AtMost(value) | Self::Below(value) | Self::AtMostZeroMissing(value) | Self::Equal(value) => std::slice::from_ref(value),
            Self::Member(values) | Self::Truncated(values) | Self::Category(values) => values,
        }
    }
}

impl Tree {
    /// A tree that is one leaf.
    pub(super) fn constant(output: u32, value: f64) -> Self {
        Self { nodes: vec![Node::Leaf { start: 0, end: 1 }], weights: vec![(output, value)], covers: Vec::new() }
    }

    /// The nodes from the root down, level by level, siblings beside each other.
    ///
    /// # Errors
    /// When it is no tree: a child that is not there, a node with two parents (all cycles are that) or with none.
    pub(super) fn order(&self) -> Result<Vec<usize>, Fault> {
        let mut reached = vec![false; self.nodes.len()];
        let mut order = Vec::with_capacity(self.nodes.len());
        let mut reach = |node: usize, order: &mut Vec<usize>| match reached.get_mut(node) {
            None => Err(Fault::new(format!("there is no node {node}"))),
            Some(true) => Err(Fault::new(format!("node {node} has two parents, or is above itself"))),
            Some(reached) => {
                *reached = true;
                order.push(node);
                Ok(())
            }
        };
        reach(0, &mut order)?;
        let mut next = 0;
        while let Some(&node) = order.get(next) {
            if let Node::Split { yes, no, .. } = self.nodes[node] {
                reach(yes, &mut order)?;
                reach(no, &mut order)?;
            }
            next += 1;
        }
        match reached.iter().position(|reached| !reached) {
            Some(node) => Err(Fault::new(format!("node {node} is not reached from the root"))),
            None => Ok(order),
        }
    }

    /// Whether features, outputs, thresholds and weights are such that a walk finds what it looks for.
    fn check(&self, outputs: usize) -> Result<(), Fault> {
        for (at, node) in self.nodes.iter().enumerate() {
            match node {
                Node::Split { feature, test, .. } => {
                    if *feature as usize >= MAX_FEATURES {
                        return Err(Fault::new(format!("node {at} asks for feature {feature}, more than {MAX_FEATURES}")));
                    }
                    if test.values().iter().any(|value| value.is_nan()) {
                        return Err(Fault::new(format!("node {at} compares with what is no number")));
                    }
                }
                Node::Leaf { start, end } if start > end || *end > self.weights.len() => {
                    return Err(Fault::new(format!("leaf {at} has weights that are not there")));
                }
                Node::Leaf { .. } => {}
            }
        }
        match self.weights.iter().find(|(output, _)| *output as usize >= outputs) {
            Some((output, _)) => Err(Fault::new(format!("a leaf adds to output {output} of {outputs}"))),
            None => Ok(()),
        }
    }
}

impl Plan {
    /// Checks everything but the shape of the trees, which [`Tree::order`] does.
    ///
    /// # Errors
    /// What is wrong first, and where.
    pub(super) fn check(&self) -> Result<(), Fault> {
        if self.outputs == 0 || self.outputs > MAX_OUTPUTS {
            return Err(Fault::new(format!("the trees have {} outputs; 1 to {MAX_OUTPUTS} are possible", self.outputs)));
        }
        if !self.base_values.is_empty() && self.base_values.len() != self.outputs {
            return Err(Fault::new(format!("there are {} base values for {} outputs", self.base_values.len(), self.outputs)));
        }
        for (at, tree) in self.trees.iter().enumerate() {
            tree.check(self.outputs).map_err(|fault| fault.within(&format!("tree {at}")))?;
        }
        Ok(())
    }
}
