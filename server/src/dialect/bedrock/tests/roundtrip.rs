//! What OpenAI's form and this protocol both have survives the way there and back.

use flowgate_proto::v1::{
    ChatRequest, MediaKind, MediaPart, Message, Part, Reasoning, ReasoningPart, ResponseFormat, ResponseFormatType, Role, TextPart, Tool,
    ToolCallPart, ToolChoice, ToolChoiceMode, ToolResultPart, media_part::Source, part::Kind,
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::SUITE;
use crate::dialect::{
    golden::{Case, chat, round},
    media::from_base64,
};

fn text(json: &Json) -> String {
    json.as_str().unwrap_or_default().to_owned()
}

fn list(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}

fn part(kind: Kind) -> Part {
    Part { kind: Some(kind), cache_hint: None }
}

fn media(block: &Json, kind: MediaKind, kind_of_type: &str) -> Part {
    let data = from_base64(block["source"]["bytes"].as_str().unwrap()).unwrap();
    let mime_type = format!("{kind_of_type}/{}", block["format"].as_str().unwrap());
    part(Kind::Media(MediaPart {
        source: Some(Source::Data(data)),
        mime_type,
        kind: kind.into(),
        file_name: text(&block["name"]),
        detail: String::new(),
    }))
}

/// A block as a part.
fn read_block(block: &Json) -> Part {
    let (name, inner) = block.as_object().unwrap().iter().next().unwrap();
    match name.as_str() {
        "text" => part(Kind::Text(TextPart { text: text(inner), citations: Vec::new() })),
        "image" => media(inner, MediaKind::Image, "image"),
        "document" => media(inner, MediaKind::Document, "application"),
        "toolUse" => part(Kind::ToolCall(ToolCallPart {
            id: text(&inner["toolUseId"]),
            name: text(&inner["name"]),
            arguments: inner["input"].to_string(),
            signature: String::new(),
        })),
        "toolResult" => part(Kind::ToolResult(ToolResultPart {
            tool_call_id: text(&inner["toolUseId"]),
            parts: list(&inner["content"]).iter().map(read_block).collect(),
            is_error: inner["status"] == "error",
        })),
        "reasoningContent" => {
            part(Kind::Reasoning(ReasoningPart { text: text(&inner["reasoningText"]["text"]), ..ReasoningPart::default() }))
        }
        other => panic!("no block {other}"),
    }
}

fn message(role: Role, parts: Vec<Part>) -> Message {
    Message { role: role.into(), parts, ..Message::default() }
}

fn read_messages(body: &Json) -> Vec<Message> {
    let mut messages: Vec<Message> = list(&body["system"]).iter().map(|block| message(Role::System, vec![read_block(block)])).collect();
    for turn in list(&body["messages"]) {
        let parts: Vec<Part> = list(&turn["content"]).iter().map(read_block).collect();
        if turn["role"] == "assistant" {
            messages.push(message(Role::Assistant, parts));
            continue;
        }
        let (results, said): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| matches!(part.kind, Some(Kind::ToolResult(_))));
        messages.extend(results.into_iter().map(|result| message(Role::Tool, vec![result])));
        if !said.is_empty() {
            messages.push(message(Role::User, said));
        }
    }
    messages
}

fn read_tool(tool: &Json) -> Tool {
    let spec = &tool["toolSpec"];
    let parameters = spec["inputSchema"]["json"].to_string();
    Tool { name: text(&spec["name"]), description: text(&spec["description"]), parameters, strict: spec["strict"].as_bool() }
}

fn read_choice(choice: &Json) -> Option<ToolChoice> {
    let (name, inner) = choice.as_object()?.iter().next()?;
    let mode = match name.as_str() {
        "auto" => ToolChoiceMode::Auto,
        "any" => ToolChoiceMode::Required,
        _ => ToolChoiceMode::Tool,
    };
    Some(ToolChoice { mode: mode.into(), name: text(&inner["name"]) })
}

/// A body as a request of the contract.
fn read(body: &Json) -> ChatRequest {
    let sampling = &body["inferenceConfig"];
    let schema = &body["outputConfig"]["textFormat"]["structure"]["jsonSchema"];
    let effort = text(&body["additionalModelRequestFields"]["output_config"]["effort"]);
    ChatRequest {
        messages: read_messages(body),
        max_tokens: sampling["maxTokens"].as_u64().map(|tokens| tokens.try_into().unwrap()),
        temperature: sampling["temperature"].as_f64(),
        top_p: sampling["topP"].as_f64(),
        stop: list(&sampling["stopSequences"]).iter().map(text).collect(),
        tools: list(&body["toolConfig"]["tools"]).iter().map(read_tool).collect(),
        tool_choice: read_choice(&body["toolConfig"]["toolChoice"]),
        response_format: schema.is_object().then(|| ResponseFormat {
            r#type: ResponseFormatType::JsonSchema.into(),
            name: text(&schema["name"]),
            description: text(&schema["description"]),
            schema: text(&schema["schema"]),
            strict: Some(true),
        }),
        reasoning: (!effort.is_empty()).then(|| Reasoning { effort, ..Reasoning::default() }),
        metadata: body["requestMetadata"].as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect(),
        ..ChatRequest::default()
    }
}

