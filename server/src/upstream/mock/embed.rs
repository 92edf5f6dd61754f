//! The mock's embeddings: unit vectors made of a hash of the text.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Made, words};
use crate::config;

/// More would be a way to ask for memory.
const MOST_DIMENSIONS: u64 = 65_536;

/// Answers `POST /embeddings`.
pub(super) fn embed(config: &config::Mock, body: &Value) -> Result<Made, &'static str> {
    let inputs: Vec<&Value> = match &body["input"] {
        input @ Value::String(_) => vec![input],
        // A list of numbers is one text in tokens.
        input @ Value::Array(items) if items.first().is_some_and(Value::is_number) => vec![input],
        Value::Array(items) if !items.is_empty() => items.iter().collect(),
        _ => return Err("`input` is missing"),
    };
    let dimensions = body["dimensions"].as_u64().unwrap_or(config.dimensions.into()).min(MOST_DIMENSIONS);
    let dimensions = usize::try_from(dimensions).unwrap_or(0);
    let base64 = body["encoding_format"] == "base64";
    let tokens: usize = inputs.iter().map(|input| input.as_str().map_or_else(|| input.as_array().map_or(1, Vec::len), words)).sum();
    let vectors = inputs.iter().enumerate().map(|(index, input)| {
        let vector = vector(input, dimensions);
        let embedding = if base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            json!(STANDARD.encode(bytes))
        } else {
            json!(vector)
        };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    });
    let answer = json!({
        "object": "list",
        "data": vectors.collect::<Vec<_>>(),
        "model": body["model"].as_str().unwrap_or("mock"),
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    });
    Ok(Made::Whole(StatusCode::OK, answer))
}

fn vector(input: &Value, dimensions: usize) -> Vec<f32> {
    let mut bytes = vec![0; dimensions * 2];
    blake3::Hasher::new().update(input.to_string().as_bytes()).finalize_xof().fill(&mut bytes);
    let mut vector: Vec<f32> = bytes.chunks_exact(2).map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0).collect();
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value /= length);
    }
    vector
}
