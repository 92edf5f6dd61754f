//! What the doors' tests share: a gate over fake services, a request, and what an answer says.

use std::{collections::HashMap, future::Future, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;

use super::{Gate, Visit, body::Body, edge::Asked, record::Guard};
use crate::{
    call::{Call, Record},
    config,
    error::Result,
    event::{Reply, Task},
    identity::{Identity, Peer, Principal},
    policy::{
        erase,
        testing::{Then, catalog, endpoint},
    },
    stack::Snapshot,
    task::Cut,
    telemetry::metrics::Metrics,
};

pub(crate) fn peer() -> Peer {
    Peer { address: SocketAddr::from(([192, 0, 2, 1], 4711)), certificate: None }
}

pub(crate) fn visit() -> Visit {
    Visit {
        id: "id-1".into(),
        peer: peer(),
        principal: Principal::nobody(),
        record: Arc::new(Record::default()),
        method: http::Method::POST,
        uri: http::Uri::default(),
    }
}

/// A guard as the edge makes it.
pub(crate) fn guard(metrics: &Arc<Metrics>, visit: &Visit) -> Guard {
    let request = Request::builder().uri("/v1/chat/completions").body(()).unwrap();
    Guard::new((metrics, &Cut::default()), "openai", &visit.id, &request, (visit.peer.address, &visit.record))
}

/// An endpoint of a mock deployment.
pub(crate) fn of_task(name: &str, task: Task) -> config::Endpoint {
    config::Endpoint { task, ..endpoint(name, vec![crate::policy::testing::deployment("only")]) }
}

/// A gate whose endpoints all answer as told.
pub(crate) fn gate<F, Fut>(endpoints: Vec<config::Endpoint>, answer: F) -> Arc<Gate>
where
    F: Fn(Call) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply>> + Send + 'static,
{
    let catalog = catalog(endpoints);
    let service = erase(Then(answer));
    let services: HashMap<_, _> = catalog.all().iter().map(|endpoint| (Arc::clone(&endpoint.name), service.clone())).collect();
    Arc::new(Gate {
        snapshot: ArcSwap::from_pointee(Snapshot::of(catalog, services)),
        identity: Identity::new(&[]),
        metrics: Arc::new(Metrics::new()),
        max_request_bytes: 1 << 20,
        cut: Cut::default(),
    })
}

/// A JSON request; `endpoint` is that of the path.
pub(crate) fn asked(endpoint: &str, body: &str) -> Asked {
    Asked {
        visit: visit(),
        headers: headers(&[("content-type", "application/json")]),
        query: String::new(),
        endpoint: endpoint.to_owned(),
        version: String::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

pub(crate) fn headers(headers: &[(&'static str, &'static str)]) -> HeaderMap {
    headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

/// The text of an answer's whole body.
pub(crate) async fn said(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The answer's body as JSON.
pub(crate) async fn json(response: Response<Body>) -> serde_json::Value {
    serde_json::from_str(&said(response).await).unwrap()
}
