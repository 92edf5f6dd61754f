//! ONNX's attributes of tree ensembles, flat as `ai.onnx.ml` has them up to version 4 and nested as version 5 has them.

use std::collections::HashMap;

use super::plan::{Aggregate, Node, Plan, Test, Tree};
use crate::mlflow::native::fault::Fault;

/// What a node compares by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `BRANCH_LEQ`.
    AtMost,
    /// `BRANCH_LT`.
    Below,
    /// `BRANCH_GTE`.
    AtLeast,
    /// `BRANCH_GT`.
    Above,
    /// `BRANCH_EQ`.
    Equal,
    /// `BRANCH_NEQ`.
    Unequal,
    /// `BRANCH_MEMBER`, of version 5.
    Member,
    /// `LEAF`.
    Leaf,
}

/// `TreeEnsembleRegressor` and `TreeEnsembleClassifier`: node attributes run in parallel, and so do leaf attributes.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// `nodes_treeids`; the nodes of a tree may stand anywhere, the first is its root.
    pub tree_ids: Vec<i64>,
    /// `nodes_nodeids`, unique within a tree.
    pub node_ids: Vec<i64>,
    /// `nodes_featureids`; a leaf's is not looked at.
    pub feature_ids: Vec<i64>,
    /// `nodes_values`, or `nodes_values_as_tensor`.
    pub values: Vec<f64>,
    /// `nodes_modes`.
    pub modes: Vec<Mode>,
    /// `nodes_truenodeids`.
    pub true_ids: Vec<i64>,
    /// `nodes_falsenodeids`.
    pub false_ids: Vec<i64>,
    /// `nodes_missing_value_tracks_true`: one per node, or none.
    pub missing_true: Vec<bool>,
    /// `nodes_hitrates`: one per node, or none. Contributions need them, as counts of what went through each node.
    pub hit_rates: Vec<f64>,
    /// `target_treeids` or `class_treeids`.
    pub leaf_tree_ids: Vec<i64>,
    /// `target_nodeids` or `class_nodeids`.
    pub leaf_node_ids: Vec<i64>,
    /// `target_ids` or `class_ids`.
    pub leaf_outputs: Vec<i64>,
    /// `target_weights` or `class_weights`.
    pub leaf_weights: Vec<f64>,
    /// `n_targets`, or the number of classes.
    pub outputs: usize,
    /// `base_values`: one per output, or none.
    pub base_values: Vec<f64>,
    /// `aggregate_function`.
    pub aggregate: Aggregate,
}

/// `TreeEnsemble` of version 5: inner nodes and leaves apart, children by index.
#[derive(Clone, Debug, Default)]
pub struct NestedSpec {
    /// `tree_roots`: inner nodes.
    pub roots: Vec<i64>,
    /// `nodes_featureids`.
    pub feature_ids: Vec<i64>,
    /// `nodes_splits`.
    pub splits: Vec<f64>,
    /// `nodes_modes`; none is a leaf.
    pub modes: Vec<Mode>,
    /// `nodes_truenodeids`.
    pub true_ids: Vec<i64>,
    /// `nodes_falsenodeids`.
    pub false_ids: Vec<i64>,
    /// `nodes_trueleafs`: whether the child is a leaf.
    pub true_leaves: Vec<bool>,
    /// `nodes_falseleafs`.
    pub false_leaves: Vec<bool>,
    /// `nodes_missing_value_tracks_true`: one per node, or none.
    pub missing_true: Vec<bool>,
    /// `membership_values`: per member node its values, each ended by what is no number.
    pub members: Vec<f64>,
    /// `leaf_targetids`.
    pub leaf_outputs: Vec<i64>,
    /// `leaf_weights`.
    pub leaf_weights: Vec<f64>,
    /// `n_targets`.
    pub outputs: usize,
    /// `aggregate_function`.
    pub aggregate: Aggregate,
}

/// Where the nodes of flat attributes stand.
struct Places {
    /// Per node the number of its tree, and its own in there.
    owners: Vec<(usize, usize)>,
    trees: HashMap<i64, Stretch>,
    /// Nodes by tree and id, unless each tree's stand together and count from zero, as exporters write them.
    by_id: Option<HashMap<(i64, i64), usize>>,
}

