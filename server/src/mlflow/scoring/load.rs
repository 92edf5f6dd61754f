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
        native::{Fault, Model, Outline, Type, trees},
        onnx::{Library, Order, Session},
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
    #[error("the model cannot be answered in this process: {0}")]
    Beyond(String),
    /// Its files are missing or damaged, whoever reads them.
    #[error("the model's files are damaged: {0}; log the model anew")]
    Damaged(String),
}

/// Where ONNX models go that the engine here does not know.
#[derive(Clone, Copy, Debug)]
pub struct Beyond<'a> {
    /// ONNX Runtime's.
    pub library: &'a Library,
    /// How many threads may compute at once; `None`: as many as the machine has.
    pub threads: Option<u32>,
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
pub(super) fn load(folder: &Path, file: &ModelFile, others: Beyond<'_>) -> Result<Loaded, Unfit> {
    let flavor = Flavor::of(file)?;
    let path = file.file_of(flavor.name(), "data").map_err(|error| Unfit::Damaged(error.to_string()))?;
    let path = match path {
        Some(path) => path,
        None if flavor == Flavor::Onnx => "model.onnx".parse().map_err(|_| beyond("its file has no name"))?,
        None => return Err(Unfit::Damaged(format!("`flavors.{}` has no `data`", flavor.name()))),
    };
    let bytes = read(folder, &path)?;
    let class = file.flavors.get(flavor.name()).and_then(|flavor| flavor.get("model_class")).and_then(serde_json::Value::as_str);
    let (mut engine, inputs) = match flavor {
        Flavor::Onnx => graph(folder, &path, &bytes, others)?,
        Flavor::Xgboost if is_old_xgboost(&path, &bytes) => {
            return Err(beyond("it is of XGBoost's old binary form; save it anew as JSON or UBJSON"));
        }
        Flavor::Xgboost => xgboost(&bytes, class, file.signature.as_ref())?,
        Flavor::Lightgbm => lightgbm(&bytes, class)?,
    };
    let size = match &engine {
        Engine::Graph(model) => model.bytes() as u64,
        Engine::Runtime(session) => session.bytes(),
        Engine::Trees(trees) => trees.model.bytes() as u64,
    };
    let schema = file.signature.as_ref().and_then(|signature| signature.inputs.as_ref());
    if let (Engine::Trees(_), Some(Schema::Columns(columns))) = (&engine, schema)
        && columns.iter().any(|column| !matches!(column.kind, Kind::Scalar(_)))
    {
        return Err(beyond("its signature has columns that are no numbers"));
    }
    let plan = Plan::new(inputs, schema).map_err(Unfit::Beyond)?;
    if let Engine::Trees(trees) = &mut engine {
        plan.rename(&mut trees.features);
    }
    Ok(Loaded { engine, plan, bytes: size })
}

fn read(folder: &Path, path: &RelativePath) -> Result<Vec<u8>, Unfit> {
    let whole = path.within(folder);
    let size = fs::metadata(&whole).map_err(|error| unreadable(path, &error))?.len();
    if size > LONGEST {
        return Err(beyond(&format!("`{path}` is longer than {LONGEST} bytes")));
    }
    let bytes = fs::read(&whole).map_err(|error| unreadable(path, &error))?;
    if bytes.is_empty() { Err(Unfit::Damaged(format!("`{path}` is empty"))) } else { Ok(bytes) }
}

fn graph(folder: &Path, path: &RelativePath, bytes: &[u8], others: Beyond<'_>) -> Result<(Engine, Inputs), Unfit> {
    let read_beside = |name: &str| {
        read(folder, &beside(path, name)?).map_err(|unfit| match unfit {
            Unfit::Beyond(what) => Fault::new(what),
            Unfit::Damaged(_) => Fault::broken(unfit.to_string()),
        })
    };
    let engine = match Model::load_beside(bytes, &read_beside) {
        Ok(model) => Engine::Graph(model),
        Err(fault) if fault.is_broken() => return Err(unfit(&fault)),
        Err(fault) => Engine::Runtime(runtime(folder, path, bytes, others).map_err(|unfit| match unfit {
            Unfit::Beyond(why) => Unfit::Beyond(format!("{fault}; {why}")),
            Unfit::Damaged(_) => unfit,
        })?),
    };
    let declared = match &engine {
        Engine::Graph(model) => model.inputs(),
        Engine::Runtime(session) => session.inputs(),
        Engine::Trees(_) => &[],
    };
    let port = |port: &crate::mlflow::native::Port| Port {
        name: port.name.clone(),
        kind: port.kind,
        shape: port.shape.clone(),
        want: Want::port(port.kind),
    };
    let ports: Vec<Port> = declared.iter().map(port).collect();
    if ports.is_empty() {
        return Err(beyond("it has no inputs"));
    }
    Ok((engine, Inputs { ports, features: Vec::new() }))
}

/// The model in ONNX Runtime, which reads its files itself: they are looked at first, so that no model names one outside its folder.
fn runtime(folder: &Path, path: &RelativePath, bytes: &[u8], others: Beyond<'_>) -> Result<Session, Unfit> {
    let outline = Outline::read(bytes).map_err(|fault| unfit(&fault))?;
    let mut weights = bytes.len() as u64;
    for name in &outline.beside {
        let path = beside(path, name).map_err(|fault| unfit(&fault))?;
        let found = fs::metadata(path.within(folder)).map_err(|error| unreadable(&path, &error))?;
        weights = weights.saturating_add(found.len());
    }
    let order = Order { path: &path.within(folder), outline, weights, threads: others.threads };
    Session::open(others.library, order).map_err(|fault| unfit(&fault))
}

/// A file that a model names: names are relative to the model's own file.
fn beside(model: &RelativePath, name: &str) -> Result<RelativePath, Fault> {
    let parent = model.as_str().rsplit_once('/').map(|(parent, _)| format!("{parent}/")).unwrap_or_default();
    format!("{parent}{name}").parse().map_err(|error| Fault::broken(format!("a file beside it has a bad name: {error}")))
}

/// Before its version 2.1 XGBoost wrote a form of its own into files of any other name; MLflow called them `model.xgb`.
fn is_old_xgboost(path: &RelativePath, bytes: &[u8]) -> bool {
    let is_told = [".json", ".ubj"].iter().any(|ending| path.as_str().ends_with(ending));
    !is_told && !bytes.trim_ascii_start().starts_with(b"{")
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
    let named = |at: usize| model.feature_names().get(at).map_or_else(|| format!("f{at}"), Clone::clone);
    let own = (0..model.features()).map(named).collect();
    (Engine::Trees(Trees { model, answer, features: own }), Inputs { ports: vec![port], features })
}

fn unreadable(path: &RelativePath, error: &io::Error) -> Unfit {
    Unfit::Damaged(format!("`{path}` cannot be read ({})", error.kind()))
}

fn unfit(fault: &Fault) -> Unfit {
    if fault.is_broken() { Unfit::Damaged(fault.to_string()) } else { Unfit::Beyond(fault.to_string()) }
}

fn beyond(why: &str) -> Unfit {
    Unfit::Beyond(why.to_owned())
}
