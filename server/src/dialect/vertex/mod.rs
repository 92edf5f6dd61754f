//! Vertex AI: one door to models of several protocols. The model's name tells the protocol, and with it the path and the body.

use std::borrow::Cow;

use bytes::Bytes;
use flowgate_proto::v1::MediaPart;
use http::{HeaderMap, StatusCode};

use super::{
    Ask, Decoder, Dialect, Target, anthropic,
    asked::wrong_task,
    gemini::{self, Surface},
    openai::{self, OPENAI},
};
use crate::{
    error::{Error, Result},
    event::{Answer, Protocol, Task},
};

mod embed;
#[cfg(test)]
mod tests;

/// The dialect.
pub static VERTEX: Vertex = Vertex;

/// Vertex AI. The target's base address is that of a project's location: `https://HOST/v1/projects/P/locations/L`.
///
/// | model | protocol | path |
/// |---|---|---|
/// | `claude…` | Anthropic's, without the model, with a version in the body | `publishers/anthropic/models/M:rawPredict` |
/// | with a `/`, or an open model by its name | OpenAI's | `endpoints/openapi/chat/completions` |
/// | all others | generateContent | `publishers/google/models/M:generateContent` |
/// | embeddings | the older instances and predictions, or one text a call for newer models | `…:predict`, `…:embedContent` |
///
/// A name that begins with `publishers/` or `endpoints/` is a path already: of a model of that publisher, or of a tuned one. Which path
/// embeds with which model is unverified: it is as documented, and differs by model.
#[derive(Clone, Copy, Debug)]
pub struct Vertex;

/// The protocol that a model speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Gemini,
    Anthropic,
    OpenAi,
}

/// Anthropic's body as it goes here.
const MESSAGES: anthropic::Form =
    anthropic::Form { names_model: false, says_stream: true, version: Some("vertex-2023-10-16"), holds_betas: false };

fn speaks(model: &str) -> Speaks {
    let is_path = model.starts_with("publishers/google/") || model.starts_with("endpoints/");
    let is_open = model.contains('/') || model.ends_with("-maas");
    if model.starts_with("claude") || model.starts_with("publishers/anthropic/") {
        Speaks::Anthropic
    } else if !is_path && (is_open || ["mistral-", "codestral-", "jamba-"].iter().any(|lead| model.starts_with(lead))) {
        Speaks::OpenAi
    } else {
        Speaks::Gemini
    }
}

/// The models of either publisher.
const OF_GOOGLE: &str = "publishers/google/models";
const OF_ANTHROPIC: &str = "publishers/anthropic/models";

/// The path of a model below the location.
fn path(model: &str, models: &str) -> String {
    let named = if model.contains('/') { Cow::Borrowed(model) } else { Cow::Owned(format!("{models}/{model}")) };
    format!("/{}", gemini::path(&named))
}

impl Dialect for Vertex {
    fn protocol(&self, _task: Task) -> Option<Protocol> {
        None
    }

    fn encode(&self, ask: &Ask<'_>, target: &Target) -> Result<http::Request<Bytes>> {
        match (ask.task, speaks(&target.model)) {
            (Task::Predict, _) => Err(wrong_task()),
            (Task::Embed, Speaks::Gemini) => embed::encode(ask, target, &path(&target.model, OF_GOOGLE)),
            (Task::Embed, Speaks::Anthropic | Speaks::OpenAi) => Err(wrong_task()),
            (Task::Chat | Task::Complete, Speaks::Gemini) => {
                let path = path(&target.model, OF_GOOGLE) + gemini::generate_method(ask);
                target.post_json(&path, gemini::generate_body(ask, target, Surface::Vertex)?)
            }
            (Task::Chat | Task::Complete, Speaks::Anthropic) => {
                let method = if ask.streaming { ":streamRawPredict" } else { ":rawPredict" };
                anthropic::body(ask, target, MESSAGES)?.post(target, &(path(&target.model, OF_ANTHROPIC) + method))
            }
            (Task::Chat | Task::Complete, Speaks::OpenAi) => {
                target.post_json("/endpoints/openapi/chat/completions", openai::body(&as_chat(ask), target)?)
            }
        }
    }

    fn decode(&self, ask: &Ask<'_>, target: &Target, headers: &HeaderMap, body: Bytes) -> Result<Answer> {
        match (ask.task, speaks(&target.model)) {
            (Task::Embed, _) => embed::decode(&body, target).map(Answer::Embed),
            (_, Speaks::Gemini) => gemini::decode(&body, target),
            (_, Speaks::Anthropic) => anthropic::decode(target, &body),
            (_, Speaks::OpenAi) => OPENAI.decode(&as_chat(ask), target, headers, body),
        }
    }

    fn decoder(&self, ask: &Ask<'_>, target: &Target) -> Box<dyn Decoder> {
        match speaks(&target.model) {
            Speaks::Gemini => gemini::decoder(target),
            Speaks::Anthropic => anthropic::decoder(target),
            Speaks::OpenAi => OPENAI.decoder(&as_chat(ask), target),
        }
    }

    /// Anthropic's models take the bytes of media only: <https://platform.claude.com/docs/en/build-with-claude/vision>.
    fn fetches(&self, part: &MediaPart, target: &Target) -> bool {
        match speaks(&target.model) {
            Speaks::Gemini => target.quirks.fetches_media,
            Speaks::Anthropic => false,
            Speaks::OpenAi => OPENAI.fetches(part, target),
        }
    }

    /// What routes the call fails in Google's words, whatever the model speaks.
    fn classify(&self, target: &Target, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        let own = gemini::words::unlisted(body);
        match speaks(&target.model) {
            Speaks::Anthropic if !gemini::words::is_googles(own) => anthropic::errors(target.quirks).classify(status, headers, own),
            Speaks::OpenAi if !gemini::words::is_googles(own) => OPENAI.classify(target, status, headers, own),
            _ => gemini::words::classify(target, status, headers, body),
        }
    }
}

/// Open models only chat.
fn as_chat<'a>(ask: &Ask<'a>) -> Ask<'a> {
    Ask { task: Task::Chat, ..*ask }
}
