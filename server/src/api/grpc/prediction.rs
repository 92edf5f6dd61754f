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
use http::{HeaderMap, HeaderName};
use prost::Message as _;
use tonic::{Request, Response, Status, Streaming};

use super::{
    super::{Visit, failure},
    call::{Caller, Doors, settled},
    check, convert, refusal,
    series::{AT_ONCE, Series},
};
use crate::{
    error::{Error, Result},
    event::{Head, MODEL, MODEL_ALIASES, MODEL_VERSION},
};

/// Where streams of requests come in, for the access lines of the single ones.
const PATH: &str = "/flowgate.v1.PredictionService/StreamPredict";

/// The model that predicted, as far as the head tells.
pub(in crate::api) fn model(head: &Head) -> PredictionModel {
    let told = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    PredictionModel {
        name: told(MODEL).unwrap_or_else(|| head.deployment.to_string()),
        version: told(MODEL_VERSION).unwrap_or_default(),
        aliases: told(MODEL_ALIASES).iter().flat_map(|aliases| aliases.split(',')).map(str::to_owned).collect(),
    }
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
        let (doors, series) = (self.clone(), Series::new(caller, PATH)?);
        let stream = Arc::clone(&series);
        let answers = requests.enumerate().map(move |(index, request)| doors.clone().item(Arc::clone(&series), index as u64, request));
        // The single calls end by themselves; a client that sends no more of them would keep the stream.
        let answers = self.gate.cut.until(answers.buffer_unordered(AT_ONCE), move |error| stream.caller.refuse(&error));
        Ok(Response::new(answers.boxed()))
    }
}

impl Doors {
    async fn predict_once(&self, visit: &Visit, headers: &HeaderMap, message: PredictRequest) -> Result<(HeaderMap, PredictResponse)> {
        let (mut reply, call) = self.call(visit, headers, check::predict(message)?, false).await?;
        let model = model(&reply.head);
        let headers = std::mem::take(&mut reply.head.headers);
        let mut answer = convert::to_predict(reply.answer().await?)?;
        answer.model.get_or_insert(model);
        answer.call = Some(settled(visit, call));
        Ok((headers, answer))
    }

    /// One request of a stream. Only a request that cannot be read ends the stream.
    async fn item(
        self,
        series: Arc<Series>,
        index: u64,
        request: Result<StreamPredictRequest, Status>,
    ) -> Result<StreamPredictResponse, Status> {
        let request = request.map_err(|status| series.caller.refuse(&refusal(&status)))?;
        let item = series.begin(&self.gate, index);
        let answered = match request.request {
            Some(request) => self.predict_once(&item.visit, &item.headers, request).await,
            None => Err(Error::invalid("request", "is missing")),
        };
        let visit = Series::end(item, answered.as_ref().err());
        let result = match answered {
            Ok((_, answer)) => stream_predict_response::Result::Response(answer),
            Err(error) => stream_predict_response::Result::Error(to_proto(&failure::status(&error, &visit))),
        };
        Ok(StreamPredictResponse { index, result: Some(result) })
    }
}

fn to_proto(status: &Status) -> google::rpc::Status {
    // The details that tonic keeps are this very message.
    google::rpc::Status::decode(status.details()).unwrap_or_else(|_| google::rpc::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}
