//! Answers of the scoring server: untouched in the byte lane, else in the form that was asked for.

use bytes::Bytes;
use flowgate_proto::v1::{ErrorReason, PredictResponse, PredictionForm, Raw, predict_response::Output};
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    frame,
    json::{legal, present},
    message,
    request::{JSON, form, predict},
    tensors,
    tree::{Json, Unfit},
    value::{self, Whole},
};
use crate::{
    dialect::{Ask, Target},
    error::{Error, Result},
    event::{Answer, Lane, WireAnswer},
};

/// The predictions of a body, as legal JSON.
pub(super) struct Predictions {
    /// The text: what stands under `predictions`, or the whole body of a bare answer.
    pub(super) json: Bytes,
    /// Whether an infinity in it has become null.
    pub(super) infinite: bool,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    predictions: Option<&'a RawValue>,
}

/// The answer to a success.
pub(super) fn decode(ask: &Ask<'_>, target: &Target, headers: &HeaderMap, body: Bytes) -> Result<Answer> {
    let content_type = headers.get(header::CONTENT_TYPE).cloned().unwrap_or(JSON);
    if body.trim_ascii().is_empty() {
        return Err(Error::new(ErrorReason::ProviderBadAnswer, "the scoring server answered without a body; try again"));
    }
    if ask.lane == Lane::Byte {
        return Ok(Answer::Wire(WireAnswer { content_type, body, usage: None }));
    }
    if let Some(answer) = message::read(ask, target, headers, &body)? {
        return Ok(answer);
    }
    let form = form(predict(ask.payload)?)?;
    Ok(Answer::Predict(PredictResponse { output: Some(output(form, &content_type, body)?), ..PredictResponse::default() }))
}

fn output(form: PredictionForm, content_type: &HeaderValue, body: Bytes) -> Result<Output> {
    if form == PredictionForm::Raw {
        let content_type = String::from_utf8_lossy(content_type.as_bytes()).into_owned();
        return Ok(Output::Raw(Raw { content_type, body }));
    }
    let predictions = predictions(&body)?;
    match form {
        PredictionForm::Frame => frame::read(&tree(&predictions)?).map(Output::Frame).map_err(unfit),
        PredictionForm::Tensors if predictions.infinite => Err(unfit(Unfit::Number("hold an infinity"))),
        PredictionForm::Tensors => tensors::read(&tree(&predictions)?).map(Output::Tensors).map_err(unfit),
        PredictionForm::Json | PredictionForm::Raw | PredictionForm::Unspecified => {
            value::read(&predictions.json, Whole::Rounded).map(Output::Predictions).map_err(|_| bad())
        }
    }
}

/// Finds the predictions of a body.
///
/// # Errors
/// `PROVIDER_BAD_ANSWER` when the body is not JSON, even with Python's own tokens allowed.
pub(super) fn predictions(body: &Bytes) -> Result<Predictions> {
    if let Some(json) = find(body) {
        return Ok(Predictions { json, infinite: false });
    }
    let legal = legal(body);
    let json = find(&legal.text.into()).ok_or_else(bad)?;
    Ok(Predictions { json, infinite: legal.infinite })
}

fn find(body: &Bytes) -> Option<Bytes> {
    if body.trim_ascii_start().starts_with(b"{") {
        let envelope: Envelope<'_> = serde_json::from_slice(body).ok()?;
        return Some(envelope.predictions.map_or_else(|| body.clone(), |raw| body.slice_ref(raw.get().as_bytes())));
    }
    let bare: &RawValue = serde_json::from_slice(body).ok()?;
    Some(body.slice_ref(bare.get().as_bytes()))
}

fn tree(predictions: &Predictions) -> Result<Json<'_>> {
    serde_json::from_slice(&predictions.json).map_err(|_| bad())
}

fn bad() -> Error {
    Error::new(ErrorReason::ProviderBadAnswer, "the scoring server's answer is not JSON; ask for PREDICTION_FORM_RAW to see it")
}

fn unfit(unfit: Unfit) -> Error {
    let (what, instead) = match unfit {
        Unfit::Shape(what) => (what, "PREDICTION_FORM_JSON"),
        Unfit::Number(what) => (what, "PREDICTION_FORM_RAW"),
    };
    // The caller's choice of form, not a fault of the server: it must not be retried or count against a replica.
    Error::invalid("prediction_form", format!("cannot hold the predictions, which {what}; ask for {instead}"))
}
