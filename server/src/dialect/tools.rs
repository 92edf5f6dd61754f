//! Tools, the choice among them and the form of the answer as the contract has them, checked; the protocols only spell them.

use std::borrow::Cow;

use flowgate_proto::v1::{ChatRequest, ResponseFormat, ResponseFormatType, Tool, ToolCallPart, ToolChoice, ToolChoiceMode};
use serde_json::value::RawValue;

use super::{
    json::{At, Fields, text},
    params::Rules,
    turns::Place,
};
use crate::error::{Error, Result};

/// A tool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Declared<'a> {
    /// Never empty.
    pub(super) name: &'a str,
    /// Empty: none.
    pub(super) description: &'a str,
    /// JSON Schema to the letter.
    pub(super) parameters: Option<&'a RawValue>,
    pub(super) strict: Option<bool>,
}

/// The schema of any object.
pub(super) const ANY: &str = r#"{"type":"object"}"#;

/// Whether and which tool must be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice<'a> {
    Auto,
    None,
    Required,
    Tool(&'a str),
}

/// The form of the answer's text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Format<'a> {
    Text,
    JsonObject,
    JsonSchema {
        /// Never empty.
        name: &'a str,
        /// Empty: none.
        description: &'a str,
        /// JSON Schema to the letter.
        schema: &'a RawValue,
        strict: Option<bool>,
    },
}

impl<'a> Declared<'a> {
    /// The schema of its parameters, where the protocol must be told one: `none` for a tool that has none.
    ///
    /// # Errors
    /// When `none` is no JSON.
    pub(super) fn parameters_or(&self, none: &'static str) -> Result<&'a RawValue> {
        self.parameters.map_or_else(|| text(none, At::Root), Ok)
    }
}

/// The tools of a request.
///
/// # Errors
/// What the contract does not allow.
pub(super) fn declared(request: &ChatRequest) -> Result<Vec<Declared<'_>>> {
    let all = At::Root.key("tools");
    request.tools.iter().enumerate().map(|(n, tool)| declare(tool, all.index(n))).collect()
}

fn declare<'a>(tool: &'a Tool, at: At<'_>) -> Result<Declared<'a>> {
    if tool.name.is_empty() {
        return Err(at.key("name").invalid("is required"));
    }
    let parameters = (!tool.parameters.is_empty()).then(|| text(&tool.parameters, at.key("parameters"))).transpose()?;
    Ok(Declared { name: &tool.name, description: &tool.description, parameters, strict: tool.strict })
}

/// The choice of a request; `None` when it leaves that to the provider.
///
/// # Errors
/// What the contract does not allow.
pub(super) fn choice(request: &ChatRequest) -> Result<Option<Choice<'_>>> {
    let Some(choice) = &request.tool_choice else { return Ok(None) };
    let ToolChoice { mode, name } = choice;
    let at = At::Root.key("tool_choice");
    let Ok(mode) = ToolChoiceMode::try_from(*mode) else { return Err(at.key("mode").invalid("is not a mode of the contract")) };
    let needs_name = mode == ToolChoiceMode::Tool;
    if needs_name == name.is_empty() {
        let expected = if needs_name { "is required with `TOOL_CHOICE_MODE_TOOL`" } else { "goes only with `TOOL_CHOICE_MODE_TOOL`" };
        return Err(at.key("name").invalid(expected));
    }
    Ok(match mode {
        ToolChoiceMode::Unspecified => None,
        ToolChoiceMode::Auto => Some(Choice::Auto),
        ToolChoiceMode::None => Some(Choice::None),
        ToolChoiceMode::Required => Some(Choice::Required),
        ToolChoiceMode::Tool => Some(Choice::Tool(name)),
    })
}

/// The arguments of a call as a JSON object, to the letter, for protocols that hold them as one. None at all is an empty object.
///
/// # Errors
/// When they are anything else.
pub(super) fn object_arguments(call: &ToolCallPart, place: Place) -> Result<&RawValue> {
    let arguments = match call.arguments.trim() {
        "" => "{}",
        arguments => arguments,
    };
    let field = place.key("tool_call.arguments");
    let refused = |_| Error::invalid(field.as_str(), "must be a JSON object for this provider");
    let object: &RawValue = serde_json::from_str(arguments).map_err(refused)?;
    serde_json::from_str::<Fields<'_>>(object.get()).map_err(refused)?;
    Ok(object)
}

/// The id of a call as a provider takes it that is particular about ids: as it came where it `fits`, else so many letters made of it. Both the
/// call and its result are sent, so that the same id must come out of both.
pub(super) fn fitted_id(id: &str, length: usize, fits: bool) -> Cow<'_, str> {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    if fits {
        return Cow::Borrowed(id);
    }
    let hash = blake3::hash(id.as_bytes());
    hash.as_bytes().iter().take(length).map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect::<String>().into()
}

/// As [`fitted_id`], for providers that take letters, digits, `_` and `-` only.
pub(super) fn plain_id(id: &str) -> Cow<'_, str> {
    const MOST: usize = 64;
    const LENGTH: usize = 24;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    fitted_id(id, LENGTH, id.len() <= MOST && id.bytes().all(is_plain))
}

/// An id for a call that came without one: always the same for the same call of the same answer, and another one in another answer. `said` is
/// what tells the call from all others.
pub(super) fn made_up_id(said: &str) -> String {
    let hash = blake3::hash(said.as_bytes()).to_hex();
    format!("call_{}", hash.get(..24).unwrap_or_default())
}

/// The form that a request asks for, where the protocol takes a bare schema, holds to it always, and has no place for what it is for.
///
/// # Errors
/// What the contract does not allow, and what the protocol lacks, by field.
pub(super) fn bare_format<'a>(request: &'a ChatRequest, rules: Rules<'_>) -> Result<Option<Format<'a>>> {
    let format = format(request)?;
    if let Some(Format::JsonSchema { description, strict, .. }) = format {
        if !description.is_empty() {
            rules.lack("response_format.description")?;
        }
        if strict == Some(false) {
            rules.lack("response_format.strict")?;
        }
    }
    Ok(format)
}

/// The form that a request asks for; `None` when it leaves that to the provider.
///
/// # Errors
/// What the contract does not allow.
pub(super) fn format(request: &ChatRequest) -> Result<Option<Format<'_>>> {
    let Some(format) = &request.response_format else { return Ok(None) };
    let ResponseFormat { r#type, name, description, schema, strict } = format;
    let at = At::Root.key("response_format");
    let Ok(kind) = ResponseFormatType::try_from(*r#type) else { return Err(at.key("type").invalid("is not a type of the contract")) };
    match kind {
        ResponseFormatType::JsonSchema => {
            if name.is_empty() {
                return Err(at.key("name").invalid("is required with a JSON schema"));
            }
            let schema = text(schema, at.key("schema"))?;
            Ok(Some(Format::JsonSchema { name, description, schema, strict: *strict }))
        }
        _ if !(schema.is_empty() && name.is_empty() && description.is_empty() && strict.is_none()) => {
            Err(at.invalid("describes a schema that only `RESPONSE_FORMAT_TYPE_JSON_SCHEMA` uses"))
        }
        ResponseFormatType::Unspecified => Ok(None),
        ResponseFormatType::Text => Ok(Some(Format::Text)),
        ResponseFormatType::JsonObject => Ok(Some(Format::JsonObject)),
    }
}
