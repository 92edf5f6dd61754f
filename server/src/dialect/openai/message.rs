//! Messages of the contract as OpenAI writes them, in requests and in answers. The way back is `parts`.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flowgate_proto::v1::{Citation, MediaKind, MediaPart, Message, Part, RawPart, Role, ToolResultPart, media_part::Source, part::Kind};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use super::quirks::tool_id;
use crate::dialect::json::{At, Fields, Rest, read, text};
use crate::dialect::{
    Habit,
    functions::CalledOut,
    params::Rules,
    signature::{Family, leave},
};
use crate::dialect::{media, turns};
use crate::error::{Error, Result};

/// The protocol's name in raw parts.
pub(in crate::dialect) const PROTOCOL: &str = "openai";

/// One message on the wire.
#[derive(Debug, Default)]
pub(super) struct MessageOut<'a> {
    pub(super) role: &'static str,
    pub(super) name: &'a str,
    pub(super) content: Vec<PartOut<'a>>,
    pub(super) refusal: String,
    pub(super) reasoning: String,
    pub(super) tool_calls: Vec<ToolCallOut<'a>>,
    pub(super) tool_call_id: Cow<'a, str>,
    pub(super) annotations: Vec<AnnotationOut<'a>>,
    /// Media of an answer, which OpenAI's own answers never have.
    pub(super) images: Vec<PartOut<'a>>,
    /// Further fields, from raw parts; lists of several parts become one.
    pub(super) fields: BTreeMap<Cow<'a, str>, Vec<&'a RawValue>>,
    /// Whether it stands in an answer: content is then one string or null, and `refusal` always there.
    pub(super) is_answer: bool,
    /// Whether several texts are written as one.
    pub(super) is_flat: bool,
}

/// One entry of a content list.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum PartOut<'a> {
    Text {
        text: &'a str,
    },
    ImageUrl {
        image_url: ImageUrl<'a>,
    },
    InputAudio {
        input_audio: InputAudio<'a>,
    },
    File {
        file: FileOut<'a>,
    },
    #[serde(untagged)]
    Raw(&'a RawValue),
}

#[derive(Debug, Serialize)]
pub(super) struct ImageUrl<'a> {
    url: Cow<'a, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

#[derive(Debug, Serialize)]
pub(super) struct InputAudio<'a> {
    data: String,
    format: &'a str,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct FileOut<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    file_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    filename: Cow<'a, str>,
}

/// One entry of `tool_calls`.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum ToolCallOut<'a> {
    Function {
        id: Cow<'a, str>,
        r#type: &'static str,
        function: CalledOut<'a>,
        #[serde(skip_serializing_if = "str::is_empty")]
        thought_signature: &'a str,
    },
    Raw(&'a RawValue),
}

/// One entry of `annotations`.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum AnnotationOut<'a> {
    Url { r#type: &'static str, url_citation: UrlCitation<'a> },
    Raw(&'a RawValue),
}

#[derive(Debug, Serialize)]
pub(super) struct UrlCitation<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_index: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_index: Option<u32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    title: &'a str,
    url: &'a str,
}

