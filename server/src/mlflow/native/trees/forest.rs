//! The forest: answers rows by walking trees in lanes, several at a time, so that the processor waits for none of them.
//!
//! Many rows walk one tree together, and one row walks many trees together. Rows are taken in blocks that stay in the nearest cache,
//! copied beside a last column that is no number: what leaves compare with.

use super::{
    contribution,
    layout::{Kind, Laid, Layout, Leaves, Link, Nodes, Width},
    plan::{Aggregate, Plan},
    real::Real,
    spec::{NestedSpec, Spec},
};
use crate::mlflow::native::{bounds::Stop, fault::Fault};

/// Walks at a time.
const LANES: usize = 8;
/// Values of one block of rows.
const BLOCK: usize = 8192;
/// Below this distance from zero LightGBM sees a zero.
const ZERO: f64 = 1e-35_f32 as f64;

/// Trees that were checked and laid out, comparing in one precision.
#[derive(Clone, Debug)]
pub struct Forest<T> {
    layout: Layout<T>,
    outputs: usize,
    base_values: Vec<T>,
    aggregate: Aggregate,
}

/// A block of rows, each `stride` apart.
struct Block<'a, T> {
    values: &'a [T],
    stride: usize,
    rows: usize,
}

impl<T: Real> Forest<T> {
    /// A forest of ONNX's attributes.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(spec: &Spec) -> Result<Self, Fault> {
        Self::of(&spec.plan()?)
    }

    /// A forest of the attributes that version 5 of ONNX's operators nests.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn nested(spec: &NestedSpec) -> Result<Self, Fault> {
        Self::of(&spec.plan()?)
    }

    /// A forest of plain trees.
    pub(super) fn of(plan: &Plan) -> Result<Self, Fault> {
        plan.check()?;
        let base_values = plan.base_values.iter().map(|value| T::from_f64(*value)).collect();
        Ok(Self { layout: Layout::new(plan)?, outputs: plan.outputs, base_values, aggregate: plan.aggregate })
    }

    /// How many scores a row gets.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// How many features a row must have at least.
    pub fn features(&self) -> usize {
        self.layout.features
    }

    /// How many trees there are.
    pub fn trees(&self) -> usize {
        self.layout.roots.len()
    }

    /// How many bytes the arrays take, nearly.
    pub fn bytes(&self) -> usize {
        let layout = &self.layout;
        let node = match &layout.width {
            Width::Narrow(nodes) => size_of::<Laid<T, u32>>() * nodes.laid.len(),
            Width::Wide(nodes) => size_of::<Laid<T, u64>>() * nodes.laid.len(),
        };
        let leaves = match &layout.leaves {
            Leaves::Single(outputs) => size_of_val(&outputs[..]),
            Leaves::Many { starts, weights } => size_of_val(&starts[..]) + size_of_val(&weights[..]),
        };
        let sets: usize = layout.sets.iter().map(|set| size_of_val(&set[..]) + size_of::<Vec<T>>()).sum();
        node + leaves + sets + layout.kinds.len() + size_of_val(&layout.covers[..])
    }

    /// Scores rows of `width` features, row after row: `outputs()` scores for each, overwriting `out`.
    ///
    /// # Errors
    /// When rows are too narrow, or lengths do not fit together, and when it is told to stop.
    pub fn score(&self, rows: &[T], width: usize, out: &mut [T], stop: &Stop) -> Result<(), Fault> {
        let count = self.rows(rows.len(), width, out.len())?;
        let start = if matches!(self.aggregate, Aggregate::Min | Aggregate::Max) { T::NAN } else { T::default() };
        out.fill(start);
        let stride = self.layout.features + 1;
        let block_rows = (BLOCK / stride).clamp(LANES, 16 * LANES).min(count.max(1));
        let mut scratch = vec![T::NAN; block_rows * stride];
        for at in (0..count).step_by(block_rows) {
            stop.check()?;
            let taken = block_rows.min(count - at);
            let mut has_missing = false;
            for (row, to) in scratch.chunks_exact_mut(stride).take(taken).enumerate() {
                let from = &rows[(at + row) * width..][..stride - 1];
                to[..stride - 1].copy_from_slice(from);
                has_missing |= from.iter().fold(false, |missing, value| missing | is_missing(*value));
            }
            let block = Block { values: &scratch, stride, rows: taken };
            self.walk(&block, has_missing, &mut out[at * self.outputs..][..taken * self.outputs]);
        }
        self.finish(out);
        Ok(())
    }

    /// What each feature adds to each output, for every row: per output one value per feature of the row and a last one, the mean over the
    /// training, which together are the score.
    ///
    /// # Errors
    /// As [`Self::score`], when there would be too many, and when the model does not tell how much of the training went where.
    pub fn contributions(&self, rows: &[T], width: usize, stop: &Stop) -> Result<Vec<f64>, Fault> {
        if matches!(self.aggregate, Aggregate::Min | Aggregate::Max) {
            return Err(Fault::new("contributions are of sums; these trees aggregate by MIN or MAX"));
        }
        let count = self.rows(rows.len(), width, rows.len().checked_div(width).unwrap_or(0).saturating_mul(self.outputs))?;
        let all = width.saturating_add(1).checked_mul(self.outputs).and_then(|row| row.checked_mul(count));
        let all = all.filter(|all| *all <= contribution::MOST);
        let all = all.ok_or_else(|| Fault::large(format!("the contributions would be more than {} values", contribution::MOST)))?;
        let mut out = vec![0.0; all];
        match &self.layout.width {
            Width::Narrow(nodes) => self.explain(nodes, (rows, width), &mut out, stop)?,
            Width::Wide(nodes) => self.explain(nodes, (rows, width), &mut out, stop)?,
        }
        Ok(out)
    }

    fn explain<L: Link>(&self, nodes: &Nodes<T, L>, (rows, width): (&[T], usize), out: &mut [f64], stop: &Stop) -> Result<(), Fault> {
        let (layout, size) = (&self.layout, (width + 1) * self.outputs);
        let scale = self.scale();
        let mut explainer = contribution::Explainer::new(layout, nodes)?;
        let means = explainer.means(self.outputs);
        for (row, out) in rows.chunks_exact(width.max(1)).zip(out.chunks_exact_mut(size.max(1))) {
            let go = |node: usize| {
                let laid = nodes.laid[node];
                row.get(laid.link.feature(nodes.shift)).map_or(0, |value| mixed(layout, node, laid, *value))
            };
            explainer.row(&go, width, out, stop)?;
            for (output, out) in out.chunks_exact_mut(width + 1).enumerate() {
                out.iter_mut().for_each(|value| *value *= scale);
                out[width] = means[output] * scale + self.base_values.get(output).map_or(0.0, |base| base.to_f64());
            }
        }
        Ok(())
    }

    /// How many rows there are.
    fn rows(&self, values: usize, width: usize, out: usize) -> Result<usize, Fault> {
        if width < self.layout.features {
            return Err(Fault::new(format!("rows have {width} features; the trees need {}", self.layout.features)));
        }
        // Without features a row is nothing; then the answers tell how many there are.
        let count = values.checked_div(width).unwrap_or(out / self.outputs);
        if count * width != values || count.checked_mul(self.outputs) != Some(out) {
            return Err(Fault::new(format!("{values} values are no rows of {width} features with {out} scores")));
        }
        Ok(count)
    }

    fn walk(&self, block: &Block<'_, T>, has_missing: bool, out: &mut [T]) {
        match &self.layout.width {
            Width::Narrow(nodes) => self.walk_by(nodes, block, has_missing, out),
            Width::Wide(nodes) => self.walk_by(nodes, block, has_missing, out),
        }
    }

    /// Takes the cheapest step that is right for these trees and rows.
    fn walk_by<L: Link>(&self, nodes: &Nodes<T, L>, block: &Block<'_, T>, has_missing: bool, out: &mut [T]) {
        let layout = &self.layout;
        if !layout.kinds.is_empty() {
            self.block(nodes, block, |at, node, value| mixed(layout, at, node, value), out);
        } else if has_missing {
            self.block(
                nodes,
                block,
                |_, node, value| usize::from(value > node.value) | (usize::from(is_missing(value)) & node.link.missing()),
                out,
            );
        } else {
            self.block(nodes, block, |_, node, value| usize::from(value > node.value), out);
        }
    }

    fn block<L: Link>(
        &self,
        nodes: &Nodes<T, L>,
        block: &Block<'_, T>,
        turn: impl Fn(usize, Laid<T, L>, T) -> usize + Copy,
        out: &mut [T],
    ) {
        let (roots, together) = (&self.layout.roots, block.rows - block.rows % LANES);
        for (tree, root) in roots.iter().enumerate() {
            for first in (0..together).step_by(LANES) {
                let starts = std::array::from_fn(|lane| (first + lane) * block.stride);
                let ends = lanes(nodes, block.values, starts, [*root as usize; LANES], turn);
                for (lane, end) in ends.into_iter().enumerate() {
                    self.collect(tree, nodes.laid[end].value, &mut out[(first + lane) * self.outputs..][..self.outputs]);
                }
            }
        }
        for row in together..block.rows {
            let out = &mut out[row * self.outputs..][..self.outputs];
            for (chunk, some) in roots.chunks(LANES).enumerate() {
                let at = std::array::from_fn(|lane| some[lane.min(some.len() - 1)] as usize);
                let ends = lanes(nodes, block.values, [row * block.stride; LANES], at, turn);
                for (lane, end) in ends.into_iter().take(some.len()).enumerate() {
                    self.collect(chunk * LANES + lane, nodes.laid[end].value, out);
                }
            }
        }
    }

    /// Takes over what a leaf adds.
    #[inline]
    fn collect(&self, tree: usize, leaf: T, out: &mut [T]) {
        match &self.layout.leaves {
            Leaves::Single(outputs) => self.merge(&mut out[outputs[tree] as usize], leaf),
            Leaves::Many { starts, weights } => {
                let (start, end) = (starts[leaf.index()] as usize, starts[leaf.index() + 1] as usize);
                for (output, value) in &weights[start..end] {
                    self.merge(&mut out[*output as usize], *value);
                }
            }
        }
    }

    #[inline]
    fn merge(&self, score: &mut T, value: T) {
        match self.aggregate {
            Aggregate::Sum | Aggregate::Average => *score += value,
            Aggregate::Min if is_missing(*score) || value < *score => *score = value,
            Aggregate::Max if is_missing(*score) || value > *score => *score = value,
            Aggregate::Min | Aggregate::Max => {}
        }
    }

    fn scale(&self) -> f64 {
        if self.aggregate == Aggregate::Average { 1.0 / (self.trees().max(1) as f64) } else { 1.0 }
    }

    fn finish(&self, out: &mut [T]) {
        match self.aggregate {
            Aggregate::Sum => {}
            Aggregate::Average => {
                let scale = self.scale();
                out.iter_mut().for_each(|score| *score = T::from_f64(score.to_f64() * scale));
            }
            Aggregate::Min | Aggregate::Max => {
                out.iter_mut().filter(|score| is_missing(**score)).for_each(|score| *score = T::default());
            }
        }
        if !self.base_values.is_empty() {
            for row in out.chunks_exact_mut(self.outputs) {
                row.iter_mut().zip(&self.base_values).for_each(|(score, base)| *score += *base);
            }
        }
    }
}

