//! The Anthropic Messages protocol as a provider's. Those who address it in another way (another path, the model in the address, the
//! version in the body) share all but the address: `body`, `decode`, `decoder` and `errors`.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{
    Ask, Decoder, Dialect, Quirks, Target, asked,
    errors::Errors,
    params::{Rules, Shape},
    thinking,
};
use crate::{
    error::{Error, Result},
    event::{Answer, Protocol, Task},
};

mod answer;
mod block;
mod blocks;
mod message;
mod request;
mod schema;
mod stream;
#[cfg(test)]
mod tests;
mod usage;
mod words;

/// The dialect.
pub static ANTHROPIC: Anthropic = Anthropic;

/// The protocol's name in raw parts and options.
const PROTOCOL: &str = "anthropic";

const VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// How bodies take options.
static SHAPE: Shape =
    Shape { protocol: PROTOCOL, reserved: &["model", "stream", "messages", "system", "anthropic_version", "anthropic_beta"], same: &[] };

/// The Anthropic Messages protocol, for chat and for prompts.
///
/// Where it is narrower than the contract: texts that are empty are left out, and blank ones where all are blank, since it refuses them.
/// What the model declined with goes back as text, as its own refusals do. Reasoning goes back only signed or redacted. An answer's text goes
/// back without its sources, of which the protocol wants more than the contract keeps, so that a cited conversation goes on; sources in a
/// message of the user's are refused. Effort without a budget lets the model decide how long to reason.
/// Ids of calls that other providers made and this one would refuse are replaced by letters made of them, in calls and results alike.
/// `provider_options.anthropic.betas` is a list that goes into the header `anthropic-beta`.
#[derive(Clone, Copy, Debug)]
pub struct Anthropic;

/// What a body says where the address or a header does not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// Whether it names the model.
    pub(super) names_model: bool,
    /// Whether it says that the answer is wanted piece by piece.
    pub(super) says_stream: bool,
    /// `anthropic_version`; where it is set, betas may stand in the body too.
    pub(super) version: Option<&'static str>,
    /// Whether betas stand in `anthropic_beta` and not in the header.
    pub(super) holds_betas: bool,
}

/// A request's body, and what its headers must say beside it.
#[derive(Debug)]
pub(super) struct Body {
    json: Bytes,
    betas: Vec<String>,
}

impl Form {
    /// As the protocol's owner has it.
    const PLAIN: Self = Self { names_model: true, says_stream: true, version: None, holds_betas: false };
}

impl Body {
    /// A POST of it to `path` below the target's base address.
    ///
    /// # Errors
    /// As [`Target::uri`], and when a beta's name does not fit into a header.
    pub(super) fn post(self, target: &Target, path: &str) -> Result<http::Request<Bytes>> {
        let mut request = target.post_json(path, self.json)?;
        if !self.betas.is_empty() {
            let operators = target.headers.get_all(&BETA).iter().filter_map(|value| value.to_str().ok());
            let all: Vec<&str> = operators.chain(self.betas.iter().map(String::as_str)).collect();
            let value = HeaderValue::try_from(all.join(",")).map_err(|_| Error::invalid(request::BETAS, "must be names of betas"))?;
            request.headers_mut().insert(BETA, value);
        }
        Ok(request)
    }
}

impl Dialect for Anthropic {
    fn protocol(&self, _task: Task) -> Option<Protocol> {
        None
    }

    fn encode(&self, ask: &Ask<'_>, target: &Target) -> Result<http::Request<Bytes>> {
        let mut request = body(ask, target, Form::PLAIN)?.post(target, "/messages")?;
        request.headers_mut().entry(VERSION).or_insert(HeaderValue::from_static("2023-06-01"));
        Ok(request)
    }

    fn decode(&self, _ask: &Ask<'_>, target: &Target, _headers: &HeaderMap, body: Bytes) -> Result<Answer> {
        decode(target, &body)
    }

    fn decoder(&self, _ask: &Ask<'_>, target: &Target) -> Box<dyn Decoder> {
        decoder(target)
    }

    fn classify(&self, target: &Target, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        errors(target.quirks).classify(status, headers, body)
    }
}

/// The body of an ask.
///
/// # Errors
/// What the protocol cannot express, by field.
pub(super) fn body(ask: &Ask<'_>, target: &Target, form: Form) -> Result<Body> {
    let rules = Rules { ask, target, shape: &SHAPE };
    request::encode(&thinking::fitted(asked::chat(ask, rules)?, &target.model), rules, form)
}

/// A whole answer. Prompts are answered as conversations are.
///
/// # Errors
/// `PROVIDER_BAD_ANSWER` when the body is not what the protocol says.
pub(super) fn decode(target: &Target, body: &[u8]) -> Result<Answer> {
    answer::decode(body, errors(target.quirks)).map(Answer::Chat)
}

/// Reads the frames of one streamed answer: its events' JSON, whatever frames them.
pub(super) fn decoder(target: &Target) -> Box<dyn Decoder> {
    Box::new(stream::Stream::new(errors(target.quirks)))
}

/// Reads the errors of a speaker with these quirks.
pub(super) fn errors(quirks: &'static Quirks) -> Errors {
    Errors::new(&words::WORDS, quirks)
}