/// A raw part by the place it has on the wire.
pub(super) enum Placed<'a> {
    /// An entry of the content.
    Content(&'a RawValue),
    /// An entry of `tool_calls`.
    ToolCall(&'a RawValue),
    /// Fields of the message.
    Fields(Rest<'a>),
}

impl<'a> PartOut<'a> {
    fn is_text(&self) -> bool {
        matches!(self, Self::Text { .. })
    }
}

impl<'a> AnnotationOut<'a> {
    pub(super) fn of(citation: &'a Citation) -> Self {
        let Citation { uri, title, start, end, quote } = citation;
        let url_citation = UrlCitation { content: quote, end_index: *end, start_index: *start, title, url: uri };
        Self::Url { r#type: "url_citation", url_citation }
    }
}

impl Serialize for MessageOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("role", self.role)?;
        put_text(&mut map, "name", self.name)?;
        put_text(&mut map, "tool_call_id", &self.tool_call_id)?;
        self.put_content(&mut map)?;
        if self.is_answer && self.refusal.is_empty() {
            map.serialize_entry("refusal", &())?;
        }
        put_text(&mut map, "refusal", &self.refusal)?;
        put_text(&mut map, "reasoning_content", &self.reasoning)?;
        put_list(&mut map, "annotations", &self.annotations)?;
        put_list(&mut map, "images", &self.images)?;
        put_list(&mut map, "tool_calls", &self.tool_calls)?;
        for (name, values) in &self.fields {
            let lists: Option<Vec<Vec<&RawValue>>> = values.iter().map(|value| serde_json::from_str(value.get()).ok()).collect();
            match (values.as_slice(), lists) {
                ([_, _, ..], Some(lists)) => map.serialize_entry(name, &lists.concat())?,
                (values, _) => map.serialize_entry(name, &values.last())?,
            }
        }
        map.end()
    }
}

impl MessageOut<'_> {
    fn put_content<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let speaks_otherwise = !(self.tool_calls.is_empty() && self.refusal.is_empty() && self.reasoning.is_empty());
        match self.content.as_slice() {
            [] if self.is_answer || (self.role == "assistant" && speaks_otherwise) => map.serialize_entry("content", &()),
            [] => map.serialize_entry("content", ""),
            [PartOut::Text { text }] => map.serialize_entry("content", text),
            parts if (self.is_answer || self.is_flat) && parts.iter().all(PartOut::is_text) => {
                let texts = parts.iter().map(|part| if let PartOut::Text { text } = part { text } else { "" });
                map.serialize_entry("content", &texts.collect::<String>())
            }
            parts => map.serialize_entry("content", parts),
        }
    }
}

fn put_text<M: SerializeMap>(map: &mut M, name: &str, text: &str) -> Result<(), M::Error> {
    if text.is_empty() { Ok(()) } else { map.serialize_entry(name, text) }
}

fn put_list<M: SerializeMap, T: Serialize>(map: &mut M, name: &str, list: &[T]) -> Result<(), M::Error> {
    if list.is_empty() { Ok(()) } else { map.serialize_entry(name, list) }
}

/// The messages of a request. A message of tool results becomes one for each result; one of the model's of which nothing is left, none.
pub(super) fn lower_all<'a>(messages: &'a [Message], rules: Rules<'_>) -> Result<Vec<MessageOut<'a>>> {
    if messages.is_empty() {
        return Err(Error::invalid("messages", "must hold at least one message"));
    }
    let all = At::Root.key("messages");
    let mut lowered = Vec::with_capacity(messages.len());
    for (n, message) in messages.iter().enumerate() {
        lower(message, rules, all.index(n), &mut lowered)?;
    }
    if lowered.is_empty() {
        return Err(Error::invalid("messages", "must hold a message of which this provider takes something"));
    }
    Ok(lowered)
}

/// The word for a role.
pub(super) fn role_word(message: &Message, at: At<'_>) -> Result<&'static str> {
    Ok(match turns::role(message, at)? {
        Role::Unspecified | Role::User => "user",
        Role::System => "system",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
        Role::Developer => "developer",
    })
}

fn lower<'a>(message: &'a Message, rules: Rules<'_>, at: At<'_>, out: &mut Vec<MessageOut<'a>>) -> Result<()> {
    let quirks = rules.target.quirks;
    let role = match role_word(message, at)? {
        "developer" if quirks.has(Habit::NoDeveloper) => "system",
        role => role,
    };
    if !message.text.is_empty() && !message.parts.is_empty() {
        return Err(at.invalid("has both `text` and `parts`; use one of them"));
    }
    let parts = at.key("parts");
    if role == "tool" {
        for (n, part) in message.parts.iter().enumerate() {
            let Some(Kind::ToolResult(result)) = &part.kind else {
                return Err(parts.index(n).invalid("must be a tool result in a message of role tool"));
            };
            refuse_hint(part, rules, parts.index(n))?;
            out.push(tool_result(result, &message.name, rules, parts.index(n).key("tool_result"))?);
        }
        if message.parts.is_empty() {
            return Err(at.invalid("must hold tool results in a message of role tool"));
        }
        return Ok(());
    }
    let has_name = message.name.is_empty() || rules.takes("name", at.key("name"))?;
    let name = if has_name { &message.name } else { "" };
    let mut lowered = MessageOut { role, name, is_flat: quirks.has(Habit::FlatContent), ..MessageOut::default() };
    if !message.text.is_empty() {
        lowered.content.push(PartOut::Text { text: &message.text });
    }
    for (n, part) in message.parts.iter().enumerate() {
        lowered.add(part, rules, parts.index(n))?;
    }
    if quirks.lacks.contains(&"annotations") {
        lowered.annotations.clear();
    }
    // Some refuse a message of the model's that says nothing. Only these parts are ever left out of one.
    let may_be_left_out = |part: &Part| matches!(part.kind, Some(Kind::Reasoning(_) | Kind::Raw(_)));
    if role != "assistant" || !lowered.says_nothing() || !message.parts.iter().any(may_be_left_out) {
        out.push(lowered);
    }
    Ok(())
}

