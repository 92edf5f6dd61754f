//! Google's generateContent protocol: chat and embeddings, from the contract to the wire and back. `vertex` speaks it at other addresses.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{
    Ask, Decoder, Dialect, Target,
    asked::{self, wrong_task},
    params::{Rules, Shape},
    signature::Family,
    target::segment,
};
use crate::{
    error::{Error, Result},
    event::{Answer, Protocol, Task},
};

mod answer;
mod candidate;
mod contents;
pub(super) mod embed;
mod grounding;
mod logprobs;
mod request;
#[cfg(test)]
mod tests;
pub(super) mod usage;
pub(super) mod words;

use answer::Reader;

/// The dialect.
pub static GEMINI: Gemini = Gemini;

/// The protocol's name in raw parts and options.
const PROTOCOL: &str = "gemini";

/// How bodies take options. Both spellings of a field are the same to Google.
pub(super) static SHAPE: Shape =
    Shape { protocol: PROTOCOL, reserved: &["model", "contents", "content", "systemInstruction", "system_instruction"], same: &[] };

/// Who signs what Google's models think and call, wherever they are served.
const FAMILY: Family = Family::new(PROTOCOL);

/// The generateContent protocol as the Gemini API speaks it.
#[derive(Clone, Copy, Debug)]
pub struct Gemini;

/// Where the protocol is spoken: what one surface has, the other may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surface {
    /// The Gemini API: calls have ids, and files that were uploaded have names.
    Gemini,
    /// Vertex AI: calls and results pair by their order; requests have labels, media have names for show.
    Vertex,
}

impl Dialect for Gemini {
    fn protocol(&self, _task: Task) -> Option<Protocol> {
        None
    }

    fn encode(&self, ask: &Ask<'_>, target: &Target) -> Result<http::Request<Bytes>> {
        let model = resource(&target.model);
        match ask.task {
            Task::Chat | Task::Complete => {
                target.post_json(&format!("/{model}{}", generate_method(ask)), generate_body(ask, target, Surface::Gemini)?)
            }
            Task::Embed => target.post_json(&format!("/{model}:batchEmbedContents"), embed::encode(ask, target, &model)?),
            Task::Predict => Err(wrong_task()),
        }
    }

    fn decode(&self, ask: &Ask<'_>, target: &Target, _headers: &HeaderMap, body: Bytes) -> Result<Answer> {
        match ask.task {
            Task::Embed => embed::decode(&body, words::errors(target.quirks)).map(Answer::Embed),
            _ => decode(&body, target),
        }
    }

    fn decoder(&self, _ask: &Ask<'_>, target: &Target) -> Box<dyn Decoder> {
        decoder(target)
    }

    fn classify(&self, target: &Target, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        words::classify(target, status, headers, body)
    }
}

/// A whole answer to a chat call.
///
/// # Errors
/// As [`Reader::whole`].
pub(super) fn decode(body: &[u8], target: &Target) -> Result<Answer> {
    Reader::whole(body, target).map(|answer| Answer::Chat(FAMILY.chat(answer)))
}

/// Reads the frames of one streamed answer.
pub(super) fn decoder(target: &Target) -> Box<dyn Decoder> {
    FAMILY.decoder(Box::new(Reader::new(target)))
}

/// The path of a model: `models/…` unless the name says another collection, such as `tunedModels/…`.
fn resource(model: &str) -> String {
    if model.contains('/') { path(model) } else { format!("models/{}", segment(model)) }
}

/// A resource's name as a path.
pub(super) fn path(name: &str) -> String {
    let segments: Vec<String> = name.split('/').map(|one| segment(one).to_string()).collect();
    segments.join("/")
}

/// The method that answers, whole or piece by piece, with what asks for server-sent events.
pub(super) fn generate_method(ask: &Ask<'_>) -> &'static str {
    if ask.streaming { ":streamGenerateContent?alt=sse" } else { ":generateContent" }
}

/// The body of a chat call.
///
/// # Errors
/// What the protocol cannot express, by field.
pub(super) fn generate_body(ask: &Ask<'_>, target: &Target, surface: Surface) -> Result<Bytes> {
    let rules = Rules { ask, target, shape: &SHAPE };
    request::encode(&*asked::chat(ask, rules)?, rules, surface)
}
