//! The engine against ONNX Runtime: `testdata/<case>` holds a model and what it answered, as `tests/interop/native_models.py` wrote them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value as Json, json};

use super::{
    Labels, Model, Stop, Tensor, Value, Values,
    wire::{Attribute, Declared, Form, Graph, ModelFile, Node, Opset, Stored, TensorForm},
};

/// How far an answer may be off, of its size.
const TOLERANCE: f64 = 1e-5;

/// Every golden case, or those of another folder that is named by `NATIVE_CASES`.
#[test]
fn answers_as_onnx_runtime_does() {
    let cases = cases();
    assert!(cases.len() >= 40, "only {} cases were found", cases.len());
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(case).err().map(|why| format!("{}: {why}", case.display()))).collect();
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn cases() -> Vec<PathBuf> {
    let here = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/mlflow/native/testdata"));
    let folder = std::env::var_os("NATIVE_CASES").map_or(here, PathBuf::from);
    let mut cases: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

fn check(case: &Path) -> Result<(), String> {
    let known: Json = serde_json::from_slice(&fs::read(case.join("case.json")).unwrap()).unwrap();
    let model = Model::load(&fs::read(case.join("model.onnx")).unwrap()).map_err(|fault| format!("load: {fault}"))?;
    let inputs = known["inputs"].as_object().unwrap();
    let inputs: Vec<(&str, Tensor)> = inputs.iter().map(|(name, value)| (name.as_str(), tensor(value))).collect();
    let rows = inputs[0].1.shape().first().copied().unwrap_or(0);
    let whole = model.run(inputs.clone(), &Stop::default()).map_err(|fault| format!("run: {fault}"))?;
    let wanted = known["outputs"].as_object().unwrap();
    assert_eq!(model.outputs().len(), wanted.len());
    for ((name, kind), value) in model.outputs().iter().zip(&whole) {
        assert_eq!(*kind, value.kind(), "{name} is of another kind than was said");
        compare(&shown(value), &wanted[name]).map_err(|why| format!("{name}: {why}"))?;
    }
    // Operators alone have no rows.
    let alone = if name_of(case).starts_with("operator_") { 0..0 } else { 0..rows };
    for row in alone {
        let single = inputs.iter().map(|(name, tensor)| (*name, cut(tensor, row))).collect();
        let single = model.run(single, &Stop::default()).map_err(|fault| format!("run of one row: {fault}"))?;
        for ((name, _), value) in model.outputs().iter().zip(&single) {
            let wanted = row_of(&wanted[name], row, rows);
            compare(&shown(value), &wanted).map_err(|why| format!("{name} of row {row}: {why}"))?;
        }
    }
    Ok(())
}

fn name_of(case: &Path) -> &str {
    case.file_name().and_then(|name| name.to_str()).unwrap()
}

/// What a row alone must answer.
fn row_of(value: &Json, row: usize, rows: usize) -> Json {
    let part = |list: &Json| {
        let list = list.as_array().unwrap();
        json!(list.chunks(list.len() / rows).nth(row).unwrap())
    };
    match value {
        Json::Object(map) if map.contains_key("sequence") => {
            json!({"sequence": map["sequence"].as_array().unwrap().iter().map(|value| row_of(value, row, rows)).collect::<Vec<_>>()})
        }
        Json::Object(map) if map.contains_key("labels") => json!({"labels": map["labels"], "rows": part(&map["rows"])}),
        value => {
            let mut shape = value["shape"].clone();
            *shape.as_array_mut().unwrap().iter_mut().find(|length| **length == json!(rows)).unwrap() = json!(1);
            json!({"dtype": value["dtype"], "shape": shape, "values": part(&value["values"])})
        }
    }
}

fn cut(tensor: &Tensor, row: usize) -> Tensor {
    let width: usize = tensor.shape()[1..].iter().product();
    let range = row * width..(row + 1) * width;
    let data = match tensor.contents() {
        Values::F32(values) => Values::F32(values[range].to_vec()),
        Values::F64(values) => Values::F64(values[range].to_vec()),
        Values::I64(values) => Values::I64(values[range].to_vec()),
        Values::Text(values) => Values::Text(values[range].to_vec()),
        other => panic!("no case is given {other:?}"),
    };
    Tensor::new([&[1], &tensor.shape()[1..]].concat(), data).unwrap()
}

fn number(value: &Json) -> f64 {
    value.as_f64().or_else(|| value.as_bool().map(|is| f64::from(u8::from(is)))).unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

#[expect(clippy::cast_possible_truncation, reason = "the values were singles")]
fn tensor(value: &Json) -> Tensor {
    let shape = value["shape"].as_array().unwrap().iter().map(|dim| usize::try_from(dim.as_u64().unwrap()).unwrap()).collect();
    let values = value["values"].as_array().unwrap();
    let data = match value["dtype"].as_str().unwrap() {
        "float32" => Values::F32(values.iter().map(|value| number(value) as f32).collect()),
        "float64" => Values::F64(values.iter().map(number).collect()),
        "int64" => Values::I64(values.iter().map(|value| value.as_i64().unwrap()).collect()),
        "string" => Values::Text(values.iter().map(|value| Arc::from(value.as_str().unwrap())).collect()),
        other => panic!("no case is given {other}"),
    };
    Tensor::new(shape, data).unwrap()
}

fn shown(value: &Value) -> Json {
    match value {
        Value::Tensor(tensor) => json!({"dtype": tensor.kind().name(), "shape": tensor.shape(), "values": values(tensor)}),
        Value::Sequence(tensors) => {
            json!({"sequence": tensors.iter().map(|tensor| shown(&Value::Tensor(tensor.clone()))).collect::<Vec<_>>()})
        }
        Value::Maps(maps) => {
            let rows = values(&maps.rows);
            let labels = match maps.labels.as_ref() {
                Labels::Numbers(labels) => json!(labels),
                Labels::Texts(labels) => json!(labels.iter().map(|label| &**label).collect::<Vec<_>>()),
            };
            json!({"labels": labels, "rows": rows.chunks(maps.labels.len()).map(<[Json]>::to_vec).collect::<Vec<_>>()})
        }
    }
}

fn values(tensor: &Tensor) -> Vec<Json> {
    let float = |value: f64| if value.is_finite() { json!(value) } else { json!(value.to_string()) };
    match tensor.contents() {
        Values::F32(values) => values.iter().map(|value| float(f64::from(*value))).collect(),
        Values::F64(values) => values.iter().map(|value| float(*value)).collect(),
        Values::I64(values) => values.iter().map(|value| json!(value)).collect(),
        Values::I32(values) => values.iter().map(|value| json!(value)).collect(),
        Values::I8(values) => values.iter().map(|value| json!(value)).collect(),
        Values::U8(values) => values.iter().map(|value| json!(value)).collect(),
        Values::Bool(values) => values.iter().map(|value| json!(value)).collect(),
        Values::Text(values) => values.iter().map(|value| json!(&**value)).collect(),
    }
}

/// Equal, numbers nearly so.
fn compare(found: &Json, wanted: &Json) -> Result<(), String> {
    let differs = || Err(format!("{found} instead of {wanted}"));
    match (found, wanted) {
        (Json::Array(a), Json::Array(b)) if a.len() == b.len() => a.iter().zip(b).try_for_each(|(a, b)| compare(a, b)),
        (Json::Object(a), Json::Object(b)) if a.len() == b.len() => a.iter().try_for_each(|(name, a)| match b.get(name) {
            Some(b) => compare(a, b).map_err(|why| format!("{name}: {why}")),
            None => differs(),
        }),
        // Whole numbers are exact.
        (Json::Number(a), Json::Number(b)) if a.is_f64() || b.is_f64() => {
            let (a, b) = (number(found), number(wanted));
            if (a - b).abs() <= TOLERANCE * b.abs().max(1.0) { Ok(()) } else { differs() }
        }
        // What is no number that JSON has, as each language writes it.
        (Json::String(a), Json::String(b)) if a.eq_ignore_ascii_case(b) && a.parse::<f64>().is_ok() => Ok(()),
        _ if found == wanted => Ok(()),
        _ => differs(),
    }
}

#[test]
fn no_rows_have_an_answer_without_rows() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/mlflow/native/testdata");
    let here = std::env::var_os("NATIVE_CASES").map_or(here, PathBuf::from);
    for (case, columns) in
        [("logistic_opset18", 3), ("logistic_binary", 2), ("svc_probability", 3), ("linear_regression", 1), ("net_relu", 3)]
    {
        let model = Model::load(&fs::read(here.join(case).join("model.onnx")).unwrap()).unwrap();
        let port = &model.inputs()[0];
        let width = port.shape.as_ref().unwrap()[1].unwrap();
        let answer = model.run(vec![(&port.name, Tensor::new(vec![0, width], Values::F32(vec![])).unwrap())], &Stop::default()).unwrap();
        let Some(Value::Tensor(last)) = answer.last() else { panic!("{case} answers no tensor") };
        assert_eq!(last.shape(), [0, columns], "{case}");
    }
}

#[test]
fn a_model_may_be_used_by_many_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Model>();
}

