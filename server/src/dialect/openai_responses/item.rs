//! Messages of the contract as input items. Items stand flat and in the order of the parts, so that reasoning comes before what it led to.

use std::borrow::Cow;

use flowgate_proto::v1::{
    Citation, MediaKind, MediaPart, Message, RawPart, ReasoningPart, Role, ToolCallPart, ToolResultPart, media_part::Source,
};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    dialect::{
        Habit,
        json::{At, Fields, read, text},
        media,
        params::Rules,
        signature::{Family, Signed, leave},
        turns::{self, Content, ResultPart, Said},
    },
    error::{Error, Result},
};

/// One entry of `input`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Item<'a> {
    Message {
        role: &'static str,
        content: Vec<Entry<'a>>,
    },
    FunctionCall {
        call_id: &'a str,
        name: &'a str,
        arguments: &'a str,
    },
    FunctionCallOutput {
        call_id: &'a str,
        output: Output<'a>,
    },
    Reasoning {
        /// Always there, though it may be empty.
        summary: Vec<Entry<'a>>,
        #[serde(skip_serializing_if = "str::is_empty")]
        encrypted_content: &'a str,
    },
    #[serde(untagged)]
    Raw(&'a RawValue),
}

/// One entry of a content list.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Entry<'a> {
    InputText {
        text: &'a str,
    },
    OutputText {
        text: &'a str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        annotations: Vec<Annotation<'a>>,
    },
    SummaryText {
        text: &'a str,
    },
    Refusal {
        refusal: &'a str,
    },
    InputImage(Image<'a>),
    InputFile(File<'a>),
    #[serde(untagged)]
    Raw(&'a RawValue),
}

/// What a tool returned.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Output<'a> {
    Text(&'a str),
    List(Vec<Entry<'a>>),
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Image<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    image_url: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    file_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct File<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    file_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    file_url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    filename: Cow<'a, str>,
}

/// A source of the text.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Annotation<'a> {
    UrlCitation {
        url: &'a str,
        title: &'a str,
        start_index: u32,
        end_index: u32,
    },
    #[serde(untagged)]
    Raw(&'a RawValue),
}

/// Where the JSON of a raw part belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Among the items.
    Item,
    /// In the content of a message.
    Entry,
    /// Beside the text before it.
    Annotation,
}

/// The items of a request.
///
/// # Errors
/// What the contract does not allow, and what the protocol lacks, by field.
pub(super) fn lower_all<'a>(messages: &'a [Message], rules: Rules<'_>) -> Result<Vec<Item<'a>>> {
    let mut items = Items { rules, all: Vec::with_capacity(messages.len()), open: Vec::new() };
    for (role, said) in turns::in_order(messages, rules)? {
        for said in said {
            items.add(role, said)?;
        }
        items.close(role);
    }
    if items.all.is_empty() {
        return Err(Error::invalid("messages", "must say something"));
    }
    Ok(items.all)
}

struct Items<'a, 'r> {
    rules: Rules<'r>,
    all: Vec<Item<'a>>,
    /// The content of the message that is being written.
    open: Vec<Entry<'a>>,
}

impl<'a> Items<'a, '_> {
    fn add(&mut self, role: Role, said: Said<'a>) -> Result<()> {
        let here = said.place.to_string();
        let at = At::Key(&At::Root, &here);
        if said.cache_hint.is_some() {
            self.rules.lack(at.key("cache_hint"))?;
        }
        let is_model = role == Role::Assistant;
        match said.content {
            Content::Text(words, citations) => self.open.extend(self.text(words, citations, is_model, at)?),
            Content::Refusal(refusal) => self.open.push(Entry::Refusal { refusal: &refusal.text }),
            // A model's message holds text only.
            Content::Media(_) if is_model => self.rules.lack_content(at.key("media"))?,
            Content::Media(part) => self.open.extend(media(part, self.rules, at.key("media"))?),
            Content::ToolCall(call) => self.put(role, tool_call(call, self.rules, at.key("tool_call"))?),
            Content::ToolResult(result) => self.put(role, tool_result(result, self.rules, at.key("tool_result"))?),
            Content::Reasoning(part) => {
                if let Some(item) = reasoning(part, self.rules, at.key("reasoning"))? {
                    self.put(role, item);
                }
            }
            Content::Raw(part) => self.raw(part, role, at.key("raw").key("json"))?,
        }
        Ok(())
    }

    fn text(&self, text: &'a str, citations: &'a [Citation], is_model: bool, at: At<'_>) -> Result<Option<Entry<'a>>> {
        turns::leave_citations(citations, is_model, self.rules, at)?;
        if text.is_empty() {
            return Ok(None);
        }
        if !is_model {
            return Ok(Some(Entry::InputText { text }));
        }
        Ok(Some(Entry::OutputText { text, annotations: citations.iter().filter_map(annotation).collect() }))
    }

    fn raw(&mut self, part: &'a RawPart, role: Role, at: At<'_>) -> Result<()> {
        match (raw(part, at)?, self.open.last_mut()) {
            ((json, Place::Annotation), Some(Entry::OutputText { annotations, .. })) => annotations.push(Annotation::Raw(json)),
            ((_, Place::Annotation), _) => return Err(at.invalid("is an annotation; put it after the text that it is of")),
            ((json, Place::Entry), _) => self.open.push(Entry::Raw(json)),
            ((json, Place::Item), _) => self.put(role, Item::Raw(json)),
        }
        Ok(())
    }

    /// An item of its own, after the message so far.
    fn put(&mut self, role: Role, item: Item<'a>) {
        self.close(role);
        self.all.push(item);
    }

    /// Ends the message so far. One that says nothing is no item: the provider refuses it.
    fn close(&mut self, role: Role) {
        if !self.open.is_empty() {
            self.all.push(Item::Message { role: word(role), content: std::mem::take(&mut self.open) });
        }
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::Assistant => "assistant",
        Role::User | Role::Tool | Role::Unspecified => "user",
    }
}

/// A source of an answer, if it says all that the protocol asks of one. What is quoted has no place.
fn annotation(citation: &Citation) -> Option<Annotation<'_>> {
    let Citation { uri, title, quote: _, start, end } = citation;
    let (start_index, end_index) = ((*start)?, (*end)?);
    (!uri.is_empty()).then_some(Annotation::UrlCitation { url: uri, title, start_index, end_index })
}

fn tool_call<'a>(call: &'a ToolCallPart, rules: Rules<'_>, at: At<'_>) -> Result<Item<'a>> {
    leave(&call.signature, rules, at.key("signature"))?;
    Ok(Item::FunctionCall { call_id: &call.id, name: &call.name, arguments: &call.arguments })
}

