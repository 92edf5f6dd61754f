//! The protocol's messages as a door: requests for inferences as predictions, and their answers back.

use std::collections::HashMap;

use bytes::Bytes;
use flowgate_proto::{
    inference::{
        InferParameter, ModelInferRequest, ModelInferResponse, infer_parameter::ParameterChoice, model_infer_request::InferInputTensor,
        model_infer_response::InferOutputTensor,
    },
    v1::{PredictRequest, PredictResponse, PredictionForm, Tensor, Tensors, predict_request::Input, predict_response::Output},
    wkt::{Struct, Value, value::Kind},
};

use super::tensors::{self, Head};
use crate::error::{Error, Result};

/// What the answer's sole tensor is called where the model gives it no name.
const UNNAMED: &str = "predict";
/// Tells other servers how to read a tensor; here its type does.
const CONTENT_TYPE: &str = "content_type";
/// Beyond these a double does not hold every integer.
const EXACT: std::ops::RangeInclusive<i64> = -(1 << 53)..=1 << 53;

/// How the answer to a request is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The endpoint's name.
    pub model: String,
    /// What the answer repeats.
    pub id: String,
    /// The tensors that are wanted, by name; empty for all.
    pub outputs: Vec<String>,
    /// Whether the elements stand in lists of the message.
    pub in_lists: bool,
}

/// Refuses the version of a model, since endpoints have none.
///
/// # Errors
/// That `field` is set.
pub fn no_version(field: &str, version: &str) -> Result<()> {
    if version.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(field, "names a version, and an endpoint has only the current one; leave it out"))
}

/// Reads a request.
///
/// # Errors
/// What is wrong with it, by field.
pub fn read(message: ModelInferRequest) -> Result<(PredictRequest, Wanted)> {
    let ModelInferRequest { model_name, model_version, id, parameters, inputs, outputs, raw_input_contents: raw } = message;
    if model_name.is_empty() {
        return Err(Error::invalid("model_name", "is missing; name the endpoint to call"));
    }
    no_version("model_version", &model_version)?;
    if !raw.is_empty() && raw.len() != inputs.len() {
        return Err(Error::invalid("raw_input_contents", "must have one entry for each of `inputs`, or none at all"));
    }
    let in_lists = raw.is_empty() && !inputs.is_empty();
    let mut raw = raw.into_iter().map(Some).chain(std::iter::repeat(None));
    let tensors = inputs.into_iter().enumerate().map(|(n, input)| tensor(n, input, raw.next().flatten())).collect::<Result<_>>()?;
    for (n, output) in outputs.iter().enumerate() {
        known(&format!("outputs[{n}].parameters"), output.parameters.keys())?;
    }
    let outputs = outputs.into_iter().map(|output| output.name).collect();
    let wanted = Wanted { model: model_name, id, outputs, in_lists };
    Ok((request(&wanted, tensors, parameters)?, wanted))
}

fn tensor(n: usize, input: InferInputTensor, raw: Option<Bytes>) -> Result<Tensor> {
    let InferInputTensor { name, datatype, shape, parameters, contents } = input;
    known(&format!("inputs[{n}].parameters"), parameters.keys())?;
    let head = Head::new(n, name, &datatype, shape)?;
    match (raw, contents) {
        (Some(_), Some(_)) => {
            Err(Error::invalid(format!("inputs[{n}].contents"), "cannot stand beside `raw_input_contents`; use one of them"))
        }
        (Some(raw), None) => head.raw(&format!("raw_input_contents[{n}]"), raw),
        (None, contents) => head.contents(contents.unwrap_or_default()),
    }
}

/// The call that a request makes.
pub(super) fn request(wanted: &Wanted, tensors: Vec<Tensor>, parameters: HashMap<String, InferParameter>) -> Result<PredictRequest> {
    if tensors.is_empty() {
        return Err(Error::invalid("inputs", "must hold at least one tensor"));
    }
    if let Some(n) = wanted.outputs.iter().position(String::is_empty) {
        return Err(Error::invalid(format!("outputs[{n}].name"), "is missing"));
    }
    Ok(PredictRequest {
        input: Some(Input::Tensors(Tensors { tensors })),
        params: params(parameters)?,
        prediction_form: PredictionForm::Tensors.into(),
        ..PredictRequest::default()
    })
}

/// Refuses parameters of a tensor that ask for what is not done here.
pub(super) fn known<'a>(field: &str, keys: impl Iterator<Item = &'a String>) -> Result<()> {
    for key in keys {
        let what = match key.as_str() {
            CONTENT_TYPE => continue,
            "shared_memory_region" | "shared_memory_byte_size" | "shared_memory_offset" => {
                "asks for shared memory, which a gateway has not; send the elements"
            }
            "classification" => "asks for `classification`, which this gateway does not do; take the tensor itself",
            _ => "holds one that this gateway does not know; leave it out",
        };
        return Err(Error::invalid(field, what));
    }
    Ok(())
}

