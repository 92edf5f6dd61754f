//! Files of models, which come from outside: read into an engine and asked once, or refused.
//!
//! Whatever a file holds, an answer may take only so long after nobody waits for it any longer: `patiently` gives up waiting, and libFuzzer
//! sees who goes on.

use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};

use flowgate_proto::v1::{ErrorReason, PredictResponse, predict_response};
use flowgate_server::{
    config::Process,
    dialect::scoring::message::MEDIA,
    mlflow::{
        language,
        model_file::ModelFile,
        native::{Model, Outline, Port, Stop, Tensor, Type, Values, trees},
        onnx::Library,
        scoring::{Beyond, Native, Written},
        signature::Schema,
    },
};
use http::StatusCode;
use prost::Message as _;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many values an input may have; a model may ask for more, as its caller would have to send them.
const MOST: usize = 1 << 16;
/// The folders with models of all flavors, and what they are asked.
const FOLDERS: [&str; 10] = [
    "onnx_regression",
    "onnx_text",
    "onnx_named_tensors",
    "onnx_named_columns",
    "onnx_zipmap_text",
    "onnx_whole",
    "xgb_classes",
    "xgb_booster",
    "lgb_binary",
    "lgb_whole",
];

const JSON: Written<'static> = Written::As(Some("application/json"));

/// A model and a body that it answers.
struct Known {
    folder: PathBuf,
    body: String,
    model: Native,
}

static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../server/src/mlflow/scoring/testdata"));
    let known = |name: &&str| {
        let folder = root.join(name);
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).expect("a file");
        let file = ModelFile::read(read("MLmodel").as_bytes()).expect("a model");
        let case: serde_json::Value = serde_json::from_str(read("cases.jsonl").lines().next().expect("a case")).expect("JSON");
        let body = case["body"].as_str().expect("a body").to_owned();
        let model = load(&folder, &file).expect("a model");
        Known { folder, body, model }
    };
    FOLDERS.iter().map(known).collect()
});

/// Computes for as long as somebody waits.
fn patiently<T>(compute: impl FnOnce(&Stop) -> T) -> T {
    compute(&Stop::after(PATIENCE))
}

fn load(folder: &Path, file: &ModelFile) -> Option<Native> {
    static LIBRARY: LazyLock<Library> = LazyLock::new(|| Library::find(None, &Process));
    Native::load(folder, file, Beyond { library: &LIBRARY, threads: Some(1) }).ok()
}

/// Reads an ONNX model and runs it on so many rows as the first byte says. Files beside it hold the same bytes, whatever they are called.
pub fn onnx(input: &[u8]) {
    let [rows, bytes @ ..] = input else { return };
    let outline = Outline::read(bytes);
    let Ok(model) = Model::load_beside(bytes, &|_| Ok((0..=u8::MAX).collect())) else { return };
    assert_eq!(outline.expect("a model that loads").inputs, model.inputs());
    let tensors: Option<Vec<_>> =
        model.inputs().iter().map(|port| Some((port.name.as_str(), tensor(port, usize::from(rows % 4))?))).collect();
    let Some(tensors) = tensors else { return };
    if let Ok(answers) = patiently(|stop| model.run(tensors, stop)) {
        assert_eq!(answers.len(), model.outputs().len());
    }
}

fn tensor(port: &Port, rows: usize) -> Option<Tensor> {
    let shape: Vec<usize> = port.shape.as_ref().map_or_else(|| vec![rows, 4], |dims| dims.iter().map(|dim| dim.unwrap_or(rows)).collect());
    let count = shape.iter().try_fold(1_usize, |count, dim| count.checked_mul(*dim)).filter(|count| *count <= MOST)?;
    let numbers = || (0..count).map(|n| [0.5, -1.5, f64::NAN, 3.0][n % 4]);
    let whole = || (0..count).map(|n| [0, -1, 2, 127][n % 4]);
    let values = match port.kind {
        Type::F32 => Values::F32(numbers().map(|number| number as f32).collect()),
        Type::F64 => Values::F64(numbers().collect()),
        Type::I64 => Values::I64((0..count).map(|n| [0, -1, i64::MAX, 3][n % 4]).collect()),
        Type::I32 => Values::I32(whole().map(i32::from).collect()),
        Type::I8 => Values::I8(whole().collect()),
        Type::U8 => Values::U8(whole().map(i8::cast_unsigned).collect()),
        Type::Bool => Values::Bool((0..count).map(|n| n % 2 == 0).collect()),
        Type::Text => Values::Text((0..count).map(|n| ["a", "", "b c"][n % 3].into()).collect()),
    };
    Tensor::new(shape, values).ok()
}

