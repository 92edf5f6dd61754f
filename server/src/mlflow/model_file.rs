//! `MLmodel`: what a model says of itself, read into a typed form.

use std::collections::BTreeMap;

use flowgate_proto::v1::ErrorReason;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::signature::Signature;
use crate::{
    config::RelativePath,
    error::{Error, Result},
};

/// How long an `MLmodel` may be: signatures of thousands of columns are in it.
pub const LONGEST: usize = 16 << 20;
/// How deep it may nest.
const DEEPEST: usize = 32;

/// An `MLmodel` file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelFile {
    /// The ways in which the model can be loaded, by name, with what each needs.
    pub flavors: BTreeMap<String, Map<String, Value>>,
    /// What of `flavors.python_function` Python needs to serve it. `None`: it cannot be served so.
    pub python: Option<PythonFunction>,
    /// What it takes and gives.
    pub signature: Option<Signature>,
    /// `metadata.task`, for example `llm/v1/chat`.
    pub task: Option<String>,
    /// `metadata`.
    pub metadata: Map<String, Value>,
    /// The logged model that it is.
    pub model_id: Option<String>,
    /// The run that made it.
    pub run_id: Option<String>,
    /// The MLflow that wrote it.
    pub mlflow_version: Option<String>,
    /// When that was, as it stands there.
    pub created: Option<String>,
    /// How large its files are, about.
    pub model_size_bytes: Option<u64>,
    /// A body of a scoring request that it must be able to answer.
    pub serving_input_example: Option<RelativePath>,
}

/// `flavors.python_function`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PythonFunction {
    /// The module that loads it, for example `mlflow.sklearn`.
    pub loader_module: String,
    /// The Python that made it, for example `3.11.7`.
    pub python_version: Option<String>,
    /// The method that predicts, when it is not `predict`.
    pub predict_fn: Option<String>,
    /// Whether it has `predict_stream`.
    pub streamable: bool,
    /// The file with what `virtualenv` needs.
    pub virtualenv: Option<RelativePath>,
    /// The file with what `conda` needs.
    pub conda: Option<RelativePath>,
}

/// The file as it is written.
#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    flavors: Option<BTreeMap<String, Option<Map<String, Value>>>>,
    #[serde(default)]
    signature: Option<RawSignature>,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
    #[serde(default)]
    model_id: Option<String>,
    #[serde(default)]
    run_id: Option<String>,
    #[serde(default)]
    mlflow_version: Option<String>,
    #[serde(default)]
    utc_time_created: Option<String>,
    #[serde(default)]
    model_size_bytes: Option<u64>,
    #[serde(default)]
    saved_input_example_info: Option<Example>,
}

#[derive(Deserialize)]
struct RawSignature {
    #[serde(default)]
    inputs: Option<String>,
    #[serde(default)]
    outputs: Option<String>,
    #[serde(default)]
    params: Option<String>,
}

#[derive(Deserialize)]
struct Example {
    #[serde(default)]
    serving_input_path: Option<String>,
}

impl ModelFile {
    /// The name of the file, in the model's folder.
    pub const NAME: &str = "MLmodel";