/// A model of one input `x` of singles, these nodes, and the last one's output.
pub(super) fn made(nodes: Vec<Node>, constants: Vec<Stored>) -> ModelFile {
    let form = Form { tensor: Some(TensorForm { code: 1, shape: None }) };
    let last = nodes.last().map_or_else(String::new, |node| node.outputs[0].clone());
    let graph = Graph {
        nodes,
        initializers: constants,
        inputs: vec![Declared { name: "x".to_owned(), form: Some(form) }],
        outputs: vec![Declared { name: last, form: None }],
        sparse: Vec::new(),
    };
    let opsets = vec![Opset { domain: String::new(), version: 18 }, Opset { domain: "ai.onnx.ml".to_owned(), version: 3 }];
    ModelFile { graph: Some(graph), opsets, functions: Vec::new() }
}

pub(super) fn node(operator: &str, inputs: &[&str], output: &str) -> Node {
    let inputs = inputs.iter().map(|name| (*name).to_owned()).collect();
    Node { operator: operator.to_owned(), inputs, outputs: vec![output.to_owned()], ..Node::default() }
}

pub(super) fn ints(name: &str, ints: &[i64]) -> Stored {
    Stored { name: name.to_owned(), code: 7, dims: vec![i64::try_from(ints.len()).unwrap()], ints: ints.to_vec(), ..Stored::default() }
}

