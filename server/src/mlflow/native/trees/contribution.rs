//! What each feature adds to a score: the path-dependent Shapley values of trees (Lundberg, Erion and Lee, 2018), exact for each tree.
//!
//! A path tells, for the features asked on the way down, how much of the training goes on without knowing the feature (`zero`) and
//! whether the row does (`one`), and how often subsets of each size do (`weight`). The walk keeps one path per level on a heap of its own:
//! a file decides how deep trees are, so nothing here calls itself.

use super::{
    layout::{Layout, Leaves, Link, Nodes},
    real::Real,
};
use crate::mlflow::native::{bounds::Stop, fault::Fault};

/// Contributions of all rows of a call: each is some twenty letters of the answer, and its feature's name.
pub(super) const MOST: usize = 1 << 22;
/// Work and memory grow with the square of the depth.
const MAX_DEPTH: usize = 1024;

/// A feature on the way. Either `zero` or `one` is above zero, and `one` is nothing else than zero or one.
#[derive(Clone, Copy, Debug)]
struct Step {
    feature: usize,
    zero: f64,
    one: f64,
    weight: f64,
}

/// A node to visit, and what led to it.
#[derive(Clone, Copy)]
struct Visit {
    node: usize,
    level: usize,
    last: Step,
}

/// Explains one row after the other.
pub(super) struct Explainer<'a, T, L> {
    layout: &'a Layout<T>,
    nodes: &'a Nodes<T, L>,
    paths: Vec<Vec<Step>>,
    visits: Vec<Visit>,
    shares: Vec<f64>,
}

impl<'a, T: Real, L: Link> Explainer<'a, T, L> {
    /// # Errors
    /// When the model does not tell how much of the training went where, or trees are too deep.
    pub(super) fn new(layout: &'a Layout<T>, nodes: &'a Nodes<T, L>) -> Result<Self, Fault> {
        let covers = &layout.covers;
        if covers.len() != nodes.laid.len() {
            return Err(Fault::new("the model does not tell how much of the training went through each node; contributions need that"));
        }
        let mut depth = 0;
        let mut depths = vec![0_usize; covers.len()];
        for node in 0..covers.len() {
            let Some(child) = children(nodes, node) else { continue };
            if !(covers[node] > 0.0 && covers[node].is_finite() && covers[child] >= 0.0 && covers[child + 1] >= 0.0) {
                return Err(Fault::new("the model tells of nodes that none of the training went through; contributions need that"));
            }
            depths[child] = depths[node] + 1;
            depths[child + 1] = depths[node] + 1;
            depth = depth.max(depths[child]);
        }
        if depth > MAX_DEPTH {
            return Err(Fault::new(format!("the trees are {depth} deep; contributions are possible up to {MAX_DEPTH}")));
        }
        Ok(Self { layout, nodes, paths: vec![Vec::new(); depth + 1], visits: Vec::new(), shares: shares(depth) })
    }

    /// Per output the mean over the training.
    pub(super) fn means(&self, outputs: usize) -> Vec<f64> {
        let mut means = vec![0.0; outputs];
        for (tree, root) in self.layout.roots.iter().enumerate() {
            let mut open = vec![(*root as usize, 1.0)];
            while let Some((node, share)) = open.pop() {
                match children(self.nodes, node) {
                    Some(child) => open.extend([child, child + 1].map(|child| (child, share * self.share(child, node)))),
                    None => self.leaf(tree, node, |output, value| means[output] += share * value),
                }
            }
        }
        means
    }

    /// Adds what the features of a row add, which `go` leads to its children.
    pub(super) fn row(&mut self, go: &impl Fn(usize) -> usize, width: usize, out: &mut [f64], stop: &Stop) -> Result<(), Fault> {
        for tree in 0..self.layout.roots.len() {
            self.tree(tree, go, stop, |output, feature, value| out[output * (width + 1) + feature] += value)?;
        }
        Ok(())
    }