/// Reads a model of XGBoost's, of JSON or UBJSON, and asks it.
pub fn xgboost(input: &[u8]) {
    let [rounds, bytes @ ..] = input else { return };
    let rounds = if rounds % 2 == 0 { trees::xgboost::Rounds::All } else { trees::xgboost::Rounds::Best };
    if let Ok(model) = trees::xgboost::read(bytes, rounds) {
        asked(&model);
    }
}

/// Reads a model of LightGBM's, and asks it.
pub fn lightgbm(input: &[u8]) {
    if let Ok(model) = trees::lightgbm::read(input) {
        asked(&model);
    }
}

fn asked(model: &trees::Model) {
    if model.features() > MOST {
        return;
    }
    let rows: Vec<f64> = (0..2 * model.features()).map(|n| [0.5, f64::NAN, -1.5, 1e300, 0.0][n % 5]).collect();
    patiently(|stop| match model.predict(&rows, stop) {
        Ok(answers) => assert_eq!(answers.len(), 2 * model.outputs()),
        Err(fault) => assert!(stop.check().is_err(), "{fault}"),
    });
    if let Ok(parts) = patiently(|stop| model.contributions(&rows, stop)) {
        assert_eq!(parts.len(), 2 * model.scores() * (model.features() + 1));
    }
}

/// Reads an `MLmodel`, and has a model whose files are in order be what it says: the first byte chooses which.
pub fn model_file(input: &[u8]) {
    let [which, text @ ..] = input else { return };
    let file = match ModelFile::read(text) {
        Ok(file) => file,
        Err(error) => return assert_eq!(error.reason(), ErrorReason::GatewayNotServing),
    };
    drop((language::task(&file), language::settings(&file), file.files()));
    if let Some(signature) = &file.signature {
        drop((signature.to_proto(), signature.outputs_to_proto(), signature.entries(true), signature.entries(false)));
    }
    let known = &KNOWN[usize::from(*which) % KNOWN.len()];
    if let Some(model) = load(&known.folder, &file) {
        answered(&model, JSON, known.body.as_bytes());
    }
}

/// Asks a model: the first byte chooses which, the second how it is written, and the rest is the body.
pub fn body(input: &[u8]) {
    let [which, kind, body @ ..] = input else { return };
    let written = [JSON, Written::As(Some("text/csv")), Written::Message][usize::from(kind % 3)];
    let model = &KNOWN[usize::from(*which) % KNOWN.len()].model;
    let status = answered(model, written, body);
    // Tensors may fit their signature each, and not each other.
    let inputs = model.signature().and_then(|signature| signature.inputs.clone());
    if let Some(Schema::Columns(_)) = inputs {
        assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "these models answer whatever fits their signatures");
    }
}

/// Whatever is asked, the answer is JSON, or a message that was asked for.
fn answered(model: &Native, written: Written<'_>, body: &[u8]) -> StatusCode {
    let scored = patiently(|stop| model.answer(written, body, stop));
    if scored.content_type == MEDIA {
        assert!(matches!(written, Written::Message) && scored.status == StatusCode::OK);
        let answer = PredictResponse::decode(scored.body).expect("an answer is a message");
        assert!(matches!(answer.output, Some(predict_response::Output::Tensors(_))), "{answer:?}");
    } else {
        serde_json::from_slice::<serde::de::IgnoredAny>(&scored.body).expect("an answer is JSON");
    }
    scored.status
}