fn params(parameters: HashMap<String, InferParameter>) -> Result<Option<Struct>> {
    if parameters.is_empty() {
        return Ok(None);
    }
    let fields = parameters.into_iter().map(|(name, parameter)| Ok((name, Value { kind: Some(kind(parameter)?) })));
    Ok(Some(Struct { fields: fields.collect::<Result<_>>()? }))
}

#[expect(clippy::cast_precision_loss, reason = "integers that a double does not hold are refused")]
fn kind(parameter: InferParameter) -> Result<Kind> {
    let inexact = || Error::invalid("parameters", "holds an integer beyond 2^53, which cannot be carried exactly; send it as text");
    Ok(match parameter.parameter_choice {
        Some(ParameterChoice::BoolParam(truth)) => Kind::BoolValue(truth),
        Some(ParameterChoice::StringParam(text)) => Kind::StringValue(text),
        Some(ParameterChoice::DoubleParam(number)) if number.is_finite() => Kind::NumberValue(number),
        Some(ParameterChoice::Int64Param(number)) if EXACT.contains(&number) => Kind::NumberValue(number as f64),
        Some(ParameterChoice::Uint64Param(number)) => {
            let number = i64::try_from(number).ok().filter(|number| EXACT.contains(number)).ok_or_else(inexact)?;
            Kind::NumberValue(number as f64)
        }
        Some(ParameterChoice::Int64Param(_)) => return Err(inexact()),
        Some(ParameterChoice::DoubleParam(_)) | None => return Err(Error::invalid("parameters", "holds one without a value")),
    })
}

/// Writes an answer.
///
/// # Errors
/// `CALLER_INVALID_REQUEST` when a tensor is wanted that the model does not give.
pub fn write(answer: PredictResponse, wanted: &Wanted) -> Result<ModelInferResponse> {
    let (tensors, model_version) = chosen(answer, wanted)?;
    let mut lists = Vec::with_capacity(tensors.len());
    for (n, tensor) in tensors.iter().enumerate().take_while(|_| wanted.in_lists) {
        lists.push(tensors::contents_of(n, tensor).map_err(inconsistent)?);
    }
    // One tensor that has no list keeps all of them from being lists.
    let lists: Option<Vec<_>> = lists.into_iter().collect();
    let mut lists = lists.filter(|_| wanted.in_lists).unwrap_or_default().into_iter();
    let mut raw_output_contents = Vec::new();
    let mut outputs = Vec::with_capacity(tensors.len());
    for (n, tensor) in tensors.into_iter().enumerate() {
        let datatype = tensors::datatype_of(n, &tensor).map_err(inconsistent)?.to_owned();
        let contents = lists.next();
        if contents.is_none() {
            raw_output_contents.push(tensors::raw_of(n, &tensor).map_err(inconsistent)?);
        }
        outputs.push(InferOutputTensor { name: tensor.name, datatype, shape: tensor.shape, parameters: HashMap::new(), contents });
    }
    let Wanted { model, id, .. } = wanted;
    Ok(ModelInferResponse {
        model_name: model.clone(),
        model_version,
        id: id.clone(),
        parameters: HashMap::new(),
        outputs,
        raw_output_contents,
    })
}

/// The tensors of an answer that are wanted, each with a name, and the model's version.
pub(super) fn chosen(answer: PredictResponse, wanted: &Wanted) -> Result<(Vec<Tensor>, String)> {
    let Some(Output::Tensors(Tensors { mut tensors })) = answer.output else {
        return Err(Error::internal("tensors were asked for, and the answer is none"));
    };
    if let [only] = tensors.as_mut_slice()
        && only.name.is_empty()
    {
        only.name = if let [name] = wanted.outputs.as_slice() { name.clone() } else { UNNAMED.to_owned() };
    }
    let version = answer.model.map(|model| model.version).unwrap_or_default();
    if wanted.outputs.is_empty() {
        return Ok((tensors, version));
    }
    let mut chosen = Vec::with_capacity(wanted.outputs.len());
    for (n, name) in wanted.outputs.iter().enumerate() {
        let place = tensors.iter().position(|tensor| tensor.name == *name);
        let missing =
            || Error::invalid(format!("outputs[{n}].name"), "is no output of the model, or stands twice; leave `outputs` out to get all");
        chosen.push(tensors.swap_remove(place.ok_or_else(missing)?));
    }
    Ok((chosen, version))
}

/// A failure in the protocol's own words: it knows no other form of predictions than tensors.
#[must_use]
pub fn in_its_words(error: Error) -> Error {
    error.retold(|text| match text {
        "prediction_form" => Some("outputs".to_owned()),
        other => {
            let (what, _) = other.split_once("; ask for PREDICTION_FORM_")?;
            Some(format!("{what}; call the endpoint by `Predict` or `/invocations`, which give any predictions"))
        }
    })
}

pub(super) fn inconsistent(error: Error) -> Error {
    Error::internal("an answer's tensors do not agree with themselves").because(error)
}
