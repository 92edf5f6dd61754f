//! Conversations of OpenAI's clients, sent by this protocol and read back: what the protocol has a place for survives.

use flowgate_proto::v1::{
    ChatRequest, MediaPart, Message, Part, Reasoning, ReasoningPart, ResponseFormat, ResponseFormatType, Role, TextPart, Tool,
    ToolCallPart, ToolChoice, ToolChoiceMode, ToolResultPart, media_part::Source, part::Kind,
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{super::contents::UNSIGNED, SUITE};
use crate::dialect::{
    golden::{Case, chat, round::survives},
    media::from_base64,
};

/// The name of every schema here: the protocol has no place for one.
const SCHEMA: &str = "answer";

fn check(body: &Json) {
    survives(&SUITE, &Case::default(), chat(body), read);
}

/// Reads a request of the protocol.
fn read(body: &Json) -> ChatRequest {
    let (config, calling) = (&body["generationConfig"], &body["toolConfig"]["functionCallingConfig"]);
    let system = body.get("systemInstruction").map(|said| messages(Role::System, said)).into_iter().flatten();
    let turns = list(&body["contents"]).flat_map(|turn| messages(if turn["role"] == "model" { Role::Assistant } else { Role::User }, turn));
    let count = |name: &str| config[name].as_u64().map(|count| u32::try_from(count).unwrap());
    let thinking = &config["thinkingConfig"];
    ChatRequest {
        messages: system.chain(turns).collect(),
        max_tokens: count("maxOutputTokens"),
        temperature: config["temperature"].as_f64(),
        top_p: config["topP"].as_f64(),
        seed: config["seed"].as_i64(),
        frequency_penalty: config["frequencyPenalty"].as_f64(),
        presence_penalty: config["presencePenalty"].as_f64(),
        stop: list(&config["stopSequences"]).map(text).collect(),
        choice_count: count("candidateCount"),
        logprobs: config["responseLogprobs"].as_bool(),
        top_logprobs: count("logprobs"),
        tools: list(&body["tools"][0]["functionDeclarations"]).map(tool).collect(),
        tool_choice: calling["mode"].as_str().map(|mode| tool_choice(mode, &calling["allowedFunctionNames"][0])),
        response_format: response_format(config),
        reasoning: thinking["thinkingLevel"].as_str().map(|level| Reasoning { effort: level.to_owned(), ..Reasoning::default() }),
        ..ChatRequest::default()
    }
}

fn list(json: &Json) -> impl Iterator<Item = &Json> {
    json.as_array().into_iter().flatten()
}

fn text(json: &Json) -> String {
    json.as_str().unwrap_or_default().to_owned()
}

fn part(kind: Kind) -> Part {
    Part { kind: Some(kind), cache_hint: None }
}

/// A turn as messages: results of tools are messages of their own.
fn messages(role: Role, turn: &Json) -> Vec<Message> {
    let (mut all, mut parts) = (Vec::new(), Vec::new());
    for said in list(&turn["parts"]) {
        match said.get("functionResponse") {
            Some(response) => all.push(Message { role: Role::Tool.into(), parts: vec![result(response)], ..Message::default() }),
            None => parts.push(part(kind(said))),
        }
    }
    if !parts.is_empty() {
        all.push(Message { role: role.into(), parts, ..Message::default() });
    }
    all
}

fn result(response: &Json) -> Part {
    let returned = response["response"].get("result").unwrap_or(&response["response"]);
    let text = returned.as_str().map_or_else(|| returned.to_string(), str::to_owned);
    let parts = vec![part(Kind::Text(TextPart { text, citations: Vec::new() }))];
    part(Kind::ToolResult(ToolResultPart { tool_call_id: self::text(&response["id"]), parts, is_error: false }))
}

fn kind(said: &Json) -> Kind {
    let signature = Some(text(&said["thoughtSignature"])).filter(|signature| signature != UNSIGNED).unwrap_or_default();
    if let Some(call) = said.get("functionCall") {
        let (id, name, arguments) = (text(&call["id"]), text(&call["name"]), call["args"].to_string());
        Kind::ToolCall(ToolCallPart { id, name, arguments, signature })
    } else if let Some(blob) = said.get("inlineData") {
        let source = Some(Source::Data(from_base64(&text(&blob["data"])).unwrap()));
        Kind::Media(MediaPart { source, mime_type: text(&blob["mimeType"]), ..MediaPart::default() })
    } else if let Some(file) = said.get("fileData") {
        let source = Some(Source::Uri(text(&file["fileUri"])));
        Kind::Media(MediaPart { source, mime_type: text(&file["mimeType"]), ..MediaPart::default() })
    } else if said["thought"] == true {
        Kind::Reasoning(ReasoningPart { text: text(&said["text"]), signature, ..ReasoningPart::default() })
    } else {
        Kind::Text(TextPart { text: text(&said["text"]), citations: Vec::new() })
    }
}

fn tool(declared: &Json) -> Tool {
    Tool {
        name: text(&declared["name"]),
        description: text(&declared["description"]),
        parameters: declared.get("parametersJsonSchema").map(Json::to_string).unwrap_or_default(),
        strict: None,
    }
}

fn tool_choice(mode: &str, name: &Json) -> ToolChoice {
    let mode = match (mode, name) {
        ("NONE", _) => ToolChoiceMode::None,
        ("ANY", Json::Null) => ToolChoiceMode::Required,
        ("ANY", _) => ToolChoiceMode::Tool,
        other => panic!("no mode {other:?}"),
    };
    ToolChoice { mode: mode.into(), name: text(name) }
}

fn response_format(config: &Json) -> Option<ResponseFormat> {
    config.get("responseMimeType")?;
    let Some(schema) = config.get("responseJsonSchema") else {
        return Some(ResponseFormat { r#type: ResponseFormatType::JsonObject.into(), ..ResponseFormat::default() });
    };
    let (name, schema) = (SCHEMA.to_owned(), schema.to_string());
    Some(ResponseFormat { r#type: ResponseFormatType::JsonSchema.into(), name, schema, ..ResponseFormat::default() })
}

fn weather(id: &str, arguments: &str) -> Json {
    json!({ "id": id, "type": "function", "function": { "name": "weather", "arguments": arguments } })
}

#[test]
fn rich_requests_survive() {
    let user = json!({ "role": "user", "content": "Hello" });
    let schema =
        json!({ "type": "object", "properties": { "b": { "$ref": "#/$defs/c" }, "a": { "type": "integer" } }, "$defs": { "c": {} } });
    let tools = json!([
        { "type": "function", "function": { "name": "weather", "description": "Of a city.", "parameters": schema } },
        { "type": "function", "function": { "name": "now" } },
    ]);
    let signed = json!({ "id": "a", "type": "function", "function": { "name": "now", "arguments": "{}" }, "thought_signature": "c2ln" });
    for body in [
        json!({ "model": "e", "messages": [user] }),
        json!({ "model": "e", "messages": [{ "role": "system", "content": "Be brief." }, user, { "role": "assistant", "content": "Hi." }, user] }),
        json!({ "model": "e", "messages": [user], "max_completion_tokens": 9, "temperature": 0, "top_p": 0.5, "seed": -7, "n": 2,
                "frequency_penalty": 0.25, "presence_penalty": -0.5, "stop": ["a", "b"], "logprobs": true, "top_logprobs": 3 }),
        json!({ "model": "e", "messages": [user], "tools": tools, "tool_choice": "required" }),
        json!({ "model": "e", "messages": [user], "tools": tools, "tool_choice": "none" }),
        json!({ "model": "e", "messages": [user], "tools": tools, "tool_choice": { "type": "function", "function": { "name": "now" } } }),
        json!({ "model": "e", "messages": [user], "response_format": { "type": "json_object" }, "reasoning_effort": "low" }),
        json!({ "model": "e", "messages": [user],
                "response_format": { "type": "json_schema", "json_schema": { "name": SCHEMA, "schema": schema } } }),
        json!({ "model": "e", "messages": [user,
                { "role": "assistant", "content": "Let me look.", "reasoning_content": "Hm.",
                  "tool_calls": [weather("a", r#"{"city":"Rome","n":12345678901234567890}"#), weather("b", "{}")] },
                { "role": "tool", "tool_call_id": "a", "content": "Sunny." }, { "role": "tool", "tool_call_id": "b", "content": r#"{"cold":true}"# },
                { "role": "assistant", "content": "Warm." }] }),
        json!({ "model": "e", "messages": [user, { "role": "assistant", "content": null, "tool_calls": [signed] },
                { "role": "tool", "tool_call_id": "a", "content": "[1,2]" }] }),
        json!({ "model": "e", "messages": [{ "role": "user", "content": [{ "type": "text", "text": "Look:" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,iVBORw==" } },
                { "type": "image_url", "image_url": { "url": "https://x.example/y.jpg" } },
                { "type": "input_audio", "input_audio": { "data": "UklGRg==", "format": "wav" } }] }] }),
    ] {
        check(&body);
    }
}

/// One exchange: what the user says, and what the model answers or calls.
fn exchange() -> impl Strategy<Value = (String, Option<String>, Vec<String>)> {
    let said = "[a-zA-Zäß\"\\\\ {}.]{1,12}";
    // White space between the tokens of JSON is not kept.
    let returned = prop_oneof!["[a-z\"\\\\ ]{0,8}", Just(r#"{"a":[1,{}]}"#.to_owned()), Just("[1]".to_owned()), Just("{".to_owned())];
    (said, proptest::option::of(said), proptest::collection::vec(returned, 0..4))
}

proptest! {
    #[test]
    fn conversations_survive(exchanges in proptest::collection::vec(exchange(), 1..5)) {
        let (mut all, mut calls) = (Vec::new(), 0);
        for (asked, said, results) in exchanges {
            // Results of tools and the user's next words are one turn here, and two messages there.
            all.push(json!({ "role": "user", "content": asked }));
            let ids: Vec<String> = results.iter().map(|_| { calls += 1; format!("c{calls}") }).collect();
            let tool_calls: Vec<Json> = ids.iter().map(|id| weather(id, &json!({ "city": asked }).to_string())).collect();
            let said = if tool_calls.is_empty() { Some(said.unwrap_or_else(|| "Yes.".to_owned())) } else { said };
            let mut message = json!({ "role": "assistant", "content": said });
            if !tool_calls.is_empty() {
                message["tool_calls"] = tool_calls.into();
            }
            all.push(message);
            all.extend(ids.iter().zip(&results).map(|(id, result)| json!({ "role": "tool", "tool_call_id": id, "content": result })));
        }
        check(&json!({ "model": "e", "messages": all }));
    }
}
