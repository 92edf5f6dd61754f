//! Real models against what their libraries say: `testdata/<case>/`, written by `tests/interop/native_trees.py`.

use std::{fs, path::Path};

use super::{
    Aggregate, Forest, Mode, Model, NestedSpec, Real, Spec,
    document::{Document, whole},
    lightgbm,
    xgboost::{self, Rounds},
};
use crate::mlflow::native::Stop;

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/mlflow/native/trees/testdata");
const TOLERANCE: f64 = 1e-5;

/// What a library said to some rows.
struct Golden {
    width: usize,
    rows: Vec<f64>,
    document: Document,
}

impl Golden {
    fn read(case: &Path) -> Self {
        let document = Document::from_json(&fs::read(case.join("golden.json")).unwrap()).unwrap();
        let mut rows = document.numbers("rows").unwrap().to_vec();
        let width = document.count("width").unwrap();
        if document.find("infinite").is_some() {
            rows[..width].fill(f64::INFINITY);
            rows[width..2 * width].fill(f64::NEG_INFINITY);
        }
        Self { width, rows, document }
    }

    fn count(&self) -> usize {
        self.rows.len() / self.width
    }

    fn expect(&self, case: &str, name: &str, have: &[f64]) {
        let want = self.document.numbers(name).unwrap();
        assert_eq!(have.len(), want.len(), "{case}: {name}");
        for (at, (have, want)) in have.iter().zip(want).enumerate() {
            assert!((have - want).abs() <= TOLERANCE * want.abs().max(1.0), "{case}: {name}[{at}] is {have}, not {want}");
        }
    }
}

fn cases() -> impl Iterator<Item = (String, std::path::PathBuf)> {
    let mut paths: Vec<_> = fs::read_dir(CASES).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), path))
}

fn read(case: &Path, golden: &Golden) -> Option<Model> {
    let rounds = if golden.document.find("rounds").is_some() { Rounds::Best } else { Rounds::All };
    let bytes = |name: &str| fs::read(case.join(name)).ok();
    let boosted = bytes("model.json").or_else(|| bytes("model.ubj")).map(|bytes| xgboost::read(&bytes, rounds).unwrap());
    boosted.or_else(|| bytes("model.txt").map(|bytes| lightgbm::read(&bytes).unwrap()))
}

#[test]
fn models_answer_as_their_libraries() {
    let mut seen = 0;
    for (case, path) in cases() {
        let golden = Golden::read(&path);
        let Some(model) = read(&path, &golden) else { continue };
        seen += 1;
        assert_eq!(model.features(), golden.width, "{case}");
        golden.expect(&case, "raw", &model.raw(&golden.rows, &Stop::default()).unwrap());
        golden.expect(&case, "predict", &model.predict(&golden.rows, &Stop::default()).unwrap());
        // One row by itself takes another way through the trees, to the same numbers.
        let alone: Vec<f64> = golden.rows.chunks(golden.width).flat_map(|row| model.raw(row, &Stop::default()).unwrap()).collect();
        assert_eq!(alone, model.raw(&golden.rows, &Stop::default()).unwrap(), "{case}");
    }
    assert!(seen >= 40, "{seen} models");
}

#[test]
fn contributions_are_the_libraries_and_add_up() {
    for (case, path) in cases() {
        let golden = Golden::read(&path);
        let Some(model) = read(&path, &golden) else { continue };
        let contributions = model.contributions(&golden.rows, &Stop::default()).unwrap();
        if golden.document.find("contributions").is_some() {
            golden.expect(&case, "contributions", &contributions);
        }
        let sums: Vec<f64> = contributions.chunks(golden.width + 1).map(|all| all.iter().sum()).collect();
        golden.expect(&case, "raw", &sums);
    }
}

#[test]
fn onnx_nodes_answer_as_onnx_runtime_and_scikit_learn() {
    let mut seen = 0;
    for (case, path) in cases() {
        let golden = Golden::read(&path);
        let Ok(bytes) = fs::read(path.join("spec.json")) else { continue };
        let attributes = Document::from_json(&bytes).unwrap();
        seen += 1;
        if golden.document.field("double").is_ok_and(|double| *double == Document::Flag(true)) {
            let forest: Forest<f64> = forest(&attributes);
            golden.expect(&case, "raw", &score(&forest, &golden));
        } else {
            let forest: Forest<f32> = forest(&attributes);
            golden.expect(&case, "raw", &score(&forest, &golden));
        }
    }
    assert!(seen >= 14, "{seen} nodes");
}

