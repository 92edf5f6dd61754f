//! The protocol's REST form: JSON, with the elements of tensors in it or as binary data behind it.

use std::collections::HashMap;

use bytes::Bytes;
use flowgate_proto::{
    inference::{InferParameter, infer_parameter::ParameterChoice, model_metadata_response::TensorMetadata},
    v1::{PredictRequest, PredictResponse, Tensor},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    door::{Wanted, chosen, inconsistent, known, request},
    elements,
    tensors::{self, Head},
};
use crate::error::{Error, Result};

/// The parameter that says how much of the binary data is a tensor's.
const SIZE: &str = "binary_data_size";
/// The parameter that says whether a tensor is wanted as binary data.
const BINARY: &str = "binary_data";
/// The same for all tensors that do not say it themselves.
const ALL_BINARY: &str = "binary_data_output";

/// How an answer is wanted.
#[derive(Debug)]
pub struct Form {
    wanted: Wanted,
    /// Whether each of `wanted.outputs` is wanted as binary data.
    binary: Vec<bool>,
    /// The same for the others.
    all_binary: bool,
}

/// An answer.
#[derive(Debug)]
pub struct Written {
    /// The JSON, and the binary data behind it.
    pub body: Bytes,
    /// The length of the JSON, if there is binary data.
    pub json: Option<usize>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(default)]
    id: String,
    #[serde(default)]
    parameters: HashMap<String, Parameter>,
    #[serde(borrow, default)]
    inputs: Vec<InputTensor<'a>>,
    #[serde(default)]
    outputs: Vec<OutputTensor>,
}

#[derive(Deserialize)]
struct InputTensor<'a> {
    #[serde(default)]
    name: String,
    #[serde(default)]
    datatype: String,
    #[serde(default)]
    shape: Vec<i64>,
    #[serde(default)]
    parameters: HashMap<String, Parameter>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct OutputTensor {
    #[serde(default)]
    name: String,
    #[serde(default)]
    parameters: HashMap<String, Parameter>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Parameter {
    Bool(bool),
    Integer(i64),
    Unsigned(u64),
    Double(f64),
    Text(String),
}

#[derive(Serialize)]
struct Answer<'a> {
    model_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    model_version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    outputs: Vec<AnswerTensor<'a>>,
}

#[derive(Serialize)]
struct AnswerTensor<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [i64],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Size {
    binary_data_size: usize,
}

impl Form {
    /// What of it the protocol's other form has, too.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }
}

/// Reads a request for an endpoint, or one version of it. `json` is the length of its JSON, if binary data follows.
///
/// # Errors
/// What is wrong with it, by field.
pub fn read((model, version): (&str, &str), body: &Bytes, json: Option<usize>) -> Result<(PredictRequest, Form)> {
    let length = json.unwrap_or(body.len());
    if length > body.len() {
        return Err(Error::invalid("inference-header-content-length", "is more than the length of the body"));
    }
    let mut binary = body.slice(length..);
    let Body { id, mut parameters, inputs, outputs } = parse(body.get(..length).unwrap_or_default())?;
    let mut tensors = Vec::with_capacity(inputs.len());
    for (n, input) in inputs.into_iter().enumerate() {
        tensors.push(tensor(n, input, &mut binary)?);
    }
    if !binary.is_empty() {
        return Err(Error::invalid("body", "holds more binary data than the `binary_data_size` of its tensors add up to"));
    }
    let all_binary = take_bool(&mut parameters, ALL_BINARY, "parameters")?.unwrap_or(false);
    let mut asked = Vec::with_capacity(outputs.len());
    let mut names = Vec::with_capacity(outputs.len());
    for (n, mut output) in outputs.into_iter().enumerate() {
        let field = format!("outputs[{n}].parameters");
        asked.push(take_bool(&mut output.parameters, BINARY, &field)?.unwrap_or(all_binary));
        known(&field, output.parameters.keys())?;
        names.push(output.name);
    }
    let wanted = Wanted { model: model.to_owned(), version: version.to_owned(), id, outputs: names, in_lists: false };
    let parameters = parameters.into_iter().map(|(name, parameter)| (name, parameter.into())).collect();
    let request = request(&wanted, tensors, parameters)?;
    Ok((request, Form { wanted, binary: asked, all_binary }))
}

fn parse(json: &[u8]) -> Result<Body<'_>> {
    // A list of its values would pass for an object else.
    if json.trim_ascii_start().starts_with(b"[") {
        return Err(Error::invalid("body", "must be a JSON object, not a list"));
    }
    serde_json::from_slice(json).map_err(|error| {
        // Only of syntax does the parser speak without showing what it read.
        let what = if error.is_data() {
            "must be a JSON object with `inputs`, each of them with `name`, `datatype`, `shape` and `data`".to_owned()
        } else {
            format!("must be JSON: {error}")
        };
        Error::invalid("body", what)
    })
}

