//! The mock's texts: chat and completions in the OpenAI protocol, whole or word by word.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::{Made, digest, words};
use crate::config;

/// Answers never change, their time neither.
const CREATED: u64 = 1_700_000_000;
/// More would be a way to ask for memory.
const MOST_CHOICES: u64 = 128;

/// What one answer says, whatever its form.
struct Said {
    id: String,
    object: &'static str,
    model: String,
    choices: Vec<Choice>,
    usage: Value,
}

struct Choice {
    text: String,
    /// The name of the function to call instead of saying the text.
    call: Option<String>,
    finish: &'static str,
}

/// Answers `POST /chat/completions`.
pub(super) fn chat(config: &config::Mock, body: &Value) -> Result<Made, &'static str> {
    let messages = body["messages"].as_array().filter(|messages| !messages.is_empty()).ok_or("`messages` is missing")?;
    let prompt = messages.iter().map(|message| words(&text(&message["content"]))).sum();
    let asked = messages.iter().rev().find(|message| message["role"] == "user").map(|message| text(&message["content"]));
    let call = wanted_call(body);
    let (said, finish) = say(config, &asked.unwrap_or_default(), body);
    let choice = || match &call {
        Some(name) => Choice { text: String::new(), call: Some(name.clone()), finish: "tool_calls" },
        None => Choice { text: said.clone(), call: None, finish },
    };
    let choices = (0..count(body)).map(|_| choice()).collect();
    let said = Said::new(body, "chatcmpl", "chat.completion", choices).counted(prompt);
    if body["stream"] != true {
        return Ok(said.whole(|choice| json!({ "message": message(choice) })));
    }
    let opening = json!({ "delta": { "role": "assistant", "content": "" } });
    Ok(said.events(body, Some(&opening), |choice| match &choice.call {
        Some(name) => {
            let head = json!({ "index": 0, "id": "call_mock", "type": "function", "function": { "name": name, "arguments": "" } });
            let arguments = json!({ "index": 0, "function": { "arguments": "{}" } });
            vec![json!({ "delta": { "tool_calls": [head] } }), json!({ "delta": { "tool_calls": [arguments] } })]
        }
        None => pieces(&choice.text).map(|piece| json!({ "delta": { "content": piece } })).collect(),
    }))
}

/// Answers `POST /completions`.
pub(super) fn complete(config: &config::Mock, body: &Value) -> Result<Made, &'static str> {
    let prompts: Vec<String> = match &body["prompt"] {
        Value::String(prompt) => vec![prompt.clone()],
        Value::Array(prompts) if prompts.iter().all(Value::is_string) && !prompts.is_empty() => prompts.iter().map(text).collect(),
        // Tokens cannot be echoed; they are one prompt, or one each.
        Value::Array(prompts) if !prompts.is_empty() => vec![String::new(); if prompts[0].is_array() { prompts.len() } else { 1 }],
        _ => return Err("`prompt` is missing"),
    };
    let prompt = prompts.iter().map(|prompt| words(prompt)).sum();
    let choices = prompts.iter().flat_map(|prompt| {
        let (text, finish) = say(config, prompt, body);
        (0..count(body)).map(move |_| Choice { text: text.clone(), call: None, finish })
    });
    let said = Said::new(body, "cmpl", "text_completion", choices.collect()).counted(prompt);
    if body["stream"] != true {
        return Ok(said.whole(|choice| json!({ "text": choice.text, "logprobs": null })));
    }
    Ok(said.events(body, None, |choice| pieces(&choice.text).map(|piece| json!({ "text": piece })).collect()))
}

impl Said {
    fn new(body: &Value, id: &str, object: &'static str, choices: Vec<Choice>) -> Self {
        let model = body["model"].as_str().unwrap_or("mock").to_owned();
        Self { id: format!("{id}-{}", digest(body)), object, model, choices, usage: Value::Null }
    }

