//! What files and calls may ask for: nothing beyond bounds, and nothing that is computed otherwise than its library would.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::advance;

use super::{
    Model, Stop, Tensor, Values,
    plan::{Budget, Ground, Plan},
    site::Kernel,
    tests::{fails, ints, made, node, refused},
    wire::{Attribute, Declared, Form, Graph, ModelFile, Node, Stored, TensorForm, versions},
};

fn int(name: &str, int: i64) -> Attribute {
    Attribute { name: name.to_owned(), int: Some(int), ..Attribute::default() }
}

fn list(name: &str, ints: &[i64]) -> Attribute {
    Attribute { name: name.to_owned(), ints: ints.to_vec(), ..Attribute::default() }
}

fn floats(name: &str, floats: &[f32]) -> Attribute {
    Attribute { name: name.to_owned(), floats: floats.to_vec(), ..Attribute::default() }
}

fn text(name: &str, text: &str) -> Attribute {
    Attribute { name: name.to_owned(), text: Some(text.as_bytes().to_vec()), ..Attribute::default() }
}

fn with(mut node: Node, attributes: Vec<Attribute>) -> Node {
    node.attributes = attributes;
    node
}

/// The same model, given texts.
fn of_texts(mut model: ModelFile) -> ModelFile {
    let form = Form { tensor: Some(TensorForm { code: 8, shape: None }) };
    model.graph.as_mut().unwrap().inputs = vec![Declared { name: "x".to_owned(), form: Some(form) }];
    model
}

fn tokenizer(expression: &str) -> ModelFile {
    let mut node = with(node("Tokenizer", &["x"], "y"), vec![text("tokenexp", expression)]);
    node.domain = "com.microsoft".to_owned();
    of_texts(made(vec![node], vec![]))
}

fn run(model: &ModelFile, x: Tensor) -> Result<Tensor, String> {
    let model = Model::load(&prost::Message::encode_to_vec(model)).unwrap();
    match model.run(vec![("x", x)], &Stop::default()).map_err(|fault| fault.to_string())?.remove(0) {
        super::Value::Tensor(tensor) => Ok(tensor),
        other => panic!("{other:?}"),
    }
}

fn texts(texts: &[String]) -> Tensor {
    Tensor::new(vec![texts.len()], Values::Text(texts.iter().map(|text| Arc::from(text.as_str())).collect())).unwrap()
}

#[test]
fn long_expressions_are_refused() {
    let message = refused(&tokenizer(&r"\b".repeat(400_000)));
    assert!(message.starts_with("operator Tokenizer") && message.ends_with("is not supported") && message.len() < 200, "{message}");
    assert!(refused(&tokenizer(&"[a-z]{1000}".repeat(200))).starts_with("operator Tokenizer"));
}

/// What is found nowhere is looked for once, not from every letter on.
#[test]
fn tokens_take_time_by_the_length_of_the_text() {
    let text = texts(&["a".repeat(500_000) + "1"]);
    assert_eq!(run(&tokenizer(r"[a-zA-Z]+\b"), text).unwrap().shape(), [1, 0]);
}

#[test]
fn padding_of_tokens_is_bounded() {
    let long = vec!["a ".repeat(20_000)];
    let short = std::iter::repeat_n("a".to_owned(), 1_000);
    let message = run(&tokenizer("[a-z]"), texts(&long.into_iter().chain(short).collect::<Vec<_>>())).unwrap_err();
    assert!(message.starts_with("com.microsoft.Tokenizer: ") && message.contains("too large"), "{message}");
}

/// A scan of rows that become a thousand values each.
#[test]
fn scans_are_bounded_before_they_are_computed() {
    let body = Graph { inputs: vec![Declared { name: "r".to_owned(), form: None }], ..Graph::default() };
    let tile = Graph {
        nodes: vec![node("Tile", &["r", "n"], "t")],
        initializers: vec![ints("n", &[1_000])],
        outputs: vec![Declared { name: "t".to_owned(), form: None }],
        ..body
    };
    let graph = Attribute { name: "body".to_owned(), graph: Some(tile), ..Attribute::default() };
    let scan = made(vec![with(node("Scan", &["x"], "y"), vec![graph, int("num_scan_inputs", 1)])], vec![]);
    assert!(fails(&scan, &[80_000, 1]).contains("too large"));
}

