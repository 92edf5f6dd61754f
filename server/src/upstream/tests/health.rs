//! Replicas are asked whether they are well, over HTTP and gRPC, and left out while they are not.

use std::sync::atomic::AtomicU16;

use hyper_util::service::TowerToHyperService;
use tonic_health::{ServingStatus, server::health_reporter};

use super::*;
use crate::telemetry::metrics::Metrics;

/// Asked often, so that nobody waits.
fn checked(url: &str, check: config::HealthCheck) -> Arc<Deployment> {
    let interval = Duration::from_millis(2);
    let health = config::Health { check, interval, timeout: Duration::from_secs(5), unhealthy: 2, healthy: 1 };
    deployment(&[url], |config| config.traits.health = Some(health))
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), wait).await.unwrap_or_else(|_| panic!("not {what}"));
}

#[tokio::test]
async fn a_replica_is_out_while_its_path_is_not_answered_with_success() {
    let status = Arc::new(AtomicU16::new(204));
    let (heads, mut seen) = mpsc::unbounded_channel();
    let told = Arc::clone(&status);
    let url = server(move |number, mut stream| {
        let (heads, told) = (heads.clone(), Arc::clone(&told));
        async move {
            while let Some(head) = request(&mut stream).await {
                heads.send((number, head)).unwrap();
                let answer = whole(&format!("{} x", told.load(SeqCst)), "text/plain", "");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let metrics = Metrics::new();
    let connections = Connections::plain(metrics.upstreams().clone());
    let deployment = checked(&format!("{url}/base"), config::HealthCheck::Http("/ping?x=1".to_owned()));
    let upstream = connections.upstream(&deployment, &Timeouts::defaults(Task::Chat)).unwrap();
    assert!(upstream.is_fit(), "until something else is known");
    let (_, head) = seen.recv().await.unwrap();
    assert!(head.starts_with("get /ping?x=1 http/1.1\r\n") && head.contains("host: 127.0.0.1:"), "{head}");
    assert_eq!(seen.recv().await.unwrap().0, 0, "the connection is kept");

    let name = url.trim_start_matches("http://");
    for (answer, healthy) in [(503, false), (200, true), (302, false)] {
        status.store(answer, SeqCst);
        until("as it says", || upstream.is_fit() == healthy).await;
        let line = format!("flowgate_upstream_healthy{{upstream=\"{name}\"}} {}", u8::from(healthy));
        assert!(metrics.render().contains(&line), "{line}");
    }
    assert!(upstream.choose(&[]).is_some(), "when all are out all are tried");
    drop(upstream);
    // Past the next check, and past the last look at idle connections.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(10)).await;
    until("over", || connections.0.tasks.left() == 0).await;
}

#[tokio::test]
async fn a_replica_that_is_gone_or_silent_is_out() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let silent = server(|_, mut stream| async move { drop(stream.read_to_end(&mut Vec::new()).await) }).await;
    for url in [dead, silent] {
        for check in [config::HealthCheck::Http("/".to_owned()), config::HealthCheck::Grpc(String::new())] {
            let interval = Duration::from_millis(2);
            let health = config::Health { check, interval, timeout: interval, unhealthy: 2, healthy: 1 };
            let upstream = upstream(&deployment(&[&url], |config| config.traits.health = Some(health)));
            until("out", || !upstream.is_fit()).await;
        }
    }
}

#[tokio::test]
async fn a_replica_is_out_while_its_grpc_service_does_not_serve() {
    let (reporter, service) = health_reporter();
    reporter.set_service_status("model", ServingStatus::Serving).await;
    let url = server(move |_, stream| {
        let service = TowerToHyperService::new(service.clone());
        let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        async move { drop(http.serve_connection(TokioIo::new(stream), service).await) }
    })
    .await;
    let upstream_of = |service: &str| upstream(&checked(&url, config::HealthCheck::Grpc(service.to_owned())));
    let (model, whole, unknown) = (upstream_of("model"), upstream_of(""), upstream_of("no-such"));
    until("unknown", || !unknown.is_fit()).await;
    assert!(model.is_fit() && whole.is_fit());
    reporter.set_service_status("model", ServingStatus::NotServing).await;
    until("out", || !model.is_fit()).await;
    assert!(whole.is_fit());
    reporter.set_service_status("model", ServingStatus::Serving).await;
    until("back", || model.is_fit()).await;
}