fn refuse_hint(part: &Part, rules: Rules<'_>, at: At<'_>) -> Result<()> {
    if part.cache_hint.is_some() { rules.lack(at.key("cache_hint")) } else { Ok(()) }
}

fn tool_result<'a>(result: &'a ToolResultPart, name: &'a str, rules: Rules<'_>, at: At<'_>) -> Result<MessageOut<'a>> {
    let is_flat = rules.target.quirks.has(Habit::FlatContent);
    let mut lowered = MessageOut {
        role: "tool",
        name,
        tool_call_id: tool_id(&result.tool_call_id, rules.target.quirks),
        is_flat,
        ..MessageOut::default()
    };
    if result.tool_call_id.is_empty() {
        return Err(at.key("tool_call_id").invalid("is required"));
    }
    if result.is_error {
        rules.lack(at.key("is_error"))?;
    }
    let parts = at.key("parts");
    for (n, part) in result.parts.iter().enumerate() {
        let at = parts.index(n);
        match &part.kind {
            Some(Kind::Text(_) | Kind::Raw(_)) => lowered.add(part, rules, at)?,
            Some(Kind::Media(_)) => rules.lack_content(at.key("media"))?,
            _ => return Err(at.invalid("must be text or media in a tool result")),
        }
    }
    Ok(lowered)
}

impl<'a> MessageOut<'a> {
    fn add(&mut self, part: &'a Part, rules: Rules<'_>, at: At<'_>) -> Result<()> {
        refuse_hint(part, rules, at)?;
        let is_assistant = self.role == "assistant";
        match &part.kind {
            None => return Err(at.invalid("holds nothing; set exactly one kind")),
            Some(Kind::Text(text)) => {
                self.content.push(PartOut::Text { text: &text.text });
                if is_assistant {
                    self.annotations.extend(text.citations.iter().map(AnnotationOut::of));
                } else if !text.citations.is_empty() {
                    rules.lack(at.key("text").key("citations"))?;
                }
            }
            Some(Kind::Media(_)) if self.is_flat => rules.lack_content(at.key("media"))?,
            Some(Kind::Media(media)) => self.content.extend(lower_media(media, rules, at.key("media"))?),
            Some(Kind::ToolCall(call)) if is_assistant => {
                let signature = Family::of(rules.target).read(&call.signature).own();
                let is_sent = signature.is_empty() || rules.takes("thought_signature", at.key("tool_call").key("signature"))?;
                let id = tool_id(&call.id, rules.target.quirks);
                self.tool_calls.push(tool_call(call, id, if is_sent { signature } else { "" }));
            }
            Some(Kind::Reasoning(reasoning)) if is_assistant => {
                let at = at.key("reasoning");
                leave(&reasoning.signature, rules, at.key("signature"))?;
                leave(&reasoning.redacted, rules, at.key("redacted"))?;
                if !rules.target.quirks.lacks.contains(&"reasoning_content") {
                    self.reasoning.push_str(&reasoning.text);
                }
            }
            Some(Kind::Refusal(refusal)) if is_assistant && rules.target.quirks.lacks.contains(&"refusal") => {
                self.content.push(PartOut::Text { text: &refusal.text });
            }
            Some(Kind::Refusal(refusal)) if is_assistant => self.refusal.push_str(&refusal.text),
            Some(Kind::Raw(raw)) if is_assistant && turns::is_remark(raw) => {}
            Some(Kind::Raw(raw)) if rules.owns(raw) => {
                self.place(raw_part(raw, at.key("raw").key("json"))?, at)?;
            }
            Some(Kind::Raw(_)) if is_assistant => rules.lack(at.key("raw"))?,
            Some(Kind::Raw(_)) => rules.lack_content(at.key("raw"))?,
            Some(Kind::ToolResult(_)) => return Err(at.invalid("belongs to a message of role tool")),
            Some(Kind::ToolCall(_) | Kind::Reasoning(_) | Kind::Refusal(_)) => {
                return Err(at.invalid("belongs to a message of role assistant"));
            }
        }
        Ok(())
    }

