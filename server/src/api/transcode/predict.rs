//! `:predict` without a change of numbers: its JSON is MLflow's but for an envelope, so its values cross as they were written.

use std::sync::Arc;

use flowgate_proto::v1::{CallSummary, PredictResponse, PredictionModel, predict_response::Output, prediction_service_server};
use http::Response;

use super::{
    super::{
        Gate, Knock,
        body::Body,
        compress::must_be_json,
        edge::Asked,
        grpc::{
            call::{settled, summary},
            prediction,
        },
        table::Rpc,
    },
    answer,
};
use crate::{
    dialect::scoring::{
        door,
        native::{NativeRequest, native_answer, native_request},
    },
    error::{Error, Result},
    event::{Answer, Payload, Task},
};

/// The scoring body of a call to `Predict`; `None` for another RPC, or when the request has no such form.
///
/// # Errors
/// `CALLER_UNSUPPORTED_MEDIA_TYPE`.
pub(super) fn exact(rpc: &Rpc, asked: &Asked) -> Result<Option<NativeRequest>> {
    let is_predict =
        rpc.descriptor.name() == "Predict" && rpc.descriptor.parent_service().full_name() == prediction_service_server::SERVICE_NAME;
    if !is_predict || !asked.query.is_empty() || asked.body.is_empty() {
        return Ok(None);
    }
    must_be_json(&asked.headers)?;
    Ok(native_request(&asked.body))
}

/// Answers it.
///
/// # Errors
/// What the call fails with.
pub(super) async fn serve(gate: &Arc<Gate>, asked: Asked, request: NativeRequest) -> Result<Response<Body>> {
    let Asked { visit, headers, endpoint, .. } = asked;
    let payload = Payload::wire_only(door::wire(None, request.body));
    let knock = Knock { task: Task::Predict, streaming: false, payload };
    let mut reply = gate.call(&visit, &headers, &endpoint, knock).await?;
    let model = prediction::model(&reply.head);
    let crossed = std::mem::take(&mut reply.head.headers);
    let call = summary(&visit, endpoint, &reply.head);
    let answered = reply.answer().await?;
    let call = settled(&visit, call);
    let body = match answered {
        Answer::Wire(wire) => native_answer(&wire.body, &text(&model)?, &text(&call)?)?,
        Answer::Predict(answer) => typed(answer, model, call)?,
        Answer::Chat(_) | Answer::Complete(_) | Answer::Embed(_) => return Err(Error::internal("a call got an answer to another task")),
    };
    Ok(answer(&crossed, body))
}

/// A typed answer; whole numbers among its JSON predictions are written without a fraction.
fn typed(mut answer: PredictResponse, model: PredictionModel, call: CallSummary) -> Result<bytes::Bytes> {
    let model = answer.model.take().unwrap_or(model);
    if let Some(Output::Predictions(_)) = &answer.output {
        let (_, scoring) = door::encode_answer(&answer)?;
        return native_answer(&scoring, &text(&model)?, &text(&call)?);
    }
    text(&PredictResponse { model: Some(model), call: Some(call), ..answer }).map(Into::into)
}

fn text(message: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(message).map_err(|error| Error::internal("an answer has no JSON form; ask for it over gRPC").because(error))
}
