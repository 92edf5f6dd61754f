//! MLflow's scoring protocol as a door: its bodies read as typed requests when something asks, and typed answers written in it.

use bytes::Bytes;
use flowgate_proto::{
    v1::{DataframeSplit, ErrorReason, PredictRequest, PredictResponse, Raw, Tensors, predict_request::Input, predict_response::Output},
    wkt::{ListValue, Struct, Value, value::Kind},
};
use http::HeaderValue;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    frame,
    json::{legal, present},
    native::Split,
    request::JSON,
    tensors::{self, Reader},
    value::{self, Whole},
};
use crate::{
    error::{Error, Result},
    event::{Protocol, Request, Wire},
};

/// What a scoring body may hold. The keys of the unified LLM form make the whole body the input, whatever else it holds.
#[derive(Default, Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    dataframe_split: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    dataframe_records: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    instances: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    inputs: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "present")]
    messages: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    prompt: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    input: Option<IgnoredAny>,
}

/// A body as received at the door. Without a content type it is taken for JSON.
pub fn wire(content_type: Option<&HeaderValue>, body: Bytes) -> Wire {
    Wire { protocol: Protocol::MlflowScoring, content_type: content_type.cloned().unwrap_or(JSON), body, decode }
}

/// A typed answer as MLflow writes it.
///
/// # Errors
/// An internal error when the answer is not consistent.
pub fn encode_answer(answer: &PredictResponse) -> Result<(HeaderValue, Bytes)> {
    let inconsistent = |error: Error| Error::internal("an answer's predictions do not agree with themselves").because(error);
    let mut out = b"{\"predictions\":".to_vec();
    match &answer.output {
        None => out.extend_from_slice(b"null"),
        Some(Output::Predictions(predictions)) => {
            value::write(&mut out, predictions).map_err(|flaw| inconsistent(flaw.of("predictions")))?;
        }
        Some(Output::Frame(frame)) if frame.columns.is_empty() => out.extend_from_slice(b"[]"),
        Some(Output::Frame(frame)) => frame::write_records(&mut out, frame).map_err(inconsistent)?,
        Some(Output::Tensors(tensors)) if tensors.tensors.is_empty() => out.extend_from_slice(b"{}"),
        Some(Output::Tensors(tensors)) => tensors::write(&mut out, tensors, &[""], Reader::Caller).map_err(inconsistent)?,
        Some(Output::Raw(raw)) => {
            let content_type = HeaderValue::from_str(&raw.content_type)
                .map_err(|error| Error::internal("an answer's content type is none").because(error))?;
            return Ok((content_type, raw.body.clone()));
        }
    }
    out.push(b'}');
    Ok((JSON, out.into()))
}

/// Tensors as the JSON value that predictions are.
///
/// # Errors
/// An internal error when the tensors are not consistent.
pub fn json_of(tensors: Tensors) -> Result<Value> {
    let (_, body) = encode_answer(&PredictResponse { output: Some(Output::Tensors(tensors)), ..PredictResponse::default() })?;
    let broken = |error: serde_json::Error| Error::internal("predictions were written as no JSON").because(error);
    let predictions = super::predictions(&body)?;
    value::read(&predictions, Whole::Rounded).map_err(broken)
}

fn decode(wire: &Wire) -> Result<Request> {
    let content_type = wire.content_type.to_str().unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let (input, params) =
        if media_type.eq_ignore_ascii_case("application/json") { read(&wire.body)? } else { (raw(wire.body.clone(), content_type), None) };
    Ok(Request::Predict(PredictRequest { input: Some(input), params, ..PredictRequest::default() }))
}

fn raw(body: Bytes, content_type: &str) -> Input {
    Input::Raw(Raw { content_type: content_type.to_owned(), body })
}

