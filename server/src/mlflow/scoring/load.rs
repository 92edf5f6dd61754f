//! A model's folder, read into an engine and a plan; or why it cannot be.

use std::{fs, io, path::Path};

use super::{
    engine::{Engine, TreeAnswer, Trees},
    plan::{Inputs, Plan, Port},
    want::Want,
};
use crate::{
    config::RelativePath,
    mlflow::{
        model_file::ModelFile,
        native::{Fault, Model, Type, trees},
        signature::{Kind, Schema, Signature},
    },
};

/// How long a model's file may be: what protobuf allows.
const LONGEST: u64 = 1 << 31;
/// What MLflow passes on to `Booster.predict`, and this does not.
const XGBOOST_PARAMS: [&str; 8] =
    ["output_margin", "pred_leaf", "pred_contribs", "approx_contribs", "pred_interactions", "training", "iteration_range", "strict_shape"];

/// Why a model is not answered in this process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It needs what is not here; Python may have it.
    #[error("the model cannot be answered in this process: {0}; Python can run it")]
    Beyond(String),
    /// Its files are missing or damaged, whoever reads them.
    #[error("the model's files are damaged: {0}; log the model anew")]
    Damaged(String),
}

/// What stands in a folder.
pub(super) struct Loaded {
    pub(super) engine: Engine,
    pub(super) plan: Plan,
    pub(super) bytes: u64,
}

/// The flavors that are answered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flavor {
    Onnx,
    Xgboost,
    Lightgbm,
}

impl Flavor {
    const ALL: [Self; 3] = [Self::Onnx, Self::Xgboost, Self::Lightgbm];

    const fn name(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::Xgboost => "xgboost",
            Self::Lightgbm => "lightgbm",
        }
    }

    /// The flavor that MLflow itself would serve.
    fn of(file: &ModelFile) -> Result<Self, Unfit> {
        let found = Self::ALL.into_iter().find(|flavor| {
            let loads = |loader: &str| loader.strip_prefix("mlflow.") == Some(flavor.name());
            file.flavors.contains_key(flavor.name()) && file.python.as_ref().is_none_or(|python| loads(&python.loader_module))
        });
        let flavor = found.ok_or_else(|| beyond("of its flavors none is `onnx`, `xgboost` or `lightgbm`, served as such"))?;
        match file.python.as_ref().and_then(|python| python.predict_fn.as_deref()) {
            Some(_) => Err(beyond("it answers with another method than `predict`")),
            None => Ok(flavor),
        }
    }
}

/// Reads a folder.
pub(super) fn load(folder: &Path, file: &ModelFile) -> Result<Loaded, Unfit> {
    let flavor = Flavor::of(file)?;
    let path = file.file_of(flavor.name(), "data").map_err(|error| Unfit::Damaged(error.to_string()))?;
    let path = match path {
        Some(path) => path,
        None if flavor == Flavor::Onnx => "model.onnx".parse().map_err(|_| beyond("its file has no name"))?,
        None => return Err(Unfit::Damaged(format!("`flavors.{}` has no `data`", flavor.name()))),
    };
    let bytes = read(folder, &path)?;
    let class = file.flavors.get(flavor.name()).and_then(|flavor| flavor.get("model_class")).and_then(serde_json::Value::as_str);
    let (engine, inputs) = match flavor {
        Flavor::Onnx => graph(folder, &path, &bytes)?,
        Flavor::Xgboost => xgboost(&bytes, class, file.signature.as_ref())?,
        Flavor::Lightgbm => lightgbm(&bytes, class)?,
    };
    let size = match &engine {
        // Its weights are most of the files.
        Engine::Graph(model) => bytes.len() as u64 + model.beside(),
        Engine::Trees(trees) => trees.model.bytes() as u64,
    };
    let schema = file.signature.as_ref().and_then(|signature| signature.inputs.as_ref());
    if let (Engine::Trees(_), Some(Schema::Columns(columns))) = (&engine, schema)
        && columns.iter().any(|column| !matches!(column.kind, Kind::Scalar(_)))
    {
        return Err(beyond("its signature has columns that are no numbers"));
    }
    let plan = Plan::new(inputs, schema).map_err(Unfit::Beyond)?;
    Ok(Loaded { engine, plan, bytes: size })
}

