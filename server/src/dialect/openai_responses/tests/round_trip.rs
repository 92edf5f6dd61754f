//! What a client of OpenAI's chat says reaches the provider: a body of chat becomes one of this protocol, which is read back into one of
//! chat. What is made alike on the way:
//!
//! - the model is the target's, and the limit has its newer name;
//! - `top_logprobs` asks for log probabilities by itself;
//! - an answer's parts are items: what a model says between two others is one message again.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{OPENAI_RESPONSES, target_of};
use crate::dialect::golden::{
    Case, chat,
    generated::{chat_bodies, set, with_doubles},
    sent,
};

const FIELDS: &[&str] = &[
    "max_completion_tokens",
    "temperature",
    "top_p",
    "logprobs",
    "tools",
    "response_format",
    "reasoning_effort",
    "metadata",
    "user",
    "service_tier",
    "store",
    "prompt_cache_key",
];

fn again(body: &Json) -> Json {
    read_back(sent(&OPENAI_RESPONSES, &target_of(&Case::default()), chat(body)))
}

/// A body of this protocol as one of chat.
fn read_back(mut body: Json) -> Json {
    let mut chat = json!({ "messages": messages(body["input"].as_array().unwrap()) });
    let include = body["include"].take();
    let includes = |what: &str| include.as_array().is_some_and(|list| list.contains(&json!(what))).then_some(true);
    chat["logprobs"] = includes("message.output_text.logprobs").into();
    assert_eq!(includes("reasoning.encrypted_content").is_some(), body.get("reasoning").is_some());
    chat["max_completion_tokens"] = body["max_output_tokens"].take();
    chat["reasoning_effort"] = body["reasoning"]["effort"].take();
    chat["response_format"] = match body["text"]["format"].take() {
        mut schema if schema["type"] == "json_schema" => {
            schema.as_object_mut().unwrap().remove("type");
            json!({ "type": "json_schema", "json_schema": schema })
        }
        other => other,
    };
    if let Some(tools) = body["tools"].as_array_mut() {
        chat["tools"] = tools.iter_mut().map(|tool| nested(tool.take())).collect();
    }
    chat["tool_choice"] = match body["tool_choice"].take() {
        tool if tool.is_object() => nested(tool),
        word => word,
    };
    let same = [
        "model",
        "temperature",
        "top_p",
        "top_logprobs",
        "parallel_tool_calls",
        "metadata",
        "user",
        "service_tier",
        "store",
        "prompt_cache_key",
    ];
    for name in same {
        chat[name] = body[name].take();
    }
    set(chat)
}

/// A flat function, or the choice of one, as chat nests it.
fn nested(mut tool: Json) -> Json {
    tool.as_object_mut().unwrap().remove("type");
    json!({ "type": "function", "function": set(tool) })
}

fn messages(items: &[Json]) -> Vec<Json> {
    let mut all: Vec<Json> = Vec::new();
    for item in items {
        match item["type"].as_str().unwrap() {
            "message" if item["role"] == "assistant" => {
                let last = open(&mut all);
                for entry in item["content"].as_array().unwrap() {
                    let (from, to) = if entry["type"] == "refusal" { ("refusal", "refusal") } else { ("text", "content") };
                    last[to] = entry[from].clone();
                }
            }
            "message" => all.push(json!({ "role": item["role"], "content": content(item["content"].as_array().unwrap()) })),
            "function_call" => {
                let call = json!({ "id": item["call_id"], "type": "function",
                                   "function": { "name": item["name"], "arguments": item["arguments"] } });
                let last = open(&mut all);
                match last.get_mut("tool_calls") {
                    Some(calls) => calls.as_array_mut().unwrap().push(call),
                    None => last["tool_calls"] = json!([call]),
                }
            }
            "function_call_output" => all.push(json!({ "role": "tool", "tool_call_id": item["call_id"], "content": item["output"] })),
            other => panic!("no item {other}"),
        }
    }
    all
}

/// The model's message that is being read.
fn open(all: &mut Vec<Json>) -> &mut Json {
    if all.last().is_none_or(|last| last["role"] != "assistant") {
        all.push(json!({ "role": "assistant", "content": null }));
    }
    all.last_mut().unwrap()
}

fn content(entries: &[Json]) -> Json {
    if let [only] = entries
        && only["type"] == "input_text"
    {
        return only["text"].clone();
    }
    let entry = |entry: &Json| match entry["type"].as_str().unwrap() {
        "input_text" => json!({ "type": "text", "text": entry["text"] }),
        "input_image" => json!({ "type": "image_url", "image_url": set(json!({ "url": entry["image_url"], "detail": entry["detail"] })) }),
        "input_file" => {
            let file = json!({ "file_id": entry["file_id"], "file_data": entry["file_data"], "filename": entry["filename"] });
            json!({ "type": "file", "file": set(file) })
        }
        other => panic!("no entry {other}"),
    };
    entries.iter().map(entry).collect()
}

fn normal(mut body: Json) -> Json {
    body["model"] = json!("gpt-5-mini");
    if body.get("store").is_none() {
        body["store"] = json!(false);
    }
    set(body)
}

#[test]
fn rich_bodies_survive() {
    let call = |id: &str| json!({ "id": id, "type": "function", "function": { "name": "f", "arguments": "{\"a\": 1}" } });
    let result = |id: &str| json!({ "role": "tool", "tool_call_id": id, "content": "done" });
    let user = json!({ "role": "user", "content": "Hi" });
    let says = |text: &str| json!({ "role": "assistant", "content": text });
    let conversations = [
        json!([user]),
        json!([{ "role": "system", "content": "A" }, { "role": "developer", "content": "B" }, user]),
        json!([user, says("a"), { "role": "system", "content": "late" }, user]),
        json!([user, { "role": "assistant", "content": null, "tool_calls": [call("1"), call("2")] }, result("1"), result("2"), says("b"), user]),
        json!([user, { "role": "assistant", "content": "Looking.", "tool_calls": [call("1")] }, result("1"), user]),
        json!([user, { "role": "assistant", "content": null, "refusal": "No." }, user]),
        json!([{ "role": "user", "content": [{ "type": "text", "text": "See" }, { "type": "image_url", "image_url": { "url": "https://x/y", "detail": "low" } }] }]),
    ];
    let further = [
        json!({}),
        json!({ "temperature": 0.0, "top_p": 1.0, "max_completion_tokens": 5, "user": "u", "metadata": { "a": "b" } }),
        json!({ "reasoning_effort": "high", "service_tier": "flex", "store": true }),
    ];
    for messages in &conversations {
        for further in &further {
            let mut body = further.clone();
            body["model"] = json!("e");
            body["messages"] = messages.clone();
            assert_eq!(with_doubles(again(&body)), with_doubles(normal(body)));
        }
    }
}

proptest! {
    #[test]
    fn what_is_said_survives(body in chat_bodies(FIELDS)) {
        prop_assert_eq!(with_doubles(again(&body)), with_doubles(normal(body)));
    }
}
