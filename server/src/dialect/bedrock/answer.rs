//! Whole answers of Converse, read with the code that reads streams.

use flowgate_proto::v1::{ChatResponse, StreamStart};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    blocks::Blocks,
    usage,
    words::{finish_reason, told_inside},
};
use crate::{
    dialect::{
        Quirks,
        errors::bad_answer,
        join::join,
        json::{Str, kept, object, place},
    },
    error::Result,
    event::Event,
};

object! {
    /// An answer. The latency among its metrics is not kept: the gateway measures its own.
    AnswerIn {
        output: OutputIn<'a> = "output",
        stop_reason: Str<'a> = "stopReason",
        usage: Option<&'a RawValue> = "usage",
        tier: Option<&'a RawValue> = "serviceTier",
        _metrics: Option<IgnoredAny> = "metrics",
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OutputIn<'a> {
    #[serde(borrow)]
    message: Option<MessageIn<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MessageIn<'a> {
    #[serde(borrow)]
    content: Vec<&'a RawValue>,
}

/// The answer as the contract has it.
pub(super) fn decode(body: &[u8], quirks: &'static Quirks) -> Result<ChatResponse> {
    let answer: AnswerIn<'_> = serde_json::from_slice(body).map_err(|error| bad_answer(format!("the answer at {}", place(&error))))?;
    let Some(message) = answer.output.message else {
        return Err(told_inside(quirks, body).unwrap_or_else(|| bad_answer("the answer has no message")));
    };
    let mut events = vec![Event::Start(StreamStart { provider_fields: kept(&answer.rest), ..StreamStart::default() })];
    let mut blocks = Blocks::default();
    for (index, block) in (0..).zip(message.content) {
        blocks.whole(index, block, &mut events)?;
    }
    blocks.pieces().end(finish_reason(&answer.stop_reason), &answer.stop_reason, &mut events);
    events.extend(usage::read(answer.usage, answer.tier).map(Event::Usage));
    join(events)
}
