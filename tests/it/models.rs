//! A model that the gateway runs in its own process, from the doors and in the operator's hand.

use flowgate_client::{
    Client,
    proto::{
        admin::v1::{ModelRuntime, ModelState},
        inference::{
            InferTensorContents, ModelInferRequest, ModelMetadataRequest, ModelReadyRequest, ModelRepositoryParameter,
            RepositoryIndexRequest, RepositoryModelLoadRequest, RepositoryModelUnloadRequest, ServerMetadataRequest,
            grpc_inference_service_client::GrpcInferenceServiceClient, model_infer_request::InferInputTensor,
        },
        v1::{
            BooleanValues, Column, DataType, ErrorReason, Frame, PredictRequest, Raw, Tensor, Tensors, column::Values,
            predict_request::Input, predict_response::Output,
        },
    },
};
use prost::Message as _;
use serde_json::{Value, json};
use tonic::{
    Code, Request,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::gateway::Running;

const IRIS: &str = "flowgate:iris";

/// A gateway with the model that comes with it, a key that may load it and one that may not.
async fn gateway(folder: &tempfile::TempDir) -> Running {
    Running::start(&format!(
        "identity: {{ keys: [{{ name: app, key: plain }}, {{ name: op, key: strong, may_load_models: true }}] }}\n\
         mlflow: {{ cache: {{ folder: {:?} }} }}\n\
         endpoints:\n\
         \x20 - {{ name: iris, endpoint_type: mlflow/predict, model: {{ provider: mlflow, uri: \"{IRIS}\" }} }}\n\
         \x20 - {{ name: none, endpoint_type: mlflow/predict, model: {{ provider: mlflow, uri: \"flowgate:rose\" }} }}\n",
        folder.path()
    ))
    .await
}

async fn ask(running: &Running, path: &str, body: Value) -> (u16, Value) {
    let request = running.http().post(running.url(path)).bearer_auth("plain").header("content-type", "application/json");
    let response = request.body(body.to_string()).send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}

fn keyed<T>(message: T, key: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", MetadataValue::try_from(format!("Bearer {key}")).unwrap());
    request
}

#[tokio::test]
async fn a_model_answers_from_the_gateways_own_process() {
    let folder = tempfile::tempdir().unwrap();
    let running = gateway(&folder).await;
    let (status, answer) =
        ask(&running, "/endpoints/iris/invocations", json!({"inputs": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]})).await;
    assert_eq!((status, &answer["predictions"]["label"]), (200, &json!(["setosa", "virginica"])), "{answer}");
    let (status, answer) = ask(&running, "/v1/endpoints/iris:predict", json!({"instances": [[5.1, 3.5, 1.4, 0.2]]})).await;
    assert_eq!((status, &answer["predictions"]["label"]), (200, &json!(["setosa"])), "{answer}");
    let (status, answer) = ask(&running, "/endpoints/iris/invocations", json!({"inputs": [[5.1, 3.5]]})).await;
    assert_eq!((status, &answer["error"]["reason"]), (400, &json!("CALLER_INVALID_REQUEST")), "{answer}");
    let (status, answer) = ask(&running, "/endpoints/none/invocations", json!({"inputs": [[1]]})).await;
    let message = answer["error"]["message"].as_str().unwrap();
    assert_eq!((status, message.contains("no model `rose` is built in; there is iris")), (502, true), "{answer}");
    assert_eq!(running.counted("flowgate_model_loads_total", &["model=\"flowgate:iris\"", "outcome=\"ok\""]), 1);
}

