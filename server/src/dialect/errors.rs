//! What error bodies mean, whatever protocol they are of. Nothing of them reaches a caller but a short message without keys and markup.

use std::borrow::Cow;

use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    Quirks, failure, hint,
    json::{Count, Fields, Rest, is_meaningful, named, place},
};
use crate::error::{Error, Result};

/// The words by which one protocol says what went wrong.
#[derive(Debug)]
pub(super) struct Vocabulary {
    /// Words that mean more than the status they come with.
    pub(super) reasons: &'static [(&'static str, ErrorReason)],
    /// The status that an error would have had, had it not come inside a success.
    pub(super) statuses: &'static [(&'static str, StatusCode)],
}

/// Reads the error bodies of one provider.
#[derive(Clone, Copy, Debug)]
pub(super) struct Errors {
    vocabulary: &'static Vocabulary,
    quirks: &'static Quirks,
}

/// What an error body says.
#[derive(Default)]
struct Said {
    message: Option<String>,
    /// `code`, the inner code and `type`, the telling one first.
    words: Vec<String>,
    param: Option<String>,
    status: Option<StatusCode>,
}

/// How an answer went; 0 is well.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Outcome {
    status_code: Count,
}

impl Errors {
    /// A reader of the protocol's words, and of those that the provider adds.
    pub(super) fn new(vocabulary: &'static Vocabulary, quirks: &'static Quirks) -> Self {
        Self { vocabulary, quirks }
    }

    /// The quirks of the provider.
    pub(super) fn quirks(self) -> &'static Quirks {
        self.quirks
    }

    /// The error for an answer whose status is not a success.
    pub(super) fn classify(self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        match serde_json::from_slice(body) {
            Ok(json) => {
                let error = self.build(&said_in(&json, self.quirks.outcome), status, headers);
                let hint = error.retry_after_hint().or_else(|| hint::in_body(&json));
                error.retry_after(hint)
            }
            Err(_) => self.build(&said_in_text(body), status, headers),
        }
    }

    /// Lets an answer that came as a success pass, or a piece of one, unless it tells an error: in `error`, or where this provider's answers
    /// tell how they went.
    ///
    /// # Errors
    /// The one that it tells.
    pub(super) fn pass(self, error: Option<&RawValue>, body: &[u8]) -> Result<()> {
        if let Some(error) = error.filter(|error| is_meaningful(error)) {
            return Err(self.inside(error));
        }
        let name = self.quirks.outcome;
        if name.is_empty() || memchr::memmem::find(body, name.as_bytes()).is_none() {
            return Ok(());
        }
        let fields: Fields<'_> = serde_json::from_slice(body).map_err(|error| bad_answer(format!("the answer at {}", place(&error))))?;
        let code = |told: &RawValue| serde_json::from_str::<Outcome>(told.get()).unwrap_or_default().status_code.0;
        match fields.get(name) {
            Some(told) if code(told).is_some_and(|code| code != 0) => Err(self.inside(told)),
            _ => Ok(()),
        }
    }

    /// The error for an error object inside an answer or a stream that began as a success.
    pub(super) fn inside(self, error: &RawValue) -> Error {
        let json = serde_json::from_str(error.get()).unwrap_or_default();
        let said = said_in(&json, self.quirks.outcome);
        let error = match said.status.or_else(|| said.words.iter().find_map(|word| look_up(self.vocabulary.statuses, word))) {
            Some(status) => self.build(&said, status, &HeaderMap::new()),
            None => self.build(&said, StatusCode::INTERNAL_SERVER_ERROR, &HeaderMap::new()).upstream_status(StatusCode::OK),
        };
        let hint = hint::in_body(&json);
        error.retry_after(hint)
    }

    /// As [`Errors::inside`] for the data of a frame that says by itself that it is an error.
    pub(super) fn of_frame(self, data: &[u8]) -> Error {
        match serde_json::from_slice::<Box<RawValue>>(data) {
            Ok(error) => self.inside(&error),
            Err(_) => self.build(&Said::default(), StatusCode::INTERNAL_SERVER_ERROR, &HeaderMap::new()).upstream_status(StatusCode::OK),
        }
    }

    /// The error that a word of the protocol names, for protocols that name errors outside their bodies.
    pub(super) fn named(self, word: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut said = said_in(&json, self.quirks.outcome);
        said.words.insert(0, word.to_owned());
        let status = look_up(self.vocabulary.statuses, word).unwrap_or(status);
        let error = self.build(&said, status, headers);
        let hint = error.retry_after_hint().or_else(|| hint::in_body(&json));
        error.retry_after(hint)
    }

    fn build(self, said: &Said, status: StatusCode, headers: &HeaderMap) -> Error {
        let own = |word: &str| look_up(self.quirks.errors, word);
        let reason_of = |word: &String| own(word).or_else(|| look_up(self.vocabulary.reasons, word));
        let by_word = said.words.iter().find_map(reason_of).or_else(|| own(code_at_end(said.message.as_deref()?)?));
        let by_text = |status| said.message.as_deref().and_then(|text| told_by(text, status));
        let message = said.message.as_deref().and_then(fit_for_callers);
        let reason = match by_word {
            // That it is the input's length is in the text alone.
            Some(ErrorReason::ProviderRejectedRequest) => by_text(StatusCode::BAD_REQUEST).or(by_word),
            Some(_) => by_word,
            None => by_text(status).or_else(|| own(status.as_str())),
        };
        match reason {
            Some(reason) => failure::build(reason, status, headers, message.as_deref()),
            None => {
                let error = failure::by_status(status, headers, message.as_deref());
                match &said.param {
                    Some(param) if error.reason() == ErrorReason::ProviderRejectedRequest && is_field(param) => {
                        error.at(param.as_str(), message.unwrap_or_default())
                    }
                    _ => error,
                }
            }
        }
    }
}

