//! Answers of the native calls, whole and token by token.

use flowgate_proto::v1::{CompleteResponse, CompletionChoice, Logprobs, StreamStart, TokenLogprob, Usage, UsageSource};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::words::finish_reason;
use crate::{
    dialect::{
        Decoder, Frame,
        errors::{Errors, bad_answer},
        json::{Count, Str, is_meaningful, kept, object, place},
        pieces::Pieces,
    },
    error::Result,
    event::Event,
};

object! {
    /// An answer, or an event of a stream.
    AnswerIn {
        text: Option<Str<'a>> = "generated_text",
        token: Option<TokenIn<'a>> = "token",
        top: Vec<TokenIn<'a>> = "top_tokens",
        details: Option<DetailsIn<'a>> = "details",
        _index: Option<IgnoredAny> = "index",
        error: Option<&'a RawValue> = "error",
        ..
    }
}

object! {
    /// How an answer came about.
    DetailsIn {
        finish_reason: Str<'a> = "finish_reason",
        generated_tokens: Count = "generated_tokens",
        input_length: Count = "input_length",
        prefill: Option<Vec<IgnoredAny>> = "prefill",
        tokens: Vec<TokenIn<'a>> = "tokens",
        top: Vec<Vec<TokenIn<'a>>> = "top_tokens",
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TokenIn<'a> {
    #[serde(borrow)]
    text: Option<Str<'a>>,
    logprob: Option<f64>,
    special: Option<bool>,
}

/// The decoder.
#[derive(Debug)]
pub(super) struct Tokens {
    errors: Errors,
    wants_logprobs: bool,
    pieces: Pieces,
    is_started: bool,
}

impl TokenIn<'_> {
    fn text(&self) -> String {
        self.text.as_deref().unwrap_or_default().to_owned()
    }

    /// The log probability with those of its rivals; `None` when it has none.
    fn logprob(&self, rivals: &[TokenIn<'_>]) -> Option<TokenLogprob> {
        let top = rivals.iter().filter_map(|rival| rival.logprob(&[])).collect();
        Some(TokenLogprob { token: self.text(), logprob: self.logprob?, top, ..TokenLogprob::default() })
    }
}

impl DetailsIn<'_> {
    /// The counts; `None` when there are none.
    fn usage(&self) -> Option<Usage> {
        let prefill = self.prefill.as_ref().map(Vec::len).filter(|length| *length > 0);
        let input_tokens = self.input_length.0.or_else(|| u32::try_from(prefill?).ok());
        let output_tokens = self.generated_tokens.0;
        (input_tokens.is_some() || output_tokens.is_some()).then_some(Usage {
            input_tokens,
            output_tokens,
            source: UsageSource::Reported.into(),
            ..Usage::default()
        })
    }

    /// The log probabilities of the whole text.
    fn logprobs(&self) -> Logprobs {
        let rivals = self.top.iter().map(Vec::as_slice).chain(std::iter::repeat(&[][..]));
        let content = self.tokens.iter().zip(rivals).filter_map(|(token, rivals)| token.logprob(rivals)).collect();
        Logprobs { content, refusal: Vec::new() }
    }
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| bad_answer(format!("the answer at {}", place(&error))))
}

/// A whole answer; some calls wrap it in a list.
pub(super) fn decode(body: &[u8], errors: Errors, wants_logprobs: bool) -> Result<CompleteResponse> {
    let answer = match body.trim_ascii_start() {
        [b'[', ..] => read::<Vec<AnswerIn<'_>>>(body)?.into_iter().next().unwrap_or_default(),
        _ => read(body)?,
    };
    if answer.error.is_some_and(is_meaningful) {
        return Err(errors.of_frame(body));
    }
    let Some(text) = answer.text else { return Err(bad_answer("the answer has no text")) };
    let details = answer.details.unwrap_or_default();
    let choice = CompletionChoice {
        index: 0,
        text: text.into(),
        finish_reason: finish_reason(&details.finish_reason).into(),
        logprobs: wants_logprobs.then(|| details.logprobs()),
        raw_finish_reason: details.finish_reason.to_string(),
        stop_sequence: String::new(),
    };
    let (usage, provider_fields) = (details.usage(), kept(&details.rest));
    Ok(CompleteResponse { choices: vec![choice], usage, provider_fields, ..CompleteResponse::default() })
}

impl Tokens {
    pub(super) fn new(errors: Errors, wants_logprobs: bool) -> Self {
        Self { errors, wants_logprobs, pieces: Pieces::default(), is_started: false }
    }

    /// The text of a token, with its log probability. Special tokens are no text.
    fn token(&mut self, token: &TokenIn<'_>, rivals: &[TokenIn<'_>], events: &mut Vec<Event>) {
        if token.special == Some(true) {
            return;
        }
        let before = events.len();
        self.pieces.text(token.text(), events);
        if self.wants_logprobs
            && let (Some(Event::Delta(delta)), Some(logprob)) = (events.get_mut(before), token.logprob(rivals))
        {
            delta.logprobs = Some(Logprobs { content: vec![logprob], refusal: Vec::new() });
        }
    }
}

impl Decoder for Tokens {
    fn frame(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<()> {
        let data = frame.data.trim_ascii();
        if data.is_empty() {
            events.push(Event::Ping);
            return Ok(());
        }
        if *frame.name == *b"error" {
            return Err(self.errors.of_frame(data));
        }
        let event: AnswerIn<'_> = read(data)?;
        if event.error.is_some_and(is_meaningful) {
            return Err(self.errors.of_frame(data));
        }
        if !std::mem::replace(&mut self.is_started, true) {
            events.push(Event::Start(StreamStart::default()));
        }
        if let Some(token) = &event.token {
            self.token(token, &event.top, events);
        }
        // Only the last event has the whole text, which was told before.
        if event.text.is_some() || event.details.is_some() {
            let details = event.details.unwrap_or_default();
            self.pieces.end(finish_reason(&details.finish_reason), &details.finish_reason, events);
            events.extend(details.usage().map(Event::Usage));
            events.push(Event::End);
        }
        Ok(())
    }
}
