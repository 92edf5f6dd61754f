//! LightGBM's text models, as `save_model` and `model_to_string` write them.
//!
//! Categories are expected as the numbers that the model was trained on. LightGBM compares in 64 bits, and so does this.

use std::{collections::HashMap, str::FromStr};

use super::{
    forest::Forest,
    model::{Engine, Model, Task, features},
    plan::{MAX_OUTPUTS, Node, Plan, Test, Tree},
    transform::Transform,
};
use crate::mlflow::native::fault::Fault;

/// A split by categories, in a decision's bits.
const BY_CATEGORY: u32 = 1;
/// Missing values go left.
const DEFAULT_LEFT: u32 = 2;

/// `name=value` lines up to an empty one.
struct Section<'a>(HashMap<&'a str, &'a str>);

/// The arrays of one tree.
struct Arrays {
    feature: Vec<u32>,
    threshold: Vec<f64>,
    decision: Vec<u32>,
    left: Vec<i64>,
    right: Vec<i64>,
    leaf: Vec<f64>,
    boundaries: Vec<usize>,
    bits: Vec<u32>,
    internal_count: Vec<f64>,
    leaf_count: Vec<f64>,
}

/// Reads a model.
///
/// # Errors
/// What is wrong with the file, or not supported, by name.
pub fn read(bytes: &[u8]) -> Result<Model, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|_| Fault::broken("no model of LightGBM: it is no text"))?;
    model(text).map_err(|fault| fault.within("no model of LightGBM"))
}

fn model(text: &str) -> Result<Model, Fault> {
    let mut lines = text.lines();
    if lines.next().map(str::trim) != Some("tree") {
        return Err(Fault::broken("it does not begin with `tree`"));
    }
    let head = Section::read(&mut lines);
    let outputs: usize = head.one("num_tree_per_iteration")?;
    if outputs == 0 || outputs > MAX_OUTPUTS {
        return Err(Fault::new(format!("`num_tree_per_iteration` is {outputs}")));
    }
    let trees = trees(lines, outputs)?;
    // Random forests say that answers are means.
    let share = if head.0.contains_key("average_output") { 1.0 / (trees.len() / outputs).max(1) as f64 } else { 1.0 };
    let plan = Plan { outputs, trees, ..Plan::default() };
    let forest = Forest::<f64>::of(&plan)?;
    let told = head.one::<usize>("max_feature_idx")?.saturating_add(1);
    let features = features(told, forest.features())?;
    let objective = head.0.get("objective").copied().unwrap_or("custom");
    let (transform, task) = objective_of(objective)?;
    let feature_names = head.0.get("feature_names").map(|names| names.split_whitespace().map(str::to_owned).collect()).unwrap_or_default();
    Ok(Model { engine: Engine::Double(forest), share, transform, task, objective: objective.to_owned(), features, feature_names })
}

fn trees<'a>(mut lines: impl Iterator<Item = &'a str>, outputs: usize) -> Result<Vec<Tree>, Fault> {
    let mut trees = Vec::new();
    while let Some(line) = lines.next() {
        if line.starts_with("end of trees") {
            return if trees.len() % outputs == 0 { Ok(trees) } else { Err(Fault::new("the last round lacks trees")) };
        }
        if !line.starts_with("Tree=") {
            continue;
        }
        let at = trees.len();
        let output = u32::try_from(at % outputs).unwrap_or(u32::MAX);
        let tree = tree(&Section::read(&mut lines), output);
        trees.push(tree.map_err(|fault| fault.within(&format!("tree {at}")))?);
    }
    Err(Fault::broken("it ends before `end of trees`"))
}

fn objective_of(line: &str) -> Result<(Transform, Task), Fault> {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or("custom");
    let words: Vec<&str> = words.collect();
    let sigmoid = || {
        let told = words.iter().find_map(|word| word.strip_prefix("sigmoid:")).map_or(Ok(1.0), str::parse);
        told.map(Transform::Sigmoid).map_err(|_| Fault::new("the objective's `sigmoid` is no number"))
    };
    Ok(match name {
        "regression" | "regression_l1" | "huber" | "fair" | "quantile" | "mape" if words.contains(&"sqrt") => {
            (Transform::SignedSquare, Task::Regression)
        }
        "regression" | "regression_l1" | "huber" | "fair" | "quantile" | "mape" | "custom" => (Transform::Identity, Task::Regression),
        "poisson" | "gamma" | "tweedie" => (Transform::Exp, Task::Regression),
        "cross_entropy" => (Transform::Sigmoid(1.0), Task::Regression),
        "cross_entropy_lambda" => (Transform::LogExp, Task::Regression),
        "binary" => (sigmoid()?, Task::Binary),
        "multiclass" => (Transform::Softmax, Task::Multiclass),
        "multiclassova" => (sigmoid()?, Task::Multiclass),
        "lambdarank" | "rank_xendcg" => (Transform::Identity, Task::Ranking),
        _ => return Err(Fault::new(format!("the objective `{name}` is not supported"))),
    })
}