fn look_up<T: Copy>(table: &[(&str, T)], word: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == word).map(|(_, meaning)| *meaning)
}

/// Whether a body that lacks what an answer holds is an error by its own fields: some speakers write none around them.
pub(super) fn is_bare_error(rest: &Rest<'_>) -> bool {
    let says = |name: &str| named(rest, name).is_some_and(is_meaningful);
    let is_text = |name: &str| named(rest, name).is_some_and(|value| value.get().starts_with('"'));
    named(rest, "object").is_some_and(|object| object.get() == "\"error\"")
        || says("error_code")
        || is_text("message") && (says("code") || says("type") || says("__type"))
}

/// The error for an answer or a frame that is not what the protocol says. `what` names the fault, never the bytes.
pub(super) fn bad_answer(what: impl Into<String>) -> Error {
    Error::new(ErrorReason::ProviderBadAnswer, "the provider gave an answer that its protocol does not allow; try again")
        .because(what.into())
}

/// What a body says. `outcome` names the object that may stand for `error`.
fn said_in(json: &Value, outcome: &str) -> Said {
    let first_listed = || json.get("errors")?.get(0).filter(|error| error.is_object());
    let told = json.get("error").filter(|error| !error.is_null());
    let error = told.or_else(|| json.get(outcome)).or_else(first_listed).unwrap_or(json);
    let text = |value: Option<&Value>| match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let first = |value: &Value| ["message", "Message", "msg", "detail", "status_msg"].into_iter().find_map(|name| text(value.get(name)));
    // Servers that check bodies by a schema list what is wrong with them.
    let listed = || {
        let listed = [json.get("detail"), json.get("message").and_then(|message| message.get("detail"))].into_iter().flatten();
        listed.filter_map(Value::as_array).flatten().find_map(|fault| {
            let place: Vec<String> =
                fault.get("loc").and_then(Value::as_array).into_iter().flatten().filter_map(|key| text(Some(key))).collect();
            let said = text(fault.get("msg"))?;
            Some(if place.is_empty() { said } else { format!("{}: {said}", place.join(".")) })
        })
    };
    let inner = error.get("innererror").and_then(|inner| inner.get("code"));
    // `google.rpc.ErrorInfo` among the details says more than the code.
    let details = error.get("details").and_then(Value::as_array).into_iter().flatten();
    let reason = details.filter(|detail| detail.get("domain").is_some()).find_map(|detail| detail.get("reason"));
    let words =
        [reason, error.get("code"), inner, error.get("type"), error.get("status"), error.get("status_code"), json.get("error_type")];
    let status = ["status_code", "code", "status"].into_iter().find_map(|name| {
        let code = error.get(name).or_else(|| json.get(name))?;
        let code = code.as_u64().or_else(|| code.as_str()?.parse().ok())?;
        StatusCode::from_u16(u16::try_from(code).ok()?).ok().filter(|status| status.as_u16() >= 400)
    });
    Said {
        message: error.as_str().map(str::to_owned).or_else(|| first(error)).or_else(|| first(json)).or_else(listed),
        words: words.into_iter().filter_map(text).collect(),
        param: text(error.get("param")),
        status,
    }
}

