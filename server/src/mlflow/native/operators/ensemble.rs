//! Tree ensembles: the attributes of their operators, and what is made of the forest's scores. The quirks are ONNX Runtime's.

use std::collections::HashSet;

use crate::mlflow::native::{
    bounds::{Stop, room},
    fault::Fault,
    operators::{
        cast::convert,
        classes::{NUMBERS, Second, Transform, best, doubles, singles},
    },
    site::{Built, Given, Site},
    tensor::{Element, Tensor, Type},
    trees::{Aggregate, Forest, Mode, NestedSpec, Real, Spec},
    value::{Kind, Labels, Value},
};

/// Trees that compare in the precision of their input.
enum Trees {
    Single(Forest<f32>),
    Double(Forest<f64>),
}

/// How the one score of two classes is read.
#[derive(Clone, Copy)]
struct Margin {
    /// Above it is the second class.
    above: f64,
    second: Second,
}

impl Trees {
    fn new(site: &Site<'_>, mut spec: Spec) -> Result<Self, Fault> {
        if spec.outputs == 1 {
            one_weight_each(&mut spec);
        }
        match site.kind_of(0)? {
            Type::F64 => Forest::new(&spec).map(Self::Double),
            _ => Forest::new(&spec).map(Self::Single),
        }
    }

    fn nested(site: &Site<'_>, spec: &NestedSpec) -> Result<Self, Fault> {
        match site.kind_of(0)? {
            Type::F64 => Forest::nested(spec).map(Self::Double),
            _ => Forest::nested(spec).map(Self::Single),
        }
    }

    /// How many rows there are, and the scores of each.
    fn score(&self, given: &Given<'_>) -> Result<(usize, Vec<f64>), Fault> {
        let (tensor, stop) = (given.tensor(0)?, given.stop);
        match self {
            Self::Single(forest) if tensor.kind() != Type::F32 => score(forest, &convert(tensor, Type::F32)?, stop),
            Self::Single(forest) => score(forest, tensor, stop),
            Self::Double(forest) => score(forest, tensor, stop),
        }
    }
}

/// A leaf with several weights for the one score has the first of them.
fn one_weight_each(spec: &mut Spec) {
    let lengths = [spec.leaf_tree_ids.len(), spec.leaf_node_ids.len(), spec.leaf_outputs.len(), spec.leaf_weights.len()];
    if lengths.iter().any(|length| *length != lengths[0]) {
        return; // The forest says what is wrong.
    }
    let mut seen = HashSet::new();
    let leaves = spec.leaf_tree_ids.iter().zip(&spec.leaf_node_ids);
    let is_first: Vec<bool> = leaves.map(|(tree, node)| seen.insert((*tree, *node))).collect();
    for ids in [&mut spec.leaf_tree_ids, &mut spec.leaf_node_ids, &mut spec.leaf_outputs] {
        keep(ids, &is_first);
    }
    keep(&mut spec.leaf_weights, &is_first);
}

fn keep<T>(values: &mut Vec<T>, is_kept: &[bool]) {
    let mut kept = is_kept.iter();
    values.retain(|_| kept.next().copied().unwrap_or_default());
}

fn score<T: Real + Element>(forest: &Forest<T>, tensor: &Tensor, stop: &Stop) -> Result<(usize, Vec<f64>), Fault> {
    let (rows, width) = tensor.matrix()?;
    let mut scores = vec![T::default(); room::<f64>(&[rows, forest.outputs()])?];
    forest.score(tensor.values::<T>()?, width, &mut scores, stop)?;
    Ok((rows, scores.into_iter().map(Real::to_f64).collect()))
}

pub(crate) fn regressor(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(0, NUMBERS)?;
    let outputs = count(site, "n_targets")?;
    let aggregate = match site.text("aggregate_function")?.unwrap_or("SUM") {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => return Err(site.fault(format!("with aggregate_function `{other}` is not supported"))),
    };
    let transform = Transform::read(site)?;
    let trees = Trees::new(site, Spec { outputs, aggregate, ..spec(site, "target")? })?;
    Ok(Built::one(Type::F32, move |given| {
        let (rows, scores) = trees.score(given)?;
        singles(rows, outputs, &transformed(scores, outputs, transform, Second::Left))
    }))
}

/// The operator of version 5, whose answer is of its input's type.
pub(crate) fn ensemble(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(0, &[Type::F32, Type::F64])?;
    let kind = site.kind_of(0)?;
    let spec = nested_spec(site)?;
    let (outputs, transform) = (spec.outputs, Transform::numbered(site)?);
    let trees = Trees::nested(site, &spec)?;
    Ok(Built::one(kind, move |given| {
        let (rows, scores) = trees.score(given)?;
        let scores = transformed(scores, outputs, transform, Second::Left);
        match kind {
            Type::F64 => Tensor::of(vec![rows, outputs], scores),
            _ => singles(rows, outputs, &scores),
        }
    }))
}