/// The nodes of a tree.
struct Stretch {
    number: usize,
    first: usize,
    size: usize,
}

impl TryFrom<&[u8]> for Mode {
    type Error = Fault;

    /// From the name that the attribute has up to version 4.
    fn try_from(name: &[u8]) -> Result<Self, Fault> {
        Ok(match name {
            b"BRANCH_LEQ" => Self::AtMost,
            b"BRANCH_LT" => Self::Below,
            b"BRANCH_GTE" => Self::AtLeast,
            b"BRANCH_GT" => Self::Above,
            b"BRANCH_EQ" => Self::Equal,
            b"BRANCH_NEQ" => Self::Unequal,
            b"LEAF" => Self::Leaf,
            _ => return Err(Fault::new(format!("`{}` is no mode of a tree's node", name.escape_ascii()))),
        })
    }
}

impl TryFrom<u8> for Mode {
    type Error = Fault;

    /// From the number that the attribute has in version 5.
    fn try_from(number: u8) -> Result<Self, Fault> {
        Ok(match number {
            0 => Self::AtMost,
            1 => Self::Below,
            2 => Self::AtLeast,
            3 => Self::Above,
            4 => Self::Equal,
            5 => Self::Unequal,
            6 => Self::Member,
            _ => return Err(Fault::new(format!("{number} is no mode of a tree's node"))),
        })
    }
}

impl Places {
    fn find(&self, tree: i64, node: i64) -> Option<usize> {
        if let Some(by_id) = &self.by_id {
            return by_id.get(&(tree, node)).copied();
        }
        let stretch = self.trees.get(&tree)?;
        usize::try_from(node).ok().filter(|node| *node < stretch.size).map(|node| stretch.first + node)
    }
}

impl Spec {
    pub(super) fn plan(&self) -> Result<Plan, Fault> {
        self.check_lengths()?;
        let places = self.places()?;
        let mut trees: Vec<Tree> = Vec::new();
        let mut leaf_weights = self.weights(&places)?;
        for (node, &(tree, _)) in places.owners.iter().enumerate() {
            if tree == trees.len() {
                trees.push(Tree::default());
            }
            let made = &mut trees[tree];
            let laid = if self.modes[node] == Mode::Leaf {
                let start = made.weights.len();
                made.weights.append(&mut leaf_weights[node]);
                Node::Leaf { start, end: made.weights.len() }
            } else {
                let child = |id: i64| {
                    let found = places.find(self.tree_ids[node], id).map(|child| places.owners[child].1);
                    found.ok_or_else(|| Fault::new(format!("tree {} has no node {id}", self.tree_ids[node])))
                };
                split(
                    self.modes[node],
                    self.feature_ids[node],
                    Threshold { value: self.values[node], members: Vec::new() },
                    (child(self.true_ids[node])?, child(self.false_ids[node])?),
                    self.missing_true.get(node).copied().unwrap_or(false),
                )?
            };
            made.nodes.push(laid);
            made.covers.extend(self.hit_rates.get(node));
        }
        drop_false_covers(&mut trees);
        Ok(Plan { trees, outputs: self.outputs, base_values: self.base_values.clone(), aggregate: self.aggregate })
    }

    fn check_lengths(&self) -> Result<(), Fault> {
        let nodes = self.node_ids.len();
        same("nodes_treeids", self.tree_ids.len(), nodes)?;
        same("nodes_featureids", self.feature_ids.len(), nodes)?;
        same("nodes_values", self.values.len(), nodes)?;
        same("nodes_modes", self.modes.len(), nodes)?;
        same("nodes_truenodeids", self.true_ids.len(), nodes)?;
        same("nodes_falsenodeids", self.false_ids.len(), nodes)?;
        same_or_none("nodes_missing_value_tracks_true", self.missing_true.len(), nodes)?;
        same_or_none("nodes_hitrates", self.hit_rates.len(), nodes)?;
        let leaves = self.leaf_weights.len();
        same("the leaves' tree ids", self.leaf_tree_ids.len(), leaves)?;
        same("the leaves' node ids", self.leaf_node_ids.len(), leaves)?;
        same("the leaves' outputs", self.leaf_outputs.len(), leaves)
    }

