//! Tools and their calls in the form that OpenAI gave them, for all protocols that took it over.

use flowgate_proto::v1::ToolCallPart;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    json::{Str, object},
    tools::Declared,
};

/// A tool that may be called.
#[derive(Debug, Serialize)]
pub(super) struct ToolOut<'a> {
    r#type: &'static str,
    function: FunctionOut<'a>,
}

#[derive(Debug, Serialize)]
struct FunctionOut<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

impl<'a> From<Declared<'a>> for ToolOut<'a> {
    fn from(tool: Declared<'a>) -> Self {
        let Declared { name, description, parameters, strict } = tool;
        Self { r#type: "function", function: FunctionOut { name, description, parameters, strict } }
    }
}

/// A call that the model made before.
#[derive(Debug, Serialize)]
pub(super) struct CallOut<'a> {
    id: &'a str,
    r#type: &'static str,
    function: CalledOut<'a>,
}

/// What is called.
#[derive(Debug, Serialize)]
pub(super) struct CalledOut<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl<'a> From<&'a ToolCallPart> for CallOut<'a> {
    fn from(call: &'a ToolCallPart) -> Self {
        Self { id: &call.id, r#type: "function", function: call.into() }
    }
}

impl<'a> From<&'a ToolCallPart> for CalledOut<'a> {
    fn from(call: &'a ToolCallPart) -> Self {
        Self { name: &call.name, arguments: &call.arguments }
    }
}

object! {
    /// A call that an answer makes, or a piece of one.
    CallIn {
        id: Str<'a> = "id",
        function: CalledIn<'a> = "function",
        ..
    }
}

object! {
    /// What is called.
    CalledIn {
        name: Str<'a> = "name",
        arguments: Option<&'a RawValue> = "arguments",
        ..
    }
}

impl From<CallIn<'_>> for ToolCallPart {
    fn from(call: CallIn<'_>) -> Self {
        let CalledIn { name, arguments } = call.function;
        Self { id: call.id.into(), name: name.into(), arguments: arguments.map(arguments_of).unwrap_or_default(), signature: String::new() }
    }
}

/// The arguments of a call: some send an object instead of its text.
pub(super) fn arguments_of(raw: &RawValue) -> String {
    serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned())
}
