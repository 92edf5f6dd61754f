//! Golden fixtures of the dialect.

use std::collections::BTreeSet;

use flowgate_proto::v1::part::Kind;
use http::HeaderMap;
use serde_json::{Value as Json, json};

use super::OLLAMA;
use crate::dialect::golden::{Suite, checks, round, target};

static SUITE: Suite =
    Suite { dialect: &OLLAMA, folder: "ollama", target: |_| target("ollama-native", "http://localhost:11434", "qwen3:8b") };
checks!(SUITE, Chat, Complete, Embed);

#[test]
fn what_both_protocols_say_survives_the_way_there_and_back() {
    round::check(&SUITE, back, &round::rich());
}

/// A body of this protocol as OpenAI would have it.
fn back(mut body: Json) -> Json {
    if let Some(options) = body.as_object_mut().unwrap().remove("options") {
        body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    }
    round::rename(&mut body, "num_predict", "max_tokens");
    match body.as_object_mut().unwrap().remove("think") {
        None => {}
        Some(Json::Bool(false)) => body["reasoning_effort"] = json!("none"),
        Some(effort) => body["reasoning_effort"] = effort,
    }
    match body.as_object_mut().unwrap().remove("format") {
        None => {}
        Some(Json::String(word)) => body["response_format"] = json!({ "type": format!("{word}_object") }),
        Some(schema) => {
            body["response_format"] = json!({ "type": "json_schema", "json_schema": { "name": "answer", "schema": schema } });
        }
    }
    for message in body["messages"].as_array_mut().unwrap() {
        round::rename(message, "thinking", "reasoning_content");
        for call in message["tool_calls"].as_array_mut().into_iter().flatten() {
            call["type"] = json!("function");
            call["function"]["arguments"] = json!(call["function"]["arguments"].to_string());
        }
        let fields = message.as_object_mut().unwrap();
        fields.remove("tool_name");
        let images = fields.remove("images").unwrap_or_default();
        let of_image = |image: &Json| json!({ "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{}", image.as_str().unwrap()) } });
        let mut parts: Vec<Json> = images.as_array().into_iter().flatten().map(of_image).collect();
        if message["content"] != "" {
            parts.push(json!({ "type": "text", "text": message["content"] }));
        }
        message["content"] = json!(parts);
    }
    body
}

/// A client sends both answers back, and names the call that a result is of.
#[test]
fn made_up_ids_tell_the_calls_of_a_conversation_apart() {
    let ids = |created_at: &str| -> Vec<String> {
        let call = json!({ "function": { "name": "act", "arguments": {} } });
        let message = json!({ "role": "assistant", "content": "", "tool_calls": [call, call] });
        let answer = json!({ "created_at": created_at, "message": message, "done": true, "done_reason": "stop" });
        let mut answer = super::answer::decode(answer.to_string().as_bytes(), super::errors(&Quirks::NONE)).unwrap();
        let parts = answer.choices.remove(0).message.unwrap().parts;
        parts.into_iter().map(|part| if let Some(Kind::ToolCall(call)) = part.kind { call.id } else { panic!("no call") }).collect()
    };
    let (first, second) = (ids("2025-09-10T10:00:00.1Z"), ids("2025-09-10T10:00:00.2Z"));
    assert_eq!(first, ids("2025-09-10T10:00:00.1Z"), "the same answer has the same ids");
    let all: BTreeSet<_> = first.into_iter().chain(second).collect();
    assert_eq!(all.len(), 4);
}
