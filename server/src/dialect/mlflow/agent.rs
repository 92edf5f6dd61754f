//! A `ChatAgent`: messages of plain text with ids, and none of a model's parameters. It may call tools itself and tell of it.

use std::collections::HashMap;

use bytes::Bytes;
use flowgate_proto::v1::{ChatRequest, ChatResponse, Choice, Message, Part, RawPart, Role, ToolResultPart, part::Kind};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{QUIRKS, SHAPE};
use crate::{
    dialect::{
        asked::{self, text_part},
        errors::bad_answer,
        functions::{CallIn, CallOut},
        json::{At, Str, kept, object, place, text},
        openai,
        params::{Params, Rules},
        signature::leave,
        turns::{self, Content, ResultPart, Said},
    },
    error::Result,
};

/// The word for the model.
const ASSISTANT: &str = "assistant";

/// One message on the wire.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum MessageOut<'a> {
    Said(SaidOut<'a>),
    Raw(&'a RawValue),
}

#[derive(Debug, Default, Serialize)]
struct SaidOut<'a> {
    id: String,
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    tool_call_id: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallOut<'a>>,
}

#[derive(Serialize)]
struct Whose<'a> {
    user_id: &'a str,
}

object! {
    /// An answer.
    AnswerIn {
        messages: Vec<&'a RawValue> = "messages",
        finish_reason: Str<'a> = "finish_reason",
        usage: Option<&'a RawValue> = "usage",
    }
}

/// A message of an answer.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct MessageIn<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Str<'a>>,
    #[serde(borrow)]
    role: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) content: Option<Str<'a>>,
    #[serde(borrow)]
    pub(super) tool_calls: Option<Vec<CallIn<'a>>>,
    #[serde(borrow)]
    pub(super) tool_call_id: Option<Str<'a>>,
}

impl<'a> MessageIn<'a> {
    /// Reads a message.
    pub(super) fn of(raw: &'a RawValue) -> Result<Self> {
        serde_json::from_str(raw.get()).map_err(|error| bad_answer(format!("a message at {}", place(&error))))
    }

    /// Whether the model says it.
    pub(super) fn is_own(&self) -> bool {
        matches!(self.role.as_deref(), None | Some("" | ASSISTANT))
    }
}

/// The body of a call.
pub(super) fn encode(request: &ChatRequest, rules: Rules<'_>) -> Result<Bytes> {
    asked::without_template(request)?;
    asked::texts_only(request, rules)?;
    lacks(request, rules)?;
    let mut params = Params::unnamed(rules, &request.provider_options)?;
    let called = turns::tools_called(&request.messages);
    let mut messages = Vec::new();
    for (role, said) in &turns::in_order(&request.messages, rules)? {
        lower((*role, said), &called, rules, &mut messages)?;
    }
    params.put("messages", "messages", &messages)?;
    let whose = Whose { user_id: &request.user };
    params.put_some("user", "context", (!request.user.is_empty()).then_some(whose))?;
    params.end()
}

fn lacks(request: &ChatRequest, rules: Rules<'_>) -> Result<()> {
    rules.lack_all([
        ("max_tokens", request.max_tokens.is_some()),
        ("temperature", request.temperature.is_some()),
        ("top_p", request.top_p.is_some()),
        ("top_k", request.top_k.is_some()),
        ("seed", request.seed.is_some()),
        ("frequency_penalty", request.frequency_penalty.is_some()),
        ("presence_penalty", request.presence_penalty.is_some()),
        ("stop", !request.stop.is_empty()),
        ("choice_count", request.choice_count.is_some_and(|count| count != 1)),
        ("logprobs", request.logprobs == Some(true)),
        ("top_logprobs", request.top_logprobs.is_some()),
        ("metadata", !request.metadata.is_empty()),
        ("logit_bias", !request.logit_bias.is_empty()),
    ])
}

