//! Predict requests as `POST /invocations`, and the form in which their answers are wanted.

use bytes::Bytes;
use flowgate_proto::v1::{DataframeSplit, PredictRequest, PredictionForm, Raw, predict_request::Input};
use http::HeaderValue;

use super::{
    frame,
    json::list,
    message,
    tensors::{self, Reader},
    value,
};
use crate::{
    dialect::{Ask, Target, is_json},
    error::{Error, Result},
    event::{Lane, Payload, Request},
};

/// The content type of everything but `raw`.
pub(in crate::dialect) const JSON: HeaderValue = HeaderValue::from_static("application/json");

const PATH: &str = "/invocations";

/// The HTTP request.
pub(super) fn encode(ask: &Ask<'_>, target: &Target) -> Result<http::Request<Bytes>> {
    match message::written(ask, target)? {
        Some(body) => target.post(message::PATH, message::MEDIA, body),
        None => {
            let (content_type, body) = written(ask)?;
            post(target, content_type, body)
        }
    }
}

/// The request as a scoring server gets it: its content type and body.
pub(in crate::dialect) fn written(ask: &Ask<'_>) -> Result<(HeaderValue, Bytes)> {
    match (ask.lane, ask.payload.wire()) {
        (Lane::Byte, Some(wire)) => Ok((wire.content_type.clone(), wire.body.clone())),
        _ => body(predict(ask.payload)?),
    }
}

/// A body as the HTTP request.
pub(in crate::dialect) fn post(target: &Target, content_type: HeaderValue, body: Bytes) -> Result<http::Request<Bytes>> {
    // An address may be written with the path, as MLflow's own clients take it.
    let is_whole = target.base.path().trim_end_matches('/').ends_with(PATH);
    target.post(if is_whole { "" } else { PATH }, content_type, body)
}

/// A request as the JSON that the scoring server would get, for whoever only looks at it. `None`: it has no JSON form.
pub fn json_view(request: &PredictRequest) -> Option<Bytes> {
    let (content_type, body) = body(request).ok()?;
    let media_type = content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    is_json(media_type).then_some(body)
}

/// The typed request.
pub(in crate::dialect) fn predict(payload: &Payload) -> Result<&PredictRequest> {
    match payload.typed()? {
        Request::Predict(request) => Ok(request),
        Request::Chat(_) | Request::Complete(_) | Request::Embed(_) => {
            Err(Error::internal("the scoring protocol was given another task than a prediction"))
        }
    }
}

/// The form of the answer, never unspecified.
pub(in crate::dialect) fn form(request: &PredictRequest) -> Result<PredictionForm> {
    Ok(match (PredictionForm::try_from(request.prediction_form), &request.input) {
        (Err(_), _) => return Err(Error::invalid("prediction_form", "must be one of the named forms")),
        (Ok(PredictionForm::Unspecified), Some(Input::Frame(_))) => PredictionForm::Frame,
        (Ok(PredictionForm::Unspecified), Some(Input::Tensors(_))) => PredictionForm::Tensors,
        (Ok(PredictionForm::Unspecified), Some(Input::Raw(_))) => PredictionForm::Raw,
        (Ok(PredictionForm::Unspecified), _) => PredictionForm::Json,
        (Ok(form), _) => form,
    })
}

/// The body, and its content type.
pub(super) fn body(request: &PredictRequest) -> Result<(HeaderValue, Bytes)> {
    form(request)?;
    let Some(input) = &request.input else {
        return Err(Error::invalid(
            "input",
            "must be set: `dataframe_split`, `dataframe_records`, `instances`, `inputs`, `frame`, `tensors` or `raw`",
        ));
    };
    let mut out = Vec::with_capacity(256);
    match input {
        Input::Raw(raw) => return raw_body(request, raw),
        Input::DataframeSplit(split) => {
            out.extend_from_slice(b"{\"dataframe_split\":");
            write_split(&mut out, split)?;
        }
        Input::DataframeRecords(records) => {
            out.extend_from_slice(b"{\"dataframe_records\":");
            value::write_list(&mut out, &records.values).map_err(|flaw| flaw.of("dataframe_records"))?;
        }
        Input::Instances(instances) => {
            out.extend_from_slice(b"{\"instances\":");
            value::write_list(&mut out, &instances.values).map_err(|flaw| flaw.of("instances"))?;
        }
        Input::Inputs(inputs) => {
            out.extend_from_slice(b"{\"inputs\":");
            value::write(&mut out, inputs).map_err(|flaw| flaw.of("inputs"))?;
        }
        Input::Frame(frame) => {
            out.extend_from_slice(b"{\"dataframe_split\":");
            frame::write_split(&mut out, frame)?;
        }
        Input::Tensors(tensors) => {
            out.extend_from_slice(b"{\"inputs\":");
            tensors::write(&mut out, tensors, &tensors::UNNAMED, Reader::Model)?;
        }
    }
    if let Some(params) = &request.params {
        out.extend_from_slice(b",\"params\":");
        value::write_struct(&mut out, params).map_err(|flaw| flaw.of("params"))?;
    }
    out.push(b'}');
    Ok((JSON, out.into()))
}

fn write_split(out: &mut Vec<u8>, split: &DataframeSplit) -> Result<()> {
    out.push(b'{');
    for (key, labels, field) in
        [("\"columns\":", &split.columns, "dataframe_split.columns"), ("\"index\":", &split.index, "dataframe_split.index")]
    {
        if !labels.is_empty() {
            out.extend_from_slice(key.as_bytes());
            value::write_list(out, labels).map_err(|flaw| flaw.of(field))?;
            out.push(b',');
        }
    }
    out.extend_from_slice(b"\"data\":");
    list(out, split.data.iter().enumerate(), |out, (n, row)| {
        value::write_list(out, &row.values).map_err(|flaw| flaw.of(&format!("dataframe_split.data[{n}]")))
    })?;
    out.push(b'}');
    Ok(())
}

fn raw_body(request: &PredictRequest, raw: &Raw) -> Result<(HeaderValue, Bytes)> {
    if request.params.is_some() {
        return Err(Error::invalid("params", "cannot stand beside `raw`, whose body holds its own; write them there"));
    }
    if raw.content_type.is_empty() {
        return Err(Error::invalid("raw.content_type", "must be set, for example to `text/csv`"));
    }
    let content_type = HeaderValue::from_str(&raw.content_type)
        .map_err(|_| Error::invalid("raw.content_type", "must be a media type, for example `text/csv`"))?;
    Ok((content_type, raw.body.clone()))
}
