//! Vectors by invoke: the body is the model's own.

use bytes::Bytes;
use flowgate_proto::v1::{EmbedRequest, EmbedResponse, Embedding, ErrorReason};
use http::HeaderMap;
use serde::Deserialize;

use super::{model::Embedder, usage, words::told_inside};
use crate::{
    dialect::{
        Target,
        errors::bad_answer,
        json::{Count, place},
        params::{Params, Rules},
    },
    error::{Error, Result},
};

/// The most texts that the models take that take many.
const MOST_TEXTS: usize = 96;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TitanIn {
    embedding: Vec<f32>,
    #[serde(default)]
    input_text_token_count: Count,
}

#[derive(Deserialize)]
struct CohereIn {
    embeddings: Vectors,
}

/// Vectors, or vectors by the type of their numbers where types were asked for.
#[derive(Deserialize)]
#[serde(untagged)]
enum Vectors {
    Plain(Vec<Vec<f32>>),
    ByType { float: Vec<Vec<f32>> },
}

/// What makes vectors at a target.
fn embedder(target: &Target) -> Result<Embedder> {
    Embedder::of(target).ok_or_else(|| {
        let message = "the deployment's model makes no vectors that the gateway can read; the operator must name a `titan-embed` or \
                       `cohere.embed` model, or set `base_model` where the name is an ARN";
        Error::new(ErrorReason::GatewayUnsupportedTask, message)
    })
}

/// How many texts one call takes.
pub(super) fn most_inputs(target: &Target) -> usize {
    match Embedder::of(target) {
        Some(Embedder::TitanText | Embedder::TitanImage) => 1,
        Some(Embedder::Cohere | Embedder::CohereV4) | None => MOST_TEXTS,
    }
}

/// The body of a call.
pub(super) fn encode(request: &EmbedRequest, rules: Rules<'_>) -> Result<Bytes> {
    let embedder = embedder(rules.target)?;
    let most = most_inputs(rules.target);
    if request.inputs.len() > most {
        return Err(Error::invalid("inputs", format!("holds more than {most}, the most that this model takes in one call")));
    }
    let mut params = Params::unnamed(rules, &request.provider_options)?;
    match embedder {
        Embedder::TitanText | Embedder::TitanImage => params.put_some("inputs", "inputText", request.inputs.first())?,
        Embedder::Cohere | Embedder::CohereV4 => {
            params.put_list("inputs", "texts", &request.inputs)?;
            if !params.is_replaced("input_type") {
                params.set("input_type", "search_document")?;
            }
        }
    }
    match embedder {
        Embedder::TitanText => params.put_some("dimensions", "dimensions", request.dimensions)?,
        Embedder::TitanImage => {
            params.nest("embeddingConfig", |inner| inner.put_some("dimensions", "outputEmbeddingLength", request.dimensions))?;
        }
        Embedder::CohereV4 => params.put_some("dimensions", "output_dimension", request.dimensions)?,
        Embedder::Cohere => params.lack("dimensions", request.dimensions.is_some())?,
    }
    params.lack("user", !request.user.is_empty())?;
    params.end()
}

/// An answer of vectors.
pub(super) fn decode(target: &Target, headers: &HeaderMap, body: &[u8]) -> Result<EmbedResponse> {
    let spoilt = |error: serde_json::Error| {
        told_inside(target.quirks, body).unwrap_or_else(|| bad_answer(format!("the answer at {}", place(&error))))
    };
    let counted = || headers.get("x-amzn-bedrock-input-token-count")?.to_str().ok()?.parse().ok();
    let (vectors, tokens) = match embedder(target)? {
        Embedder::TitanText | Embedder::TitanImage => {
            let TitanIn { embedding, input_text_token_count } = serde_json::from_slice(body).map_err(spoilt)?;
            (vec![embedding], input_text_token_count.0.or_else(counted))
        }
        Embedder::Cohere | Embedder::CohereV4 => {
            let CohereIn { embeddings: Vectors::Plain(vectors) | Vectors::ByType { float: vectors } } =
                serde_json::from_slice(body).map_err(spoilt)?;
            (vectors, counted())
        }
    };
    let embeddings = (0..).zip(vectors).map(|(index, values)| Embedding { index, values }).collect();
    Ok(EmbedResponse { model: String::new(), embeddings, usage: usage::of_input(tokens), call: None })
}
