//! Models as MLflow saves them, against what its own scoring server answers: `tests/interop/native_scoring.py` wrote `testdata`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Native, Scored, Unfit};
use crate::{
    dialect::{Dialect as _, Quirks, Settings, Target, scoring::SCORING},
    mlflow::model_file::ModelFile,
};

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

fn load(folder: &Path) -> Result<Native, Unfit> {
    let file = ModelFile::read(&fs::read(folder.join(ModelFile::NAME)).unwrap()).unwrap();
    Native::load(folder, &file)
}

fn check(model: &Native, case: &Case) -> Result<(), String> {
    let scored = model.answer(Some(&case.media), case.body.as_bytes());
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

/// The dialect must understand a refusal as it understands MLflow's.
fn refused(case: &Case, scored: &Scored, body: &Value) -> Result<(), String> {
    if let (Some(code), None) = (&case.mlflow.error_code, &case.differs)
        && body["error_code"] != json!(code)
    {
        return Err(format!("not {code}: {body}"));
    }
    let target = Target {
        provider: "a server",
        base: "http://h".parse().unwrap(),
        model: String::new(),
        headers: HeaderMap::new(),
        settings: Settings::default(),
        quirks: &Quirks::NONE,
    };
    let reason = SCORING.classify(&target, scored.status, &HeaderMap::new(), &scored.body).reason();
    let fits = match scored.status {
        StatusCode::BAD_REQUEST => reason == ErrorReason::CallerInvalidRequest,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => reason == ErrorReason::CallerUnsupportedMediaType,
        _ => reason == ErrorReason::ProviderModelFailed,
    };
    if fits { Ok(()) } else { Err(format!("understood as {reason:?}: {body}")) }
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