/// The number in brackets at the end of a message, where some speakers tell a code of their own.
fn code_at_end(message: &str) -> Option<&str> {
    let (_, code) = message.trim_end().strip_suffix(')')?.rsplit_once('(')?;
    code.bytes().all(|byte| byte.is_ascii_digit()).then_some(code)
}

/// Some speakers answer with one line of plain text.
fn said_in_text(body: &[u8]) -> Said {
    const LONGEST: usize = 300;
    let message = std::str::from_utf8(body).ok().map(str::trim).filter(|text| text.len() <= LONGEST && !text.contains(['{', '\n']));
    Said { message: message.map(str::to_owned), ..Said::default() }
}

/// What some providers say by the text alone. A status that blames the provider yields only to sentences that can mean nothing else.
fn told_by(text: &str, status: StatusCode) -> Option<ErrorReason> {
    const INPUT_DESPITE_STATUS: [&str; 3] =
        ["increase the physical batch size", "exceeds the available context size", "the input length exceeds the context length"];
    const CONTEXT: [&str; 15] = [
        "context length",
        "context window",
        "context size",
        "context limit",
        "prompt is too long",
        "input is too long",
        "input token count",
        "too many tokens",
        "too many input tokens",
        "input tokens exceeded",
        "input tokens exceeds",
        "expected maxlength",
        "`inputs` tokens + `max_new_tokens` must be",
        "`inputs` must have less than",
        "increase the physical batch size",
    ];
    let phrases = match status.as_u16() {
        400 | 413 | 422 => CONTEXT.as_slice(),
        500 => INPUT_DESPITE_STATUS.as_slice(),
        _ => return None,
    };
    let text = text.to_ascii_lowercase();
    let spent = ["credit balance is too low", "reached your specified api usage limits"];
    if status.is_client_error() && spent.iter().any(|phrase| text.contains(phrase)) {
        return Some(ErrorReason::ProviderCredentialRejected);
    }
    phrases.iter().any(|phrase| text.contains(phrase)).then_some(ErrorReason::CallerContextTooLong)
}

fn is_field(param: &str) -> bool {
    param.len() <= 64 && param.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.[]".contains(&byte))
}

/// The message without keys and account names; `None` for markup.
fn fit_for_callers(message: &str) -> Option<Cow<'_, str>> {
    const SECRET: [&str; 6] = ["sk-", "sk_", "org-", "proj_", "key-", "eyJ"];
    let text = message.trim();
    if text.is_empty() || text.starts_with('<') || text.contains("</") {
        return None;
    }
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*' | '.');
    let is_account = |word: &str| word.len() == 12 && word.bytes().all(|byte| byte.is_ascii_digit());
    let is_secret = |word: &str| is_account(word) || word.len() >= 8 && SECRET.iter().any(|lead| word.starts_with(lead));
    let mut words = text.split_inclusive(|c: char| !is_word(c));
    if !words.clone().any(|word| is_secret(word.trim_end_matches(|c: char| !is_word(c)))) {
        return Some(Cow::Borrowed(text));
    }
    let mut clean = String::with_capacity(text.len());
    for word in words.by_ref() {
        let end = word.trim_end_matches(|c: char| !is_word(c));
        clean.push_str(if is_secret(end) { "***" } else { end });
        clean.push_str(word.get(end.len()..).unwrap_or_default());
    }
    Some(Cow::Owned(clean))
}
