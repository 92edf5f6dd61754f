//! Golden tables of the protocol, and properties that no table shows. `UPDATE=1` rewrites the tables.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::{BufMut as _, Bytes, BytesMut};
use flowgate_proto::{
    inference::{
        InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
        infer_parameter::ParameterChoice,
        model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
        model_infer_response::InferOutputTensor,
        model_metadata_response::TensorMetadata,
    },
    v1::{DataType, PredictRequest, PredictResponse, Tensor, Tensors, predict_request::Input, predict_response::Output},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use prost::Message as _;
use serde_json::{Value, json};

use super::{OIP, VERSION, door, rest};
use crate::{
    dialect::{Dialect as _, Settings, Target, golden},
    error::{Error, Result},
    event::{Answer, Payload, Request, Task},
};

mod announced;

/// Every type, with the bytes of three elements.
fn every_type() -> Vec<(&'static str, Vec<u8>)> {
    let sized = |name, size: usize| (name, (0..3 * size).map(|byte| u8::try_from(byte * 41 % 256).unwrap()).collect());
    let mut types: Vec<_> = [("INT8", 1), ("UINT8", 1), ("INT16", 2), ("UINT16", 2), ("FP16", 2), ("INT32", 4), ("UINT32", 4)]
        .into_iter()
        .chain([("FP32", 4), ("INT64", 8), ("UINT64", 8), ("FP64", 8)])
        .map(|(name, size)| sized(name, size))
        .collect();
    types.push(("BOOL", vec![1, 0, 1]));
    types.push(("BYTES", joined(&[b"a", "é".as_bytes(), b""])));
    types.push(("BYTES", joined(&[b"\xff\xfe", b"\0", b"text"])));
    types
}

fn joined(elements: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for element in elements {
        out.put_u32_le(u32::try_from(element.len()).unwrap());
        out.put_slice(element);
    }
    out
}

fn asked(datatype: &str, shape: &[i64], raw: Vec<u8>) -> ModelInferRequest {
    let input = InferInputTensor { name: "x".to_owned(), datatype: datatype.to_owned(), shape: shape.to_vec(), ..Default::default() };
    ModelInferRequest {
        model_name: "m".to_owned(),
        id: "7".to_owned(),
        inputs: vec![input],
        raw_input_contents: vec![raw.into()],
        ..Default::default()
    }
}

/// The answer of a model that returns its input.
fn echoed(request: PredictRequest) -> PredictResponse {
    let Some(Input::Tensors(tensors)) = request.input else { panic!("tensors") };
    PredictResponse { output: Some(Output::Tensors(tensors)), ..PredictResponse::default() }
}

#[test]
fn every_type_crosses_as_bytes_and_as_lists() {
    for (datatype, raw) in every_type() {
        let (request, wanted) = door::read(asked(datatype, &[3, 1], raw.clone())).unwrap();
        let answer = door::write(echoed(request.clone()), &wanted, &[]).unwrap();
        assert_eq!(
            (answer.outputs[0].name.as_str(), answer.outputs[0].datatype.as_str(), answer.outputs[0].shape.as_slice()),
            ("x", datatype, &[3, 1][..])
        );
        assert_eq!(answer.raw_output_contents, [Bytes::from(raw.clone())], "{datatype}");
        assert!(answer.outputs[0].contents.is_none() && answer.id == "7" && answer.model_name == "m");

        let in_lists = door::Wanted { in_lists: true, ..wanted };
        let listed = door::write(echoed(request.clone()), &in_lists, &[]).unwrap();
        let Some(contents) = listed.outputs[0].contents.clone() else {
            assert_eq!((datatype, listed.raw_output_contents.len()), ("FP16", 1), "only FP16 has no list");
            continue;
        };
        assert!(listed.raw_output_contents.is_empty());
        let mut again = asked(datatype, &[3, 1], Vec::new());
        again.raw_input_contents.clear();
        again.inputs[0].contents = Some(contents);
        let (read, wanted) = door::read(again).unwrap();
        assert!(wanted.in_lists);
        assert_eq!(read, request, "{datatype}");
    }
}

#[test]
fn every_type_crosses_as_json_or_says_that_it_has_none() {
    for (datatype, raw) in every_type() {
        let (request, _) = door::read(asked(datatype, &[3], raw.clone())).unwrap();
        let plain = Bytes::from_static(br#"{"inputs":[{"name":"x","datatype":"BOOL","shape":[1],"data":[true]}]}"#);
        let (_, form) = rest::read(("m", ""), &plain, None).unwrap();
        match rest::write(echoed(request.clone()), &form, &[]) {
            Err(error) => {
                assert!(error.to_string().contains("binary_data: true"), "{datatype}: {error}");
                assert!(datatype == "FP16" || !raw.starts_with(b"\x01\0\0\0a"), "{datatype} has a JSON form");
            }
            Ok(written) => {
                let answer: Value = serde_json::from_slice(&written.body).unwrap();
                let body = Bytes::from(json!({ "inputs": answer["outputs"] }).to_string());
                assert_eq!(rest::read(("m", ""), &body, None).unwrap().0, request, "{datatype}");
            }
        }
    }
}

#[test]
fn binary_data_crosses_beside_json() {
    let raw = joined(&[b"\xff", b"b"]);
    let json = json!({
        "inputs": [
            {"name": "s", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": raw.len()}},
            {"name": "n", "datatype": "INT64", "shape": [1, 2], "data": [[1, 9_007_199_254_740_993_i64]]},
            {"name": "f", "datatype": "FP16", "shape": [1], "parameters": {"binary_data_size": 2}},
        ],
        "outputs": [{"name": "f", "parameters": {"binary_data": true}}, {"name": "n"}],
    })
    .to_string();
    let body = Bytes::from([json.as_bytes(), &raw, &[0x00, 0x3c]].concat());
    let (request, form) = rest::read(("m", ""), &body, Some(json.len())).unwrap();
    let written = rest::write(echoed(request), &form, &[]).unwrap();
    let (head, tail) = written.body.split_at(written.json.unwrap());
    assert_eq!(tail, [0x00, 0x3c]);
    let head: Value = serde_json::from_slice(head).unwrap();
    assert_eq!(head["outputs"][0], json!({"name": "f", "datatype": "FP16", "shape": [1], "parameters": {"binary_data_size": 2}}));
    assert_eq!(head["outputs"][1]["data"], json!([1, 9_007_199_254_740_993_i64]));
}

#[test]
fn a_length_that_lies_takes_no_memory() {
    for (count, raw) in [(i64::MAX, Vec::new()), (1, u32::MAX.to_le_bytes().to_vec()), (2, joined(&[b"a"])), (1, joined(&[b"a", b"b"]))] {
        let error = door::read(asked("BYTES", &[count], raw)).unwrap_err();
        assert!(error.to_string().contains("`raw_input_contents[0]` must hold"), "{error}");
    }
    for shape in [&[-1][..], &[i64::MAX, i64::MAX], &[1; 33]] {
        assert!(door::read(asked("BOOL", shape, vec![1])).unwrap_err().to_string().contains("inputs[0].shape"), "{shape:?}");
    }
    assert!(door::read(asked("FP64", &[0, i64::MAX], Vec::new())).is_ok(), "nothing is nothing, whatever its shape");
}

#[test]
fn elements_stand_in_the_list_of_their_type_alone() {
    let listed = |datatype: &str, contents: InferTensorContents| {
        let mut request = asked(datatype, &[1], Vec::new());
        request.raw_input_contents.clear();
        request.inputs[0].contents = Some(contents);
        door::read(request).map(|_| ()).map_err(|error| error.to_string())
    };
    let two = InferTensorContents { fp32_contents: vec![1.0], int_contents: vec![1], ..Default::default() };
    assert!(listed("FP32", two).unwrap_err().contains("in the list of its type alone"));
    let other = InferTensorContents { fp64_contents: vec![1.0], ..Default::default() };
    assert!(listed("FP32", other).unwrap_err().contains("in the list of its type alone"));
    for (datatype, number) in [("INT8", 128), ("INT16", -32769), ("INT8", -129)] {
        let large = InferTensorContents { int_contents: vec![number], ..Default::default() };
        assert!(listed(datatype, large).unwrap_err().contains("holds a number that its type does not"), "{datatype}");
    }
    let large = InferTensorContents { uint_contents: vec![256], ..Default::default() };
    assert!(listed("UINT8", large).unwrap_err().contains("holds a number that its type does not"));
    assert!(listed("FP16", InferTensorContents::default()).unwrap_err().contains("send `raw_input_contents`"));
}

fn refused(error: &Error) -> String {
    format!("{} {error}", error.reason_name())
}

fn sorted<T: serde::Serialize>(message: &T) -> String {
    serde_json::to_string(&serde_json::to_value(message).unwrap()).unwrap()
}

#[test]
fn bodies_at_the_door() {
    golden::table("oip", "rest.txt", |input| {
        let json = input["json"].to_string();
        let tail = input["tail"].as_str().map(|tail| BASE64_STANDARD.decode(tail).unwrap());
        let length = tail.as_ref().map(|_| json.len());
        let body = Bytes::from([json.as_bytes(), &tail.unwrap_or_default()].concat());
        match rest::read(("m", ""), &body, length) {
            Ok((request, _)) => sorted(&request),
            Err(error) => refused(&error),
        }
    });
}

/// A message as the tables write it.
fn message_from(input: &Value) -> ModelInferRequest {
    let texts = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let parameters = |value: &Value| {
        let pairs = value.as_object().into_iter().flatten();
        let choice = |value: &Value| match value {
            Value::Bool(truth) => ParameterChoice::BoolParam(*truth),
            Value::Number(number) if number.is_i64() => ParameterChoice::Int64Param(number.as_i64().unwrap()),
            Value::Number(number) if number.is_u64() => ParameterChoice::Uint64Param(number.as_u64().unwrap()),
            Value::Number(number) => ParameterChoice::DoubleParam(number.as_f64().unwrap()),
            other => ParameterChoice::StringParam(texts(other)),
        };
        pairs.map(|(name, value)| (name.clone(), InferParameter { parameter_choice: Some(choice(value)) })).collect()
    };
    let list = |key: &str| input[key].as_array().cloned().unwrap_or_default();
    let input_of = |value: &Value| InferInputTensor {
        name: texts(&value["name"]),
        datatype: texts(&value["datatype"]),
        shape: value["shape"].as_array().into_iter().flatten().map(|size| size.as_i64().unwrap()).collect(),
        parameters: parameters(&value["parameters"]),
        contents: value["bools"].as_array().map(|bools| InferTensorContents {
            bool_contents: bools.iter().map(|truth| truth.as_bool().unwrap()).collect(),
            ..Default::default()
        }),
    };
    let output_of =
        |value: &Value| InferRequestedOutputTensor { name: texts(&value["name"]), parameters: parameters(&value["parameters"]) };
    ModelInferRequest {
        model_name: texts(&input["model_name"]),
        model_version: texts(&input["model_version"]),
        id: texts(&input["id"]),
        parameters: parameters(&input["parameters"]),
        inputs: list("inputs").iter().map(input_of).collect(),
        outputs: list("outputs").iter().map(output_of).collect(),
        raw_input_contents: list("raw").iter().map(|raw| BASE64_STANDARD.decode(raw.as_str().unwrap()).unwrap().into()).collect(),
    }
}

#[test]
fn messages_at_the_door() {
    golden::table("oip", "messages.txt", |input| match door::read(message_from(&input)) {
        Ok((request, wanted)) => format!("{} {wanted:?}", sorted(&request)),
        Err(error) => refused(&error),
    });
}

#[test]
fn answers_at_the_door() {
    golden::table("oip", "written.txt", |input| {
        let answer: PredictResponse = serde_json::from_value(input["answer"].clone()).unwrap();
        let mut body = json!({"inputs": [{"name": "x", "datatype": "BOOL", "shape": [0], "data": []}], "id": "7"});
        body["outputs"] = input["outputs"].clone();
        if body["outputs"].is_null() {
            body["outputs"] = json!([]);
        }
        let (_, form) = rest::read(("m", ""), &Bytes::from(body.to_string()), None).unwrap();
        match rest::write(answer, &form, &[]) {
            Ok(written) => {
                let (head, tail) = written.body.split_at(written.json.unwrap_or(written.body.len()));
                format!("{} {}", std::str::from_utf8(head).unwrap(), BASE64_STANDARD.encode(tail)).trim_end().to_owned()
            }
            Err(error) => refused(&error),
        }
    });
}

fn target(model: &str, version: &str) -> Target {
    let settings = Settings(vec![(VERSION, version.to_owned())]);
    Target { settings, ..golden::target("oip", "http://127.0.0.1:1", model) }
}

fn typed(request: PredictRequest) -> Payload {
    Payload::typed_only(Request::Predict(request))
}

/// What the server gets for a request.
fn sent(input: Value) -> Result<ModelInferRequest> {
    let payload = typed(serde_json::from_value(input).unwrap());
    let request = OIP.encode(&golden::ask(Task::Predict, &payload), &target("m", "3"))?;
    assert_eq!(request.uri(), "http://127.0.0.1:1/inference.GRPCInferenceService/ModelInfer");
    assert_eq!(
        (&request.headers()["content-type"], &request.headers()["te"]),
        (&"application/grpc".parse().unwrap(), &"trailers".parse().unwrap())
    );
    let body = request.into_body();
    assert_eq!((body[0], u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize), (0, body.len() - 5));
    Ok(ModelInferRequest::decode(&body[5..]).unwrap())
}

#[test]
fn requests() {
    golden::table("oip", "requests.txt", |input| match sent(input) {
        Err(error) => refused(&error),
        Ok(message) => {
            let tensors = message.inputs.iter().zip(&message.raw_input_contents);
            let tensors: Vec<_> = tensors
                .map(|(input, raw)| format!("{} {} {:?} {}", input.name, input.datatype, input.shape, BASE64_STANDARD.encode(raw)))
                .collect();
            let mut parameters: Vec<_> =
                message.parameters.iter().map(|(name, value)| format!("{name}={:?}", value.parameter_choice)).collect();
            parameters.sort();
            format!("{}/{} {} {}", message.model_name, message.model_version, tensors.join(", "), parameters.join(" "))
                .trim_end()
                .to_owned()
        }
    });
}

#[test]
fn no_model_is_the_operators_to_name() {
    let input = json!({"inputs": [1]});
    let payload = typed(serde_json::from_value(input).unwrap());
    let error = OIP.encode(&golden::ask(Task::Predict, &payload), &target("", "")).unwrap_err();
    assert_eq!(refused(&error), "GATEWAY_NOT_SERVING the deployment names no model; have the operator set its `name`");
}

fn framed(message: &ModelInferResponse) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut body).unwrap();
    body.freeze()
}

fn headers(input: &Value) -> HeaderMap {
    let pairs = input.as_object().into_iter().flatten();
    pairs.map(|(name, value)| (HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value.as_str().unwrap()).unwrap())).collect()
}

