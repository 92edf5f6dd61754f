//! Typed predictions against a scoring server that is looked at to the byte: every form, every kind of number, one bad row.

use std::collections::HashMap;

use flowgate_client::{
    input,
    proto::{
        v1::{
            BytesValues, Column, DataType, DataframeSplit, DoubleValues, Frame, IntegerValues, PredictRequest, PredictionForm, Raw, Tensor,
            Tensors, TimestampValues, column::Values, predict_request::Input, predict_response::Output,
        },
        wkt::{ListValue, Struct, Value, value::Kind},
    },
};
use serde_json::json;
use tonic::Code;

use crate::{
    fake::{Answer, Fake, Gate},
    gateway::Running,
    predict::{self, number},
    speech::{config, predict_endpoint},
};

/// Beyond what a double holds.
const BIG: i64 = 9_007_199_254_740_993;

async fn gateway(upstream: &Fake) -> Running {
    Running::start(&config(&[predict_endpoint("iris", &upstream.url, "")])).await
}

fn ask(input: Input) -> PredictRequest {
    PredictRequest { endpoint: "iris".to_owned(), input: Some(input), ..Default::default() }
}

fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

fn list(values: Vec<Value>) -> ListValue {
    ListValue { values }
}

fn rows(values: Vec<Value>) -> Value {
    Value { kind: Some(Kind::ListValue(list(values))) }
}

fn object(fields: &[(&str, Value)]) -> Struct {
    Struct { fields: fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect() }
}

fn of(name: &str, values: Values, validity: &[bool]) -> Column {
    Column { name: name.to_owned(), validity: validity.to_vec(), values: Some(values) }
}

fn tensor(name: &str, data_type: DataType, shape: &[i64], data: Vec<u8>) -> Tensor {
    Tensor { name: name.to_owned(), data_type: data_type.into(), shape: shape.to_vec(), data: data.into(), ..Default::default() }
}

fn le<const N: usize, T>(values: &[T], bytes: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(bytes).collect()
}

