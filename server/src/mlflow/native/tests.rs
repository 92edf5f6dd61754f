//! The engine against ONNX Runtime: `testdata/<case>` holds a model and what it answered, as `tests/interop/native_models.py` wrote them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value as Json, json};

use super::{Data, Labels, Model, Tensor, Value};

/// How far an answer may be off, of its size.
const TOLERANCE: f64 = 1e-5;

/// Every golden case, or those of another folder that is named by `NATIVE_CASES`.
#[test]
fn answers_as_onnx_runtime_does() {
    let here = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/mlflow/native/testdata"));
    let folder = std::env::var_os("NATIVE_CASES").map_or(here, PathBuf::from);
    let mut cases: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 40, "only {} cases were found", cases.len());
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(case).err().map(|why| format!("{}: {why}", case.display()))).collect();
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn check(case: &Path) -> Result<(), String> {
    let known: Json = serde_json::from_slice(&fs::read(case.join("case.json")).unwrap()).unwrap();
    let model = Model::load(&fs::read(case.join("model.onnx")).unwrap()).map_err(|fault| format!("load: {fault}"))?;
    let inputs = known["inputs"].as_object().unwrap();
    let inputs: Vec<(&str, Tensor)> = inputs.iter().map(|(name, value)| (name.as_str(), tensor(value))).collect();
    let rows = inputs[0].1.shape().first().copied().unwrap_or(0);
    let whole = model.run(inputs.clone()).map_err(|fault| format!("run: {fault}"))?;
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
        let single = model.run(single).map_err(|fault| format!("run of one row: {fault}"))?;
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
    let data = match tensor.data() {
        Data::F32(values) => Data::F32(values[range].to_vec()),
        Data::F64(values) => Data::F64(values[range].to_vec()),
        Data::I64(values) => Data::I64(values[range].to_vec()),
        Data::Text(values) => Data::Text(values[range].to_vec()),
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
        "float32" => Data::F32(values.iter().map(|value| number(value) as f32).collect()),
        "float64" => Data::F64(values.iter().map(number).collect()),
        "int64" => Data::I64(values.iter().map(|value| value.as_i64().unwrap()).collect()),
        "string" => Data::Text(values.iter().map(|value| Arc::from(value.as_str().unwrap())).collect()),
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
    match tensor.data() {
        Data::F32(values) => values.iter().map(|value| float(f64::from(*value))).collect(),
        Data::F64(values) => values.iter().map(|value| float(*value)).collect(),
        Data::I64(values) => values.iter().map(|value| json!(value)).collect(),
        Data::I32(values) => values.iter().map(|value| json!(value)).collect(),
        Data::I8(values) => values.iter().map(|value| json!(value)).collect(),
        Data::U8(values) => values.iter().map(|value| json!(value)).collect(),
        Data::Bool(values) => values.iter().map(|value| json!(value)).collect(),
        Data::Text(values) => values.iter().map(|value| json!(&**value)).collect(),
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
        (Json::Number(_), Json::Number(_)) => {
            let (a, b) = (number(found), number(wanted));
            if (a - b).abs() <= TOLERANCE * b.abs().max(1.0) { Ok(()) } else { differs() }
        }
        (Json::String(a), Json::String(b)) if a.eq_ignore_ascii_case(b) => Ok(()),
        _ if found == wanted => Ok(()),
        _ => differs(),
    }
}

#[test]
fn a_model_may_be_used_by_many_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Model>();
}
