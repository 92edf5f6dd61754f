//! The gRPC doors: our services, health and reflection.

use std::sync::Arc;

use super::{Gate, edge::GrpcService};
use crate::error::{Error, Result};

/// Answers `grpc.health.v1`: one status per service and per endpoint.
pub type Health = ();

/// All gRPC services. Each request carries its visit, already admitted.
///
/// # Errors
/// An internal error when the embedded descriptors cannot be served by reflection.
pub fn service(_gate: &Arc<Gate>, _health: Health) -> Result<GrpcService> {
    Err(Error::internal("spine"))
}
