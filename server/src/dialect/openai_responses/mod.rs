//! OpenAI's Responses protocol, spoken statelessly: nothing is stored with the provider, and the whole conversation is sent each time.
//!
//! - Messages keep their order and their roles: system and developer messages are input items, `instructions` is not used.
//! - `store` is false unless `provider_options` says otherwise. A request that asks for reasoning, or replays some, also asks for its
//!   encrypted form, which travels as the signature of a reasoning part and is sent back with it. Reasoning that another encrypted, or
//!   nobody, is left out; only speakers whose models think in the open take it as text (`Habit::OpenReasoning`). Items are sent without
//!   their ids: an id would be looked up where nothing is stored.
//! - What has no part in the contract (hosted tools' calls, for example) is a raw part of `openai_responses` that holds the whole item.
//! - Options are read from `openai`, then `openai_responses`, then the provider's own entry; the later wins. `include` is joined.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{
    Ask, Decoder, Dialect, Quirks, Target,
    asked::{self, wrong_task},
    openai,
    params::{Rules, Shape},
    signature::Family,
};
use crate::{
    error::{Error, Result},
    event::{Answer, Protocol, Task},
};

mod answer;
mod item;
mod request;
mod stream;
#[cfg(test)]
mod tests;
mod told;
mod usage;

/// The dialect.
pub static OPENAI_RESPONSES: OpenAiResponses = OpenAiResponses;

/// The protocol's name in raw parts and in `provider_options`.
const PROTOCOL: &str = "openai_responses";

/// How bodies take options. An answer in the background could not be fetched, and what a policy has read stands in `input`.
static SHAPE: Shape = Shape {
    protocol: PROTOCOL,
    reserved: &["model", "stream", "input", "instructions", "messages", "background"],
    same: &["user", "safety_identifier"],
};

/// OpenAI's Responses protocol.
#[derive(Clone, Copy, Debug)]
pub struct OpenAiResponses;

impl Dialect for OpenAiResponses {
    fn protocol(&self, _task: Task) -> Option<Protocol> {
        None
    }

    fn encode(&self, ask: &Ask<'_>, target: &Target) -> Result<http::Request<Bytes>> {
        target.post_json("/responses", body(ask, target)?)
    }

    fn decode(&self, ask: &Ask<'_>, target: &Target, _headers: &HeaderMap, body: Bytes) -> Result<Answer> {
        chats(ask)?;
        stream::whole(&body, openai::errors(target.quirks)).map(|answer| Answer::Chat(Family::of(target).chat(answer)))
    }

    fn decoder(&self, _ask: &Ask<'_>, target: &Target) -> Box<dyn Decoder> {
        Family::of(target).decoder(Box::new(stream::Typed::new(openai::errors(target.quirks))))
    }

    fn classify(&self, target: &Target, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        openai::errors(target.quirks).classify(status, headers, body)
    }
}

/// Reads the events of speakers who end a stream with `[DONE]`, whether or not they told the response begun and complete. Signatures are
/// left unmarked.
pub(super) fn decoder_until_done(quirks: &'static Quirks) -> Box<dyn Decoder> {
    Box::new(stream::Typed::new(openai::errors(quirks)).until_done())
}

/// The body of an ask, for this protocol and for those that only address it in another way.
pub(super) fn body(ask: &Ask<'_>, target: &Target) -> Result<Bytes> {
    chats(ask)?;
    let rules = Rules { ask, target, shape: &SHAPE };
    request::encode(&*asked::chat(ask, rules)?, rules)
}

fn chats(ask: &Ask<'_>) -> Result<()> {
    if matches!(ask.task, Task::Chat | Task::Complete) { Ok(()) } else { Err(wrong_task()) }
}
