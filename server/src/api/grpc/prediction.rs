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
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::{
    super::{Visit, deadline, failure, record::Guard},
    call::{Caller, Doors, settled},
    check, convert, refusal,
};
use crate::{
    call::Record,
    error::{Error, Result},
    event::{Head, MODEL, MODEL_ALIASES, MODEL_VERSION},
};

/// Requests of one stream that are answered at a time; no more are read meanwhile.
const AT_ONCE: usize = 32;
/// Where streams of requests come in, for the access lines of the single ones.
const PATH: &str = "/flowgate.v1.PredictionService/StreamPredict";

/// What the requests of one stream have in common.
struct Common {
    caller: Caller,
    /// When the caller stops waiting for all of them.
    until: Option<Instant>,
}

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
        caller.visit.record.note(|facts| facts.streaming = true);
        let until = deadline(&caller.headers).map_err(|error| caller.refuse(&error))?.map(|left| Instant::now() + left);
        let (doors, common) = (self.clone(), Arc::new(Common { caller, until }));
        let stream = Arc::clone(&common);
        let answers = requests.enumerate().map(move |(index, request)| doors.clone().item(Arc::clone(&common), index as u64, request));
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
        common: Arc<Common>,
        index: u64,
        request: Result<StreamPredictRequest, Status>,
    ) -> Result<StreamPredictResponse, Status> {
        let request = request.map_err(|status| common.caller.refuse(&refusal(&status)))?;
        let visit = common.visit(index);
        let mut guard = Guard::within(self.gate.books(), "grpc", PATH, &visit);
        let answered = match request.request {
            Some(request) => self.predict_once(&visit, &common.headers(), request).await,
            None => Err(Error::invalid("request", "is missing")),
        };
        if let Err(error) = &answered {
            visit.record.fail(error);
        }
        guard.complete();
        note(&common.caller.visit.record, &visit.record);
        let result = match answered {
            Ok((_, answer)) => stream_predict_response::Result::Response(answer),
            Err(error) => stream_predict_response::Result::Error(to_proto(&failure::status(&error, &visit))),
        };
        Ok(StreamPredictResponse { index, result: Some(result) })
    }
}

impl Common {
    /// A visit of a request's own.
    fn visit(&self, index: u64) -> Visit {
        let stream = &self.caller.visit;
        let record = Record::default();
        record.note(|facts| facts.principal = Some(Arc::clone(&stream.principal.name)));
        Visit { id: format!("{}/{index}", stream.id).into(), record: Arc::new(record), ..stream.clone() }
    }

    /// The stream's headers; of its time, what is left.
    fn headers(&self) -> HeaderMap {
        let mut headers = self.caller.headers.clone();
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        if let Some(Ok(left)) = left.map(|left| HeaderValue::try_from(format!("{}u", left.as_micros()))) {
            headers.insert("grpc-timeout", left);
        }
        headers
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