#[tokio::test]
async fn every_form_but_tensors_is_told_what_to_do_about_too_many_rows() {
    const ROWS: i64 = (1 << 20) + 1;
    let folder = tempfile::tempdir().unwrap();
    let running = gateway(&folder).await;
    let said = "the model refused the request: `input` is too much for one call; send fewer rows at a time";
    let rows = json!({ "inputs": vec![[0; 4]; usize::try_from(ROWS).unwrap()] });
    for path in ["/endpoints/iris/invocations", "/v1/endpoints/iris:predict"] {
        let (status, answer) = ask(&running, path, rows.clone()).await;
        assert_eq!((status, &answer["error"]["message"]), (400, &json!(said)), "{path}: {answer}");
    }
    let column = |name: &str| {
        let values = vec![true; usize::try_from(ROWS).unwrap()];
        Column { name: name.to_owned(), values: Some(Values::Booleans(BooleanValues { values })), ..Column::default() }
    };
    let input = Some(Input::Frame(Frame { columns: ["a", "b", "c", "d"].map(column).into() }));
    let client = Client::options(running.url("")).key("plain").unwrap().connect().unwrap();
    let error = client.predict(PredictRequest { endpoint: "iris".to_owned(), input, ..Default::default() }).await.unwrap_err();
    assert!(error.to_string().contains(said), "{error}");
    // As tensors they take no more room than they say.
    let infer = ModelInferRequest {
        model_name: "iris".to_owned(),
        inputs: vec![InferInputTensor {
            name: "input-0".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![ROWS, 4],
            ..Default::default()
        }],
        raw_input_contents: vec![vec![0; usize::try_from(ROWS * 16).unwrap()].into()],
        ..Default::default()
    };
    let answer = inference(&running).max_decoding_message_size(64 << 20).model_infer(keyed(infer, "plain")).await.unwrap().into_inner();
    assert_eq!(answer.outputs[1].shape, [ROWS, 3]);
}

/// Tensors of bytes wait for the model's signature, and so for its load.
#[tokio::test]
async fn callers_are_told_no_folders() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("models/gone");
    let running = Running::start(&format!(
        "mlflow: {{ cache: {{ folder: {:?} }} }}\n\
         endpoints: [{{ name: gone, endpoint_type: mlflow/predict, model: {{ provider: mlflow, uri: {place:?} }} }}]\n",
        folder.path(),
    ))
    .await;
    for (data_type, byte_strings, data) in
        [(DataType::Bytes, vec![b"\xff".to_vec().into()], Vec::new()), (DataType::Bool, Vec::new(), vec![1])]
    {
        let tensor = Tensor { data_type: data_type.into(), shape: vec![1], byte_strings, data: data.into(), ..Tensor::default() };
        let input = Some(Input::Tensors(Tensors { tensors: vec![tensor] }));
        let error =
            running.client().predict(PredictRequest { endpoint: "gone".to_owned(), input, ..Default::default() }).await.unwrap_err();
        let told = format!("{error} {error:?}");
        assert!(told.contains("…/gone"), "{data_type:?}: {told}");
        assert!(!told.contains(folder.path().to_str().unwrap()), "{data_type:?}: {told}");
    }
}

#[tokio::test]
async fn operators_see_models_and_load_them_and_let_them_go() {
    let folder = tempfile::tempdir().unwrap();
    let running = gateway(&folder).await;
    let admin = Client::options(format!("http://{}", running.admin)).connect().unwrap().admin();
    let listed = admin.list_models().await.unwrap();
    let told: Vec<_> = listed.iter().map(|model| (&model.uri[..], model.state(), &model.endpoints[..])).collect();
    assert_eq!(
        told,
        [(IRIS, ModelState::Unloaded, &["iris".to_owned()][..]), ("flowgate:rose", ModelState::Unloaded, &["none".to_owned()][..])]
    );
    let loaded = admin.load_model("iris").await.unwrap();
    assert_eq!((loaded.state(), loaded.runtime(), loaded.instances, loaded.version), (ModelState::Loaded, ModelRuntime::Native, 1, 0));
    assert!(loaded.memory_bytes > 0 && loaded.loaded_at.is_some() && loaded.digest.len() == 64, "{loaded:?}");
    assert!(admin.pin_model(IRIS, true).await.unwrap().pinned && !admin.pin_model(IRIS, false).await.unwrap().pinned);
    assert_eq!(admin.unload_model(IRIS).await.unwrap().state(), ModelState::Unloaded);
    let refused = admin.load_model("none").await.unwrap_err();
    assert!(refused.told().contains("no model `rose` is built in"), "{}", refused.told());
    assert_eq!(admin.list_models().await.unwrap()[1].state(), ModelState::Failed);
    assert_eq!(admin.load_model("nothing").await.unwrap_err().reason(), Some(ErrorReason::CallerModelNotFound));
}