fn read(folder: &Path, path: &RelativePath) -> Result<Vec<u8>, Unfit> {
    let unreadable = |error: io::Error| Unfit::Damaged(format!("`{path}` cannot be read ({})", error.kind()));
    let whole = path.within(folder);
    let size = fs::metadata(&whole).map_err(unreadable)?.len();
    if size > LONGEST {
        return Err(beyond(&format!("`{path}` is longer than {LONGEST} bytes")));
    }
    let bytes = fs::read(&whole).map_err(unreadable)?;
    if bytes.is_empty() { Err(Unfit::Damaged(format!("`{path}` is empty"))) } else { Ok(bytes) }
}

fn graph(folder: &Path, path: &RelativePath, bytes: &[u8]) -> Result<(Engine, Inputs), Unfit> {
    // Names are relative to the model's file.
    let parent = path.as_str().rsplit_once('/').map(|(parent, _)| format!("{parent}/")).unwrap_or_default();
    let beside = |name: &str| {
        let path = format!("{parent}{name}").parse().map_err(|error| Fault::broken(format!("a file beside it has a bad name: {error}")))?;
        read(folder, &path).map_err(|unfit| Fault::broken(unfit.to_string()))
    };
    let model = Model::load_beside(bytes, &beside).map_err(|fault| unfit(&fault))?;
    let port = |port: &crate::mlflow::native::Port| Port {
        name: port.name.clone(),
        kind: port.kind,
        shape: port.shape.clone(),
        want: Want::port(port.kind),
    };
    let ports: Vec<Port> = model.inputs().iter().map(port).collect();
    if ports.is_empty() {
        return Err(beyond("it has no inputs"));
    }
    Ok((Engine::Graph(model), Inputs { ports, features: Vec::new() }))
}

fn xgboost(bytes: &[u8], class: Option<&str>, signature: Option<&Signature>) -> Result<(Engine, Inputs), Unfit> {
    use trees::xgboost::{Rounds, read};
    let class = class.unwrap_or("xgboost.core.Booster").rsplit('.').next().unwrap_or_default();
    let (rounds, answer) = match class {
        "Booster" => (Rounds::All, TreeAnswer::Single),
        "XGBRegressor" | "XGBRFRegressor" | "XGBRanker" => (Rounds::Best, TreeAnswer::Single),
        "XGBClassifier" | "XGBRFClassifier" => (Rounds::Best, TreeAnswer::Class),
        _ => return Err(beyond("its class of XGBoost is not known here")),
    };
    let declared = signature.and_then(|signature| signature.params.as_deref()).unwrap_or_default();
    if let Some(param) = declared.iter().find(|param| XGBOOST_PARAMS.contains(&param.name.as_str())) {
        return Err(beyond(&format!("its parameter `{}` changes what XGBoost answers", param.name)));
    }
    let model = read(bytes, rounds).map_err(|fault| unfit(&fault))?;
    let features = model.feature_names().to_vec();
    Ok(trees_of(model, answer, Want::Single, features))
}

fn lightgbm(bytes: &[u8], class: Option<&str>) -> Result<(Engine, Inputs), Unfit> {
    if class.is_some_and(|class| class != "lightgbm.basic.Booster") {
        return Err(beyond("it is an object that Python has pickled; log its `booster_` instead"));
    }
    let is_whole = memchr::memmem::find(bytes, b"\nend of trees").is_some();
    let model = trees::lightgbm::read(bytes).map_err(|fault| if is_whole { unfit(&fault) } else { Unfit::Damaged(fault.to_string()) })?;
    if has_category_names(bytes) {
        return Err(beyond("its categories are pandas' own, which only Python can tell"));
    }
    // LightGBM goes by places, whatever the columns are called.
    Ok(trees_of(model, TreeAnswer::Double, Want::Double, Vec::new()))
}

/// Whether the last lines list the categories of the table that it was trained on.
fn has_category_names(bytes: &[u8]) -> bool {
    const MARK: &[u8] = b"\npandas_categorical:";
    let listed = memchr::memmem::rfind(bytes, MARK).and_then(|at| bytes.get(at + MARK.len()..));
    listed.is_some_and(|listed| !matches!(listed.trim_ascii(), b"null" | b"[]" | b""))
}

fn trees_of(model: trees::Model, answer: TreeAnswer, want: Want, features: Vec<String>) -> (Engine, Inputs) {
    let port = Port { name: "data".to_owned(), kind: Type::F64, shape: Some(vec![None, Some(model.features())]), want };
    (Engine::Trees(Trees { model, answer }), Inputs { ports: vec![port], features })
}

fn unfit(fault: &Fault) -> Unfit {
    if fault.is_broken() { Unfit::Damaged(fault.to_string()) } else { Unfit::Beyond(fault.to_string()) }
}

fn beyond(why: &str) -> Unfit {
    Unfit::Beyond(why.to_owned())
}
