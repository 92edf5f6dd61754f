//! MLflow's paths: `invocations` of its gateway and of its scoring server, and its lists of endpoints.

use std::sync::Arc;

use http::Response;

use super::{Gate, body::Body, edge::Asked};
use crate::{
    catalog::Endpoint,
    error::{Error, Result},
};

/// A body for one endpoint: scoring JSON, CSV and so on for predict endpoints, OpenAI's body for the others.
///
/// # Errors
/// What the call fails with before its first event.
pub async fn invocations(_gate: &Arc<Gate>, _endpoint: &Arc<Endpoint>, _asked: Asked) -> Result<Response<Body>> {
    std::future::ready(Err(Error::internal("spine"))).await
}

/// `POST /endpoints/{endpoint}/invocations` and `/gateway/{endpoint}/invocations`.
///
/// # Errors
/// As [`invocations`].
pub async fn named_invocations(_gate: &Arc<Gate>, _asked: Asked) -> Result<Response<Body>> {
    std::future::ready(Err(Error::internal("spine"))).await
}

/// `POST /invocations`.
///
/// # Errors
/// As [`invocations`].
pub async fn default_invocations(_gate: &Arc<Gate>, _asked: Asked) -> Result<Response<Body>> {
    std::future::ready(Err(Error::internal("spine"))).await
}

/// `GET /api/2.0/endpoints/`.
///
/// # Errors
/// A page token that is none.
pub fn endpoints(_gate: &Gate, _asked: &Asked) -> Result<Response<Body>> {
    Err(Error::internal("spine"))
}

/// `GET /api/2.0/endpoints/{endpoint}`.
///
/// # Errors
/// `CALLER_ENDPOINT_NOT_FOUND`.
pub fn endpoint(_gate: &Gate, _asked: &Asked) -> Result<Response<Body>> {
    Err(Error::internal("spine"))
}
