//! `grpc.health.v1`: one status per service of ours and per endpoint, by name; watchers hear of changes only.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use flowgate_proto::{
    inference::grpc_inference_service_server,
    v1::{chat_service_server, completion_service_server, embedding_service_server, endpoint_service_server, prediction_service_server},
};
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};
use tonic_health::{
    ServingStatus,
    pb::{
        HealthCheckRequest, HealthCheckResponse,
        health_server::{Health as Protocol, HealthServer},
    },
    server::{HealthReporter, HealthService},
};

use crate::stack::Snapshot;

/// The services that serve whenever the gateway does; the empty name stands for all of it.
const SERVICES: [&str; 7] = [
    "",
    grpc_inference_service_server::SERVICE_NAME,
    chat_service_server::SERVICE_NAME,
    completion_service_server::SERVICE_NAME,
    embedding_service_server::SERVICE_NAME,
    endpoint_service_server::SERVICE_NAME,
    prediction_service_server::SERVICE_NAME,
];

/// What `grpc.health.v1` answers. Cloning shares.
#[derive(Clone, Debug, Default)]
pub struct Health {
    reporter: HealthReporter,
    published: Arc<Mutex<Published>>,
    ended: Arc<AtomicBool>,
}

/// The service that answers.
#[derive(Debug)]
pub(super) struct Answers {
    service: HealthService,
    ended: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Published {
    statuses: HashMap<String, ServingStatus>,
    draining: bool,
}

impl Health {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over a snapshot as it stands: its endpoints come, change or go. After [`Health::drain`] nothing serves any more.
    pub async fn publish(&self, snapshot: &Snapshot) {
        let mut published = self.published.lock().await;
        if self.ended.load(Relaxed) {
            return;
        }
        let endpoints = snapshot.catalog.all().iter().map(|endpoint| {
            let serves = snapshot.not_serving(endpoint).is_none();
            (endpoint.name.to_string(), if serves { ServingStatus::Serving } else { ServingStatus::NotServing })
        });
        // An endpoint that is named like a service must not speak for it.
        let services = SERVICES.iter().map(|name| ((*name).to_owned(), ServingStatus::Serving));
        let mut now: HashMap<_, _> = endpoints.chain(services).collect();
        if published.draining {
            now.values_mut().for_each(|status| *status = ServingStatus::NotServing);
        }
        self.take_over(&mut published, now).await;
    }

    /// Says that nothing serves any more, so that callers go elsewhere.
    pub async fn drain(&self) {
        let mut published = self.published.lock().await;
        published.draining = true;
        let names = published.statuses.keys().cloned().chain([String::new()]);
        let now = names.map(|name| (name, ServingStatus::NotServing)).collect();
        self.take_over(&mut published, now).await;
    }

    /// Whether calls are taken.
    pub async fn serves(&self) -> bool {
        !self.published.lock().await.draining
    }

    /// Ends all watches, and lets none begin: one that goes on would keep its connection, and the gateway with it, until the grace is
    /// over. Watchers are told the status that they have not yet seen before their stream ends.
    pub async fn end(&self) {
        let mut published = self.published.lock().await;
        self.ended.store(true, Relaxed);
        self.take_over(&mut published, HashMap::new()).await;
    }

    /// The service that answers.
    pub(super) fn server(&self) -> HealthServer<Answers> {
        HealthServer::new(self.answers())
    }

    fn answers(&self) -> Answers {
        Answers { service: HealthService::from_health_reporter(self.reporter.clone()), ended: Arc::clone(&self.ended) }
    }

    async fn take_over(&self, published: &mut Published, now: HashMap<String, ServingStatus>) {
        let mut reporter = self.reporter.clone();
        for name in published.statuses.keys().filter(|name| !now.contains_key(*name)) {
            reporter.clear_service_status(name).await;
        }
        for (name, status) in &now {
            if published.statuses.get(name) != Some(status) {
                reporter.set_service_status(name, *status).await;
            }
        }
        published.statuses = now;
    }
}

#[tonic::async_trait]
impl Protocol for Answers {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if self.ended.load(Relaxed) {
            return Ok(Response::new(HealthCheckResponse { status: ServingStatus::NotServing as i32 }));
        }
        self.service.check(request).await
    }

    type WatchStream = <HealthService as Protocol>::WatchStream;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        if self.ended.load(Relaxed) {
            return Err(Status::unavailable("the gateway is shutting down; watch another one"));
        }
        self.service.watch(request).await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;
    use crate::{
        config::{self, Place},
        policy::testing::{catalog, deployment, endpoint},
    };

    fn of(endpoints: Vec<config::Endpoint>) -> Snapshot {
        Snapshot::of(catalog(endpoints), HashMap::new())
    }

    async fn status(health: &Health, service: &str) -> Option<i32> {
        let asked = Request::new(HealthCheckRequest { service: service.to_owned() });
        health.answers().check(asked).await.ok().map(|answer| answer.into_inner().status)
    }

    #[tokio::test]
    async fn endpoints_come_and_go_and_a_drain_is_final() {
        let nowhere = config::Deployment { place: Place::Nowhere("later".to_owned()), ..deployment("only") };
        let health = Health::new();
        health.publish(&of(vec![endpoint("up", vec![deployment("only")]), endpoint("down", vec![nowhere])])).await;
        assert_eq!(status(&health, "up").await, Some(1));
        assert_eq!(status(&health, "down").await, Some(2));
        assert_eq!(status(&health, "flowgate.v1.ChatService").await, Some(1));
        assert_eq!(status(&health, "").await, Some(1));

        health.publish(&of(vec![endpoint("other", vec![deployment("only")])])).await;
        assert_eq!(status(&health, "up").await, None);
        assert_eq!(status(&health, "other").await, Some(1));

        let asked = Request::new(HealthCheckRequest { service: "other".to_owned() });
        let watch = health.answers().watch(asked).await.unwrap().into_inner();
        health.drain().await;
        let late = || of(vec![endpoint("other", vec![deployment("only")]), endpoint("late", vec![deployment("only")])]);
        health.publish(&late()).await;
        for name in ["", "flowgate.v1.ChatService", "other", "late"] {
            assert_eq!(status(&health, name).await, Some(2), "{name}");
        }
        health.end().await;
        let told: Vec<_> = watch.map(|answer| answer.unwrap().status).collect().await;
        assert_eq!(told, [2], "watchers hear of the drain, and that is all");
        health.publish(&late()).await;
        for name in ["", "late"] {
            assert_eq!(status(&health, name).await, Some(2), "{name}");
            let asked = Request::new(HealthCheckRequest { service: name.to_owned() });
            assert!(health.answers().watch(asked).await.is_err(), "nobody can begin to watch {name}");
        }
    }
}
