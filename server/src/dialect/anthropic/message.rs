//! Conversations as blocks.

use std::{borrow::Cow, fmt::Display};

use flowgate_proto::v1::{
    CacheHint, Citation, MediaKind, MediaPart, Part, RawPart, ReasoningPart, ToolCallPart, ToolResultPart,
    media_part::Source as MediaSource, part::Kind as PartKind,
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    block::{Block, Content, Kind, Source},
    blocks::SOURCE,
};
use crate::{
    dialect::{
        json::{At, Fields, read, text},
        media,
        params::Rules,
        tools::{object_arguments, plain_id},
        turns::{self, Place, Said, Speaker, Turn},
    },
    error::{Error, Result},
};

/// One turn on the wire.
#[derive(Debug, Serialize)]
pub(super) struct TurnOut<'a> {
    role: &'static str,
    content: Content<'a>,
}

/// What the system says; `None` when it says nothing.
pub(super) fn system<'a>(instructions: &[Said<'a>], rules: Rules<'_>) -> Result<Option<Content<'a>>> {
    let content = lower(instructions, rules, Speaker::User)?;
    Ok(Some(content).filter(|content| !content.0.is_empty()))
}

/// The turns; one that says nothing is left out.
///
/// # Errors
/// What the contract does not allow, and what the protocol lacks, by field.
pub(super) fn turns<'a>(turns: Vec<Turn<'a>>, rules: Rules<'_>) -> Result<Vec<TurnOut<'a>>> {
    let mut lowered = Vec::with_capacity(turns.len());
    for Turn { speaker, mut said } in turns {
        let role = match speaker {
            Speaker::User => "user",
            Speaker::Model => {
                thoughts_first(&mut said);
                "assistant"
            }
        };
        let content = lower(&said, rules, speaker)?;
        if !content.0.is_empty() {
            lowered.push(TurnOut { role, content });
        }
    }
    if lowered.is_empty() {
        return Err(Error::invalid("messages", "must hold a message of the user's that says something"));
    }
    Ok(lowered)
}

/// A turn that holds reasoning begins with it. One that does so already is in the order of the provider, as is one with blocks of the
/// provider's own tools, between which it reasons.
fn thoughts_first(said: &mut [Said<'_>]) {
    let is_thought = |said: &Said<'_>| matches!(said.content, turns::Content::Reasoning(_));
    if !said.first().is_some_and(is_thought) && !said.iter().any(|said| matches!(said.content, turns::Content::Raw(_))) {
        said.sort_by_key(|said| !is_thought(said));
    }
}

fn lower<'a>(said: &[Said<'a>], rules: Rules<'_>, speaker: Speaker) -> Result<Content<'a>> {
    let mut content = Content(Vec::with_capacity(said.len()));
    for Said { content: one, cache_hint, place } in said {
        let kind = match *one {
            turns::Content::Text(text, citations) => {
                // Those of an answer say where its text is from, and the text goes back as it is.
                if speaker == Speaker::User {
                    uncited(citations, rules, place)?;
                }
                Some(Kind::Text(text))
            }
            turns::Content::Refusal(refusal) => Some(Kind::Text(&refusal.text)),
            turns::Content::Media(_) if speaker == Speaker::Model => rules.lack(place.key("media")).map(|()| None)?,
            turns::Content::Media(part) => medium(part, rules, place)?,
            turns::Content::ToolCall(call) => Some(tool_use(call, rules, *place)?),
            turns::Content::ToolResult(result) => Some(tool_result(result, rules, *place)?),
            turns::Content::Raw(raw) => own(raw, place)?,
            turns::Content::Reasoning(reasoning) => {
                thoughts(reasoning, rules, *place, &mut content)?;
                if cache_hint.is_some() {
                    rules.lack(place.key("cache_hint"))?;
                }
                None
            }
        };
        content.add(kind, *cache_hint);
    }
    Ok(content.without_blanks())
}

impl<'a> Content<'a> {
    /// Adds a block. The protocol refuses empty texts, and they say nothing.
    fn add(&mut self, kind: Option<Kind<'a>>, cache_hint: Option<&'a CacheHint>) {
        match kind {
            None => {}
            Some(Kind::Text("")) if cache_hint.is_none() => {}
            Some(kind) => self.0.push(Block { kind, cache_hint }),
        }
    }

    /// The protocol refuses content of which all texts are blank, even those of its own answers.
    fn without_blanks(mut self) -> Self {
        let is_text = |block: &Block<'_>, is_blank| matches!(block.kind, Kind::Text(text) if text.trim().is_empty() == is_blank);
        if !self.0.iter().any(|block| is_text(block, false)) {
            self.0.retain(|block| block.cache_hint.is_some() || !is_text(block, true));
        }
        self
    }
}

/// Sources of a text that is not the model's: the protocol names them in forms of its own, with more than the contract keeps.
fn uncited(citations: &[Citation], rules: Rules<'_>, place: impl Display) -> Result<()> {
    if citations.is_empty() { Ok(()) } else { rules.lack(format_args!("{place}.text.citations")) }
}

/// Reasoning goes back as it came, or not at all: the provider checks its signature.
fn thoughts<'a>(reasoning: &'a ReasoningPart, rules: Rules<'_>, place: Place, content: &mut Content<'a>) -> Result<()> {
    let ReasoningPart { text, signature, redacted } = reasoning;
    if !signature.is_empty() {
        content.add(Some(Kind::Thinking { thinking: text, signature }), None);
    } else if !text.is_empty() {
        rules.lack(place.key("reasoning"))?;
    }
    match std::str::from_utf8(redacted) {
        Ok("") => {}
        Ok(data) => content.add(Some(Kind::Redacted(data)), None),
        Err(_) => rules.lack(place.key("reasoning.redacted"))?,
    }
    Ok(())
}

