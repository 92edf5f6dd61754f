//! Any model of texts: `inputs`, and the parameters beside them, which the server passes on as far as the model's signature names them.

use bytes::Bytes;
use flowgate_proto::v1::{ChatRequest, CompleteRequest, EmbedRequest, Role};

use crate::{
    dialect::{
        asked,
        params::{Params, Rules},
        turns,
    },
    error::{Error, Result},
};

/// A conversation, of which such a model knows one message.
pub(super) fn chat(request: &ChatRequest, rules: Rules<'_>) -> Result<Bytes> {
    asked::without_template(request)?;
    asked::texts_only(request, rules)?;
    rules.lack_all([
        ("metadata", !request.metadata.is_empty()),
        ("logprobs", request.logprobs == Some(true)),
        ("top_logprobs", request.top_logprobs.is_some()),
        ("logit_bias", !request.logit_bias.is_empty()),
    ])?;
    let mut params = Params::unnamed(rules, &request.provider_options)?;
    params.put("messages", "inputs", &[text(request, rules)?])?;
    put_params(&mut params, request)?;
    params.end()
}

/// The text of the only message.
fn text(request: &ChatRequest, rules: Rules<'_>) -> Result<String> {
    let spoken = turns::in_order(&request.messages, rules)?;
    let [(role, all)] = spoken.as_slice() else {
        let told = "must be one user message for this model; a model that takes several needs `schema: chat` or `agent` on its deployment";
        return Err(Error::invalid("messages", told));
    };
    if !matches!(role, Role::User | Role::Unspecified) {
        return Err(Error::invalid("messages[0].role", "must be the user's for this model"));
    }
    turns::only_text(all, rules)
}

/// Prompts.
pub(super) fn complete(request: &CompleteRequest, rules: Rules<'_>) -> Result<Bytes> {
    if request.prompts.is_empty() {
        return Err(Error::invalid("prompts", "must hold at least one prompt"));
    }
    rules.lack_all([
        ("logprobs", request.logprobs.is_some()),
        ("echo", request.echo == Some(true)),
        ("suffix", !request.suffix.is_empty()),
        ("logit_bias", !request.logit_bias.is_empty()),
    ])?;
    let mut params = Params::unnamed(rules, &request.provider_options)?;
    params.put("prompts", "inputs", &request.prompts)?;
    put_params(&mut params, &asked::wordless(request))?;
    params.end()
}

fn put_params(params: &mut Params<'_>, request: &ChatRequest) -> Result<()> {
    params.nest("params", |params| {
        params.put_some("max_tokens", "max_tokens", request.max_tokens)?;
        params.put_number("temperature", "temperature", request.temperature)?;
        params.put_number("top_p", "top_p", request.top_p)?;
        params.put_some("top_k", "top_k", request.top_k)?;
        params.put_some("seed", "seed", request.seed)?;
        params.put_number("frequency_penalty", "frequency_penalty", request.frequency_penalty)?;
        params.put_number("presence_penalty", "presence_penalty", request.presence_penalty)?;
        params.put_list("stop", "stop", &request.stop)?;
        params.put_some("choice_count", "n", request.choice_count)?;
        params.put_text("user", "user", &request.user)
    })
}

/// Texts to embed.
pub(super) fn embed(request: &EmbedRequest, rules: Rules<'_>) -> Result<Bytes> {
    let mut params = Params::unnamed(rules, &request.provider_options)?;
    params.put("inputs", "inputs", &request.inputs)?;
    params.nest("params", |params| {
        params.put_some("dimensions", "dimensions", request.dimensions)?;
        params.put_text("user", "user", &request.user)
    })?;
    params.end()
}
