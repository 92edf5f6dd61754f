//! Golden tables of the scoring dialect, and properties that no table shows. `UPDATE=1` rewrites the tables.

use std::fmt::Write as _;

use bytes::Bytes;
use flowgate_proto::v1::{
    Column, DataType, DoubleValues, Frame, IntegerValues, PredictRequest, PredictResponse, PredictionForm, Raw, Tensor, Tensors,
    column::Values, predict_request::Input, predict_response::Output,
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;

use super::{
    SCORING, door, native, request,
    table::{self, Takes},
};
use crate::{
    dialect::{self, Ask, Dialect as _, Target, golden},
    error::{Error, Result},
    event::{Answer, Lane, Payload, Request, Task},
};

fn check(table: &str, run: impl Fn(Value) -> String) {
    golden::table("scoring", table, run);
}

fn text(input: &Value, key: &str) -> Option<String> {
    input.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn shown<T: serde::Serialize>(message: &T) -> String {
    // Through a sorted tree, because objects of the contract keep no order.
    let tree = serde_json::to_value(message).unwrap();
    serde_json::to_string(&tree).unwrap()
}

fn refused(error: &Error) -> String {
    format!("{} {error}", error.reason_name())
}

fn target(base: &str) -> Target {
    golden::target("mlflow", base, "")
}

fn ask(payload: &Payload, lane: Lane) -> Ask<'_> {
    Ask { lane, ..golden::ask(Task::Predict, payload) }
}

fn typed(request: PredictRequest) -> Payload {
    Payload::typed_only(Request::Predict(request))
}

fn encoded(input: Value) -> String {
    let payload = typed(serde_json::from_value(input).unwrap());
    match SCORING.encode(&ask(&payload, Lane::Typed), &target("http://h")) {
        Ok(request) => {
            let body = String::from_utf8(request.body().to_vec()).unwrap().replace('\n', "\\n");
            format!("{} {body}", request.headers()[header::CONTENT_TYPE].to_str().unwrap())
        }
        Err(error) => refused(&error),
    }
}

fn decoded(form: PredictionForm, content_type: Option<&str>, body: &str) -> Result<PredictResponse> {
    let payload = typed(PredictRequest { prediction_form: form.into(), ..PredictRequest::default() });
    let mut headers = HeaderMap::new();
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
    }
    match SCORING.decode(&ask(&payload, Lane::Typed), &target("http://h"), &headers, Bytes::from(body.to_owned()))? {
        Answer::Predict(answer) => Ok(answer),
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests() {
    check("requests.txt", encoded);
    check("frames.txt", encoded);
    check("tensors.txt", encoded);
}

#[test]
fn tensors_as_signatures_want_them() {
    check("tables.txt", |input| {
        let size = |size: &Value| size.as_i64().and_then(|size| usize::try_from(size).ok());
        let entry = |entry: &Value| table::Entry {
            name: text(entry, "name"),
            is_binary: entry["binary"].as_bool().unwrap_or(false),
            takes: match &entry["takes"] {
                Value::Array(shape) => Takes::Shape(shape.iter().map(size).collect()),
                Value::String(word) if word == "value" => Takes::Value,
                _ => Takes::Any,
            },
        };
        let entries: Vec<_> = input["signature"].as_array().unwrap().iter().map(entry).collect();
        let request: PredictRequest = serde_json::from_value(input["request"].clone()).unwrap();
        match table::of(&request, &entries) {
            Ok(Some(table)) => {
                assert_eq!(request::form(&table).unwrap(), request::form(&request).unwrap(), "the answer is wanted as it was");
                assert_eq!((&table.params, &table.metadata), (&request.params, &request.metadata));
                encoded(serde_json::to_value(&table).unwrap())
            }
            Ok(None) => encoded(input["request"].clone()),
            Err(error) => refused(&error),
        }
    });
}

#[test]
fn answers() {
    check("answers.txt", |input| {
        let form = PredictionForm::from_str_name(&format!("PREDICTION_FORM_{}", text(&input, "form").unwrap())).unwrap();
        match decoded(form, text(&input, "content_type").as_deref(), &text(&input, "body").unwrap()) {
            Ok(answer) => shown(&answer),
            Err(error) => refused(&error),
        }
    });
}

#[test]
fn failures() {
    check("errors.txt", |input| {
        let status = u16::try_from(input["status"].as_u64().unwrap()).unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        let error = SCORING.classify(&target("http://127.0.0.1:1"), status, &HeaderMap::new(), text(&input, "body").unwrap().as_bytes());
        assert_eq!(error.upstream_status_code(), Some(status.as_u16()));
        let retry = if error.again() == crate::error::Again::Anywhere { "retry" } else { "final" };
        format!("{retry} {}", refused(&error))
    });
}

#[test]
fn bodies_at_the_door() {
    check("door.txt", |input| {
        let content_type = text(&input, "content_type").map(|text| HeaderValue::from_str(&text).unwrap());
        let wire = door::wire(content_type.as_ref(), text(&input, "body").unwrap().into());
        match Payload::wire_only(wire).typed() {
            Ok(Request::Predict(request)) => shown(request),
            Ok(other) => panic!("{other:?}"),
            Err(error) => refused(&error),
        }
    });
    check("written.txt", |input| {
        let answer: PredictResponse = serde_json::from_value(input).unwrap();
        match door::encode_answer(&answer) {
            Ok((content_type, body)) => {
                let body = String::from_utf8(body.to_vec()).unwrap().replace('\n', "\\n");
                format!("{} {body}", content_type.to_str().unwrap())
            }
            Err(error) => refused(&error),
        }
    });
}

#[test]
fn native_bodies() {
    check("native.txt", |input| match native::native_request(input.as_str().unwrap().as_bytes()) {
        Some(native) => {
            let mut shown = String::from_utf8(native.body.to_vec()).unwrap();
            if !native.metadata.is_empty() {
                write!(shown, " {:?}", native.metadata).unwrap();
            }
            shown
        }
        None => "typed".to_owned(),
    });
    let answer = |scoring: &'static str| native::native_answer(&Bytes::from_static(scoring.as_bytes()), r#"{"name":"m"}"#, "{}");
    let spliced = answer(r#"{"predictions": [1.0, 9007199254740993,  "NaN"], "x": 1}"#).unwrap();
    assert_eq!(spliced, r#"{"predictions":[1.0, 9007199254740993,  "NaN"],"model":{"name":"m"},"call":{}}"#);
    assert_eq!(answer("{\"predictions\": [NaN]}").unwrap(), r#"{"predictions":[null],"model":{"name":"m"},"call":{}}"#);
    assert_eq!(answer("{\"choices\": []}").unwrap(), r#"{"predictions":{"choices": []},"model":{"name":"m"},"call":{}}"#);
    assert_eq!(answer("oops").unwrap_err().reason_name(), "PROVIDER_BAD_ANSWER");
}

#[test]
fn the_byte_lane_touches_nothing() {
    let body = Bytes::from_static(b"a,b\r\n1,NaN");
    let content_type = HeaderValue::from_static("text/csv; charset=utf-8");
    let payload = Payload::wire_only(door::wire(Some(&content_type), body.clone()));
    for (base, want) in [
        ("http://h:1", "http://h:1/invocations"),
        ("http://h/", "http://h/invocations"),
        ("http://h/a/", "http://h/a/invocations"),
        ("http://h/invocations", "http://h/invocations"),
        ("http://h/a/invocations/?x=1", "http://h/a/invocations?x=1"),
    ] {
        let request = SCORING.encode(&ask(&payload, Lane::Byte), &target(base)).unwrap();
        assert_eq!((request.method().as_str(), request.uri().to_string().as_str()), ("POST", want));
        assert_eq!(request.headers()[header::CONTENT_TYPE], content_type);
        assert_eq!(request.body().as_ptr(), body.as_ptr(), "nothing is copied");
    }
    let answer = Bytes::from_static(b"{\"predictions\": [NaN]}");
    let decoded = SCORING.decode(&ask(&payload, Lane::Byte), &target("http://h"), &HeaderMap::new(), answer.clone()).unwrap();
    assert!(matches!(decoded, Answer::Wire(wire) if wire.body == answer && wire.content_type == "application/json"));
}

#[test]
fn the_form_follows_the_input() {
    let form = |input| request::form(&PredictRequest { input, ..PredictRequest::default() }).unwrap();
    assert_eq!(form(None), PredictionForm::Json);
    assert_eq!(form(Some(Input::Frame(Frame::default()))), PredictionForm::Frame);
    assert_eq!(form(Some(Input::Tensors(Tensors::default()))), PredictionForm::Tensors);
    assert_eq!(form(Some(Input::Raw(Raw::default()))), PredictionForm::Raw);
}

#[test]
fn a_streamed_frame_is_an_error() {
    let payload = typed(PredictRequest::default());
    let mut decoder = SCORING.decoder(&ask(&payload, Lane::Typed), &target("http://h"));
    assert_eq!(decoder.frame(dialect::Frame::default(), &mut Vec::new()).unwrap_err().reason_name(), "PROVIDER_BAD_ANSWER");
}

#[test]
fn an_exception_is_told_to_the_log_and_not_to_the_caller() {
    let body = br#"{"error_code": "BAD_REQUEST", "message": "Encountered an unexpected error", "stack_trace": "RuntimeError: thirteen"}"#;
    let error = SCORING.classify(&target("http://127.0.0.1:1"), StatusCode::BAD_REQUEST, &HeaderMap::new(), body);
    assert!(!error.to_string().contains("thirteen"));
    assert!(format!("{error:?}").contains("thirteen"));
}

#[test]
fn a_stack_trace_is_cut_to_its_exception() {
    let frames = "  File \"/a.py\", line 1, in predict\n    return f(x)\n           ^^^^\n".repeat(40);
    let told = |end: &str| {
        let trace = format!("Traceback (most recent call last):\n{frames}{end}");
        let body = serde_json::json!({"error_code": "BAD_REQUEST", "message": "Encountered an unexpected error", "stack_trace": trace});
        let error =
            SCORING.classify(&target("http://127.0.0.1:1"), StatusCode::BAD_REQUEST, &HeaderMap::new(), body.to_string().as_bytes());
        std::error::Error::source(&error).unwrap().to_string()
    };
    assert_eq!(
        told("ValueError: Input X contains NaN.\nIt takes none.\n"),
        "BAD_REQUEST: ValueError: Input X contains NaN. It takes none."
    );
    let long = told(&format!("ValueError: {}", "é".repeat(2000)));
    assert_eq!(long.chars().count(), "BAD_REQUEST: ".len() + 300 + 1);
    assert!(long.ends_with("é…"), "{long}");
    assert!(told("").len() < 400);
}

/// Sends typed predictions through the scoring protocol and back: what a model that returns its input would answer.
fn round_trip(output: Output, form: PredictionForm) -> Output {
    let (_, body) = door::encode_answer(&PredictResponse { output: Some(output), ..PredictResponse::default() }).unwrap();
    decoded(form, None, std::str::from_utf8(&body).unwrap()).unwrap().output.unwrap()
}

/// Numbers at and around every edge, and a spread between (a multiplicative walk, so that it is the same in every run).
fn integers() -> Vec<i64> {
    let edges = [0, 1, -1, i64::MAX, i64::MIN, i64::MAX - 1, i64::MIN + 1];
    let powers = (1..63).flat_map(|shift| [(1_i64 << shift) - 1, 1 << shift, (1 << shift) + 1, -(1 << shift) - 1]);
    let walk = std::iter::successors(Some(0x9E37_79B9_7F4A_7C15_u64), |n| Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1)));
    edges.into_iter().chain(powers).chain(walk.take(2000).map(u64::cast_signed)).collect()
}

fn doubles() -> Vec<f64> {
    let edges = [0.1, 1e300, -0.0, 0.0, f64::MAX, f64::MIN_POSITIVE, 5e-324, 9_007_199_254_740_993.0, 1.0, -1.5];
    edges.into_iter().chain(integers().into_iter().map(|bits| f64::from_bits(bits.cast_unsigned())).filter(|n| n.is_finite())).collect()
}

#[test]
fn integers_are_exact_both_ways() {
    let values = integers();
    let frame = Frame {
        columns: vec![Column {
            name: "x".to_owned(),
            values: Some(Values::Integers(IntegerValues { values: values.clone() })),
            ..Column::default()
        }],
    };
    assert_eq!(round_trip(Output::Frame(frame.clone()), PredictionForm::Frame), Output::Frame(frame));
    let mut tensor = Tensor { shape: vec![values.len().try_into().unwrap()], ..Tensor::default() };
    tensor.set_data_type(DataType::Int64);
    tensor.data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let tensors = Tensors { tensors: vec![tensor.clone()] };
    assert_eq!(round_trip(Output::Tensors(tensors.clone()), PredictionForm::Tensors), Output::Tensors(tensors));
    tensor.set_data_type(DataType::Uint64);
    let tensors = Tensors { tensors: vec![tensor] };
    assert_eq!(round_trip(Output::Tensors(tensors.clone()), PredictionForm::Tensors), Output::Tensors(tensors));
}

#[test]
fn doubles_are_exact_both_ways() {
    let values = doubles();
    let frame =
        Frame { columns: vec![Column { values: Some(Values::Doubles(DoubleValues { values: values.clone() })), ..Column::default() }] };
    let Output::Frame(back) = round_trip(Output::Frame(frame), PredictionForm::Frame) else { panic!("a frame") };
    let Some(Values::Doubles(back)) = &back.columns[0].values else { panic!("doubles") };
    assert!(back.values.iter().zip(&values).all(|(back, value)| back.to_bits() == value.to_bits()));
    let mut tensor = Tensor { name: "x".to_owned(), shape: vec![values.len().try_into().unwrap(), 1], ..Tensor::default() };
    tensor.set_data_type(DataType::Float64);
    tensor.data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let tensors = Tensors { tensors: vec![tensor] };
    assert_eq!(round_trip(Output::Tensors(tensors.clone()), PredictionForm::Tensors), Output::Tensors(tensors));
}

#[test]
fn float32_survives_as_text() {
    let values: Vec<f32> = integers()
        .into_iter()
        .map(|bits| f32::from_bits(u32::try_from(bits.cast_unsigned() >> 32).unwrap()))
        .filter(|n| n.is_finite())
        .collect();
    let mut tensor = Tensor { shape: vec![values.len().try_into().unwrap()], ..Tensor::default() };
    tensor.set_data_type(DataType::Float32);
    tensor.data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let (_, body) = door::encode_answer(&PredictResponse {
        output: Some(Output::Tensors(Tensors { tensors: vec![tensor] })),
        ..PredictResponse::default()
    })
    .unwrap();
    let printed = std::str::from_utf8(&body).unwrap().strip_prefix("{\"predictions\":[").unwrap().strip_suffix("]}").unwrap();
    assert_eq!(printed.split(',').count(), values.len());
    for (printed, value) in printed.split(',').zip(values) {
        assert_eq!(printed.parse::<f32>().unwrap().to_bits(), value.to_bits());
    }
}

#[test]
fn scattered_bytes_never_panic() {
    let seeds = ["{\"predictions\": [{\"a\": [1, NaN]}, \"N\\\"aN\"]}", "{\"inputs\": [1, -Infinity], \"params\": {\"a\": 1}}"];
    for seed in seeds {
        for n in 0..seed.len() {
            for byte in [b'"', b'\\', b'[', b'}', b'N', b'-', 0xff, b'1'] {
                let mut body = seed.as_bytes().to_vec();
                body[n] = byte;
                let body = Bytes::from(body);
                let payload = Payload::wire_only(door::wire(None, body.clone()));
                payload.typed().ok();
                native::native_request(&body);
                native::native_answer(&body, "{}", "{}").ok();
                SCORING.classify(&target("http://127.0.0.1:1"), StatusCode::BAD_REQUEST, &HeaderMap::new(), &body);
                for form in [PredictionForm::Json, PredictionForm::Frame, PredictionForm::Tensors] {
                    let payload = typed(PredictRequest { prediction_form: form.into(), ..PredictRequest::default() });
                    SCORING.decode(&ask(&payload, Lane::Typed), &target("http://h"), &HeaderMap::new(), body.clone()).ok();
                }
            }
        }
    }
}

/// What is written is not out of proportion to what was sent, however the elements are nested.
#[test]
fn tensors_stand_for_so_many_lists_only() {
    let bools = |rows: usize, inner: &[i64]| Tensor {
        shape: [&[i64::try_from(rows).unwrap()], inner].concat(),
        data_type: DataType::Bool.into(),
        data: vec![1; rows].into(),
        ..Tensor::default()
    };
    let body = |tensor| {
        let input = Some(Input::Tensors(Tensors { tensors: vec![tensor] }));
        request::body(&PredictRequest { input, ..PredictRequest::default() }).map(|(_, body)| body.len())
    };
    let rows = 600_000;
    assert_eq!(body(bools(rows, &[1, 1])).unwrap(), r#"{"inputs":[]}"#.len() + rows * "[[true]],".len() - 1);
    let error = body(bools(rows, &[1, 1, 1, 1])).unwrap_err();
    assert_eq!(error.violations()[0].field, "tensors.tensors[0].shape");
}
