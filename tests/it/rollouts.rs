//! Rollouts: a canary that begins to fail is taken back by itself, an operator takes one back by hand, and nobody else does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use flowgate_client::{
    Admin, Client,
    proto::v1::{Endpoint, ErrorReason, RolloutState},
};
use flowgate_server::config::{Config, Rollout};
use tonic::Code;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse,
};

use crate::{
    doors::chat,
    fake::{Answer, Fake, soon},
    gateway::Running,
    predict::request,
    speech::{config, model, predict_endpoint},
};

const RPCS: [&str; 3] = ["ListRollouts", "GetRollout", "RollBack"];

/// A ranker with a rollout from `stable` to `next`, and an endpoint without.
async fn gateway(stable: &Fake, next: &Fake, every: Duration, change: impl FnOnce(&mut Config)) -> Running {
    let deployment = |alias: &str, url: &str| format!("      - {{ alias: {alias}, model: {{ provider: mlflow, url: \"{url}\" }} }}\n");
    let deployments = deployment("stable", &stable.url) + &deployment("next", &next.url);
    let text = format!(
        "{}  - name: ranker\n    endpoint_type: mlflow/predict\n    deployments:\n{deployments}",
        config(&[predict_endpoint("plain", &stable.url, "")])
    );
    Running::start_with(&text, |config| {
        let (canary, steps) = ("next".to_owned(), vec![20, 40, 100]);
        let rollout = Rollout { canary, steps, every, error_rate: Some(0.02), p95: None, min_calls: 20 };
        config.endpoints.iter_mut().find(|endpoint| endpoint.name == "ranker").unwrap().routing.rollout = Some(rollout);
        change(config);
    })
    .await
}

fn admin(running: &Running, key: Option<&str>) -> Admin {
    let options = Client::options(format!("http://{}", running.admin));
    let options = if let Some(key) = key { options.key(key).unwrap() } else { options };
    options.connect().unwrap().admin()
}

/// Calls until the endpoint is so; no call may fail meanwhile.
async fn call_until(running: &Running, what: &str, holds: impl Fn(&Endpoint) -> bool) -> Endpoint {
    let client = running.client();
    soon(what, async {
        loop {
            let endpoint = client.get_endpoint("ranker").await.unwrap();
            if holds(&endpoint) {
                return endpoint;
            }
            client.predict(request("ranker")).await.unwrap();
        }
    })
    .await
}

fn shares(endpoint: &Endpoint) -> Vec<f64> {
    endpoint.models.iter().map(|model| model.share.unwrap()).collect()
}

#[tokio::test]
async fn a_canary_that_fails_at_its_second_step_is_back_at_0_and_says_why() {
    let failing = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&failing);
    let stable = Fake::start(model).await;
    let next = Fake::start(move |seen| if told.load(SeqCst) { Answer::status(503, "{}") } else { model(seen) }).await;
    let running = gateway(&stable, &next, Duration::from_millis(1), |_| {}).await;
    let labels = ["endpoint=\"ranker\"", "deployment=\"next\""];

    let first = running.client().get_endpoint("ranker").await.unwrap();
    assert_eq!(shares(&first), [0.8, 0.2]);
    let second = call_until(&running, "the second step", |endpoint| endpoint.rollout.as_ref().unwrap().step == 2).await;
    assert_eq!(shares(&second), [0.6, 0.4]);
    assert!(running.metrics().await.contains(&format!("flowgate_rollout_share{{{}}} 0.4", labels.join(","))));
    assert_eq!(running.counted("flowgate_rollout_rollbacks_total", &labels), 0);

    failing.store(true, SeqCst);
    let ended = call_until(&running, "the rollback", |endpoint| endpoint.rollout.as_ref().unwrap().share_percent == 0).await;
    assert_eq!(shares(&ended), [1.0, 0.0]);
    let rollout = ended.rollout.unwrap();
    assert_eq!((rollout.state(), rollout.step, rollout.canary.as_str()), (RolloutState::RolledBack, 2, "next"));
    assert!(rollout.reason.contains("calls of next failed") && rollout.reason.contains("more than 2 %"), "{}", rollout.reason);
    assert!(running.metrics().await.contains(&format!("flowgate_rollout_share{{{}}} 0.0", labels.join(","))));
    assert_eq!(running.counted("flowgate_rollout_rollbacks_total", &[labels[0], labels[1], "cause=\"error_rate\""]), 1);

    let asked = next.seen().len();
    for _ in 0..100 {
        let answer = running.client().predict(request("ranker")).await.unwrap();
        assert_eq!(answer.call.unwrap().deployment, "stable");
    }
    assert_eq!(next.seen().len(), asked);
    let plain = running.client().get_endpoint("plain").await.unwrap();
    assert_eq!((shares(&plain), plain.rollout), (vec![1.0], None));
}

/// An LLM's answer has no time of its own, only the endpoint's `total`: its end is the provider's failure.
#[tokio::test]
async fn a_canary_that_never_answers_is_back_at_0() {
    let silent = Fake::start(|_| Answer::Silence).await;
    let model = |alias: &str| {
        let config = format!("{{ api_key: k, api_base: \"{}/v1\" }}", silent.url);
        format!("      - {{ alias: {alias}, model: {{ provider: openai, name: m, config: {config} }} }}\n")
    };
    let rollout = "    rollout: { steps: [100], every: 1h, abort_if: { error_rate: 2%, min_calls: 3 } }\n    timeouts: { total: 100ms }\n";
    let plain = config(&[predict_endpoint("plain", &silent.url, "")]);
    let deployments = model("stable") + &model("next");
    let text = format!("{plain}  - name: chat\n    endpoint_type: llm/v1/chat\n{rollout}    deployments:\n{deployments}");
    let running = Running::start(&text).await;
    for calls in 0..3 {
        let share = running.client().get_endpoint("chat").await.unwrap().rollout.unwrap().share_percent;
        assert_eq!((share, silent.seen().len()), (100, calls));
        let error = running.client().chat(chat("chat", "hi")).await.unwrap_err();
        assert_eq!(error.reason(), Some(ErrorReason::ProviderTimeout));
    }
    let rollout = running.client().get_endpoint("chat").await.unwrap().rollout.unwrap();
    assert_eq!((rollout.share_percent, rollout.state()), (0, RolloutState::RolledBack));
}

