//! XGBoost's own model files: JSON and UBJSON, of `gbtree` and `dart`.
//!
//! Categories are expected as the codes that the model was trained on. XGBoost compares in 32 bits, and so does this.

use super::{
    document::{Document, whole},
    forest::Forest,
    model::{Engine, Model, Task, features},
    plan::{MAX_OUTPUTS, Node, Plan, Test, Tree},
    transform::Transform,
    ubjson,
};
use crate::mlflow::native::fault::Fault;

/// Which rounds of boosting answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounds {
    /// All, as a `Booster` predicts.
    #[default]
    All,
    /// Up to the best one, if training stopped early, as the scikit-learn classes predict.
    Best,
}

/// What an objective means: its answer's form, and the margin of a base score.
struct Objective {
    transform: Transform,
    task: Task,
    margin: fn(f64) -> f64,
}

/// The arrays of one tree.
struct Arrays<'a> {
    left: &'a [f64],
    right: &'a [f64],
    feature: &'a [f64],
    condition: &'a [f64],
    default_left: Vec<bool>,
    /// Per node the categories that lead right; empty where it splits by number.
    categories: Vec<Option<Vec<f64>>>,
    cover: Option<&'a [f64]>,
}

/// What a tree's leaves add to, and how much of it.
struct Adds<'a> {
    output: u32,
    weight: f64,
    /// Per leaf a value for every output, and whether leaves number them or nodes do.
    vectors: Option<(&'a [f64], usize, bool)>,
}

/// Reads a model in either form.
///
/// # Errors
/// What is wrong with the file, or not supported, by name.
pub fn read(bytes: &[u8], rounds: Rounds) -> Result<Model, Fault> {
    let mut shown = bytes.iter().filter(|byte| !byte.is_ascii_whitespace());
    let document = match (shown.next(), shown.next()) {
        // In JSON a quote follows the first brace, in UBJSON a length.
        (Some(b'{'), Some(b'"' | b'}')) => Document::from_json(bytes)?,
        (Some(b'{'), _) => ubjson::read(bytes)?,
        _ => return Err(Fault::broken("no model of XGBoost: it is neither JSON nor UBJSON")),
    };
    model(&document, rounds).map_err(|fault| fault.within("no model of XGBoost"))
}

fn model(document: &Document, rounds: Rounds) -> Result<Model, Fault> {
    let learner = document.field("learner").map_err(|fault| Fault::broken(fault.to_string()))?;
    let params = learner.field("learner_model_param")?;
    let name = learner.field("objective")?.text("name")?;
    let objective = objective(name)?;
    let optional = |name: &str| if params.find(name).is_some() { params.count(name) } else { Ok(0) };
    let outputs = optional("num_class")?.max(optional("num_target")?).max(1);
    if outputs > MAX_OUTPUTS {
        return Err(Fault::new(format!("{outputs} outputs are more than {MAX_OUTPUTS}")));
    }
    let told = params.count("num_feature")?;
    let plan = Plan {
        trees: trees(learner, outputs, rounds)?,
        outputs,
        base_values: base_values(params, outputs, objective.margin)?,
        ..Plan::default()
    };
    let forest = Forest::<f32>::of(&plan)?;
    let features = features(told, forest.features())?;
    Ok(Model {
        engine: Engine::Single(forest),
        share: 1.0,
        transform: objective.transform,
        task: objective.task,
        objective: name.to_owned(),
        features,
        feature_names: names(learner),
    })
}

fn names(learner: &Document) -> Vec<String> {
    let names = learner.list("feature_names").unwrap_or_default();
    names.iter().filter_map(|name| if let Document::Text(name) = name { Some(name.clone()) } else { None }).collect()
}

fn objective(name: &str) -> Result<Objective, Fault> {
    let logit = |p: f64| -(1.0 / p - 1.0).ln();
    let same = |p: f64| p;
    let (transform, task, margin): (_, _, fn(f64) -> f64) = match name {
        "reg:squarederror" | "reg:linear" | "reg:squaredlogerror" | "reg:pseudohubererror" | "reg:absoluteerror" | "reg:quantileerror" => {
            (Transform::Identity, Task::Regression, same)
        }
        "reg:logistic" => (Transform::Sigmoid(1.0), Task::Regression, logit),
        "reg:gamma" | "reg:tweedie" | "count:poisson" | "survival:cox" | "survival:aft" => (Transform::Exp, Task::Regression, f64::ln),
        "binary:logistic" => (Transform::Sigmoid(1.0), Task::Binary, logit),
        "binary:logitraw" => (Transform::Identity, Task::Binary, same),
        "binary:hinge" => (Transform::Step, Task::Binary, same),
        "multi:softprob" => (Transform::Softmax, Task::Multiclass, same),
        "multi:softmax" => (Transform::ArgMax, Task::Multiclass, same),
        "rank:pairwise" | "rank:ndcg" | "rank:map" => (Transform::Identity, Task::Ranking, same),
        _ => return Err(Fault::new(format!("the objective `{name}` is not supported"))),
    };
    Ok(Objective { transform, task, margin })
}

