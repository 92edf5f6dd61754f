//! The Open Inference Protocol: what the doors make of requests and of answers, what a server's answers are made of, and that tensors come
//! back as they went.

use bytes::{BufMut as _, Bytes, BytesMut};
use flowgate_proto::{
    inference::{ModelInferRequest, ModelInferResponse, model_infer_response::InferOutputTensor, model_metadata_response::TensorMetadata},
    v1::{
        PredictRequest, PredictResponse, PredictionForm, PredictionModel, Tensor, Tensors, predict_request::Input, predict_response::Output,
    },
};
use flowgate_server::{
    dialect::{
        Ask, Dialect as _, Unsupported,
        oip::{OIP, door, rest},
        scoring::SCORING,
    },
    error::Result,
    event::{Answer, Lane, Payload, Request, Task},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message as _;

use crate::{judge, rows};

/// What a model may announce.
const DATATYPES: [&str; 14] =
    ["BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64", "BYTES", "BF16"];
/// The model's sole tensor has no name.
const NAMELESS: u8 = 128;

/// Feeds one input to the door of REST: how the model answers, how long the JSON is where binary data follows, and the body.
pub fn rest(input: &[u8]) {
    let [how, high, low, body @ ..] = input else { return };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let body = Bytes::copy_from_slice(body);
    let (request, form) = match rest::read(("m", ""), &body, (length > 0).then_some(length)) {
        Ok(read) => read,
        Err(error) => return judge::request(&error),
    };
    let (answer, announced) = echo(&request, *how);
    match rest::write(answer, &form, &announced) {
        Err(error) => judge::request(&error),
        Ok(written) => {
            let json = &written.body[..written.json.unwrap_or(written.body.len())];
            serde_json::from_slice::<serde::de::IgnoredAny>(json).expect("an answer is JSON");
        }
    }
    send(request);
}

/// Feeds one input to the door of gRPC: how the model answers, and a message.
pub fn grpc(input: &[u8]) {
    let [how, message @ ..] = input else { return };
    let Ok(message) = ModelInferRequest::decode(message) else { return };
    let (request, wanted) = match door::read(message) {
        Ok(read) => read,
        Err(error) => return judge::request(&error),
    };
    let (answer, announced) = echo(&request, *how);
    match door::write(answer, &wanted, &announced) {
        Err(error) => judge::request(&error),
        Ok(told) => drop(tensors(&told, &request)),
    }
    send(request);
}

/// Feeds one input to the reader of a server's answers: the form that is wanted, and a message.
pub fn answer(input: &[u8]) {
    let [form, message @ ..] = input else { return };
    let request = PredictRequest { prediction_form: i32::from(form % 5), ..PredictRequest::default() };
    match decode(&Payload::typed_only(Request::Predict(request)), message) {
        Ok(answer) => judge::predictions(message.len(), judge::answer_size(&answer)),
        // A form of predictions is the caller's choice.
        Err(error) => judge::request(&error),
    }
}

fn ask(payload: &Payload) -> Ask<'_> {
    Ask { task: Task::Predict, streaming: false, lane: Lane::Typed, payload, unsupported: Unsupported::Refuse }
}

/// A message as a server sends it.
fn decode(payload: &Payload, message: &[u8]) -> Result<Answer> {
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).expect("a short message"));
    body.extend_from_slice(message);
    let headers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    OIP.decode(&ask(payload), &rows::plain("oip"), &headers, body.freeze())
}

/// The tensors of an answer to a request.
fn tensors(answer: &ModelInferResponse, request: &PredictRequest) -> Tensors {
    let payload = Payload::typed_only(Request::Predict(request.clone()));
    let answer = decode(&payload, &answer.encode_to_vec()).expect("an answer of the protocol");
    let Answer::Predict(PredictResponse { output: Some(Output::Tensors(tensors)), .. }) = answer else { panic!("no tensors") };
    tensors
}

/// The tensors of a request as a model's answer, and what the model announces of them: nothing for 0, else types that follow each other.
fn echo(request: &PredictRequest, how: u8) -> (PredictResponse, Vec<TensorMetadata>) {
    let Some(Input::Tensors(tensors)) = &request.input else { panic!("the door reads tensors") };
    let first = usize::from(how & !NAMELESS);
    let announced = |(n, tensor): (usize, &Tensor)| TensorMetadata {
        name: tensor.name.clone(),
        datatype: DATATYPES[(first + n) % DATATYPES.len()].to_owned(),
        ..TensorMetadata::default()
    };
    let announced = if first == 0 { Vec::new() } else { tensors.tensors.iter().enumerate().map(announced).collect() };
    let mut tensors = tensors.clone();
    if let ([only], true) = (tensors.tensors.as_mut_slice(), how & NAMELESS != 0) {
        only.name.clear();
    }
    let model = PredictionModel { version: "1".to_owned(), ..PredictionModel::default() };
    (PredictResponse { output: Some(Output::Tensors(tensors)), model: Some(model), call: None }, announced)
}

/// Sends what a door has read on, in either protocol; a server that gives the same tensors back is read as having done so.
fn send(request: PredictRequest) {
    let payload = Payload::typed_only(Request::Predict(request.clone()));
    if let Err(error) = SCORING.encode(&ask(&payload), &rows::plain("mlflow")) {
        judge::request(&error);
    }
    let sent = match OIP.encode(&ask(&payload), &rows::plain("oip")) {
        Ok(sent) => sent.into_body(),
        Err(error) => return judge::request(&error),
    };
    let message = ModelInferRequest::decode(sent.slice(5..)).expect("what is sent is of the protocol");
    let outputs = message.inputs.into_iter().map(|input| InferOutputTensor {
        name: input.name,
        datatype: input.datatype,
        shape: input.shape,
        ..InferOutputTensor::default()
    });
    let told =
        ModelInferResponse { outputs: outputs.collect(), raw_output_contents: message.raw_input_contents, ..ModelInferResponse::default() };
    let back = tensors(&told, &request);
    assert_eq!(request.prediction_form(), PredictionForm::Tensors);
    let Some(Input::Tensors(there)) = request.input else { panic!("the door reads tensors") };
    assert_eq!(values(there), values(back));
}

/// Names, shapes and bytes; texts and byte strings are the same on the wire.
fn values(tensors: Tensors) -> Vec<(String, Vec<i64>, Vec<u8>)> {
    let one = |tensor: Tensor| {
        let texts = tensor.strings.into_iter().map(String::into_bytes).chain(tensor.byte_strings.into_iter().map(|text| text.to_vec()));
        let texts = texts.flat_map(|text| [&text.len().to_le_bytes()[..], &text].concat());
        (tensor.name, tensor.shape, tensor.data.to_vec().into_iter().chain(texts).collect())
    };
    tensors.tensors.into_iter().map(one).collect()
}