pub(super) fn refused(model: &ModelFile) -> String {
    Model::load(&prost::Message::encode_to_vec(model)).unwrap_err().to_string()
}

pub(super) fn fails(model: &ModelFile, shape: &[usize]) -> String {
    let model = Model::load(&prost::Message::encode_to_vec(model)).unwrap();
    let x = Tensor::new(shape.to_vec(), Values::F32(vec![1.0; shape.iter().product()])).unwrap();
    model.run(vec![("x", x)], &Stop::default()).unwrap_err().to_string()
}

#[test]
fn golden_texts_and_whole_numbers_are_compared_exactly() {
    for (found, wanted, is_same) in [
        (json!("NaN"), json!("nan"), true),
        (json!("A"), json!("a"), false),
        (json!(1_000_001), json!(1_000_000), false),
        (json!(1_000_001.0), json!(1_000_000), true),
    ] {
        assert_eq!(compare(&found, &wanted).is_ok(), is_same, "{found} {wanted}");
    }
}

#[test]
fn what_cannot_run_is_named_at_load() {
    assert_eq!(refused(&made(vec![node("Conv", &["x"], "y")], vec![])), "operator Conv is not supported");
    let mut foreign = node("Odd", &["x"], "y");
    foreign.domain = "com.example".to_owned();
    assert_eq!(refused(&made(vec![foreign], vec![])), "operator com.example.Odd is not supported");
    assert_eq!(refused(&made(vec![node("And", &["x", "x"], "y")], vec![])), "operator And is not supported for float32");
    let mixed = made(vec![node("Add", &["x", "n"], "y")], vec![ints("n", &[1])]);
    assert_eq!(refused(&mixed), "operator Add is given float32 and int64 together");
    let mut newer = made(vec![node("Add", &["x", "x"], "y")], vec![]);
    newer.opsets[0].version = 99;
    assert_eq!(refused(&newer), "operator Add of version 99 is not supported, 26 is the newest known");
    let mut cast = node("Cast", &["x"], "y");
    cast.attributes.push(Attribute { name: "to".to_owned(), int: Some(10), ..Attribute::default() });
    assert_eq!(refused(&made(vec![cast], vec![])), "operator Cast to element type 10 is not supported");
}

