//! Token counts. Every piece of a stream has them anew and whole: they are taken as they come, never merged.

use flowgate_proto::v1::{ServiceTier, Usage, UsageSource};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::{json::Count, tier::tier};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct UsageIn {
    prompt_token_count: Count,
    tool_use_prompt_token_count: Count,
    cached_content_token_count: Count,
    candidates_token_count: Count,
    thoughts_token_count: Count,
    service_tier: Option<String>,
    traffic_type: Option<String>,
    prompt_tokens_details: Option<Vec<Modality>>,
    candidates_tokens_details: Option<Vec<Modality>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Modality {
    modality: String,
    #[serde(default)]
    token_count: Count,
}

/// Reads usage; `None` when it has no counts. Never fails: an answer is worth more than its bill's form.
pub(super) fn read(raw: Option<&RawValue>) -> Option<Usage> {
    let usage: UsageIn = serde_json::from_str(raw?.get()).ok()?;
    let input_tokens = sum(usage.prompt_token_count, usage.tool_use_prompt_token_count);
    let output_tokens = sum(usage.candidates_token_count, usage.thoughts_token_count);
    let input = |word| of(usage.prompt_tokens_details.as_deref(), word);
    let output = |word| of(usage.candidates_tokens_details.as_deref(), word);
    (input_tokens.is_some() || output_tokens.is_some()).then(|| Usage {
        input_tokens,
        output_tokens,
        cache_read_tokens: usage.cached_content_token_count.0,
        cache_write_tokens: None,
        reasoning_tokens: usage.thoughts_token_count.0,
        input_audio_tokens: input("AUDIO"),
        output_audio_tokens: output("AUDIO"),
        input_image_tokens: input("IMAGE"),
        output_image_tokens: output("IMAGE"),
        service_tier: served(usage.service_tier.or(usage.traffic_type).as_deref()).into(),
        source: UsageSource::Reported.into(),
        ..Usage::default()
    })
}

/// The tier behind a word, which one of the APIs puts after the way of paying.
fn served(word: Option<&str>) -> ServiceTier {
    let word = word.unwrap_or_default().to_ascii_lowercase();
    tier(word.strip_prefix("on_demand_").unwrap_or(&word))
}

/// Two counts of which either may be left out when it is 0.
fn sum(one: Count, other: Count) -> Option<u32> {
    match (one.0, other.0) {
        (None, None) => None,
        (one, other) => Some(one.unwrap_or_default().saturating_add(other.unwrap_or_default())),
    }
}

fn of(details: Option<&[Modality]>, word: &str) -> Option<u32> {
    details?.iter().find(|detail| detail.modality == word)?.token_count.0
}
