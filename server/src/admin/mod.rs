//! The admin listener: metrics and probes for everybody, admin services for whoever has their key.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{Router, extract::State, http::StatusCode, middleware, response::IntoResponse, routing::get};
use flowgate_proto::admin::v1::{
    model_service_server::{self, ModelServiceServer},
    rollout_service_server::{self, RolloutServiceServer},
};

use crate::{
    api::Gate,
    error::{Error, Result},
    telemetry::metrics::Metrics,
};

mod access;
mod models;
mod rollouts;

use self::{models::Models, rollouts::Rollouts};
pub use access::Access;

/// Whether the data plane takes calls.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says whether the data plane takes calls from now on.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// `/metrics`, `/livez`, `/readyz`, the admin services and their reflection.
///
/// # Errors
/// An internal error when the embedded descriptors cannot be served by reflection.
pub fn router(gate: &Arc<Gate>, readiness: Readiness, access: &Arc<Access>) -> Result<Router> {
    let path = |service: &str| format!("/{service}/{{rpc}}");
    let services = Router::new()
        .route_service(&path(model_service_server::SERVICE_NAME), ModelServiceServer::new(Models::new(gate)))
        .route_service(&path(rollout_service_server::SERVICE_NAME), RolloutServiceServer::new(Rollouts::new(gate)))
        .layer(middleware::from_fn_with_state(Arc::clone(access), access::admit));
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(flowgate_proto::ADMIN_FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(Router::new()
        .route("/metrics", get(render).with_state(Arc::clone(&gate.metrics)))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state(readiness))
        .route_service(&path("grpc.reflection.v1.ServerReflection"), reflection().build_v1().map_err(unreflected)?)
        .route_service(&path("grpc.reflection.v1alpha.ServerReflection"), reflection().build_v1alpha().map_err(unreflected)?)
        .merge(services))
}

async fn render(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics.render())
}

async fn ready(State(readiness): State<Readiness>) -> impl IntoResponse {
    if readiness.get() { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "not taking calls\n") }
}

fn unreflected(error: tonic_reflection::server::Error) -> Error {
    Error::internal("the embedded descriptors cannot be served by reflection").because(error)
}

#[cfg(test)]
mod tests {
    use flowgate_proto::v1::Permission;
    use http::{Method, Request, Version};
    use prost_reflect::DescriptorPool;
    use tower::ServiceExt as _;

    use super::*;
    use crate::{
        api::testing::{gate, of_task},
        config::Config,
        event::Task,
        policy::testing::unary,
    };

    async fn asked(router: &Router, path: String, key: Option<&str>) -> (StatusCode, Option<String>) {
        let mut request =
            Request::builder().method(Method::POST).uri(path).version(Version::HTTP_2).header("content-type", "application/grpc");
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        let response = router.clone().oneshot(request.body(axum::body::Body::from(vec![0; 5])).unwrap()).await.unwrap();
        let status = response.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned());
        (response.status(), status)
    }

    /// All that is described is served, with the admin's key and with nothing else.
    #[tokio::test]
    async fn every_rpc_of_the_admin_listener_needs_the_admins_permission() {
        let gate = gate(vec![of_task("chat", Task::Chat)], |_| async { Ok(unary()) });
        let access = Access::new(&Config { admin_key: Some("k-1".to_owned().into()), ..Config::default() });
        let router = router(&gate, Readiness::default(), &Arc::new(access)).unwrap();
        let pool = DescriptorPool::decode(flowgate_proto::ADMIN_FILE_DESCRIPTOR_SET).unwrap();
        let permission = pool.get_extension_by_name("flowgate.v1.permission").unwrap();
        let rpcs: Vec<_> = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
        assert!(rpcs.len() >= 3);
        for rpc in rpcs {
            assert!(rpc.full_name().starts_with("flowgate.admin.v1."), "{}", rpc.full_name());
            let declared = rpc.options().get_extension(&permission).as_enum_number();
            assert_eq!(declared, Some(Permission::Admin as i32), "{}", rpc.full_name());
            let path = format!("/{}/{}", rpc.parent_service().full_name(), rpc.name());
            for wrong in [None, Some("k-2")] {
                assert_eq!(asked(&router, path.clone(), wrong).await, (StatusCode::OK, Some("16".to_owned())), "{path}");
            }
            let (_, status) = asked(&router, path.clone(), Some("k-1")).await;
            assert!(!matches!(status.as_deref(), Some("16" | "12")), "{path}: {status:?}");
        }
    }
}
