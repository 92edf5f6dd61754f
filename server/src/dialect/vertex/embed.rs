//! Embeddings: most models take instances and give predictions; newer ones take one text a call, as the Gemini API does.

use bytes::Bytes;
use flowgate_proto::v1::{EmbedResponse, Embedding, Usage, UsageSource};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    dialect::{
        Ask, Target, asked,
        errors::bad_answer,
        gemini::{SHAPE, embed, words},
        json::{Count, Json, is_meaningful, object, place},
        params::{Params, Rules},
    },
    error::{Error, Result},
};

#[derive(Serialize)]
struct Instance<'a> {
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_type: Option<Json<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<Json<'a>>,
}

object! {
    /// An answer in either form.
    AnswerIn {
        predictions: Vec<PredictionIn> = "predictions",
        embedding: Option<&'a RawValue> = "embedding",
        error: Option<&'a RawValue> = "error",
        ..
    }
}

/// What was predicted for one instance.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PredictionIn {
    embeddings: Option<VectorIn>,
}

/// One vector.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct VectorIn {
    values: Vec<f32>,
    statistics: Option<StatisticsIn>,
}

/// What one text took.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StatisticsIn {
    token_count: Count,
}

/// Whether a model is called as the Gemini API's are: one text a call.
fn takes_content(model: &str) -> bool {
    model.contains("gemini-embedding-2")
}

/// The call. Options for each text are `task_type` and `title`; those for all of them stand in `parameters`.
pub(super) fn encode(ask: &Ask<'_>, target: &Target, path: &str) -> Result<http::Request<Bytes>> {
    let request = asked::embed(ask)?;
    if takes_content(&target.model) {
        let [text] = request.inputs.as_slice() else { return Err(Error::unsupported_content("inputs[1]", target.provider)) };
        let mut params = embed::options(ask, target)?;
        embed::put_text(&mut params, text)?;
        return target.post_json(&format!("{path}:embedContent"), params.end()?);
    }
    let mut params = Params::unnamed(Rules { ask, target, shape: &SHAPE }, &request.provider_options)?;
    params.lack("user", !request.user.is_empty())?;

    let (task_type, title) = (params.take_option("task_type").map(Json), params.take_option("title").map(Json));
    let instance = |text| Instance { content: text, task_type, title };
    params.set("instances", &request.inputs.iter().map(|text| instance(text.as_str())).collect::<Vec<_>>())?;
    params.nest("parameters", |parameters| parameters.put_some("dimensions", "outputDimensionality", request.dimensions))?;
    target.post_json(&format!("{path}:predict"), params.end()?)
}

/// The vectors. The tokens of all texts are the call's usage.
pub(super) fn decode(body: &[u8], target: &Target) -> Result<EmbedResponse> {
    let errors = words::errors(target.quirks);
    let answer: AnswerIn<'_> = serde_json::from_slice(body).map_err(|error| bad_answer(format!("the answer at {}", place(&error))))?;
    if let Some(error) = answer.error.filter(|error| is_meaningful(error)) {
        return Err(errors.inside(error));
    }
    if answer.embedding.is_some() {
        return embed::decode(body, errors);
    }
    let vectors: Vec<VectorIn> = answer.predictions.into_iter().filter_map(|prediction| prediction.embeddings).collect();
    if vectors.is_empty() || vectors.iter().any(|vector| vector.values.is_empty()) {
        return Err(bad_answer("the answer lacks a vector"));
    }
    let counts: Option<Vec<u32>> = vectors.iter().map(|vector| vector.statistics.as_ref()?.token_count.0).collect();
    let usage = counts.map(|counts| Usage {
        input_tokens: Some(counts.into_iter().fold(0, u32::saturating_add)),
        source: UsageSource::Reported.into(),
        ..Usage::default()
    });
    let embeddings = vectors.into_iter().zip(0..).map(|(vector, index)| Embedding { index, values: vector.values }).collect();
    Ok(EmbedResponse { model: String::new(), embeddings, usage, call: None })
}