#[tokio::test]
async fn operators_are_told_that_only_they_load_what_its_folder_means_now() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("mine");
    std::fs::create_dir(&place).unwrap();
    for file in ["MLmodel", "model.onnx"] {
        let brought = concat!(env!("CARGO_MANIFEST_DIR"), "/server/src/mlflow/builtin/iris");
        std::fs::copy(std::path::Path::new(brought).join(file), place.join(file)).unwrap();
    }
    let running = Running::start(&format!(
        "mlflow: {{ cache: {{ folder: {:?} }} }}\n\
         endpoints: [{{ name: mine, endpoint_type: mlflow/predict, model: {{ provider: mlflow, uri: {place:?} }} }}]\n",
        folder.path(),
    ))
    .await;
    let admin = Client::options(format!("http://{}", running.admin)).connect().unwrap().admin();
    admin.load_model("mine").await.unwrap();
    std::fs::write(place.join("model.onnx"), "nothing").unwrap();
    let refused = admin.load_model("mine").await.unwrap_err();
    assert!(refused.told().contains("; it is tried again only when somebody loads it"), "{}", refused.told());
    let listed = admin.list_models().await.unwrap().remove(0);
    assert_eq!((listed.state(), listed.failure.unwrap().again_in), (ModelState::Loaded, None));
}

