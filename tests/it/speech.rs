//! What the scripted upstreams say: one chat and one completion in OpenAI's words, whole and in pieces; one prediction.

use std::io;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde_json::{Value, json};

use crate::fake::{Answer, Seen, pieces};

/// What the model says, piece by piece.
pub const PIECES: [&str; 3] = ["Hello ", "wide ", "wörld"];
/// The whole of it.
pub const TEXT: &str = "Hello wide wörld";
/// Tokens in and out.
pub const TOKENS: (u32, u32) = (7, 3);
/// The operator's credential; no caller may ever see it.
pub const OPERATOR_KEY: &str = "sk-operator-0123456789";

/// Answers chat and completion, whole or streamed, as asked.
pub fn llm(seen: &Seen) -> Answer {
    match (seen.path.ends_with("/chat/completions"), seen.wants_stream()) {
        (true, false) => Answer::json(chat().to_string()),
        (false, false) => Answer::json(completion().to_string()),
        (is_chat, true) => Answer::sse(stream(is_chat)),
    }
}

/// Answers predictions.
pub fn model(_seen: &Seen) -> Answer {
    Answer::json(r#"{"predictions": [1, 2.5]}"#)
}

/// A whole chat answer.
pub fn chat() -> Value {
    let message = json!({"role": "assistant", "content": TEXT});
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": "gpt-x-2024",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage(),
    })
}

/// A whole completion.
pub fn completion() -> Value {
    json!({
        "id": "cmpl-1", "object": "text_completion", "created": 1_700_000_000, "model": "gpt-x-2024",
        "choices": [{"index": 0, "text": TEXT, "finish_reason": "stop", "logprobs": null}], "usage": usage(),
    })
}

/// The events of a streamed answer: head, pieces, finish, usage, end mark.
pub fn events(is_chat: bool) -> Vec<String> {
    let said = PIECES.into_iter().map(|piece| if is_chat { chunk(&json!({"content": piece})) } else { text_chunk(piece, None) });
    let head = is_chat.then(|| chunk(&json!({"role": "assistant", "content": ""})));
    let mut events: Vec<_> = head.into_iter().chain(said).collect();
    events.push(if is_chat { finish() } else { text_chunk("", Some("stop")) });
    let mut last: Value = serde_json::from_str(&events[0]).unwrap();
    (last["choices"], last["usage"]) = (json!([]), usage());
    events.extend([last.to_string(), "[DONE]".to_owned()]);
    events
}

/// A streamed answer.
pub fn stream(is_chat: bool) -> BoxStream<'static, io::Result<Bytes>> {
    pieces(&events(is_chat))
}

/// A chunk of a chat.
pub fn chunk(delta: &Value) -> String {
    whole_chunk(&json!({"index": 0, "delta": delta, "finish_reason": null}))
}

/// The chunk that ends a chat's only choice.
pub fn finish() -> String {
    whole_chunk(&json!({"index": 0, "delta": {}, "finish_reason": "stop"}))
}

fn whole_chunk(choice: &Value) -> String {
    let created = 1_700_000_000;
    json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": created, "model": "gpt-x-2024", "choices": [choice]})
        .to_string()
}

fn text_chunk(text: &str, finish: Option<&str>) -> String {
    let choice = json!({"index": 0, "text": text, "finish_reason": finish, "logprobs": null});
    json!({"id": "cmpl-1", "object": "text_completion", "created": 1_700_000_000, "model": "gpt-x-2024", "choices": [choice]}).to_string()
}

fn usage() -> Value {
    json!({"prompt_tokens": TOKENS.0, "completion_tokens": TOKENS.1, "total_tokens": TOKENS.0 + TOKENS.1})
}

/// A chat endpoint named `chat` before an OpenAI-compatible upstream; `more` are further lines of the endpoint.
pub fn chat_endpoint(url: &str, more: &str) -> String {
    endpoint("chat", "llm/v1/chat", url, more)
}

/// An LLM endpoint before an OpenAI-compatible upstream, with the extra path `/own/NAME`.
pub fn endpoint(name: &str, task: &str, url: &str, more: &str) -> String {
    let config = format!("{{ api_key: {OPERATOR_KEY}, api_base: \"{url}/v1\" }}");
    item(
        &format!("name: {name}\nendpoint_type: {task}\npath: /own/{name}\nmodel: {{ provider: openai, name: gpt-x, config: {config} }}"),
        more,
    )
}

/// A predict endpoint before a scoring server.
pub fn predict_endpoint(name: &str, url: &str, more: &str) -> String {
    item(
        &format!(
            "name: {name}\nendpoint_type: mlflow/predict\npath: /own/{name}\nmodel: {{ provider: mlflow, url: \"{url}\" }}\n\
             upstream: {{ auth: {{ bearer: {OPERATOR_KEY} }} }}"
        ),
        more,
    )
}

/// An item of `endpoints:`.
fn item(lines: &str, more: &str) -> String {
    let lines: Vec<_> = lines.lines().chain(more.lines()).collect();
    format!("  - {}\n", lines.join("\n    "))
}

/// A whole configuration.
pub fn config(endpoints: &[String]) -> String {
    format!("endpoints:\n{}", endpoints.concat())
}
