//! Streams of a server of ours, told apart by their first piece: OpenAI's chunks, an agent's, a response's events, or bare texts.

use std::collections::BTreeMap;

use flowgate_proto::v1::{FinishReason, StreamStart};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::{QUIRKS, RAISED, answer, chunks::Chunks, raised, told};
use crate::{
    dialect::{
        Decoder, Frame,
        errors::bad_answer,
        json::{Count, Fields, Str},
        openai, openai_responses,
        pieces::Pieces,
        scoring,
    },
    error::{Error, Result},
    event::Event,
};

/// The end mark of all forms.
pub(super) const DONE: &[u8] = b"[DONE]";

/// A stream; its form is known from its first piece on.
#[derive(Default)]
pub(super) struct Stream(Option<Box<dyn Decoder>>);

/// Texts with nothing around them.
#[derive(Debug, Default)]
struct Texts {
    is_started: bool,
    choices: BTreeMap<u32, Pieces>,
}

/// What ends a stream in the place of its end mark.
#[derive(Default, Deserialize)]
#[serde(default)]
struct FailureIn<'a> {
    #[serde(borrow)]
    message: Option<Str<'a>>,
    #[serde(borrow)]
    r#type: Option<Str<'a>>,
    code: Count,
}

impl Decoder for Stream {
    fn frame(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<()> {
        let data = frame.data.trim_ascii();
        if data.is_empty() {
            events.push(Event::Ping);
            return Ok(());
        }
        if data == DONE {
            let form = self.0.as_mut().ok_or_else(|| bad_answer("the stream ended without an answer"))?;
            return form.frame(frame, events);
        }
        let no_json = |_| bad_answer("a piece of the stream is not JSON");
        let data = scoring::predictions(&frame.data).map_err(no_json)?;
        if let Some(error) = failed(&data) {
            return Err(error);
        }
        let form = match &mut self.0 {
            Some(form) => form,
            None => self.0.insert(form(&data)?),
        };
        form.frame(Frame { data, ..frame }, events)
    }
}

/// The reader of the form that a piece has.
fn form(piece: &[u8]) -> Result<Box<dyn Decoder>> {
    let Ok(fields) = serde_json::from_slice::<Fields<'_>>(piece) else { return Ok(Box::<Texts>::default()) };
    let text = |name| fields.get(name).and_then(|raw| serde_json::from_str::<Str<'_>>(raw.get()).ok()).unwrap_or_default();
    let kind = text("type");
    Ok(if kind.starts_with("response.") || *kind == *"error" {
        openai_responses::decoder_until_done(&QUIRKS)
    } else if fields.get("delta").is_some_and(|delta| delta.get().starts_with('{')) {
        Box::<Chunks>::default()
    } else if text("object").ends_with(".chunk") || fields.get("choices").is_some_and(answer::of_objects) {
        openai::chunks_decoder(&QUIRKS)
    } else {
        Box::<Texts>::default()
    })
}

/// The error that a piece tells, which would have been an answer of its own had nothing been said before.
fn failed(piece: &[u8]) -> Option<Error> {
    memchr::memmem::find(piece, b"\"error\"")?;
    let fields: Fields<'_> = serde_json::from_slice(piece).ok()?;
    let [(name, error)] = fields.0.as_slice() else { return None };
    if name != "error" || !error.get().starts_with('{') {
        return None;
    }
    let FailureIn { message, r#type, code } = serde_json::from_str(error.get()).unwrap_or_default();
    let (message, word) = (message.unwrap_or_default(), r#type.unwrap_or_default());
    let code = code.0.and_then(|code| StatusCode::from_u16(u16::try_from(code).ok()?).ok());
    let status = code.filter(|code| code.is_client_error() || code.is_server_error()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if *word == *RAISED {
        return Some(raised(status));
    }
    let body = json!({ "error_code": *word, "message": *message }).to_string();
    Some(told(scoring::classify(status, &HeaderMap::new(), body.as_bytes()), status))
}

impl Decoder for Texts {
    fn frame(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<()> {
        if frame.data.trim_ascii() == DONE {
            // Nobody says why it ends.
            self.choices.values_mut().for_each(|pieces| pieces.end(FinishReason::Unspecified, "", events));
            events.push(Event::End);
            return Ok(());
        }
        let json: &RawValue = serde_json::from_slice(&frame.data).map_err(|_| bad_answer("a piece of the stream is not JSON"))?;
        let told = answer::texts(json)?;
        if !std::mem::replace(&mut self.is_started, true) {
            events.push(Event::Start(StreamStart::default()));
        }
        for choice in told.choices {
            let pieces = self.choices.entry(choice.index).or_insert_with(|| Pieces::new(choice.index));
            pieces.text(choice.text, events);
        }
        Ok(())
    }
}
