//! Whole answers. They are read as a stream that comes at once, so that both ways give the same message.

use flowgate_proto::v1::{ChatResponse, StreamStart};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{blocks::Blocks, usage::Counter};
use crate::{
    dialect::{
        errors::{Errors, bad_answer},
        join::join,
        json::{Str, is_meaningful, kept, object, place},
    },
    error::Result,
    event::Event,
};

object! {
    /// A message: a whole answer, or the head of a streamed one.
    MessageIn {
        id: Str<'a> = "id",
        model: Str<'a> = "model",
        content: Option<Vec<&'a RawValue>> = "content",
        stop_reason: Str<'a> = "stop_reason",
        stop_sequence: Option<&'a RawValue> = "stop_sequence",
        usage: Option<&'a RawValue> = "usage",
        error: Option<&'a RawValue> = "error",
    }
}

/// Why the model declined.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    explanation: Option<String>,
}

/// A whole answer.
pub(super) fn decode(body: &[u8], errors: Errors) -> Result<ChatResponse> {
    let message: MessageIn<'_> = serde_json::from_slice(body).map_err(|error| bad_answer(format!("the answer at {}", place(&error))))?;
    if let Some(error) = message.error.filter(|error| is_meaningful(error)) {
        return Err(errors.inside(error));
    }
    let mut events = vec![Event::Start(message.head())];
    let Some(content) = &message.content else { return Err(bad_answer("the answer has no content")) };
    let mut blocks = Blocks::default();
    for (block, index) in content.iter().zip(0..) {
        blocks.start(index, block, &mut events)?;
    }
    let explanation = explanation(message.further("stop_details"));
    blocks.end(&message.stop_reason, sequence(message.stop_sequence), &explanation, &mut events);
    events.extend(Counter::default().read(message.usage).map(Event::Usage));
    join(events)
}

/// The provider's words for why the model declined; empty when there are none.
pub(super) fn explanation(details: Option<&RawValue>) -> String {
    let details: Option<Details> = details.and_then(|details| serde_json::from_str(details.get()).ok());
    details.and_then(|details| details.explanation).unwrap_or_default()
}

/// The stop sequence that is named; empty when none is.
pub(super) fn sequence(raw: Option<&RawValue>) -> String {
    raw.and_then(|raw| serde_json::from_str::<Str<'_>>(raw.get()).ok()).map(String::from).unwrap_or_default()
}

impl<'a> MessageIn<'a> {
    /// A field that no part of the contract takes.
    fn further(&self, name: &str) -> Option<&'a RawValue> {
        self.rest.iter().find(|(field, _)| field == name).map(|(_, value)| *value)
    }

    /// The head of the answer. `type` and `role` are always the same.
    pub(super) fn head(&self) -> StreamStart {
        let mut provider_fields = kept(&self.rest);
        if let Some(fields) = &mut provider_fields {
            fields.fields.retain(|name, _| name != "type" && name != "role");
        }
        StreamStart {
            id: self.id.to_string(),
            model: self.model.to_string(),
            created: 0,
            provider_fields: provider_fields.filter(|fields| !fields.fields.is_empty()),
        }
    }
}
