//! One candidate of an answer as the pieces of one choice.

use std::{borrow::Cow, collections::BTreeMap};

use flowgate_proto::v1::{ChatDelta, FinishReason, MediaPart, RawPart, ToolCallPart, chat_delta::Delta, media_part::Source};
use serde_json::value::RawValue;

use super::{SHAPE, answer::CandidateIn, grounding, logprobs};
use crate::{
    dialect::{
        errors::bad_answer,
        json::{Str, compact, is_meaningful, object, place},
        media,
        pieces::Pieces,
        tools::made_up_id,
    },
    error::Result,
    event::Event,
};

/// The one field of a raw part that holds what an answer says of its candidate: no part, and never sent back as one.
pub(super) const FURTHER: &str = "candidate";

object! {
    /// A part. What has no field here is kept as written.
    PartIn {
        text: Option<Str<'a>> = "text",
        thought: bool = "thought",
        signature: Str<'a> = "thoughtSignature",
        inline: Option<BlobIn<'a>> = "inlineData",
        file: Option<FileIn<'a>> = "fileData",
        call: Option<CallIn<'a>> = "functionCall",
    }
}

object! {
    /// Media in the answer itself.
    BlobIn {
        mime_type: Str<'a> = "mimeType",
        encoded: Str<'a> = "data",
        name: Str<'a> = "displayName",
        ..
    }
}

object! {
    /// Media at an address.
    FileIn {
        mime_type: Str<'a> = "mimeType",
        uri: Str<'a> = "fileUri",
        name: Str<'a> = "displayName",
        ..
    }
}

object! {
    /// A call of a tool.
    CallIn {
        id: Str<'a> = "id",
        name: Str<'a> = "name",
        args: Option<&'a RawValue> = "args",
        is_partial: bool = "willContinue",
        partial: Option<&'a RawValue> = "partialArgs",
        ..
    }
}

/// What one candidate has said so far.
#[derive(Debug, Default)]
pub(super) struct Candidate {
    pieces: Pieces,
    /// Why it ended, in the provider's words; empty if that was not told.
    word: String,
    calls: u32,
    /// Whether the last piece was of a thought that has no signature yet.
    is_thinking: bool,
    /// Whether the last piece was the signature of an empty text.
    is_dangling: bool,
    texts: Texts,
    /// What was said of the whole; of what was said twice the last.
    further: BTreeMap<String, Cow<'static, str>>,
}

/// The text parts, for sources that point into them.
#[derive(Debug, Default)]
struct Texts {
    first: Option<u32>,
    written: String,
    /// Whether there is more than one, so that places within them say nothing.
    are_many: bool,
}

impl Candidate {
    /// A candidate that has said nothing.
    pub(super) fn new(index: u32) -> Self {
        Self { pieces: Pieces::new(index), ..Self::default() }
    }

    /// Its place, from 0.
    pub(super) fn index(&self) -> u32 {
        self.pieces.choice()
    }

    /// Whether it told why it ended.
    pub(super) fn is_done(&self) -> bool {
        !self.word.is_empty()
    }

    /// Reads a piece. `answer` is the answer's id, from which calls without an id get theirs.
    pub(super) fn read(&mut self, candidate: CandidateIn<'_>, answer: &str, events: &mut Vec<Event>) -> Result<()> {
        let CandidateIn { index: _, content, finish_reason, logprobs, citations, grounding, rest } = candidate;
        for raw in content.unwrap_or_default().parts {
            self.part(raw, answer, events)?;
        }
        if let Some(logprobs) = logprobs.and_then(logprobs::read) {
            let part = self.texts.first.unwrap_or_default();
            events.push(Event::Delta(ChatDelta { choice: self.index(), part, delta: None, logprobs: Some(logprobs) }));
        }
        if !finish_reason.is_empty() {
            self.word = finish_reason.into();
        }
        let named = [("citationMetadata", citations), ("groundingMetadata", grounding)];
        let named = named.into_iter().filter_map(|(name, raw)| Some((Cow::Borrowed(name), raw?)));
        for (name, raw) in rest.into_iter().chain(named).filter(|(_, raw)| is_meaningful(raw)) {
            self.further.insert(name.into_owned(), compact(raw).into());
        }
        Ok(())
    }

    /// The end, with the provider's word for it.
    pub(super) fn end_as_told(&mut self, events: &mut Vec<Event>) {
        let word = std::mem::take(&mut self.word);
        self.end(finish_reason(&word, self.calls > 0), &word, events);
    }

    /// The end. Whatever was said of the whole comes before it.
    pub(super) fn end(&mut self, reason: FinishReason, word: &str, events: &mut Vec<Event>) {
        let mut further = std::mem::take(&mut self.further);
        if let Some(part) = self.texts.first.filter(|_| !self.texts.are_many) {
            for citation in grounding::citations(&further, &self.texts.written) {
                self.pieces.push(part, Delta::Citation(citation), events);
            }
        }
        // Numbers that every answer has, and ratings that stopped nothing, are no content.
        let is_noise = |name: &str| matches!(name, "tokenCount" | "avgLogprobs") || (name == "safetyRatings" && !is_filtered(reason));
        further.retain(|name, _| !is_noise(name));
        if !further.is_empty() {
            let fields: Vec<String> =
                further.iter().map(|(name, json)| format!("{}:{json}", serde_json::Value::from(name.as_str()))).collect();
            self.raw(format!("{{\"{FURTHER}\":{{{}}}}}", fields.join(",")), events);
        }
        self.pieces.end(reason, word, events);
    }

