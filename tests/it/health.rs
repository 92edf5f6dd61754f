//! Health per service and per endpoint, what an endpoint that does not serve says, and reflection.

use std::collections::HashMap;

use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

use crate::{
    doors::{self, Task, Way},
    fake::{Fake, soon},
    gateway::Running,
    predict,
    speech::{chat_endpoint, config, llm},
};

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;
const SERVICES: [&str; 5] = [
    "flowgate.v1.ChatService",
    "flowgate.v1.CompletionService",
    "flowgate.v1.EmbeddingService",
    "flowgate.v1.EndpointService",
    "flowgate.v1.PredictionService",
];

/// An endpoint that this build cannot serve.
const LATER: &str = "  - name: later
    endpoint_type: mlflow/predict
    path: /own/later
    model: { provider: mlflow, url: \"http://127.0.0.1:1\", config: { api_key: \"{{ secrets.vault:a#b }}\" } }
  - name: foreign
    endpoint_type: llm/v1/chat
    path: /own/foreign
    model: { provider: palm, name: bison, config: { api_key: k } }
";

async fn channel(running: &Running) -> Channel {
    Channel::from_shared(running.url("")).unwrap().connect().await.unwrap()
}

fn asked(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

async fn gateway(url: &str) -> Running {
    Running::start(&(config(&[chat_endpoint(url, "")]) + LATER)).await
}

#[tokio::test]
async fn services_and_endpoints_have_a_status_each() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url).await;
    let mut health = HealthClient::new(channel(&running).await);
    let named = [("", SERVING), ("chat", SERVING), ("later", NOT_SERVING), ("foreign", NOT_SERVING)];
    let wanted: HashMap<_, _> = SERVICES.map(|service| (service, SERVING)).into_iter().chain(named).collect();
    for (name, status) in &wanted {
        assert_eq!(health.check(asked(name)).await.unwrap().into_inner().status, *status, "{name}");
    }
    assert_eq!(health.check(asked("nothing")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn an_endpoint_that_does_not_serve_says_why() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url).await;
    let reason = "GATEWAY_NOT_SERVING";
    for door in predict::DOORS {
        let refusal = door.ask(&running, "later").await.unwrap_err();
        assert_eq!(refusal.reason, reason, "{door:?}: {refusal:?}");
        assert!(refusal.http.is_none_or(|status| status == 503) && refusal.code.is_none_or(|code| code == Code::FailedPrecondition));
        assert!(refusal.message.contains("vault"), "{door:?}: {}", refusal.message);
    }
    for door in doors::doors(Task::Chat) {
        let refusal = door.ask(&running, "foreign").await.unwrap_err();
        assert_eq!(refusal.reason, reason, "{door:?}: {refusal:?}");
        assert_eq!(refusal.http.is_some(), !matches!(door.way, Way::Grpc | Way::GrpcWeb), "{door:?}");
        assert!(refusal.http.is_none_or(|status| status == 503) && refusal.code.is_none_or(|code| code == Code::FailedPrecondition));
        assert!(refusal.message.contains("palm"), "{door:?}: {}", refusal.message);
        assert!(door.ask(&running, "chat").await.is_ok(), "the others serve");
    }
    let endpoint = running.client().get_endpoint("later").await.unwrap();
    assert_eq!(endpoint.state().as_str_name(), "ENDPOINT_STATE_NOT_SERVING");
    assert!(endpoint.state_reason.contains("vault"), "{}", endpoint.state_reason);
}

#[tokio::test]
async fn a_watch_sees_what_a_reload_changes() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url).await;
    let mut health = HealthClient::new(channel(&running).await);
    let mut watch = health.watch(asked("later")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, NOT_SERVING);
    let served = crate::speech::predict_endpoint("later", &upstream.url, "");
    running.reload(&config(&[chat_endpoint(&upstream.url, ""), served])).await;
    assert_eq!(soon("the change", watch.message()).await.unwrap().unwrap().status, SERVING);
    running.reload(&(config(&[chat_endpoint(&upstream.url, "")]) + LATER)).await;
    assert_eq!(soon("the change", watch.message()).await.unwrap().unwrap().status, NOT_SERVING);
    running.reload(&config(&[chat_endpoint(&upstream.url, "")])).await;
    assert_eq!(health.check(asked("later")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_and_describes_every_service() {
    let upstream = Fake::start(llm).await;
    let running = gateway(&upstream.url).await;
    let mut wanted = SERVICES.to_vec();
    wanted.extend(["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]);
    macro_rules! reflect {
        ($version:ident, $own:literal) => {{
            use $version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
                server_reflection_response::MessageResponse,
            };
            let mut client = ServerReflectionClient::new(channel(&running).await);
            let requests = [MessageRequest::ListServices(String::new())]
                .into_iter()
                .chain(SERVICES.map(|name| MessageRequest::FileContainingSymbol(name.to_owned())))
                .map(|message| ServerReflectionRequest { host: String::new(), message_request: Some(message) });
            let requests: Vec<_> = requests.collect();
            let mut answers = client.server_reflection_info(futures_util::stream::iter(requests)).await.unwrap().into_inner();
            let Some(MessageResponse::ListServicesResponse(list)) = answers.message().await.unwrap().unwrap().message_response else {
                panic!("the list of services")
            };
            let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
            for name in wanted.iter().filter(|name| !name.starts_with("grpc.reflection") || **name == $own) {
                assert!(names.contains(name), "{name} is not among {names:?}");
            }
            for service in SERVICES {
                let answer = answers.message().await.unwrap().unwrap().message_response;
                let Some(MessageResponse::FileDescriptorResponse(files)) = answer else { panic!("{service}: {answer:?}") };
                assert!(!files.file_descriptor_proto.is_empty(), "{service}");
            }
        }};
    }
    reflect!(v1, "grpc.reflection.v1.ServerReflection");
    reflect!(v1alpha, "grpc.reflection.v1alpha.ServerReflection");
}