/// Reads a JSON body.
fn read(body: &Bytes) -> Result<(Input, Option<Struct>)> {
    let python;
    let fields = match parse(body) {
        Ok(fields) => fields,
        // MLflow reads Python's own tokens, so its clients may send them.
        Err(strict) => {
            python = legal(body).text;
            parse(&python).map_err(|_| strict)?
        }
    };
    if fields.messages.is_some() || fields.prompt.is_some() || fields.input.is_some() {
        return Ok((raw(body.clone(), "application/json"), None));
    }
    let forms = [
        ("dataframe_split", fields.dataframe_split),
        ("dataframe_records", fields.dataframe_records),
        ("instances", fields.instances),
        ("inputs", fields.inputs),
    ];
    let mut present = forms.iter().filter_map(|(field, raw)| raw.map(|raw| (*field, raw)));
    let (Some((field, raw)), None) = (present.next(), present.next()) else {
        return Err(Error::invalid("body", "must hold exactly one of `dataframe_split`, `dataframe_records`, `instances`, `inputs`"));
    };
    let params = fields.params.map(|params| object("params", params)).transpose()?;
    Ok((form(field, raw)?, params))
}

fn parse(body: &[u8]) -> Result<Body<'_>> {
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(Error::invalid("body", "must be a JSON object, not a list"));
    }
    serde_json::from_slice(body).map_err(|error| {
        // Only of syntax does the parser speak without showing what it read.
        let what = if error.is_data() {
            "must be a JSON object in which no key stands twice".to_owned()
        } else {
            format!("must be JSON: {error}")
        };
        Error::invalid("body", what)
    })
}

fn form(field: &'static str, raw: &RawValue) -> Result<Input> {
    Ok(match field {
        "dataframe_split" => Input::DataframeSplit(split(raw)?),
        "dataframe_records" => Input::DataframeRecords(records(raw)?),
        "instances" => Input::Instances(items(field, raw)?),
        _ => Input::Inputs(number_safe(field, raw)?),
    })
}

fn split(raw: &RawValue) -> Result<DataframeSplit> {
    let misshapen = || Error::invalid("dataframe_split", "must hold `data`, may hold `columns` and `index`, and nothing else");
    let split: Split<'_> = serde_json::from_str(raw.get()).map_err(|_| misshapen())?;
    let data = split.data.ok_or_else(misshapen)?;
    let labels = |field, raw: Option<&RawValue>| raw.map_or_else(|| Ok(Vec::new()), |raw| items(field, raw).map(|list| list.values));
    let rows = items("dataframe_split.data", data)?.values.into_iter().enumerate().map(|(n, row)| match row.kind {
        Some(Kind::ListValue(row)) => Ok(row),
        _ => Err(Error::invalid(format!("dataframe_split.data[{n}]"), "must be a list, one value per column")),
    });
    Ok(DataframeSplit {
        columns: labels("dataframe_split.columns", split.columns)?,
        index: labels("dataframe_split.index", split.index)?,
        data: rows.collect::<Result<_>>()?,
    })
}

fn records(raw: &RawValue) -> Result<ListValue> {
    let records = items("dataframe_records", raw)?;
    match records.values.iter().position(|record| !matches!(record.kind, Some(Kind::StructValue(_)))) {
        Some(n) => Err(Error::invalid(format!("dataframe_records[{n}]"), "must be an object, one key per column")),
        None => Ok(records),
    }
}

fn items(field: &str, raw: &RawValue) -> Result<ListValue> {
    match number_safe(field, raw)?.kind {
        Some(Kind::ListValue(items)) => Ok(items),
        _ => Err(Error::invalid(field, "must be a list")),
    }
}

fn object(field: &str, raw: &RawValue) -> Result<Struct> {
    match number_safe(field, raw)?.kind {
        Some(Kind::StructValue(object)) => Ok(object),
        _ => Err(Error::invalid(field, "must be an object")),
    }
}

/// A value none of whose numbers changes on the way.
fn number_safe(field: &str, raw: &RawValue) -> Result<Value> {
    value::read(raw.get().as_bytes(), Whole::Exact).map_err(|error| {
        let what = "holds a number that this endpoint cannot carry exactly, such as an integer beyond 2^53; send it as text, or \
                    as a typed `frame` by `Predict`";
        Error::new(ErrorReason::CallerInvalidRequest, "the request is invalid").at(field, what).because(error)
    })
}
