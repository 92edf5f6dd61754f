//! Conversations, checked: message by message, or as those protocols have them that know two speakers, instructions apart, then user and
//! model by turns. The checks of what the contract allows stand here once; the protocols only spell what is left.

use std::{collections::HashMap, fmt};

use flowgate_proto::v1::{
    CacheHint, Citation, MediaPart, Message, Part, RawPart, ReasoningPart, RefusalPart, Role, ToolCallPart, ToolResultPart, part::Kind,
};

use super::{json::At, params::Rules, signature::leave};
use crate::error::{Error, Result};

/// A conversation of two.
#[derive(Debug, Default)]
pub(super) struct Conversation<'a> {
    /// What system and developer messages say, wherever they stand: always text, or raw.
    pub(super) instructions: Vec<Said<'a>>,
    /// The turns, speakers by turns; tool results come first in a turn of the user's.
    pub(super) turns: Vec<Turn<'a>>,
}

/// What one speaker says before the other does.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) speaker: Speaker,
    pub(super) said: Vec<Said<'a>>,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    User,
    Model,
}

/// One part, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said<'a> {
    pub(super) content: Content<'a>,
    pub(super) cache_hint: Option<&'a CacheHint>,
    pub(super) place: Place,
}

/// What a part holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content<'a> {
    Text(&'a str, &'a [Citation]),
    Media(&'a MediaPart),
    /// Of the model's only.
    ToolCall(&'a ToolCallPart),
    /// Of the user's only.
    ToolResult(&'a ToolResultPart),
    /// Of the model's only.
    Reasoning(&'a ReasoningPart),
    /// Of the model's only.
    Refusal(&'a RefusalPart),
    /// Of the protocol's or the provider's own form.
    Raw(&'a RawPart),
}

/// Where a part stands in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    message: usize,
    part: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "messages[{}]", self.message)?;
        self.part.map_or(Ok(()), |part| write!(f, ".parts[{part}]"))
    }
}

impl Place {
    /// The path of a field here.
    pub(super) fn key(self, field: &str) -> String {
        format!("{self}.{field}")
    }

    /// The error of what stands here.
    pub(super) fn invalid(self, description: impl Into<String>) -> Error {
        Error::invalid(self.to_string(), description)
    }
}

/// The role of a message.
///
/// # Errors
/// When it is none of the contract's.
pub(super) fn role(message: &Message, at: At<'_>) -> Result<Role> {
    Role::try_from(message.role).map_err(|_| at.key("role").invalid("is not a role of the contract"))
}

/// The tools' names by the ids of the calls, for protocols whose results name the tool.
pub(super) fn tools_called(messages: &[Message]) -> HashMap<&str, &str> {
    let kinds = messages.iter().flat_map(|message| &message.parts).filter_map(|part| part.kind.as_ref());
    kinds.filter_map(|kind| if let Kind::ToolCall(call) = kind { Some((&*call.id, &*call.name)) } else { None }).collect()
}

/// The messages of a request one by one, each with what it says; for protocols that keep all roles in their places.
///
/// # Errors
/// What the contract does not allow, and what the provider lacks, by field.
pub(super) fn in_order<'a>(messages: &'a [Message], rules: Rules<'_>) -> Result<Vec<(Role, Vec<Said<'a>>)>> {
    if messages.is_empty() {
        return Err(Error::invalid("messages", "must hold at least one message"));
    }
    messages.iter().enumerate().map(|(n, message)| one_message(message, rules, n)).collect()
}

/// The messages of a request as a conversation of two.
///
/// # Errors
/// As [`in_order`].
pub(super) fn conversation<'a>(messages: &'a [Message], rules: Rules<'_>) -> Result<Conversation<'a>> {
    let mut conversation = Conversation::default();
    for (role, said) in in_order(messages, rules)? {
        conversation.add(role, said);
    }
    for turn in &mut conversation.turns {
        turn.said.sort_by_key(|said| !matches!(said.content, Content::ToolResult(_)));
    }
    Ok(conversation)
}

impl Said<'_> {
    /// Refuses a cache hint, for protocols that have none.
    ///
    /// # Errors
    /// When there is one.
    pub(super) fn refuse_hint(&self, rules: Rules<'_>) -> Result<()> {
        if self.cache_hint.is_some() { rules.lack(self.place.key("cache_hint")) } else { Ok(()) }
    }
}

/// Leaves out where a text is from, for protocols that have no place for it. That of an answer goes back without it, so that a cited
/// conversation goes on.
///
/// # Errors
/// When the text is not the model's, as [`Rules::lack`].
pub(super) fn leave_citations(citations: &[Citation], is_model: bool, rules: Rules<'_>, place: impl fmt::Display) -> Result<()> {
    if is_model || citations.is_empty() { Ok(()) } else { rules.lack(format_args!("{place}.text.citations")) }
}

/// Leaves out what of reasoning only its own provider can read, for protocols that have no place for it.
///
/// # Errors
/// As [`leave`].
pub(super) fn leave_sealed(reasoning: &ReasoningPart, rules: Rules<'_>, place: Place) -> Result<()> {
    leave(&reasoning.signature, rules, place.key("reasoning.signature"))?;
    leave(&reasoning.redacted, rules, place.key("reasoning.redacted"))
}

