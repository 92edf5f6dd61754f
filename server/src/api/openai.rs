//! OpenAI's paths: the body's `model`, or the path, names the endpoint; answers have OpenAI's shape.

use std::sync::Arc;

use http::Response;

use super::{Gate, body::Body, edge::Asked};
use crate::{
    error::{Error, Result},
    event::Task,
};

/// `POST /v1/chat/completions` and its like.
///
/// # Errors
/// What the call fails with before its first event.
pub async fn by_model(_gate: &Arc<Gate>, _task: Task, _asked: Asked) -> Result<Response<Body>> {
    std::future::ready(Err(Error::internal("spine"))).await
}

/// `POST /llm/v1/chat/{endpoint}` and its like.
///
/// # Errors
/// As [`by_model`].
pub async fn by_path(_gate: &Arc<Gate>, _task: Task, _asked: Asked) -> Result<Response<Body>> {
    std::future::ready(Err(Error::internal("spine"))).await
}

/// `GET /v1/models`.
///
/// # Errors
/// None so far.
pub fn models(_gate: &Gate, _asked: &Asked) -> Result<Response<Body>> {
    Err(Error::internal("spine"))
}

/// `GET /v1/models/{endpoint}`.
///
/// # Errors
/// `CALLER_ENDPOINT_NOT_FOUND`.
pub fn model(_gate: &Gate, _asked: &Asked) -> Result<Response<Body>> {
    Err(Error::internal("spine"))
}
