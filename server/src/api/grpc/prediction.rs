//! `PredictionService`. In a stream each request is a call of its own, with a record of its own.

use std::sync::Arc;

use flowgate_proto::{
    google,
    v1::{
        PredictRequest, PredictResponse, PredictionModel, StreamPredictRequest, StreamPredictResponse,
        prediction_service_server::PredictionService, stream_predict_response,
    },
};
use futures_util::{StreamExt as _, stream::BoxStream};
use http::HeaderMap;
use prost::Message as _;
use tonic::{Request, Response, Status, Streaming};

use super::{
    super::{Visit, failure},
    call::{Caller, Doors},
    check, convert, refusal,
};
use crate::{
    call::Record,
    error::{Error, Result},
    event::Head,
};

/// Requests of one stream that are answered at a time; no more are read meanwhile.
const AT_ONCE: usize = 32;

/// The model that predicted, as far as the head tells.
pub(in crate::api) fn model(head: &Head) -> PredictionModel {
    PredictionModel { name: head.deployment.to_string(), ..PredictionModel::default() }
}

#[tonic::async_trait]
impl PredictionService for Doors {
    async fn predict(&self, request: Request<PredictRequest>) -> Result<Response<PredictResponse>, Status> {
        let (caller, message) = Caller::of(request);
        let answered = self.predict_once(&caller.visit, &caller.headers, message).await;
        caller.respond(answered)
    }

    type StreamPredictStream = BoxStream<'static, Result<StreamPredictResponse, Status>>;

    async fn stream_predict(
        &self,
        request: Request<Streaming<StreamPredictRequest>>,
    ) -> Result<Response<Self::StreamPredictStream>, Status> {
        let (caller, requests) = Caller::of(request);
        caller.visit.record.note(|facts| facts.streaming = true);
        let (doors, caller) = (self.clone(), Arc::new(caller));
        let answers = requests.enumerate().map(move |(index, request)| doors.clone().item(Arc::clone(&caller), index as u64, request));
        Ok(Response::new(answers.buffer_unordered(AT_ONCE).boxed()))
    }
}

impl Doors {
    async fn predict_once(&self, visit: &Visit, headers: &HeaderMap, message: PredictRequest) -> Result<(HeaderMap, PredictResponse)> {
        let (mut reply, call) = self.call(visit, headers, check::predict(message)?, false).await?;
        let headers = std::mem::take(&mut reply.head.headers);
        let model = model(&reply.head);
        let mut answer = convert::to_predict(reply.answer().await?)?;
        answer.model.get_or_insert(model);
        answer.call = Some(call);
        Ok((headers, answer))
    }

    /// One request of a stream. Only a request that cannot be read ends the stream.
    async fn item(
        self,
        caller: Arc<Caller>,
        index: u64,
        request: Result<StreamPredictRequest, Status>,
    ) -> Result<StreamPredictResponse, Status> {
        let request = request.map_err(|status| caller.refuse(&refusal(&status)))?;
        let visit = Visit { record: Arc::new(Record::default()), ..caller.visit.clone() };
        let answered = match request.request {
            Some(request) => self.predict_once(&visit, &caller.headers, request).await,
            None => Err(Error::invalid("request", "is missing")),
        };
        note(&caller.visit.record, &visit.record);
        let result = match answered {
            Ok((_, answer)) => stream_predict_response::Result::Response(answer),
            Err(error) => stream_predict_response::Result::Error(to_proto(&failure::status(&error, &visit))),
        };
        Ok(StreamPredictResponse { index, result: Some(result) })
    }
}

/// Tells the stream's record where one of its requests went. A failure of the one is none of the stream.
fn note(stream: &Record, item: &Record) {
    let item = item.facts();
    stream.note(|facts| {
        facts.endpoint = item.endpoint.or(facts.endpoint.take());
        facts.task = item.task.or(facts.task);
        facts.deployment = item.deployment.or(facts.deployment.take());
        facts.provider = item.provider.or(facts.provider);
        facts.lane = item.lane.or(facts.lane);
        facts.attempts += item.attempts;
    });
}

fn to_proto(status: &Status) -> google::rpc::Status {
    // The details that tonic keeps are this very message.
    google::rpc::Status::decode(status.details()).unwrap_or_else(|_| google::rpc::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}
