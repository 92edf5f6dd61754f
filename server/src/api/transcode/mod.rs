//! Every RPC with a `google.api.http` annotation as JSON over HTTP, by the embedded descriptors alone.

use http::Response;

use super::{
    Gate,
    body::Body,
    edge::{Asked, GrpcService},
    table::Rpc,
};
use crate::error::{Error, Result};

pub mod openapi;

/// Answers one RPC: JSON to message, the gRPC service in process, message to JSON; a server stream becomes server-sent events.
///
/// # Errors
/// What the RPC fails with before its first message.
pub async fn serve(_gate: &std::sync::Arc<Gate>, _grpc: &GrpcService, _rpc: &Rpc, _asked: Asked) -> Result<Response<Body>> {
    std::future::ready(Err(Error::internal("spine"))).await
}