fn tensor(n: usize, mut input: InputTensor<'_>, binary: &mut Bytes) -> Result<Tensor> {
    let field = format!("inputs[{n}].parameters.{SIZE}");
    let size = match input.parameters.remove(SIZE) {
        None => None,
        Some(Parameter::Integer(size)) => Some(usize::try_from(size).map_err(|_| Error::invalid(&field, "must be 0 or more"))?),
        Some(_) => return Err(Error::invalid(field, "must be a whole number")),
    };
    known(&format!("inputs[{n}].parameters"), input.parameters.keys())?;
    let head = Head::new(n, input.name, &input.datatype, input.shape)?;
    match (size, input.data) {
        (Some(_), Some(_)) => Err(Error::invalid(format!("inputs[{n}].data"), "cannot stand beside `binary_data_size`; use one of them")),
        (Some(size), None) if size <= binary.len() => head.raw(&field, binary.split_to(size)),
        (Some(_), None) => {
            let what = "is more than there is behind the JSON; check `Inference-Header-Content-Length`, which is the length of the JSON";
            Err(Error::invalid(field, what))
        }
        (None, Some(data)) => head.json(data),
        (None, None) => Err(Error::invalid(format!("inputs[{n}].data"), "is missing")),
    }
}

fn take_bool(parameters: &mut HashMap<String, Parameter>, name: &str, field: &str) -> Result<Option<bool>> {
    match parameters.remove(name) {
        None => Ok(None),
        Some(Parameter::Bool(truth)) => Ok(Some(truth)),
        Some(_) => Err(Error::invalid(format!("{field}.{name}"), "must be true or false")),
    }
}

/// Writes an answer.
///
/// # Errors
/// As [`super::door::write`]; a tensor that has no JSON form.
pub fn write(answer: PredictResponse, form: &Form, announced: &[TensorMetadata]) -> Result<Written> {
    let (chosen, version) = chosen(answer, &form.wanted, announced)?;
    let is_binary = |n: usize| form.binary.get(n).copied().unwrap_or(form.all_binary);
    let tensors: Vec<_> = chosen.into_iter().enumerate().map(|(n, chosen)| chosen.typed(is_binary(n))).collect();
    let mut binary = Vec::new();
    let mut outputs = Vec::with_capacity(tensors.len());
    for (n, tensor) in tensors.iter().enumerate() {
        let raw = tensors::raw_of(n, tensor).map_err(inconsistent)?;
        let datatype = tensors::datatype_of(n, tensor).map_err(inconsistent)?;
        let mut output = AnswerTensor { name: &tensor.name, datatype, shape: &tensor.shape, parameters: None, data: None };
        if is_binary(n) {
            output.parameters = Some(Size { binary_data_size: raw.len() });
            binary.push(raw);
        } else {
            output.data = Some(data(n, tensor)?);
        }
        outputs.push(output);
    }
    let Wanted { model, id, .. } = &form.wanted;
    let answer = Answer { model_name: model, model_version: &version, id, outputs };
    let mut body = serde_json::to_vec(&answer).map_err(unwritten)?;
    let json = (!binary.is_empty()).then_some(body.len());
    binary.iter().for_each(|raw| body.extend_from_slice(raw));
    Ok(Written { body: body.into(), json })
}

fn data(n: usize, tensor: &Tensor) -> Result<Box<RawValue>> {
    let mut json = Vec::new();
    elements::write(&mut json, tensor).map_err(|error| {
        let what = "is of a type or of bytes that have no JSON form; ask for it with the parameter `binary_data: true`";
        Error::invalid(format!("outputs[{n}]"), what).because(error)
    })?;
    let json = String::from_utf8(json).map_err(unwritten)?;
    RawValue::from_string(json).map_err(unwritten)
}

fn unwritten(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("an answer cannot be written as JSON").because(error)
}

impl From<Parameter> for InferParameter {
    fn from(parameter: Parameter) -> Self {
        let choice = match parameter {
            Parameter::Bool(truth) => ParameterChoice::BoolParam(truth),
            Parameter::Integer(number) => ParameterChoice::Int64Param(number),
            Parameter::Unsigned(number) => ParameterChoice::Uint64Param(number),
            Parameter::Double(number) => ParameterChoice::DoubleParam(number),
            Parameter::Text(text) => ParameterChoice::StringParam(text),
        };
        Self { parameter_choice: Some(choice) }
    }
}
