//! Tensors as messages, beside the same tensors as JSON: whatever a model is asked, it answers alike.

use std::{fs, path::Path};

use flowgate_proto::v1::{ErrorReason, PredictionForm, Tensors};
use http::{HeaderMap, StatusCode, header};
use serde_json::Value as Json;

use super::*;
use crate::{
    dialect::{
        Ask, Dialect as _, Settings, Target, Unsupported,
        scoring::{
            SCORING, columns,
            message::{AS_THEY_ARE, TAKEN},
        },
    },
    event::{Answer as Answered, Lane, Payload, Request as Asked, Task},
    mlflow::{
        scoring::{Native, Stop, Written, tests},
        signature::Schema,
    },
};

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/mlflow/scoring/testdata");

fn load(name: &str) -> Native {
    tests::load(&Path::new(MODELS).join(name)).unwrap()
}

fn target(takes: bool) -> Target {
    tests::target(Settings(takes.then(|| (TAKEN, AS_THEY_ARE.to_owned())).into_iter().collect()))
}

/// Asks a model through the dialect. The status, the content type of the answer, and the tensors; `None` where the answer holds none.
fn asked(model: &Native, tensors: &Tensors, params: Option<&Json>, as_message: bool) -> (StatusCode, String, Option<Tensors>) {
    let request = PredictRequest {
        input: Some(Sent::Tensors(tensors.clone())),
        prediction_form: PredictionForm::Tensors.into(),
        params: params.map(|params| serde_json::from_value(params.clone()).unwrap()),
        ..PredictRequest::default()
    };
    let payload = Payload::typed_only(Asked::Predict(request));
    let ask = Ask { task: Task::Predict, streaming: false, lane: Lane::Typed, payload: &payload, unsupported: Unsupported::Refuse };
    let target = target(as_message);
    let sent = match SCORING.encode(&ask, &target) {
        Ok(sent) => sent,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string(), None),
    };
    let media = sent.headers()[header::CONTENT_TYPE].to_str().unwrap();
    assert_eq!((media == "application/x-protobuf", sent.uri().path().ends_with("/tensors")), (as_message, as_message));
    let written = if as_message { Written::Message } else { Written::As(Some(media)) };
    let scored = model.answer(written, sent.body(), &Stop::default());
    let media = scored.content_type.to_str().unwrap().to_owned();
    if scored.status != StatusCode::OK {
        return (scored.status, String::from_utf8(scored.body.to_vec()).unwrap(), None);
    }
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, scored.content_type)]);
    let answer = SCORING.decode(&ask, &target, &headers, scored.body).ok().map(|answer| match answer {
        Answered::Predict(PredictResponse { output: Some(Output::Tensors(tensors)), .. }) => tensors,
        other => panic!("{other:?}"),
    });
    (scored.status, media, answer)
}