fn tool_result<'a>(result: &'a ToolResultPart, rules: Rules<'_>, at: At<'_>) -> Result<Item<'a>> {
    if result.is_error {
        rules.lack(at.key("is_error"))?;
    }
    let parts = at.key("parts");
    let mut list = Vec::with_capacity(result.parts.len());
    for (n, part) in result.parts.iter().enumerate() {
        let at = parts.index(n);
        match turns::result_part(part, rules, at)? {
            None => {}
            Some(ResultPart::Text(text)) => list.push(Entry::InputText { text }),
            Some(ResultPart::Media(part)) => list.extend(media(part, rules, at.key("media"))?),
            Some(ResultPart::Raw(part)) => list.push(Entry::Raw(raw(part, at.key("raw").key("json"))?.0)),
        }
    }
    let output = match list.as_slice() {
        [] => Output::Text(""),
        [Entry::InputText { text }] => Output::Text(text),
        _ => Output::List(list),
    };
    Ok(Item::FunctionCallOutput { call_id: &result.tool_call_id, output })
}

/// Reasoning as it is replayed: its text is the summary, its signature what only the provider can read. What another signed is left
/// out, and so is what nobody signed, but for those who think in the open: others take only what they can verify.
fn reasoning<'a>(part: &'a ReasoningPart, rules: Rules<'_>, at: At<'_>) -> Result<Option<Item<'a>>> {
    leave(&part.redacted, rules, at.key("redacted"))?;
    let encrypted_content = match Family::of(rules.target).read(&part.signature) {
        Signed::Foreign => return Ok(None),
        signed => signed.own(),
    };
    let takes_unsigned = rules.target.quirks.has(Habit::OpenReasoning) && !part.text.is_empty();
    if encrypted_content.is_empty() && !takes_unsigned {
        return Ok(None);
    }
    let summary = Some(Entry::SummaryText { text: &part.text }).filter(|_| !part.text.is_empty());
    Ok(Some(Item::Reasoning { summary: summary.into_iter().collect(), encrypted_content }))
}

/// The JSON of a raw part and where it belongs, by its type.
fn raw<'a>(part: &'a RawPart, at: At<'_>) -> Result<(&'a RawValue, Place)> {
    let json = text(&part.json, at)?;
    let fields: Fields<'_> = read(json, at)?;
    let kind = fields.get("type").map(|kind| kind.get().trim_matches('"')).unwrap_or_default();
    let is_entry = kind.starts_with("input_") || kind.starts_with("output_") || kind == "refusal";
    let place = match kind {
        _ if is_entry => Place::Entry,
        "file_path" => Place::Annotation,
        kind if kind.ends_with("_citation") => Place::Annotation,
        _ => Place::Item,
    };
    Ok((json, place))
}

fn media<'a>(part: &'a MediaPart, rules: Rules<'_>, at: At<'_>) -> Result<Option<Entry<'a>>> {
    let (kind, source) = media::read(part, at)?;
    if !part.detail.is_empty() && kind != MediaKind::Image {
        rules.lack(at.key("detail"))?;
    }
    if !part.file_name.is_empty() && kind != MediaKind::Document {
        rules.lack(at.key("file_name"))?;
    }
    let detail = part.detail.as_str();
    let data = |bytes| media::data_uri(&part.mime_type, bytes);
    Ok(Some(match (kind, source) {
        (MediaKind::Image, Source::FileId(id)) => Entry::InputImage(Image { file_id: id, detail, image_url: None }),
        (MediaKind::Image, Source::Uri(uri)) => {
            Entry::InputImage(Image { image_url: Some(Cow::Borrowed(uri)), detail, ..Image::default() })
        }
        (MediaKind::Image, Source::Data(bytes)) => {
            Entry::InputImage(Image { image_url: Some(Cow::Owned(data(bytes))), detail, ..Image::default() })
        }
        (MediaKind::Document, source) => {
            let filename = Cow::Borrowed(part.file_name.as_str());
            Entry::InputFile(match source {
                Source::FileId(id) => File { file_id: id, filename, ..File::default() },
                Source::Uri(uri) => File { file_url: uri, filename, ..File::default() },
                // The provider refuses bytes without a name.
                Source::Data(bytes) => File { file_data: Some(data(bytes)), filename: media::file_name(part), ..File::default() },
            })
        }
        (MediaKind::Audio | MediaKind::Video | MediaKind::Unspecified, _) => return rules.lack_content(at).map(|()| None),
    }))
}
