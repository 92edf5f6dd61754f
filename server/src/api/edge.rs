//! The edge: every request enters here. Request id, record, panics, credentials, sizes and CORS are its concern; then one door.

use std::{
    convert::Infallible,
    future::ready,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use flowgate_proto::v1::{ErrorReason, Permission};
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version, header};
use hyper::body::Incoming;
use tokio::time::Instant;
use tower::{Layer as _, ServiceExt as _};

use super::{
    Gate, Visit,
    body::Body,
    client,
    compress::{self, Encoding},
    cors::Cors,
    failure,
    grpc::{self, GrpcService},
    mlflow, oip, openai,
    record::Guard,
    table::{Door, Found, Table},
    transcode::{self, openapi},
};
use crate::{
    call::Record,
    config::{Config, Network},
    error::{Error, Result},
    identity::{Peer, Principal},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The data plane as one service over HTTP requests. Cloning shares.
#[derive(Clone, Debug)]
pub struct Edge(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    gate: Arc<Gate>,
    table: Arc<Table>,
    grpc: GrpcService,
    grpc_web: GrpcService,
    /// For the transcoder, whose requests were measured as JSON: their messages may be larger.
    grpc_inside: GrpcService,
    health: grpc::Health,
    openapi: Bytes,
    cors: Cors,
    trusted: Vec<Network>,
    /// Whether only this machine can reach the listener.
    on_loopback: bool,
}

/// Which door a request is for.
#[derive(Debug)]
enum Way<'t> {
    /// A browser's question before the real request.
    Cors,
    Grpc,
    GrpcWeb,
    /// An endpoint's own `path:`.
    Own,
    Row(Found<'t>),
    /// None, and why.
    Nowhere(Error),
}

/// A request at an HTTP door, its body read.
#[derive(Debug)]
pub struct Asked {
    /// Who asks, and what becomes of it.
    pub visit: Visit,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The query, without `?`; empty when there is none.
    pub query: String,
    /// `{endpoint}` of the path; empty when the path has none.
    pub endpoint: String,
    /// `{version}` of the path; empty when the path has none.
    pub version: String,
    /// The body, decompressed.
    pub body: Bytes,
}

impl Edge {
    /// The data plane over a gate. `health` answers `grpc.health.v1`.
    ///
    /// # Errors
    /// An internal error when the embedded descriptors cannot be served; a test proves that they can.
    pub fn new(gate: &Arc<Gate>, config: &Config, health: &grpc::Health) -> Result<Self> {
        let table = Arc::new(Table::new()?);
        let grpc = admitted(gate, &table, grpc::service(gate, &table, health, gate.max_request_bytes)?);
        let grpc_inside = admitted(gate, &table, grpc::service(gate, &table, health, usize::MAX)?);
        let web = tonic_web::GrpcWebLayer::new().layer(grpc.clone());
        let grpc_web =
            GrpcService::new(move |request| web.clone().oneshot(request).map(|answered| answered.unwrap_or_else(|never| match never {})));
        Ok(Self(Arc::new(Inner {
            gate: Arc::clone(gate),
            health: health.clone(),
            openapi: openapi::document(&table),
            table,
            grpc,
            grpc_web,
            grpc_inside,
            cors: Cors::new(&config.cors_origins),
            trusted: config.trusted_proxies.clone(),
            on_loopback: config.listen.ip().is_loopback(),
        })))
    }
}

impl hyper::service::Service<Request<Incoming>> for Edge {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let edge = Arc::clone(&self.0);
        async move { Ok(edge.serve(request).await) }.boxed()
    }
}