/// A call. Its signature is what the provider said of who made it, if that was not the model itself.
fn tool_use<'a>(call: &'a ToolCallPart, rules: Rules<'_>, place: Place) -> Result<Kind<'a>> {
    let ToolCallPart { id, name, arguments: _, signature } = call;
    for (field, value) in [("tool_call.id", id), ("tool_call.name", name)] {
        if value.is_empty() {
            return Err(Error::invalid(place.key(field), "is required"));
        }
    }
    let caller = serde_json::from_str::<&RawValue>(signature).ok().filter(|caller| caller.get().starts_with('{'));
    if caller.is_none() && !signature.is_empty() {
        rules.lack(place.key("tool_call.signature"))?;
    }
    Ok(Kind::ToolUse { id: plain_id(id), name, input: object_arguments(call, place)?, caller })
}

fn tool_result<'a>(result: &'a ToolResultPart, rules: Rules<'_>, place: Place) -> Result<Kind<'a>> {
    let ToolResultPart { tool_call_id, parts, is_error } = result;
    let mut content = Content(Vec::with_capacity(parts.len()));
    let all = place.key("tool_result.parts");
    let all = At::Root.key(&all);
    for (n, Part { kind, cache_hint }) in parts.iter().enumerate() {
        let at = all.index(n);
        let kind = match kind {
            Some(PartKind::Text(text)) => {
                uncited(&text.citations, rules, at)?;
                Some(Kind::Text(&text.text))
            }
            Some(PartKind::Media(part)) => medium(part, rules, at)?,
            Some(PartKind::Raw(raw)) if rules.owns(raw) => own(raw, at)?,
            Some(PartKind::Raw(_)) => rules.lack(at.key("raw")).map(|()| None)?,
            _ => return Err(at.invalid("must be text or media in a tool result")),
        };
        content.add(kind, cache_hint.as_ref());
    }
    Ok(Kind::ToolResult { id: plain_id(tool_call_id), content, is_error: *is_error })
}

/// A block in the protocol's own form; none where it is a source, which an answer's text goes back without.
fn own<'a>(raw: &'a RawPart, place: impl Display) -> Result<Option<Kind<'a>>> {
    let field = format!("{place}.raw.json");
    let at = At::Root.key(&field);
    let fields: Fields<'_> = read(text(&raw.json, at)?, at)?;
    let is_source = matches!(fields.0.as_slice(), [(name, _)] if name == SOURCE);
    Ok((!is_source).then_some(Kind::Raw(fields.0)))
}

/// An image or a document; `None` where it is left out.
fn medium<'a>(part: &'a MediaPart, rules: Rules<'_>, place: impl Display) -> Result<Option<Kind<'a>>> {
    let field = format!("{place}.media");
    let at = At::Root.key(&field);
    let (kind, from) = media::read(part, at)?;
    if !part.detail.is_empty() {
        rules.lack(at.key("detail"))?;
    }
    let wire = if kind == MediaKind::Image { "image" } else { "document" };
    if !rules.takes(wire, at)? {
        return Ok(None);
    }
    match kind {
        MediaKind::Image => {
            if !part.file_name.is_empty() {
                rules.lack(at.key("file_name"))?;
            }
            Ok(source(part, (kind, from), rules, at)?.map(Kind::Image))
        }
        MediaKind::Document => Ok(source(part, (kind, from), rules, at)?.map(|source| Kind::Document(source, &part.file_name))),
        MediaKind::Audio | MediaKind::Video | MediaKind::Unspecified => rules.lack(at).map(|()| None),
    }
}

/// Where the bytes are; `None` where the part is left out.
fn source<'a>(part: &'a MediaPart, (kind, from): (MediaKind, &'a MediaSource), rules: Rules<'_>, at: At<'_>) -> Result<Option<Source<'a>>> {
    let source = match from {
        MediaSource::Data(bytes) => inline(kind, Cow::Borrowed(&part.mime_type), Cow::Borrowed(bytes)),
        MediaSource::Uri(uri) if uri.starts_with("data:") => {
            let Some((mime_type, bytes)) = media::of_data_uri(uri) else {
                return Err(at.key("uri").invalid("is not base64 after `data:<media type>;base64,`"));
            };
            inline(kind, Cow::Owned(mime_type), Cow::Owned(bytes.into()))
        }
        MediaSource::Uri(_) if !rules.target.quirks.fetches_media => return rules.unfetched(at.key("uri")).map(|()| None),
        MediaSource::Uri(url) => Some(Source::Url { url }),
        MediaSource::FileId(file_id) => Some(Source::File { file_id }),
    };
    match source {
        None => rules.lack(at.key("mime_type")).map(|()| None),
        source => Ok(source),
    }
}

/// Bytes within the request: images and PDF as they are, every kind of text as plain text. The protocol takes no other document.
fn inline<'a>(kind: MediaKind, media_type: Cow<'a, str>, bytes: Cow<'a, [u8]>) -> Option<Source<'a>> {
    if kind == MediaKind::Image || media_type == "application/pdf" {
        return Some(Source::Base64 { media_type, data: media::base64(&bytes) });
    }
    let data = match bytes {
        _ if !media_type.starts_with("text/") => return None,
        Cow::Borrowed(bytes) => Cow::Borrowed(std::str::from_utf8(bytes).ok()?),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).ok()?),
    };
    Some(Source::Text { media_type: "text/plain", data })
}
