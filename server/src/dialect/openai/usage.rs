//! Token counts in both directions, with the places where this protocol's speakers put them.

use flowgate_proto::v1::{Usage, UsageSource};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::dialect::{
    Quirks, ReportedCost,
    json::{Count, Fields, Str},
    tier::tier,
};

#[derive(Default, Deserialize)]
#[serde(default)]
struct UsageIn {
    prompt_tokens: Count,
    completion_tokens: Count,
    prompt_tokens_details: Option<Details>,
    completion_tokens_details: Option<Details>,
    cached_tokens: Count,
    cache_read_input_tokens: Count,
    prompt_cache_hit_tokens: Count,
    reasoning_tokens: Count,
    citation_tokens: Count,
    num_search_queries: Count,
}

/// What kinds of tokens are among those of one side.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::dialect) struct Details {
    pub(in crate::dialect) cached_tokens: Count,
    pub(in crate::dialect) cache_write_tokens: Count,
    pub(in crate::dialect) reasoning_tokens: Count,
    pub(in crate::dialect) audio_tokens: Count,
    pub(in crate::dialect) image_tokens: Count,
}

/// Usage as OpenAI writes it.
#[derive(Debug, Serialize)]
pub(super) struct UsageOut {
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_tokens: Option<u64>,
    #[serde(skip_serializing_if = "InputDetails::is_empty")]
    prompt_tokens_details: InputDetails,
    #[serde(skip_serializing_if = "OutputDetails::is_empty")]
    completion_tokens_details: OutputDetails,
}

#[derive(Debug, PartialEq, Eq, Default, Serialize)]
struct InputDetails {
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_write_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_tokens: Option<u32>,
}

#[derive(Debug, PartialEq, Eq, Default, Serialize)]
struct OutputDetails {
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_tokens: Option<u32>,
}

impl InputDetails {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl OutputDetails {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Reads usage; `None` when it has no counts. Never fails: an answer is worth more than its bill's form.
pub(in crate::dialect) fn read(raw: Option<&RawValue>, quirks: &Quirks) -> Option<Usage> {
    let raw = raw?;
    let usage: UsageIn = serde_json::from_str(raw.get()).ok()?;
    let Details { cached_tokens, cache_write_tokens, audio_tokens, image_tokens, reasoning_tokens: _ } =
        usage.prompt_tokens_details.unwrap_or_default();
    let output = usage.completion_tokens_details.unwrap_or_default();
    let cached = [cached_tokens, usage.cached_tokens, usage.cache_read_input_tokens, usage.prompt_cache_hit_tokens];
    let reported = usage.prompt_tokens.0.is_some() || usage.completion_tokens.0.is_some();
    let reasoning = output.reasoning_tokens.0.or(usage.reasoning_tokens.0);
    let left_out = quirks.output_excludes.iter().map(|name| match *name {
        "reasoning_tokens" => reasoning.unwrap_or_default(),
        "citation_tokens" => usage.citation_tokens.0.unwrap_or_default(),
        _ => 0,
    });
    let left_out = left_out.fold(0, u32::saturating_add);
    reported.then_some(Usage {
        input_tokens: usage.prompt_tokens.0,
        output_tokens: usage.completion_tokens.0.map(|tokens| tokens.saturating_add(left_out)),
        cache_read_tokens: cached.into_iter().find_map(|count| count.0),
        cache_write_tokens: cache_write_tokens.0,
        reasoning_tokens: reasoning,
        input_audio_tokens: audio_tokens.0,
        output_audio_tokens: output.audio_tokens.0,
        input_image_tokens: image_tokens.0,
        output_image_tokens: output.image_tokens.0,
        search_queries: usage.num_search_queries.0,
        cost_pico_usd: quirks.cost.and_then(|cost| cost_in(raw, cost)),
        source: UsageSource::Reported.into(),
        ..Usage::default()
    })
}

/// Usage with the tier that the answer names beside it.
pub(super) fn with_tier(usage: Option<Usage>, word: Option<&RawValue>) -> Option<Usage> {
    let word: Option<Str<'_>> = word.and_then(|word| serde_json::from_str(word.get()).ok());
    usage.map(|usage| Usage { service_tier: word.map_or(usage.service_tier, |word| tier(&word).into()), ..usage })
}

/// What the provider says that the call cost, in pico-USD.
fn cost_in(usage: &RawValue, cost: ReportedCost) -> Option<i64> {
    const MOST: f64 = 1e18;
    let mut value = usage;
    for name in cost.path {
        let fields: Fields<'_> = serde_json::from_str(value.get()).ok()?;
        value = fields.get(name)?;
    }
    let pico = (serde_json::from_str::<f64>(value.get()).ok()? * cost.pico_usd).round();
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked before")]
    (0.0..MOST).contains(&pico).then_some(pico as i64)
}

/// Usage as OpenAI writes it.
pub(super) fn write(usage: &Usage) -> UsageOut {
    let total = u64::from(usage.input_tokens.unwrap_or_default()) + u64::from(usage.output_tokens.unwrap_or_default());
    UsageOut {
        prompt_tokens: usage.input_tokens,
        completion_tokens: usage.output_tokens,
        total_tokens: usage.input_tokens.map(|_| total),
        prompt_tokens_details: InputDetails {
            cached_tokens: usage.cache_read_tokens,
            cache_write_tokens: usage.cache_write_tokens,
            audio_tokens: usage.input_audio_tokens,
            image_tokens: usage.input_image_tokens,
        },
        completion_tokens_details: OutputDetails {
            reasoning_tokens: usage.reasoning_tokens,
            audio_tokens: usage.output_audio_tokens,
            image_tokens: usage.output_image_tokens,
        },
    }
}