#[tokio::test]
async fn only_a_key_that_may_loads_by_the_inference_protocol() {
    let folder = tempfile::tempdir().unwrap();
    let running = gateway(&folder).await;
    let mut client = GrpcInferenceServiceClient::new(Endpoint::from_shared(running.url("")).unwrap().connect_lazy());
    let load = || RepositoryModelLoadRequest { model_name: "iris".to_owned(), ..Default::default() };
    let unload = || RepositoryModelUnloadRequest { model_name: "iris".to_owned(), ..Default::default() };
    let metadata = || ModelMetadataRequest { name: "iris".to_owned(), ..Default::default() };
    assert_eq!(client.repository_model_load(keyed(load(), "plain")).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(client.repository_model_unload(keyed(unload(), "plain")).await.unwrap_err().code(), Code::PermissionDenied);
    assert!(client.model_metadata(keyed(metadata(), "plain")).await.unwrap().into_inner().inputs.is_empty());
    client.repository_model_load(keyed(load(), "strong")).await.unwrap();
    let told = client.model_metadata(keyed(metadata(), "plain")).await.unwrap().into_inner();
    let tensor = |at: usize| (&told.outputs[at].name[..], &told.outputs[at].datatype[..], &told.outputs[at].shape[..]);
    assert_eq!((told.inputs[0].datatype.as_str(), &told.inputs[0].shape[..]), ("FP32", &[-1, 4][..]));
    assert_eq!([tensor(0), tensor(1)], [("label", "BYTES", &[-1][..]), ("probabilities", "FP32", &[-1, 3][..])]);
    let admin = Client::options(format!("http://{}", running.admin)).connect().unwrap().admin();
    assert_eq!(admin.list_models().await.unwrap()[0].state(), ModelState::Loaded);
    client.repository_model_unload(keyed(unload(), "strong")).await.unwrap();
    assert_eq!(admin.list_models().await.unwrap()[0].state(), ModelState::Unloaded);
}

fn inference(running: &Running) -> GrpcInferenceServiceClient<Channel> {
    GrpcInferenceServiceClient::new(Endpoint::from_shared(running.url("")).unwrap().connect_lazy())
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let running = gateway(&folder).await;
    let mut client = inference(&running);
    let ready = |name: &str| keyed(ModelReadyRequest { name: name.to_owned(), ..Default::default() }, "plain");
    for name in ["iris", "none"] {
        assert!(client.model_ready(ready(name)).await.unwrap().into_inner().ready, "{name}: the first call would load it");
    }
    for name in ["iris", "none"] {
        ask(&running, &format!("/endpoints/{name}/invocations"), json!({"inputs": [[5.1, 3.5, 1.4, 0.2]]})).await;
    }
    client
        .repository_model_unload(keyed(RepositoryModelUnloadRequest { model_name: "iris".to_owned(), ..Default::default() }, "strong"))
        .await
        .unwrap();
    assert!(client.model_ready(ready("iris")).await.unwrap().into_inner().ready, "the next call loads it again");
    assert!(!client.model_ready(ready("none")).await.unwrap().into_inner().ready);
    let request = running.http().get(running.url("/v2/models/none/ready")).bearer_auth("plain");
    assert_eq!(request.send().await.unwrap().status(), 503);
    let listed = |ready| keyed(RepositoryIndexRequest { ready, ..Default::default() }, "plain");
    let models = client.repository_index(listed(false)).await.unwrap().into_inner().models;
    let states: Vec<_> = models.iter().map(|model| (&model.name[..], &model.state[..])).collect();
    assert_eq!(states, [("iris", "READY"), ("none", "UNAVAILABLE")]);
    assert!(models[1].reason.contains("no model `rose` is built in"), "{}", models[1].reason);
    assert_eq!(client.repository_index(listed(true)).await.unwrap().into_inner().models.len(), 1);
}

#[tokio::test]
async fn answers_are_what_the_metadata_says() {
    let folder = tempfile::tempdir().unwrap();
    let running = gateway(&folder).await;
    let mut client = inference(&running);
    let row = [5.1_f32, 3.5, 1.4, 0.2];
    let mut request = ModelInferRequest {
        model_name: "iris".to_owned(),
        inputs: vec![InferInputTensor { name: "input-0".to_owned(), datatype: "FP32".to_owned(), shape: vec![1, 4], ..Default::default() }],
        raw_input_contents: vec![row.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>().into()],
        ..Default::default()
    };
    let raw = client.model_infer(keyed(request.clone(), "plain")).await.unwrap().into_inner();
    let types: Vec<_> = raw.outputs.iter().map(|output| (&output.name[..], &output.datatype[..], &output.shape[..])).collect();
    assert_eq!(types, [("label", "BYTES", &[1][..]), ("probabilities", "FP32", &[1, 3][..])]);
    let told: Vec<_> = raw.raw_output_contents[1].chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    assert!((told.iter().sum::<f32>() - 1.0).abs() < 1e-5 && told[0] > 0.9, "{told:?}");
    request.raw_input_contents.clear();
    request.inputs[0].contents = Some(InferTensorContents { fp32_contents: row.to_vec(), ..Default::default() });
    let listed = client.model_infer(keyed(request.clone(), "plain")).await.unwrap().into_inner();
    assert_eq!(listed.outputs[1].contents.as_ref().unwrap().fp32_contents, told);
    let body = json!({"inputs": [{"name": "input-0", "datatype": "FP32", "shape": [1, 4], "data": row}]});
    let (status, answer) = ask(&running, "/v2/models/iris/infer", body.clone()).await;
    assert_eq!((status, &answer["outputs"][1]["datatype"]), (200, &json!("FP32")), "{answer}");
    request.model_version = "3".to_owned();
    let status = client.model_infer(keyed(request, "plain")).await.unwrap_err();
    assert!(status.message().contains("`model_version` names a version, and the endpoint has only the current one"), "{status}");
    let (status, answer) = ask(&running, "/v2/models/iris/versions/3/infer", body).await;
    assert_eq!((status, &answer["reason"]), (400, &json!("CALLER_INVALID_REQUEST")), "{answer}");
}

/// Between the caller and the model there is no JSON, which has no infinity and only doubles; unless requests are put together, which are
/// JSON, and then so is each of them.
#[tokio::test]
async fn tensors_reach_a_model_in_the_gateway_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = |name, more| {
        format!("  - {{ name: {name}, endpoint_type: mlflow/predict, {more}model: {{ provider: mlflow, uri: \"{IRIS}\" }} }}\n")
    };
    let endpoints = endpoint("plain", "") + &endpoint("merged", "batch: {}, ");
    let running = Running::start(&format!("mlflow: {{ cache: {{ folder: {:?} }} }}\nendpoints:\n{endpoints}", folder.path())).await;
    let ask = async |endpoint: &str, value: f32| {
        let row = [5.1_f32, 3.5, 1.4, value];
        let data = row.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>().into();
        let tensor = Tensor { shape: vec![1, 4], data_type: DataType::Float32.into(), data, ..Tensor::default() };
        let input = Some(Input::Tensors(Tensors { tensors: vec![tensor] }));
        running.client().predict(PredictRequest { endpoint: endpoint.to_owned(), input, ..PredictRequest::default() }).await
    };
    for (endpoint, probabilities) in [("plain", DataType::Float32), ("merged", DataType::Float64)] {
        let answer = ask(endpoint, 0.2).await.unwrap();
        let Some(Output::Tensors(Tensors { tensors })) = answer.output else { panic!("{answer:?}") };
        let told: Vec<_> = tensors.iter().map(|tensor| (&tensor.name[..], tensor.data_type(), &tensor.shape[..])).collect();
        assert_eq!(told, [("label", DataType::String, &[1][..]), ("probabilities", probabilities, &[1, 3][..])], "{endpoint}");
        assert_eq!(tensors[0].strings, ["setosa"], "{endpoint}");
    }
    assert!(ask("plain", f32::INFINITY).await.is_ok());
    let refused = ask("merged", f32::INFINITY).await.unwrap_err();
    assert_eq!(refused.reason(), Some(ErrorReason::CallerInvalidRequest), "{}", refused.told());
}

