//! The Open Inference Protocol's service. In a stream each request is a call of its own, answered in its place.

use std::{collections::HashMap, sync::Arc};

use flowgate_proto::inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse,
    ModelRepositoryParameter, ModelStreamInferResponse, RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
    RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse, ServerLiveRequest, ServerLiveResponse,
    ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
    grpc_inference_service_server::GrpcInferenceService,
};
use futures_util::{StreamExt as _, stream::BoxStream};
use http::HeaderMap;
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use super::{
    super::{
        Visit,
        oip::{self, Act},
    },
    Health,
    call::{Ask, Caller, Doors},
    convert, prediction, refusal,
    series::{AT_ONCE, Series},
};
use crate::{
    dialect::oip::door,
    error::Result,
    event::{self, Task},
};

/// Where streams of requests come in, for the access lines of the single ones.
const PATH: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// The service. Cloning shares.
#[derive(Clone, Debug)]
pub(super) struct Inference {
    pub(super) doors: Doors,
    pub(super) health: Health,
}

/// An answer that needs no call.
fn told<M, A: Message>(request: Request<M>, answer: impl FnOnce(M) -> Result<A>) -> Result<Response<A>, Status> {
    let (caller, message) = Caller::of(request);
    let answered = answer(message).map(|answer| (HeaderMap::new(), answer));
    caller.respond(answered)
}

#[tonic::async_trait]
impl GrpcInferenceService for Inference {
    async fn server_live(&self, request: Request<ServerLiveRequest>) -> Result<Response<ServerLiveResponse>, Status> {
        told(request, |_| Ok(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, request: Request<ServerReadyRequest>) -> Result<Response<ServerReadyResponse>, Status> {
        let ready = self.health.serves().await;
        told(request, |_| Ok(ServerReadyResponse { ready }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Result<Response<ModelReadyResponse>, Status> {
        // Whatever cannot be called is not ready, as other servers of the protocol say it.
        told(request, |asked| {
            Ok(ModelReadyResponse { ready: oip::is_ready(&self.doors.gate, &asked.name, &asked.version).unwrap_or(false) })
        })
    }

    async fn server_metadata(&self, request: Request<ServerMetadataRequest>) -> Result<Response<ServerMetadataResponse>, Status> {
        told(request, |_| Ok(oip::server()))
    }

    async fn model_metadata(&self, request: Request<ModelMetadataRequest>) -> Result<Response<ModelMetadataResponse>, Status> {
        told(request, |asked| oip::metadata(&self.doors.gate, &asked.name, &asked.version))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Result<Response<ModelInferResponse>, Status> {
        let (caller, message) = Caller::of(request);
        let answered = self.infer(&caller.visit, &caller.headers, message).await;
        caller.respond(answered)
    }

    type ModelStreamInferStream = BoxStream<'static, Result<ModelStreamInferResponse, Status>>;

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let (caller, requests) = Caller::of(request);
        let (service, series) = (self.clone(), Series::new(caller, PATH)?);
        let stream = Arc::clone(&series);
        let answers = requests.enumerate().map(move |(index, request)| service.clone().item(Arc::clone(&series), index as u64, request));
        // The single calls end by themselves; a client that sends no more of them would keep the stream.
        let answers = self.doors.gate.cut.until(answers.buffered(AT_ONCE), move |error| stream.caller.refuse(&error));
        Ok(Response::new(answers.boxed()))
    }

    async fn repository_index(&self, request: Request<RepositoryIndexRequest>) -> Result<Response<RepositoryIndexResponse>, Status> {
        told(request, |asked| {
            oip::only_repository(&asked.repository_name)?;
            Ok(RepositoryIndexResponse { models: oip::index(&self.doors.gate, asked.ready) })
        })
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        let (caller, asked) = Caller::of(request);
        let done = self.manage(&caller, (&asked.repository_name, &asked.model_name), Act::Load, &asked.parameters).await;
        caller.respond(done.map(|()| (HeaderMap::new(), RepositoryModelLoadResponse {})))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        let (caller, asked) = Caller::of(request);
        let done = self.manage(&caller, (&asked.repository_name, &asked.model_name), Act::Unload, &asked.parameters).await;
        caller.respond(done.map(|()| (HeaderMap::new(), RepositoryModelUnloadResponse {})))
    }
}

/// What a load or an unload is asked with.
type Parameters = HashMap<String, ModelRepositoryParameter>;

impl Inference {
    async fn manage(&self, caller: &Caller, (repository, model): (&str, &str), act: Act, parameters: &Parameters) -> Result<()> {
        oip::only_repository(repository)?;
        oip::only_known(act, parameters.keys())?;
        oip::manage(&self.doors.gate, &caller.visit.principal, model, act).await
    }

    async fn infer(&self, visit: &Visit, headers: &HeaderMap, message: ModelInferRequest) -> Result<(HeaderMap, ModelInferResponse)> {
        let (request, wanted) = door::read(message)?;
        oip::announces(&self.doors.gate, &wanted.model, "model_version", &wanted.version)?;
        let ask = Ask { endpoint: wanted.model.clone(), task: Task::Predict, request: event::Request::Predict(request) };
        let (mut reply, _) = self.doors.call(visit, headers, ask, false).await.map_err(door::in_its_words)?;
        let told = prediction::model(&reply.head);
        let crossed = std::mem::take(&mut reply.head.headers);
        let mut answer = convert::to_predict(reply.answer().await.map_err(door::in_its_words)?)?;
        answer.model.get_or_insert(told);
        oip::is_of(&wanted.version, &answer)?;
        Ok((crossed, door::write(answer, &wanted, &oip::outputs(&self.doors.gate, &wanted.model)?)?))
    }

    /// One request of a stream. Only a request that cannot be read ends the stream.
    async fn item(
        self,
        series: Arc<Series>,
        index: u64,
        request: Result<ModelInferRequest, Status>,
    ) -> Result<ModelStreamInferResponse, Status> {
        let request = request.map_err(|status| series.caller.refuse(&refusal(&status)))?;
        let named = ModelInferResponse { model_name: request.model_name.clone(), id: request.id.clone(), ..ModelInferResponse::default() };
        let item = series.begin(&self.doors.gate, index);
        let answered = self.infer(&item.visit, &item.headers, request).await;
        Series::end(item, answered.as_ref().err());
        Ok(match answered {
            Ok((_, answer)) => ModelStreamInferResponse { error_message: String::new(), infer_response: Some(answer) },
            Err(error) => ModelStreamInferResponse { error_message: error.to_string(), infer_response: Some(named) },
        })
    }
}
