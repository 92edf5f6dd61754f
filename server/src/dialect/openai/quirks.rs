//! What speakers of this protocol do in ways of their own, by the quirks of their rows.

use std::borrow::Cow;

use flowgate_proto::v1::Reasoning;
use serde_json::value::RawValue;

use crate::{
    dialect::{
        Habit, Quirks, ReasoningField,
        json::{Fields, Str},
        params::Params,
        signature::is_marked,
        tools::fitted_id,
    },
    error::Result,
};

/// How many letters and digits a short id of a tool call has.
const SHORT: usize = 9;
/// How many letters an id has that stands for one too long.
const FITTED: usize = 24;

/// The id of a tool call as a provider takes it.
pub(super) fn tool_id<'a>(id: &'a str, quirks: &Quirks) -> Cow<'a, str> {
    if quirks.has(Habit::ShortToolIds) {
        return fitted_id(id, SHORT, id.len() == SHORT && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
    fitted_id(id, FITTED, id.len() <= quirks.longest_tool_id)
}

/// Asks for reasoning.
pub(super) fn reason(params: &mut Params<'_>, reasoning: &Reasoning) -> Result<()> {
    let Reasoning { effort, budget_tokens, include } = reasoning;
    let is_on = (!effort.is_empty()).then(|| effort != "none");
    match params.rules().target.quirks.reasoning {
        ReasoningField::Effort => {
            params.put_text("reasoning.effort", "reasoning_effort", effort)?;
            params.lack("reasoning.budget_tokens", budget_tokens.is_some())?;
            params.put_extra("reasoning.include", "include_reasoning", *include)
        }
        ReasoningField::Object => params.nest("reasoning", |inner| {
            inner.put_text("reasoning.effort", "effort", effort)?;
            inner.put_some("reasoning.budget_tokens", "max_tokens", *budget_tokens)?;
            inner.put_some("reasoning.include", "exclude", include.map(|include| !include))
        }),
        ReasoningField::Thinking => {
            params.lack("reasoning.budget_tokens", budget_tokens.is_some())?;
            params.lack("reasoning.include", include.is_some())?;
            let word = is_on.map(|is_on| if is_on { "enabled" } else { "disabled" });
            params.nest("thinking", |inner| inner.put_some("reasoning.effort", "type", word))
        }
        ReasoningField::Budget => {
            params.lack("reasoning.include", include.is_some())?;
            params.put_some("reasoning.effort", "enable_thinking", is_on)?;
            params.put_some("reasoning.budget_tokens", "thinking_budget", *budget_tokens)
        }
    }
}

/// Whether a body as a client wrote it for the protocol's owner must be written anew for this provider.
pub(super) fn must_rewrite(body: &[u8], fields: &Fields<'_>, quirks: &Quirks) -> bool {
    let has = |name: &str| fields.get(name).is_some();
    let says = |word: &str| memchr::memmem::find(body, word.as_bytes()).is_some();
    let has_calls = || says("\"tool_call_id\"") || says("\"tool_calls\"");
    let of_habit = |habit: &Habit| match habit {
        Habit::FlatContent => has("messages"),
        Habit::ShortToolIds => has_calls(),
        Habit::CountsLogprobs => has("logprobs") || has("top_logprobs"),
        Habit::NoDeveloper => says("\"developer\""),
        Habit::AnyForRequired => has("tool_choice"),
        Habit::AutoOnly => fields.get("tool_choice").is_some_and(|choice| choice.get() != "\"auto\""),
        Habit::OwnSignatures | Habit::OpenReasoning | Habit::StreamsByHeader => false,
    };
    has_marked_signature(body)
        || quirks.lacks.iter().any(|name| has(name) || stands_in_messages(name, body, fields))
        || (!quirks.stream_usage && has("stream_options"))
        || quirks.renames.iter().any(|(name, _)| has(name))
        || (quirks.max_tokens_field == "max_tokens" && has("max_completion_tokens"))
        || (quirks.reasoning != ReasoningField::Effort && has("reasoning_effort"))
        || quirks.habits.iter().any(of_habit)
        || (quirks.longest_tool_id < usize::MAX && has_calls() && has_long_tool_id(fields, quirks.longest_tool_id))
}

/// Whether a call has a signature that an answer of ours said whose it is, which is for us to read.
fn has_marked_signature(body: &[u8]) -> bool {
    const NAME: &[u8] = b"\"thought_signature\"";
    memchr::memmem::find_iter(body, NAME).any(|at| {
        let value = body.get(at + NAME.len()..).unwrap_or_default().trim_ascii_start();
        let value = value.strip_prefix(b":").unwrap_or_default().trim_ascii_start();
        value.strip_prefix(b"\"").is_some_and(is_marked)
    })
}

/// Whether a call or a result has an id of more bytes.
fn has_long_tool_id(fields: &Fields<'_>, longest: usize) -> bool {
    let is_long = |id: &RawValue| serde_json::from_str::<Str<'_>>(id.get()).is_ok_and(|id| id.len() > longest);
    objects(fields, "messages").iter().any(|message| {
        message.get("tool_call_id").is_some_and(is_long)
            || objects(message, "tool_calls").iter().filter_map(|call| call.get("id")).any(is_long)
    })
}

/// The objects of a list; none where it is anything else, which is for the provider to refuse.
fn objects<'a>(fields: &Fields<'a>, name: &str) -> Vec<Fields<'a>> {
    fields.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

/// Whether a field that messages may have stands in one.
fn stands_in_messages(name: &str, body: &[u8], fields: &Fields<'_>) -> bool {
    match name {
        "reasoning_content" | "thought_signature" | "annotations" | "refusal" => {
            memchr::memmem::find(body, format!("\"{name}\"").as_bytes()).is_some()
        }
        // Tools have names too, so that its place counts.
        "name" => objects(fields, "messages").iter().any(|message| message.get(name).is_some()),
        _ => false,
    }
}
