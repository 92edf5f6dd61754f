//! The gRPC doors: our services, health and reflection, told apart by the service's name in the path.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::Arc,
};

use flowgate_proto::{
    inference::grpc_inference_service_server::GrpcInferenceServiceServer,
    v1::{
        ErrorReason, chat_service_server::ChatServiceServer, completion_service_server::CompletionServiceServer,
        embedding_service_server::EmbeddingServiceServer, endpoint_service_server::EndpointServiceServer,
        prediction_service_server::PredictionServiceServer,
    },
};
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tonic::{Code, Status, body::Body, codec::CompressionEncoding, server::NamedService};
use tower::Service;

use super::{Gate, edge::visit_of, failure, table::Table};
use crate::error::{Error, Result};

pub(super) mod call;
mod chat;
mod check;
mod completion;
mod convert;
mod embedding;
mod endpoint;
mod health;
mod oip;
pub(super) mod prediction;
mod series;
mod service;
mod stream;
#[cfg(test)]
pub(super) mod tests;

pub use health::Health;
pub use service::GrpcService;

use call::Doors;

/// What a client offers to read; tonic compresses whatever a client offers, streams and small answers too.
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// One service; kept so that a call does not clone it as a tower service.
type Named = Box<dyn Fn(Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Infallible>> + Send + Sync>;

struct Services {
    by_name: HashMap<&'static str, Named>,
    /// Paths whose answers are streams, which are never compressed: each message must arrive at once.
    streamed: HashSet<String>,
}

/// All gRPC services. Each request carries its visit, already admitted. Messages of up to `most_bytes` are read.
///
/// # Errors
/// An internal error when the embedded descriptors cannot be served by reflection.
pub fn service(gate: &Arc<Gate>, table: &Table, health: &Health, most_bytes: usize) -> Result<GrpcService> {
    let doors = Doors { gate: Arc::clone(gate) };
    let mut services = Services { by_name: HashMap::new(), streamed: HashSet::new() };
    macro_rules! add_ours {
        ($($server:ident($doors:expr)),+) => {
            $(services.add(
                $server::new($doors)
                    .accept_compressed(CompressionEncoding::Gzip)
                    .accept_compressed(CompressionEncoding::Zstd)
                    .send_compressed(CompressionEncoding::Gzip)
                    .send_compressed(CompressionEncoding::Zstd)
                    .max_decoding_message_size(most_bytes),
            );)+
        };
    }
    add_ours!(
        ChatServiceServer(doors.clone()),
        CompletionServiceServer(doors.clone()),
        EmbeddingServiceServer(doors.clone()),
        EndpointServiceServer(doors.clone()),
        PredictionServiceServer(doors.clone()),
        GrpcInferenceServiceServer(oip::Inference { doors, health: health.clone() })
    );
    services.add(health.server());
    services.add(reflection().build_v1().map_err(unreflected)?);
    services.add(reflection().build_v1alpha().map_err(unreflected)?);
    let streamed = table.rpcs().iter().filter(|rpc| rpc.descriptor.is_server_streaming());
    services.streamed = streamed.map(|rpc| rpc.path.clone()).collect();
    let services = Arc::new(services);
    Ok(GrpcService::new(move |request| {
        let services = Arc::clone(&services);
        async move { services.answer(request).await }
    }))
}

/// What a failure of the gRPC layer itself means, in the house's words.
pub(super) fn refusal(status: &Status) -> Error {
    let (reason, message) = match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => (
            ErrorReason::CallerTooLarge,
            "the message is larger than this gateway takes; send less, or ask the operator to raise `max_request_bytes`",
        ),
        Code::Unimplemented => (ErrorReason::CallerUnknownPath, "this RPC is not served; list what there is by reflection"),
        Code::NotFound => (ErrorReason::CallerEndpointNotFound, "no service and no endpoint has this name"),
        Code::Cancelled => (ErrorReason::CallerCancelled, "the caller went away before its message was complete"),
        _ => (ErrorReason::CallerInvalidRequest, "the message cannot be read; check that client and gateway have the same contract"),
    };
    Error::new(reason, message).because(status.message().to_owned())
}

impl Services {
    fn add<S>(&mut self, service: S)
    where
        S: Service<
                Request<Body>,
                Response = Response<Body>,
                Error = Infallible,
                Future = BoxFuture<'static, Result<Response<Body>, Infallible>>,
            > + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        // tonic's servers are always ready.
        self.by_name.insert(S::NAME, Box::new(move |request| service.clone().call(request)));
    }

    async fn answer(&self, mut request: Request<Body>) -> Response<Body> {
        let visit = visit_of(request.extensions());
        let path = request.uri().path();
        let name = path.strip_prefix('/').and_then(|path| path.split('/').next()).unwrap_or_default();
        let response = match self.by_name.get(name) {
            Some(service) => {
                if self.streamed.contains(path) {
                    request.headers_mut().remove(ACCEPT_ENCODING);
                }
                service(request).await.unwrap_or_else(|never| match never {})
            }
            None => Status::unimplemented("").into_http(),
        };
        let Some(status) = refused(&response) else { return response };
        let error = refusal(&status);
        visit.record.fail(&error);
        // The protocol has its own words for an encoding that is not known.
        if response.headers().contains_key(ACCEPT_ENCODING) {
            return response;
        }
        failure::status(&error, &visit).into_http()
    }
}

/// The status of an answer that no room of ours refused; ours carry details.
fn refused(response: &Response<Body>) -> Option<Status> {
    let headers = response.headers();
    if !headers.contains_key("grpc-status") || headers.contains_key("grpc-status-details-bin") {
        return None;
    }
    Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(flowgate_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // With these grpcurl prints the details of an error instead of their bytes.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

fn unreflected(error: tonic_reflection::server::Error) -> Error {
    Error::internal("the embedded descriptors cannot be served by reflection").because(error)
}
