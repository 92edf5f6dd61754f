//! What no library writes: forms at the edge, and files made to do harm.

use std::{fs, path::Path};

use super::{
    Aggregate, Forest, Mode, NestedSpec, Spec,
    document::Document,
    layout::{Layout, Width},
    lightgbm,
    plan::{Node, Plan, Test, Tree},
    ubjson,
    xgboost::{self, Rounds},
};
use crate::mlflow::native::Stop;

/// One split by feature 0 at 1, to -1 where it holds and to 1 where not.
fn stump(mode: Mode) -> Spec {
    Spec {
        tree_ids: vec![7; 3],
        node_ids: vec![5, 6, 9],
        feature_ids: vec![0; 3],
        values: vec![1.0, 0.0, 0.0],
        modes: vec![mode, Mode::Leaf, Mode::Leaf],
        true_ids: vec![6, 0, 0],
        false_ids: vec![9, 0, 0],
        leaf_tree_ids: vec![7; 2],
        leaf_node_ids: vec![6, 9],
        leaf_outputs: vec![0; 2],
        leaf_weights: vec![-1.0, 1.0],
        outputs: 1,
        ..Spec::default()
    }
}

fn scores(spec: &Spec, rows: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; rows.len()];
    Forest::new(spec).unwrap().score(rows, 1, &mut out, &Stop::default()).unwrap();
    out
}

fn fault(spec: &Spec) -> String {
    Forest::<f32>::new(spec).unwrap_err().to_string()
}

