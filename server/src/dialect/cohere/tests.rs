//! Golden fixtures of the dialect.

use serde_json::{Value as Json, json};

use super::COHERE;
use crate::dialect::golden::{Suite, checks, round, target};

static SUITE: Suite =
    Suite { dialect: &COHERE, folder: "cohere", target: |_| target("cohere", "https://api.cohere.com/v2", "command-a-03-2025") };
checks!(SUITE, Chat, Complete, Embed);

#[test]
fn what_both_protocols_say_survives_the_way_there_and_back() {
    round::check(&SUITE, back, &round::rich());
}

/// A body of this protocol as OpenAI would have it.
fn back(mut body: Json) -> Json {
    for (from, to) in [("p", "top_p"), ("stop_sequences", "stop")] {
        round::rename(&mut body, from, to);
    }
    if body["thinking"]["type"] == "disabled" {
        body["reasoning_effort"] = json!("none");
    }
    body.as_object_mut().unwrap().remove("thinking");
    if body["response_format"]["json_schema"].is_object() {
        let schema = body["response_format"]["json_schema"].take();
        body["response_format"] = json!({ "type": "json_schema", "json_schema": { "name": "answer", "schema": schema } });
    }
    for message in body["messages"].as_array_mut().unwrap() {
        round::rename(message, "tool_plan", "reasoning_content");
        let Some(parts) = message["content"].as_array_mut() else { continue };
        let thinking: String = parts.iter().filter_map(|part| part["thinking"].as_str()).collect();
        parts.retain(|part| part["type"] != "thinking");
        if !thinking.is_empty() {
            message["reasoning_content"] = json!(thinking);
        }
    }
    body
}
