//! Predictions as requests for inferences.

use std::collections::HashMap;

use bytes::{BufMut as _, Bytes, BytesMut};
use flowgate_proto::{
    inference::{InferParameter, ModelInferRequest, infer_parameter::ParameterChoice, model_infer_request::InferInputTensor},
    v1::{ErrorReason, PredictRequest, PredictionForm, Tensor, predict_request::Input},
    wkt::{Struct, value::Kind},
};
use http::{HeaderValue, header};
use prost::Message as _;

use super::{UNNAMED, frame, tensors};
use crate::{
    dialect::{
        Ask, Target,
        scoring::{self, columns},
    },
    error::{Error, Result},
};

const PATH: &str = "/inference.GRPCInferenceService/ModelInfer";
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
/// The setting that names the version of the model; without it the server chooses.
pub const VERSION: &str = "model_version";
/// Up to here a double is one whole number only.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The HTTP request.
pub(super) fn encode(ask: &Ask<'_>, target: &Target) -> Result<http::Request<Bytes>> {
    if target.model.is_empty() {
        return Err(Error::new(ErrorReason::GatewayNotServing, "the deployment names no model; have the operator set its `name`"));
    }
    let request = scoring::predict(ask.payload)?;
    let (inputs, raw_input_contents) = inputs(tensors_of(request)?)?;
    let message = ModelInferRequest {
        model_name: target.model.clone(),
        model_version: target.settings.get(VERSION).to_owned(),
        parameters: request.params.as_ref().map(parameters).transpose()?.unwrap_or_default(),
        inputs,
        raw_input_contents,
        ..ModelInferRequest::default()
    };
    let mut request = target.post(PATH, GRPC, framed(&message)?)?;
    request.headers_mut().insert(header::TE, TRAILERS);
    Ok(request)
}

/// The input as tensors, each with a name.
fn tensors_of(request: &PredictRequest) -> Result<Vec<Tensor>> {
    if scoring::form(request)? == PredictionForm::Raw && !matches!(request.input, Some(Input::Raw(_))) {
        return Err(Error::invalid("prediction_form", "cannot be PREDICTION_FORM_RAW, since the model's server answers with tensors"));
    }
    let mut tensors = match &request.input {
        Some(Input::Tensors(tensors)) => tensors.tensors.clone(),
        Some(Input::Frame(columns)) => frame::write(columns)?,
        Some(Input::Raw(_)) => {
            let what = "cannot be sent to this model, whose server takes tensors; send `tensors`, `frame` or one of MLflow's JSON forms";
            return Err(Error::invalid("raw", what));
        }
        _ => columns::tensors(request)?.tensors,
    };
    match tensors.as_mut_slice() {
        [] => return Err(Error::invalid("tensors.tensors", "must hold at least one tensor")),
        [only] if only.name.is_empty() => UNNAMED.clone_into(&mut only.name),
        several => {
            if let Some(n) = several.iter().position(|tensor| tensor.name.is_empty()) {
                return Err(Error::invalid(format!("tensors.tensors[{n}].name"), "must be set when there are several"));
            }
        }
    }
    Ok(tensors)
}

fn inputs(tensors: Vec<Tensor>) -> Result<(Vec<InferInputTensor>, Vec<Bytes>)> {
    let mut inputs = Vec::with_capacity(tensors.len());
    let mut raw = Vec::with_capacity(tensors.len());
    for (n, tensor) in tensors.into_iter().enumerate() {
        raw.push(tensors::raw_of(n, &tensor)?);
        let datatype = tensors::datatype_of(n, &tensor)?.to_owned();
        inputs.push(InferInputTensor { name: tensor.name, datatype, shape: tensor.shape, parameters: HashMap::new(), contents: None });
    }
    Ok((inputs, raw))
}

fn parameters(params: &Struct) -> Result<HashMap<String, InferParameter>> {
    let parameter = |(name, value): (&String, &flowgate_proto::wkt::Value)| {
        let choice = match &value.kind {
            Some(Kind::BoolValue(truth)) => ParameterChoice::BoolParam(*truth),
            Some(Kind::StringValue(text)) => ParameterChoice::StringParam(text.clone()),
            Some(Kind::NumberValue(number)) => whole(*number).map_or(ParameterChoice::DoubleParam(*number), ParameterChoice::Int64Param),
            Some(Kind::NullValue(_) | Kind::ListValue(_) | Kind::StructValue(_)) | None => {
                return Err(Error::invalid(
                    "params",
                    "must hold texts, numbers and truth values only, which is all that the model's server takes",
                ));
            }
        };
        Ok((name.clone(), InferParameter { parameter_choice: Some(choice) }))
    };
    params.fields.iter().map(parameter).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "within the range in which doubles are exact")]
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

/// A message behind the five bytes that gRPC puts before it: not compressed, and its length.
fn framed(message: &ModelInferRequest) -> Result<Bytes> {
    let length = message.encoded_len();
    let told = u32::try_from(length).map_err(|_| Error::new(ErrorReason::CallerTooLarge, "the input is larger than any message may be"))?;
    let mut body = BytesMut::with_capacity(length + 5);
    body.put_u8(0);
    body.put_u32(told);
    message.encode(&mut body).map_err(|error| Error::internal("a message cannot be written").because(error))?;
    Ok(body.freeze())
}
