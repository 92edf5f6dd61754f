//! `ModelService`: how the models stand that the gateway runs itself, and what an operator does with them.

use std::{collections::HashMap, sync::Arc};

use flowgate_proto::{
    admin::v1::{
        ListModelsRequest, ListModelsResponse, LoadModelRequest, LoadModelResponse, Model, ModelDownload, ModelFailure, ModelRuntime,
        ModelState, PinModelRequest, PinModelResponse, UnloadModelRequest, UnloadModelResponse, model_service_server::ModelService,
    },
    v1::ErrorReason,
    wkt::{Duration, Timestamp},
};
use futures_util::future::join_all;
use tonic::{Request, Response, Status};

use crate::{
    api::{Gate, failure},
    config::Place,
    error::{Error, Result},
    mlflow::models::{Failure, Hosted, State},
    stack::Snapshot,
};

/// The models behind a gate.
#[derive(Debug)]
pub(super) struct Models(Arc<Gate>);

impl Models {
    pub(super) fn new(gate: &Arc<Gate>) -> Self {
        Self(Arc::clone(gate))
    }

    fn find(&self, name: &str) -> Result<Vec<Arc<Hosted>>, Status> {
        find(&self.0.snapshot.load(), name).map_err(|error| failure::detailed(&error, HashMap::new()))
    }

    fn told(&self, all: &[Arc<Hosted>]) -> Option<Model> {
        all.first().map(|hosted| told(&self.0.snapshot.load(), hosted))
    }
}

#[tonic::async_trait]
impl ModelService for Models {
    async fn list_models(&self, _: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let snapshot = self.0.snapshot.load();
        let models = snapshot.models().all().iter().map(|hosted| told(&snapshot, hosted)).collect();
        Ok(Response::new(ListModelsResponse { models }))
    }

    async fn load_model(&self, request: Request<LoadModelRequest>) -> Result<Response<LoadModelResponse>, Status> {
        let all = self.find(&request.into_inner().model)?;
        // Each is tried, whatever becomes of the others.
        for loaded in join_all(all.iter().map(|hosted| hosted.refresh())).await {
            loaded.map_err(|error| failure::detailed(&error, HashMap::new()))?;
        }
        Ok(Response::new(LoadModelResponse { model: self.told(&all) }))
    }

    async fn unload_model(&self, request: Request<UnloadModelRequest>) -> Result<Response<UnloadModelResponse>, Status> {
        let all = self.find(&request.into_inner().model)?;
        for hosted in &all {
            hosted.unload();
        }
        Ok(Response::new(UnloadModelResponse { model: self.told(&all) }))
    }

    async fn pin_model(&self, request: Request<PinModelRequest>) -> Result<Response<PinModelResponse>, Status> {
        let PinModelRequest { model, pinned } = request.into_inner();
        let all = self.find(&model)?;
        all.iter().for_each(|hosted| hosted.pin(pinned));
        Ok(Response::new(PinModelResponse { model: self.told(&all) }))
    }
}

/// All models of a reference, or that of an endpoint that has just one.
fn find(snapshot: &Snapshot, name: &str) -> Result<Vec<Arc<Hosted>>> {
    if name.is_empty() {
        return Err(Error::invalid("model", "is missing; name a model or an endpoint"));
    }
    let all = snapshot.models().all();
    let is_named = |hosted: &&Arc<Hosted>| **hosted.name() == *name;
    let named: Vec<_> = all.iter().filter(is_named).cloned().collect();
    if !named.is_empty() {
        return Ok(named);
    }
    let of_endpoint: Vec<_> =
        all.into_iter().filter(|hosted| endpoints(snapshot, hosted).iter().any(|endpoint| endpoint == name)).collect();
    match of_endpoint.len() {
        1 => Ok(of_endpoint),
        0 => Err(not_found("no endpoint has this model; list those there are with `flowgate models`")),
        _ => Err(not_found("the endpoint has several models; name one by its reference")),
    }
}

fn not_found(message: &'static str) -> Error {
    Error::new(ErrorReason::CallerModelNotFound, message)
}

/// The endpoints that have a deployment with a model.
fn endpoints(snapshot: &Snapshot, hosted: &Hosted) -> Vec<String> {
    let has = |deployment: &crate::catalog::Deployment| matches!(&deployment.config.place, Place::Model(model) if hosted.is(model));
    let all = snapshot.catalog.all().iter();
    all.filter(|endpoint| endpoint.deployments.iter().any(|each| has(each))).map(|endpoint| endpoint.name.to_string()).collect()
}

fn told(snapshot: &Snapshot, hosted: &Hosted) -> Model {
    let failure = hosted.failure();
    let (state, state_reason) = match (hosted.state(), &failure) {
        (State::Unloaded, _) => (ModelState::Unloaded, String::new()),
        (State::Loading, _) => (ModelState::Loading, String::new()),
        (State::Loaded, _) => (ModelState::Loaded, String::new()),
        (State::Failed, None) => (ModelState::Failed, String::new()),
        (State::Failed, Some(failure)) => (ModelState::Failed, format!("{}; {}", failure.error, failure.again)),
    };
    let current = hosted.current();
    let version = current.as_ref().and_then(|current| current.resolved().version);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let downloads = snapshot.models().downloads();
    Model {
        uri: hosted.name().to_string(),
        state: state.into(),
        state_reason,
        runtime: match &current {
            None => ModelRuntime::Unspecified,
            Some(current) if current.is_native() => ModelRuntime::Native,
            Some(_) => ModelRuntime::Python,
        }
        .into(),
        version: version.as_ref().map_or(0, |version| version.version),
        aliases: version.map(|version| version.aliases).unwrap_or_default(),
        digest: current.as_ref().map(|current| current.digest().to_owned()).unwrap_or_default(),
        instances: current.as_ref().map_or(0, |current| count(current.count())),
        memory_bytes: current.as_ref().map_or(0, |current| current.bytes()),
        calls: count(hosted.calls()),
        processes: current.as_ref().map(|current| current.processes()).unwrap_or_default(),
        pinned: hosted.is_pinned(),
        loaded_at: current.as_ref().map(|current| {
            let since = current.since().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            Timestamp { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos: since.subsec_nanos().cast_signed() }
        }),
        endpoints: endpoints(snapshot, hosted),
        download: downloads.iter().find(|report| *report.model == **hosted.name()).map(|report| ModelDownload {
            files: report.files,
            files_done: report.files_done,
            bytes: report.bytes,
            bytes_done: report.bytes_done,
        }),
        failure: failure.map(|Failure { version, error, again }| ModelFailure {
            version: version.unwrap_or_default(),
            reason: error.to_string(),
            again_in: again.after().map(|after| Duration {
                seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                nanos: after.subsec_nanos().cast_signed(),
            }),
        }),
    }
}
