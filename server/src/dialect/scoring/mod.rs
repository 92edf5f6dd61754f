//! MLflow's scoring protocol: `POST /invocations`, in both directions.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{Ask, Decoder, Dialect, Target, failure};
use crate::{
    error::{Error, Result},
    event::{Answer, Protocol, Task},
};

/// The dialect.
pub static SCORING: Scoring = Scoring;

/// The protocol of `mlflow models serve`.
#[derive(Clone, Copy, Debug)]
pub struct Scoring;

impl Dialect for Scoring {
    fn protocol(&self, task: Task) -> Option<Protocol> {
        (task == Task::Predict).then_some(Protocol::MlflowScoring)
    }

    fn encode(&self, _ask: &Ask<'_>, _target: &Target) -> Result<http::Request<Bytes>> {
        Err(Error::internal("spine"))
    }

    fn decode(&self, _ask: &Ask<'_>, _target: &Target, _headers: &HeaderMap, _body: Bytes) -> Result<Answer> {
        Err(Error::internal("spine"))
    }

    fn decoder(&self, _ask: &Ask<'_>, _target: &Target) -> Box<dyn Decoder> {
        unreachable!("spine")
    }

    fn classify(&self, status: StatusCode, headers: &HeaderMap, _body: &[u8]) -> Error {
        failure::by_status(status, headers, None)
    }
}