#[track_caller]
fn survives(request: ChatRequest) {
    let mut parts = request.messages.iter().flat_map(|message| &message.parts);
    // A client of OpenAI's has no signatures, without which Claude takes no reasoning.
    let reasons = parts.any(|part| matches!(part.kind, Some(Kind::Reasoning(_))));
    let model = if reasons { "us.deepseek.r1-v1:0" } else { "anthropic.claude-opus-4-6-v1:0" };
    round::survives(&SUITE, &Case { model: model.to_owned(), ..Case::default() }, request, read);
}

#[test]
fn what_a_client_of_openai_says_survives() {
    let weather = json!({ "type": "function", "function": { "name": "weather", "description": "The weather.", "strict": true,
        "parameters": { "type": "object", "properties": { "city": { "type": "string" } } } } });
    let asks = json!([{ "role": "user", "content": "Weather?" }]);
    let called = json!([
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": "Rome and Oslo?" },
        { "role": "assistant", "content": "Looking.", "tool_calls": [
            { "id": "a", "type": "function", "function": { "name": "weather", "arguments": "{\"city\":\"Rome\",\"deep\":[{\"n\":1}]}" } },
            { "id": "b", "type": "function", "function": { "name": "weather", "arguments": "{}" } }] },
        { "role": "tool", "tool_call_id": "a", "content": "sunny" },
        { "role": "tool", "tool_call_id": "b", "content": "snow" },
        { "role": "user", "content": "So?" },
    ]);
    let schema = json!({ "type": "json_schema", "json_schema": { "name": "answer", "description": "An answer.", "strict": true,
        "schema": { "type": "object", "properties": { "a": { "type": "number" } }, "additionalProperties": false } } });
    for body in [
        json!({ "messages": [{ "role": "user", "content": "Hi" }] }),
        json!({ "messages": [{ "role": "system", "content": "A" }, { "role": "user", "content": "B" }, { "role": "assistant", "content": "C" },
            { "role": "user", "content": "D" }] }),
        json!({ "messages": asks, "max_completion_tokens": 7, "temperature": 0, "top_p": 0.1, "stop": ["a", "b"], "metadata": { "k": "v" } }),
        json!({ "messages": asks, "tools": [weather], "tool_choice": "auto" }),
        json!({ "messages": asks, "tools": [weather], "tool_choice": "required" }),
        json!({ "messages": asks, "tools": [weather], "tool_choice": { "type": "function", "function": { "name": "weather" } } }),
        json!({ "messages": called, "tools": [weather] }),
        json!({ "messages": asks, "response_format": schema }),
        json!({ "messages": asks, "reasoning_effort": "high" }),
        json!({ "messages": [{ "role": "user", "content": [{ "type": "text", "text": "What?" },
            { "type": "image_url", "image_url": { "url": "data:image/png;base64,iVBORw==" } },
            { "type": "file", "file": { "filename": "report", "file_data": "data:application/pdf;base64,JVBERg==" } }] }] }),
        json!({ "messages": [{ "role": "user", "content": "2+2?" }, { "role": "assistant", "content": "4", "reasoning_content": "Add." },
            { "role": "user", "content": "Sure?" }] }),
    ] {
        survives(chat(&body));
    }
}

fn says() -> impl Strategy<Value = Part> {
    "[a-zA-Zäß€\"\\\\\\n]{1,20}"
        .prop_filter("not blank", |text| !text.trim().is_empty())
        .prop_map(|text| part(Kind::Text(TextPart { text, citations: Vec::new() })))
}

/// What the user says, what the model answers, and how many tools it calls.
fn exchange() -> impl Strategy<Value = (Part, Part, Vec<(String, i64)>)> {
    (says(), says(), prop::collection::vec(("[a-z]{1,8}", any::<i64>()), 0..4))
}

proptest! {
    #[test]
    fn any_conversation_survives(exchanges in prop::collection::vec(exchange(), 1..6), last in says(), temperature in 0.0..1.0_f64) {
        let mut messages = Vec::new();
        for (n, (user, model, calls)) in exchanges.into_iter().enumerate() {
            messages.push(message(Role::User, vec![user]));
            let of = |at: usize| format!("call-{n}-{at}");
            let asked = calls.iter().enumerate().map(|(at, (name, value))| part(Kind::ToolCall(ToolCallPart {
                id: of(at), name: name.clone(), arguments: json!({ "n": value }).to_string(), signature: String::new(),
            })));
            messages.push(message(Role::Assistant, std::iter::once(model).chain(asked).collect()));
            messages.extend(calls.iter().enumerate().map(|(at, (name, _))| message(Role::Tool, vec![part(Kind::ToolResult(ToolResultPart {
                tool_call_id: of(at),
                parts: vec![part(Kind::Text(TextPart { text: name.clone(), citations: Vec::new() }))],
                is_error: false,
            }))])));
        }
        messages.push(message(Role::User, vec![last]));
        let tools = vec![Tool { name: "t".to_owned(), parameters: r#"{"type":"object"}"#.to_owned(), ..Tool::default() }];
        survives(ChatRequest { messages, tools, temperature: Some(temperature), ..ChatRequest::default() });
    }
}