#[test]
fn every_mode_compares_to_the_bit() {
    let near = [1.0_f32.next_down(), 1.0, 1.0_f32.next_up(), f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    for (mode, holds) in [
        (Mode::AtMost, [true, true, false, false, true, false]),
        (Mode::Below, [true, false, false, false, true, false]),
        (Mode::AtLeast, [false, true, true, true, false, false]),
        (Mode::Above, [false, false, true, true, false, false]),
        (Mode::Equal, [false, true, false, false, false, false]),
        (Mode::Unequal, [true, false, true, true, true, true]),
    ] {
        let want: Vec<f32> = holds.iter().map(|holds| if *holds { -1.0 } else { 1.0 }).collect();
        assert_eq!(scores(&stump(mode), &near), want, "{mode:?}");
        let missing_true = vec![true, false, false];
        let tracked = scores(&Spec { missing_true, ..stump(mode) }, &near);
        assert_eq!(tracked[..5], want[..5], "{mode:?}");
        assert_eq!(tracked[5], -1.0, "{mode:?}");
    }
}

#[test]
fn infinite_thresholds_are_none_of_a_leaf() {
    let values = |value| vec![value, 0.0, 0.0];
    let rows = [f32::NEG_INFINITY, 0.0, f32::INFINITY];
    assert_eq!(scores(&Spec { values: values(f64::INFINITY), ..stump(Mode::AtMost) }, &rows), [-1.0, -1.0, -1.0]);
    assert_eq!(scores(&Spec { values: values(f64::INFINITY), ..stump(Mode::Below) }, &rows), [-1.0, -1.0, 1.0]);
    assert_eq!(scores(&Spec { values: values(f64::NEG_INFINITY), ..stump(Mode::Below) }, &rows), [1.0, 1.0, 1.0]);
    assert_eq!(scores(&Spec { values: values(f64::NEG_INFINITY), ..stump(Mode::AtMost) }, &rows), [-1.0, 1.0, 1.0]);
}

#[test]
fn what_is_no_tree_is_refused_by_its_fault() {
    let spec = || stump(Mode::AtMost);
    assert_eq!(fault(&Spec { true_ids: vec![5, 0, 0], ..spec() }), "tree 0: node 0 has two parents, or is above itself");
    assert_eq!(fault(&Spec { true_ids: vec![9, 0, 0], ..spec() }), "tree 0: node 2 has two parents, or is above itself");
    assert_eq!(fault(&Spec { true_ids: vec![4, 0, 0], ..spec() }), "tree 7 has no node 4");
    assert_eq!(fault(&Spec { node_ids: vec![5, 6, 6], ..spec() }), "tree 7 has two nodes 6");
    assert_eq!(fault(&Spec { feature_ids: vec![-1, 0, 0], ..spec() }), "-1 is no feature");
    assert_eq!(
        fault(&Spec { feature_ids: vec![1 << 30, 0, 0], ..spec() }),
        "tree 0: node 0 asks for feature 1073741824, more than 16777216"
    );
    assert_eq!(fault(&Spec { values: vec![f64::NAN, 0.0, 0.0], ..spec() }), "tree 0: node 0 compares with what is no number");
    assert_eq!(fault(&Spec { values: vec![0.0], ..spec() }), "nodes_values has 1 values where 3 belong");
    assert_eq!(fault(&Spec { leaf_outputs: vec![0, 1], ..spec() }), "tree 0: a leaf adds to output 1 of 1");
    assert_eq!(fault(&Spec { leaf_node_ids: vec![6, 8], ..spec() }), "weights are for node 8 of tree 7, which is not there");
    assert_eq!(fault(&Spec { outputs: 0, ..spec() }), "the trees have 0 outputs; 1 to 65536 are possible");
    assert_eq!(fault(&Spec { base_values: vec![0.0; 2], ..spec() }), "there are 2 base values for 1 outputs");
    assert_eq!(fault(&Spec { modes: vec![Mode::Leaf; 3], ..spec() }), "tree 0: node 1 is not reached from the root");
}

#[test]
fn nested_trees_may_share_nothing() {
    let spec = |roots: Vec<i64>, first: i64| NestedSpec {
        roots,
        feature_ids: vec![0, 0],
        splits: vec![0.0, 1.0],
        modes: vec![Mode::AtMost; 2],
        true_ids: vec![first, 0],
        false_ids: vec![0, 1],
        true_leaves: vec![false, true],
        false_leaves: vec![true, true],
        leaf_outputs: vec![0, 0],
        leaf_weights: vec![1.0, 2.0],
        outputs: 1,
        ..NestedSpec::default()
    };
    let fault = |spec: NestedSpec| Forest::<f32>::nested(&spec).unwrap_err().to_string();
    assert!(Forest::<f32>::nested(&spec(vec![0], 1)).is_ok());
    assert_eq!(fault(spec(vec![0, 1], 1)), "node 1 has two parents, or is above itself");
    assert_eq!(fault(spec(vec![0], 0)), "node 0 has two parents, or is above itself");
    assert_eq!(fault(spec(vec![1], 1)), "node 0 is not reached from any root");
    assert_eq!(fault(spec(vec![2], 1)), "there is no node 2");
    let member = NestedSpec { modes: vec![Mode::Member; 2], members: vec![1.0], ..spec(vec![0], 1) };
    assert_eq!(fault(member), "membership_values has fewer sets than there are member nodes");
}

/// A tree as deep as it has splits: `x <= t` to a leaf, else down.
fn chain(depth: usize) -> Plan {
    let mut tree = Tree::default();
    for level in 0..depth {
        let test = Test::AtMost(level as f64);
        tree.nodes.push(Node::Split { feature: 0, test, yes: 2 * level + 1, no: 2 * level + 2, missing: true });
        tree.nodes.push(Node::Leaf { start: level, end: level + 1 });
        tree.weights.push((0, level as f64));
        tree.covers.extend([(depth - level) as f64 + 1.0, 1.0]);
    }
    tree.nodes.push(Node::Leaf { start: 0, end: 1 });
    tree.covers.push(1.0);
    Plan { trees: vec![tree], outputs: 1, ..Plan::default() }
}

#[test]
fn depth_is_walked_and_never_called() {
    let forest = Forest::<f64>::of(&chain(200_000)).unwrap();
    let mut out = [0.0];
    forest.score(&[150_000.5], 1, &mut out, &Stop::default()).unwrap();
    assert_eq!(out, [150_001.0]);
    let fault = forest.contributions(&[0.0], 1, &Stop::default()).unwrap_err().to_string();
    assert_eq!(fault, "the trees are 200000 deep; contributions are possible up to 1024");
    let contributions = Forest::<f64>::of(&chain(1000)).unwrap().contributions(&[500.5], 1, &Stop::default()).unwrap();
    assert!((contributions.iter().sum::<f64>() - 501.0).abs() < 1e-9, "{contributions:?}");
}

#[test]
fn nodes_are_wide_where_narrow_ones_hold_too_little() {
    let mut plan = chain(3);
    let Node::Split { feature, .. } = &mut plan.trees[0].nodes[0] else { panic!("no split") };
    *feature = 1 << 23;
    assert!(matches!(Layout::<f32>::new(&plan).unwrap().width, Width::Narrow(_)));
    // Distances of 2^10 and features of 2^23 are 34 bits together.
    let mut plan = Plan { trees: vec![balanced(11)], outputs: 1, ..Plan::default() };
    let Node::Split { feature, .. } = &mut plan.trees[0].nodes[0] else { panic!("no split") };
    *feature = 1 << 23;
    let forest = Forest::<f32>::of(&plan).unwrap();
    assert!(matches!(Layout::<f32>::new(&plan).unwrap().width, Width::Wide(_)));
    let mut out = [0.0];
    let mut row = vec![0.0; forest.features()];
    row[1 << 23] = 1.0;
    forest.score(&row, row.len(), &mut out, &Stop::default()).unwrap();
    assert_eq!(out, [1024.0]);
}

/// Asks feature 0 at every node; leaves count from the left.
fn balanced(depth: u32) -> Tree {
    let mut tree = Tree::default();
    let splits = (1 << depth) - 1;
    for node in 0..splits {
        tree.nodes.push(Node::Split { feature: 0, test: Test::AtMost(0.0), yes: 2 * node + 1, no: 2 * node + 2, missing: false });
    }
    for leaf in 0..=splits {
        tree.nodes.push(Node::Leaf { start: leaf, end: leaf + 1 });
        tree.weights.push((0, leaf as f64));
    }
    tree
}

#[test]
fn rows_of_another_shape_are_refused() {
    let forest: Forest<f32> = Forest::new(&stump(Mode::AtMost)).unwrap();
    let fault = |rows: &[f32], width, out: usize| forest.score(rows, width, &mut vec![0.0; out], &Stop::default()).unwrap_err().to_string();
    assert_eq!(fault(&[], 0, 0), "rows have 0 features; the trees need 1");
    assert_eq!(fault(&[0.0; 3], 2, 1), "3 values are no rows of 2 features with 1 scores");
    assert_eq!(fault(&[0.0; 4], 2, 1), "4 values are no rows of 2 features with 1 scores");
    assert!(forest.score(&[], 1, &mut [], &Stop::default()).is_ok());
    assert!(forest.contributions(&[0.0], 1, &Stop::default()).unwrap_err().to_string().contains("does not tell how much of the training"));
}

#[test]
fn scores_and_contributions_are_bounded_before_they_are_computed() {
    let covered = Tree { covers: vec![2.0, 1.0, 1.0], ..balanced(1) };
    let forest = Forest::<f64>::of(&Plan { trees: vec![covered], outputs: 2048, ..Plan::default() }).unwrap();
    let contributions = |rows: usize| forest.contributions(&vec![0.0; rows], 1, &Stop::default()).map(|all| all.len());
    assert_eq!(contributions(1024), Ok(1 << 22));
    assert!(contributions(1025).unwrap_err().is_large());
    let (transform, objective) = (super::transform::Transform::Identity, String::new());
    let engine = super::model::Engine::Double(forest);
    let model =
        super::Model { engine, share: 1.0, transform, task: super::Task::Regression, objective, features: 1, feature_names: Vec::new() };
    let predict = |rows: usize| model.predict(&vec![0.0; rows], &Stop::default()).map(|scores| scores.len());
    assert_eq!(predict(100), Ok(204_800));
    assert!(predict(7_000).unwrap_err().is_large());
}

#[test]
fn nothing_is_walked_for_nobody() {
    let stop = Stop::default();
    stop.set();
    let spec = Spec { hit_rates: vec![4.0, 1.0, 3.0], ..stump(Mode::AtMost) };
    let forest = Forest::<f32>::new(&spec).unwrap();
    assert!(forest.score(&[0.0], 1, &mut [0.0], &stop).unwrap_err().to_string().contains("nobody waits"));
    assert!(forest.contributions(&[0.0], 1, &stop).unwrap_err().to_string().contains("nobody waits"));
}

#[test]
fn hit_rates_that_count_nothing_are_no_covers() {
    let explain = |hit_rates: Vec<f64>| {
        Forest::<f32>::new(&Spec { hit_rates, ..stump(Mode::AtMost) }).unwrap().contributions(&[0.0], 1, &Stop::default())
    };
    assert!(explain(vec![1.0; 3]).is_err());
    assert_eq!(explain(vec![4.0, 1.0, 3.0]).unwrap(), [-1.5, 0.5]);
    // None of the training went left, but a row does.
    assert_eq!(explain(vec![4.0, 0.0, 4.0]).unwrap(), [-2.0, 1.0]);
}

#[test]
fn a_feature_is_asked_again_where_none_of_the_training_went() {
    let split = |yes, no, at| Node::Split { feature: 0, test: Test::AtMost(at), yes, no, missing: false };
    let leaf = |start| Node::Leaf { start, end: start + 1 };
    let tree = Tree {
        nodes: vec![split(1, 2, 0.0), split(3, 4, -1.0), leaf(0), leaf(1), leaf(2)],
        weights: vec![(0, 1.0), (0, 2.0), (0, 4.0)],
        // A model tells of some training below the node that none reached, as sums of small numbers may.
        covers: vec![2.0, 0.0, 2.0, 0.0, 0.0],
    };
    let plan = |first| Plan {
        trees: vec![Tree { covers: vec![2.0, first, 2.0, first / 2.0, first / 2.0], ..tree.clone() }],
        outputs: 1,
        ..Plan::default()
    };
    let explain = |first| Forest::<f64>::of(&plan(first)).unwrap().contributions(&[1.0], 1, &Stop::default());
    assert!(explain(0.0).is_err());
    assert_eq!(explain(f64::MIN_POSITIVE * f64::EPSILON).unwrap(), [0.0, 1.0]);
}

#[test]
fn least_and_greatest_have_no_contributions() {
    let spec = Spec { aggregate: Aggregate::Min, hit_rates: vec![4.0, 1.0, 3.0], ..stump(Mode::AtMost) };
    let fault = Forest::<f32>::new(&spec).unwrap().contributions(&[0.0], 1, &Stop::default()).unwrap_err();
    assert_eq!(fault.to_string(), "contributions are of sums; these trees aggregate by MIN or MAX");
}

fn golden(case: &str, file: &str) -> Vec<u8> {
    let cases = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/mlflow/native/trees/testdata"));
    fs::read(cases.join(case).join(file)).unwrap()
}

/// Whatever comes out, it comes.
fn survive(bytes: &[u8]) {
    for model in [xgboost::read(bytes, Rounds::Best), lightgbm::read(bytes)].into_iter().flatten() {
        let row = vec![0.5; model.features()];
        assert_eq!(model.predict(&row, &Stop::default()).map(|answer| answer.len()), Ok(model.outputs()));
        drop(model.contributions(&row, &Stop::default()));
    }
}

#[test]
fn broken_files_end_in_a_fault() {
    let files = [
        ("xgboost_categories", "model.json"),
        ("xgboost_categories_onehot_ubj", "model.ubj"),
        ("xgboost_vector_leaves", "model.json"),
        ("lightgbm_categories", "model.txt"),
        ("lightgbm_one_leaf", "model.txt"),
    ];
    for (case, file) in files {
        let bytes = golden(case, file);
        for end in (0..bytes.len()).step_by(97) {
            survive(&bytes[..end]);
        }
        for at in (0..bytes.len()).step_by(13) {
            let mut bytes = bytes.clone();
            bytes[at] = b"\xff0-9L]\"\n"[at / 13 % 8];
            survive(&bytes);
        }
    }
}

#[test]
fn lengths_ask_for_no_more_than_there_is() {
    for bytes in [
        &b"[$i#L\x00\x00\x00\x00\xff\xff\xff\xff"[..],
        b"[$Z#L\x00\x00\x00\x00\xff\xff\xff\xff",
        b"{L\xff\xff\xff\xff\xff\xff\xff\xff",
        b"S",
    ] {
        assert!(ubjson::read(bytes).is_err());
    }
    assert!(ubjson::read(&b"[".repeat(100_000)).unwrap_err().to_string().contains("nested too deeply"));
    assert!(Document::from_json(&b"[".repeat(100_000)).is_err());
}

#[test]
fn what_xgboost_writes_beyond_json_is_read() {
    let document = Document::from_json(br#"{"a": [1, NaN], "b\"NaN": "NaN", "c": {}}"#).unwrap();
    assert!(document.numbers("a").unwrap()[1].is_nan());
    assert_eq!(document.text("b\"NaN"), Ok("NaN"));
}

#[test]
fn what_is_not_supported_is_named() {
    let text = String::from_utf8(golden("xgboost_regression", "model.json")).unwrap();
    let read = |text: &str| xgboost::read(text.as_bytes(), Rounds::All).map(drop).unwrap_err().to_string();
    assert_eq!(read("binf\0\0"), "no model of XGBoost: it is neither JSON nor UBJSON");
    let other = text.replace("reg:squarederror", "my:own");
    assert_eq!(read(&other), "no model of XGBoost: the objective `my:own` is not supported");
    let linear = text.replace(r#""name":"gbtree""#, r#""name":"gblinear""#);
    assert_eq!(read(&linear), "no model of XGBoost: the booster `gblinear` is not supported; it has no trees");
    let text = String::from_utf8(golden("lightgbm_regression", "model.txt")).unwrap();
    let read = |text: &str| lightgbm::read(text.as_bytes()).map(drop).unwrap_err().to_string();
    let linear = text.replace("is_linear=0", "is_linear=1");
    assert_eq!(read(&linear), "no model of LightGBM: tree 0: `linear_tree` is not supported: its leaves are models of their own");
    let other = text.replace("objective=regression", "objective=mine");
    assert_eq!(read(&other), "no model of LightGBM: the objective `mine` is not supported");
    assert!(text.contains("objective=regression"));
}

#[test]
fn base_scores_of_older_versions_are_read() {
    let text = String::from_utf8(golden("xgboost_big_base_score", "model.json")).unwrap();
    let old = text.replace("\"[1E6]\"", "\"1E6\"");
    assert_ne!(old, text);
    let row = [0.25; 5];
    let [old, new] = [&old, &text].map(|text| xgboost::read(text.as_bytes(), Rounds::All).unwrap().raw(&row, &Stop::default()).unwrap());
    assert_eq!(old, new);
}

#[test]
fn leaves_share_no_values() {
    let mut document: serde_json::Value = serde_json::from_slice(&golden("xgboost_vector_leaves", "model.json")).unwrap();
    let tree = &mut document["learner"]["gradient_booster"]["model"]["trees"][0];
    let is_leaf: Vec<bool> = tree["left_children"].as_array().unwrap().iter().map(|child| *child == -1).collect();
    for (place, _) in tree["right_children"].as_array_mut().unwrap().iter_mut().zip(is_leaf).filter(|(_, is_leaf)| *is_leaf) {
        *place = 0.into();
    }
    tree["leaf_weights"].as_array_mut().unwrap().truncate(2);
    let fault = xgboost::read(document.to_string().as_bytes(), Rounds::All).map(drop).unwrap_err().to_string();
    assert_eq!(fault, "no model of XGBoost: tree 0: two leaves have the same values");
}
