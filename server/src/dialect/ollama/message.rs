//! Messages of the contract as Ollama's chat has them: each is one text with images before it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use flowgate_proto::v1::{MediaKind, MediaPart, RawPart, Role, ToolResultPart, media_part::Source};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    dialect::{
        json::{At, Fields, read, text},
        media,
        params::Rules,
        signature::leave,
        tools,
        turns::{self, Content, Place, ResultPart, Said},
    },
    error::Result,
};

/// One message on the wire.
#[derive(Debug, Default, Serialize)]
pub(super) struct MessageOut<'a> {
    role: &'static str,
    content: Cow<'a, str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    thinking: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallOut<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    tool_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    tool_call_id: &'a str,
    /// Further fields, from raw parts.
    #[serde(flatten)]
    fields: BTreeMap<Cow<'a, str>, &'a RawValue>,
}

#[derive(Debug, Serialize)]
struct CallOut<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    function: Called<'a>,
}

#[derive(Debug, Serialize)]
struct Called<'a> {
    name: &'a str,
    arguments: &'a RawValue,
}

/// The messages of a request. What says more than one text becomes several messages, so that texts and images keep their order; `called` are
/// the tools' names by the ids of calls.
pub(super) fn lower_all<'a>(
    spoken: &[(Role, Vec<Said<'a>>)],
    called: &HashMap<&'a str, &'a str>,
    rules: Rules<'_>,
) -> Result<Vec<MessageOut<'a>>> {
    let mut lowered = Vec::with_capacity(spoken.len());
    for (role, said) in spoken {
        match role {
            Role::System | Role::Developer => plain("system", said, rules, &mut lowered)?,
            Role::User | Role::Unspecified => plain("user", said, rules, &mut lowered)?,
            Role::Assistant => lowered.push(assistant(said, rules)?),
            Role::Tool => {
                for one in said {
                    lowered.extend(result_of(one, called, rules)?);
                }
            }
        }
    }
    Ok(lowered)
}

/// What is said with texts and images only.
fn plain<'a>(role: &'static str, said: &[Said<'a>], rules: Rules<'_>, out: &mut Vec<MessageOut<'a>>) -> Result<()> {
    let mut message = MessageOut { role, ..MessageOut::default() };
    for one in said {
        one.refuse_hint(rules)?;
        let is_full = !message.content.is_empty();
        match one.content {
            Content::Text(text, citations) => {
                turns::leave_citations(citations, false, rules, one.place)?;
                if is_full {
                    out.push(std::mem::replace(&mut message, MessageOut { role, ..MessageOut::default() }));
                }
                message.content = text.into();
            }
            Content::Media(part) => {
                let Some(image) = image(part, one.place, rules)? else { continue };
                if is_full {
                    out.push(std::mem::replace(&mut message, MessageOut { role, ..MessageOut::default() }));
                }
                message.images.push(image);
            }
            Content::Raw(_) => rules.lack_content(one.place.key("raw"))?,
            _ => return Err(one.place.invalid("does not belong to a message of this role")),
        }
    }
    out.push(message);
    Ok(())
}

fn assistant<'a>(said: &[Said<'a>], rules: Rules<'_>) -> Result<MessageOut<'a>> {
    let mut message = MessageOut { role: "assistant", ..MessageOut::default() };
    for one in said {
        one.refuse_hint(rules)?;
        let place = one.place;
        match one.content {
            // Where an answer's text is from has no place: see `turns::leave_citations`.
            Content::Text(text, _) => message.say(text),
            Content::Media(part) => message.images.extend(image(part, place, rules)?),
            Content::ToolCall(call) => {
                leave(&call.signature, rules, place.key("tool_call.signature"))?;
                let function = Called { name: &call.name, arguments: tools::object_arguments(call, place)? };
                message.tool_calls.push(CallOut { id: &call.id, function });
            }
            Content::Reasoning(reasoning) => {
                turns::leave_sealed(reasoning, rules, place)?;
                message.thinking.push_str(&reasoning.text);
            }
            Content::Raw(raw) => message.add_raw(raw, place)?,
            // What the model declined with is text to it.
            Content::Refusal(refusal) => message.say(&refusal.text),
            Content::ToolResult(_) => return Err(place.invalid("belongs to a message of role tool")),
        }
    }
    Ok(message)
}

/// A tool's result as a message of its own.
fn result_of<'a>(said: &Said<'a>, called: &HashMap<&'a str, &'a str>, rules: Rules<'_>) -> Result<Option<MessageOut<'a>>> {
    let Content::ToolResult(ToolResultPart { tool_call_id, parts, is_error }) = said.content else { return Ok(None) };
    said.refuse_hint(rules)?;
    if *is_error {
        rules.lack(said.place.key("tool_result.is_error"))?;
    }
    let tool_name = called.get(&**tool_call_id).copied().unwrap_or_default();
    let mut message = MessageOut { role: "tool", tool_name, tool_call_id, ..MessageOut::default() };
    let field = said.place.key("tool_result.parts");
    let all = At::Root.key(&field);
    for (n, part) in parts.iter().enumerate() {
        let at = all.index(n);
        match turns::result_part(part, rules, at)? {
            None => {}
            Some(ResultPart::Text(text)) => message.say(text),
            Some(ResultPart::Raw(_)) => rules.lack_content(at.key("raw"))?,
            Some(ResultPart::Media(_)) => rules.lack_content(at.key("media"))?,
        }
    }
    Ok(Some(message))
}

impl<'a> MessageOut<'a> {
    fn say(&mut self, text: &'a str) {
        if self.content.is_empty() {
            self.content = text.into();
        } else {
            self.content.to_mut().push_str(text);
        }
    }

    /// Fields that an answer's message had beside those that the contract knows.
    fn add_raw(&mut self, raw: &'a RawPart, place: Place) -> Result<()> {
        const WRITTEN: [&str; 7] = ["role", "content", "thinking", "images", "tool_calls", "tool_name", "tool_call_id"];
        let field = place.key("raw.json");
        let at = At::Root.key(&field);
        let fields: Fields<'_> = read(text(&raw.json, at)?, at)?;
        if fields.0.iter().any(|(name, _)| WRITTEN.contains(&&**name)) {
            return Err(at.invalid("holds a field that the message has already; use the part that the contract has for it"));
        }
        self.fields.extend(fields.0);
        Ok(())
    }
}

/// An image as bare base64. The server fetches nothing.
fn image(part: &MediaPart, place: Place, rules: Rules<'_>) -> Result<Option<String>> {
    let field = place.key("media");
    let at = At::Root.key(&field);
    let (kind, source) = media::read(part, at)?;
    if kind != MediaKind::Image {
        return rules.lack_content(at).map(|()| None);
    }
    for (name, text) in [("file_name", &part.file_name), ("detail", &part.detail)] {
        if !text.is_empty() {
            rules.lack(at.key(name))?;
        }
    }
    match source {
        Source::Data(bytes) => Ok(Some(media::base64(bytes))),
        Source::Uri(uri) => match media::of_data_uri(uri) {
            Some((_, bytes)) => Ok(Some(media::base64(&bytes))),
            None => rules.unfetched(at.key("uri")).map(|()| None),
        },
        Source::FileId(_) => rules.lack_content(at.key("file_id")).map(|()| None),
    }
}
