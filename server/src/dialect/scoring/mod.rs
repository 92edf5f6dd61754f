//! MLflow's scoring protocol, `POST /invocations`, in both directions; one file per concern, no I/O.

use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, StatusCode};

use super::{Ask, Decoder, Dialect, Frame, Target};
use crate::{
    error::{Error, Result},
    event::{Answer, Event, Protocol, Task},
};

mod answer;
pub mod columns;
pub mod door;
pub mod drift;
mod errors;
mod frame;
mod json;
pub mod message;
pub mod native;
mod request;
pub mod rows;
pub mod table;
mod tensors;
#[cfg(test)]
mod tests;
mod tree;
mod value;

/// The predictions of a scoring server's answer, as legal JSON: what stands under `predictions`, or the whole of a bare answer.
///
/// # Errors
/// `PROVIDER_BAD_ANSWER` when the answer is not JSON.
pub fn predictions(body: &Bytes) -> Result<Bytes> {
    answer::predictions(body).map(|predictions| predictions.json)
}

pub(super) use errors::classify;
pub use errors::{FEWER_ROWS, INSIDE, NO_EXPLANATIONS};
pub use request::json_view;
pub(super) use request::{JSON, form, post, predict, written};
pub use tensors::{element_size, from_half as half};

/// JSON text in which the tokens that only Python writes (`NaN`, `Infinity`) are `null`, as MLflow reads them; as wrong as it was in every
/// other respect.
pub fn without_python_tokens(text: &[u8]) -> Vec<u8> {
    json::legal(text).text
}

/// JSON text in which Python's NaN is `null`; `None` when an infinity is in it, outside of its texts.
pub fn without_nan(text: &[u8]) -> Option<Vec<u8>> {
    let legal = json::legal(text);
    (!legal.infinite).then_some(legal.text)
}

/// The dialect.
pub static SCORING: Scoring = Scoring;

/// The protocol of `mlflow models serve`.
#[derive(Clone, Copy, Debug)]
pub struct Scoring;

/// Refuses every frame: the scoring server answers whole.
pub(super) struct NeverStreams;

impl Dialect for Scoring {
    fn protocol(&self, task: Task) -> Option<Protocol> {
        (task == Task::Predict).then_some(Protocol::MlflowScoring)
    }

    fn encode(&self, ask: &Ask<'_>, target: &Target) -> Result<http::Request<Bytes>> {
        request::encode(ask, target)
    }

    fn decode(&self, ask: &Ask<'_>, target: &Target, headers: &HeaderMap, body: Bytes) -> Result<Answer> {
        answer::decode(ask, target, headers, body)
    }

    fn decoder(&self, _ask: &Ask<'_>, _target: &Target) -> Box<dyn Decoder> {
        Box::new(NeverStreams)
    }

    fn classify(&self, _target: &Target, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        classify(status, headers, body)
    }
}

impl Decoder for NeverStreams {
    fn frame(&mut self, _frame: Frame, _events: &mut Vec<Event>) -> Result<()> {
        Err(Error::new(ErrorReason::ProviderBadAnswer, "the scoring server streamed, which its protocol does not do"))
    }
}
