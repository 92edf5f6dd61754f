//! The contract's own message in place of MLflow's JSON, for a model in this process: tensors go to it and come from it as they are.
//!
//! The request is a `PredictRequest` that holds `tensors`. Its answer is a `PredictResponse` if tensors are wanted and the predictions are
//! some, else JSON; the content type tells. Refusals are JSON. No caller's body is taken for one, whatever its content type: messages
//! have a path of their own.

use bytes::Bytes;
use flowgate_proto::v1::{
    DataType, ErrorReason, PredictRequest, PredictResponse, PredictionForm, Tensors, predict_request::Input, predict_response::Output,
};
use http::{HeaderMap, HeaderValue, header};
use prost::Message as _;

use super::{
    request::{form, predict},
    tensors::{self, Lists, UNNAMED},
    value,
};
use crate::{
    dialect::{Ask, Target},
    error::{Error, Result},
    event::{Answer, Lane},
};

/// Where requests go whose bodies are such messages. Callers may name any content type; this they cannot set.
pub const PATH: &str = "/tensors";

/// The content type of such a message.
pub const MEDIA: HeaderValue = HeaderValue::from_static("application/x-protobuf");

/// The setting that says how a model takes tensors; without it in JSON.
pub const TAKEN: &str = "tensors";
/// The value of [`TAKEN`] for a model that takes such messages.
pub const AS_THEY_ARE: &str = "as they are";
/// The value of [`TAKEN`] for JSON, whatever the model would take.
pub const IN_JSON: &str = "in JSON";

/// Whether a tensor's name stands for none: what clients call the only input of a model that has no name for it.
pub fn is_unnamed(name: &str) -> bool {
    UNNAMED.contains(&name)
}

/// Whether the answer to a request is wanted as such a message.
///
/// # Errors
/// When the form is none.
pub fn is_wanted(request: &PredictRequest) -> Result<bool> {
    Ok(form(request)? == PredictionForm::Tensors)
}

/// The parameters of a request as JSON.
///
/// # Errors
/// What in them is none.
pub fn params(request: &PredictRequest) -> Result<Option<serde_json::Value>> {
    let Some(params) = &request.params else { return Ok(None) };
    let mut text = Vec::new();
    value::write_struct(&mut text, params).map_err(|flaw| flaw.of("params"))?;
    serde_json::from_slice(&text).map(Some).map_err(|error| Error::internal("parameters are no JSON").because(error))
}

/// The tensors of a request that goes as a message, and the request; `None` when it is to be JSON.
fn sent<'a>(ask: &Ask<'a>, target: &Target) -> Result<Option<(&'a Tensors, &'a PredictRequest)>> {
    if ask.lane == Lane::Byte || target.settings.get(TAKEN) != AS_THEY_ARE {
        return Ok(None);
    }
    let request = predict(ask.payload)?;
    Ok(if let Some(Input::Tensors(tensors)) = &request.input { Some((tensors, request)) } else { None })
}

/// The request as a message; `None` when it is to be JSON.
///
/// # Errors
/// What is wrong with the tensors, by field.
pub(super) fn written(ask: &Ask<'_>, target: &Target) -> Result<Option<Bytes>> {
    let Some((tensors, request)) = sent(ask, target)? else { return Ok(None) };
    form(request)?;
    tensors::named(tensors, &UNNAMED)?;
    let mut lists = Lists::default();
    for (n, tensor) in tensors.tensors.iter().enumerate() {
        lists.count(&tensors::checked(tensor, n)?, n)?;
        if tensor.data_type() == DataType::Bytes {
            tensors::texts(tensor, n)?;
        }
        tensors::truths(tensor, n)?;
    }
    Ok(Some(request.encode_to_vec().into()))
}

/// The answer to a request that went as a message, when it is one, too.
///
/// # Errors
/// When it is damaged.
pub(super) fn read(ask: &Ask<'_>, target: &Target, headers: &HeaderMap, body: &Bytes) -> Result<Option<Answer>> {
    if headers.get(header::CONTENT_TYPE) != Some(&MEDIA) || sent(ask, target)?.is_none() {
        return Ok(None);
    }
    let bad = || Error::new(ErrorReason::ProviderBadAnswer, "the model's answer is not of its protocol");
    let answer = PredictResponse::decode(body.clone()).map_err(|error| bad().because(error))?;
    match &answer.output {
        Some(Output::Tensors(_)) => Ok(Some(Answer::Predict(answer))),
        _ => Err(bad()),
    }
}
