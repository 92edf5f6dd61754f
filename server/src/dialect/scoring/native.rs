//! The native JSON of `:predict` beside MLflow's: the two differ by an envelope, so their values cross as bytes.

use std::collections::HashMap;

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{answer, json::present};
use crate::error::Result;

/// A native request that MLflow's protocol can carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeRequest {
    /// MLflow's JSON, every value as the client wrote it.
    pub body: Bytes,
    /// Labels of the call.
    pub metadata: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(rename = "endpoint")]
    _endpoint: Option<IgnoredAny>,
    #[serde(borrow, alias = "dataframeSplit")]
    dataframe_split: Option<Split<'a>>,
    #[serde(borrow, alias = "dataframeRecords")]
    dataframe_records: Option<&'a RawValue>,
    #[serde(borrow)]
    instances: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    inputs: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    metadata: Option<HashMap<String, String>>,
    #[serde(rename = "prediction_form", alias = "predictionForm")]
    _prediction_form: Option<Form>,
}

/// `dataframe_split`, its values as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Split<'a> {
    #[serde(borrow)]
    pub(super) columns: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) index: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) data: Option<&'a RawValue>,
}

/// The forms of an answer that MLflow's JSON is.
#[derive(Deserialize)]
enum Form {
    #[serde(rename = "PREDICTION_FORM_UNSPECIFIED", alias = "unspecified")]
    Unspecified,
    #[serde(rename = "PREDICTION_FORM_JSON", alias = "json")]
    Json,
}

/// The scoring body of a native request; `None` when it must be read as a typed request instead, be it for its `frame`,
/// `tensors`, `raw` or `prediction_form`, or because something is wrong with it, which the typed reading then names.
pub fn native_request(body: &[u8]) -> Option<NativeRequest> {
    let native: Body<'_> = serde_json::from_slice(body).ok()?;
    let mut out = Vec::with_capacity(body.len());
    let forms = [("dataframe_records", native.dataframe_records), ("instances", native.instances), ("inputs", native.inputs)];
    let mut present = forms.iter().filter_map(|(field, raw)| raw.map(|raw| (*field, raw)));
    match (&native.dataframe_split, present.next(), present.next()) {
        (Some(split), None, None) => {
            out.extend_from_slice(b"{\"dataframe_split\":{");
            // Empty means absent in the contract, and no columns at all in MLflow.
            let data = split.data?;
            for (field, raw) in [("columns", split.columns), ("index", split.index)] {
                if let Some(raw) = raw.filter(|raw| !is_empty(raw)) {
                    write(&mut out, field, raw);
                    out.push(b',');
                }
            }
            write(&mut out, "data", data);
            out.push(b'}');
        }
        (None, Some((field, raw)), None) => {
            out.push(b'{');
            write(&mut out, field, raw);
        }
        _ => return None,
    }
    if let Some(params) = native.params {
        out.push(b',');
        write(&mut out, "params", params);
    }
    out.push(b'}');
    Some(NativeRequest { body: out.into(), metadata: native.metadata.unwrap_or_default() })
}

/// The native answer that holds a scoring answer's predictions to the letter, with `model` and `call` as JSON text; NaN and
/// infinities become null.
///
/// # Errors
/// `PROVIDER_BAD_ANSWER` when the scoring answer is not JSON.
pub fn native_answer(scoring: &Bytes, model: &str, call: &str) -> Result<Bytes> {
    let predictions = answer::predictions(scoring)?.json;
    let mut out = Vec::with_capacity(predictions.len() + model.len() + call.len() + 40);
    for (lead, json) in [("{\"predictions\":", predictions.as_ref()), (",\"model\":", model.as_bytes()), (",\"call\":", call.as_bytes())] {
        out.extend_from_slice(lead.as_bytes());
        out.extend_from_slice(json);
    }
    out.push(b'}');
    Ok(out.into())
}

fn write(out: &mut Vec<u8>, field: &str, raw: &RawValue) {
    out.push(b'"');
    out.extend_from_slice(field.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(raw.get().as_bytes());
}

/// Whether a value is the empty list.
fn is_empty(raw: &RawValue) -> bool {
    let inner = raw.get().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|inner| inner.trim_ascii().is_empty())
}