    fn places(&self) -> Result<Places, Fault> {
        let mut trees: HashMap<i64, Stretch> = HashMap::new();
        let mut owners = Vec::with_capacity(self.node_ids.len());
        let mut is_regular = true;
        for (at, (tree, node)) in self.tree_ids.iter().zip(&self.node_ids).enumerate() {
            let next = Stretch { number: trees.len(), first: at, size: 0 };
            let stretch = trees.entry(*tree).or_insert(next);
            is_regular &= stretch.first + stretch.size == at && usize::try_from(*node) == Ok(stretch.size);
            owners.push((stretch.number, stretch.size));
            stretch.size += 1;
        }
        let by_id = if is_regular { None } else { Some(self.by_id()?) };
        Ok(Places { owners, trees, by_id })
    }

    fn by_id(&self) -> Result<HashMap<(i64, i64), usize>, Fault> {
        let mut by_id = HashMap::with_capacity(self.node_ids.len());
        for (at, (tree, node)) in self.tree_ids.iter().zip(&self.node_ids).enumerate() {
            if by_id.insert((*tree, *node), at).is_some() {
                return Err(Fault::new(format!("tree {tree} has two nodes {node}")));
            }
        }
        Ok(by_id)
    }

    /// Per node what it adds when it is a leaf.
    fn weights(&self, places: &Places) -> Result<Vec<Vec<(u32, f64)>>, Fault> {
        let mut weights = vec![Vec::new(); self.node_ids.len()];
        for (leaf, weight) in self.leaf_weights.iter().enumerate() {
            let (tree, node) = (self.leaf_tree_ids[leaf], self.leaf_node_ids[leaf]);
            let Some(place) = places.find(tree, node) else {
                return Err(Fault::new(format!("weights are for node {node} of tree {tree}, which is not there")));
            };
            // Converters write weights for inner nodes too, which nothing ever adds.
            if self.modes[place] == Mode::Leaf {
                weights[place].push((output(self.leaf_outputs[leaf])?, *weight));
            }
        }
        Ok(weights)
    }
}

impl NestedSpec {
    /// As flat attributes. Inner nodes keep their numbers and leaves stand behind them, so that all trees share one numbering.
    pub(super) fn plan(&self) -> Result<Plan, Fault> {
        self.check_lengths()?;
        let sets = self.sets()?;
        let mut used = vec![false; self.splits.len() + self.leaf_weights.len()];
        let trees = self.roots.iter().map(|root| self.tree(*root, &sets, &mut used)).collect::<Result<Vec<_>, _>>()?;
        if let Some(node) = used.iter().position(|used| !used) {
            let (what, node) = if node < self.splits.len() { ("node", node) } else { ("leaf", node - self.splits.len()) };
            return Err(Fault::new(format!("{what} {node} is not reached from any root")));
        }
        Ok(Plan { trees, outputs: self.outputs, base_values: Vec::new(), aggregate: self.aggregate })
    }

    fn check_lengths(&self) -> Result<(), Fault> {
        let nodes = self.splits.len();
        same("nodes_featureids", self.feature_ids.len(), nodes)?;
        same("nodes_modes", self.modes.len(), nodes)?;
        same("nodes_truenodeids", self.true_ids.len(), nodes)?;
        same("nodes_falsenodeids", self.false_ids.len(), nodes)?;
        same("nodes_trueleafs", self.true_leaves.len(), nodes)?;
        same("nodes_falseleafs", self.false_leaves.len(), nodes)?;
        same_or_none("nodes_missing_value_tracks_true", self.missing_true.len(), nodes)?;
        same("leaf_targetids", self.leaf_outputs.len(), self.leaf_weights.len())
    }

    /// Per member node its values.
    fn sets(&self) -> Result<Vec<Vec<f64>>, Fault> {
        let mut rest = self.members.split(|value| value.is_nan());
        let mut set = |mode: &Mode| {
            let next = if *mode == Mode::Member { rest.next() } else { Some(&[][..]) };
            next.map(<[f64]>::to_vec).ok_or_else(|| Fault::new("membership_values has fewer sets than there are member nodes"))
        };
        self.modes.iter().map(&mut set).collect()
    }