    fn part(&mut self, raw: &RawValue, answer: &str, events: &mut Vec<Event>) -> Result<()> {
        let part: PartIn<'_> = serde_json::from_str(raw.get()).map_err(|error| bad_answer(format!("a part at {}", place(&error))))?;
        let PartIn { text, thought, signature, inline, file, call, rest } = part;
        match (call, inline, file, text) {
            (Some(call), ..) if !call.is_partial && call.partial.is_none() => self.call(&call, signature.into(), answer, events),
            (None, Some(blob), None, _) if !thought => match media::from_base64(&blob.encoded) {
                Some(bytes) => self.media(Source::Data(bytes), [blob.mime_type, blob.name], signature.into(), events),
                None => return Err(bad_answer("media in the answer is not base64")),
            },
            (None, None, Some(file), _) if !thought => {
                self.media(Source::Uri(file.uri.into()), [file.mime_type, file.name], signature.into(), events);
            }
            (None, None, None, Some(text)) if rest.is_empty() && thought => self.thought(text.into(), signature.into(), raw, events),
            (None, None, None, Some(text)) if rest.is_empty() => self.text(text.into(), signature.into(), events),
            (None, None, None, None) if rest.is_empty() && thought => self.thought(String::new(), signature.into(), raw, events),
            (None, None, None, None) if rest.is_empty() => self.text(String::new(), signature.into(), events),
            _ => self.raw(compact(raw), events),
        }
        Ok(())
    }

    fn text(&mut self, text: String, signature: String, events: &mut Vec<Event>) {
        let is_signed = !signature.is_empty();
        if is_signed {
            self.sign(signature, events);
            self.is_dangling = true;
        }
        if text.is_empty() {
            return;
        }
        self.settle(is_signed, events);
        self.texts.written.push_str(&text);
        self.pieces.text(text, events);
        let part = self.pieces.newest();
        self.texts.are_many |= self.texts.first.is_some() && self.texts.first != part;
        self.texts.first = self.texts.first.or(part);
        if is_signed {
            self.pieces.close();
        }
    }

    fn media(&mut self, source: Source, [mime_type, name]: [Str<'_>; 2], signature: String, events: &mut Vec<Event>) {
        let is_signed = !signature.is_empty();
        if is_signed {
            self.sign(signature, events);
        }
        self.settle(is_signed, events);
        let media = MediaPart { source: Some(source), mime_type: mime_type.into(), file_name: name.into(), ..MediaPart::default() };
        self.pieces.whole(Delta::Media(media), events);
    }

    /// A signature that stands before what it belongs to.
    fn sign(&mut self, signature: String, events: &mut Vec<Event>) {
        self.pieces.close();
        self.pieces.signature(signature, events);
        self.pieces.close();
        self.is_thinking = false;
    }

    /// Before a text or media: a signature that is not its own gets the empty text that it came with, lest it be taken for its own.
    fn settle(&mut self, is_signed: bool, events: &mut Vec<Event>) {
        if std::mem::take(&mut self.is_dangling) && !is_signed {
            self.pieces.whole(Delta::Text(String::new()), events);
        }
        self.is_thinking = false;
    }

    fn thought(&mut self, text: String, signature: String, raw: &RawValue, events: &mut Vec<Event>) {
        if text.is_empty() && !self.is_thinking {
            if !signature.is_empty() {
                self.raw(compact(raw), events);
            }
            return;
        }
        self.is_dangling = false;
        self.is_thinking = signature.is_empty();
        self.pieces.reasoning(text, events);
        self.pieces.signature(signature, events);
        if !self.is_thinking {
            self.pieces.close();
        }
    }

    fn call(&mut self, call: &CallIn<'_>, signature: String, answer: &str, events: &mut Vec<Event>) {
        let arguments = call.args.map_or_else(|| "{}".to_owned(), compact);
        let id = if call.id.is_empty() { self.made_up_id(answer, &call.name, &arguments) } else { call.id.to_string() };
        self.calls += 1;
        (self.is_dangling, self.is_thinking) = (false, false);
        self.pieces.tool_call(ToolCallPart { id, name: call.name.to_string(), arguments, signature }, events);
    }

    /// An id for a call that came without.
    fn made_up_id(&self, answer: &str, name: &str, arguments: &str) -> String {
        let said = format!("{answer}\n{}\n{}\n{name}\n{arguments}", self.index(), self.calls);
        made_up_id(&said)
    }

    fn raw(&mut self, json: String, events: &mut Vec<Event>) {
        (self.is_dangling, self.is_thinking) = (false, false);
        self.pieces.whole(Delta::Raw(RawPart { provider: SHAPE.protocol.to_owned(), json }), events);
    }
}

fn is_filtered(reason: FinishReason) -> bool {
    reason == FinishReason::ContentFilter
}

/// Why a candidate ended. The protocol says of calls that it stopped.
fn finish_reason(word: &str, has_calls: bool) -> FinishReason {
    match word {
        "STOP" if has_calls => FinishReason::ToolCalls,
        "STOP" => FinishReason::Stop,
        "MAX_TOKENS" => FinishReason::Length,
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "MODEL_ARMOR"
        | "ESCALATION"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => FinishReason::ContentFilter,
        "MALFORMED_FUNCTION_CALL"
        | "UNEXPECTED_TOOL_CALL"
        | "TOO_MANY_TOOL_CALLS"
        | "MISSING_THOUGHT_SIGNATURE"
        | "MALFORMED_RESPONSE"
        | "LANGUAGE"
        | "NO_IMAGE"
        | "IMAGE_OTHER"
        | "OTHER" => FinishReason::Error,
        // Whatever a new word means: the calls are whole, and wait for results.
        _ if has_calls => FinishReason::ToolCalls,
        _ => FinishReason::Unspecified,
    }
}
