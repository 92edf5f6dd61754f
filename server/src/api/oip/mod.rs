//! The Open Inference Protocol: predict endpoints as models, over gRPC ([`super::grpc`]) and as REST ([`rest`]).

use std::sync::Arc;

use flowgate_proto::{
    inference::{
        ModelMetadataResponse, ServerMetadataResponse, model_metadata_response::TensorMetadata, repository_index_response::ModelIndex,
    },
    v1::{ErrorReason, ModelField, PredictResponse},
};

use super::Gate;
use crate::{
    catalog::Endpoint,
    config::Place,
    error::{Error, Result},
    event::Task,
    identity::Principal,
    mlflow::{
        discreet::discreet,
        models::{Generation, Hosted, State},
    },
    stack::Snapshot,
};

pub mod rest;

/// Who answers, and what of the protocol's extensions it knows.
pub(super) fn server() -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: "flowgate".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: ["binary_tensor_data", "model_repository"].map(str::to_owned).into(),
    }
}

/// Whether a model can be called.
///
/// # Errors
/// `CALLER_ENDPOINT_NOT_FOUND`, `CALLER_WRONG_TASK`; a version that does not answer.
pub(super) fn is_ready(gate: &Gate, name: &str, version: &str) -> Result<bool> {
    announces(gate, name, "version", version)?;
    let snapshot = gate.snapshot.load();
    Ok(Standing::of(&snapshot, model(&snapshot, name)?) == Standing::Ready)
}

/// What a model takes and gives, as far as that is known: of models that Flowgate runs, once they are loaded.
///
/// # Errors
/// As [`is_ready`].
pub(super) fn metadata(gate: &Gate, name: &str, version: &str) -> Result<ModelMetadataResponse> {
    announces(gate, name, "version", version)?;
    let snapshot = gate.snapshot.load();
    let endpoint = model(&snapshot, name)?;
    let platform = endpoint.deployments.first().map_or("", |deployment| deployment.provider);
    let signature = snapshot.describe(endpoint).signature.unwrap_or_default();
    Ok(ModelMetadataResponse {
        name: endpoint.name.to_string(),
        platform: platform.to_owned(),
        versions: versions(&snapshot, endpoint),
        inputs: signature.inputs.iter().map(tensor).collect(),
        outputs: signature.outputs.iter().map(tensor).collect(),
    })
}

/// What the metadata says that a model gives.
///
/// # Errors
/// As [`is_ready`].
pub(super) fn outputs(gate: &Gate, name: &str) -> Result<Vec<TensorMetadata>> {
    let snapshot = gate.snapshot.load();
    let current = snapshot.current(model(&snapshot, name)?);
    let signature = |at: &Option<Arc<Generation>>| at.as_ref().and_then(|current| current.signature().cloned());
    let [first, others @ ..] = current.as_slice() else { return Ok(Vec::new()) };
    // Of several models that differ there is no one signature.
    let signature = signature(first).filter(|first| others.iter().all(|other| signature(other).as_ref() == Some(first)));
    Ok(signature.map(|signature| signature.outputs_to_proto().iter().map(tensor).collect()).unwrap_or_default())
}

/// The versions that answer now.
fn versions(snapshot: &Snapshot, endpoint: &Endpoint) -> Vec<String> {
    let mut versions: Vec<_> = snapshot.current(endpoint).iter().flatten().filter_map(|current| version_of(current)).collect();
    versions.dedup();
    versions
}

fn version_of(current: &Generation) -> Option<String> {
    current.resolved().version.map(|version| version.version.to_string())
}

/// Refuses a version that cannot be the one that answers. What is not loaded may be any.
///
/// # Errors
/// As [`is_ready`]; `field` is where the version stands.
pub(super) fn announces(gate: &Gate, name: &str, field: &str, version: &str) -> Result<()> {
    if version.is_empty() {
        return Ok(());
    }
    let snapshot = gate.snapshot.load();
    let endpoint = model(&snapshot, name)?;
    let is_known = |current: &Option<Arc<Generation>>| current.is_some();
    let current = snapshot.current(endpoint);
    if !current.iter().all(is_known) || versions(&snapshot, endpoint).iter().any(|known| known == version) {
        return Ok(());
    }
    Err(another_version(field, &versions(&snapshot, endpoint).join(" and ")))
}

