//! What is told of a request that is not answered: MLflow's statuses, codes and words, without its echoes and stack traces.
//!
//! The words are those that [`crate::dialect::scoring`] knows, so that a model answered here and one behind a socket fail alike.

use std::borrow::Cow;

use http::StatusCode;
use serde::Serialize;

use crate::dialect::scoring::{FEWER_ROWS, INSIDE};

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
}

/// Why a request is not laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unlaid {
    /// It is not answered.
    Refused(Refusal),
    /// It takes more room than it was given.
    Large,
}

#[derive(Serialize)]
struct Body<'a> {
    error_code: &'a str,
    message: &'a str,
}

impl From<Refusal> for Unlaid {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Refusal {
    /// The request cannot be read.
    pub(super) fn bad(message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "BAD_REQUEST", message: message.into() }
    }

    /// The request can be read, and does not fit the model.
    pub(super) fn unfit(message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "INVALID_PARAMETER_VALUE", message: message.into() }
    }

    /// The content type is none that is read here.
    pub(super) fn media(why: &str) -> Self {
        Self { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, code: "BAD_REQUEST", message: format!("{why}. {INSIDE}").into() }
    }

    /// One call would take more than one may.
    pub(super) fn too_large() -> Self {
        Self::too_many("The model would need too much memory for so much at once")
    }

    /// One call may not have so much, and why.
    pub(super) fn too_many(why: impl std::fmt::Display) -> Self {
        Self::bad(format!("Invalid input. {why}; {FEWER_ROWS}"))
    }

    /// The model failed at values that its signature allows. Why may repeat them, and so is for the log only.
    pub(super) fn failed(why: &impl std::fmt::Display) -> Self {
        tracing::debug!(%why, "a model in this process failed");
        let message = "Failed to predict data: the model failed at this input; check the input, or ask the model's owner";
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, code: "INTERNAL_ERROR", message: message.into() }
    }

    /// The body that says so.
    pub(super) fn body(&self) -> Vec<u8> {
        serde_json::to_vec(&Body { error_code: self.code, message: &self.message }).unwrap_or_default()
    }
}
