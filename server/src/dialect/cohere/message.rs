//! Messages of the contract as Cohere's chat has them.

use std::borrow::Cow;

use flowgate_proto::v1::{MediaKind, MediaPart, Role, ToolResultPart, media_part::Source};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use super::citations::CitationOut;
use crate::dialect::{
    functions::CallOut,
    json::{At, Fields, read, text},
    media,
    params::Rules,
    turns::{self, Content, Place, ResultPart, Said},
};
use crate::error::{Error, Result};

/// One message on the wire.
#[derive(Debug, Default)]
pub(super) struct MessageOut<'a> {
    role: &'static str,
    tool_call_id: &'a str,
    content: Vec<PartOut<'a>>,
    /// Reasoning that comes before calls.
    tool_plan: String,
    tool_calls: Vec<CallOut<'a>>,
    citations: Vec<CitationOut<'a>>,
    /// Further fields, from raw parts.
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
}

/// One entry of a content list.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum PartOut<'a> {
    Text {
        text: Cow<'a, str>,
    },
    Thinking {
        thinking: &'a str,
    },
    ImageUrl {
        image_url: ImageUrl<'a>,
    },
    #[serde(untagged)]
    Raw(&'a RawValue),
}

#[derive(Debug, Serialize)]
struct ImageUrl<'a> {
    url: Cow<'a, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

impl Serialize for MessageOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("role", self.role)?;
        if !self.tool_call_id.is_empty() {
            map.serialize_entry("tool_call_id", self.tool_call_id)?;
        }
        if !self.tool_plan.is_empty() {
            map.serialize_entry("tool_plan", &self.tool_plan)?;
        }
        match self.content.as_slice() {
            // A message whose only content is calls has none at all.
            [] if !self.tool_calls.is_empty() => {}
            [] => map.serialize_entry("content", "")?,
            [PartOut::Text { text }] => map.serialize_entry("content", text)?,
            parts => map.serialize_entry("content", parts)?,
        }
        if !self.tool_calls.is_empty() {
            map.serialize_entry("tool_calls", &self.tool_calls)?;
        }
        if !self.citations.is_empty() {
            map.serialize_entry("citations", &self.citations)?;
        }
        self.fields.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
        map.end()
    }
}

/// The messages of a request. A message of tool results becomes one for each result.
pub(super) fn lower_all<'a>(spoken: &[(Role, Vec<Said<'a>>)], rules: Rules<'_>) -> Result<Vec<MessageOut<'a>>> {
    let mut lowered = Vec::with_capacity(spoken.len());
    for (role, said) in spoken {
        let role = match role {
            Role::System | Role::Developer => "system",
            Role::Assistant => "assistant",
            Role::User | Role::Unspecified => "user",
            Role::Tool => {
                for one in said {
                    lowered.extend(result_of(one, rules)?);
                }
                continue;
            }
        };
        let has_calls = said.iter().any(|said| matches!(said.content, Content::ToolCall(_)));
        let mut message = MessageOut { role, ..MessageOut::default() };
        for one in said {
            one.refuse_hint(rules)?;
            message.add(one, has_calls, rules)?;
        }
        lowered.push(message);
    }
    Ok(lowered)
}

impl<'a> MessageOut<'a> {
    fn add(&mut self, said: &Said<'a>, has_calls: bool, rules: Rules<'_>) -> Result<()> {
        let place = said.place;
        match said.content {
            // The provider refuses empty content, which clients like to write beside calls.
            Content::Text("", []) => {}
            Content::Text(said, citations) => {
                let content_index = self.content.len();
                self.content.push(PartOut::Text { text: said.into() });
                if self.role == "assistant" {
                    self.citations.extend(citations.iter().map(|citation| CitationOut::Made { said, citation, content_index }));
                } else if !citations.is_empty() {
                    rules.lack(place.key("text.citations"))?;
                }
            }
            Content::Media(part) => self.content.extend(image(part, place, rules)?),
            Content::ToolCall(call) => {
                if !call.signature.is_empty() {
                    rules.lack(place.key("tool_call.signature"))?;
                }
                self.tool_calls.push(CallOut::from(call));
            }
            Content::Reasoning(reasoning) => {
                if !reasoning.signature.is_empty() {
                    rules.lack(place.key("reasoning.signature"))?;
                }
                if !reasoning.redacted.is_empty() {
                    rules.lack(place.key("reasoning.redacted"))?;
                }
                match &*reasoning.text {
                    "" => {}
                    plan if has_calls => self.tool_plan.push_str(plan),
                    thinking => self.content.push(PartOut::Thinking { thinking }),
                }
            }
            Content::Raw(raw) => {
                let field = place.key("raw");
                let at = At::Root.key(&field);
                self.add_raw(text(&raw.json, at.key("json"))?, at.key("json"))?;
            }
            Content::Refusal(_) => rules.lack(place.key("refusal"))?,
            Content::ToolResult(_) => return Err(place.invalid("belongs to a message of role tool")),
        }
        Ok(())
    }

