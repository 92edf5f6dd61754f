//! The OpenAI protocol: chat, completions and embeddings, in both directions.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{Ask, Decoder, Dialect, Target, failure};
use crate::{
    error::{Error, Result},
    event::{Answer, Protocol, Task},
};

/// The dialect.
pub static OPENAI: OpenAi = OpenAi;

/// The OpenAI protocol as its owner and its many speakers use it.
#[derive(Clone, Copy, Debug)]
pub struct OpenAi;

impl Dialect for OpenAi {
    fn protocol(&self, task: Task) -> Option<Protocol> {
        match task {
            Task::Chat => Some(Protocol::OpenAiChat),
            Task::Complete => Some(Protocol::OpenAiCompletions),
            Task::Embed => Some(Protocol::OpenAiEmbeddings),
            Task::Predict => None,
        }
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
