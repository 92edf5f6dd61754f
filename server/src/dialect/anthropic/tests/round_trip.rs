//! Conversations of OpenAI's clients, sent by this protocol and read back: what the protocol has a place for survives.

use flowgate_proto::v1::{
    ChatRequest, MediaPart, Message, Part, Reasoning, ResponseFormat, ResponseFormatType, Role, TextPart, Tool, ToolCallPart, ToolChoice,
    ToolChoiceMode, ToolResultPart, media_part::Source, part::Kind,
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::SUITE;
use crate::dialect::{
    golden::{Case, chat, round::survives},
    media::{data_uri, from_base64},
};

/// The name of every schema here: the protocol has no place for one.
const SCHEMA: &str = "answer";

fn check(body: &Json) {
    survives(&SUITE, &Case { model: "claude-opus-4-6".to_owned(), ..Case::default() }, chat(body), read);
}

/// Reads a request of the protocol.
fn read(body: &Json) -> ChatRequest {
    let system = body.get("system").map(|system| message(Role::System, system)).into_iter().flatten();
    let turns = body["messages"].as_array().unwrap().iter().flat_map(|turn| {
        let role = if turn["role"] == "assistant" { Role::Assistant } else { Role::User };
        message(role, &turn["content"])
    });
    let choice = body.get("tool_choice");
    ChatRequest {
        messages: system.chain(turns).collect(),
        max_tokens: Some(body["max_tokens"].as_u64().unwrap().try_into().unwrap()),
        temperature: body["temperature"].as_f64(),
        top_p: body["top_p"].as_f64(),
        stop: body["stop_sequences"].as_array().into_iter().flatten().map(text).collect(),
        tools: body["tools"].as_array().into_iter().flatten().map(tool).collect(),
        tool_choice: choice.and_then(tool_choice),
        parallel_tool_calls: choice.and_then(|choice| choice["disable_parallel_tool_use"].as_bool()).map(|is_single| !is_single),
        response_format: body["output_config"].get("format").map(|format| ResponseFormat {
            r#type: ResponseFormatType::JsonSchema.into(),
            name: SCHEMA.to_owned(),
            schema: format["schema"].to_string(),
            ..ResponseFormat::default()
        }),
        reasoning: body["output_config"].get("effort").map(|effort| Reasoning { effort: text(effort), ..Reasoning::default() }),
        user: body["metadata"]["user_id"].as_str().unwrap_or_default().to_owned(),
        ..ChatRequest::default()
    }
}

fn text(json: &Json) -> String {
    json.as_str().unwrap().to_owned()
}

/// A turn as messages: results of tools are messages of their own.
fn message(role: Role, content: &Json) -> Vec<Message> {
    let whole = json!([{ "type": "text", "text": content }]);
    let blocks = if content.is_string() { &whole } else { content };
    let parts: Vec<Part> = blocks.as_array().unwrap().iter().map(|block| Part { kind: Some(kind(block)), cache_hint: None }).collect();
    let (results, said): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(|part| matches!(part.kind, Some(Kind::ToolResult(_))));
    let speak = |role: Role, parts| Message { role: role.into(), parts, ..Message::default() };
    let all = [speak(Role::Tool, results), speak(role, said)];
    all.into_iter().filter(|message| !message.parts.is_empty()).collect()
}

fn kind(block: &Json) -> Kind {
    match block["type"].as_str().unwrap() {
        "text" => Kind::Text(TextPart { text: text(&block["text"]), citations: Vec::new() }),
        "tool_use" => Kind::ToolCall(ToolCallPart {
            id: text(&block["id"]),
            name: text(&block["name"]),
            arguments: block["input"].to_string(),
            signature: String::new(),
        }),
        "tool_result" => {
            let parts = message(Role::User, &block["content"]).into_iter().flat_map(|message| message.parts).collect();
            Kind::ToolResult(ToolResultPart { tool_call_id: text(&block["tool_use_id"]), parts, is_error: false })
        }
        "image" | "document" => {
            let source = &block["source"];
            let bytes = |name: &str| from_base64(source[name].as_str().unwrap()).unwrap();
            Kind::Media(MediaPart {
                source: Some(match source["type"].as_str().unwrap() {
                    "base64" => Source::Data(bytes("data")),
                    "url" => Source::Uri(text(&source["url"])),
                    "file" => Source::FileId(text(&source["file_id"])),
                    other => panic!("no source {other}"),
                }),
                mime_type: source["media_type"].as_str().unwrap_or_default().to_owned(),
                file_name: block["title"].as_str().unwrap_or_default().to_owned(),
                ..MediaPart::default()
            })
        }
        other => panic!("no block {other}"),
    }
}

fn tool(tool: &Json) -> Tool {
    Tool {
        name: text(&tool["name"]),
        description: tool["description"].as_str().unwrap_or_default().to_owned(),
        parameters: tool["input_schema"].to_string(),
        strict: tool["strict"].as_bool(),
    }
}

fn tool_choice(choice: &Json) -> Option<ToolChoice> {
    let mode = match choice["type"].as_str()? {
        // Written for the sake of the field beside it.
        "auto" if choice.get("disable_parallel_tool_use").is_some() => return None,
        "auto" => ToolChoiceMode::Auto,
        "any" => ToolChoiceMode::Required,
        "tool" => ToolChoiceMode::Tool,
        _ => ToolChoiceMode::None,
    };
    Some(ToolChoice { mode: mode.into(), name: choice["name"].as_str().unwrap_or_default().to_owned() })
}

#[test]
fn rich_requests_survive() {
    let user = |content: Json| json!({ "role": "user", "content": content });
    let hi = || vec![user("Hi".into())];
    let call = |id: &str, name: &str, said: &str| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": said } });
    let weather = json!({ "type": "function", "function": { "name": "weather", "description": "The weather.", "strict": true,
        "parameters": { "type": "object", "properties": { "city": { "type": "string" } }, "additionalProperties": false } } });
    let with = |messages: Vec<Json>, more: Json| {
        let mut body = json!({ "model": "", "messages": messages, "max_completion_tokens": 64 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let called = json!({ "role": "assistant", "content": "I look.",
        "tool_calls": [call("a", "weather", r#"{"city":"Rome"}"#), call("b", "now", "{}")] });
    let silent =
        json!({ "role": "assistant", "content": null, "tool_calls": [call("a", "weather", r#"{"city":"Rome","days":[1,2.5,null]}"#)] });
    let result = |id: &str, content: &str| json!({ "role": "tool", "tool_call_id": id, "content": content });
    let image = |url: &str| json!({ "type": "image_url", "image_url": { "url": url } });
    let file = |file: Json| json!({ "type": "file", "file": file });
    let closed =
        json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"], "additionalProperties": false });
    let cases = [
        with(hi(), json!({})),
        with(hi(), json!({ "temperature": 0, "top_p": 0.25, "stop": ["a", "b"], "user": "u-1" })),
        with(
            vec![
                json!({ "role": "system", "content": "Be brief." }),
                user("Hi".into()),
                json!({ "role": "assistant", "content": "Hello" }),
                user("Bye".into()),
            ],
            json!({}),
        ),
        with(hi(), json!({ "tools": [weather], "tool_choice": "auto" })),
        with(hi(), json!({ "tools": [weather], "tool_choice": "required", "parallel_tool_calls": false })),
        with(hi(), json!({ "tools": [weather], "parallel_tool_calls": false })),
        with(hi(), json!({ "tools": [weather], "tool_choice": { "type": "function", "function": { "name": "weather" } } })),
        with(hi(), json!({ "tools": [weather], "tool_choice": "none" })),
        with(
            vec![user("Hi".into()), called, result("a", "Rain."), result("b", "Noon."), user("And?".into())],
            json!({ "tools": [weather] }),
        ),
        with(vec![user("Hi".into()), silent, result("a", "Rain.")], json!({ "tools": [weather] })),
        with(
            vec![user(
                json!([{ "type": "text", "text": "See." }, image("https://example.com/a.png"), image("data:image/png;base64,iVBORw0=")]),
            )],
            json!({}),
        ),
        with(
            vec![user(json!([
                file(json!({ "file_data": "data:application/pdf;base64,JVBERi0xLjQK", "filename": "a.pdf" })),
                file(json!({ "file_id": "file_1" }))
            ]))],
            json!({}),
        ),
        with(hi(), json!({ "response_format": { "type": "json_schema", "json_schema": { "name": SCHEMA, "schema": closed } } })),
        with(hi(), json!({ "reasoning_effort": "high" })),
    ];
    cases.iter().for_each(check);
}

#[test]
#[should_panic(expected = "by way of")]
fn what_has_no_place_is_seen_to_be_lost() {
    check(&json!({ "messages": [{ "role": "user", "content": "Hi" }], "parallel_tool_calls": true }));
}

fn words() -> impl Strategy<Value = String> {
    "\\PC{1,12}".prop_filter("the protocol refuses blank texts", |text| !text.trim().is_empty())
}

/// What a user says: text, or text and an image.
fn user() -> impl Strategy<Value = Vec<Json>> {
    let plain = words().prop_map(|text| json!(text));
    let seen = (words(), proptest::collection::vec(any::<u8>(), 1..9)).prop_map(|(text, bytes)| {
        json!([{ "type": "text", "text": text }, { "type": "image_url", "image_url": { "url": data_uri("image/png", &bytes) } }])
    });
    prop_oneof![plain, seen].prop_map(|content| vec![json!({ "role": "user", "content": content })])
}

/// What the model says: text, or calls with the results that come back.
fn model() -> impl Strategy<Value = Vec<Json>> {
    let plain = words().prop_map(|text| vec![json!({ "role": "assistant", "content": text })]);
    let calls = (proptest::option::of(words()), proptest::collection::vec((words(), words()), 1..4)).prop_map(|(text, calls)| {
        let made = calls.iter().enumerate().map(|(n, (argument, _))| {
            let arguments = json!({ "n": n, "said": argument }).to_string();
            json!({ "id": format!("call_{n}"), "type": "function", "function": { "name": "act", "arguments": arguments } })
        });
        let head = json!({ "role": "assistant", "content": text, "tool_calls": made.collect::<Vec<_>>() });
        let results =
            calls.iter().enumerate().map(|(n, (_, said))| json!({ "role": "tool", "tool_call_id": format!("call_{n}"), "content": said }));
        std::iter::once(head).chain(results).collect()
    });
    prop_oneof![plain, calls]
}

proptest! {
    #[test]
    fn conversations_survive(
        system in proptest::option::of(words()),
        turns in proptest::collection::vec((user(), model()), 0..4),
        last in user(),
    ) {
        let system = system.map(|text| json!({ "role": "system", "content": text }));
        let turns = turns.into_iter().flat_map(|(user, model)| user.into_iter().chain(model));
        let messages: Vec<Json> = system.into_iter().chain(turns).chain(last).collect();
        check(&json!({ "messages": messages, "max_completion_tokens": 9 }));
    }
}
