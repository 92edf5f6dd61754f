//! Models as MLflow saves them, against what its own scoring server answers: `tests/interop/native_scoring.py` wrote `testdata`.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Beyond, Native, Scored, Stop, Unfit, Written};
use crate::{
    config::fixture::Fake,
    dialect::{Dialect as _, Quirks, Settings, Target, scoring::SCORING, templated::Templates},
    error::Error,
    mlflow::{model_file::ModelFile, onnx::Library, signature::Schema},
};

mod refusals;

/// How far a prediction may be off, of its size.
const TOLERANCE: f64 = 2e-5;

/// A request, and what answers it.
#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(rename = "type")]
    media: String,
    body: String,
    mlflow: Known,
    /// What is answered here instead.
    status: Option<u16>,
    predictions: Option<Value>,
    differs: Option<String>,
}

#[derive(Deserialize)]
struct Known {
    status: u16,
    predictions: Option<Value>,
    error_code: Option<String>,
}

/// Every folder, or those of another place that is named by `SCORING_CASES`.
#[test]
fn answers_as_mlflow_does() {
    let here = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/mlflow/scoring/testdata"));
    let root = std::env::var_os("SCORING_CASES").map_or(here, PathBuf::from);
    let mut folders: Vec<_> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 12, "only {} models were found", folders.len());
    let (mut asked, mut wrong) = (0, Vec::new());
    for folder in folders {
        let model = load(&folder).unwrap_or_else(|unfit| panic!("{}: {unfit}", folder.display()));
        for line in fs::read_to_string(folder.join("cases.jsonl")).unwrap().lines() {
            let case: Case = serde_json::from_str(line).unwrap();
            asked += 1;
            if let Err(why) = check(&model, &case) {
                wrong.push(format!("{}: {}: {why}", folder.file_name().unwrap().display(), case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {asked} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

pub(super) fn load(folder: &Path) -> Result<Native, Unfit> {
    let file = ModelFile::read(&fs::read(folder.join(ModelFile::NAME)).unwrap()).unwrap();
    Native::load(folder, &file, Beyond { library: &Library::find(None, &Fake::default()), threads: Some(1) })
}

fn check(model: &Native, case: &Case) -> Result<(), String> {
    let scored = model.answer(Written::As(Some(&case.media)), case.body.as_bytes(), &Stop::default());
    let body: Value = serde_json::from_slice(&scored.body).map_err(|error| format!("no JSON: {error}"))?;
    let wanted = case.status.unwrap_or(case.mlflow.status);
    if scored.status != wanted {
        return Err(format!("{} instead of {wanted}: {body}", scored.status));
    }
    if scored.status != StatusCode::OK {
        return refused(case, &scored, &body);
    }
    match case.predictions.as_ref().or(case.mlflow.predictions.as_ref()) {
        Some(predictions) => same(&body, &json!({"predictions": predictions})).map_err(|why| format!("{why}: {body}")),
        None if body["predictions"].is_array() || body["predictions"].is_object() => Ok(()),
        None => Err(format!("no predictions: {body}")),
    }
}

pub(super) fn target(settings: Settings) -> Target {
    Target {
        provider: "a server",
        base: "http://h".parse().unwrap(),
        model: String::new(),
        headers: HeaderMap::new(),
        settings,
        templates: Templates::default(),
        quirks: &Quirks::NONE,
    }
}

/// The dialect must understand a refusal as it understands MLflow's.
fn refused(case: &Case, scored: &Scored, body: &Value) -> Result<(), String> {
    if let (Some(code), None) = (&case.mlflow.error_code, &case.differs)
        && body["error_code"] != json!(code)
    {
        return Err(format!("not {code}: {body}"));
    }
    let reason = told(scored.status, &scored.body).reason();
    let fits = match scored.status {
        StatusCode::BAD_REQUEST => reason == ErrorReason::CallerInvalidRequest,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => reason == ErrorReason::CallerUnsupportedMediaType,
        _ => reason == ErrorReason::ProviderModelFailed,
    };
    if fits { Ok(()) } else { Err(format!("understood as {reason:?}: {body}")) }
}

/// What callers are told of a refusal.
fn told(status: StatusCode, body: &[u8]) -> Error {
    SCORING.classify(&target(Settings::default()), status, &HeaderMap::new(), body)
}

/// Whole numbers are whole and texts are equal; the rest may be off by a little.
fn same(given: &Value, wanted: &Value) -> Result<(), String> {
    match (given, wanted) {
        (Value::Array(given), Value::Array(wanted)) if given.len() == wanted.len() => {
            given.iter().zip(wanted).try_for_each(|(given, wanted)| same(given, wanted))
        }
        (Value::Object(given), Value::Object(wanted)) if given.len() == wanted.len() => {
            wanted.iter().try_for_each(|(key, wanted)| same(given.get(key).unwrap_or(&Value::Null), wanted))
        }
        (Value::Number(given), Value::Number(wanted)) if given.is_f64() && wanted.is_f64() => {
            let (given, wanted) = (given.as_f64().unwrap(), wanted.as_f64().unwrap());
            if (given - wanted).abs() <= TOLERANCE * wanted.abs().max(1.0) { Ok(()) } else { Err(format!("{given} instead of {wanted}")) }
        }
        (given, wanted) if given == wanted => Ok(()),
        (given, wanted) => Err(format!("{given} instead of {wanted}")),
    }
}

/// The folder of a golden model.
fn golden(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/mlflow/scoring/testdata")).join(name)
}

/// A golden model whose `MLmodel` is written anew, and its file, too.
fn changed(name: &str, file: &str, mlmodel: impl Fn(&str) -> String, model: impl Fn(Vec<u8>) -> Vec<u8>) -> Result<Native, Unfit> {
    let folder = tempfile::tempdir().unwrap();
    let text = mlmodel(&fs::read_to_string(golden(name).join("MLmodel")).unwrap());
    fs::write(folder.path().join("MLmodel"), text).unwrap();
    let bytes = model(fs::read(golden(name).join(file)).unwrap());
    if !bytes.is_empty() {
        fs::write(folder.path().join(file), bytes).unwrap();
    }
    load(folder.path())
}

#[test]
fn damage_is_told_from_what_is_not_here() {
    let same = str::to_owned;
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    let damaged = [
        changed("onnx_zipmap", "model.onnx", same, |_| Vec::new()),
        changed("onnx_zipmap", "model.onnx", same, half),
        changed("onnx_beside", "model.onnx", same, |bytes| bytes),
        changed("xgb_booster", "model.json", same, half),
        changed("xgb_classes", "model.ubj", same, half),
        changed("xgb_classes", "model.ubj", same, |_| b"binf and what follows".to_vec()),
        changed("xgb_booster", "model.json", same, |_| b"<html>no model</html>".to_vec()),
        changed("xgb_booster", "model.json", same, |_| b"{\"version\": [3, 1, 0]}".to_vec()),
        changed("lgb_binary", "model.lgb", same, half),
        changed("lgb_binary", "model.lgb", same, |_| b"\xff\xfe".to_vec()),
        changed("xgb_booster", "model.json", |text| text.replace("data: model.json", "data: ../model.json"), |bytes| bytes),
    ];
    for result in damaged {
        assert!(matches!(result, Err(Unfit::Damaged(_))), "{result:?}");
    }
    let with = |name: &str, file: &str, from: &str, to: &str| {
        let replaced = |text: &str| {
            assert!(text.contains(from), "{from} is not in {text}");
            text.replace(from, to)
        };
        changed(name, file, replaced, |bytes| bytes)
    };
    for (result, told) in [
        (with("onnx_zipmap", "model.onnx", "loader_module: mlflow.onnx", "loader_module: mlflow.sklearn"), "flavors"),
        (with("onnx_zipmap", "model.onnx", "loader_module: mlflow.onnx", "loader_module: mlflow.onnx\n    predict_fn: x"), "method"),
        (with("lgb_binary", "model.lgb", "lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier"), "pickled"),
        (with("xgb_classes", "model.ubj", "xgboost.sklearn.XGBClassifier", "mine.Classifier"), "class"),
        (changed("xgb_booster", "model.json", |text| text.replace("data: model.json", "data: MLmodel"), |bytes| bytes), "old binary form"),
        (with("xgb_booster", "model.json", r#""name": "b""#, r#""name": "z""#), "was not trained on"),
        (with("onnx_zipmap", "model.onnx", r#""type": "double", "name": "d""#, r#""type": "datetime", "name": "d""#), "type"),
        (with("xgb_booster", "model.json", r#""type": "double", "name": "d""#, r#""type": "string", "name": "d""#), "type"),
        (with("onnx_tensor", "model.onnx", "float32", "float16"), "type"),
        (
            with(
                "lgb_whole",
                "model.lgb",
                r#""name": "d", "required": true}"#,
                r#""name": "d", "required": true}, {"type": "long", "name": "e", "required": true}"#,
            ),
            "5 columns",
        ),
        (changed("lgb_binary", "model.lgb", same, |bytes| [bytes, b"\npandas_categorical:[[\"a\"]]\n".to_vec()].concat()), "categories"),
    ] {
        let Err(unfit @ Unfit::Beyond(_)) = result else { panic!("{told}: {result:?}") };
        assert!(unfit.to_string().contains(told), "{told}: {unfit}");
    }
}

/// What the engine here does not know goes on, and the refusal says where to; ONNX Runtime itself is tried by the interop tests.
#[test]
fn an_unknown_operator_is_named_with_what_would_help() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/interop/onnx"));
    let file = |name: &str| ModelFile::read(&fs::read(folder.join(name).join(ModelFile::NAME)).unwrap()).unwrap();
    let library = Library::find(Some(Path::new("/nowhere/libonnxruntime.so")), &Fake::default());
    let try_it = |name: &str| Native::load(&folder.join(name), &file(name), Beyond { library: &library, threads: Some(1) });
    for (name, operator) in [("convolution", "Conv"), ("quantised", "DynamicQuantizeLinear"), ("beside", "Conv")] {
        let Err(Unfit::Beyond(why)) = try_it(name) else { panic!("{name} was loaded") };
        let helps = if cfg!(feature = "onnx") { "`mlflow.onnx_runtime` names no file" } else { "the cargo feature `onnx`" };
        assert!(why.contains(&format!("operator {operator} is not supported; ")) && why.contains(helps), "{name}: {why}");
        assert!(!why.contains("nowhere"), "{name}: {why}");
    }
    let Err(Unfit::Beyond(why)) = try_it("half") else { panic!("half was loaded") };
    assert!(why.contains("the input `x` has element type 10"), "{why}");
}

fn answer(name: &str, media: Option<&str>, body: &str) -> (u16, String) {
    let scored = load(&golden(name)).unwrap().answer(Written::As(media), body.as_bytes(), &Stop::default());
    (scored.status.as_u16(), String::from_utf8(scored.body.to_vec()).unwrap())
}

#[test]
fn onnx_says_why_it_cannot_explain_itself() {
    let body = |explain: bool| {
        format!(r#"{{"dataframe_split": {{"columns": ["a", "b", "c", "d"], "data": [[1, 2, 3, 4]]}}, "params": {{"explain": {explain}}}}}"#)
    };
    let (status, told) = answer("onnx_regression", Some("application/json"), &body(true));
    assert_eq!(status, 400, "{told}");
    for word in
        ["gives no explanations", "how much of the training went through each node", "mlflow.xgboost, mlflow.lightgbm", "Python model"]
    {
        assert!(told.contains(word), "{word} is not in {told}");
    }
    let told = super::tests::told(StatusCode::BAD_REQUEST, told.as_bytes()).to_string();
    assert!(told.contains("`params.explain` asks for what there is not: this model gives no explanations: an ONNX file"), "{told}");
    assert_eq!(answer("onnx_regression", Some("application/json"), &body(false)).0, 200);
}

#[test]
fn contributions_have_the_names_of_the_signature() {
    let spaced = |text: &str| text.replace(r#""name": "a""#, r#""name": "a (cm)""#);
    let model = changed("lgb_binary", "model.lgb", spaced, |bytes| bytes).unwrap();
    let body = r#"{"dataframe_records": [{"d": 1, "c": 1, "b": 1, "a (cm)": 1}], "params": {"explain": true}}"#;
    let scored = model.answer(Written::As(Some("application/json")), body.as_bytes(), &Stop::default());
    let answer: Value = serde_json::from_slice(&scored.body).unwrap();
    let names: Vec<_> = answer["predictions"][0]["contributions"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["a (cm)", "b", "c", "d"], "{answer}");
}

/// What is written to the log meanwhile.
fn logged(work: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl Write for Sink {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(line)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let sink = Sink::default();
    let out = sink.clone();
    tracing::subscriber::with_default(tracing_subscriber::fmt().with_writer(move || out.clone()).finish(), work);
    let written = sink.0.lock().unwrap().clone();
    String::from_utf8(written).unwrap()
}

/// As often as a caller likes would fill the log.
#[test]
fn parameters_that_nobody_knows_are_told_of_once() {
    let told = logged(|| {
        let model = load(&golden("xgb_booster")).unwrap().called(&"models:/credit/3".into());
        for params in [r#"{"explain": false}"#, r#"{"factr": "secret"}"#, r#"{"explian": true}"#] {
            let body = format!(r#"{{"dataframe_records": [{{"a": 1, "b": 1, "c": 1, "d": 1}}], "params": {params}}}"#);
            let scored = model.answer(Written::As(Some("application/json")), body.as_bytes(), &Stop::default());
            assert_eq!(scored.status, 200, "{params}");
        }
    });
    assert_eq!(told.matches("does not know").count(), 1, "{told}");
    assert!(told.contains("WARN") && told.contains("models:/credit/3") && !told.contains("secret"), "{told}");
}

#[test]
fn tables_that_pandas_reads_are_read() {
    let ones = answer("xgb_booster", Some("text/csv"), "a,b,c,d\n1,2,3,4\n1,0,3,4\n");
    assert_eq!(ones.0, 200, "{}", ones.1);
    for same in ["a,b,c,d\nTrue,2,3,4\nTRUE,False,3,4\n", "a,b,c,d,e,e\n1,2,3,4,5,6\n1,0,3,4,5,6\n", "a,b,c,d\n0,1,2,3,4\n1,1,0,3,4\n"] {
        assert_eq!(answer("xgb_booster", Some("text/csv"), same), ones, "{same}");
    }
    let split = r#"{"dataframe_split": {"columns": ["a", "b", "c", "d", "e", "e"], "data": [[1, 2, 3, 4, 5, 6], [1, 0, 3, 4, 5, 6]]}}"#;
    assert_eq!(answer("xgb_booster", Some("application/json"), split), ones);
    assert_eq!(answer("xgb_booster", Some("text/csv"), "a,b,c,d\n1,2,3,4\n0,1,2,3,4\n").0, 400);
}

#[test]
fn tokens_of_python_in_texts_are_texts() {
    let body = r#"{"dataframe_records": [{"a": NaN, "b": 1, "c": 1, "d": 1, "t": "Infinity War"}]}"#;
    assert_eq!(answer("xgb_booster", Some("application/json"), body).0, 200);
    let body = r#"{"dataframe_records": [{"a": NaN, "b": Infinity, "c": 1, "d": 1, "t": "War"}]}"#;
    assert_eq!(answer("xgb_booster", Some("application/json"), body).0, 400);
}

#[test]
fn whole_numbers_survive_the_way_into_narrow_inputs() {
    let long = |text: &str| text.replace(r#""type": "double", "name": "a""#, r#""type": "long", "name": "a""#);
    let model = changed("onnx_zipmap", "model.onnx", long, |bytes| bytes).unwrap();
    let asked = |number: &str| {
        let body = format!(r#"{{"dataframe_records": [{{"a": {number}, "b": 1, "c": 1, "d": 1}}]}}"#);
        let scored = model.answer(Written::As(Some("application/json")), body.as_bytes(), &Stop::default());
        (scored.status.as_u16(), String::from_utf8(scored.body.to_vec()).unwrap())
    };
    assert_eq!(asked("16777216").0, 200);
    for lost in ["16777217", "9007199254740993"] {
        let (status, text) = asked(lost);
        assert!(status == 400 && text.contains("column a") && !text.contains(lost), "{lost}: {status} {text}");
    }
}

#[test]
fn parameters_stand_once() {
    let body = r#"{"params": {"explain": "bad"}, "inputs": [[1, 1, 1, 1]], "params": {}}"#;
    let (status, text) = answer("xgb_booster", Some("application/json"), body);
    assert!(status == 400 && text.contains("params"), "{status} {text}");
}

#[test]
fn weights_beside_a_model_count() {
    let size = |file: &str| fs::metadata(golden("onnx_beside").join(file)).unwrap().len();
    let beside = fs::read_dir(golden("onnx_beside")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let beside = beside.into_iter().find(|name| name.ends_with(".data")).unwrap();
    assert!(load(&golden("onnx_beside")).unwrap().bytes() > size("model.onnx") + size(&beside) / 2);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]
    /// Any body ends in an answer that is JSON.
    #[test]
    fn no_body_breaks_it(model in 0_usize..4, pick in 0_usize..1000, at in 0.0_f64..1.0, piece in "[\\[\\]{},:0-9.\"a-eN-]{0,4}", cut in 0_usize..6) {
        thread_local!(static MODELS: Vec<(Native, Vec<Value>)> = ["onnx_zipmap", "onnx_named_tensors", "xgb_regression", "lgb_whole"].map(|name| {
            let cases = fs::read_to_string(golden(name).join("cases.jsonl")).unwrap();
            (load(&golden(name)).unwrap(), cases.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
        }).into());
        MODELS.with(|models| {
            let (native, cases) = &models[model];
            let case = &cases[pick % cases.len()];
            let mut body: Vec<char> = case["body"].as_str().unwrap().chars().collect();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in the body")]
            let start = (at * body.len() as f64) as usize;
            let end = (start + cut).min(body.len());
            body.splice(start..end, piece.chars());
            let body: String = body.into_iter().collect();
            let scored = native.answer(Written::As(case["type"].as_str()), body.as_bytes(), &Stop::default());
            serde_json::from_slice::<serde::de::IgnoredAny>(&scored.body).unwrap();
            proptest::prop_assert!(scored.status != StatusCode::INTERNAL_SERVER_ERROR, "{body}: {:?}", scored.body);
            Ok(())
        })?;
    }
}

#[test]
fn a_graph_tells_what_no_signature_does() {
    let told = |name: &str| load(&golden(name)).unwrap().signature();
    let tensors = |schema: Option<Schema>| match schema {
        Some(Schema::Tensors(tensors)) => {
            tensors.into_iter().map(|tensor| (tensor.name.unwrap(), tensor.element.name(), tensor.shape)).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let bare = told("onnx_no_signature").unwrap();
    assert_eq!(tensors(bare.inputs), [("X".to_owned(), "float32", vec![None, Some(4)])]);
    assert_eq!(tensors(bare.outputs), [("output_label".to_owned(), "int64", vec![None])], "maps are no tensors");
    assert!(matches!(told("onnx_named_columns").unwrap().inputs, Some(Schema::Columns(_))), "its own word counts");
    assert_eq!(told("xgb_regression"), None);
}