/// One number for all, as versions before 3.1 write, or a list in a text.
fn base_values(params: &Document, outputs: usize, margin: fn(f64) -> f64) -> Result<Vec<f64>, Fault> {
    let text = params.text("base_score")?;
    let parse = |text: &str| text.trim().parse::<f64>().map_err(|_| Fault::new(format!("`{text}` is no base_score")));
    let scores = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(list) => list.split(',').map(parse).collect::<Result<Vec<_>, _>>()?,
        None => vec![parse(text)?],
    };
    let scores: Vec<f64> = scores.into_iter().map(margin).collect();
    match scores.len() {
        1 => Ok(vec![scores[0]; outputs]),
        count if count == outputs => Ok(scores),
        count => Err(Fault::new(format!("base_score has {count} values for {outputs} outputs"))),
    }
}

fn trees(learner: &Document, outputs: usize, rounds: Rounds) -> Result<Vec<Tree>, Fault> {
    let booster = learner.field("gradient_booster")?;
    let (model, weights) = match booster.text("name")? {
        "gbtree" => (booster.field("model")?, None),
        "dart" => (booster.field("gbtree")?.field("model")?, Some(booster.numbers("weight_drop")?)),
        name => return Err(Fault::new(format!("the booster `{name}` is not supported; it has no trees"))),
    };
    let (trees, groups) = (model.list("trees")?, model.numbers("tree_info")?);
    if groups.len() != trees.len() || weights.is_some_and(|weights| weights.len() != trees.len()) {
        return Err(Fault::new("`tree_info` or `weight_drop` has more or fewer values than there are trees"));
    }
    let used = match rounds {
        Rounds::All => trees.len(),
        Rounds::Best => best(learner, model, trees.len(), outputs)?,
    };
    let made = trees.iter().take(used).enumerate().map(|(at, document)| {
        let output = whole(groups[at]).and_then(|group| u32::try_from(group).ok());
        let output = output.ok_or_else(|| Fault::new("a value of `tree_info` is no group"))?;
        tree(document, output, weights.map_or(1.0, |weights| weights[at]), outputs)
    });
    made.enumerate().map(|(at, tree)| tree.map_err(|fault| fault.within(&format!("tree {at}")))).collect()
}

/// How many trees there are up to the best round.
fn best(learner: &Document, model: &Document, trees: usize, outputs: usize) -> Result<usize, Fault> {
    let Some(attributes) = learner.find("attributes").filter(|attributes| attributes.find("best_iteration").is_some()) else {
        return Ok(trees);
    };
    let round = attributes.count("best_iteration")? + 1;
    let end = match model.find("iteration_indptr") {
        Some(_) => model.numbers("iteration_indptr")?.get(round).copied().and_then(whole),
        None => model
            .field("gbtree_model_param")?
            .count("num_parallel_tree")?
            .max(1)
            .checked_mul(outputs)
            .and_then(|each| each.checked_mul(round)),
    };
    end.filter(|end| *end <= trees).ok_or_else(|| Fault::new(format!("the best round, {round}, is none")))
}

fn tree(document: &Document, output: u32, weight: f64, outputs: usize) -> Result<Tree, Fault> {
    let arrays = arrays(document)?;
    let size = document
        .field("tree_param")?
        .find("size_leaf_vector")
        .map_or(Ok(1), |_| document.field("tree_param")?.count("size_leaf_vector"))?;
    let vectors = if size <= 1 {
        None
    } else if size == outputs {
        // Leaves have a list of their own since 3.1; before, every node has a vector.
        let own = document.find("leaf_weights").is_some();
        Some((document.numbers(if own { "leaf_weights" } else { "base_weights" })?, size, own))
    } else {
        return Err(Fault::new(format!("leaves have {size} values for {outputs} outputs")));
    };
    arrays.tree(&Adds { output, weight, vectors })
}

