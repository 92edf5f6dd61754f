//! What a call needs of a deployment: capabilities and room for its input. Estimates; only the provider knows.

use flowgate_proto::v1::{Capability, ChatRequest, MediaKind, MediaPart, Part, ResponseFormatType, part::Kind};

use crate::{
    call::Call,
    catalog::Deployment,
    event::{Request, Task},
};

/// How many bytes of text a token has: few enough that no call is passed over a model that would take it.
const BYTES_PER_TOKEN: usize = 5;

/// What a call needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// The capabilities.
    pub capabilities: Vec<Capability>,
    /// Tokens of input and wanted output, as a low estimate.
    pub tokens: u32,
    /// A context window that was too small; 0: none was.
    pub outgrown: u32,
}

impl Needs {
    /// What a call needs; nothing for one that cannot be read, which its provider will say.
    pub(super) fn of(call: &Call) -> Self {
        let mut needs = Self { outgrown: call.choice.outgrown, ..Self::default() };
        if call.task == Task::Predict || call.task == Task::Embed {
            return needs;
        }
        if call.streaming {
            needs.capabilities.push(Capability::Stream);
        }
        match call.payload.typed() {
            Ok(Request::Chat(chat)) => needs.add_chat(chat),
            Ok(Request::Complete(complete)) => {
                needs.add_text(complete.prompts.iter().map(String::len).sum(), complete.max_tokens);
            }
            Ok(Request::Embed(_) | Request::Predict(_)) | Err(_) => {}
        }
        needs
    }

    /// Whether a deployment has it all, as far as is known.
    pub(super) fn are_met_by(&self, deployment: &Deployment) -> bool {
        let traits = &deployment.config.traits;
        let window = traits.context_window;
        let fits = window.is_none_or(|window| self.tokens <= window);
        let is_larger = self.outgrown == 0 || window.is_some_and(|window| window > self.outgrown);
        let able = deployment.capabilities();
        fits && is_larger && self.capabilities.iter().all(|needed| able.contains(needed))
    }

    fn add_chat(&mut self, chat: &ChatRequest) {
        let mut bytes = 0;
        for message in &chat.messages {
            bytes += message.text.len() + self.add_parts(&message.parts);
        }
        if !chat.tools.is_empty() {
            self.capabilities.push(Capability::Tools);
        }
        let schema = i32::from(ResponseFormatType::JsonSchema);
        if chat.response_format.as_ref().is_some_and(|format| format.r#type == schema) {
            self.capabilities.push(Capability::JsonSchema);
        }
        self.add_text(bytes, chat.max_tokens);
    }

    /// The bytes of text in parts, those of tool results included.
    fn add_parts(&mut self, parts: &[Part]) -> usize {
        let mut bytes = 0;
        for part in parts {
            match &part.kind {
                Some(Kind::Text(text)) => bytes += text.text.len(),
                Some(Kind::Media(media)) => self.add_media(media),
                Some(Kind::ToolCall(tool)) => bytes += tool.arguments.len(),
                Some(Kind::ToolResult(result)) => bytes += self.add_parts(&result.parts),
                Some(Kind::Reasoning(_) | Kind::Refusal(_) | Kind::Raw(_)) | None => {}
            }
        }
        bytes
    }

    fn add_text(&mut self, bytes: usize, output: Option<u32>) {
        let input = u32::try_from(bytes / BYTES_PER_TOKEN).unwrap_or(u32::MAX);
        self.tokens = input.saturating_add(output.unwrap_or(0));
    }

    fn add_media(&mut self, media: &MediaPart) {
        let is = |kind: MediaKind, lead: &str| media.kind == i32::from(kind) || media.mime_type.starts_with(lead);
        if is(MediaKind::Image, "image/") {
            self.capabilities.push(Capability::ImageInput);
        } else if is(MediaKind::Audio, "audio/") {
            self.capabilities.push(Capability::AudioInput);
        }
    }
}