    fn says_nothing(&self) -> bool {
        let Self { content, refusal, reasoning, tool_calls, annotations, fields, .. } = self;
        content.iter().all(|part| matches!(part, PartOut::Text { text: "" }))
            && refusal.is_empty()
            && reasoning.is_empty()
            && tool_calls.is_empty()
            && annotations.is_empty()
            && fields.is_empty()
    }

    fn place(&mut self, placed: Placed<'a>, at: At<'_>) -> Result<()> {
        const WRITTEN: [&str; 7] = ["role", "name", "content", "refusal", "reasoning_content", "tool_calls", "tool_call_id"];
        match placed {
            Placed::Content(part) => self.content.push(PartOut::Raw(part)),
            Placed::ToolCall(call) => self.tool_calls.push(ToolCallOut::Raw(call)),
            Placed::Fields(fields) => {
                for (name, value) in fields {
                    if WRITTEN.contains(&name.as_ref()) {
                        return Err(at.key("raw").key("json").invalid("holds a field that a part of the contract has; use that part"));
                    }
                    if name == "annotations" {
                        self.annotations.extend(read::<Vec<&RawValue>>(value, at)?.into_iter().map(AnnotationOut::Raw));
                    } else {
                        self.fields.entry(name).or_default().push(value);
                    }
                }
            }
        }
        Ok(())
    }
}

fn tool_call<'a>(call: &'a flowgate_proto::v1::ToolCallPart, id: Cow<'a, str>, thought_signature: &'a str) -> ToolCallOut<'a> {
    ToolCallOut::Function { id, r#type: "function", function: call.into(), thought_signature }
}

/// Where the JSON of a raw part belongs: an object with a `type` is content, one of type `custom` a tool call, any other holds fields.
pub(super) fn raw_part<'a>(raw: &'a RawPart, at: At<'_>) -> Result<Placed<'a>> {
    let json = text(&raw.json, at)?;
    let fields: Fields<'_> = read(json, at)?;
    Ok(match fields.get("type").map(RawValue::get) {
        Some("\"custom\"") => Placed::ToolCall(json),
        Some(_) => Placed::Content(json),
        None => Placed::Fields(fields.0),
    })
}

/// The message of an answer. What OpenAI's answers have no place for (another provider's raw parts, signatures) is left out.
pub(super) fn answer(message: &Message) -> MessageOut<'_> {
    let mut out = MessageOut { role: "assistant", is_answer: true, ..MessageOut::default() };
    if !message.text.is_empty() {
        out.content.push(PartOut::Text { text: &message.text });
    }
    for part in &message.parts {
        match &part.kind {
            Some(Kind::Text(text)) => {
                out.content.push(PartOut::Text { text: &text.text });
                out.annotations.extend(text.citations.iter().map(AnnotationOut::of));
            }
            Some(Kind::Media(media)) => out.images.extend(answer_media(media)),
            Some(Kind::ToolCall(call)) => out.tool_calls.push(tool_call(call, Cow::Borrowed(&call.id), &call.signature)),
            Some(Kind::Reasoning(reasoning)) => out.reasoning.push_str(&reasoning.text),
            Some(Kind::Refusal(refusal)) => out.refusal.push_str(&refusal.text),
            Some(Kind::Raw(raw)) if raw.provider == PROTOCOL => {
                if let Ok(placed) = raw_part(raw, At::Root) {
                    // A field that cannot be placed is one that the message has already.
                    drop(out.place(placed, At::Root));
                }
            }
            Some(Kind::Raw(_) | Kind::ToolResult(_)) | None => {}
        }
    }
    out
}

