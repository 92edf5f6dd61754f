//! OpenAI's messages as parts of the contract, from requests and from answers. The way there is `message`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flowgate_proto::v1::{
    CacheHint, Citation, MediaKind, MediaPart, Part, RawPart, ReasoningPart, RefusalPart, TextPart, ToolCallPart, media_part::Source,
    part::Kind,
};
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::message::PROTOCOL;
use crate::dialect::json::{At, Count, Rest, Str, is_meaningful, object, read};
use crate::dialect::{functions, media};
use crate::error::Result;

object! {
    /// A message of a request or an answer, or the delta of a chunk.
    MessageIn {
        role: Str<'a> = "role",
        name: Str<'a> = "name",
        content: Content<'a> = "content",
        refusal: Str<'a> = "refusal",
        reasoning_content: Str<'a> = "reasoning_content",
        reasoning: Option<&'a RawValue> = "reasoning",
        tool_calls: Vec<ToolCallIn<'a>> = "tool_calls",
        tool_call_id: Str<'a> = "tool_call_id",
        annotations: Vec<&'a RawValue> = "annotations",
    }
}

object! {
    /// A tool call, or a piece of one.
    ToolCallIn {
        index: Count = "index",
        id: Str<'a> = "id",
        kind: Str<'a> = "type",
        function: Option<CalledIn<'a>> = "function",
        custom: Option<&'a RawValue> = "custom",
        thought_signature: Str<'a> = "thought_signature",
    }
}

object! {
    /// The function of a tool call.
    CalledIn {
        name: Str<'a> = "name",
        arguments: Option<&'a RawValue> = "arguments",
    }
}

object! {
    /// One entry of a content list.
    PartIn {
        kind: Str<'a> = "type",
        text: Str<'a> = "text",
        refusal: Str<'a> = "refusal",
        image_url: Option<ImageUrlIn<'a>> = "image_url",
        input_audio: Option<AudioIn<'a>> = "input_audio",
        file: Option<FileIn<'a>> = "file",
        thinking: Vec<PartIn<'a>> = "thinking",
        summary: Vec<PartIn<'a>> = "summary",
        cache_control: Option<CacheControl> = "cache_control",
    }
}

object! {
    /// An image.
    ImageUrlIn {
        url: Str<'a> = "url",
        detail: Str<'a> = "detail",
    }
}

object! {
    /// A sound.
    AudioIn {
        audio: Str<'a> = "data",
        format: Str<'a> = "format",
    }
}

object! {
    /// A document.
    FileIn {
        file_id: Str<'a> = "file_id",
        file_data: Str<'a> = "file_data",
        filename: Str<'a> = "filename",
    }
}

/// A cache hint, as several speakers of this protocol take it.
#[derive(Debug, Deserialize)]
pub(super) struct CacheControl {
    ttl: Option<String>,
}

object! {
    /// A source of the text.
    AnnotationIn {
        kind: Str<'a> = "type",
        citation: Option<CitationIn<'a>> = "url_citation",
    }
}

object! {
    /// A source on the web.
    CitationIn {
        url: Str<'a> = "url",
        title: Str<'a> = "title",
        content: Str<'a> = "content",
        start: Count = "start_index",
        end: Count = "end_index",
    }
}

/// The content of a message: text, or a list of parts.
#[derive(Debug, Default)]
pub(super) enum Content<'a> {
    /// Null, or absent.
    #[default]
    None,
    /// A string.
    Text(Str<'a>),
    /// A list.
    Parts(Vec<&'a RawValue>),
}

/// Whose message is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// A client's: what the contract cannot hold is refused by name.
    Request,
    /// A provider's: what cannot be read is kept raw, and unknown fields of known parts are let go.
    Answer,
}