/// Every input, and the JSON that the scoring server must get to the letter.
fn forms() -> Vec<(Input, &'static str)> {
    let split = DataframeSplit {
        columns: vec![text("a"), text("b")],
        index: vec![number(0.0), text("x")],
        data: vec![list(vec![number(1.0), text("é\"\n")]), list(vec![number(-2.5), Value { kind: Some(Kind::NullValue(0)) }])],
    };
    let record = Value { kind: Some(Kind::StructValue(object(&[("a", number(1.0))]))) };
    let (int64, strings) =
        (Tensor { name: "s".to_owned(), data_type: DataType::String.into(), shape: vec![2], ..Default::default() }, ["é", "\""]);
    let strings = Tensor { strings: strings.map(str::to_owned).to_vec(), ..int64 };
    vec![
        (
            Input::DataframeSplit(split),
            "{\"dataframe_split\":{\"columns\":[\"a\",\"b\"],\"index\":[0,\"x\"],\"data\":[[1,\"é\\\"\\n\"],[-2.5,null]]}}",
        ),
        (Input::DataframeRecords(list(vec![record])), r#"{"dataframe_records":[{"a":1}]}"#),
        (Input::Instances(list(vec![rows(vec![number(1.0), number(0.1)])])), r#"{"instances":[[1,0.1]]}"#),
        (Input::Inputs(rows(vec![number(1e21), number(9_007_199_254_740_991.0)])), r#"{"inputs":[1e+21,9007199254740991]}"#),
        (
            input::frame([
                input::doubles("d", [1.0, 0.1, f64::NAN]),
                of("i", Values::Integers(IntegerValues { values: vec![BIG, i64::MIN, 0] }), &[true, true, false]),
                input::strings("s", ["a", "é", ""]),
                input::booleans("t", [true, false, true]),
            ]),
            r#"{"dataframe_split":{"columns":["d","i","s","t"],"data":[[1.0,9007199254740993,"a",true],[0.1,-9223372036854775808,"é",false],[null,null,"",true]]}}"#,
        ),
        (
            Input::Tensors(Tensors { tensors: vec![tensor("", DataType::Int64, &[2, 1], le(&[BIG, -1], |n| n.to_le_bytes()))] }),
            r#"{"inputs":[[9007199254740993],[-1]]}"#,
        ),
        (
            Input::Tensors(Tensors {
                tensors: vec![
                    tensor("f", DataType::Float32, &[2], le(&[0.1_f32, 1.0], |n| n.to_le_bytes())),
                    tensor("u", DataType::Uint64, &[1], u64::MAX.to_le_bytes().to_vec()),
                    tensor("b", DataType::Bool, &[2], vec![1, 0]),
                    strings,
                ],
            }),
            r#"{"inputs":{"f":[0.10000000149011612,1.0],"u":[18446744073709551615],"b":[true,false],"s":["é","\""]}}"#,
        ),
    ]
}

#[tokio::test]
async fn every_form_is_the_scoring_servers_own_to_the_letter() {
    let upstream = Fake::start(|_| Answer::json(r#"{"predictions":[1]}"#)).await;
    let running = gateway(&upstream).await;
    for (input, wanted) in forms() {
        running.client().predict(ask(input.clone())).await.unwrap_or_else(|error| panic!("{wanted}: {error}"));
        let seen = upstream.last();
        assert_eq!(seen.text(), wanted);
        assert_eq!((seen.path.as_str(), seen.headers["content-type"].to_str().unwrap()), ("/invocations", "application/json"));
        let with_params = PredictRequest { params: Some(object(&[("k", number(3.0))])), ..ask(input) };
        running.client().predict(with_params).await.unwrap();
        assert_eq!(upstream.last().text(), format!("{},\"params\":{{\"k\":3}}}}", &wanted[..wanted.len() - 1]));
    }
}

#[tokio::test]
async fn times_and_bytes_are_written_as_the_server_reads_them() {
    let upstream = Fake::start(|_| Answer::json("[1]")).await;
    let running = gateway(&upstream).await;
    let columns = [
        of("t", Values::Timestamps(TimestampValues { unix_nanos: vec![1_700_000_000_123_456_789, 0] }), &[true, false]),
        of("b", Values::Bytes(BytesValues { values: vec![vec![0, 255].into(), vec![].into()] }), &[]),
    ];
    running.client().predict(ask(input::frame(columns))).await.unwrap();
    let data = upstream.last().json()["dataframe_split"]["data"].clone();
    assert_eq!((&data[0][1], &data[1][0], &data[1][1]), (&json!("AP8="), &json!(null), &json!("")));
    let time = data[0][0].as_str().unwrap();
    assert!(time.starts_with("2023-11-14T22:13:20.123456789"), "{time}");
}

#[tokio::test]
async fn raw_bodies_cross_as_they_are() {
    let csv = "sepal,petal\r\n5.10,\"1,4\"\r\n";
    let upstream = Fake::start(|_| Answer::of_type(200, "application/json; charset=utf-8", "{\"predictions\": [1.10]}\n")).await;
    let running = gateway(&upstream).await;
    for content_type in ["text/csv", "text/csv; charset=utf-8", "application/vnd.apache.parquet"] {
        let raw = Raw { content_type: content_type.to_owned(), body: csv.into() };
        let answer = running.client().predict(ask(Input::Raw(raw))).await.unwrap();
        let seen = upstream.last();
        assert_eq!((seen.text(), seen.headers["content-type"].to_str().unwrap()), (csv, content_type));
        let Some(Output::Raw(raw)) = answer.output else { panic!("{:?}", answer.output) };
        assert_eq!((raw.content_type.as_str(), &raw.body[..]), ("application/json; charset=utf-8", &b"{\"predictions\": [1.10]}\n"[..]));
    }
    let raw = Raw { content_type: "text/csv".to_owned(), body: csv.into() };
    let as_json = PredictRequest { prediction_form: PredictionForm::Json.into(), ..ask(Input::Raw(raw)) };
    let answer = running.client().predict(as_json).await.unwrap();
    assert!(matches!(answer.output, Some(Output::Predictions(_))), "{:?}", answer.output);
}

#[tokio::test]
async fn answers_come_in_the_form_that_was_asked_in_with_exact_integers() {
    let upstream = Fake::start(|seen| {
        Answer::json(match seen.json().get("inputs") {
            Some(_) => r#"{"predictions": [[9007199254740993], [-1]]}"#,
            None => r#"{"predictions": [{"n": 9007199254740993, "p": 0.1}, {"n": null, "p": NaN}]}"#,
        })
    })
    .await;
    let running = gateway(&upstream).await;
    let answer = running.client().predict(ask(input::frame([input::doubles("a", [1.0, 2.0])]))).await.unwrap();
    let Some(Output::Frame(Frame { columns })) = answer.output else { panic!("{:?}", answer.output) };
    let columns: HashMap<_, _> = columns.into_iter().map(|column| (column.name.clone(), column)).collect();
    assert_eq!(columns["n"].values, Some(Values::Integers(IntegerValues { values: vec![BIG, 0] })));
    assert_eq!(columns["n"].validity, [true, false]);
    let Some(Values::Doubles(DoubleValues { values })) = &columns["p"].values else { panic!("{columns:?}") };
    assert!((values[0] - 0.1).abs() < f64::EPSILON);

    let tensors = Tensors { tensors: vec![tensor("", DataType::Int64, &[2], le(&[1_i64, 2], |n| n.to_le_bytes()))] };
    let answer = running.client().predict(ask(Input::Tensors(tensors))).await.unwrap();
    let Some(Output::Tensors(Tensors { tensors })) = answer.output else { panic!("{:?}", answer.output) };
    assert_eq!((tensors[0].data_type(), &tensors[0].shape[..]), (DataType::Int64, &[2, 1][..]));
    assert_eq!(tensors[0].data, le(&[BIG, -1], |n| n.to_le_bytes()));
    let call = answer.call.unwrap();
    assert_eq!((call.endpoint.as_str(), call.provider.as_str(), call.attempts), ("iris", "mlflow", 1));
}

#[tokio::test]
async fn an_input_that_cannot_be_sent_is_refused_by_its_field() {
    let upstream = Fake::start(|_| Answer::json("[1]")).await;
    let running = gateway(&upstream).await;
    let uneven = input::frame([input::doubles("a", [1.0]), input::doubles("b", [1.0, 2.0])]);
    let short = Input::Tensors(Tensors { tensors: vec![tensor("x", DataType::Int64, &[3], vec![0; 8])] });
    let untyped = Input::Raw(Raw { content_type: String::new(), body: "a".into() });
    for (input, field) in [
        (uneven, "frame"),
        (short, "tensors"),
        (untyped, "raw.content_type"),
        (input::frame([input::doubles("a", [f64::INFINITY])]), "frame"),
    ] {
        let error = running.client().predict(ask(input)).await.unwrap_err();
        assert_eq!((error.code(), error.reason_name()), (Code::InvalidArgument, Some("CALLER_INVALID_REQUEST")), "{error}");
        assert!(error.violations()[0].field.starts_with(field), "{:?}", error.violations());
    }
    let both =
        PredictRequest { params: Some(object(&[])), ..ask(Input::Raw(Raw { content_type: "text/csv".to_owned(), body: "a".into() })) };
    assert_eq!(running.client().predict(both).await.unwrap_err().violations()[0].field, "params");
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_model_that_raises_is_told_apart_and_its_trace_stays_inside() {
    let upstream = Fake::start(|_| {
        let message = "Encountered an unexpected error while evaluating the model. Verify that the input is compatible with the model for inference.";
        let body = json!({"error_code": "BAD_REQUEST", "message": message, "stack_trace": "Traceback (most recent call last):\n  File \"/opt/secret.py\""});
        Answer::status(400, body.to_string())
    })
    .await;
    let running = gateway(&upstream).await;
    for (n, door) in predict::DOORS.into_iter().enumerate() {
        let refusal = door.ask(&running, "iris").await.unwrap_err();
        assert_eq!(refusal.reason, "PROVIDER_MODEL_FAILED", "{door:?}");
        assert!(refusal.http.is_none_or(|status| status == 500) && refusal.code.is_none_or(|code| code == Code::Internal), "{refusal:?}");
        assert!(!refusal.seen.contains("secret.py") && !refusal.seen.contains("Traceback"), "{refusal:?}");
        assert_eq!(upstream.seen().len(), n + 1, "it is never tried again");
    }
}

#[tokio::test]
async fn one_bad_request_of_a_stream_leaves_the_others_alone() {
    let upstream = Fake::start(|seen| match seen.text().contains("13") {
        true => Answer::status(500, "{}"),
        false => Answer::json(r#"{"predictions":[1]}"#),
    })
    .await;
    let running = gateway(&upstream).await;
    let good = || predict::request("iris");
    let requests = vec![
        good(),
        PredictRequest { endpoint: "nothing".to_owned(), ..good() },
        PredictRequest { input: None, ..good() },
        ask(Input::Inputs(number(13.0))),
        good(),
    ];
    let mut answers = running.client().stream_predict(futures_util::stream::iter(requests)).await.unwrap();
    let mut told = HashMap::new();
    while let Some(answer) = answers.next().await {
        let answer = answer.unwrap();
        let result = answer.result.map(|answer| answer.call.unwrap().endpoint).map_err(|error| error.reason_name().unwrap().to_owned());
        assert!(told.insert(answer.index, result).is_none(), "each request has one answer");
    }
    let refused = |reason: &str| Err(reason.to_owned());
    let wanted = [
        Ok("iris".to_owned()),
        refused("CALLER_ENDPOINT_NOT_FOUND"),
        refused("CALLER_INVALID_REQUEST"),
        refused("PROVIDER_FAILED"),
        Ok("iris".to_owned()),
    ];
    assert_eq!(told, (0..).zip(wanted).collect());
}

/// A slow one does not hold up those behind it, and an answer comes before the last request is sent.
#[tokio::test]
async fn answers_of_a_stream_come_as_they_are_ready() {
    let gate = Gate::new();
    let upstream = Fake::start({
        let gate = gate.clone();
        move |seen| match seen.text().contains("slow") {
            true => {
                Answer::Pieces { content_type: "application/json", pieces: gate.before(futures_util::stream::iter([Ok("[7]".into())])) }
            }
            false => Answer::json("[1]"),
        }
    })
    .await;
    let running = gateway(&upstream).await;
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let requests = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
    sender.send(ask(Input::Inputs(text("slow")))).unwrap();
    sender.send(predict::request("iris")).unwrap();
    let mut answers = running.client().stream_predict(requests).await.unwrap();
    let first = crate::fake::soon("the quick answer", answers.next()).await.unwrap().unwrap();
    assert_eq!((first.index, first.result.is_ok()), (1, true));
    sender.send(predict::request("iris")).unwrap();
    let second = crate::fake::soon("the next quick answer", answers.next()).await.unwrap().unwrap();
    assert_eq!(second.index, 2);
    gate.open();
    let last = crate::fake::soon("the slow answer", answers.next()).await.unwrap().unwrap();
    assert_eq!((last.index, last.result.is_ok()), (0, true));
    drop(sender);
    assert!(crate::fake::soon("the end", answers.next()).await.is_none());
}
