//! Content blocks as requests have them.

use std::borrow::Cow;

use flowgate_proto::v1::CacheHint;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use crate::dialect::json::Rest;

/// A block, and whether what ends with it is to be cached.
#[derive(Debug)]
pub(super) struct Block<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) cache_hint: Option<&'a CacheHint>,
}

/// What a block is.
#[derive(Debug)]
pub(super) enum Kind<'a> {
    Text(&'a str),
    Image(Source<'a>),
    /// The title may be empty.
    Document(Source<'a>, &'a str),
    ToolUse {
        id: Cow<'a, str>,
        name: &'a str,
        input: &'a RawValue,
        caller: Option<&'a RawValue>,
    },
    ToolResult {
        id: Cow<'a, str>,
        content: Content<'a>,
        is_error: bool,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    Redacted(&'a str),
    /// A block in the protocol's own form.
    Raw(Rest<'a>),
}

/// Where an image's or a document's bytes are.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Source<'a> {
    Base64 { media_type: Cow<'a, str>, data: String },
    Text { media_type: &'static str, data: Cow<'a, str> },
    Url { url: &'a str },
    File { file_id: &'a str },
}

/// Blocks; a lone plain text is written as a string.
#[derive(Debug, Default)]
pub(super) struct Content<'a>(pub(super) Vec<Block<'a>>);

#[derive(Serialize)]
struct CacheControl<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    ttl: &'a str,
}

impl Serialize for Content<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [Block { kind: Kind::Text(text), cache_hint: None }] => serializer.serialize_str(text),
            blocks => serializer.collect_seq(blocks),
        }
    }
}

impl Serialize for Block<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.kind.put(&mut map, self.cache_hint.is_some())?;
        if let Some(CacheHint { ttl }) = self.cache_hint {
            map.serialize_entry("cache_control", &CacheControl { r#type: "ephemeral", ttl })?;
        }
        map.end()
    }
}

impl Kind<'_> {
    fn word(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Image(_) => "image",
            Self::Document(..) => "document",
            Self::ToolUse { .. } => "tool_use",
            Self::ToolResult { .. } => "tool_result",
            Self::Thinking { .. } => "thinking",
            Self::Redacted(_) => "redacted_thinking",
            Self::Raw(_) => "",
        }
    }

    fn put<M: SerializeMap>(&self, map: &mut M, is_hinted: bool) -> Result<(), M::Error> {
        if let Self::Raw(fields) = self {
            let kept = fields.iter().filter(|(name, _)| !is_hinted || name != "cache_control");
            return kept.into_iter().try_for_each(|(name, value)| map.serialize_entry(name, value));
        }
        map.serialize_entry("type", self.word())?;
        match self {
            Self::Text(text) => map.serialize_entry("text", text)?,
            Self::Image(source) => map.serialize_entry("source", source)?,
            Self::Document(source, title) => {
                map.serialize_entry("source", source)?;
                if !title.is_empty() {
                    map.serialize_entry("title", title)?;
                }
            }
            Self::ToolUse { id, name, input, caller } => {
                map.serialize_entry("id", id)?;
                map.serialize_entry("name", name)?;
                map.serialize_entry("input", input)?;
                if let Some(caller) = caller {
                    map.serialize_entry("caller", caller)?;
                }
            }
            Self::ToolResult { id, content, is_error } => {
                map.serialize_entry("tool_use_id", id)?;
                if !content.0.is_empty() {
                    map.serialize_entry("content", content)?;
                }
                if *is_error {
                    map.serialize_entry("is_error", is_error)?;
                }
            }
            Self::Thinking { thinking, signature } => {
                map.serialize_entry("thinking", thinking)?;
                map.serialize_entry("signature", signature)?;
            }
            Self::Redacted(data) => map.serialize_entry("data", data)?,
            Self::Raw(_) => {}
        }
        Ok(())
    }
}