#[test]
fn tensors_are_bounded_in_bytes() {
    let tiled = made(vec![node("Tile", &["x", "n"], "y")], vec![ints("n", &[8_192, 8_200])]);
    assert!(fails(&tiled, &[1, 1]).contains("too large"));
    let categories = with(node("OneHotEncoder", &["x"], "y"), vec![list("cats_int64s", &(0..10_000).collect::<Vec<_>>())]);
    let mut hot = made(vec![categories], vec![]);
    hot.graph.as_mut().unwrap().nodes[0].domain = "ai.onnx.ml".to_owned();
    assert!(fails(&hot, &[7_000]).contains("too large"));
}

#[test]
fn nothing_is_gathered_of_nothing() {
    let mut index = ints("n", &[1]);
    index.dims = vec![1, 1];
    let gather = made(vec![node("GatherND", &["x", "n"], "y")], vec![index]);
    let nothing = Tensor::new(vec![3, 0], Values::F32(vec![])).unwrap();
    assert_eq!(run(&gather, nothing).unwrap().shape(), [1, 0]);
}

#[test]
fn what_is_missing_is_named_at_load() {
    for (operator, inputs) in [("Add", ["x", ""]), ("Less", ["x", ""]), ("Gemm", ["x", ""]), ("MatMul", ["x", ""]), ("Concat", ["x", ""])] {
        let model = made(vec![node(operator, &inputs, "y")], vec![]);
        assert_eq!(refused(&model), format!("operator {operator} lacks input 1"));
    }
    assert_eq!(refused(&made(vec![node("Mul", &["x"], "y")], vec![])), "operator Mul lacks input 1");
    let bare = made(vec![node("Gemm", &["x", "x", ""], "y")], vec![]);
    assert!(Model::load(&prost::Message::encode_to_vec(&bare)).is_ok());
}

#[test]
fn old_broadcasting_is_refused() {
    for operator in ["Add", "Mul", "Pow", "Less"] {
        let mut old = made(vec![with(node(operator, &["x", "x"], "y"), vec![int("axis", 0), int("broadcast", 1)])], vec![]);
        old.opsets[0].version = 6;
        assert_eq!(refused(&old), format!("operator {operator} with `axis` is not supported"));
    }
}

#[test]
fn faults_repeat_no_texts() {
    let cast = of_texts(made(vec![with(node("Cast", &["x"], "y"), vec![int("to", 1)])], vec![]));
    let message = run(&cast, texts(&["1".to_owned(), "hunter2".to_owned()])).unwrap_err();
    assert_eq!(message, "Cast: text 1 is no float32");
}

/// A stump whose leaves weigh on classes.
fn classifier(classes: &[i64], labels: &[i64], more: Vec<Attribute>) -> ModelFile {
    let texts = |name: &str, texts: &[&str]| Attribute {
        name: name.to_owned(),
        texts: texts.iter().map(|text| text.as_bytes().to_vec()).collect(),
        ..Attribute::default()
    };
    let mut attributes = vec![
        list("nodes_treeids", &[0, 0, 0]),
        list("nodes_nodeids", &[0, 1, 2]),
        list("nodes_featureids", &[0, 0, 0]),
        floats("nodes_values", &[0.0; 3]),
        texts("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF"]),
        list("nodes_truenodeids", &[1, 0, 0]),
        list("nodes_falsenodeids", &[2, 0, 0]),
        list("class_treeids", &[0, 0]),
        list("class_nodeids", &[1, 2]),
        list("class_ids", classes),
        floats("class_weights", &[0.3, 0.7]),
        list("classlabels_int64s", labels),
    ];
    attributes.extend(more);
    let mut node = with(node("TreeEnsembleClassifier", &["x"], "y"), attributes);
    node.domain = "ai.onnx.ml".to_owned();
    made(vec![node], vec![])
}