#[test]
fn a_graph_must_be_in_order() {
    let late = made(vec![node("Abs", &["z"], "y"), node("Abs", &["x"], "z")], vec![]);
    assert_eq!(refused(&late), "the value `z` is used before it is defined");
    let twice = made(vec![node("Abs", &["x"], "y"), node("Neg", &["x"], "y")], vec![]);
    assert_eq!(refused(&twice), "the value `y` is defined twice");
    let own = made(vec![node("Abs", &["y"], "y")], vec![]);
    assert_eq!(refused(&own), "the value `y` is used before it is defined");
    assert_eq!(refused(&ModelFile::default()), "the model has no graph");
    assert!(Model::load(b"not a model").unwrap_err().to_string().starts_with("the bytes are no ONNX model"));
}

#[test]
fn sizes_are_bounded() {
    let huge = made(vec![node("ConstantOfShape", &["n"], "y")], vec![ints("n", &[i64::MAX, 0, 4])]);
    assert!(refused(&huge).contains("is too large"), "{}", refused(&huge));
    let negative = made(vec![node("ConstantOfShape", &["n"], "y")], vec![ints("n", &[-1])]);
    assert!(refused(&negative).contains("is no shape"));
    let mut short = ints("n", &[1]);
    short.dims = vec![1 << 40];
    assert!(refused(&made(vec![node("Abs", &["x"], "y")], vec![short.clone()])).contains("is too large"));
    short.dims = vec![2];
    assert!(refused(&made(vec![node("Abs", &["x"], "y")], vec![short])).contains("not as many values"));
    let tiled = made(vec![node("Tile", &["x", "n"], "y")], vec![ints("n", &[1 << 20, 1 << 20])]);
    assert!(fails(&tiled, &[1, 1]).contains("is too large"));
    // Doubled until it would not fit.
    let doubling = (0..40).map(|at| {
        let from = if at == 0 { "x".to_owned() } else { format!("d{at}") };
        let mut concat = node("Concat", &[&from, &from], &format!("d{}", at + 1));
        concat.attributes.push(Attribute { name: "axis".to_owned(), int: Some(0), ..Attribute::default() });
        concat
    });
    let doubling = made(doubling.collect(), vec![]);
    assert!(fails(&doubling, &[1 << 22]).contains("memory") || fails(&doubling, &[1 << 22]).contains("too large"));
}

