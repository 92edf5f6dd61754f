//! The Open Inference Protocol: predict endpoints as models, over gRPC ([`super::grpc`]) and as REST ([`rest`]).

use std::sync::Arc;

use flowgate_proto::{
    inference::{ModelMetadataResponse, ServerMetadataResponse, repository_index_response::ModelIndex},
    v1::ErrorReason,
};

use super::Gate;
use crate::{
    catalog::Endpoint,
    error::{Error, Result},
    event::Task,
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

/// What a model takes and gives.
///
/// # Errors
/// As [`is_ready`].
pub(super) fn metadata(gate: &Gate, name: &str) -> Result<ModelMetadataResponse> {
    let endpoint = model(gate, name)?;
    let platform = endpoint.deployments.first().map_or("", |deployment| deployment.provider);
    Ok(ModelMetadataResponse { name: endpoint.name.to_string(), platform: platform.to_owned(), ..ModelMetadataResponse::default() })
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

/// Loads or unloads a model: the one place for it, once there are deployments whose models Flowgate runs itself.
///
/// # Errors
/// As [`is_ready`]; `GATEWAY_UNSUPPORTED_TASK` for a model that is run by somebody else.
pub(super) fn manage(gate: &Gate, name: &str) -> Result<()> {
    model(gate, name)?;
    let message = "the endpoint's model is run by the server that its deployments name, not by this gateway; load or unload it there";
    Err(Error::new(ErrorReason::GatewayUnsupportedTask, message))
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
