//! The OpenAI protocol: chat, completions and embeddings, in both directions.

use std::borrow::Cow;

use bytes::Bytes;
use flowgate_proto::v1::{CompleteRequest, MediaKind, MediaPart};
use http::{HeaderMap, StatusCode, Uri};
use pbjson_types::{Value, value::Kind};
use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{
    Ask, Decoder, Dialect, Quirks, Target, Unsupported,
    asked::wrong_task,
    media,
    params::{Params, Rules, Shape},
    signature::Family,
    target::Settings,
};
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
mod kept;
mod logprobs;
mod message;
mod parts;
mod quirks;
pub mod reply;
mod stream;
#[cfg(test)]
mod tests;
mod usage;
mod words;

use byte_lane::Model;

pub use answer::{chat_to_complete, complete_to_chat};
pub(super) use answer::{finish_reason, further};
pub use embed::Encoding;
pub use kept::read_frames;
pub(super) use logprobs::tokens;
pub(super) use message::PROTOCOL;
pub(super) use usage::{Details as UsageDetails, read as read_usage};
pub(super) use words::errors;

/// The dialect.
pub static OPENAI: OpenAi = OpenAi;

/// How bodies take options.
static SHAPE: Shape = Shape {
    protocol: PROTOCOL,
    reserved: &["model", "stream", "messages", "prompt", "input"],
    same: &["max_tokens", "max_completion_tokens"],
};

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
        target.post_json(path, body(ask, target)?)
    }

    fn decode(&self, ask: &Ask<'_>, target: &Target, headers: &HeaderMap, body: Bytes) -> Result<Answer> {
        if ask.lane == Lane::Byte {
            return byte_lane::decode(ask.task, errors(target.quirks), headers, body).map(Answer::Wire);
        }
        Ok(Family::of(target).answer(read_answer(ask.task, &body, target.quirks)?))
    }

    fn decoder(&self, ask: &Ask<'_>, target: &Target) -> Box<dyn Decoder> {
        match ask.lane {
            Lane::Byte => Box::new(byte_lane::Frames::new(ask, errors(target.quirks))),
            Lane::Typed => Family::of(target).decoder(chunks_decoder(target.quirks)),
        }
    }

    /// Only pictures: of all else the protocol wants the bytes.
    fn fetches(&self, part: &MediaPart, target: &Target) -> bool {
        let kind = part.source.as_ref().map(|source| media::kind_of(part, source));
        target.quirks.fetches_media && kind == Some(MediaKind::Image)
    }

    fn classify(&self, target: &Target, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        errors(target.quirks).classify(status, headers, body)
    }
}

/// The body of an ask, for this protocol and for those that only address it in another way.
pub(super) fn body(ask: &Ask<'_>, target: &Target) -> Result<Bytes> {
    match as_received(ask, target, Model::of(target))? {
        Some(body) => Ok(body),
        None => typed_body(ask, target),
    }
}

/// As [`body`], where the address names the model and the body must not.
pub(super) fn body_without_model(ask: &Ask<'_>, target: &Target) -> Result<Bytes> {
    match as_received(ask, target, Model::LeftOut)? {
        Some(body) => Ok(body),
        None => typed_body(ask, &Target { model: String::new(), ..target.clone() }),
    }
}

/// The body of the byte lane, where it can be passed on.
fn as_received(ask: &Ask<'_>, target: &Target, model: Model<'_>) -> Result<Option<Bytes>> {
    if ask.lane == Lane::Byte { byte_lane::edit(ask, target, model) } else { Ok(None) }
}

/// The typed form of a whole answer, as the protocol's owner gives it.
///
/// # Errors
/// `PROVIDER_BAD_ANSWER` when the body is not what the protocol says.
pub fn decode_answer(task: Task, body: &[u8]) -> Result<Answer> {
    read_answer(task, body, &Quirks::NONE)
}

/// As [`decode_answer`], of a speaker with these quirks.
///
/// # Errors
/// As [`decode_answer`].
pub(super) fn read_answer(task: Task, body: &[u8], quirks: &'static Quirks) -> Result<Answer> {
    let errors = errors(quirks);
    match task {
        Task::Chat => answer::decode_chat(body, errors).map(Answer::Chat),
        Task::Complete => answer::decode_complete(body, errors).map(Answer::Complete),
        Task::Embed => embed::decode(body, errors).map(Answer::Embed),
        Task::Predict => Err(wrong_task()),
    }
}

/// Reads a stream's chunks, for this protocol and for those that only carry them in another way. Signatures are left unmarked.
pub(super) fn chunks_decoder(quirks: &'static Quirks) -> Box<dyn Decoder> {
    Box::new(stream::Typed::new(quirks))
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
        headers: HeaderMap::new(),
        settings: Settings::default(),
        templates: super::templated::Templates::default(),
        quirks: &Quirks::NONE,
    };
    typed_body(&Ask { task, streaming: false, lane: Lane::Typed, payload, unsupported: Unsupported::Ignore }, &target)
}

fn typed_body(ask: &Ask<'_>, target: &Target) -> Result<Bytes> {
    let rules = Rules { ask, target, shape: &SHAPE };
    match (ask.task, ask.payload.typed()?) {
        (Task::Chat, Request::Chat(_) | Request::Complete(_)) => chat_request::encode(&*super::asked::chat(ask, rules)?, rules),
        (Task::Complete, Request::Complete(_) | Request::Chat(_)) => complete::encode(&*completion(ask, rules)?, rules),
        (Task::Embed, Request::Embed(request)) => embed::encode(request, rules),
        _ => Err(wrong_task()),
    }
}

/// The prompts that are asked for: as they are, or made of a conversation.
///
/// # Errors
/// What a prompt cannot express of a conversation, by field.
pub(super) fn completion<'a>(ask: &Ask<'a>, rules: Rules<'_>) -> Result<Cow<'a, CompleteRequest>> {
    match ask.payload.typed()? {
        Request::Complete(request) => Ok(Cow::Borrowed(request)),
        Request::Chat(request) => complete::of_chat(request, rules).map(Cow::Owned),
        Request::Embed(_) | Request::Predict(_) => Err(wrong_task()),
    }
}

/// `stream_options` of the caller, with usage asked for.
struct StreamOptions<'a>(Option<&'a Value>);

/// The body. A streamed answer is asked to report usage, whatever the options say of it.
fn end(mut params: Params<'_>) -> Result<Bytes> {
    let Rules { ask, target, .. } = params.rules();
    if ask.streaming {
        params.set("stream", &true)?;
    }
    if ask.streaming && target.quirks.stream_usage {
        let own = params.take_option("stream_options");
        params.set("stream_options", &StreamOptions(own))?;
    } else {
        // It goes with a stream only, and not to all.
        params.take_option("stream_options");
    }
    params.end()
}

impl Serialize for StreamOptions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("include_usage", &true)?;
        if let Some(Kind::StructValue(own)) = self.0.and_then(|value| value.kind.as_ref()) {
            for (name, value) in super::json::sorted(own).into_iter().filter(|(name, _)| *name != "include_usage") {
                map.serialize_entry(name, &value)?;
            }
        }
        map.end()
    }
}
