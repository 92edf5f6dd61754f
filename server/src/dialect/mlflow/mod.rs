//! Models behind MLflow's scoring server as models of language: chat, completions and embeddings by `POST /invocations`. What such a model
//! takes is for its `MLmodel` to say, which the target's setting `schema` tells us:
//!
//! - `plain`: any model of texts; `inputs` and `params`, one user message at a time. What holds for completions and embeddings;
//! - `chat`: OpenAI's fields, of models with a signature or task of their own for language. What holds for chat;
//! - `agent`: a `ChatAgent`;
//! - `responses`: a `ResponsesAgent`.
//!
//! Answers are told apart by what they hold, whatever was set. MLflow's own server never streams: a streamed call gets a whole answer too.
//! A server of ours ([`OWN`]) streams, if the model can. It is asked by a header: a field of the body would be input to models that know
//! none of that name. Its streams end with `[DONE]`; an event `{"error": …}` in its place says what a status would have said.

use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{
    Ask, Decoder, Dialect, Framing, Habit, Quirks, Target,
    asked::wrong_task,
    failure, openai,
    openai_responses::OPENAI_RESPONSES,
    params::{Rules, Shape},
    scoring::{self, NeverStreams, SCORING},
    signature::Family,
};
use crate::{
    error::{Error, Origin, Result},
    event::{Answer, Protocol, Request, Task},
};

mod agent;
mod answer;
mod chunks;
mod plain;
mod stream;
#[cfg(test)]
mod tests;

use answer::Read;

/// The dialect.
pub static MLFLOW: Mlflow = Mlflow;

/// The setting that says what a model takes.
pub const SCHEMA: &str = "schema";

/// The values of [`SCHEMA`].
pub const SCHEMAS: &[&str] = &[PLAIN, CHAT, AGENT, RESPONSES];

/// The value of [`SCHEMA`] for any model of texts.
pub const PLAIN: &str = "plain";
/// The value of [`SCHEMA`] for models that take OpenAI's fields.
pub const CHAT: &str = "chat";
/// The value of [`SCHEMA`] for a `ChatAgent`.
pub const AGENT: &str = "agent";
/// The value of [`SCHEMA`] for a `ResponsesAgent`.
pub const RESPONSES: &str = "responses";

/// How bodies take options.
static SHAPE: Shape = Shape { protocol: "mlflow", reserved: &["model", "stream", "messages", "prompt", "input", "inputs"], same: &[] };

/// What OpenAI's bodies are like for these models, which store nothing and sign nothing.
static QUIRKS: Quirks = Quirks {
    max_tokens_field: "max_tokens",
    lacks: &["store"],
    errors: &[(RAISED, ErrorReason::ProviderModelFailed)],
    habits: &[Habit::OpenReasoning],
    ..Quirks::NONE
};

/// The word of MLflow's errors for what a model raised.
const RAISED: &str = "INTERNAL_ERROR";

/// What a scoring server that Flowgate runs does beyond the protocol.
pub static OWN: Quirks = Quirks { habits: &[Habit::StreamsByHeader], ..Quirks::NONE };

/// The scoring protocol for models of language.
#[derive(Clone, Copy, Debug)]
pub struct Mlflow;

impl Dialect for Mlflow {
    fn protocol(&self, _task: Task) -> Option<Protocol> {
        None
    }

    fn encode(&self, ask: &Ask<'_>, target: &Target) -> Result<http::Request<Bytes>> {
        let whole = Ask { streaming: false, ..*ask };
        let mut request = scoring::post(target, scoring::JSON, body(&whole, target)?)?;
        if ask.streaming && target.quirks.has(Habit::StreamsByHeader) {
            request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(Framing::Sse.media_type()));
        }
        Ok(request)
    }

    fn decode(&self, ask: &Ask<'_>, target: &Target, headers: &HeaderMap, body: Bytes) -> Result<Answer> {
        match answer::decode(ask.task, &body)? {
            Read::Answer(answer) => Ok(Family::of(target).answer(*answer)),
            Read::Responses(body) => OPENAI_RESPONSES.decode(ask, target, headers, body),
        }
    }

    fn decoder(&self, _ask: &Ask<'_>, target: &Target) -> Box<dyn Decoder> {
        if target.quirks.has(Habit::StreamsByHeader) {
            Family::of(target).decoder(Box::<stream::Stream>::default())
        } else {
            Box::new(NeverStreams)
        }
    }

    fn classify(&self, target: &Target, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        told(SCORING.classify(target, status, headers, body), status)
    }
}

/// What the scoring protocol's error means for a caller who does not speak it.
fn told(error: Error, status: StatusCode) -> Error {
    let is_too_large = error.reason() == ErrorReason::CallerTooLarge;
    if error.origin() != Origin::Caller || is_too_large {
        return error;
    }
    // The caller wrote no such body; we did.
    let what = match error.violations().first() {
        Some(violation) => format!("`{}` {}", violation.field, violation.description),
        None => "it takes no JSON".to_owned(),
    };
    let message = format!("the model's server refused the request: {what}; if it wants another form, the operator must set `schema`");
    Error::new(ErrorReason::ProviderRejectedRequest, message).upstream_status(status)
}

/// The error for what the model raised.
fn raised(status: StatusCode) -> Error {
    failure::build(ErrorReason::ProviderModelFailed, status, &HeaderMap::new(), None)
}

fn body(ask: &Ask<'_>, target: &Target) -> Result<Bytes> {
    let rules = Rules { ask, target, shape: &SHAPE };
    let schema = match (target.settings.get(SCHEMA), ask.task) {
        ("", Task::Chat) => CHAT,
        ("", _) => PLAIN,
        (told, _) => told,
    };
    let unnamed = Target { model: String::new(), quirks: &QUIRKS, ..target.clone() };
    match (schema, ask.task, ask.payload.typed()?) {
        (_, Task::Predict, _) => Err(wrong_task()),
        (PLAIN, Task::Embed, _) => plain::embed(super::asked::embed(ask)?, rules),
        (PLAIN, _, Request::Complete(prompts)) => plain::complete(prompts, rules),
        (PLAIN, _, _) => plain::chat(&*super::asked::chat(ask, rules)?, rules),
        (AGENT, Task::Chat | Task::Complete, _) => agent::encode(&*super::asked::chat(ask, rules)?, rules),
        (RESPONSES, Task::Chat | Task::Complete, _) => Ok(OPENAI_RESPONSES.encode(ask, &unnamed)?.into_body()),
        _ => openai::body(ask, &unnamed),
    }
}
