//! How nodes lie in memory: level by level, siblings side by side, eight bytes each wherever they fit.
//!
//! A node is a threshold and a link: the distance to its first child, its feature, and where a missing value goes. The second child
//! lies behind the first, so a step is an addition and never a branch. A leaf's distance is zero and its feature one that never
//! compares: it steps onto itself, so lanes that end early wait for the others. Its value lies where a threshold would.

use super::{
    plan::{Node, Plan, Test, Tree},
    real::Real,
};
use crate::mlflow::native::fault::Fault;

/// What a forest's nodes compare by, where they are not all `x <= t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `x <= t`; leaves too.
    AtMost,
    /// The same, but zero counts as missing.
    AtMostZeroMissing,
    /// `x == t`.
    Equal,
    /// In the set of this place.
    Member,
    /// The whole part in the set of this place.
    Truncated,
    /// As that, and not below zero.
    Category,
}

/// A link in as few bits as it takes.
pub(super) trait Link: Copy {
    /// From the bits, which fit.
    fn new(bits: u64) -> Self;

    fn feature(self, shift: u32) -> usize;

    fn distance(self, mask: Self) -> usize;

    /// 1 when a missing value goes to the second child.
    fn missing(self) -> usize;
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Laid<T, L> {
    pub(super) value: T,
    pub(super) link: L,
}

/// All nodes of all trees.
#[derive(Clone, Debug)]
pub(super) struct Nodes<T, L> {
    pub(super) laid: Vec<Laid<T, L>>,
    pub(super) shift: u32,
    pub(super) mask: L,
}

/// Narrow where everything fits.
#[derive(Clone, Debug)]
pub(super) enum Width<T> {
    Narrow(Nodes<T, u32>),
    Wide(Nodes<T, u64>),
}

/// What leaves add: each tree to one output, from the node itself; or each leaf to any outputs, by a table.
#[derive(Clone, Debug)]
pub(super) enum Leaves<T> {
    Single(Vec<u32>),
    Many { starts: Vec<u32>, weights: Vec<(u32, T)> },
}

/// A forest's arrays.
#[derive(Clone, Debug)]
pub(super) struct Layout<T> {
    pub(super) width: Width<T>,
    /// One per node, or none when all are `AtMost`.
    pub(super) kinds: Vec<Kind>,
    /// Sorted members of each set.
    pub(super) sets: Vec<Vec<T>>,
    pub(super) roots: Vec<u32>,
    pub(super) leaves: Leaves<T>,
    /// One per node, or none.
    pub(super) covers: Vec<f64>,
    /// One more than the greatest feature that is asked for; leaves ask for this one.
    pub(super) features: usize,
}

/// A node before its bits are packed.
struct Loose<T> {
    value: T,
    distance: u64,
    feature: u64,
    missing: bool,
}

/// What grows while trees are laid out.
struct Builder<T> {
    loose: Vec<Loose<T>>,
    kinds: Vec<Kind>,
    sets: Vec<Vec<T>>,
    leaves: Leaves<T>,
    covers: Vec<f64>,
    sentinel: u64,
}

impl Link for u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the caller saw that they fit")]
    fn new(bits: u64) -> Self {
        bits as Self
    }

    #[inline]
    fn feature(self, shift: u32) -> usize {
        (self >> shift) as usize
    }

    #[inline]
    fn distance(self, mask: Self) -> usize {
        ((self & mask) >> 1) as usize
    }

    #[inline]
    fn missing(self) -> usize {
        (self & 1) as usize
    }
}

#[expect(clippy::cast_possible_truncation, reason = "distances and features were made from indices")]
impl Link for u64 {
    fn new(bits: u64) -> Self {
        bits
    }

    #[inline]
    fn feature(self, shift: u32) -> usize {
        (self >> shift) as usize
    }

    #[inline]
    fn distance(self, mask: Self) -> usize {
        ((self & mask) >> 1) as usize
    }

    #[inline]
    fn missing(self) -> usize {
        (self & 1) as usize
    }
}

impl<T: Real, L: Link> Nodes<T, L> {
    fn pack(loose: &[Loose<T>], distance_bits: u32) -> Self {
        let shift = distance_bits + 1;
        let pack = |node: &Loose<T>| Laid {
            value: node.value,
            link: L::new(u64::from(node.missing) | (node.distance << 1) | (node.feature << shift)),
        };
        Self { laid: loose.iter().map(pack).collect(), shift, mask: L::new((1 << shift) - 1) }
    }
}

impl<T: Real> Width<T> {
    fn pack(loose: &[Loose<T>], sentinel: u64) -> Self {
        let bits = |most: u64| u64::BITS - most.leading_zeros();
        let distance_bits = bits(loose.iter().map(|node| node.distance).max().unwrap_or(0));
        if 1 + distance_bits + bits(sentinel) <= u32::BITS {
            Self::Narrow(Nodes::pack(loose, distance_bits))
        } else {
            Self::Wide(Nodes::pack(loose, distance_bits))
        }
    }
}