fn decoded(form: &str, headers: &HeaderMap, body: Bytes) -> Result<PredictResponse> {
    let payload = typed(serde_json::from_value(json!({"prediction_form": format!("PREDICTION_FORM_{form}")})).unwrap());
    match OIP.decode(&golden::ask(Task::Predict, &payload), &target("m", ""), headers, body)? {
        Answer::Predict(answer) => Ok(answer),
        other => panic!("{other:?}"),
    }
}

#[test]
fn answers() {
    golden::table("oip", "answers.txt", |input| {
        let list = input["outputs"].as_array().cloned().unwrap_or_default();
        let output = |value: &Value| InferOutputTensor {
            name: value["name"].as_str().unwrap().to_owned(),
            datatype: value["datatype"].as_str().unwrap().to_owned(),
            shape: value["shape"].as_array().unwrap().iter().map(|size| size.as_i64().unwrap()).collect(),
            contents: value["bools"].as_array().map(|bools| InferTensorContents {
                bool_contents: bools.iter().map(|truth| truth.as_bool().unwrap()).collect(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let raw = list.iter().filter_map(|value| value["raw"].as_str()).map(|raw| BASE64_STANDARD.decode(raw).unwrap().into());
        let message = ModelInferResponse {
            model_name: "m".to_owned(),
            model_version: "3".to_owned(),
            outputs: list.iter().map(output).collect(),
            raw_output_contents: raw.collect(),
            ..Default::default()
        };
        match decoded(input["form"].as_str().unwrap_or("TENSORS"), &headers(&input["headers"]), framed(&message)) {
            Ok(answer) => sorted(&answer),
            Err(error) => format!("{:?} {}", error.again(), refused(&error)),
        }
    });
}

#[test]
fn scattered_bytes_never_panic() {
    let ok = headers(&json!({"grpc-status": "0"}));
    let output = InferOutputTensor { name: "y".to_owned(), datatype: "INT16".to_owned(), shape: vec![2], ..Default::default() };
    let message = ModelInferResponse { outputs: vec![output], raw_output_contents: vec![vec![1, 0, 2, 0].into()], ..Default::default() };
    let rest = br#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[[1,2.5]]}],"outputs":[{"name":"y"}]}"#;
    for (seed, is_rest) in [(framed(&message), false), (Bytes::from_static(rest), true)] {
        for n in 0..seed.len() {
            for byte in [0, 1, 0x7f, 0xff, b'"', b'[', b'-', b'}'] {
                let mut body = seed.to_vec();
                body[n] = byte;
                if is_rest {
                    rest::read(("m", ""), &body.into(), Some(n + 8).filter(|_| byte == 1)).ok();
                } else {
                    ModelInferRequest::decode(&body[5..]).ok().map(door::read);
                    for form in ["TENSORS", "FRAME", "JSON"] {
                        decoded(form, &ok, body.clone().into()).ok();
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_not_grpc_is_told_by_its_status() {
    let error = OIP.classify(&target("m", ""), StatusCode::BAD_GATEWAY, &HeaderMap::new(), b"<html>");
    assert_eq!(refused(&error), "PROVIDER_FAILED the provider failed; try again");
}

#[test]
fn predictions_of_other_forms_are_told_in_the_protocols_words() {
    let error = Error::invalid("prediction_form", "cannot hold the predictions, which are ragged; ask for PREDICTION_FORM_JSON");
    let told = door::in_its_words(error).to_string();
    assert!(told.contains("`outputs` cannot hold the predictions, which are ragged; call the endpoint by `Predict`"), "{told}");
    for (field, what, own) in [
        (
            "tensors.tensors[12].data",
            "holds an infinity, which JSON lacks; send NaN, or a `raw` body",
            "`inputs[12]` holds an infinity, which JSON lacks; send NaN",
        ),
        ("tensors.tensors[0].byte_strings[3]", "is no text", "`inputs[0][3]` is no text"),
        ("tensors.tensors[1].shape", "must be [N]", "`inputs[1].shape` must be [N]"),
        ("input", "is what the scoring server refused", "`input` is what the model's server refused"),
    ] {
        let told = door::in_its_words(Error::invalid(field, what)).to_string();
        assert!(told.ends_with(own), "{told}");
    }
    assert_eq!(door::in_its_words(Error::stream_cut()).to_string(), Error::stream_cut().to_string());
}

#[test]
fn an_answer_that_does_not_agree_with_itself_is_our_fault() {
    let tensor = Tensor { name: "y".to_owned(), data_type: 9, shape: vec![2], data: vec![0; 8].into(), ..Default::default() };
    let answer = PredictResponse { output: Some(Output::Tensors(Tensors { tensors: vec![tensor] })), ..Default::default() };
    assert!(door::write(answer, &door::Wanted::default(), &[]).unwrap_err().to_string().contains("do not agree with themselves"));
}
