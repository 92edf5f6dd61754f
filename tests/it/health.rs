//! What the gateway says of itself over gRPC: health by name, and reflection.

use futures_util::stream;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    doors::{Task, doors},
    fake::soon,
    gateway::Running,
};

const SERVICES: [&str; 5] = [
    "flowgate.v1.ChatService",
    "flowgate.v1.CompletionService",
    "flowgate.v1.EmbeddingService",
    "flowgate.v1.EndpointService",
    "flowgate.v1.PredictionService",
];
const UP: &str = "  - { name: up, endpoint_type: llm/v1/chat, model: { provider: mock } }\n";
const DOWN: &str = "  - { name: down, endpoint_type: mlflow/predict, model: { provider: mlflow, uri: 'models:/x/1' } }\n";
const MENDED: &str = "  - { name: down, endpoint_type: mlflow/predict, model: { provider: mock } }\n";

fn endpoints(items: &[&str]) -> String {
    format!("endpoints:\n{}", items.concat())
}

fn channel(running: &Running) -> Channel {
    Endpoint::from_shared(running.url("")).unwrap().connect_lazy()
}

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn each_service_and_each_endpoint_has_its_health() {
    let running = Running::start(&endpoints(&[UP, DOWN])).await;
    let mut health = HealthClient::new(channel(&running));
    for service in SERVICES.into_iter().chain(["", "up"]) {
        assert_eq!(health.check(of(service)).await.unwrap().into_inner().status(), ServingStatus::Serving, "{service}");
    }
    assert_eq!(health.check(of("down")).await.unwrap().into_inner().status(), ServingStatus::NotServing);
    assert_eq!(health.check(of("nobody")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn what_is_not_served_says_why() {
    let running = Running::start(&endpoints(&[UP, DOWN])).await;
    let why = "models:/x/1";
    for path in ["/endpoints/down/invocations", "/v1/endpoints/down:predict", "/invocations"] {
        let response = running.post(path, r#"{"instances": [[1]]}"#).await;
        assert_eq!(response.status(), 503, "{path}");
        let body: serde_json::Value = response.json().await.unwrap();
        assert_eq!(body["error"]["reason"], "GATEWAY_NOT_SERVING", "{path}");
        assert!(body["detail"].as_str().unwrap().contains(why), "{body}");
    }
    let input = Some(flowgate_client::input::frame([flowgate_client::input::doubles("a", [1.0])]));
    let request = flowgate_client::proto::v1::PredictRequest { endpoint: "down".to_owned(), input, ..Default::default() };
    let error = running.client().predict(request).await.unwrap_err();
    assert_eq!((error.code(), error.reason_name()), (Code::FailedPrecondition, Some("GATEWAY_NOT_SERVING")));
    assert!(error.message().contains(why), "{}", error.message());
    let described: serde_json::Value = running.http().get(running.url("/v1/endpoints/down")).send().await.unwrap().json().await.unwrap();
    assert_eq!(described["endpoint"]["state"], "ENDPOINT_STATE_NOT_SERVING");
    assert!(described["endpoint"]["state_reason"].as_str().unwrap().contains(why), "{described}");
    for door in doors(Task::Chat).into_iter().filter(|door| door.path("up") != "/own/up") {
        door.ask(&running, "up").await.unwrap();
    }
}

#[tokio::test]
async fn a_watcher_hears_of_a_reload() {
    let running = Running::start(&endpoints(&[UP, DOWN])).await;
    let mut health = HealthClient::new(channel(&running));
    let mut watch = health.watch(of("down")).await.unwrap().into_inner();
    for (config, expected) in [
        (None, ServingStatus::NotServing),
        (Some(endpoints(&[UP, MENDED])), ServingStatus::Serving),
        (Some(endpoints(&[UP, DOWN])), ServingStatus::NotServing),
    ] {
        if let Some(config) = config {
            running.reload(&config).await;
        }
        let told = soon("the next status", watch.message()).await.unwrap().unwrap();
        assert_eq!(told.status(), expected);
    }
    running.reload(&endpoints(&[UP])).await;
    assert_eq!(health.check(of("down")).await.unwrap_err().code(), Code::NotFound);
}

/// Asks by one version of the protocol for all services, and for the file of one of ours.
macro_rules! reflected {
    ($running:expr, $version:ident) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
            server_reflection_response::MessageResponse,
        };
        let mut client = ServerReflectionClient::new(channel($running));
        let questions = [MessageRequest::ListServices(String::new()), MessageRequest::FileContainingSymbol(SERVICES[0].to_owned())];
        let questions = questions.map(|question| ServerReflectionRequest { host: String::new(), message_request: Some(question) });
        let mut answers = client.server_reflection_info(stream::iter(questions)).await.unwrap().into_inner();
        let names: Vec<String> = match answers.message().await.unwrap().unwrap().message_response.unwrap() {
            MessageResponse::ListServicesResponse(list) => list.service.into_iter().map(|service| service.name).collect(),
            other => panic!("{other:?}"),
        };
        match answers.message().await.unwrap().unwrap().message_response.unwrap() {
            MessageResponse::FileDescriptorResponse(files) => assert!(!files.file_descriptor_proto.is_empty()),
            other => panic!("{other:?}"),
        }
        names
    }};
}

#[tokio::test]
async fn reflection_lists_our_services() {
    let running = Running::start(&endpoints(&[UP])).await;
    for names in [reflected!(&running, v1), reflected!(&running, v1alpha)] {
        for service in SERVICES.into_iter().chain(["grpc.health.v1.Health"]) {
            assert!(names.iter().any(|name| name == service), "{service} is not in {names:?}");
        }
    }
}