fn tree(section: &Section<'_>, output: u32) -> Result<Tree, Fault> {
    if section.0.get("is_linear").is_some_and(|linear| linear.trim() != "0") {
        return Err(Fault::new("`linear_tree` is not supported: its leaves are models of their own"));
    }
    let leaves: usize = section.one("num_leaves")?;
    let leaf: Vec<f64> = section.list("leaf_value", leaves)?;
    if leaves == 1 {
        return Ok(Tree { covers: vec![1.0], ..Tree::constant(output, leaf[0]) });
    }
    let splits = leaves.checked_sub(1).ok_or_else(|| Fault::new("a tree has no leaves"))?;
    let by_category: usize = section.one("num_cat")?;
    let arrays = Arrays {
        feature: section.list("split_feature", splits)?,
        threshold: section.list("threshold", splits)?,
        decision: section.list("decision_type", splits)?,
        left: section.list("left_child", splits)?,
        right: section.list("right_child", splits)?,
        leaf,
        boundaries: if by_category > 0 { section.all("cat_boundaries")? } else { Vec::new() },
        bits: if by_category > 0 { section.all("cat_threshold")? } else { Vec::new() },
        internal_count: section.list("internal_count", splits).unwrap_or_default(),
        leaf_count: section.list("leaf_count", leaves).unwrap_or_default(),
    };
    arrays.tree(output)
}

impl Arrays {
    /// Splits keep their numbers, leaves stand behind them.
    fn tree(&self, output: u32) -> Result<Tree, Fault> {
        let mut made = Tree::default();
        let mut taken = 0;
        for at in 0..self.feature.len() {
            made.nodes.push(self.split(at, &mut taken)?);
        }
        for (at, value) in self.leaf.iter().enumerate() {
            made.nodes.push(Node::Leaf { start: at, end: at + 1 });
            made.weights.push((output, *value));
        }
        if self.internal_count.len() + self.leaf_count.len() == made.nodes.len() {
            made.covers = [&self.internal_count[..], &self.leaf_count[..]].concat();
        }
        Ok(made)
    }

    fn split(&self, at: usize, taken: &mut usize) -> Result<Node, Fault> {
        let (feature, threshold, decision) = (self.feature[at], self.threshold[at], self.decision[at]);
        let (yes, no) = (self.child(self.left[at])?, self.child(self.right[at])?);
        if decision & BY_CATEGORY != 0 {
            let set = self.categories(threshold, taken)?;
            return Ok(Node::Split { feature, test: Test::Truncated(set), yes, no, missing: false });
        }
        let left_by_default = decision & DEFAULT_LEFT != 0;
        Ok(match (decision >> 2) & 3 {
            // What is missing counts as zero.
            0 => Node::Split { feature, test: Test::AtMost(threshold), yes, no, missing: 0.0 <= threshold },
            1 => Node::Split { feature, test: Test::AtMostZeroMissing(threshold), yes, no, missing: left_by_default },
            2 => Node::Split { feature, test: Test::AtMost(threshold), yes, no, missing: left_by_default },
            _ => return Err(Fault::new(format!("the decision type {decision} is none"))),
        })
    }

    /// Splits count from zero up, leaves from -1 down.
    fn child(&self, child: i64) -> Result<usize, Fault> {
        let place = if child < 0 {
            usize::try_from(!child).ok().and_then(|leaf| leaf.checked_add(self.feature.len()))
        } else {
            usize::try_from(child).ok()
        };
        place.ok_or_else(|| Fault::new(format!("there is no node {child}")))
    }

    /// The categories of a set of bits, whose number stands in the threshold's place.
    fn categories(&self, threshold: f64, taken: &mut usize) -> Result<Vec<f64>, Fault> {
        let lost = || Fault::new("the categories of a node are not where they should be");
        let number = super::document::whole(threshold).ok_or_else(lost)?;
        let (start, end) = self.boundaries.get(number).zip(self.boundaries.get(number + 1)).ok_or_else(lost)?;
        let words = self.bits.get(*start..*end).ok_or_else(lost)?;
        // Each set belongs to one node: none is given to many to make little much.
        *taken += words.len();
        if *taken > self.bits.len() {
            return Err(lost());
        }
        let bits = (0..words.len() * 32).filter(|bit| words[bit / 32] >> (bit % 32) & 1 == 1);
        Ok(bits.map(|bit| bit as f64).collect())
    }
}

impl<'a> Section<'a> {
    fn read(lines: &mut impl Iterator<Item = &'a str>) -> Self {
        let lines = lines.map(str::trim).take_while(|line| !line.is_empty());
        Self(lines.map(|line| line.split_once('=').unwrap_or((line, ""))).collect())
    }

    fn get(&self, name: &str) -> Result<&'a str, Fault> {
        self.0.get(name).copied().ok_or_else(|| Fault::new(format!("`{name}` is missing")))
    }

    fn one<T: FromStr>(&self, name: &str) -> Result<T, Fault> {
        self.get(name)?.trim().parse().map_err(|_| Fault::new(format!("`{name}` is no number that it can be")))
    }

    fn all<T: FromStr>(&self, name: &str) -> Result<Vec<T>, Fault> {
        let parse = |word: &str| word.parse().map_err(|_| Fault::new(format!("`{name}` has `{word}`, which is no number that it can be")));
        self.get(name)?.split_whitespace().map(parse).collect()
    }

    fn list<T: FromStr>(&self, name: &str, count: usize) -> Result<Vec<T>, Fault> {
        let list = self.all(name)?;
        if list.len() == count { Ok(list) } else { Err(Fault::new(format!("`{name}` has {} values where {count} belong", list.len()))) }
    }
}
