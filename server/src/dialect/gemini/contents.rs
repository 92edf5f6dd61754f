//! Messages of the contract as `contents`: turns of parts.
//!
//! Any part of an answer may carry a signature that must come back beside the very part it came with. Calls and thoughts have a field for
//! it. That of a text or of media stands before it as a reasoning part without text; where no such part follows, it belongs to an empty
//! text, which is what the API itself ends most streams with.
//!
//! Models of the third generation refuse a turn whose first call has no signature. One that is another model's, or whose signature the client
//! did not keep, gets the word by which Google lets such calls pass.

use std::{borrow::Cow, collections::HashMap};

use flowgate_proto::v1::{MediaPart, RawPart, ReasoningPart, ToolCallPart, ToolResultPart, media_part::Source};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use super::{Surface, candidate::FURTHER, request::may_check_calls};
use crate::dialect::json::{At, Fields, read, text};
use crate::dialect::params::Rules;
use crate::dialect::tools::object_arguments;
use crate::dialect::turns::{self, Content, Conversation, Place, ResultPart, Said, Speaker, Turn};
use crate::dialect::{Target, media};
use crate::error::{Error, Result};

/// What stands for the signature of a call that came without.
pub(super) const UNSIGNED: &str = "skip_thought_signature_validator";

/// One turn.
#[derive(Debug, Serialize)]
pub(super) struct TurnOut<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    role: &'static str,
    parts: Vec<PartOut<'a>>,
}

/// One part: what it holds, and the signature beside it.
#[derive(Debug)]
struct PartOut<'a> {
    holds: Holds<'a>,
    signature: &'a str,
}

