//! Token counts of an answer.

use flowgate_proto::v1::{Usage, UsageSource};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::{json::Count, openai::UsageDetails};

#[derive(Default, Deserialize)]
#[serde(default)]
struct UsageIn {
    input_tokens: Count,
    output_tokens: Count,
    input_tokens_details: Option<UsageDetails>,
    output_tokens_details: Option<UsageDetails>,
}

/// Reads usage; `None` when it has no counts. Never fails: an answer is worth more than its bill's form.
pub(super) fn read(raw: &RawValue) -> Option<Usage> {
    let usage: UsageIn = serde_json::from_str(raw.get()).ok()?;
    let (input, output) = (usage.input_tokens_details.unwrap_or_default(), usage.output_tokens_details.unwrap_or_default());
    let reported = usage.input_tokens.0.is_some() || usage.output_tokens.0.is_some();
    reported.then_some(Usage {
        input_tokens: usage.input_tokens.0,
        output_tokens: usage.output_tokens.0,
        cache_read_tokens: input.cached_tokens.0,
        cache_write_tokens: input.cache_write_tokens.0,
        reasoning_tokens: output.reasoning_tokens.0,
        input_audio_tokens: input.audio_tokens.0,
        output_audio_tokens: output.audio_tokens.0,
        input_image_tokens: input.image_tokens.0,
        output_image_tokens: output.image_tokens.0,
        source: UsageSource::Reported.into(),
        ..Usage::default()
    })
}