fn lower<'a>(
    (role, all): (Role, &[Said<'a>]),
    called: &HashMap<&'a str, &'a str>,
    rules: Rules<'_>,
    out: &mut Vec<MessageOut<'a>>,
) -> Result<()> {
    let role = match role {
        Role::System | Role::Developer => "system",
        Role::Assistant => ASSISTANT,
        Role::User | Role::Unspecified => "user",
        Role::Tool => "tool",
    };
    let mut message = SaidOut { role, ..SaidOut::default() };
    for said in all {
        said.refuse_hint(rules)?;
        let place = said.place;
        match said.content {
            Content::Text(text, citations) => {
                turns::leave_citations(citations, role == ASSISTANT, rules, place)?;
                message.content.push_str(text);
            }
            Content::ToolCall(call) => {
                leave(&call.signature, rules, place.key("tool_call.signature"))?;
                message.tool_calls.push(CallOut::from(call));
            }
            Content::ToolResult(result) => push(out, result_of(said, result, called, rules)?),
            // A message that an agent told of before.
            Content::Raw(raw) => out.push(MessageOut::Raw(text(&raw.json, At::Root.key(&place.key("raw.json")))?)),
            Content::Media(_) => rules.lack_content(place.key("media"))?,
            Content::Reasoning(reasoning) => turns::leave_sealed(reasoning, rules, place)?,
            Content::Refusal(refusal) => message.content.push_str(&refusal.text),
        }
    }
    let is_empty = message.content.is_empty() && message.tool_calls.is_empty() && !all.is_empty();
    if !is_empty {
        push(out, message);
    }
    Ok(())
}

/// Messages are told apart by ids; their places will do.
fn push<'a>(out: &mut Vec<MessageOut<'a>>, message: SaidOut<'a>) {
    let id = format!("m{}", out.len());
    out.push(MessageOut::Said(SaidOut { id, ..message }));
}

fn result_of<'a>(said: &Said<'a>, result: &'a ToolResultPart, called: &HashMap<&'a str, &'a str>, rules: Rules<'_>) -> Result<SaidOut<'a>> {
    if result.is_error {
        rules.lack(said.place.key("tool_result.is_error"))?;
    }
    // The protocol wants a name; a result of a call that nobody sees goes by the call.
    let name = called.get(&*result.tool_call_id).copied().unwrap_or(&result.tool_call_id);
    let mut message = SaidOut { role: "tool", name, tool_call_id: &result.tool_call_id, ..SaidOut::default() };
    let field = said.place.key("tool_result.parts");
    let all = At::Root.key(&field);
    for (n, part) in result.parts.iter().enumerate() {
        match turns::result_part(part, rules, all.index(n))? {
            None => {}
            Some(ResultPart::Text(text)) => message.content.push_str(text),
            Some(ResultPart::Media(_) | ResultPart::Raw(_)) => rules.lack_content(all.index(n))?,
        }
    }
    Ok(message)
}

/// An answer. Calls that the agent has answered itself, and their results, are kept as it told them.
pub(super) fn decode(json: &[u8]) -> Result<ChatResponse> {
    let answer: AnswerIn<'_> = serde_json::from_slice(json).map_err(|error| bad_answer(format!("the answer at {}", place(&error))))?;
    let mut messages = Vec::with_capacity(answer.messages.len());
    for raw in answer.messages {
        messages.push((raw, MessageIn::of(raw)?));
    }
    if messages.is_empty() {
        return Err(bad_answer("the answer has no messages"));
    }
    let answered: Vec<String> = messages.iter().filter_map(|(_, message)| message.tool_call_id.as_deref().map(str::to_owned)).collect();
    let is_done = |call: &CallIn<'_>| answered.iter().any(|known| **known == *call.id);
    let mut parts = Vec::new();
    for (raw, message) in messages {
        if message.is_own() && !message.tool_calls.iter().flatten().any(is_done) {
            parts.extend(parts_of(message));
        } else {
            parts.push(Part { kind: Some(Kind::Raw(kept_as(raw.get()))), cache_hint: None });
        }
    }
    let word = answer.finish_reason.to_string();
    let choice = Choice {
        message: Some(Message { role: Role::Assistant.into(), parts, ..Message::default() }),
        finish_reason: openai::finish_reason(&word).into(),
        raw_finish_reason: word,
        ..Choice::default()
    };
    let usage = openai::read_usage(answer.usage, &QUIRKS);
    Ok(ChatResponse { choices: vec![choice], usage, provider_fields: kept(&answer.rest), ..ChatResponse::default() })
}

/// A message as the agent told it.
pub(super) fn kept_as(json: &str) -> RawPart {
    RawPart { provider: SHAPE.protocol.to_owned(), json: json.to_owned() }
}

fn parts_of(message: MessageIn<'_>) -> Vec<Part> {
    let said = message.content.map(String::from).filter(|text| !text.is_empty()).map(text_part);
    let calls = message.tool_calls.into_iter().flatten().map(|call| Part { kind: Some(Kind::ToolCall(call.into())), cache_hint: None });
    said.into_iter().chain(calls).collect()
}
