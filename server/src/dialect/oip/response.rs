//! Answers to requests for inferences, in the form that was asked for.

use bytes::{Buf as _, Bytes};
use flowgate_proto::{
    inference::{ModelInferResponse, model_infer_response::InferOutputTensor},
    v1::{ErrorReason, PredictResponse, PredictionForm, PredictionModel, Tensor, Tensors, predict_response::Output},
};
use prost::Message as _;

use super::{frame, tensors::Head};
use crate::{
    dialect::{Ask, scoring},
    error::{Error, Result},
    event::Answer,
};

/// The answer to a success.
pub(super) fn decode(ask: &Ask<'_>, body: Bytes) -> Result<Answer> {
    let message = unframed(body).ok_or_else(|| bad("is not one whole message"))?;
    let answer = ModelInferResponse::decode(message).map_err(|error| bad("is not of its protocol").because(error))?;
    let ModelInferResponse { model_name, model_version, outputs, raw_output_contents: raw, .. } = answer;
    if !raw.is_empty() && raw.len() != outputs.len() {
        return Err(bad("has not one entry of `raw_output_contents` for each tensor"));
    }
    let mut raw = raw.into_iter().map(Some).chain(std::iter::repeat(None));
    let tensors = outputs.into_iter().enumerate().map(|(n, output)| tensor(n, output, raw.next().flatten()));
    let tensors = Tensors { tensors: tensors.collect::<Result<_>>().map_err(|error| bad("holds a tensor that is none").because(error))? };
    let output = match scoring::form(scoring::predict(ask.payload)?)? {
        PredictionForm::Tensors => Output::Tensors(tensors),
        PredictionForm::Frame => Output::Frame(frame::read(tensors)?),
        PredictionForm::Json | PredictionForm::Raw | PredictionForm::Unspecified => {
            if tensors.tensors.iter().flat_map(|tensor| &tensor.byte_strings).any(|bytes| std::str::from_utf8(bytes).is_err()) {
                let what = "cannot hold the predictions, which hold bytes that are no text; ask for PREDICTION_FORM_TENSORS";
                return Err(Error::invalid("prediction_form", what));
            }
            let json = scoring::door::json_of(nameless(tensors));
            Output::Predictions(json.map_err(|error| bad("holds tensors that have no JSON form").because(error))?)
        }
    };
    let model = PredictionModel { name: model_name, version: model_version, aliases: Vec::new() };
    Ok(Answer::Predict(PredictResponse { output: Some(output), model: Some(model), call: None }))
}

fn tensor(n: usize, output: InferOutputTensor, raw: Option<Bytes>) -> Result<Tensor> {
    let InferOutputTensor { name, datatype, shape, parameters: _, contents } = output;
    let head = Head::new(n, name, &datatype, shape)?;
    match raw {
        Some(raw) => head.raw("raw_output_contents", raw),
        None => head.contents(contents.unwrap_or_default()),
    }
}

/// JSON tells the one output of a model without its name, as MLflow's servers do.
fn nameless(mut tensors: Tensors) -> Tensors {
    if let [only] = tensors.tensors.as_mut_slice() {
        only.name.clear();
    }
    tensors
}

/// The message behind the five bytes that gRPC puts before it.
fn unframed(mut body: Bytes) -> Option<Bytes> {
    let is_plain = body.try_get_u8().ok()? == 0;
    let length = usize::try_from(body.try_get_u32().ok()?).ok()?;
    (is_plain && body.len() == length).then_some(body)
}

fn bad(what: &str) -> Error {
    Error::new(ErrorReason::ProviderBadAnswer, format!("the model server's answer {what}; have the operator check its address"))
}