    /// An object with a `type` is content; any other holds fields of the message.
    fn add_raw(&mut self, json: &'a RawValue, at: At<'_>) -> Result<()> {
        const WRITTEN: [&str; 5] = ["role", "content", "tool_plan", "tool_calls", "tool_call_id"];
        let fields: Fields<'_> = read(json, at)?;
        if fields.get("type").is_some() {
            self.content.push(PartOut::Raw(json));
            return Ok(());
        }
        for (name, value) in fields.0 {
            if WRITTEN.contains(&&*name) || self.fields.iter().any(|(known, _)| *known == name) {
                return Err(at.invalid("holds a field that the message has already; use the part that the contract has for it"));
            }
            if name == "citations" {
                self.citations.extend(read::<Vec<&RawValue>>(value, at)?.into_iter().map(CitationOut::Raw));
            } else {
                self.fields.push((name, value));
            }
        }
        Ok(())
    }
}

/// A tool's result as a message of its own. Its texts are one, with nothing between them, unless something raw stands there.
fn result_of<'a>(said: &Said<'a>, rules: Rules<'_>) -> Result<Option<MessageOut<'a>>> {
    let Content::ToolResult(ToolResultPart { tool_call_id, parts, is_error }) = said.content else { return Ok(None) };
    said.refuse_hint(rules)?;
    if *is_error {
        rules.lack(said.place.key("tool_result.is_error"))?;
    }
    let mut message = MessageOut { role: "tool", tool_call_id, ..MessageOut::default() };
    let field = said.place.key("tool_result.parts");
    let all = At::Root.key(&field);
    for (n, part) in parts.iter().enumerate() {
        let at = all.index(n);
        match turns::result_part(part, rules, at)? {
            None => {}
            Some(ResultPart::Text(text)) => match message.content.last_mut() {
                Some(PartOut::Text { text: before }) => before.to_mut().push_str(text),
                _ => message.content.push(PartOut::Text { text: text.into() }),
            },
            Some(ResultPart::Raw(raw)) => message.content.push(PartOut::Raw(text(&raw.json, at.key("raw").key("json"))?)),
            Some(ResultPart::Media(_)) => rules.lack(at.key("media"))?,
        }
    }
    Ok(Some(message))
}

fn image<'a>(part: &'a MediaPart, place: Place, rules: Rules<'_>) -> Result<Option<PartOut<'a>>> {
    let field = place.key("media");
    let at = At::Root.key(&field);
    let (kind, source) = media::read(part, at)?;
    if kind != MediaKind::Image {
        return rules.lack(at).map(|()| None);
    }
    if !part.file_name.is_empty() {
        rules.lack(at.key("file_name"))?;
    }
    let url = match source {
        Source::Data(bytes) => Cow::Owned(media::data_uri(&part.mime_type, bytes)),
        Source::Uri(uri) => Cow::Borrowed(uri.as_str()),
        Source::FileId(_) => return rules.lack(at.key("file_id")).map(|()| None),
    };
    if !["", "auto", "low", "high"].contains(&&*part.detail) {
        return Err(Error::invalid(at.key("detail").to_string(), "must be `auto`, `low` or `high`"));
    }
    Ok(Some(PartOut::ImageUrl { image_url: ImageUrl { url, detail: &part.detail } }))
}