/// Refuses an answer of another version than the one that is asked for.
///
/// # Errors
/// That it is another one.
pub(super) fn is_of(version: &str, answer: &PredictResponse) -> Result<()> {
    let answered = answer.model.as_ref().map_or("", |model| model.version.as_str());
    if version.is_empty() || version == answered { Ok(()) } else { Err(another_version("model_version", answered)) }
}

fn another_version(field: &str, answers: &str) -> Error {
    let what = if answers.is_empty() {
        "names a version, and the endpoint has only the current one; leave it out".to_owned()
    } else {
        format!("names a version that does not answer here: version {answers} does; leave it out to get whichever does")
    };
    Error::invalid(field, what)
}

/// How a model stands, the best first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It answers, if only once a call has loaded it.
    Ready,
    /// It is being loaded for the first time.
    Loading,
    /// It cannot be called, and why.
    Unavailable(String),
}

impl Standing {
    /// That of an endpoint: ready where one of its deployments is, and every step of a chain.
    fn of(snapshot: &Snapshot, endpoint: &Endpoint) -> Self {
        if let Some(reason) = endpoint.not_serving() {
            return Self::Unavailable(reason);
        }
        if let Some(worst) = endpoint.steps.iter().map(|step| Self::of(snapshot, step)).max() {
            return worst;
        }
        let callable = endpoint.deployments.iter().filter(|deployment| deployment.dialect.is_some());
        let all = callable.map(|deployment| match &deployment.config.place {
            Place::Model(model) => snapshot.models().known(model).map_or(Self::Ready, |hosted| Self::of_model(&hosted)),
            Place::Http(_) | Place::Mock(_) | Place::Nowhere(_) => Self::Ready,
        });
        all.min().unwrap_or(Self::Ready)
    }

    /// What is not loaded is ready: the first call loads it, also after it was let go.
    fn of_model(hosted: &Hosted) -> Self {
        match hosted.state() {
            State::Unloaded | State::Loaded => Self::Ready,
            State::Loading => Self::Loading,
            State::Failed => {
                let why = hosted.failure().map(|failure| discreet(failure.error).to_string()).unwrap_or_default();
                Self::Unavailable(format!("the model cannot be loaded: {why}"))
            }
        }
    }
}

/// The models, or only those that can be called.
pub(super) fn index(gate: &Gate, only_ready: bool) -> Vec<ModelIndex> {
    let snapshot = gate.snapshot.load();
    let models = snapshot.catalog.all().iter().filter(|endpoint| endpoint.task == Task::Predict);
    let indexed = models.map(|endpoint| {
        let (state, reason) = match Standing::of(&snapshot, endpoint) {
            Standing::Ready => ("READY", String::new()),
            Standing::Loading => ("LOADING", "the model is being loaded".to_owned()),
            Standing::Unavailable(reason) => ("UNAVAILABLE", reason),
        };
        // Where several answer there is no one version.
        let version = if let [only] = versions(&snapshot, endpoint).as_slice() { only.clone() } else { String::new() };
        ModelIndex { name: endpoint.name.to_string(), version, state: state.to_owned(), reason }
    });
    indexed.filter(|model| !only_ready || model.reason.is_empty()).collect()
}

/// Refuses another repository than the one there is.
///
/// # Errors
/// That it is named.
pub(super) fn only_repository(name: &str) -> Result<()> {
    if name.is_empty() {
        return Ok(());
    }
    Err(Error::invalid("repository_name", "names a repository, and there is only the gateway's configuration; leave it out"))
}

