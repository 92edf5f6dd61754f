//! The Open Inference Protocol: as a door, and as the protocol of a model's server, which is another gateway's door here.

use flowgate_client::proto::inference::{
    ModelInferRequest, ModelReadyRequest, RepositoryIndexRequest, RepositoryModelLoadRequest, ServerReadyRequest,
    grpc_inference_service_client::GrpcInferenceServiceClient,
    model_infer_request::{InferInputTensor, InferRequestedOutputTensor},
};
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use serde_json::{Value, json};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use crate::{
    fake::{Answer, Fake, Nobody},
    gateway::{Running, counted},
    speech::{config, predict_endpoint},
};

const MODELS: &str = "endpoints:
  - { name: numbers, endpoint_type: mlflow/predict, model: { provider: mock, config: { predictions: [1, 2.5] } } }
  - { name: table, endpoint_type: mlflow/predict, model: { provider: mock, config: { predictions: [{ a: 1, b: x }, { a: 2, b: y }] } } }
  - { name: ragged, endpoint_type: mlflow/predict, model: { provider: mock, config: { predictions: [[1], [1, 2]] } } }
  - { name: chat, endpoint_type: llm/v1/chat, model: { provider: mock } }
";

fn client(running: &Running) -> GrpcInferenceServiceClient<Channel> {
    GrpcInferenceServiceClient::new(Endpoint::from_shared(running.url("")).unwrap().connect_lazy())
}

/// Asks with one named tensor of two floats.
fn request(model: &str, name: &str) -> ModelInferRequest {
    ModelInferRequest {
        model_name: model.to_owned(),
        id: format!("id of {model}"),
        inputs: vec![InferInputTensor { name: name.to_owned(), datatype: "FP32".to_owned(), shape: vec![2], ..Default::default() }],
        raw_input_contents: vec![[1.5_f32, -2.0].iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>().into()],
        ..Default::default()
    }
}

fn doubles(raw: &[u8]) -> Vec<f64> {
    raw.chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap())).collect()
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().unwrap().reason.clone()
}

