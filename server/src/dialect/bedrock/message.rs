//! Messages as Converse has them: instructions apart, turns by turns, content as blocks that have one field each.

use std::{borrow::Cow, collections::HashSet};

use flowgate_proto::v1::{Citation, Message, Part, ReasoningPart, ToolCallPart, ToolResultPart};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    media::{self, Medium, Names},
    model::Family,
    signed_by,
};
use crate::{
    dialect::{
        json::{At, text},
        media::base64,
        params::Rules,
        signature::{Signed, leave},
        tools::plain_id,
        turns::{self, Content, Place, ResultPart, Said, Speaker, Turn, conversation},
    },
    error::{Error, Result},
};

/// What a tool that returned nothing is said to have returned.
const NOTHING: &str = "(empty)";

/// The conversation of a request.
#[derive(Debug)]
pub(super) struct Lowered<'a> {
    pub(super) system: Vec<Block<'a>>,
    pub(super) messages: Vec<MessageOut<'a>>,
    /// The names of the tools that were called so far, each once; empty names where only results are left.
    pub(super) called: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
pub(super) struct MessageOut<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

/// A content block: an object with one field.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Block<'a> {
    Text(&'a str),
    CitationsContent(Cited<'a>),
    Image(Medium<'a>),
    Document(Medium<'a>),
    Video(Medium<'a>),
    Audio(Medium<'a>),
    ToolUse(ToolUse<'a>),
    ToolResult(ToolResult<'a>),
    ReasoningContent(Reasoning<'a>),
    CachePoint(CachePoint<'a>),
    #[serde(untagged)]
    Raw(&'a RawValue),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolUse<'a> {
    tool_use_id: Cow<'a, str>,
    name: &'a str,
    input: &'a RawValue,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolResult<'a> {
    tool_use_id: Cow<'a, str>,
    content: Vec<Block<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Reasoning<'a> {
    ReasoningText {
        text: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        signature: &'a str,
    },
    RedactedContent(String),
}

#[derive(Debug, Serialize)]
pub(super) struct CachePoint<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    ttl: &'a str,
}

#[derive(Debug, Serialize)]
pub(super) struct Cited<'a> {
    content: [TextOut<'a>; 1],
    citations: Vec<CitationOut<'a>>,
}

#[derive(Debug, Serialize)]
struct TextOut<'a> {
    text: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CitationOut<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_content: Option<[TextOut<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Location<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Location<'a> {
    Web { url: &'a str },
}

/// Writes blocks, and keeps what counts for the whole request.
struct Writer<'r> {
    rules: Rules<'r>,
    family: Family,
    names: Names,
    speaker: Speaker,
}

/// The conversation as the service takes it.
///
/// # Errors
/// What the contract or the service does not allow, by field.
pub(super) fn lower<'a>(messages: &'a [Message], rules: Rules<'_>) -> Result<Lowered<'a>> {
    let conversation = conversation(messages, rules)?;
    let mut writer = Writer { rules, family: Family::of(rules.target), names: Names::default(), speaker: Speaker::User };
    let system = writer.blocks(&conversation.instructions)?;
    let (mut called, mut known) = (Vec::new(), HashSet::new());
    for said in conversation.turns.iter().flat_map(|turn| &turn.said) {
        let name = match said.content {
            Content::ToolCall(call) => &*call.name,
            Content::ToolResult(_) => "",
            _ => continue,
        };
        if known.insert(name) {
            called.push(name);
        }
    }
    check_start(&conversation.turns, messages)?;
    let mut turns: Vec<MessageOut<'a>> = Vec::with_capacity(conversation.turns.len());
    for turn in &conversation.turns {
        let Some(turn) = writer.turn(turn, messages)? else { continue };
        // The speakers take turns, though one of the model's was left out between two.
        match turns.last_mut().filter(|last| last.role == turn.role) {
            Some(last) => last.content.extend(turn.content),
            None => turns.push(turn),
        }
    }
    Ok(Lowered { system, messages: turns, called })
}

/// The service wants the user to begin.
fn check_start(turns: &[Turn<'_>], messages: &[Message]) -> Result<()> {
    match turns.first() {
        None => Err(Error::invalid("messages", "must hold a message of the user's")),
        Some(Turn { speaker: Speaker::User, .. }) => Ok(()),
        Some(turn) => {
            let at = place(turn, messages);
            Err(Error::invalid(at, "must not be the assistant's: with this provider the user begins; put a user message before it"))
        }
    }
}

/// Where a turn begins; one of which nothing is left is that of a message that holds nothing.
fn place(turn: &Turn<'_>, messages: &[Message]) -> String {
    let empty = || messages.iter().position(|message| message.text.is_empty() && message.parts.is_empty());
    match turn.said.first() {
        Some(said) => said.place.to_string(),
        None => empty().map_or_else(|| "messages".to_owned(), |n| format!("messages[{n}]")),
    }
}

impl Writer<'_> {
    /// One turn; nothing where the model only thought, and what it thought is left out.
    fn turn<'a>(&mut self, turn: &Turn<'a>, messages: &[Message]) -> Result<Option<MessageOut<'a>>> {
        self.speaker = turn.speaker;
        let content = self.blocks(&turn.said)?;
        if content.is_empty() && turn.said.iter().any(|said| matches!(said.content, Content::Reasoning(_))) {
            return Ok(None);
        }
        if content.is_empty() {
            return Err(Error::invalid(place(turn, messages), "holds no content; this provider takes no empty messages, so leave it out"));
        }
        let role = match turn.speaker {
            Speaker::User => "user",
            Speaker::Model => "assistant",
        };
        Ok(Some(MessageOut { role, content }))
    }

    fn blocks<'a>(&mut self, all: &[Said<'a>]) -> Result<Vec<Block<'a>>> {
        let mut blocks = Vec::with_capacity(all.len());
        for said in all {
            self.add(said, &mut blocks)?;
            // There is nothing to keep before the first block.
            if let Some(point) = self.cache_point(said)?.filter(|_| !blocks.is_empty()) {
                blocks.push(point);
            }
        }
        Ok(blocks)
    }

    fn add<'a>(&mut self, said: &Said<'a>, blocks: &mut Vec<Block<'a>>) -> Result<()> {
        let place = said.place;
        match said.content {
            // Blank texts are refused, and say nothing.
            Content::Text(text, _) if text.trim().is_empty() => {}
            Content::Text(text, []) => blocks.push(Block::Text(text)),
            Content::Text(text, citations) => blocks.push(self.cited(text, citations, place)?),
            Content::Media(media) => blocks.extend(media::lower(media, self.rules, &mut self.names, &place.key("media"))?),
            Content::ToolCall(call) => blocks.push(self.tool_use(call, place)?),
            Content::ToolResult(result) => blocks.push(self.tool_result(result, place)?),
            Content::Reasoning(part) => self.reasoning(part, blocks),
            // What the model declined with is text to it.
            Content::Refusal(refusal) if refusal.text.trim().is_empty() => {}
            Content::Refusal(refusal) => blocks.push(Block::Text(&refusal.text)),
            Content::Raw(raw) => blocks.push(Block::Raw(text(&raw.json, At::Root.key(&place.key("raw.json")))?)),
        }
        Ok(())
    }

    /// Reasoning goes back as it came. Claude refuses what it did not sign, so that this is left out; a model that is not known may be Claude.
    fn reasoning<'a>(&self, part: &'a ReasoningPart, blocks: &mut Vec<Block<'a>>) {
        let ReasoningPart { text, signature, redacted } = part;
        let signed_by = signed_by(self.rules.target);
        let redacted = signed_by.read_redacted(redacted).own();
        if !redacted.is_empty() {
            blocks.push(Block::ReasoningContent(Reasoning::RedactedContent(base64(redacted))));
        }
        let signature = match (signed_by.read(signature), self.family) {
            (Signed::No | Signed::Foreign, Family::Claude | Family::Unknown) => return,
            (signed, _) => signed.own(),
        };
        if !text.is_empty() || !signature.is_empty() {
            blocks.push(Block::ReasoningContent(Reasoning::ReasoningText { text, signature }));
        }
    }

    fn cache_point<'a>(&self, said: &Said<'a>) -> Result<Option<Block<'a>>> {
        let Some(hint) = said.cache_hint else { return Ok(None) };
        let field = said.place.key("cache_hint");
        if !self.family.takes_cache_points() {
            return self.rules.lack(field).map(|()| None);
        }
        let takes = self.rules.takes("cachePoint", field)?;
        Ok(takes.then_some(Block::CachePoint(CachePoint { r#type: "default", ttl: &hint.ttl })))
    }

    fn cited<'a>(&self, text: &'a str, citations: &'a [Citation], place: Place) -> Result<Block<'a>> {
        let mut out = Vec::with_capacity(citations.len());
        for (n, Citation { uri, title, quote, start, end }) in citations.iter().enumerate() {
            // What the service calls start and end are places in the source. Those of an answer do not keep it from going back.
            let placed = [("start", start), ("end", end)].into_iter().filter(|(_, set)| set.is_some() && self.speaker == Speaker::User);
            for (field, _) in placed {
                self.rules.lack(place.key(&format!("text.citations[{n}].{field}")))?;
            }
            out.push(CitationOut {
                title,
                source_content: (!quote.is_empty()).then_some([TextOut { text: quote }]),
                location: (!uri.is_empty()).then_some(Location::Web { url: uri }),
            });
        }
        Ok(Block::CitationsContent(Cited { content: [TextOut { text }], citations: out }))
    }

    fn tool_use<'a>(&self, call: &'a ToolCallPart, place: Place) -> Result<Block<'a>> {
        let ToolCallPart { id, name, arguments, signature } = call;
        leave(signature, self.rules, place.key("tool_call.signature"))?;
        let at = place.key("tool_call.arguments");
        let input = text(if arguments.trim().is_empty() { "{}" } else { arguments }, At::Root.key(&at))?;
        if !input.get().starts_with('{') {
            return Err(Error::invalid(at, "must be a JSON object with this provider"));
        }
        Ok(Block::ToolUse(ToolUse { tool_use_id: plain_id(id), name, input }))
    }

    fn tool_result<'a>(&mut self, result: &'a ToolResultPart, place: Place) -> Result<Block<'a>> {
        let ToolResultPart { tool_call_id, parts, is_error } = result;
        let mut content = Vec::with_capacity(parts.len());
        for (n, part) in parts.iter().enumerate() {
            content.extend(self.within_result(part, &place.key(&format!("tool_result.parts[{n}]")))?);
        }
        // The service refuses a result that holds nothing, and texts that are blank.
        if content.is_empty() {
            content.push(Block::Text(NOTHING));
        }
        Ok(Block::ToolResult(ToolResult { tool_use_id: plain_id(tool_call_id), content, status: is_error.then_some("error") }))
    }

    /// A part of a tool's result. Cache points do not stand within results.
    fn within_result<'a>(&mut self, part: &'a Part, path: &str) -> Result<Option<Block<'a>>> {
        match turns::result_part(part, self.rules, At::Root.key(path))? {
            None => Ok(None),
            Some(ResultPart::Text(said)) => Ok((!said.trim().is_empty()).then_some(Block::Text(said))),
            Some(ResultPart::Media(media)) => media::lower(media, self.rules, &mut self.names, &format!("{path}.media")),
            Some(ResultPart::Raw(raw)) => text(&raw.json, At::Root.key(&format!("{path}.raw.json"))).map(Block::Raw).map(Some),
        }
    }
}