    /// Reads it. What it says beyond what is known here is passed over, as MLflow does.
    ///
    /// # Errors
    /// `GATEWAY_NOT_SERVING` when it is no such file, with what is wrong and where.
    pub fn read(text: &[u8]) -> Result<Self> {
        if text.len() > LONGEST {
            return Err(bad(&format!("it is longer than {LONGEST} bytes")));
        }
        let text = std::str::from_utf8(text).map_err(|_| bad("it is no text in UTF-8"))?;
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! { max_depth: DEEPEST, flow_nesting_limit: DEEPEST },
            strict_booleans: true,
            with_snippet: false,
        };
        let raw: Raw = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            // What follows the first line may repeat the file.
            bad(error.without_snippet().to_string().lines().next().unwrap_or_default().trim_end_matches('.'))
        })?;
        Self::lower(raw)
    }

    fn lower(raw: Raw) -> Result<Self> {
        let flavors: BTreeMap<String, Map<String, Value>> =
            raw.flavors.unwrap_or_default().into_iter().map(|(name, flavor)| (name, flavor.unwrap_or_default())).collect();
        if flavors.is_empty() {
            return Err(bad("it has no `flavors`, so that nothing can load it"));
        }
        let python = flavors.get("python_function").map(python).transpose()?;
        let signature = raw.signature.map(|raw| Signature::read(raw.inputs.as_deref(), raw.outputs.as_deref(), raw.params.as_deref()));
        let metadata = raw.metadata.unwrap_or_default();
        let example = raw.saved_input_example_info.and_then(|example| example.serving_input_path);
        Ok(Self {
            python,
            signature: signature.transpose().map_err(|error| bad(&error.to_string()))?,
            task: metadata.get("task").and_then(Value::as_str).map(ToOwned::to_owned),
            metadata,
            model_id: raw.model_id,
            run_id: raw.run_id.filter(|id| !id.is_empty()),
            mlflow_version: raw.mlflow_version,
            created: raw.utc_time_created,
            model_size_bytes: raw.model_size_bytes,
            serving_input_example: example.map(|path| file(&path, "saved_input_example_info.serving_input_path")).transpose()?,
            flavors,
        })
    }

    /// What a flavor says under a key, as the name of one of the model's files.
    ///
    /// # Errors
    /// `GATEWAY_NOT_SERVING` when it is no name of a file below the model's folder.
    pub fn file_of(&self, flavor: &str, key: &str) -> Result<Option<RelativePath>> {
        let text = self.flavors.get(flavor).and_then(|flavor| flavor.get(key)).and_then(Value::as_str);
        text.map(|text| file(text, key)).transpose()
    }

    /// The files that it names, each once, in order; only those whose names are taken.
    pub fn files(&self) -> Vec<RelativePath> {
        const KEYS: [&str; 7] = ["data", "model_path", "pickled_model", "python_model", "model_code_path", "model_data", "model_file"];
        let mut named: Vec<RelativePath> = self
            .flavors
            .values()
            .flat_map(|flavor| KEYS.iter().filter_map(|key| flavor.get(*key)?.as_str()?.parse().ok()))
            .chain(self.serving_input_example.clone())
            .chain(self.python.iter().flat_map(|python| [python.virtualenv.clone(), python.conda.clone()]).flatten())
            .collect();
        named.sort();
        named.dedup();
        named
    }
}

fn python(flavor: &Map<String, Value>) -> Result<PythonFunction> {
    let text = |key: &str| flavor.get(key).and_then(Value::as_str);
    // Before MLflow 2 it was one name, of the file for conda.
    let environment = |key: &str| match flavor.get("env") {
        Some(Value::Object(each)) => each.get(key).and_then(Value::as_str),
        Some(Value::String(conda)) if key == "conda" => Some(conda.as_str()),
        _ => None,
    };
    Ok(PythonFunction {
        loader_module: text("loader_module").ok_or_else(|| bad("`flavors.python_function` has no `loader_module`"))?.to_owned(),
        python_version: flavor.get("python_version").and_then(|version| match version {
            Value::String(version) => Some(version.clone()),
            // `3.11` unquoted.
            Value::Number(version) => Some(version.to_string()),
            _ => None,
        }),
        predict_fn: text("predict_fn").filter(|name| *name != "predict").map(ToOwned::to_owned),
        streamable: flavor.get("streamable") == Some(&Value::Bool(true)),
        virtualenv: environment("virtualenv").map(|path| file(path, "env.virtualenv")).transpose()?,
        conda: environment("conda").map(|path| file(path, "env.conda")).transpose()?,
    })
}

fn file(path: &str, key: &str) -> Result<RelativePath> {
    path.parse().map_err(|error| bad(&format!("`{key}` names no file of the model's: {error}")))
}

fn bad(why: &str) -> Error {
    let message = format!("the model's MLmodel file cannot be used: {why}; log the model anew");
    Error::new(ErrorReason::GatewayNotServing, message)
}

#[cfg(test)]
mod tests;