pub(crate) fn classifier(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(0, NUMBERS)?;
    let (labels, transform) = (Labels::read(site, "classlabels_strings", "classlabels_int64s")?, Transform::read(site)?);
    let classes = labels.len();
    let mut spec = Spec { outputs: classes, ..spec(site, "class")? };
    let is_plain = spec.leaf_outputs.iter().all(|output| *output == 0) && spec.base_values.len() < 2 && transform != Transform::Probit;
    // In any other form ONNX Runtime leaves a score unset, or answers a number that is none of the labels.
    if classes < 2 || (classes == 2 && !is_plain) {
        return Err(site.fault("of two classes is supported where all `class_ids` are 0, with one base value at most, and not for fewer"));
    }
    let margin = margin(&mut spec);
    let (outputs, trees) = (spec.outputs, Trees::new(site, spec)?);
    Ok(Built::many(vec![Kind::Tensor(labels.kind()), Kind::Tensor(Type::F32)], move |given| {
        let (rows, scores) = trees.score(given)?;
        let chosen: Vec<usize> = match margin {
            Some(margin) => scores.iter().map(|score| usize::from(*score > margin.above)).collect(),
            None => scores.chunks_exact(outputs).map(best).collect(),
        };
        let scores = transformed(scores, outputs, transform, margin.map_or(Second::Left, |margin| margin.second));
        Ok(vec![Value::Tensor(labels.of(&chosen)), Value::Tensor(singles(rows, classes, &scores)?)])
    }))
}

/// Of two classes, leaves vote on one score, the second's: a probability if no weight is negative, else a margin.
fn margin(spec: &mut Spec) -> Option<Margin> {
    if spec.outputs != 2 {
        return None;
    }
    spec.outputs = 1;
    let is_probability = spec.leaf_weights.iter().all(|weight| *weight >= 0.0);
    Some(if is_probability { Margin { above: 0.5, second: Second::Rest } } else { Margin { above: 0.0, second: Second::Opposite } })
}

/// What becomes of the scores of each row.
fn transformed(scores: Vec<f64>, outputs: usize, transform: Transform, second: Second) -> Vec<f64> {
    if transform == Transform::None && second == Second::Left {
        return scores;
    }
    let (mut out, mut row) = (Vec::with_capacity(scores.len()), Vec::with_capacity(outputs + 1));
    for given in scores.chunks_exact(outputs) {
        row.clear();
        row.extend_from_slice(given);
        transform.apply(&mut row, second);
        out.extend_from_slice(&row);
    }
    out
}

/// The flat attributes. How many outputs there are, and how trees go together, is for who asks.
fn spec(site: &Site<'_>, leaves: &str) -> Result<Spec, Fault> {
    let modes = site.attribute("nodes_modes").map(|attribute| attribute.texts.iter().map(|mode| Mode::try_from(&mode[..])));
    Ok(Spec {
        tree_ids: site.ints("nodes_treeids"),
        node_ids: site.ints("nodes_nodeids"),
        feature_ids: site.ints("nodes_featureids"),
        values: reals(site, "nodes_values")?,
        modes: modes.into_iter().flatten().collect::<Result<_, _>>()?,
        true_ids: site.ints("nodes_truenodeids"),
        false_ids: site.ints("nodes_falsenodeids"),
        missing_true: flags(site, "nodes_missing_value_tracks_true"),
        hit_rates: reals(site, "nodes_hitrates")?,
        leaf_tree_ids: site.ints(&format!("{leaves}_treeids")),
        leaf_node_ids: site.ints(&format!("{leaves}_nodeids")),
        leaf_outputs: site.ints(&format!("{leaves}_ids")),
        leaf_weights: reals(site, &format!("{leaves}_weights"))?,
        base_values: reals(site, "base_values")?,
        ..Spec::default()
    })
}

fn nested_spec(site: &Site<'_>) -> Result<NestedSpec, Fault> {
    let modes = site.tensor("nodes_modes")?;
    let modes = modes.as_ref().map(|modes| modes.values::<u8>()).transpose()?.unwrap_or_default();
    let aggregate = match site.int("aggregate_function").unwrap_or(1) {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => return Err(site.fault(format!("with aggregate_function {other} is not supported"))),
    };
    let tensor = |name: &str| site.tensor(name)?.map_or_else(|| Ok(Vec::new()), |tensor| doubles(&tensor).map(|values| values.to_vec()));
    Ok(NestedSpec {
        roots: site.ints("tree_roots"),
        feature_ids: site.ints("nodes_featureids"),
        splits: tensor("nodes_splits")?,
        modes: modes.iter().map(|mode| Mode::try_from(*mode)).collect::<Result<_, _>>()?,
        true_ids: site.ints("nodes_truenodeids"),
        false_ids: site.ints("nodes_falsenodeids"),
        true_leaves: flags(site, "nodes_trueleafs"),
        false_leaves: flags(site, "nodes_falseleafs"),
        missing_true: flags(site, "nodes_missing_value_tracks_true"),
        members: tensor("membership_values")?,
        leaf_outputs: site.ints("leaf_targetids"),
        leaf_weights: tensor("leaf_weights")?,
        outputs: count(site, "n_targets")?,
        aggregate,
    })
}

/// Numbers of an attribute, in single precision, or in double as a tensor.
fn reals(site: &Site<'_>, name: &str) -> Result<Vec<f64>, Fault> {
    match site.tensor(&format!("{name}_as_tensor"))? {
        Some(tensor) => doubles(&tensor).map(|values| values.to_vec()),
        None => Ok(site.floats(name).into_iter().map(f64::from).collect()),
    }
}

fn flags(site: &Site<'_>, name: &str) -> Vec<bool> {
    site.ints(name).into_iter().map(|flag| flag != 0).collect()
}

fn count(site: &Site<'_>, name: &str) -> Result<usize, Fault> {
    let count = usize::try_from(site.int(name).unwrap_or(1)).ok().filter(|count| *count > 0);
    count.ok_or_else(|| site.fault(format!("has no sensible {name}")))
}