/// The forms in which ONNX Runtime's answers are its own, or none at all.
#[test]
fn odd_classifiers_of_two_classes_are_refused() {
    for model in [
        classifier(&[1, 1], &[10, 20], vec![]),
        classifier(&[0, 1], &[10, 20], vec![]),
        classifier(&[0, 0], &[10, 20], vec![floats("base_values", &[0.1, 0.2])]),
        classifier(&[0, 0], &[10, 20], vec![text("post_transform", "PROBIT")]),
        classifier(&[0, 0], &[10], vec![]),
    ] {
        assert!(refused(&model).starts_with("operator TreeEnsembleClassifier "), "{}", refused(&model));
    }
    for fine in [
        classifier(&[0, 0], &[10, 20], vec![floats("base_values", &[0.1])]),
        classifier(&[0, 1], &[10, 20, 30], vec![]),
        classifier(&[1, 1], &[10, 20, 30], vec![]),
    ] {
        assert!(Model::load(&prost::Message::encode_to_vec(&fine)).is_ok());
    }
}

/// Files beside a model count for what they bring.
#[test]
fn constants_beside_a_model_are_counted() {
    let entry = |key: &str, value: &str| super::wire::Entry { key: key.to_owned(), value: value.to_owned() };
    let stored = |name: &str| Stored {
        name: name.to_owned(),
        code: 1,
        dims: vec![4],
        location: 1,
        beside: vec![entry("location", "w.bin"), entry("offset", "0"), entry("length", "16")],
        ..Stored::default()
    };
    let model = made(vec![node("Add", &["x", "a"], "y"), node("Add", &["y", "b"], "z")], vec![stored("a"), stored("b")]);
    let reads = std::cell::Cell::new(0);
    let read = |_: &str| {
        reads.set(reads.get() + 1);
        Ok(vec![0; 64])
    };
    let file = prost::Message::encode_to_vec(&model);
    let model = Model::load_beside(&file, &read).unwrap();
    assert_eq!((model.bytes(), reads.get()), (32 + file.len(), 1));
}

/// What is told to stop does, whatever it is at.
#[test]
fn nothing_is_computed_for_nobody() {
    let stop = Stop::default();
    stop.set();
    let abs = Model::load(&prost::Message::encode_to_vec(&made(vec![node("Abs", &["x"], "y")], vec![]))).unwrap();
    let x = Tensor::new(vec![1], Values::F32(vec![1.0])).unwrap();
    let message = abs.run(vec![("x", x)], &stop).unwrap_err().to_string();
    assert_eq!(message, "nobody waits for the answer any longer");
}

/// The same bytes of a file may be any number of constants.
#[test]
fn constants_beside_a_model_are_bounded_before_they_are_read() {
    let entry = |key: &str, value: &str| super::wire::Entry { key: key.to_owned(), value: value.to_owned() };
    let beside = |dims: &[i64], many: usize| {
        let stored = |n: usize| Stored {
            name: format!("c{n}"),
            code: 1,
            dims: dims.to_vec(),
            location: 1,
            beside: vec![entry("location", "w.bin")],
            ..Stored::default()
        };
        let model = made(vec![node("Abs", &["x"], "y")], (0..many).map(stored).collect());
        let reads = std::cell::Cell::new(0);
        let read = |_: &str| {
            reads.set(reads.get() + 1);
            Ok(vec![0; 64])
        };
        let refused = Model::load_beside(&prost::Message::encode_to_vec(&model), &read).unwrap_err().to_string();
        (refused, reads.get())
    };
    assert_eq!(beside(&[1 << 26], 5), ("the constants in other files need too much memory".to_owned(), 0));
    assert_eq!(beside(&[15], 1).0, "the constant `c0` has not as many values in its file as its shape says");
}

#[test]
fn what_is_computed_of_constants_is_bounded() {
    let large = [1 << 25];
    let filled = |name: &str| node("ConstantOfShape", &["n"], name);
    let model = |names: &[&str]| made(names.iter().map(|name| filled(name)).collect(), vec![ints("n", &large)]);
    assert!(Model::load(&prost::Message::encode_to_vec(&model(&["a", "b"]))).is_ok());
    assert_eq!(refused(&model(&["a", "b", "c"])), "what is computed of constants alone needs too much memory");
}

