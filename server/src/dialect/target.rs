//! Whom a request goes to, and what differs there from the plain protocol.

use std::borrow::Cow;

use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, HeaderValue, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

use super::templated::Templates;
use crate::error::{Error, Result};

/// Whom a request goes to.
#[derive(Clone, Debug)]
pub struct Target {
    /// The provider's name, for messages and for `provider_options`.
    pub provider: &'static str,
    /// The base address: scheme, authority, path prefix without a trailing slash.
    pub base: Uri,
    /// The provider's name for the model; empty when it needs none.
    pub model: String,
    /// Headers of the provider and of the operator, sent with every request.
    pub headers: HeaderMap,
    /// What else the deployment's `config` says, by the names of the row's settings, for example an API version.
    pub settings: Settings,
    /// What the operator makes of requests and answers.
    pub templates: Templates,
    /// What differs from the plain protocol.
    pub quirks: &'static Quirks,
}

/// Values by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(pub Vec<(&'static str, String)>);

/// What differs between speakers of one protocol. Data only: no code asks for a provider's name.
#[derive(Clone, Copy, Debug)]
pub struct Quirks {
    /// The field for the most tokens to write: `max_completion_tokens` or the older `max_tokens`.
    pub max_tokens_field: &'static str,
    /// Whether a streamed answer reports usage when `stream_options.include_usage` asks for it.
    pub stream_usage: bool,
    /// What the provider refuses, by the protocol's words: fields, parts of content, kinds of answer formats.
    pub lacks: &'static [&'static str],
    /// Words of its errors that mean more than the status they come with. A number in brackets at the end of a message is one of them,
    /// and a status itself, where nothing else tells.
    pub errors: &'static [(&'static str, ErrorReason)],
    /// The object in which its answers tell how they went, with a `status_code` that is 0 where all is well; empty: they have none.
    pub outcome: &'static str,
    /// The most texts that one embeddings call takes; more are sent as several calls.
    pub most_inputs: usize,
    /// The same for models in whose names this stands, where they take another number.
    pub most_inputs_of: &'static [(&'static str, usize)],
    /// Whether it fetches media that a request names by address.
    pub fetches_media: bool,
    /// Fields that it spells otherwise: the protocol's name, then its own.
    pub renames: &'static [(&'static str, &'static str)],
    /// Fields beyond the protocol's own that it takes.
    pub takes: &'static [&'static str],
    /// How it is asked to reason.
    pub reasoning: ReasoningField,
    /// What else it does in a way of its own.
    pub habits: &'static [Habit],
    /// The most bytes that the id of a tool call may have; a longer one is sent as a shorter one made of it.
    pub longest_tool_id: usize,
    /// What stands before the names of its models where they have no path of their own.
    pub model_prefix: &'static str,
    /// Counts of its usage that its count of output tokens leaves out.
    pub output_excludes: &'static [&'static str],
    /// The most tokens to write where the protocol must be told and the caller does not say; `None`: the caller has to say.
    pub default_max_tokens: Option<u32>,
    /// Where its usage tells what the call cost; `None`: it does not.
    pub cost: Option<ReportedCost>,
    /// Whether it speaks HTTP/2 from the first byte on, also without TLS, and ends its answers with trailers: gRPC.
    pub is_grpc: bool,
    /// What MLflow's gateway makes of `temperature` for this provider.
    pub mlflow_temperature: Rescale,
}

/// What becomes of a number that is meant on another scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rescale {
    /// What it is multiplied by in conversations.
    pub chat: f64,
    /// What it is multiplied by where text goes on from a prompt.
    pub complete: f64,
    /// The least it becomes.
    pub least: f64,
}

impl Rescale {
    /// The number as it is.
    pub const NONE: Self = Self::by(1.0);

    /// The same factor for both tasks.
    pub const fn by(factor: f64) -> Self {
        Self { chat: factor, complete: factor, least: 0.0 }
    }
}

/// How a speaker of OpenAI's protocol is asked to reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasoningField {
    /// `reasoning_effort`, a word.
    Effort,
    /// `reasoning`, an object of `effort`, `max_tokens` and `exclude`.
    Object,
    /// `thinking.type`, on or off: an effort of `none` is off, any other is on.
    Thinking,
    /// `enable_thinking`, on or off as before, and `thinking_budget`.
    Budget,
}

/// Where usage tells what a call cost, and in what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReportedCost {
    /// The field of `usage`, and those within.
    pub path: &'static [&'static str],
    /// How many pico-USD (10^-12 USD) its unit is.
    pub pico_usd: f64,
}