#[tokio::test]
async fn an_operator_lists_and_ends_rollouts() {
    let (stable, next) = (Fake::start(model).await, Fake::start(model).await);
    let running = gateway(&stable, &next, Duration::from_secs(600), |_| {}).await;
    let admin = admin(&running, None);
    let listed = admin.list_rollouts().await.unwrap();
    assert_eq!(listed.iter().map(|rollout| (rollout.endpoint.as_str(), rollout.share_percent)).collect::<Vec<_>>(), [("ranker", 20)]);
    assert_eq!(admin.get_rollout("ranker").await.unwrap().state(), RolloutState::Running);

    for (name, reason) in [("nothing", ErrorReason::CallerEndpointNotFound), ("plain", ErrorReason::CallerRolloutNotFound)] {
        for error in [admin.get_rollout(name).await.unwrap_err(), admin.roll_back(name, "").await.unwrap_err()] {
            assert_eq!((error.code(), error.reason()), (Code::NotFound, Some(reason)), "{name}");
        }
    }
    let error = admin.roll_back("ranker", "two\nlines").await.unwrap_err();
    assert_eq!((error.reason(), error.violations()[0].field.as_str()), (Some(ErrorReason::CallerInvalidRequest), "reason"));
    assert_eq!(admin.get_rollout("ranker").await.unwrap().state(), RolloutState::Running);

    for reason in ["it drops rows", "once more"] {
        let rollout = admin.roll_back("ranker", reason).await.unwrap();
        assert_eq!((rollout.state(), rollout.share_percent), (RolloutState::RolledBack, 0));
        assert_eq!(rollout.reason, "by an operator: it drops rows");
    }
    for _ in 0..50 {
        running.client().predict(request("ranker")).await.unwrap();
    }
    assert!(next.seen().is_empty());
    assert_eq!(running.counted("flowgate_rollout_rollbacks_total", &["cause=\"operator\""]), 1);
}

/// An empty message to a gRPC path; its status.
async fn asked(http: &reqwest::Client, url: String, key: Option<&str>) -> String {
    let mut request = http.post(url).header("content-type", "application/grpc").header("te", "trailers").body(vec![0; 5]);
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let response = request.send().await.unwrap();
    response.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn the_admin_services_need_their_key_and_the_data_plane_does_not_have_them() {
    let (stable, next) = (Fake::start(model).await, Fake::start(model).await);
    let every = Duration::from_secs(600);
    let running = gateway(&stable, &next, every, |config| config.admin_key = Some("k-admin".to_owned().into())).await;
    let h2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    for rpc in RPCS {
        let path = format!("/flowgate.admin.v1.RolloutService/{rpc}");
        for wrong in [None, Some("k-admi"), Some("")] {
            assert_eq!(asked(&h2, format!("http://{}{path}", running.admin), wrong).await, "16", "{path} {wrong:?}");
        }
        assert_eq!(asked(running.http(), format!("http://{}{path}", running.admin), Some("k-admin")).await, "3", "HTTP/1.1: {path}");
        assert_eq!(asked(&h2, running.url(&path), Some("k-admin")).await, "12", "{path}");
    }
    assert_eq!(admin(&running, Some("k-admin")).get_rollout("ranker").await.unwrap().share_percent, 20);
    let error = admin(&running, Some("k-other")).roll_back("ranker", "").await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::Unauthenticated, Some(ErrorReason::CallerUnauthenticated)));
    for open in ["/metrics", "/livez", "/readyz"] {
        let response = running.http().get(format!("http://{}{open}", running.admin)).send().await.unwrap();
        assert_eq!(response.status(), 200, "{open}");
    }
}

#[tokio::test]
async fn without_a_key_only_a_loopback_listener_has_admin_services() {
    let (stable, next) = (Fake::start(model).await, Fake::start(model).await);
    let running = gateway(&stable, &next, Duration::from_secs(600), |config| config.admin = "0.0.0.0:0".parse().unwrap()).await;
    let client = Client::connect(format!("http://127.0.0.1:{}", running.admin.port())).unwrap();
    let error = client.admin().roll_back("ranker", "").await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::PermissionDenied, Some(ErrorReason::CallerForbidden)));
    assert!(error.message().contains("set `admin.key`"), "{error}");
}

#[tokio::test]
async fn each_listener_describes_its_own_services() {
    let (stable, next) = (Fake::start(model).await, Fake::start(model).await);
    let running = gateway(&stable, &next, Duration::from_secs(600), |_| {}).await;
    for (address, is_admin) in [(running.data, false), (running.admin, true)] {
        let channel = tonic::transport::Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let list = ServerReflectionRequest { host: String::new(), message_request: Some(MessageRequest::ListServices(String::new())) };
        let mut client = ServerReflectionClient::new(channel);
        let mut answers = client.server_reflection_info(futures_util::stream::iter([list])).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap().message_response;
        let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
        let has = |name: &str| list.service.iter().any(|service| service.name == name);
        assert_eq!(has("flowgate.admin.v1.RolloutService"), is_admin, "{list:?}");
        assert_eq!(has("flowgate.v1.ChatService"), !is_admin, "{list:?}");
    }
}