/// What Flowgate hands to a model as a message it has judged before; a caller's is none of these, whatever it is called.
#[tokio::test]
async fn no_callers_body_is_taken_for_the_gateways_own_message() {
    let folder = tempfile::tempdir().unwrap();
    let running = gateway(&folder).await;
    let data = [5.1_f32, 3.5, 1.4, 0.2].iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>().into();
    let tensor = Tensor { shape: vec![1, 4], data_type: DataType::Float32.into(), data, ..Tensor::default() };
    let message = PredictRequest { input: Some(Input::Tensors(Tensors { tensors: vec![tensor] })), ..PredictRequest::default() };
    let (body, content_type) = (message.encode_to_vec(), "application/x-protobuf");
    let request = running.http().post(running.url("/endpoints/iris/invocations")).bearer_auth("plain").header("content-type", content_type);
    let response = request.body(body.clone()).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 415, "{}", response.text().await.unwrap());
    let raw = Input::Raw(Raw { content_type: content_type.to_owned(), body: body.into() });
    let client = Client::options(running.url("")).key("plain").unwrap().connect().unwrap();
    let ask = PredictRequest { endpoint: "iris".to_owned(), input: Some(raw), ..PredictRequest::default() };
    assert_eq!(client.predict(ask).await.unwrap_err().reason(), Some(ErrorReason::CallerUnsupportedMediaType));
}

#[tokio::test]
async fn a_load_that_asks_for_another_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let running = gateway(&folder).await;
    let mut client = inference(&running);
    let told = client.server_metadata(keyed(ServerMetadataRequest {}, "plain")).await.unwrap().into_inner();
    assert_eq!(told.extensions, ["binary_tensor_data", "model_repository"]);
    for (parameter, said) in [("config", "holds `config`"), ("file:1/model.onnx", "holds files"), ("other", "does not know")] {
        let parameters = [(parameter.to_owned(), ModelRepositoryParameter::default())].into();
        let load = RepositoryModelLoadRequest { model_name: "iris".to_owned(), parameters, ..Default::default() };
        let status = client.repository_model_load(keyed(load, "strong")).await.unwrap_err();
        assert!(status.code() == Code::InvalidArgument && status.message().contains(said), "{status}");
        let request = running.http().post(running.url("/v2/repository/models/iris/load")).bearer_auth("strong");
        let response = request.body(json!({"parameters": {parameter: "{}"}}).to_string()).send().await.unwrap();
        assert_eq!(response.status(), 400, "{parameter}");
    }
    let parameters = [("unload_dependents".to_owned(), ModelRepositoryParameter::default())].into();
    let unload = RepositoryModelUnloadRequest { model_name: "iris".to_owned(), parameters, ..Default::default() };
    client.repository_model_unload(keyed(unload, "strong")).await.unwrap();
}