/// Refuses what an unload or a load cannot do: a model is what the configuration says it is.
///
/// # Errors
/// That one of the parameters asks for something else.
pub(super) fn only_known<'a>(act: Act, parameters: impl Iterator<Item = &'a String>) -> Result<()> {
    for parameter in parameters {
        let what = match (act, parameter.as_str()) {
            // Nothing depends on a model here.
            (Act::Unload, "unload_dependents") => continue,
            (Act::Load, "config") => "holds `config`, and a model is what the gateway's configuration says; leave it out",
            (Act::Load, name) if name.starts_with("file:") => {
                "holds files, and a model's files come from where the gateway's configuration says; leave them out"
            }
            _ => "holds one that this gateway does not know; leave it out",
        };
        return Err(Error::invalid("parameters", what));
    }
    Ok(())
}

/// What becomes of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Loaded, or looked up anew.
    Load,
    /// Let go once its calls are done.
    Unload,
}

/// Loads or unloads all models of an endpoint that Flowgate runs itself.
///
/// # Errors
/// As [`is_ready`]; `CALLER_FORBIDDEN` for who has no key for that; `GATEWAY_UNSUPPORTED_TASK` for a model that is run by somebody else; what
/// keeps it from being loaded.
pub(super) async fn manage(gate: &Gate, principal: &Principal, name: &str, act: Act) -> Result<()> {
    let endpoint = Arc::clone(model(&gate.snapshot.load(), name)?);
    if !principal.may_load_models {
        let message = if gate.identity.is_open() {
            "loading and unloading models needs a key, and the gateway has none; the operator adds one to `identity` with `may_load_models`, \
             or does it by `flowgate models`"
        } else {
            "the key may not load or unload models; the operator lets it by `may_load_models`, or does it by `flowgate models`"
        };
        return Err(Error::new(ErrorReason::CallerForbidden, message));
    }
    let places = endpoint.deployments.iter().filter_map(|deployment| match &deployment.config.place {
        Place::Model(model) => Some(model),
        Place::Http(_) | Place::Mock(_) | Place::Nowhere(_) => None,
    });
    let own: Vec<_> = places.filter_map(|model| gate.snapshot.load().models().known(model)).collect();
    if own.is_empty() {
        let message = "the endpoint's model is run by the server that its deployments name, not by this gateway; load or unload it there";
        return Err(Error::new(ErrorReason::GatewayUnsupportedTask, message));
    }
    for hosted in own {
        match act {
            Act::Load => drop(hosted.refresh().await.map_err(discreet)?),
            Act::Unload => drop(hosted.unload()),
        }
    }
    Ok(())
}

/// A field of a signature as this protocol names it: columns are tensors of any length.
fn tensor(field: &ModelField) -> TensorMetadata {
    let inner = field.r#type.strip_prefix("tensor(").and_then(|rest| rest.strip_suffix(')')).unwrap_or(&field.r#type);
    let datatype = match inner {
        "boolean" | "bool" => "BOOL",
        "integer" | "int32" => "INT32",
        "long" | "int64" => "INT64",
        "float" | "float32" => "FP32",
        "double" | "float64" => "FP64",
        "int8" => "INT8",
        "int16" => "INT16",
        "uint8" => "UINT8",
        "uint16" => "UINT16",
        "uint32" => "UINT32",
        "uint64" => "UINT64",
        "float16" => "FP16",
        _ => "BYTES",
    };
    let shape = if field.shape.is_empty() { vec![-1] } else { field.shape.clone() };
    let name = if field.name.is_empty() { "predict".to_owned() } else { field.name.clone() };
    TensorMetadata { name, datatype: datatype.to_owned(), shape }
}

fn model<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a Arc<Endpoint>> {
    let endpoint = snapshot.catalog.endpoint(name)?;
    if endpoint.task != Task::Predict {
        let message = format!("the endpoint is of type {}, which is no model of this protocol", endpoint.task.endpoint_type());
        return Err(Error::new(ErrorReason::CallerWrongTask, message));
    }
    Ok(endpoint)
}