/// What some speakers of a protocol do in a way of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// The content of a message is one string.
    FlatContent,
    /// The ids of tool calls have nine letters or digits.
    ShortToolIds,
    /// `logprobs` is how many tokens are told, not whether.
    CountsLogprobs,
    /// There is no role `developer`; instructions are of the role `system`.
    NoDeveloper,
    /// `tool_choice` says `any` for `required`.
    AnyForRequired,
    /// `tool_choice` is `auto`; any other is ignored, and so refused here.
    AutoOnly,
    /// What its models sign is not the protocol owner's: neither reads the other's.
    OwnSignatures,
    /// Its models think in the open: what they thought goes back unsigned, where the protocol's owner takes it only signed.
    OpenReasoning,
    /// It streams if the headers ask for it, where the protocol itself has only whole answers.
    StreamsByHeader,
}

impl Quirks {
    /// Whether it has a habit.
    pub fn has(&self, habit: Habit) -> bool {
        self.habits.contains(&habit)
    }

    /// The protocol as its owner speaks it.
    pub const NONE: Self = Self {
        max_tokens_field: "max_completion_tokens",
        stream_usage: true,
        lacks: &[],
        errors: &[],
        outcome: "",
        most_inputs: 2048,
        most_inputs_of: &[],
        fetches_media: true,
        renames: &[],
        takes: &[],
        reasoning: ReasoningField::Effort,
        habits: &[],
        longest_tool_id: usize::MAX,
        model_prefix: "",
        output_excludes: &[],
        cost: None,
        default_max_tokens: None,
        is_grpc: false,
        mlflow_temperature: Rescale::NONE,
    };
}

/// What may stand in a path segment as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@');

/// Text as one segment of a path.
pub(super) fn segment(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, PLAIN)
}

impl Settings {
    /// The value of a setting; empty when it is not set.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }
}

impl Target {
    /// The base address with `path` (which starts with `/` and may have a query) appended.
    ///
    /// # Errors
    /// An internal error when the two do not make an address.
    pub fn uri(&self, path: &str) -> Result<Uri> {
        let base = self.base.path().trim_end_matches('/');
        let query = match self.base.query() {
            Some(query) if path.contains('?') => format!("&{query}"),
            Some(query) => format!("?{query}"),
            None => String::new(),
        };
        let mut parts = self.base.clone().into_parts();
        parts.path_and_query = Some(
            format!("{base}{path}{query}")
                .parse()
                .map_err(|error: http::uri::InvalidUri| Error::internal("an upstream path is not a path").because(error))?,
        );
        Uri::from_parts(parts).map_err(|error| Error::internal("an upstream address is not an address").because(error))
    }

    /// The target with what the model says of itself, where the operator says nothing of it.
    pub fn knowing(&self, told: Option<&Settings>) -> Cow<'_, Self> {
        let is_new = |(name, _): &&(&'static str, String)| self.settings.get(name).is_empty();
        let new: Vec<_> = told.into_iter().flat_map(|told| &told.0).filter(is_new).cloned().collect();
        if new.is_empty() {
            return Cow::Borrowed(self);
        }
        let mut target = self.clone();
        target.settings.0.retain(|(known, _)| new.iter().all(|(name, _)| name != known));
        target.settings.0.extend(new);
        Cow::Owned(target)
    }

    /// The most texts that one embeddings call takes.
    pub fn most_inputs(&self) -> usize {
        let of_model = self.quirks.most_inputs_of.iter().find(|(mark, _)| self.model.contains(mark));
        of_model.map_or(self.quirks.most_inputs, |(_, most)| *most)
    }

    /// A POST to `path` below the base address with the target's headers.
    ///
    /// # Errors
    /// As [`Target::uri`].
    pub fn post(&self, path: &str, content_type: HeaderValue, body: Bytes) -> Result<http::Request<Bytes>> {
        let mut request = http::Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.uri(path)?;
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        headers.insert(http::header::CONTENT_TYPE, content_type);
        Ok(request)
    }

    /// As [`Target::post`], for a body of JSON.
    ///
    /// # Errors
    /// As [`Target::uri`].
    pub fn post_json(&self, path: &str, body: Bytes) -> Result<http::Request<Bytes>> {
        self.post(path, HeaderValue::from_static("application/json"), body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::golden;

    #[test]
    fn what_a_model_says_stands_where_the_operator_says_nothing() {
        let settings = |all: &[(&'static str, &str)]| Settings(all.iter().map(|(name, value)| (*name, (*value).to_owned())).collect());
        let target = Target { settings: settings(&[("a", "1"), ("b", "")]), ..golden::target("own", "http://h", "") };
        let told = settings(&[("a", "2"), ("b", "3"), ("c", "4")]);
        assert_eq!(target.knowing(Some(&told)).settings, settings(&[("a", "1"), ("b", "3"), ("c", "4")]));
        for nothing in [None, Some(&settings(&[("a", "2")]))] {
            assert!(matches!(target.knowing(nothing), Cow::Borrowed(_)));
        }
    }
}