#[tokio::test]
async fn an_endpoint_whose_model_cannot_be_loaded_does_not_serve() {
    let folder = tempfile::tempdir().unwrap();
    let running = gateway(&folder).await;
    let channel = Endpoint::from_shared(running.url("")).unwrap().connect_lazy();
    let health = async |service: &str| {
        let asked = HealthCheckRequest { service: service.to_owned() };
        HealthClient::new(channel.clone()).check(asked).await.unwrap().into_inner().status
    };
    assert_eq!((health("iris").await, health("none").await), (1, 1), "the first call loads it");
    ask(&running, "/endpoints/iris/invocations", json!({"inputs": [[5.1, 3.5, 1.4, 0.2]]})).await;
    ask(&running, "/endpoints/none/invocations", json!({"inputs": [[1]]})).await;
    // Whoever watches hears of it a moment later.
    while health("none").await != 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(health("iris").await, 1);
    let told = running.http().get(running.url("/v1/endpoints/none")).bearer_auth("plain").send().await.unwrap();
    let told = told.json::<Value>().await.unwrap()["endpoint"].take();
    assert_eq!(told["state"], "ENDPOINT_STATE_NOT_SERVING", "{told}");
    assert!(told["state_reason"].as_str().unwrap().contains("no model `rose` is built in"), "{told}");
}

#[tokio::test]
async fn a_reload_to_a_model_that_cannot_be_loaded_leaves_the_one_before_it_answering() {
    let folder = tempfile::tempdir().unwrap();
    let of = |uri: &str| {
        format!(
            "mlflow: {{ cache: {{ folder: {:?} }} }}\n\
             endpoints:\n  - {{ name: iris, endpoint_type: mlflow/predict, model: {{ provider: mlflow, uri: \"{uri}\" }} }}\n",
            folder.path()
        )
    };
    let running = Running::start(&of(IRIS)).await;
    let rows = || json!({"inputs": [[5.1, 3.5, 1.4, 0.2]]});
    assert_eq!(ask(&running, "/endpoints/iris/invocations", rows()).await.0, 200);
    running.reload(&of("flowgate:rose")).await;
    let admin = Client::options(format!("http://{}", running.admin)).connect().unwrap().admin();
    let listed = async || admin.list_models().await.unwrap();
    while listed().await.iter().find(|model| model.uri == "flowgate:rose").is_none_or(|rose| rose.state() != ModelState::Failed) {
        tokio::task::yield_now().await;
    }
    let (status, answer) = ask(&running, "/endpoints/iris/invocations", rows()).await;
    assert_eq!(status, 200, "{answer}");
    running.reload(&of(IRIS)).await;
    assert_eq!(listed().await.len(), 1, "it is not waited for any more");
}

#[tokio::test]
async fn an_act_by_reference_is_for_all_models_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(&format!(
        "mlflow: {{ cache: {{ folder: {:?} }} }}\nendpoints:\n\
         \x20 - {{ name: a, endpoint_type: mlflow/predict, model: {{ provider: mlflow, uri: \"{IRIS}\", idle: 5m }} }}\n\
         \x20 - {{ name: b, endpoint_type: mlflow/predict, model: {{ provider: mlflow, uri: \"{IRIS}\", idle: 6m }} }}\n",
        folder.path()
    ))
    .await;
    let admin = Client::options(format!("http://{}", running.admin)).connect().unwrap().admin();
    let states = async || admin.list_models().await.unwrap().iter().map(|model| (model.state(), model.pinned)).collect::<Vec<_>>();
    admin.load_model(IRIS).await.unwrap();
    assert_eq!(states().await, [(ModelState::Loaded, false); 2]);
    admin.pin_model(IRIS, true).await.unwrap();
    assert_eq!(states().await, [(ModelState::Loaded, true); 2]);
    admin.pin_model(IRIS, false).await.unwrap();
    admin.unload_model("a").await.unwrap();
    assert_eq!(states().await.iter().filter(|(state, _)| *state == ModelState::Loaded).count(), 1);
    admin.unload_model(IRIS).await.unwrap();
    assert_eq!(states().await, [(ModelState::Unloaded, false); 2]);
}
