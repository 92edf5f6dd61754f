//! The protocol's messages as a door: requests for inferences as predictions, and their answers back.

use std::collections::HashMap;

use bytes::Bytes;
use flowgate_proto::{
    inference::{
        InferParameter, ModelInferRequest, ModelInferResponse, infer_parameter::ParameterChoice, model_infer_request::InferInputTensor,
        model_infer_response::InferOutputTensor, model_metadata_response::TensorMetadata,
    },
    v1::{DataType, PredictRequest, PredictResponse, PredictionForm, Tensor, Tensors, predict_request::Input, predict_response::Output},
    wkt::{Struct, Value, value::Kind},
};

use super::{
    cast::cast,
    datatype,
    tensors::{self, Head},
};
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
    /// The version that is to answer; empty for the current one.
    pub version: String,
    /// What the answer repeats.
    pub id: String,
    /// The tensors that are wanted, by name; empty for all.
    pub outputs: Vec<String>,
    /// Whether the elements stand in lists of the message.
    pub in_lists: bool,
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
    let wanted = Wanted { model: model_name, version: model_version, id, outputs, in_lists };
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

/// Writes an answer, in the types that the model's metadata announces.
///
/// # Errors
/// `CALLER_INVALID_REQUEST` when a tensor is wanted that the model does not give.
pub fn write(answer: PredictResponse, wanted: &Wanted, announced: &[TensorMetadata]) -> Result<ModelInferResponse> {
    let (tensors, model_version) = chosen(answer, wanted, announced)?;
    let tensors: Vec<_> = tensors.into_iter().map(|chosen| chosen.typed(!wanted.in_lists)).collect();
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

/// A tensor of an answer.
pub(super) struct Chosen {
    tensor: Tensor,
    /// What the metadata announces.
    announced: Option<DataType>,
}

impl Chosen {
    /// In the type that is announced; without `has_any` only if that can be written as a list.
    pub(super) fn typed(self, has_any: bool) -> Tensor {
        match self.announced {
            Some(to) if has_any || to != DataType::Float16 => cast(self.tensor, to),
            _ => self.tensor,
        }
    }
}

/// The tensors of an answer that are wanted, each with a name, and the model's version.
pub(super) fn chosen(answer: PredictResponse, wanted: &Wanted, announced: &[TensorMetadata]) -> Result<(Vec<Chosen>, String)> {
    let Some(Output::Tensors(Tensors { mut tensors })) = answer.output else {
        return Err(Error::internal("tensors were asked for, and the answer is none"));
    };
    let mut sole = None;
    if let [only] = tensors.as_mut_slice()
        && only.name.is_empty()
    {
        sole = announced.first().filter(|_| announced.len() == 1);
        only.name = match (wanted.outputs.as_slice(), sole) {
            ([name], _) => name.clone(),
            (_, Some(sole)) => sole.name.clone(),
            _ => UNNAMED.to_owned(),
        };
    }
    let version = answer.model.map(|model| model.version).unwrap_or_default();
    let typed = |tensor: Tensor| {
        let told = sole.or_else(|| announced.iter().find(|told| told.name == tensor.name));
        let announced = told.and_then(|told| datatype::read(&told.datatype, String::new).ok());
        Chosen { tensor, announced }
    };
    if wanted.outputs.is_empty() {
        return Ok((tensors.into_iter().map(typed).collect(), version));
    }
    let mut chosen = Vec::with_capacity(wanted.outputs.len());
    for (n, name) in wanted.outputs.iter().enumerate() {
        let place = tensors.iter().position(|tensor| tensor.name == *name);
        let missing =
            || Error::invalid(format!("outputs[{n}].name"), "is no output of the model, or stands twice; leave `outputs` out to get all");
        chosen.push(typed(tensors.swap_remove(place.ok_or_else(missing)?)));
    }
    Ok((chosen, version))
}

/// A failure in the protocol's own words: it knows no other form of a request or of predictions than tensors, and no scoring server.
#[must_use]
pub fn in_its_words(error: Error) -> Error {
    error.retold(|text| {
        if text == "prediction_form" {
            return Some("outputs".to_owned());
        }
        if let Some((what, _)) = text.split_once("; ask for PREDICTION_FORM_") {
            return Some(format!("{what}; call the endpoint by `Predict` or `/invocations`, which give any predictions"));
        }
        let told = WORDS.iter().fold(inputs(text), |told, (theirs, own)| told.replace(theirs, own));
        (told != text).then_some(told)
    })
}

/// What other doors say of the same.
const WORDS: [(&str, &str); 5] = [
    ("the scoring server", "the model's server"),
    ("; send NaN, or a `raw` body", "; send NaN"),
    ("; send NaN or a null, or a `raw` body", "; send NaN"),
    ("else send them as base64 in `dataframe_split`", "else call the endpoint by `/invocations` with base64 in `dataframe_split`"),
    ("`tensors.tensors`", "`inputs`"),
];

/// `tensors.tensors[2].data` as `inputs[2]`, wherever it stands.
fn inputs(text: &str) -> String {
    const LIST: &str = "tensors.tensors[";
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(LIST) {
        let (place, after) = after.split_once(']').unwrap_or((after, ""));
        told.push_str(&format!("{before}inputs[{place}]"));
        rest = after;
        for (theirs, own) in [(".data_type", ".datatype"), (".data", ""), (".strings", ""), (".byte_strings", "")] {
            if let Some(after) = rest.strip_prefix(theirs) {
                told.push_str(own);
                rest = after;
                break;
            }
        }
    }
    told + rest
}

pub(super) fn inconsistent(error: Error) -> Error {
    Error::internal("an answer's tensors do not agree with themselves").because(error)
}