impl Inner {
    async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let id = request_id(request.headers());
        let record = Arc::new(Record::default());
        let peer = client::behind(peer(&request), request.headers(), &self.trusted);
        let way = self.way(&request);
        let is_brief = way.is_brief(request.uri().path());
        let mut guard = Guard::new(self.gate.books(), way.name(), &id, &request, (peer.address, &record));
        let origin = request.headers().get(header::ORIGIN).cloned();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let visit = Visit { id, peer, principal: self.gate.identity.nobody(), record, method, uri };
        let answered = AssertUnwindSafe(self.answer(way, visit.clone(), request)).catch_unwind().await;
        let answered =
            answered.unwrap_or_else(|_| Err(Error::internal("a fault in the gateway ended this request; report its request id")));
        let mut response = answered.unwrap_or_else(|error| {
            visit.record.fail(&error);
            if is_brief { failure::brief(&error) } else { failure::response(&error, &visit) }
        });
        if let Ok(mut value) = HeaderValue::from_str(&visit.id) {
            // Not a secret: h2 then leaves it out of its table of values that may come again.
            value.set_sensitive(true);
            response.headers_mut().insert(REQUEST_ID, value);
        }
        if let Some(origin) = origin {
            self.cors.allow(&origin, response.headers_mut());
        }
        guard.head(response.status(), response.headers());
        response.map(|body| body.guarded(guard))
    }

    async fn answer(&self, way: Way<'_>, visit: Visit, request: Request<Incoming>) -> Result<Response<Body>> {
        let way = self.admit(way, &request);
        let service = match way {
            Way::Grpc => &self.grpc,
            Way::GrpcWeb => &self.grpc_web,
            // Boxed, as each door is: a future that holds the states of all of them would be moved several times a request.
            Way::Own => return self.answer_http(None, visit, request).boxed().await,
            Way::Row(found) => return self.answer_http(Some(found), visit, request).boxed().await,
            Way::Nowhere(error) => return Err(error),
            Way::Cors => return Ok(self.cors.preflight(request.headers())),
        };
        let mut request = request.map(tonic::body::Body::new);
        insert(&mut request, visit);
        Ok(service.call(request).await.map(Body::grpc))
    }

    /// Turns away what a page of another site sends; its question beforehand is answered.
    fn admit<'t, B>(&self, way: Way<'t>, request: &Request<B>) -> Way<'t> {
        if matches!(way, Way::Cors) {
            return way;
        }
        let open_on_loopback = self.gate.identity.is_open() && self.on_loopback;
        self.cors.admit(request.uri(), request.headers(), open_on_loopback).map_or_else(Way::Nowhere, |()| way)
    }

    /// An HTTP door; `None` stands for an endpoint's own path.
    async fn answer_http(&self, found: Option<Found<'_>>, mut visit: Visit, request: Request<Incoming>) -> Result<Response<Body>> {
        let permission = found.as_ref().map_or(Permission::Invoke, |found| found.row.permission);
        visit.principal = principal(&self.gate, permission, request.headers())?;
        visit.record.note(|facts| facts.principal = Some(Arc::clone(&visit.principal.name)));
        let accepts = Encoding::accepted(request.headers());
        let (parts, body) = request.into_parts();
        let body = match parts.method {
            // Nothing there reads a body, so none is waited for.
            Method::GET | Method::HEAD => Bytes::new(),
            _ => self.gate.cut.race(compress::read(&parts.headers, body, self.gate.max_request_bytes)).await?,
        };
        visit.record.note(|facts| facts.received = Some(Instant::now()));
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let (door, names) = found.map(|found| (found.row.door, (found.endpoint, found.version))).unzip();
        let (endpoint, version) = names.unwrap_or_default();
        let asked = Asked { visit, headers: parts.headers, query, endpoint, version, body };
        let response = match door {
            Some(door) => self.behind(door, asked).await?,
            // Looked up now: a reload may have come while the body did.
            None => mlflow::invocations(&self.gate, self.gate.served(|catalog| catalog.at_path(parts.uri.path()))?, asked).boxed().await?,
        };
        Ok(compress::write(response, accepts).await)
    }

    fn behind(&self, door: Door, asked: Asked) -> BoxFuture<'_, Result<Response<Body>>> {
        let gate = &self.gate;
        match door {
            Door::Health => ready(Ok(json(Bytes::from_static(b"{\"status\":\"OK\"}")))).boxed(),
            Door::OpenApi => ready(Ok(json(self.openapi.clone()))).boxed(),
            Door::OpenAi(task) => openai::by_model(gate, task, asked).boxed(),
            Door::Named(task) => openai::by_path(gate, task, asked).boxed(),
            Door::Models => ready(openai::models(gate, &asked)).boxed(),
            Door::Model => ready(openai::model(gate, &asked)).boxed(),
            Door::Invocations => mlflow::named_invocations(gate, asked).boxed(),
            Door::DefaultInvocations => mlflow::default_invocations(gate, asked).boxed(),
            Door::MlflowEndpoints => ready(mlflow::endpoints(gate, &asked)).boxed(),
            Door::MlflowEndpoint => ready(mlflow::endpoint(gate, &asked)).boxed(),
            Door::Oip(path) => oip::rest::answer(gate, &self.health, path, asked).boxed(),
            Door::Native(place) => transcode::serve(gate, &self.grpc_inside, &self.table.rpcs()[place], asked).boxed(),
        }
    }

    /// Which door a request is for, by its content type and path.
    fn way<B>(&self, request: &Request<B>) -> Way<'_> {
        let (method, headers, path) = (request.method(), request.headers(), request.uri().path());
        if method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
            return Way::Cors;
        }
        if method == Method::POST {
            let essence = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()?.split(';').next());
            match essence.map(|essence| essence.trim().to_ascii_lowercase()).as_deref() {
                Some("application/grpc" | "application/grpc+proto") if request.version() < Version::HTTP_2 => {
                    return Way::Nowhere(media_type(
                        "gRPC needs HTTP/2; over HTTP/1.1 send gRPC-Web, or JSON as `GET /openapi.json` describes",
                    ));
                }
                Some("application/grpc" | "application/grpc+proto") => return Way::Grpc,
                Some(
                    "application/grpc-web" | "application/grpc-web+proto" | "application/grpc-web-text" | "application/grpc-web-text+proto",
                ) => return Way::GrpcWeb,
                Some(other) if other.starts_with("application/grpc") => {
                    return Way::Nowhere(media_type(
                        "gRPC messages are taken as protobuf only; send `application/grpc` or `application/grpc-web`",
                    ));
                }
                _ if self.gate.snapshot.load().catalog.at_path(path).is_ok() => return Way::Own,
                _ => {}
            }
        }
        self.table.find(method, path).map_or_else(Way::Nowhere, Way::Row)
    }
}

