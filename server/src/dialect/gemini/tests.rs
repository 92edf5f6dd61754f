//! Golden fixtures of the dialect.

use flowgate_proto::v1::{ChatRequest, FinishReason, Message, Part, Role, ToolResultPart, part::Kind};
use serde_json::Value as Json;

use super::{GEMINI, Reader};
use crate::{
    dialect::{
        Decoder as _, Frame, Target,
        golden::{self, Case, Suite, checks, target},
        join::join,
    },
    event::Request,
};

mod round_trip;

static SUITE: Suite = Suite { dialect: &GEMINI, folder: "gemini", target: target_of };
checks!(SUITE, Chat, Complete, Embed);

/// Whom a case asks.
fn target_of(case: &Case) -> Target {
    target("gemini", "https://generativelanguage.googleapis.com/v1beta", case.model_or("gemini-3-pro-preview"))
}

/// What an answer says goes back part by part as it came, with every signature beside the part it came with.
#[test]
fn a_replay_is_exact() {
    for name in ["chat_answer_signatures", "chat_answer_tool", "chat_answer_raw", "chat_answer_thought_end"] {
        let fixture = golden::fixtures("gemini").into_iter().find(|fixture| fixture.name == name).unwrap();
        let body = fixture.read("response.json").unwrap();
        let mut received: Json = serde_json::from_slice(&body).unwrap();
        let mut received = received.pointer_mut("/candidates/0/content").unwrap().take();
        let mut answer = Reader::whole(&body, &target_of(&fixture.case)).unwrap();
        let message = answer.choices.remove(0).message.unwrap();
        let result = |id: &str| Part {
            kind: Some(Kind::ToolResult(ToolResultPart { tool_call_id: id.to_owned(), ..ToolResultPart::default() })),
            cache_hint: None,
        };
        let ids: Vec<Part> = message
            .parts
            .iter()
            .filter_map(|part| if let Some(Kind::ToolCall(call)) = &part.kind { Some(result(&call.id)) } else { None })
            .collect();
        let mut messages = vec![message];
        if !ids.is_empty() {
            messages.push(Message { role: Role::Tool.into(), parts: ids, ..Message::default() });
        }
        let request = Request::Chat(ChatRequest { messages, ..ChatRequest::default() });
        let sent = SUITE.encode(&fixture, request).unwrap();
        let mut sent: Json = serde_json::from_str(sent.split_once("\n\n").unwrap().1).unwrap();
        let mut sent = sent.pointer_mut("/contents/0").unwrap().take();
        // A thought's text and its signature may come apart; they go back together.
        merge_thoughts(&mut received);
        sent["parts"].as_array_mut().unwrap().iter_mut().for_each(forget_made_up_id);
        assert_eq!(sent, received, "{name}");
    }
}

fn forget_made_up_id(part: &mut Json) {
    if let Some(call) = part.get_mut("functionCall").and_then(Json::as_object_mut) {
        call.retain(|name, id| name != "id" || !id.as_str().unwrap().starts_with("call_"));
    }
}

fn merge_thoughts(content: &mut Json) {
    let mut merged: Vec<Json> = Vec::new();
    for part in content["parts"].as_array().unwrap().clone() {
        let text = part.get("text").and_then(Json::as_str);
        match merged.last_mut() {
            Some(last) if part["thought"] == true && text == Some("") => last["thoughtSignature"] = part["thoughtSignature"].clone(),
            _ if text.is_none() && part.as_object().unwrap().len() == 1 && part.get("thoughtSignature").is_some() => {
                merged.push(serde_json::json!({ "text": "", "thoughtSignature": part["thoughtSignature"] }));
            }
            _ => merged.push(part),
        }
    }
    content["parts"] = merged.into();
}

/// Whatever comes after the word for the end still counts: the end is told when the connection ends.
#[test]
fn pieces_after_the_finish_reason_are_kept() {
    let (mut reader, mut events) = (Reader::new(&target_of(&Case::default())), Vec::new());
    for data in [
        r#"{"candidates":[{"content":{"parts":[{"text":"Yes"}]},"finishReason":"STOP"}]}"#,
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"now"}}]}}]}"#,
    ] {
        reader.frame(Frame { data: data.into(), ..Frame::default() }, &mut events).unwrap();
    }
    reader.finish(&mut events).unwrap();
    let choice = join(events).unwrap().choices.remove(0);
    assert_eq!(choice.finish_reason(), FinishReason::ToolCalls);
    assert_eq!(choice.message.unwrap().parts.len(), 2);
}