/// Walks until all lanes are at leaves.
#[inline]
fn lanes<T: Real, L: Link>(
    nodes: &Nodes<T, L>,
    values: &[T],
    starts: [usize; LANES],
    mut at: [usize; LANES],
    turn: impl Fn(usize, Laid<T, L>, T) -> usize,
) -> [usize; LANES] {
    loop {
        let mut moved = 0;
        for (at, start) in at.iter_mut().zip(starts) {
            let node = nodes.laid[*at];
            let value = values[start + node.link.feature(nodes.shift)];
            let distance = node.link.distance(nodes.mask);
            moved |= distance;
            *at += distance + turn(*at, node, value);
        }
        if moved == 0 {
            return at;
        }
    }
}

/// Which child, in a forest of several kinds.
fn mixed<T: Real, L: Link>(layout: &Layout<T>, at: usize, node: Laid<T, L>, value: T) -> usize {
    let kind = layout.kinds.get(at).copied().unwrap_or(Kind::AtMost);
    let is_zero = kind == Kind::AtMostZeroMissing && value.to_f64().abs() <= ZERO;
    if is_missing(value) || is_zero {
        return node.link.missing();
    }
    let holds = match kind {
        Kind::AtMost | Kind::AtMostZeroMissing => value <= node.value,
        Kind::Equal => value == node.value,
        Kind::Member => holds(&layout.sets[node.value.index()], value.to_f64()),
        Kind::Truncated => holds(&layout.sets[node.value.index()], value.to_f64().trunc()),
        Kind::Category => value.to_f64() >= 0.0 && holds(&layout.sets[node.value.index()], value.to_f64().trunc()),
    };
    usize::from(!holds)
}

fn holds<T: Real>(set: &[T], value: f64) -> bool {
    // Both zeros are one.
    let value = value + 0.0;
    set.binary_search_by(|member| (member.to_f64() + 0.0).total_cmp(&value)).is_ok()
}

#[inline]
fn is_missing<T: Real>(value: T) -> bool {
    value.partial_cmp(&value).is_none()
}