impl Way<'_> {
    /// Whether a failure is told in the words of the Open Inference Protocol.
    fn is_brief(&self, path: &str) -> bool {
        match self {
            Self::Row(found) => matches!(found.row.door, Door::Oip(_)),
            Self::Nowhere(_) => path.starts_with("/v2/"),
            Self::Cors | Self::Grpc | Self::GrpcWeb | Self::Own => false,
        }
    }

    /// The door in metrics and logs.
    fn name(&self) -> &'static str {
        match self {
            Self::Cors => "cors",
            Self::Grpc => "grpc",
            Self::GrpcWeb => "grpc-web",
            Self::Own => "mlflow",
            Self::Row(found) => found.row.door.name(),
            Self::Nowhere(_) => "http",
        }
    }
}

fn media_type(message: &'static str) -> Error {
    Error::new(ErrorReason::CallerUnsupportedMediaType, message)
}

/// A JSON answer.
pub(super) fn json(body: Bytes) -> Response<Body> {
    whole(HeaderMap::new(), HeaderValue::from_static("application/json"), body)
}

/// A whole answer with the upstream's headers that may cross.
pub(super) fn whole(headers: HeaderMap, content_type: HeaderValue, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.headers_mut() = headers;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// Lets only those through to the gRPC services who may call the RPC; refusals are gRPC's own.
fn admitted(gate: &Arc<Gate>, table: &Arc<Table>, service: GrpcService) -> GrpcService {
    let (gate, table) = (Arc::clone(gate), Arc::clone(table));
    let refuse = |error: &Error, visit: &Visit| {
        visit.record.fail(error);
        failure::status(error, visit).into_http()
    };
    GrpcService::new(move |mut request: Request<tonic::body::Body>| match admit(&gate, &table, &mut request) {
        Ok(visit) => {
            let answer = gate.cut.race(service.call(request).map(Ok));
            Either::Left(async move { answer.await.unwrap_or_else(|error| refuse(&error, &visit)) })
        }
        Err(refused) => Either::Right(ready(refuse(&refused.0, &refused.1))),
    })
}

fn admit(gate: &Gate, table: &Table, request: &mut Request<tonic::body::Body>) -> Result<Visit, Box<(Error, Visit)>> {
    let mut visit = visit_of(request.extensions());
    let admitted = match table.permission(request.uri().path()) {
        Some(permission) => principal(gate, permission, request.headers()),
        None => Err(Error::new(
            ErrorReason::CallerUnknownPath,
            "there is no such RPC; list what there is by reflection, for example `grpcurl ADDRESS list`",
        )),
    };
    match admitted {
        Ok(principal) => {
            visit.record.note(|facts| facts.principal = Some(Arc::clone(&principal.name)));
            admit_as(request, &principal);
            visit.principal = principal;
            Ok(visit)
        }
        Err(error) => Err(Box::new((error, visit))),
    }
}

fn principal(gate: &Gate, permission: Permission, headers: &HeaderMap) -> Result<Arc<Principal>> {
    match permission {
        Permission::Public => Ok(gate.identity.nobody()),
        Permission::List | Permission::Invoke => gate.identity.authenticate(headers),
        Permission::Unspecified => Err(Error::new(ErrorReason::CallerUnknownPath, "this RPC is not served: it declares no permission")),
        Permission::Admin => Err(Error::new(ErrorReason::CallerUnknownPath, "this RPC is served on the admin listener only")),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tonic stands between the edge and the RPC; the extension is the only way past it, and only api reads it"
)]
pub(super) fn insert<B>(request: &mut Request<B>, visit: Visit) {
    request.extensions_mut().insert(visit);
}

fn admit_as<B>(request: &mut Request<B>, principal: &Arc<Principal>) {
    if let Some(visit) = request.extensions_mut().get_mut::<Visit>() {
        visit.principal = Arc::clone(principal);
    }
}

/// The visit that the edge put beside a request.
#[expect(clippy::disallowed_methods, reason = "as `insert`")]
pub(super) fn visit_of(extensions: &http::Extensions) -> Visit {
    extensions.get::<Visit>().cloned().unwrap_or_else(|| {
        debug_assert!(false, "every request passes the edge");
        Visit {
            id: "".into(),
            peer: nowhere(),
            principal: Principal::nobody(),
            record: Arc::default(),
            method: Method::POST,
            uri: http::Uri::default(),
        }
    })
}

#[expect(clippy::disallowed_methods, reason = "`listen` inserts the peer for api to read")]
fn peer<B>(request: &Request<B>) -> Peer {
    request.extensions().get::<Peer>().cloned().unwrap_or_else(nowhere)
}

fn nowhere() -> Peer {
    Peer { address: std::net::SocketAddr::from(([0, 0, 0, 0], 0)), certificate: None }
}

/// The caller's request id if it is fit for a log line, else one of ours.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    match given.filter(|id| !id.is_empty() && id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_graphic())) {
        Some(id) => id.into(),
        None => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            // An id needs no secrecy: asking the system for random bytes costs a call each time.
            let mut random = [0; 10];
            fastrand::fill(&mut random);
            let id = uuid::Builder::from_unix_timestamp_millis(u64::try_from(now.as_millis()).unwrap_or_default(), &random).into_uuid();
            let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
            Arc::from(&*id.hyphenated().encode_lower(&mut text))
        }
    }
}

#[cfg(test)]
mod tests;