#[derive(Debug)]
enum Holds<'a> {
    Text(&'a str),
    Thought(&'a str),
    Inline(Blob<'a>),
    File(FileOut<'a>),
    Call(CallOut<'a>),
    Response(ResponseOut<'a>),
    Raw(&'a RawValue),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    mime_type: Cow<'a, str>,
    data: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    display_name: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FileOut<'a> {
    file_uri: Cow<'a, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    mime_type: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    display_name: &'a str,
}

#[derive(Debug, Serialize)]
struct CallOut<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    name: &'a str,
    args: &'a RawValue,
}

#[derive(Debug, Serialize)]
struct ResponseOut<'a> {
    /// The call's place in the turn before: results are sent in the order of the calls.
    #[serde(skip)]
    rank: usize,
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    name: &'a str,
    response: Returned<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<PartOut<'a>>,
}

/// What a tool returned, as the object that the protocol wants.
#[derive(Debug)]
struct Returned<'a> {
    is_error: bool,
    value: Value<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Object(&'a RawValue),
    List(&'a RawValue),
    Text(&'a str),
    Texts(Vec<&'a str>),
}

impl Serialize for PartOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Holds::Raw(raw) = &self.holds {
            return raw.serialize(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        match &self.holds {
            Holds::Text(text) => map.serialize_entry("text", text)?,
            Holds::Thought(text) => {
                map.serialize_entry("text", text)?;
                map.serialize_entry("thought", &true)?;
            }
            Holds::Inline(blob) => map.serialize_entry("inlineData", blob)?,
            Holds::File(file) => map.serialize_entry("fileData", file)?,
            Holds::Call(call) => map.serialize_entry("functionCall", call)?,
            Holds::Response(response) => map.serialize_entry("functionResponse", response)?,
            Holds::Raw(_) => {}
        }
        if !self.signature.is_empty() {
            map.serialize_entry("thoughtSignature", self.signature)?;
        }
        map.end()
    }
}

impl Serialize for Returned<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Value::Object(object) if !self.is_error => object.serialize(serializer),
            value => serializer.collect_map([(if self.is_error { "error" } else { "result" }, value)]),
        }
    }
}

impl<'a> From<Holds<'a>> for PartOut<'a> {
    fn from(holds: Holds<'a>) -> Self {
        Self { holds, signature: "" }
    }
}

/// Lowers the turns of one conversation.
struct Writer<'a, 'r> {
    rules: Rules<'r>,
    surface: Surface,
    speaker: Speaker,
    /// The tools' names by the ids of the calls so far: some clients use an id again in a later turn.
    names: HashMap<&'a str, &'a str>,
    /// The ids of the calls in the last turn of the model's.
    calls: Vec<&'a str>,
}

/// What system and developer messages say.
pub(super) fn instruction<'a>(conversation: &Conversation<'a>, rules: Rules<'_>, surface: Surface) -> Result<Option<TurnOut<'a>>> {
    let mut writer = Writer::new(rules, surface);
    let parts = writer.parts(&conversation.instructions)?;
    Ok((!parts.is_empty()).then_some(TurnOut { role: "", parts }))
}

/// The turns.
pub(super) fn turns<'a>(conversation: &Conversation<'a>, rules: Rules<'_>, surface: Surface) -> Result<Vec<TurnOut<'a>>> {
    let mut writer = Writer::new(rules, surface);
    conversation.turns.iter().map(|turn| writer.turn(turn)).collect()
}

impl<'a, 'r> Writer<'a, 'r> {
    fn new(rules: Rules<'r>, surface: Surface) -> Self {
        Self { rules, surface, speaker: Speaker::User, names: HashMap::new(), calls: Vec::new() }
    }

    fn turn(&mut self, turn: &Turn<'a>) -> Result<TurnOut<'a>> {
        self.speaker = turn.speaker;
        let role = match turn.speaker {
            Speaker::User => "user",
            Speaker::Model => "model",
        };
        if turn.speaker == Speaker::Model {
            self.calls.clear();
        }
        let mut parts = self.parts(&turn.said)?;
        self.sign(&mut parts);
        parts.sort_by_key(|part| if let Holds::Response(response) = &part.holds { response.rank } else { usize::MAX });
        if parts.is_empty() {
            // The speakers must take turns, even if all of a turn was left out.
            parts.push(Holds::Text("").into());
        }
        Ok(TurnOut { role, parts })
    }

    /// The first call of a turn must be signed where the model checks that.
    fn sign(&self, parts: &mut [PartOut<'a>]) {
        let model = &self.rules.target.model;
        let first = parts.iter_mut().find(|part| matches!(part.holds, Holds::Call(_)));
        if let Some(call) = first.filter(|call| call.signature.is_empty() && may_check_calls(model)) {
            call.signature = UNSIGNED;
        }
    }

    fn parts(&mut self, said: &[Said<'a>]) -> Result<Vec<PartOut<'a>>> {
        let mut parts = Vec::with_capacity(said.len());
        let mut held = "";
        for said in said {
            if said.cache_hint.is_some() {
                self.rules.lack(said.place.key("cache_hint"))?;
            }
            // An empty text says nothing but that a signature is its own, and is refused by some models.
            let is_empty = |part: &PartOut<'_>| held.is_empty() && matches!(part.holds, Holds::Text(""));
            let lowered = self.part(said)?.filter(|part| !is_empty(part));
            let takes_held = matches!(&lowered, Some(PartOut { holds: Holds::Text(_) | Holds::Inline(_) | Holds::File(_), .. }));
            if !held.is_empty() && !takes_held && (lowered.is_some() || lone_signature(said).is_some()) {
                parts.push(PartOut { holds: Holds::Text(""), signature: std::mem::take(&mut held) });
            }
            if let Some(signature) = lone_signature(said) {
                held = signature;
            }
            parts.extend(lowered.map(|part| if takes_held { PartOut { signature: std::mem::take(&mut held), ..part } } else { part }));
        }
        if !held.is_empty() {
            parts.push(PartOut { holds: Holds::Text(""), signature: held });
        }
        Ok(parts)
    }

    /// One part; `None` where it is left out, or is a signature for another.
    fn part(&mut self, said: &Said<'a>) -> Result<Option<PartOut<'a>>> {
        let place = said.place;
        Ok(match said.content {
            Content::Text(text, citations) => {
                // Those of an answer say where its text is from, and the text goes back as it is.
                if !citations.is_empty() && self.speaker == Speaker::User {
                    self.rules.lack(place.key("text.citations"))?;
                }
                Some(Holds::Text(text).into())
            }
            Content::Media(media) => lower_media(media, &place.key("media"), self.rules, self.surface)?.map(PartOut::from),
            Content::ToolCall(call) => Some(self.call(call, place)?),
            Content::ToolResult(result) => Some(Holds::Response(self.result(result, place)?).into()),
            Content::Reasoning(reasoning) => self.thought(reasoning, place)?,
            // What the model declined with is text to it.
            Content::Refusal(refusal) => Some(Holds::Text(&refusal.text).into()),
            Content::Raw(raw) => raw_part(raw, &place.key("raw.json"))?,
        })
    }

    fn thought(&self, reasoning: &'a ReasoningPart, place: Place) -> Result<Option<PartOut<'a>>> {
        if !reasoning.redacted.is_empty() {
            self.rules.lack(place.key("reasoning.redacted"))?;
        }
        let thought = PartOut { holds: Holds::Thought(&reasoning.text), signature: &reasoning.signature };
        Ok((!reasoning.text.is_empty()).then_some(thought))
    }

    fn call(&mut self, call: &'a ToolCallPart, place: Place) -> Result<PartOut<'a>> {
        let args = object_arguments(call, place)?;
        self.names.insert(&call.id, &call.name);
        self.calls.push(&call.id);
        let call_out = CallOut { id: self.id(&call.id), name: &call.name, args };
        Ok(PartOut { holds: Holds::Call(call_out), signature: &call.signature })
    }

    fn id(&self, id: &'a str) -> &'a str {
        if self.surface == Surface::Gemini { id } else { "" }
    }

    fn result(&self, result: &'a ToolResultPart, place: Place) -> Result<ResponseOut<'a>> {
        let id = result.tool_call_id.as_str();
        let Some(name) = self.names.get(id).copied() else {
            return Err(Error::invalid(place.key("tool_result.tool_call_id"), "is not the id of a tool call in an earlier message"));
        };
        let (mut texts, mut parts) = (Vec::new(), Vec::new());
        for (n, part) in result.parts.iter().enumerate() {
            let path = place.key(&format!("tool_result.parts[{n}]"));
            match turns::result_part(part, self.rules, At::Root.key(&path))? {
                None => {}
                Some(ResultPart::Text(text)) => texts.push(text),
                Some(ResultPart::Media(media)) => {
                    let media = lower_media(media, &format!("{path}.media"), self.rules, self.surface)?;
                    parts.extend(media.map(PartOut::from));
                }
                Some(ResultPart::Raw(raw)) => parts.extend(raw_part(raw, &format!("{path}.raw.json"))?),
            }
        }
        let rank = self.calls.iter().position(|call| *call == id).unwrap_or(usize::MAX);
        let value = match *texts.as_slice() {
            [] => Value::Text(""),
            [one] => value_of(one),
            _ => Value::Texts(texts),
        };
        Ok(ResponseOut { rank, id: self.id(id), name, response: Returned { is_error: result.is_error, value }, parts })
    }
}

/// The signature of a reasoning part that has nothing else.
fn lone_signature<'a>(said: &Said<'a>) -> Option<&'a str> {
    match said.content {
        Content::Reasoning(reasoning) if reasoning.text.is_empty() => Some(reasoning.signature.as_str()).filter(|text| !text.is_empty()),
        _ => None,
    }
}

/// JSON objects and lists go as they are; every other text is a text.
fn value_of(text: &str) -> Value<'_> {
    match (text.trim_start().chars().next(), serde_json::from_str::<&RawValue>(text)) {
        (Some('{'), Ok(object)) => Value::Object(object),
        (Some('['), Ok(list)) => Value::List(list),
        _ => Value::Text(text),
    }
}

/// A raw part is a part as written. What an answer said of its candidate is none.
fn raw_part<'a>(raw: &'a RawPart, path: &str) -> Result<Option<PartOut<'a>>> {
    let at = At::Root.key(path);
    let json = text(&raw.json, at)?;
    let fields: Fields<'_> = read(json, at)?;
    Ok(fields.get(FURTHER).is_none().then(|| Holds::Raw(json).into()))
}

fn lower_media<'a>(part: &'a MediaPart, path: &str, rules: Rules<'_>, surface: Surface) -> Result<Option<Holds<'a>>> {
    let (kind, source) = media::read(part, At::Root.key(path))?;
    // The protocol tells what media is by its type alone.
    let told = MediaPart { mime_type: part.mime_type.clone(), ..MediaPart::default() };
    if !part.mime_type.is_empty() && kind != media::kind_of(&told, source) {
        rules.lack(format!("{path}.kind"))?;
    }
    if !matches!(part.detail.as_str(), "" | "auto") {
        rules.lack(format!("{path}.detail"))?;
    }
    let display_name = match surface {
        Surface::Vertex => part.file_name.as_str(),
        Surface::Gemini if part.file_name.is_empty() => "",
        Surface::Gemini => rules.lack(format!("{path}.file_name")).map(|()| "")?,
    };
    let file = |file_uri| Holds::File(FileOut { file_uri, mime_type: &part.mime_type, display_name });
    Ok(match source {
        Source::Data(bytes) => {
            Some(Holds::Inline(Blob { mime_type: Cow::Borrowed(&part.mime_type), data: media::base64(bytes), display_name }))
        }
        Source::Uri(uri) => Some(match media::of_data_uri(uri) {
            Some((mime_type, bytes)) => Holds::Inline(Blob { mime_type: Cow::Owned(mime_type), data: media::base64(&bytes), display_name }),
            None => file(Cow::Borrowed(uri)),
        }),
        Source::FileId(id) if surface == Surface::Gemini => Some(file(file_address(id, rules.target))),
        Source::FileId(_) => rules.lack(format!("{path}.file_id")).map(|()| None)?,
    })
}

/// The address of an uploaded file. Its id is the name `files/…`, with or without its collection, or the address itself.
fn file_address<'a>(id: &'a str, target: &Target) -> Cow<'a, str> {
    if id.contains("://") {
        return Cow::Borrowed(id);
    }
    let name = if id.contains('/') { super::path(id) } else { format!("files/{}", super::segment(id)) };
    Cow::Owned(format!("{}/{name}", target.base.to_string().trim_end_matches('/')))
}