#[test]
fn places_are_checked() {
    let gather = made(vec![node("Gather", &["x", "n"], "y")], vec![ints("n", &[7])]);
    assert_eq!(fails(&gather, &[2, 2]), "Gather: index 7 is none of 2");
    let slice = made(vec![node("Slice", &["x", "n", "n", "n", "z"], "y")], vec![ints("n", &[0]), ints("z", &[0])]);
    assert_eq!(fails(&slice, &[2, 2]), "Slice: a step is zero");
    let least = made(
        vec![node("Slice", &["x", "s", "e", "a", "t"], "y")],
        vec![ints("s", &[i64::MIN]), ints("e", &[i64::MAX]), ints("a", &[0]), ints("t", &[i64::MIN])],
    );
    let model = Model::load(&prost::Message::encode_to_vec(&least)).unwrap();
    let x = Tensor::new(vec![2], Values::F32(vec![1.0, 2.0])).unwrap();
    assert!(model.run(vec![("x", x)], &Stop::default()).is_ok(), "nothing is left, as in Python");
    let reshape = made(vec![node("Reshape", &["x", "n"], "y")], vec![ints("n", &[-1, -1])]);
    assert!(fails(&reshape, &[2, 2]).contains("cannot take shape"));
    let top = made(vec![node("TopK", &["x", "n"], "y")], vec![ints("n", &[9])]);
    assert_eq!(fails(&top, &[2, 2]), "TopK: the best 9 of 2 are asked for");
    let divide = made(vec![node("Div", &["n", "z"], "y")], vec![ints("n", &[1]), ints("z", &[0])]);
    assert_eq!(refused(&divide), "Div: division by zero");
    let least = made(vec![node("Div", &["n", "z"], "y")], vec![ints("n", &[i64::MIN]), ints("z", &[-1])]);
    assert!(Model::load(&prost::Message::encode_to_vec(&least)).is_ok(), "it wraps around");
}

#[test]
fn graphs_within_graphs_end() {
    let mut body = Graph::default();
    for _ in 0..20 {
        let mut scan = node("Scan", &["x"], "y");
        let graph = Some(std::mem::take(&mut body));
        scan.attributes = vec![
            Attribute { name: "body".to_owned(), graph, ..Attribute::default() },
            Attribute { name: "num_scan_inputs".to_owned(), int: Some(1), ..Attribute::default() },
        ];
        body = made(vec![scan], vec![]).graph.unwrap();
    }
    let message = refused(&ModelFile { graph: Some(body), ..made(vec![], vec![]) });
    assert!(message.contains("nested too deeply"), "{message}");
}

#[test]
fn inputs_are_checked() {
    let model = Model::load(&prost::Message::encode_to_vec(&made(vec![node("Abs", &["x"], "y")], vec![]))).unwrap();
    let message = |inputs| model.run(inputs, &Stop::default()).unwrap_err().to_string();
    let x = || Tensor::new(vec![1], Values::F32(vec![1.0])).unwrap();
    assert_eq!(message(vec![]), "the input `x` is missing");
    assert_eq!(message(vec![("z", x())]), "the model has no input `z`");
    assert_eq!(message(vec![("x", x()), ("x", x())]), "the input `x` is given twice");
    assert_eq!(message(vec![("x", Tensor::new(vec![1], Values::I64(vec![1])).unwrap())]), "the input `x` is float32, not int64");
    assert!(Tensor::new(vec![2], Values::I64(vec![1])).is_err());
}

/// Whatever bytes a file has, it is refused or it runs: every case with one byte changed, and cut short.
#[test]
fn broken_files_are_refused_or_run() {
    for (seed, case) in cases().into_iter().enumerate() {
        let bytes = fs::read(case.join("model.onnx")).unwrap();
        let known: Json = serde_json::from_slice(&fs::read(case.join("case.json")).unwrap()).unwrap();
        let inputs = known["inputs"].as_object().unwrap();
        let inputs: Vec<(&str, Tensor)> = inputs.iter().map(|(name, value)| (name.as_str(), tensor(value))).collect();
        for step in 0..12_usize {
            let at = (step * 7919 + seed * 104_729) % bytes.len();
            let mut broken = bytes.clone();
            broken[at] = broken[at].wrapping_add([1, 128, 255, 64][step % 4]);
            for broken in [broken.as_slice(), &bytes[..at]] {
                if let Ok(model) = Model::load(broken) {
                    drop(model.run(inputs.clone(), &Stop::default()));
                }
            }
        }
    }
}