/// A media part of an answer.
pub(super) fn answer_media(media: &MediaPart) -> Option<PartOut<'_>> {
    let source = media.source.as_ref()?;
    Some(match media::kind_of(media, source) {
        MediaKind::Audio if matches!(source, Source::Data(_)) => audio(media, source)?,
        MediaKind::Document => file(media, source)?,
        _ => image(media, source),
    })
}

fn lower_media<'a>(part: &'a MediaPart, rules: Rules<'_>, at: At<'_>) -> Result<Option<PartOut<'a>>> {
    let (kind, source) = media::read(part, at)?;
    if !part.detail.is_empty() && kind != MediaKind::Image {
        rules.lack(at.key("detail"))?;
    }
    if !part.file_name.is_empty() && kind != MediaKind::Document {
        rules.lack(at.key("file_name"))?;
    }
    let wire = match (kind, source) {
        (MediaKind::Image, Source::Data(_) | Source::Uri(_)) => "image_url",
        (MediaKind::Audio, Source::Data(_)) => "input_audio",
        _ => "file",
    };
    if !rules.takes_content(wire, at)? {
        return Ok(None);
    }
    match (kind, source) {
        (MediaKind::Image, Source::Uri(uri)) if !rules.target.quirks.fetches_media && !uri.starts_with("data:") => {
            rules.unfetched(at.key("uri")).map(|()| None)
        }
        (MediaKind::Image, Source::Data(_) | Source::Uri(_)) => Ok(Some(image(part, source))),
        (MediaKind::Audio, Source::Data(_)) => Ok(audio(part, source)),
        (MediaKind::Audio | MediaKind::Document, Source::Uri(_)) => rules.unfetched(at.key("uri")).map(|()| None),
        (MediaKind::Document, _) | (MediaKind::Image | MediaKind::Audio, Source::FileId(_)) => Ok(file(part, source)),
        (MediaKind::Video | MediaKind::Unspecified, _) => rules.lack_content(at).map(|()| None),
    }
}

fn image<'a>(media: &'a MediaPart, source: &'a Source) -> PartOut<'a> {
    let url = match source {
        Source::Data(bytes) => Cow::Owned(media::data_uri(&media.mime_type, bytes)),
        Source::Uri(uri) | Source::FileId(uri) => Cow::Borrowed(uri.as_str()),
    };
    PartOut::ImageUrl { image_url: ImageUrl { url, detail: &media.detail } }
}

fn audio<'a>(media: &'a MediaPart, source: &'a Source) -> Option<PartOut<'a>> {
    let Source::Data(bytes) = source else { return None };
    let subtype = media.mime_type.split(';').next().unwrap_or_default().trim().strip_prefix("audio/").unwrap_or(&media.mime_type);
    let format = match subtype {
        "mpeg" | "mp3" => "mp3",
        "wav" | "x-wav" | "wave" | "vnd.wave" => "wav",
        other => other,
    };
    Some(PartOut::InputAudio { input_audio: InputAudio { data: STANDARD.encode(bytes), format } })
}

fn file<'a>(media: &'a MediaPart, source: &'a Source) -> Option<PartOut<'a>> {
    let file = match source {
        // The protocol's owner refuses bytes without a name.
        Source::Data(bytes) => {
            FileOut { file_data: Some(media::data_uri(&media.mime_type, bytes)), filename: media::file_name(media), ..FileOut::default() }
        }
        Source::FileId(id) => FileOut { file_id: id, filename: Cow::Borrowed(&media.file_name), ..FileOut::default() },
        Source::Uri(_) => return None,
    };
    Some(PartOut::File { file })
}