async fn rest(running: &Running, path: &str, body: Value) -> (StatusCode, Value) {
    let response = running.post(path, body.to_string()).await;
    let status = response.status();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

#[tokio::test]
async fn tensors_reach_the_scoring_server_as_its_json_and_come_back() {
    let upstream = Fake::start(|_| Answer::json(r#"{"predictions": [1, 2.5]}"#)).await;
    let running = Running::start(&config(&[predict_endpoint("iris", &upstream.url, "")])).await;
    for (name, inputs) in [("x", json!({"x": [1.5, -2.0]})), ("input-0", json!([1.5, -2.0])), ("predict", json!([1.5, -2.0]))] {
        let answer = client(&running).model_infer(request("iris", name)).await.unwrap().into_inner();
        assert_eq!((&answer.model_name[..], &answer.id[..]), ("iris", "id of iris"));
        let output = &answer.outputs[0];
        assert_eq!((&output.name[..], &output.datatype[..], &output.shape[..]), ("predict", "FP64", &[2][..]));
        assert_eq!(doubles(&answer.raw_output_contents[0]), [1.0, 2.5]);
        assert_eq!(upstream.seen().last().unwrap().json(), json!({ "inputs": inputs }), "{name}");
    }
    let body =
        json!({"id": "7", "inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1.5, -2]}], "outputs": [{"name": "y"}]});
    let (status, answer) = rest(&running, "/v2/models/iris/infer", body).await;
    assert_eq!(status, 200);
    let output = json!({"name": "y", "datatype": "FP64", "shape": [2], "data": [1.0, 2.5]});
    assert_eq!(answer, json!({"model_name": "iris", "id": "7", "outputs": [output]}));
}

#[tokio::test]
async fn refusals_have_the_codes_of_other_doors() {
    let running = Running::start(MODELS).await;
    let mut short = request("numbers", "x");
    short.inputs[0].shape = vec![3];
    let mut versioned = request("numbers", "x");
    versioned.model_version = "7".to_owned();
    let mut wanting = request("table", "x");
    wanting.outputs = vec![InferRequestedOutputTensor { name: "c".to_owned(), ..Default::default() }];
    let cases = [
        (request("nobody", "x"), Code::NotFound, "CALLER_ENDPOINT_NOT_FOUND"),
        (request("chat", "x"), Code::InvalidArgument, "CALLER_WRONG_TASK"),
        (request("ragged", "x"), Code::InvalidArgument, "CALLER_INVALID_REQUEST"),
        (short, Code::InvalidArgument, "CALLER_INVALID_REQUEST"),
        (versioned, Code::InvalidArgument, "CALLER_INVALID_REQUEST"),
        (wanting, Code::InvalidArgument, "CALLER_INVALID_REQUEST"),
    ];
    for (asked, code, expected) in cases {
        let model = asked.model_name.clone();
        let status = client(&running).model_infer(asked).await.unwrap_err();
        assert_eq!((status.code(), &reason(&status)[..]), (code, expected), "{model}: {status}");
        assert!(!status.message().contains("prediction_form"), "the protocol has no such field: {status}");
    }
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]});
    for (model, status, expected) in [
        ("nobody", 404, "CALLER_ENDPOINT_NOT_FOUND"),
        ("chat", 400, "CALLER_WRONG_TASK"),
        ("ragged", 400, "CALLER_INVALID_REQUEST"),
        ("numbers/versions/7", 400, "CALLER_INVALID_REQUEST"),
    ] {
        let (got, answer) = rest(&running, &format!("/v2/models/{model}/infer"), body.clone()).await;
        assert_eq!((got.as_u16(), answer["reason"].as_str()), (status, Some(expected)), "{model}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
    }
    assert_eq!(running.counted("flowgate_errors_total", &["door=\"oip\""]), 4);
}

#[tokio::test]
async fn a_stream_answers_in_order_and_outlives_its_failures() {
    let running = Running::start(MODELS).await;
    let names = ["numbers", "nobody", "table"].into_iter().cycle().take(90);
    let asked: Vec<_> = names.map(|name| request(name, "x")).collect();
    let answers = client(&running).model_stream_infer(stream::iter(asked)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(Result::unwrap).collect().await;
    assert_eq!(answers.len(), 90);
    for (answer, name) in answers.iter().zip(["numbers", "nobody", "table"].into_iter().cycle()) {
        let told = answer.infer_response.as_ref().unwrap();
        assert_eq!((&told.model_name[..], told.id.clone()), (name, format!("id of {name}")));
        assert_eq!((answer.error_message.is_empty(), told.outputs.is_empty()), (name != "nobody", name == "nobody"));
    }
    for (labels, count) in [("endpoint=\"numbers\"", 30), ("endpoint=\"table\"", 30), ("endpoint=\"\",task=\"\"", 30)] {
        assert_eq!(running.counted("flowgate_calls_total", &[labels]), count, "{labels}: each is a call of its own");
        assert_eq!(running.counted("flowgate_call_duration_seconds_count", &[labels]), count, "{labels}");
    }
    assert_eq!(running.counted("flowgate_call_duration_seconds_count", &["task=\"prediction\""]), 60);
    let gateway = std::sync::Arc::clone(&running.gateway);
    running.begin_stop();
    running.stopped().await.unwrap();
    assert_eq!(counted(&gateway, "flowgate_calls_total", &["endpoint=\"\",task=\"stream\",door=\"grpc\",outcome=\"ok\""]), 1);
}

/// One text or other bytes.
fn bytes(element: &[u8]) -> ModelInferRequest {
    let mut asked = request("iris", "x");
    asked.inputs[0].datatype = "BYTES".to_owned();
    asked.inputs[0].shape = vec![1];
    let length = u32::try_from(element.len()).unwrap().to_le_bytes();
    asked.raw_input_contents = vec![[&length, element].concat().into()];
    asked
}

#[tokio::test]
async fn bytes_are_text_to_a_scoring_server_or_are_refused() {
    let upstream = Fake::start(|_| Answer::json(r#"{"predictions": [1]}"#)).await;
    let running = Running::start(&config(&[predict_endpoint("iris", &upstream.url, "")])).await;
    client(&running).model_infer(bytes(b"abc")).await.unwrap();
    assert_eq!(upstream.seen().last().unwrap().json(), json!({"inputs": {"x": ["abc"]}}));
    let status = client(&running).model_infer(bytes(b"\xff\xfeabc")).await.unwrap_err();
    assert_eq!((status.code(), &reason(&status)[..]), (Code::InvalidArgument, "CALLER_INVALID_REQUEST"));
    assert!(status.message().contains("`inputs[0][0]` is no UTF-8 text"), "{status}");
    let tensors = json!({"tensors": [{"name": "x", "data_type": "DATA_TYPE_BYTES", "shape": [2], "byte_strings": ["YWJj", "/w=="]}]});
    let response = running.post("/v1/endpoints/iris:predict", json!({ "tensors": tensors }).to_string()).await;
    let (status, told) = (response.status(), response.text().await.unwrap());
    assert!(status == 400 && told.contains("`tensors.tensors[0].byte_strings[1]` is no UTF-8 text"), "{told}");
    assert_eq!(upstream.seen().len(), 1, "nothing was sent in other bytes than were meant");
}

#[tokio::test]
async fn failures_speak_of_the_protocols_own_fields() {
    let upstream = Fake::start(|_| Answer::json(r#"{"predictions": [1]}"#)).await;
    let running = Running::start(&config(&[predict_endpoint("iris", &upstream.url, "")])).await;
    let mut infinite = request("iris", "x");
    infinite.raw_input_contents = vec![[f32::INFINITY, 1.0].iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>().into()];
    let status = client(&running).model_infer(infinite).await.unwrap_err();
    assert!(status.message().ends_with("`inputs[0]` holds an infinity, which JSON lacks; send NaN"), "{status}");
}

#[tokio::test]
async fn models_are_listed_and_are_not_the_gateways_to_load() {
    let unserved = "  - { name: away, endpoint_type: mlflow/predict, model: { provider: mlflow, url: 'http://127.0.0.1:1', config: { api_key: '{{ secrets.vault:a#b }}' } } }\n";
    let running = Running::start(&format!("{MODELS}{unserved}")).await;
    let mut client = client(&running);
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let listed = |ready| RepositoryIndexRequest { ready, ..Default::default() };
    let models = client.repository_index(listed(false)).await.unwrap().into_inner().models;
    let told: Vec<_> = models.iter().map(|model| (&model.name[..], &model.state[..], model.reason.is_empty())).collect();
    let ready = [("numbers", "READY", true), ("ragged", "READY", true), ("table", "READY", true)];
    assert_eq!(told, [&[("away", "UNAVAILABLE", false)][..], &ready].concat());
    assert_eq!(client.repository_index(listed(true)).await.unwrap().into_inner().models.len(), 3);
    for (name, version, status) in [("away", "", 503), ("numbers", "", 200), ("nobody", "", 404), ("chat", "", 400), ("numbers", "7", 400)]
    {
        let asked = ModelReadyRequest { name: name.to_owned(), version: version.to_owned() };
        assert_eq!(client.model_ready(asked).await.unwrap().into_inner().ready, status == 200, "{name}: whatever it is, it is not ready");
        let version = if version.is_empty() { String::new() } else { format!("/versions/{version}") };
        let response = running.http().get(running.url(&format!("/v2/models/{name}{version}/ready"))).send().await.unwrap();
        assert_eq!(response.status(), status, "{name}");
    }
    let load = |name: &str| RepositoryModelLoadRequest { model_name: name.to_owned(), ..Default::default() };
    let status = client.repository_model_load(load("numbers")).await.unwrap_err();
    assert_eq!((status.code(), &reason(&status)[..]), (Code::PermissionDenied, "CALLER_FORBIDDEN"));
    assert!(status.message().contains("needs a key") && status.message().contains("`identity` with `may_load_models`"), "{status}");
    assert_eq!(client.repository_model_load(load("nobody")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_server_of_the_protocol_is_an_upstream() {
    let behind = Running::start(MODELS).await;
    let nobody = Nobody::new();
    let at = |name: &str, url: &str| {
        format!("  - {{ name: {name}, endpoint_type: mlflow/predict, model: {{ provider: mlflow, name: {name}, oip: \"{url}\" }} }}\n")
    };
    let url = behind.url("");
    let models = ["numbers", "table", "ragged", "unknown"].map(|name| at(name, &url)).concat();
    let running = Running::start(&format!("endpoints:\n{models}{}", at("away", &nobody.url))).await;

    let calls = (0..64).map(|_| async {
        let answer = client(&running).model_infer(request("numbers", "x")).await.unwrap().into_inner();
        assert_eq!(doubles(&answer.raw_output_contents[0]), [1.0, 2.5]);
    });
    futures_util::future::join_all(calls).await;
    assert_eq!(behind.counted("flowgate_calls_total", &["door=\"grpc\""]), 64);

    let (status, answer) =
        rest(&running, "/endpoints/table/invocations", json!({"dataframe_split": {"columns": ["a"], "data": [[1]]}})).await;
    assert_eq!((status.as_u16(), answer), (200, json!({"predictions": {"a": [1, 2], "b": ["x", "y"]}})));
    for (name, code, expected) in [
        ("ragged", Code::InvalidArgument, "PROVIDER_REJECTED_REQUEST"),
        ("unknown", Code::Internal, "PROVIDER_NOT_FOUND"),
        ("away", Code::Unavailable, "PROVIDER_UNAVAILABLE"),
    ] {
        let status = client(&running).model_infer(request(name, "x")).await.unwrap_err();
        assert_eq!((status.code(), &reason(&status)[..]), (code, expected), "{name}: {status}");
    }
}

#[tokio::test]
async fn a_server_of_http_1_is_no_server_of_the_protocol() {
    let upstream = Fake::start(|_| Answer::json("{}")).await;
    let yaml = format!(
        "endpoints:\n  - {{ name: m, endpoint_type: mlflow/predict, model: {{ provider: oip, name: m, url: \"{}\" }} }}\n",
        upstream.url
    );
    let running = Running::start(&yaml).await;
    let status = client(&running).model_infer(request("m", "x")).await.unwrap_err();
    assert!(reason(&status).starts_with("PROVIDER_"), "{status}");
}
