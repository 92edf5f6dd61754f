//! What was answered can be sent back, and says the same to the provider, which has stored nothing. What is made alike on the way:
//!
//! - items have no ids and no status, texts no log probabilities;
//! - the pieces of a summary are one, with blank lines between them; reasoning that is not encrypted is left out;
//! - messages that follow each other are one; an item that says nothing is left out.

use flowgate_proto::v1::{ChatRequest, Message, Role};
use serde_json::{Value as Json, json};

use super::{OPENAI_RESPONSES, SUITE, target_of};
use crate::{
    dialect::{
        Dialect,
        golden::{Case, ask, fixtures, sent},
    },
    event::{Answer, Payload, Request, Task},
};

fn user(text: &str) -> Message {
    Message { role: Role::User.into(), text: text.to_owned(), ..Message::default() }
}

/// The items that an answer becomes when it is sent back.
fn sent_back(body: &[u8]) -> Option<(Vec<Json>, Json)> {
    let payload = Payload::typed_only(Request::Chat(ChatRequest::default()));
    let target = target_of(&Case::default());
    let answer = OPENAI_RESPONSES.decode(&ask(Task::Chat, &payload), &target, &http::HeaderMap::new(), body.to_vec().into()).ok()?;
    let Answer::Chat(answer) = answer else { panic!("no chat answer") };
    let said = answer.choices.into_iter().next()?.message?;
    let request = ChatRequest { messages: vec![user("Hi"), said, user("Go on")], ..ChatRequest::default() };
    let body = sent(&OPENAI_RESPONSES, &target, request);
    let items = body["input"].as_array().unwrap();
    Some((items[1..items.len() - 1].to_vec(), body["include"].clone()))
}

fn normal(output: &[Json]) -> Vec<Json> {
    let mut items: Vec<Json> = Vec::new();
    for item in output {
        match item["type"].as_str() {
            Some("message") if item["content"].is_array() => {
                let content: Vec<Json> = item["content"].as_array().unwrap().iter().filter_map(entry).collect();
                match items.last_mut().filter(|last| last["type"] == "message" && last["content"].is_array()) {
                    Some(last) => last["content"].as_array_mut().unwrap().extend(content),
                    None if content.is_empty() => {}
                    None => items.push(json!({ "type": "message", "role": "assistant", "content": content })),
                }
            }
            Some("function_call") => items
                .push(json!({ "type": "function_call", "call_id": item["call_id"], "name": item["name"], "arguments": item["arguments"] })),
            Some("reasoning") => items.extend(reasoning(item)),
            _ => items.push(item.clone()),
        }
    }
    items
}

fn entry(entry: &Json) -> Option<Json> {
    let mut entry = entry.clone();
    let fields = entry.as_object_mut()?;
    fields.remove("logprobs");
    fields.retain(|name, value| name != "annotations" || value.as_array().is_some_and(|list| !list.is_empty()));
    Some(entry)
}

fn reasoning(item: &Json) -> Option<Json> {
    let texts = ["summary", "content"].into_iter().filter_map(|name| item[name].as_array()).flatten();
    let text = texts.filter_map(|entry| entry["text"].as_str()).collect::<Vec<_>>().join("\n\n");
    let mut replayed = json!({ "type": "reasoning", "summary": [] });
    if !text.is_empty() {
        replayed["summary"] = json!([{ "type": "summary_text", "text": text }]);
    }
    replayed["encrypted_content"] = item["encrypted_content"].clone();
    item["encrypted_content"].is_string().then_some(replayed)
}

#[test]
fn an_answer_is_sent_back_whole() {
    let mut seen = 0;
    for fixture in fixtures(SUITE.folder) {
        let Some(body) = fixture.read("response.json").filter(|_| fixture.name != "chat_answer_quirks") else { continue };
        let Some((items, include)) = sent_back(&body) else { continue };
        let response: Json = serde_json::from_slice(&body).unwrap();
        let expected = normal(response["output"].as_array().unwrap());
        // An unknown entry of a message is a message of its own.
        if fixture.name != "chat_answer_raw" {
            assert_eq!(items, expected, "{}", fixture.name);
        }
        let is_encrypted = items.iter().any(|item| item["encrypted_content"].is_string());
        assert_eq!(is_encrypted, include == json!(["reasoning.encrypted_content"]), "{}", fixture.name);
        seen += 1;
    }
    assert!(seen >= 15, "only {seen} answers");
}