fn arrays(document: &Document) -> Result<Arrays<'_>, Fault> {
    let left = document.numbers("left_children")?;
    let nodes = left.len();
    let sized = |name: &str| {
        let numbers = document.numbers(name)?;
        if numbers.len() < nodes {
            Err(Fault::new(format!("`{name}` has {} values for {nodes} nodes", numbers.len())))
        } else {
            Ok(numbers)
        }
    };
    let default_left = match document.field("default_left")? {
        Document::Numbers(flags) => flags.iter().map(|flag| *flag != 0.0).collect(),
        Document::List(flags) => flags.iter().map(|flag| *flag == Document::Flag(true)).collect(),
        _ => return Err(Fault::new("`default_left` is no list")),
    };
    Ok(Arrays {
        left,
        right: sized("right_children")?,
        feature: sized("split_indices")?,
        condition: sized("split_conditions")?,
        default_left,
        categories: categories(document, nodes)?,
        cover: sized("sum_hessian").ok(),
    })
}

/// The categories of nodes that split by them: per node a segment of one list. Versions before 1.3 have none.
fn categories(document: &Document, nodes: usize) -> Result<Vec<Option<Vec<f64>>>, Fault> {
    let mut sets = vec![None; nodes];
    if document.find("categories_nodes").is_none() {
        return Ok(sets);
    }
    let (all, starts) = (document.numbers("categories")?, document.numbers("categories_segments")?);
    let sizes = document.numbers("categories_sizes")?;
    let mut taken = 0;
    for (at, node) in document.numbers("categories_nodes")?.iter().enumerate() {
        let range = |start: &f64, size: &f64| Some((whole(*start)?, whole(*size)?));
        let segment = starts.get(at).zip(sizes.get(at)).and_then(|(start, size)| range(start, size));
        let set = segment.and_then(|(start, size)| all.get(start..start.checked_add(size)?));
        // Segments follow each other: none is given to many nodes to make little much.
        taken += set.map_or(0, <[f64]>::len);
        match (set, whole(*node).and_then(|node| sets.get_mut(node))) {
            (Some(set), Some(place @ None)) if taken <= all.len() => *place = Some(set.to_vec()),
            _ => return Err(Fault::new("the categories of a node are not where they should be")),
        }
    }
    Ok(sets)
}

impl Arrays<'_> {
    /// The nodes from the root on; nodes that pruning left behind are not reached, and not taken over.
    fn tree(mut self, adds: &Adds<'_>) -> Result<Tree, Fault> {
        let mut tree = Tree::default();
        let mut order = vec![0];
        let mut next = 0;
        while let Some(&node) = order.get(next) {
            next += 1;
            if order.len() > self.left.len() {
                return Err(Fault::new("a node has two parents, or is above itself"));
            }
            let left = *self.left.get(node).ok_or_else(|| Fault::new(format!("there is no node {node}")))?;
            if let Some(cover) = self.cover {
                tree.covers.push(cover[node]);
            }
            tree.nodes.push(if left == -1.0 {
                self.leaf(node, adds, &mut tree.weights)?
            } else {
                let children = whole(left).zip(whole(self.right[node]));
                let (left, right) = children.ok_or_else(|| Fault::new(format!("the children of node {node} are none")))?;
                order.extend([left, right]);
                self.split(node, order.len() - 2)?
            });
        }
        Ok(tree)
    }

    fn split(&mut self, node: usize, first: usize) -> Result<Node, Fault> {
        let feature = whole(self.feature[node]).and_then(|feature| u32::try_from(feature).ok());
        let feature = feature.ok_or_else(|| Fault::new(format!("the feature of node {node} is none")))?;
        let left_by_default = self.default_left.get(node).copied().unwrap_or(false);
        let (left, right) = (first, first + 1);
        Ok(match self.categories[node].take() {
            // Its categories lead right, all others left.
            Some(set) => Node::Split { feature, test: Test::Category(set), yes: right, no: left, missing: !left_by_default },
            None => Node::Split { feature, test: Test::Below(self.condition[node]), yes: left, no: right, missing: left_by_default },
        })
    }

    fn leaf(&self, node: usize, adds: &Adds<'_>, weights: &mut Vec<(u32, f64)>) -> Result<Node, Fault> {
        let start = weights.len();
        match adds.vectors {
            None => weights.push((adds.output, self.condition[node] * adds.weight)),
            Some((values, size, by_leaf)) => {
                let place = if by_leaf { whole(self.right[node]) } else { Some(node) };
                let range = place.and_then(|place| Some((place.checked_mul(size)?, place.checked_add(1)?.checked_mul(size)?)));
                let vector = range.and_then(|(from, to)| values.get(from..to)).ok_or_else(|| Fault::new("a leaf has no values"))?;
                // Each has values of its own: none are given to many leaves to make little much.
                if start + vector.len() > values.len() {
                    return Err(Fault::new("two leaves have the same values"));
                }
                weights.extend((0..).zip(vector).map(|(output, value)| (output, value * adds.weight)));
            }
        }
        Ok(Node::Leaf { start, end: weights.len() })
    }
}