    fn tree(
        &mut self,
        tree: usize,
        go: &impl Fn(usize) -> usize,
        stop: &Stop,
        mut add: impl FnMut(usize, usize, f64),
    ) -> Result<(), Fault> {
        // The first step stands for no feature.
        let last = Step { feature: usize::MAX, zero: 1.0, one: 1.0, weight: 1.0 };
        self.visits.push(Visit { node: self.layout.roots[tree] as usize, level: 0, last });
        while let Some(Visit { node, level, last }) = self.visits.pop() {
            stop.check()?;
            let (above, here) = self.paths.split_at_mut(level);
            let path = &mut here[0];
            path.clear();
            path.extend(above.last().into_iter().flatten());
            extend(path, last, &self.shares);
            let Some(child) = children(self.nodes, node) else {
                let path = &self.paths[level];
                for (at, step) in path.iter().enumerate().skip(1) {
                    let share = unwound(path, at, &self.shares) * (step.one - step.zero);
                    self.leaf(tree, node, |output, value| add(output, step.feature, share * value));
                }
                continue;
            };
            let feature = self.nodes.laid[node].link.feature(self.nodes.shift);
            let (mut zero, mut one) = (1.0, 1.0);
            // A feature that was asked above counts once.
            if let Some(at) = path.iter().position(|step| step.feature == feature) {
                (zero, one) = (path[at].zero, path[at].one);
                unwind(path, at, &self.shares);
            }
            let hot = child + go(node);
            let cold = 2 * child + 1 - hot;
            for (below, one) in [(cold, 0.0), (hot, one)] {
                let last = Step { feature, zero: zero * self.share(below, node), one, weight: 0.0 };
                // Where neither the row nor any of the training goes, nothing is added.
                if last.zero > 0.0 || one > 0.0 {
                    self.visits.push(Visit { node: below, level: level + 1, last });
                }
            }
        }
        Ok(())
    }

    fn share(&self, child: usize, node: usize) -> f64 {
        self.layout.covers[child] / self.layout.covers[node]
    }

    fn leaf(&self, tree: usize, node: usize, mut add: impl FnMut(usize, f64)) {
        let value = self.nodes.laid[node].value;
        match &self.layout.leaves {
            Leaves::Single(outputs) => add(outputs[tree] as usize, value.to_f64()),
            Leaves::Many { starts, weights } => {
                let (start, end) = (starts[value.index()] as usize, starts[value.index() + 1] as usize);
                weights[start..end].iter().for_each(|(output, value)| add(*output as usize, value.to_f64()));
            }
        }
    }
}

/// The first child, if it is no leaf.
fn children<T: Real, L: Link>(nodes: &Nodes<T, L>, node: usize) -> Option<usize> {
    let distance = nodes.laid[node].link.distance(nodes.mask);
    (distance > 0).then_some(node + distance)
}

/// `1 / n` for every length that a path may have: dividing is most of what there is to do.
fn shares(most: usize) -> Vec<f64> {
    (0..=most + 2).map(|n| 1.0 / n as f64).collect()
}

/// Adds a step: subsets with and without it.
fn extend(path: &mut Vec<Step>, last: Step, shares: &[f64]) {
    let length = path.len();
    path.push(Step { weight: if length == 0 { 1.0 } else { 0.0 }, ..last });
    let size = shares[length + 1];
    for at in (0..length).rev() {
        let weight = path[at].weight * size;
        path[at + 1].weight += last.one * weight * (at + 1) as f64;
        path[at].weight = last.zero * weight * (length - at) as f64;
    }
}

/// Takes a step out again.
fn unwind(path: &mut Vec<Step>, removed: usize, shares: &[f64]) {
    let length = path.len() - 1;
    let Step { zero, one, .. } = path[removed];
    let size = (length + 1) as f64;
    if one == 0.0 {
        let scale = size / zero;
        for at in 0..length {
            path[at].weight *= scale * shares[length - at];
        }
    } else {
        let (mut next, scale) = (path[length].weight, zero / size);
        for at in (0..length).rev() {
            let weight = path[at].weight;
            path[at].weight = next * size * shares[at + 1];
            next = weight - path[at].weight * scale * (length - at) as f64;
        }
    }
    for at in removed..length {
        path[at] = Step { weight: path[at].weight, ..path[at + 1] };
    }
    path.pop();
}

/// The sum of the weights that would be left without a step.
fn unwound(path: &[Step], removed: usize, shares: &[f64]) -> f64 {
    let length = path.len() - 1;
    let Step { zero, one, .. } = path[removed];
    let size = (length + 1) as f64;
    let below = path.iter().take(length).enumerate();
    if one == 0.0 {
        return below.map(|(at, step)| step.weight * shares[length - at]).sum::<f64>() * size / zero;
    }
    let (mut next, mut total, scale) = (path[length].weight, 0.0, zero / size);
    for (at, step) in below.rev() {
        let weight = next * size * shares[at + 1];
        total += weight;
        next = step.weight - weight * scale * (length - at) as f64;
    }
    total
}