impl<T: Real> Layout<T> {
    /// Lays out a checked plan.
    ///
    /// # Errors
    /// When a tree is none, or there are more nodes than 32 bits count.
    pub(super) fn new(plan: &Plan) -> Result<Self, Fault> {
        let features = features(plan);
        let mut builder = Builder {
            loose: Vec::new(),
            kinds: Vec::new(),
            sets: Vec::new(),
            leaves: if is_single(plan) { Leaves::Single(Vec::new()) } else { Leaves::Many { starts: vec![0], weights: Vec::new() } },
            covers: Vec::new(),
            sentinel: features as u64,
        };
        let mut roots = Vec::with_capacity(plan.trees.len());
        for (at, tree) in plan.trees.iter().enumerate() {
            roots.push(count(builder.loose.len())?);
            builder.add(tree).map_err(|fault| fault.within(&format!("tree {at}")))?;
        }
        let Builder { loose, mut kinds, sets, leaves, mut covers, sentinel } = builder;
        if kinds.iter().all(|kind| *kind == Kind::AtMost) {
            kinds.clear();
        }
        if plan.trees.iter().any(|tree| tree.covers.len() != tree.nodes.len()) {
            covers.clear();
        }
        count(loose.len())?;
        Ok(Self { width: Width::pack(&loose, sentinel), kinds, sets, roots, leaves, covers, features })
    }
}

impl<T: Real> Builder<T> {
    fn add(&mut self, tree: &Tree) -> Result<(), Fault> {
        let order = tree.order()?;
        // Where the next pair of children will lie, seen from the root.
        let mut children = 1;
        for (at, &node) in order.iter().enumerate() {
            match &tree.nodes[node] {
                Node::Split { feature, test, missing, .. } => {
                    let (kind, value) = self.lay(test)?;
                    let distance = (children - at) as u64;
                    // The first child is where `x > t` does not lead.
                    self.loose.push(Loose { value, distance, feature: u64::from(*feature), missing: !*missing });
                    self.kinds.push(kind);
                    children += 2;
                }
                Node::Leaf { start, end } => {
                    let value = self.leaf(&tree.weights[*start..*end])?;
                    self.loose.push(Loose { value, distance: 0, feature: self.sentinel, missing: false });
                    self.kinds.push(Kind::AtMost);
                }
            }
            self.covers.extend(tree.covers.get(node));
        }
        if let Leaves::Single(outputs) = &mut self.leaves {
            outputs.push(tree.weights.first().map_or(0, |(output, _)| *output));
        }
        Ok(())
    }

    /// The kind, and what lies in the threshold's place.
    fn lay(&mut self, test: &Test) -> Result<(Kind, T), Fault> {
        let (kind, values) = match test {
            Test::AtMost(value) => return Ok((Kind::AtMost, T::from_f64(*value))),
            Test::AtMostZeroMissing(value) => return Ok((Kind::AtMostZeroMissing, T::from_f64(*value))),
            Test::Equal(value) => return Ok((Kind::Equal, T::from_f64(*value))),
            // Nothing is below it, and no threshold says so.
            Test::Below(value) if *value == f64::NEG_INFINITY => (Kind::Member, &[][..]),
            Test::Below(value) => return Ok((Kind::AtMost, T::from_f64(*value).below())),
            Test::Member(values) => (Kind::Member, &values[..]),
            Test::Truncated(values) => (Kind::Truncated, &values[..]),
            Test::Category(values) => (Kind::Category, &values[..]),
        };
        let mut members: Vec<T> = values.iter().map(|value| T::from_f64(*value)).collect();
        members.sort_by(|a, b| a.to_f64().total_cmp(&b.to_f64()));
        self.sets.push(members);
        Ok((kind, T::from_index(count(self.sets.len() - 1)?)))
    }

    fn leaf(&mut self, added: &[(u32, f64)]) -> Result<T, Fault> {
        match &mut self.leaves {
            Leaves::Single(_) => Ok(T::from_f64(added.first().map_or(0.0, |(_, value)| *value))),
            Leaves::Many { starts, weights } => {
                weights.extend(added.iter().map(|(output, value)| (*output, T::from_f64(*value))));
                starts.push(count(weights.len())?);
                Ok(T::from_index(count(starts.len() - 2)?))
            }
        }
    }
}

fn features(plan: &Plan) -> usize {
    let nodes = plan.trees.iter().flat_map(|tree| &tree.nodes);
    let asked = nodes.filter_map(|node| if let Node::Split { feature, .. } = node { Some(*feature as usize + 1) } else { None });
    asked.max().unwrap_or(0)
}

/// Whether every tree's leaves add one weight each, to one output. The least and the greatest need to know of leaves that add none.
fn is_single(plan: &Plan) -> bool {
    plan.trees.iter().all(|tree| {
        let one_each = tree.nodes.iter().all(|node| if let Node::Leaf { start, end } = node { end - start == 1 } else { true });
        one_each && tree.weights.iter().all(|(output, _)| *output == tree.weights[0].0)
    })
}

fn count(number: usize) -> Result<u32, Fault> {
    u32::try_from(number).map_err(|_| Fault::new("the model has more nodes than 32 bits count"))
}
