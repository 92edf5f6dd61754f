//! Short ways to write the messages of a conversation, and to read an answer's text.

use bytes::Bytes;
use flowgate_proto::v1::{ChatResponse, MediaPart, Message, Part, Role, TextPart, ToolResultPart, media_part::Source, part::Kind};

/// Instructions of the application.
pub fn system(text: impl Into<String>) -> Message {
    said(Role::System, text.into())
}

/// Instructions of the developer, where the provider ranks them apart from [`system`].
pub fn developer(text: impl Into<String>) -> Message {
    said(Role::Developer, text.into())
}

/// What the user says.
pub fn user(text: impl Into<String>) -> Message {
    said(Role::User, text.into())
}

/// What the model said before.
pub fn assistant(text: impl Into<String>) -> Message {
    said(Role::Assistant, text.into())
}

/// What a tool returned, named by the id of the model's call.
pub fn tool_result(tool_call_id: impl Into<String>, text: impl Into<String>) -> Message {
    let result = ToolResultPart { tool_call_id: tool_call_id.into(), parts: vec![self::text(text)], is_error: false };
    with_parts(Role::Tool, [part(Kind::ToolResult(result))])
}

/// A message of several parts.
pub fn with_parts(role: Role, parts: impl IntoIterator<Item = Part>) -> Message {
    Message { role: role.into(), parts: parts.into_iter().collect(), ..Default::default() }
}

/// A part of text.
pub fn text(text: impl Into<String>) -> Part {
    part(Kind::Text(TextPart { text: text.into(), citations: Vec::new() }))
}

/// An image, audio, a video or a document, with its media type, for example `image/png`.
pub fn media(mime_type: impl Into<String>, bytes: impl Into<Bytes>) -> Part {
    part(Kind::Media(MediaPart { source: Some(Source::Data(bytes.into())), mime_type: mime_type.into(), ..Default::default() }))
}

/// An image, audio, a video or a document that the provider fetches.
pub fn media_at(uri: impl Into<String>) -> Part {
    part(Kind::Media(MediaPart { source: Some(Source::Uri(uri.into())), ..Default::default() }))
}

/// The text of an answer's first choice; empty when it has none, for example because the model calls a tool.
pub fn text_of(answer: &ChatResponse) -> String {
    let message = answer.choices.first().and_then(|choice| choice.message.as_ref());
    let parts = message.map(|message| message.parts.as_slice()).unwrap_or_default();
    parts
        .iter()
        .filter_map(|part| match &part.kind {
            Some(Kind::Text(text)) => Some(text.text.as_str()),
            _ => None,
        })
        .collect()
}

fn said(role: Role, text: String) -> Message {
    Message { role: role.into(), text, ..Default::default() }
}

fn part(kind: Kind) -> Part {
    Part { kind: Some(kind), cache_hint: None }
}

#[cfg(test)]
mod tests {
    use flowgate_proto::v1::Choice;

    use super::*;

    #[test]
    fn the_text_of_an_answer_is_that_of_its_first_choice() {
        let message = with_parts(Role::Assistant, [text("a"), media("image/png", "x"), text("b")]);
        let choices = vec![Choice { message: Some(message), ..Default::default() }];
        assert_eq!(text_of(&ChatResponse { choices, ..Default::default() }), "ab");
        assert_eq!(text_of(&ChatResponse::default()), "");
    }

    #[test]
    fn a_tool_result_names_the_call() {
        let message = tool_result("c-1", "18 °C");
        assert_eq!(message.role(), Role::Tool);
        assert!(matches!(&message.parts[0].kind, Some(Kind::ToolResult(result)) if result.tool_call_id == "c-1"));
    }
}
