//! The Open Inference Protocol: predict endpoints as models, over gRPC ([`super::grpc`]) and as REST ([`rest`]).

use std::sync::Arc;

use flowgate_proto::{
    inference::{
        ModelMetadataResponse, ServerMetadataResponse, model_metadata_response::TensorMetadata, repository_index_response::ModelIndex,
    },
    v1::{ErrorReason, ModelField},
};

use super::Gate;
use crate::{
    catalog::Endpoint,
    config::Place,
    error::{Error, Result},
    event::Task,
    identity::Principal,
    mlflow::discreet::discreet,
};

pub mod rest;

/// Who answers, and what of the protocol's extensions it knows.
pub(super) fn server() -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: "flowgate".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: vec!["binary_tensor_data".to_owned()],
    }
}

/// Whether a model can be called.
///
/// # Errors
/// `CALLER_ENDPOINT_NOT_FOUND`, `CALLER_WRONG_TASK`.
pub(super) fn is_ready(gate: &Gate, name: &str) -> Result<bool> {
    Ok(model(gate, name)?.not_serving().is_none())
}

/// What a model takes and gives, as far as that is known: of models that Flowgate runs, once they are loaded.
///
/// # Errors
/// As [`is_ready`].
pub(super) fn metadata(gate: &Gate, name: &str) -> Result<ModelMetadataResponse> {
    let endpoint = model(gate, name)?;
    let platform = endpoint.deployments.first().map_or("", |deployment| deployment.provider);
    let described = gate.snapshot.load().describe(&endpoint);
    let signature = described.signature.unwrap_or_default();
    Ok(ModelMetadataResponse {
        name: endpoint.name.to_string(),
        platform: platform.to_owned(),
        versions: described.models.into_iter().map(|model| model.version).filter(|version| !version.is_empty()).collect(),
        inputs: signature.inputs.iter().map(tensor).collect(),
        outputs: signature.outputs.iter().map(tensor).collect(),
    })
}

/// The models, or only those that can be called.
pub(super) fn index(gate: &Gate, only_ready: bool) -> Vec<ModelIndex> {
    let snapshot = gate.snapshot.load();
    let models = snapshot.catalog.all().iter().filter(|endpoint| endpoint.task == Task::Predict);
    let indexed = models.map(|endpoint| {
        let reason = endpoint.not_serving();
        let state = if reason.is_none() { "READY" } else { "UNAVAILABLE" };
        ModelIndex { name: endpoint.name.to_string(), version: String::new(), state: state.to_owned(), reason: reason.unwrap_or_default() }
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
    let endpoint = model(gate, name)?;
    if !principal.may_load_models {
        let message = "the key may not load or unload models; the operator lets it by `may_load_models`, or does it by `flowgate models`";
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

fn model(gate: &Gate, name: &str) -> Result<Arc<Endpoint>> {
    let snapshot = gate.snapshot.load();
    let endpoint = snapshot.catalog.endpoint(name)?;
    if endpoint.task != Task::Predict {
        let message = format!("the endpoint is of type {}, which is no model of this protocol", endpoint.task.endpoint_type());
        return Err(Error::new(ErrorReason::CallerWrongTask, message));
    }
    Ok(Arc::clone(endpoint))
}