/// The text of a message, for protocols that take nothing else. What the model thought is left out, what it declined with is text.
///
/// # Errors
/// Whatever else it says, by field.
pub(super) fn only_text(role: Role, all: &[Said<'_>], rules: Rules<'_>) -> Result<String> {
    let mut text = String::new();
    for said in all {
        said.refuse_hint(rules)?;
        match said.content {
            Content::Text(piece, citations) => {
                text.push_str(piece);
                leave_citations(citations, role == Role::Assistant, rules, said.place)?;
            }
            Content::Reasoning(reasoning) => leave_sealed(reasoning, rules, said.place)?,
            Content::Refusal(refusal) => text.push_str(&refusal.text),
            Content::Media(_) => rules.lack_content(said.place.key("media"))?,
            _ => rules.lack_content(said.place)?,
        }
    }
    Ok(text)
}

/// What a part of a tool's result holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum ResultPart<'a> {
    Text(&'a str),
    Media(&'a MediaPart),
    /// Of the protocol's or the provider's own form.
    Raw(&'a RawPart),
}

/// A part of a tool's result, for protocols that have neither cache hints nor sources there; nothing where it is left out.
///
/// # Errors
/// What the contract does not allow, and what the provider lacks, by field.
pub(super) fn result_part<'a>(part: &'a Part, rules: Rules<'_>, at: At<'_>) -> Result<Option<ResultPart<'a>>> {
    if part.cache_hint.is_some() {
        rules.lack(at.key("cache_hint"))?;
    }
    match &part.kind {
        Some(Kind::Text(text)) => {
            if !text.citations.is_empty() {
                rules.lack(at.key("text").key("citations"))?;
            }
            Ok(Some(ResultPart::Text(&text.text)))
        }
        Some(Kind::Media(media)) => Ok(Some(ResultPart::Media(media))),
        Some(Kind::Raw(raw)) if rules.owns(raw) => Ok(Some(ResultPart::Raw(raw))),
        Some(Kind::Raw(_)) => rules.lack_content(at.key("raw")).map(|()| None),
        None => Err(at.invalid("holds nothing; set exactly one kind")),
        Some(_) => Err(at.invalid("must be text or media in a tool result")),
    }
}

fn one_message<'a>(message: &'a Message, rules: Rules<'_>, n: usize) -> Result<(Role, Vec<Said<'a>>)> {
    let place = Place { message: n, part: None };
    let role = role(message, At::Root.key("messages").index(n))?;
    if !message.text.is_empty() && !message.parts.is_empty() {
        return Err(place.invalid("has both `text` and `parts`; use one of them"));
    }
    if !message.name.is_empty() {
        rules.lack(place.key("name"))?;
    }
    if role == Role::Tool && message.parts.is_empty() {
        return Err(place.invalid("must hold tool results in a message of role tool"));
    }
    let short = (!message.text.is_empty()).then_some(Said { content: Content::Text(&message.text, &[]), cache_hint: None, place });
    let mut said: Vec<Said<'a>> = short.into_iter().collect();
    for (p, part) in message.parts.iter().enumerate() {
        said.extend(one(part, role, rules, Place { message: n, part: Some(p) })?);
    }
    Ok((role, said))
}

impl<'a> Conversation<'a> {
    fn add(&mut self, role: Role, said: Vec<Said<'a>>) {
        let speaker = match role {
            Role::System | Role::Developer => return self.instructions.extend(said),
            Role::Assistant => Speaker::Model,
            Role::User | Role::Tool | Role::Unspecified => Speaker::User,
        };
        match self.turns.last_mut().filter(|turn| turn.speaker == speaker) {
            Some(turn) => turn.said.extend(said),
            None => self.turns.push(Turn { speaker, said }),
        }
    }
}

/// One part, if it belongs to a message of its role; nothing where it is left out since the provider lacks it.
fn one<'a>(part: &'a Part, role: Role, rules: Rules<'_>, place: Place) -> Result<Option<Said<'a>>> {
    let is_model = role == Role::Assistant;
    let is_instruction = matches!(role, Role::System | Role::Developer);
    let content = match &part.kind {
        None => return Err(place.invalid("holds nothing; set exactly one kind")),
        Some(Kind::ToolResult(result)) if role == Role::Tool => {
            if result.tool_call_id.is_empty() {
                return Err(Error::invalid(place.key("tool_result.tool_call_id"), "is required"));
            }
            Content::ToolResult(result)
        }
        Some(_) if role == Role::Tool => return Err(place.invalid("must be a tool result in a message of role tool")),
        Some(Kind::ToolResult(_)) => return Err(place.invalid("belongs to a message of role tool")),
        Some(Kind::Text(text)) => Content::Text(&text.text, &text.citations),
        Some(Kind::Raw(raw)) if rules.owns(raw) => Content::Raw(raw),
        // What a model answered in a form of its provider's own, the next one can answer without.
        Some(Kind::Raw(_)) if is_model => return rules.lack(place.key("raw")).map(|()| None),
        Some(Kind::Raw(_)) => return rules.lack_content(place.key("raw")).map(|()| None),
        Some(Kind::Media(_)) if is_instruction => return rules.lack_content(place.key("media")).map(|()| None),
        Some(Kind::Media(media)) => Content::Media(media),
        Some(Kind::ToolCall(call)) if is_model => Content::ToolCall(call),
        Some(Kind::Reasoning(reasoning)) if is_model => Content::Reasoning(reasoning),
        Some(Kind::Refusal(refusal)) if is_model => Content::Refusal(refusal),
        Some(Kind::ToolCall(_) | Kind::Reasoning(_) | Kind::Refusal(_)) => {
            return Err(place.invalid("belongs to a message of role assistant"));
        }
    };
    Ok(Some(Said { content, cache_hint: part.cache_hint.as_ref(), place }))
}