    /// The tree below a root; no node may be in two.
    fn tree(&self, root: i64, sets: &[Vec<f64>], used: &mut [bool]) -> Result<Tree, Fault> {
        let mut tree = Tree::default();
        // A single leaf is written as a node whose children are the same leaf.
        let mut open = vec![self.place(root, false)?];
        let mut next = 0;
        while let Some(&place) = open.get(next) {
            next += 1;
            let Some(node) = self.modes.get(place) else {
                let leaf = place - self.splits.len();
                used[place] = true;
                let start = tree.weights.len();
                tree.weights.push((output(self.leaf_outputs[leaf])?, self.leaf_weights[leaf]));
                tree.nodes.push(Node::Leaf { start, end: start + 1 });
                continue;
            };
            if std::mem::replace(&mut used[place], true) {
                return Err(Fault::new(format!("node {place} has two parents, or is above itself")));
            }
            let children = (open.len(), open.len() + 1);
            open.push(self.place(self.true_ids[place], self.true_leaves[place])?);
            open.push(self.place(self.false_ids[place], self.false_leaves[place])?);
            let threshold = Threshold { value: self.splits[place], members: sets[place].clone() };
            let missing = self.missing_true.get(place).copied().unwrap_or(false);
            tree.nodes.push(split(*node, self.feature_ids[place], threshold, children, missing)?);
        }
        Ok(tree)
    }

    fn place(&self, id: i64, is_leaf: bool) -> Result<usize, Fault> {
        let (first, count) = if is_leaf { (self.splits.len(), self.leaf_weights.len()) } else { (0, self.splits.len()) };
        let found = usize::try_from(id).ok().filter(|id| *id < count).map(|id| first + id);
        found.ok_or_else(|| Fault::new(format!("there is no {} {id}", if is_leaf { "leaf" } else { "node" })))
    }
}

/// What a node compares with.
struct Threshold {
    value: f64,
    members: Vec<f64>,
}

fn split(mode: Mode, feature: i64, with: Threshold, (yes, no): (usize, usize), missing: bool) -> Result<Node, Fault> {
    let feature = u32::try_from(feature).map_err(|_| Fault::new(format!("{feature} is no feature")))?;
    // `>=` is `<` with the children swapped, for all but missing values, whose way does not change.
    let (test, swapped, missing) = match mode {
        Mode::AtMost => (Test::AtMost(with.value), false, missing),
        Mode::Below => (Test::Below(with.value), false, missing),
        Mode::AtLeast => (Test::Below(with.value), true, missing),
        Mode::Above => (Test::AtMost(with.value), true, missing),
        Mode::Equal => (Test::Equal(with.value), false, missing),
        // What is no number is unequal to all.
        Mode::Unequal => (Test::Equal(with.value), true, true),
        Mode::Member => (Test::Member(with.members), false, missing),
        Mode::Leaf => return Err(Fault::new("a leaf stands among the inner nodes")),
    };
    let (yes, no, missing) = if swapped { (no, yes, !missing) } else { (yes, no, missing) };
    Ok(Node::Split { feature, test, yes, no, missing })
}

/// Exporters that know no counts write ones: children that do not add up to their parents are no counts.
fn drop_false_covers(trees: &mut [Tree]) {
    for tree in trees {
        let covers = &tree.covers;
        let adds_up = |(at, node): (usize, &Node)| match node {
            Node::Leaf { .. } => true,
            Node::Split { yes, no, .. } => match (covers.get(at), covers.get(*yes), covers.get(*no)) {
                (Some(all), Some(yes), Some(no)) => (yes + no - all).abs() <= 0.01 * all.abs(),
                _ => false,
            },
        };
        if !tree.nodes.iter().enumerate().all(adds_up) {
            tree.covers.clear();
        }
    }
}

fn output(id: i64) -> Result<u32, Fault> {
    u32::try_from(id).map_err(|_| Fault::new(format!("{id} is no output")))
}

fn same(what: &str, length: usize, expected: usize) -> Result<(), Fault> {
    if length == expected { Ok(()) } else { Err(Fault::new(format!("{what} has {length} values where {expected} belong"))) }
}

fn same_or_none(what: &str, length: usize, expected: usize) -> Result<(), Fault> {
    if length == 0 { Ok(()) } else { same(what, length, expected) }
}