fn numbers(tensor: &v1::Tensor) -> Vec<String> {
    if tensor.data_type() == DataType::String {
        return tensor.strings.clone();
    }
    let packed = Packed { kind: tensor.data_type(), data: &tensor.data };
    let shown = |cell| match cell {
        Cell::Null => "nothing".to_owned(),
        Cell::Bool(truth) => truth.to_string(),
        Cell::Int(number) => number.to_string(),
        Cell::Real(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    (0..).map_while(|at| packed.at(at)).map(shown).collect()
}

/// All that the models are known to be asked in JSON, sent as tensors.
#[test]
fn a_message_is_answered_as_its_json_is() {
    let (mut same, mut refused, mut beyond) = (0, 0, 0);
    for folder in fs::read_dir(MODELS).unwrap().map(|entry| entry.unwrap()) {
        let model = load(folder.file_name().to_str().unwrap());
        for line in fs::read_to_string(folder.path().join("cases.jsonl")).unwrap().lines() {
            let case: Json = serde_json::from_str(line).unwrap();
            let body = case["body"].as_str().unwrap();
            let Ok(body) = serde_json::from_str::<Json>(body) else { continue };
            let Ok(request) = serde_json::from_value::<PredictRequest>(body.clone()) else { continue };
            let Ok(tensors) = columns::tensors(&request) else { continue };
            let params = body.get("params").filter(|params| params.is_object());
            let (json, message) = (asked(&model, &tensors, params, false), asked(&model, &tensors, params, true));
            let place = format!("{}: {}", folder.file_name().display(), case["name"]);
            assert_eq!(message.0, json.0, "{place}: {} and {}", message.1, json.1);
            match (message.2, json.2) {
                (Some(message), Some(json)) => {
                    are_announced(&model, &message, &place);
                    let told = |tensors: &Tensors| {
                        tensors
                            .tensors
                            .iter()
                            .map(|tensor| (tensor.name.clone(), tensor.shape.clone(), numbers(tensor)))
                            .collect::<Vec<_>>()
                    };
                    assert_eq!(told(&message), told(&json), "{place}");
                    same += 1;
                }
                (None, None) => refused += 1,
                // What JSON has as objects.
                (Some(_), None) => beyond += 1,
                (None, Some(_)) => panic!("{place}: {}", message.1),
            }
        }
    }
    assert!(same > 60 && refused > 20 && beyond > 0, "{same} {refused} {beyond}");
}

/// What the model says that it gives: of these tensors shape and type.
fn are_announced(model: &Native, answer: &Tensors, place: &str) {
    let Some(Schema::Tensors(outputs)) = model.signature().and_then(|signature| signature.outputs) else { return };
    for tensor in &answer.tensors {
        let Some(output) = outputs.iter().find(|output| output.name.as_ref() == Some(&tensor.name)) else { continue };
        let is_size = |(told, is): (&Option<usize>, &i64)| told.is_none_or(|told| usize::try_from(*is) == Ok(told));
        let fits = output.shape.len() == tensor.shape.len() && output.shape.iter().zip(&tensor.shape).all(is_size);
        assert!(fits, "{place}: {} is {:?} and should be {:?}", tensor.name, tensor.shape, output.shape);
    }
}

fn tensor(name: &str, shape: &[i64], kind: DataType, data: &[u8]) -> v1::Tensor {
    v1::Tensor { name: name.to_owned(), shape: shape.to_vec(), data_type: kind.into(), data: data.to_vec().into(), ..v1::Tensor::default() }
}

fn singles(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn infinities_and_types_survive() {
    let model = load("onnx_tensor");
    let row = |value: f32| Tensors { tensors: vec![tensor("", &[1, 4], DataType::Float32, &singles(&[1.0, value, 1.0, 1.0]))] };
    let (status, media, answer) = asked(&model, &row(f32::INFINITY), None, true);
    assert_eq!((status, media.as_str()), (StatusCode::OK, "application/x-protobuf"));
    let answer = answer.unwrap().tensors;
    assert!(answer.iter().any(|tensor| tensor.data_type() == DataType::Float32), "{answer:?}");
    assert_eq!(asked(&model, &row(f32::INFINITY), None, false).0, StatusCode::BAD_REQUEST, "JSON has none");
}

/// The shortest text of a float is another double, on the other side of a threshold.
#[test]
fn a_float_is_the_same_double_either_way() {
    let column = |name| tensor(name, &[1], DataType::Float32, &singles(&[0.1]));
    let rows = Tensors { tensors: ["a", "b", "c", "d"].map(column).into() };
    let exact = f64::from(0.1_f32).to_string();
    let payload = Payload::typed_only(Asked::Predict(PredictRequest { input: Some(Sent::Tensors(rows)), ..PredictRequest::default() }));
    let ask = Ask { task: Task::Predict, streaming: false, lane: Lane::Typed, payload: &payload, unsupported: Unsupported::Refuse };
    let json = SCORING.encode(&ask, &target(false)).unwrap();
    let sent: Json = serde_json::from_slice(json.body()).unwrap();
    assert_eq!(sent["inputs"]["a"][0].to_string(), exact);
    let message = SCORING.encode(&ask, &target(true)).unwrap();
    let message = decode(message.body()).unwrap();
    let Input::Named(named) = read(&message).unwrap().0.input else { panic!("columns") };
    assert_eq!(named[0].1.cells.first(), Cell::Real(f64::from(0.1_f32)));
}

/// A few bytes that stand for millions of rows, of a column that the model does not even have.
#[test]
fn empty_rows_are_bounded_as_in_json() {
    let model = load("lgb_binary");
    let one = |name| tensor(name, &[], DataType::Float64, &1_f64.to_le_bytes());
    let mut tensors: Vec<_> = ["a", "b", "c", "d"].map(one).into();
    tensors.insert(0, tensor("e", &[8 << 20, 0], DataType::Float32, b""));
    for as_message in [false, true] {
        let (status, told, _) = asked(&model, &Tensors { tensors: tensors.clone() }, None, as_message);
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(told.contains("too many rows for so few elements"), "{told}");
    }
}

#[test]
fn too_many_texts_are_refused() {
    let model = load("onnx_text");
    let strings = vec![String::new(); (1 << 22) + 1];
    let shape = vec![i64::try_from(strings.len()).unwrap(), 1];
    let texts = v1::Tensor { strings, data_type: DataType::String.into(), shape, ..v1::Tensor::default() };
    let (status, told, _) = asked(&model, &Tensors { tensors: vec![texts] }, None, true);
    assert!(status == StatusCode::BAD_REQUEST && told.contains("more than 4194304 values"), "{told}");
}

#[test]
fn explanations_are_tensors_too() {
    let model = load("xgb_classes");
    let column = |name| tensor(name, &[2], DataType::Float32, &singles(&[1.0; 2]));
    let rows = Tensors { tensors: ["a", "b", "c", "d"].map(column).into() };
    let explain = serde_json::json!({"explain": true});
    let (status, _, answer) = asked(&model, &rows, Some(&explain), true);
    assert_eq!(status, StatusCode::OK);
    let shapes: Vec<_> = answer.unwrap().tensors.into_iter().map(|tensor| (tensor.name, tensor.shape)).collect();
    let classes = shapes[1].1[1];
    assert!(classes > 1);
    let expected = [("prediction", vec![2]), ("bias", vec![2, classes]), ("contributions", vec![2, classes, 4])];
    let shapes: Vec<_> = shapes.iter().map(|(name, shape)| (name.as_str(), shape.clone())).collect();
    assert_eq!(shapes[1..], expected[1..]);
    assert_eq!(shapes[0].0, expected[0].0);
}

/// No caller's body comes here, and yet none could do harm.
#[test]
fn what_does_not_agree_with_itself_is_refused() {
    let model = load("onnx_tensor");
    let answer = |message: PredictRequest| model.answer(Written::Message, &message.encode_to_vec(), &Stop::default());
    let with = |tensors| PredictRequest { input: Some(Sent::Tensors(Tensors { tensors })), ..PredictRequest::default() };
    let four = singles(&[1.0; 4]);
    for (what, message) in [
        ("nothing", PredictRequest::default()),
        ("too few", with(vec![tensor("", &[2, 4], DataType::Float32, &four)])),
        ("a piece of an element", with(vec![tensor("", &[1, 4], DataType::Float32, &four[1..])])),
        ("less than nothing", with(vec![tensor("", &[-1, -4], DataType::Float32, &four)])),
        ("more than there is", with(vec![tensor("", &[i64::MAX, i64::MAX], DataType::Float32, &four)])),
        ("no type", with(vec![tensor("", &[1, 4], DataType::Unspecified, &four)])),
        ("no tensors", with(Vec::new())),
        ("no form", PredictRequest { prediction_form: 99, ..with(vec![tensor("", &[1, 4], DataType::Float32, &four)]) }),
    ] {
        let scored = answer(message);
        assert_eq!(scored.status, StatusCode::BAD_REQUEST, "{what}");
        let refused = SCORING.classify(&target(true), scored.status, &HeaderMap::new(), &scored.body);
        assert_eq!(refused.reason(), ErrorReason::CallerInvalidRequest, "{what}");
    }
    let scored = model.answer(Written::Message, b"\xff\xff\xff", &Stop::default());
    assert_eq!(scored.status, StatusCode::BAD_REQUEST);
}