/// In one call and row by row.
fn score<T: Real>(forest: &Forest<T>, golden: &Golden) -> Vec<f64> {
    let rows: Vec<T> = golden.rows.iter().map(|value| T::from_f64(*value)).collect();
    let mut out = vec![T::default(); golden.count() * forest.outputs()];
    forest.score(&rows, golden.width, &mut out, &Stop::default()).unwrap();
    let mut alone = vec![T::default(); out.len()];
    for (row, out) in rows.chunks(golden.width).zip(alone.chunks_mut(forest.outputs())) {
        forest.score(row, golden.width, out, &Stop::default()).unwrap();
    }
    assert_eq!(alone, out);
    out.into_iter().map(T::to_f64).collect()
}

fn forest<T: Real>(attributes: &Document) -> Forest<T> {
    if attributes.find("tree_roots").is_some() {
        Forest::nested(&nested(attributes)).unwrap()
    } else {
        Forest::new(&flat(attributes)).unwrap()
    }
}

fn flat(attributes: &Document) -> Spec {
    let prefix = if attributes.find("class_ids").is_some() { "class" } else { "target" };
    let modes = attributes.list("nodes_modes").unwrap().iter().map(|mode| match mode {
        Document::Text(mode) => Mode::try_from(mode.as_bytes()).unwrap(),
        other => panic!("{other:?} is no mode"),
    });
    let leaf_outputs = ids(attributes, &format!("{prefix}_ids"));
    let classes = leaf_outputs.iter().max().map_or(1, |most| usize::try_from(*most).unwrap() + 1);
    Spec {
        tree_ids: ids(attributes, "nodes_treeids"),
        node_ids: ids(attributes, "nodes_nodeids"),
        feature_ids: ids(attributes, "nodes_featureids"),
        values: numbers(attributes, "nodes_values"),
        modes: modes.collect(),
        true_ids: ids(attributes, "nodes_truenodeids"),
        false_ids: ids(attributes, "nodes_falsenodeids"),
        missing_true: flags(attributes, "nodes_missing_value_tracks_true"),
        hit_rates: numbers(attributes, "nodes_hitrates"),
        leaf_tree_ids: ids(attributes, &format!("{prefix}_treeids")),
        leaf_node_ids: ids(attributes, &format!("{prefix}_nodeids")),
        leaf_weights: numbers(attributes, &format!("{prefix}_weights")),
        leaf_outputs,
        outputs: attributes.count("n_targets").unwrap_or(classes),
        base_values: numbers(attributes, "base_values"),
        aggregate: match attributes.text("aggregate_function").unwrap_or("SUM") {
            "AVERAGE" => Aggregate::Average,
            "MIN" => Aggregate::Min,
            "MAX" => Aggregate::Max,
            _ => Aggregate::Sum,
        },
    }
}

fn nested(attributes: &Document) -> NestedSpec {
    let modes = numbers(attributes, "nodes_modes");
    NestedSpec {
        roots: ids(attributes, "tree_roots"),
        feature_ids: ids(attributes, "nodes_featureids"),
        splits: numbers(attributes, "nodes_splits"),
        modes: modes.into_iter().map(|mode| Mode::try_from(u8::try_from(whole(mode).unwrap()).unwrap()).unwrap()).collect(),
        true_ids: ids(attributes, "nodes_truenodeids"),
        false_ids: ids(attributes, "nodes_falsenodeids"),
        true_leaves: flags(attributes, "nodes_trueleafs"),
        false_leaves: flags(attributes, "nodes_falseleafs"),
        missing_true: flags(attributes, "nodes_missing_value_tracks_true"),
        members: numbers(attributes, "membership_values"),
        leaf_outputs: ids(attributes, "leaf_targetids"),
        leaf_weights: numbers(attributes, "leaf_weights"),
        outputs: attributes.count("n_targets").unwrap(),
        aggregate: Aggregate::Sum,
    }
}

fn numbers(attributes: &Document, name: &str) -> Vec<f64> {
    let found = attributes.numbers(name).or_else(|_| attributes.numbers(&format!("{name}_as_tensor")));
    found.map(<[f64]>::to_vec).unwrap_or_default()
}

fn ids(attributes: &Document, name: &str) -> Vec<i64> {
    numbers(attributes, name).into_iter().map(|id| i64::try_from(whole(id).unwrap()).unwrap()).collect()
}

fn flags(attributes: &Document, name: &str) -> Vec<bool> {
    numbers(attributes, name).into_iter().map(|flag| flag != 0.0).collect()
}
