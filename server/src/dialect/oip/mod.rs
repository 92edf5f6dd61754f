//! The Open Inference Protocol, version 2, in both directions: its messages and its REST form as a door, and KServe, MLServer or Triton behind
//! its gRPC form. One file per concern, no I/O.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{Ask, Decoder, Dialect, Target, failure, scoring::NeverStreams};
use crate::{
    error::{Error, Result},
    event::{Answer, Protocol, Task},
};

mod cast;
mod contents;
mod datatype;
pub mod door;
mod elements;
mod frame;
mod request;
mod response;
pub mod rest;
mod status;
mod tensors;
#[cfg(test)]
mod tests;

pub use request::VERSION;

/// The input of a model that the caller gives no name for, as MLServer's own clients call it.
const UNNAMED: &str = "input-0";

/// The dialect.
pub static OIP: Oip = Oip;

/// The protocol's gRPC form.
#[derive(Clone, Copy, Debug)]
pub struct Oip;

impl Dialect for Oip {
    fn protocol(&self, _task: Task) -> Option<Protocol> {
        None
    }

    fn encode(&self, ask: &Ask<'_>, target: &Target) -> Result<http::Request<Bytes>> {
        request::encode(ask, target)
    }

    fn decode(&self, ask: &Ask<'_>, _target: &Target, headers: &HeaderMap, body: Bytes) -> Result<Answer> {
        status::pass(headers)?;
        response::decode(ask, body)
    }

    fn decoder(&self, _ask: &Ask<'_>, _target: &Target) -> Box<dyn Decoder> {
        Box::new(NeverStreams)
    }

    /// Whoever answers with a status of HTTP's speaks no gRPC: a proxy, or a wrong address.
    fn classify(&self, _target: &Target, status: StatusCode, headers: &HeaderMap, _body: &[u8]) -> Error {
        failure::by_status(status, headers, None)
    }
}
