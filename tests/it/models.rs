//! A model that the gateway runs in its own process, from the doors and in the operator's hand.

use flowgate_client::{
    Client,
    proto::{
        admin::v1::{ModelRuntime, ModelState},
        inference::{
            ModelMetadataRequest, RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
            grpc_inference_service_client::GrpcInferenceServiceClient,
        },
        v1::ErrorReason,
    },
};
use serde_json::{Value, json};
use tonic::{Code, Request, metadata::MetadataValue, transport::Endpoint};
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