    /// With usage: a word is a token, and so is the name of a function.
    fn counted(mut self, prompt: usize) -> Self {
        let written: usize = self.choices.iter().map(|choice| words(&choice.text) + usize::from(choice.call.is_some())).sum();
        self.usage = json!({ "prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written });
        self
    }

    fn body(&self, object: &str, choices: &[Value]) -> Value {
        json!({ "id": self.id, "object": object, "created": CREATED, "model": self.model, "choices": choices })
    }

    fn whole(&self, choice: impl Fn(&Choice) -> Value) -> Made {
        let choices = self.choices.iter().enumerate().map(|(index, said)| numbered(choice(said), index, Some(said.finish)));
        let mut body = self.body(self.object, &choices.collect::<Vec<_>>());
        body["usage"] = self.usage.clone();
        Made::Whole(StatusCode::OK, body)
    }

    /// Chunk by chunk: the opening, the pieces and the finish of each choice, usage if it was asked for, the end mark.
    fn events(&self, body: &Value, opening: Option<&Value>, pieces: impl Fn(&Choice) -> Vec<Value>) -> Made {
        let object = if self.object == "chat.completion" { "chat.completion.chunk" } else { self.object };
        let usage = body["stream_options"]["include_usage"] == true;
        let chunk = |choice: Value| {
            let mut chunk = self.body(object, &[choice]);
            if usage {
                chunk["usage"] = Value::Null;
            }
            Bytes::from(chunk.to_string())
        };
        let mut events = Vec::new();
        for (index, said) in self.choices.iter().enumerate() {
            let parts = opening.cloned().into_iter().chain(pieces(said));
            events.extend(parts.map(|part| chunk(numbered(part, index, None))));
            let last = if opening.is_some() { json!({ "delta": {} }) } else { json!({ "text": "" }) };
            events.push(chunk(numbered(last, index, Some(said.finish))));
        }
        if usage {
            let mut chunk = self.body(object, &[]);
            chunk["usage"] = self.usage.clone();
            events.push(chunk.to_string().into());
        }
        events.push(Bytes::from_static(b"[DONE]"));
        Made::Events(events)
    }
}

fn numbered(mut choice: Value, index: usize, finish: Option<&str>) -> Value {
    choice["index"] = index.into();
    choice["finish_reason"] = finish.into();
    choice
}

fn message(choice: &Choice) -> Value {
    match &choice.call {
        Some(name) => {
            let call = json!({ "id": "call_mock", "type": "function", "function": { "name": name, "arguments": "{}" } });
            json!({ "role": "assistant", "content": null, "tool_calls": [call] })
        }
        None => json!({ "role": "assistant", "content": choice.text }),
    }
}

/// The function that `tool_choice` insists on: the named one, or the first.
fn wanted_call(body: &Value) -> Option<String> {
    let choice = &body["tool_choice"];
    let named = choice["function"]["name"].as_str();
    let first = body["tools"][0]["function"]["name"].as_str().filter(|_| choice == "required");
    named.or(first).map(str::to_owned)
}

/// The configured text or the echo, in the configured length, cut at the caller's limit; and why it ends.
fn say(config: &config::Mock, echo: &str, body: &Value) -> (String, &'static str) {
    let source = config.text.as_deref().unwrap_or(echo);
    let said = match config.tokens {
        None => source.to_owned(),
        Some(tokens) => {
            let all: Vec<_> = source.split_whitespace().collect();
            let all = if all.is_empty() { vec!["word"] } else { all };
            all.into_iter().cycle().take(tokens as usize).collect::<Vec<_>>().join(" ")
        }
    };
    let limit = body["max_completion_tokens"].as_u64().or(body["max_tokens"].as_u64()).and_then(|limit| usize::try_from(limit).ok());
    match limit {
        Some(limit) if words(&said) > limit => (said.split_whitespace().take(limit).collect::<Vec<_>>().join(" "), "length"),
        _ => (said, "stop"),
    }
}

fn count(body: &Value) -> u64 {
    body["n"].as_u64().unwrap_or(1).clamp(1, MOST_CHOICES)
}

/// Words with the space that follows them, so that together they are the text.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(char::is_whitespace)
}

/// A message's text: a string, or its text parts.
fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}