/// One entry of a content list, and what is known of its kind.
pub(super) enum Piece<'a> {
    /// Text.
    Text(Str<'a>),
    /// Reasoning.
    Reasoning(String),
    /// A refusal.
    Refusal(Str<'a>),
    /// Media.
    Media(MediaPart),
    /// What has no name in the contract.
    Raw(RawPart),
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Content<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string or a list of parts")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Content<'de>, E> {
                Ok(Content::Text(Str(text.into())))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Content<'de>, E> {
                Ok(Content::Text(Str(text.to_owned().into())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content<'de>, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = seq.next_element()? {
                    parts.push(part);
                }
                Ok(Content::Parts(parts))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// The parts of a message, in the order in which a stream would bring them. `at` is the message's place.
pub(super) fn parts_of(message: MessageIn<'_>, side: Side, at: At<'_>) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    push_reasoning(&mut parts, reasoning_text(&message));
    let field = at.key("content");
    match message.content {
        Content::None => {}
        Content::Text(text) => push_text(&mut parts, text, None),
        Content::Parts(list) => {
            for (n, raw) in list.into_iter().enumerate() {
                let (piece, hint) = piece_of(raw, side, field.index(n))?;
                match piece {
                    Piece::Text(text) => push_text(&mut parts, text, hint),
                    Piece::Reasoning(text) => push_reasoning(&mut parts, text),
                    Piece::Refusal(text) => push(&mut parts, Kind::Refusal(RefusalPart { text: text.into() }), hint),
                    Piece::Media(media) => push(&mut parts, Kind::Media(media), hint),
                    Piece::Raw(raw) => push(&mut parts, Kind::Raw(raw), hint),
                }
            }
        }
    }
    for raw in message.annotations {
        match citation_of(raw) {
            Some(citation) => cite(&mut parts, citation),
            None => push(&mut parts, Kind::Raw(raw_field("annotations", &format!("[{}]", raw.get()))), None),
        }
    }
    if !message.refusal.is_empty() {
        push(&mut parts, Kind::Refusal(RefusalPart { text: message.refusal.into() }), None);
    }
    let calls = at.key("tool_calls");
    for (n, call) in message.tool_calls.into_iter().enumerate() {
        let function = call.function.as_ref().map(|function| &function.rest);
        refuse_unknown([Some(&call.rest), function], side, calls.index(n))?;
        let kind = custom_call(&call).map_or_else(|| Kind::ToolCall(tool_call_of(&call)), Kind::Raw);
        push(&mut parts, kind, None);
    }
    for raw in raw_fields(&message.rest) {
        push(&mut parts, Kind::Raw(raw), None);
    }
    Ok(parts)
}

fn push(parts: &mut Vec<Part>, kind: Kind, cache_hint: Option<CacheHint>) {
    parts.push(Part { kind: Some(kind), cache_hint });
}

fn push_text(parts: &mut Vec<Part>, text: Str<'_>, hint: Option<CacheHint>) {
    if !text.is_empty() {
        push(parts, Kind::Text(TextPart { text: text.into(), citations: Vec::new() }), hint);
    }
}

fn push_reasoning(parts: &mut Vec<Part>, text: String) {
    if !text.is_empty() {
        push(parts, Kind::Reasoning(ReasoningPart { text, ..ReasoningPart::default() }), None);
    }
}

fn cite(parts: &mut Vec<Part>, citation: Citation) {
    let last_text = parts.iter_mut().rev().find_map(|part| match &mut part.kind {
        Some(Kind::Text(text)) => Some(text),
        _ => None,
    });
    match last_text {
        Some(text) => text.citations.push(citation),
        None => push(parts, Kind::Text(TextPart { text: String::new(), citations: vec![citation] }), None),
    }
}

/// The reasoning of a message in either spelling; some speakers send both, with the same text.
pub(super) fn reasoning_text(message: &MessageIn<'_>) -> String {
    if !message.reasoning_content.is_empty() {
        return message.reasoning_content.0.clone().into_owned();
    }
    message.reasoning.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

/// A citation, if the annotation is a plain one on the web.
pub(super) fn citation_of(raw: &RawValue) -> Option<Citation> {
    let annotation: AnnotationIn<'_> = serde_json::from_str(raw.get()).ok()?;
    let is_plain =
        |citation: &CitationIn<'_>| *annotation.kind == *"url_citation" && annotation.rest.is_empty() && citation.rest.is_empty();
    let CitationIn { url, title, content, start, end, rest: _ } = annotation.citation.filter(is_plain)?;
    Some(Citation { uri: url.into(), title: title.into(), quote: content.into(), start: start.0, end: end.0 })
}

/// A tool call with all that it holds.
pub(super) fn tool_call_of(call: &ToolCallIn<'_>) -> ToolCallPart {
    let function = call.function.as_ref();
    ToolCallPart {
        id: call.id.to_string(),
        name: function.map(|function| function.name.to_string()).unwrap_or_default(),
        arguments: arguments_of(call),
        signature: call.thought_signature.to_string(),
    }
}

/// The arguments of a tool call.
pub(super) fn arguments_of(call: &ToolCallIn<'_>) -> String {
    call.function.as_ref().and_then(|function| function.arguments).map(functions::arguments_of).unwrap_or_default()
}

/// A call of a custom tool, which has text instead of arguments: raw, as the contract has no name for it.
pub(super) fn custom_call(call: &ToolCallIn<'_>) -> Option<RawPart> {
    let custom = call.custom.filter(|custom| *call.kind != *"function" && call.function.is_none() && is_meaningful(custom))?;
    let index = call.index.0.map(|index| format!("\"index\":{index},")).unwrap_or_default();
    let id = serde_json::to_string(&call.id.0).unwrap_or_default();
    Some(raw_json(format!("{{{index}\"id\":{id},\"type\":\"custom\",\"custom\":{}}}", custom.get())))
}

/// Fields of a message that have no name in the contract and say something.
pub(super) fn raw_fields(rest: &Rest<'_>) -> impl Iterator<Item = RawPart> {
    rest.iter().filter(|(_, value)| is_meaningful(value)).map(|(name, value)| raw_field(name, value.get()))
}

/// One field of a message as a raw part.
pub(super) fn raw_field(name: &str, json: &str) -> RawPart {
    raw_json(format!("{{{}:{json}}}", serde_json::to_string(name).unwrap_or_default()))
}

fn raw_json(json: String) -> RawPart {
    RawPart { provider: PROTOCOL.to_owned(), json }
}

/// A field that the contract has no place for is refused by name, if a client sent it.
fn refuse_unknown<const N: usize>(rests: [Option<&Rest<'_>>; N], side: Side, at: At<'_>) -> Result<()> {
    match rests.into_iter().flatten().flatten().next() {
        Some((name, _)) if side == Side::Request => Err(at.key(name).invalid("is not a field that is known here; leave it out")),
        _ => Ok(()),
    }
}

/// One entry of a content list.
pub(super) fn piece_of<'a>(raw: &'a RawValue, side: Side, at: At<'_>) -> Result<(Piece<'a>, Option<CacheHint>)> {
    match known_piece(raw, side, at) {
        Err(_) if side == Side::Answer => Ok((Piece::Raw(raw_json(raw.get().to_owned())), None)),
        read => read,
    }
}

fn known_piece<'a>(raw: &'a RawValue, side: Side, at: At<'_>) -> Result<(Piece<'a>, Option<CacheHint>)> {
    let part: PartIn<'_> = read(raw, at)?;
    let hint = part.cache_control.map(|control| CacheHint { ttl: control.ttl.unwrap_or_default() });
    let piece = match &*part.kind {
        "text" | "output_text" | "input_text" => Piece::Text(part.text),
        "refusal" => Piece::Refusal(part.refusal),
        "thinking" => Piece::Reasoning(joined(&part.thinking)),
        "reasoning" => Piece::Reasoning(joined(&part.summary)),
        "image_url" => {
            let field = at.key("image_url");
            let image = part.image_url.ok_or_else(|| field.invalid("is required"))?;
            refuse_unknown([Some(&image.rest)], side, field)?;
            Piece::Media(image_of(image))
        }
        "input_audio" => {
            let field = at.key("input_audio");
            let audio = part.input_audio.ok_or_else(|| field.invalid("is required"))?;
            refuse_unknown([Some(&audio.rest)], side, field)?;
            Piece::Media(audio_of(&audio, field)?)
        }
        "file" => {
            let field = at.key("file");
            let file = part.file.ok_or_else(|| field.invalid("is required"))?;
            refuse_unknown([Some(&file.rest)], side, field)?;
            Piece::Media(file_of(file, field)?)
        }
        "" => return Err(at.key("type").invalid("is required")),
        _ => return Ok((Piece::Raw(raw_json(raw.get().to_owned())), None)),
    };
    refuse_unknown([Some(&part.rest)], side, at)?;
    Ok((piece, hint))
}

fn joined(parts: &[PartIn<'_>]) -> String {
    parts.iter().map(|part| &*part.text).collect()
}

fn image_of(image: ImageUrlIn<'_>) -> MediaPart {
    let (mime_type, source) = match media::of_data_uri(&image.url) {
        Some((mime_type, bytes)) => (mime_type, Source::Data(bytes)),
        None => (String::new(), Source::Uri(image.url.into())),
    };
    MediaPart { source: Some(source), mime_type, kind: MediaKind::Image.into(), detail: image.detail.into(), ..MediaPart::default() }
}

fn audio_of(audio: &AudioIn<'_>, at: At<'_>) -> Result<MediaPart> {
    let bytes = STANDARD.decode(audio.audio.as_bytes()).map_err(|_| at.key("data").invalid("is not base64"))?;
    let subtype = if &*audio.format == "mp3" { "mpeg" } else { &*audio.format };
    let mime_type = format!("audio/{subtype}");
    Ok(MediaPart { source: Some(Source::Data(bytes.into())), mime_type, kind: MediaKind::Audio.into(), ..MediaPart::default() })
}

fn file_of(file: FileIn<'_>, at: At<'_>) -> Result<MediaPart> {
    let (mime_type, source) = if file.file_id.is_empty() {
        let (mime_type, bytes) =
            media::of_data_uri(&file.file_data).ok_or_else(|| at.key("file_data").invalid("must be a base64 `data:` address"))?;
        (mime_type, Source::Data(bytes))
    } else {
        (String::new(), Source::FileId(file.file_id.into()))
    };
    let file_name = file.filename.into();
    Ok(MediaPart { source: Some(source), mime_type, kind: MediaKind::Document.into(), file_name, ..MediaPart::default() })
}
