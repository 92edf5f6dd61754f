//! The OpenAI protocol: chat, completions and embeddings, in both directions.

use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};

use super::{Ask, Decoder, Dialect, Quirks, Target, Unsupported};
use crate::{
    error::{Error, Result},
    event::{Answer, Lane, Payload, Protocol, Request, Task},
};

mod answer;
mod byte_lane;
mod chat_request;
pub mod chunks;
mod complete;
pub mod door;
mod door_chat;
mod embed;
mod errors;
mod json;
mod kept;
mod logprobs;
mod message;
mod params;
mod parts;
pub mod reply;
mod stream;
#[cfg(test)]
mod tests;
mod usage;

pub use answer::{chat_to_complete, complete_to_chat};
pub use embed::Encoding;
pub use kept::read_frames;

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

    fn encode(&self, ask: &Ask<'_>, target: &Target) -> Result<http::Request<Bytes>> {
        let path = match ask.task {
            Task::Chat => "/chat/completions",
            Task::Complete => "/completions",
            Task::Embed => "/embeddings",
            Task::Predict => return Err(wrong_task()),
        };
        let body = match ask.lane {
            Lane::Byte => byte_lane::edit(ask, target)?,
            Lane::Typed => typed_body(ask, target)?,
        };
        target.post(path, HeaderValue::from_static("application/json"), body)
    }

    fn decode(&self, ask: &Ask<'_>, _target: &Target, headers: &HeaderMap, body: Bytes) -> Result<Answer> {
        if ask.lane == Lane::Byte {
            return byte_lane::decode(ask.task, headers, body).map(Answer::Wire);
        }
        decode_answer(ask.task, &body)
    }

    fn decoder(&self, ask: &Ask<'_>, _target: &Target) -> Box<dyn Decoder> {
        match ask.lane {
            Lane::Byte => Box::new(byte_lane::Frames::new(ask)),
            Lane::Typed => Box::new(stream::Typed::default()),
        }
    }

    fn classify(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        errors::classify(status, headers, body)
    }
}

/// The typed form of a whole answer.
///
/// # Errors
/// `PROVIDER_BAD_ANSWER` when the body is not what the protocol says.
pub fn decode_answer(task: Task, body: &[u8]) -> Result<Answer> {
    match task {
        Task::Chat => answer::decode_chat(body).map(Answer::Chat),
        Task::Complete => answer::decode_complete(body).map(Answer::Complete),
        Task::Embed => embed::decode(body).map(Answer::Embed),
        Task::Predict => Err(wrong_task()),
    }
}

/// A typed request as the body that the protocol's owner would get, for whoever only looks at it. What the protocol lacks is left out; the
/// model is the endpoint.
///
/// # Errors
/// What the protocol cannot express, by field.
pub fn json_view(payload: &Payload) -> Result<Bytes> {
    let (task, endpoint) = match payload.typed()? {
        Request::Chat(request) => (Task::Chat, &request.endpoint),
        Request::Complete(request) => (Task::Complete, &request.endpoint),
        Request::Embed(request) => (Task::Embed, &request.endpoint),
        Request::Predict(_) => return Err(wrong_task()),
    };
    let target = Target {
        provider: "",
        base: Uri::default(),
        model: endpoint.clone(),
        credential: None,
        headers: HeaderMap::new(),
        quirks: &Quirks::NONE,
    };
    typed_body(&Ask { task, streaming: false, lane: Lane::Typed, payload, unsupported: Unsupported::Ignore }, &target)
}

fn typed_body(ask: &Ask<'_>, target: &Target) -> Result<Bytes> {
    let rules = params::Rules { ask, target };
    match (ask.task, ask.payload.typed()?) {
        (Task::Chat, Request::Chat(request)) => chat_request::encode(request, rules),
        (Task::Chat, Request::Complete(request)) => chat_request::encode(&complete::as_chat(request, rules)?, rules),
        (Task::Complete, Request::Complete(request)) => complete::encode(request, rules),
        (Task::Complete, Request::Chat(request)) => complete::encode(&complete::of_chat(request, rules)?, rules),
        (Task::Embed, Request::Embed(request)) => embed::encode(request, rules),
        _ => Err(wrong_task()),
    }
}

fn wrong_task() -> Error {
    Error::new(ErrorReason::CallerWrongTask, "the endpoint serves another task; call the method of its own task")
}