#[test]
fn one_value_as_many_outputs_counts_as_often() {
    let mut model = made(vec![node("Abs", &["x"], "y")], vec![]);
    let outputs = &mut model.graph.as_mut().unwrap().outputs;
    *outputs = vec![outputs[0].clone(); 100];
    assert!(fails(&model, &[1 << 20]).contains("too large"));
}

/// What little asks for much is refused before it is computed.
#[test]
fn answers_are_bounded_by_their_shape() {
    let columns = with(node("ArrayFeatureExtractor", &["x", "n"], "y"), vec![]);
    let mut extract = made(vec![columns], vec![ints("n", &[0; 4_096])]);
    extract.graph.as_mut().unwrap().nodes[0].domain = "ai.onnx.ml".to_owned();
    let sum = made(vec![node("ReduceSum", &["x", "n"], "y")], vec![ints("n", &[1])]);
    let product = made(vec![node("MatMul", &["x", "x"], "y")], vec![]);
    let places = made(vec![node("NonZero", &["x"], "y")], vec![]);
    let deep: Vec<usize> = [1 << 20].into_iter().chain([1; 40]).collect();
    for (model, shape) in [(extract, vec![1 << 16, 4]), (sum, vec![1 << 27, 0]), (product, vec![1 << 26, 0, 0]), (places, deep)] {
        let message = fails(&model, &shape);
        assert!(message.contains(": a tensor of shape [") && message.ends_with("] is too large"), "{message}");
    }
}

#[test]
fn dimensions_are_bounded() {
    let unsqueezed = made(vec![node("Unsqueeze", &["x", "n"], "y")], vec![ints("n", &(0..64).collect::<Vec<_>>())]);
    assert_eq!(fails(&unsqueezed, &[1]), "Unsqueeze: a tensor of 65 dimensions is not supported");
    let reshaped = made(vec![node("Reshape", &["x", "n"], "y")], vec![ints("n", &[1; 65])]);
    assert_eq!(fails(&reshaped, &[1]), "Reshape: a tensor of 65 dimensions is not supported");
}

/// Any number of nothings is nothing, and takes no time.
#[test]
fn nothing_is_computed_of_nothing() {
    let nothing = || Tensor::new(vec![1 << 28, 0], Values::F32(vec![])).unwrap();
    let joined = with(node("Concat", &["x"; 1_000], "y"), vec![int("axis", 1)]);
    for node in [joined, node("Softmax", &["x"], "y")] {
        assert_eq!(run(&made(vec![node], vec![]), nothing()).unwrap().shape(), [1 << 28, 0]);
    }
}

#[test]
fn constants_are_computed_for_so_long_only() {
    let model = made(vec![node("Neg", &["n"], "y")], vec![ints("n", &[1])]);
    let graph = model.graph.unwrap();
    let planned = |time| {
        let budget = Budget::new(time);
        let ground = Ground { opsets: versions(&model.opsets), functions: &[], budget: &budget, depth: 0 };
        Plan::new(&graph, &[], &ground).map(drop).map_err(|fault| fault.to_string())
    };
    assert_eq!(planned(Duration::from_secs(10)), Ok(()));
    assert_eq!(planned(Duration::ZERO), Err("what is computed of constants alone takes too long".to_owned()));
}

/// A large model takes long to plan on a busy machine, and is none the worse for it.
#[tokio::test(start_paused = true)]
async fn only_what_is_computed_of_constants_takes_of_their_time() {
    let budget = Budget::new(Duration::from_secs(10));
    let computed = |seconds| {
        let kernel: Kernel = Box::new(move |given| {
            // At its first poll the clock is there.
            advance(Duration::from_secs(seconds)).now_or_never();
            given.stop.check().map(|()| Vec::new())
        });
        budget.compute(&kernel, &[], "Neg").map(drop).map_err(|fault| fault.to_string())
    };
    for _ in 0..2 {
        advance(Duration::from_secs(60)).await;
        assert_eq!(computed(4), Ok(()));
    }
    let late = Err("what is computed of constants alone takes too long".to_owned());
    assert_eq!(computed(4), late, "together they take 12 s, and the last one is stopped");
    assert_eq!(computed(0), late);
}
