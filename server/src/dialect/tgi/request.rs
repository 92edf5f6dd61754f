//! `CompleteRequest` as the body of `/generate`.

use bytes::Bytes;
use flowgate_proto::v1::CompleteRequest;

use super::PROTOCOL;
use crate::{
    dialect::{
        Ask, Target,
        openai::completion,
        params::{Params, Rules, Shape},
    },
    error::{Error, Result},
};

/// How bodies take options: the parameters stand in an object of their own, and that is what options are merged into.
static SHAPE: Shape = Shape { protocol: PROTOCOL, reserved: &["inputs", "stream"], same: &[] };

/// The body of a native call. `stream` is what the body itself says of streaming, where the address does not.
pub(in crate::dialect) fn body(ask: &Ask<'_>, target: &Target, stream: Option<bool>) -> Result<Bytes> {
    let rules = Rules { ask, target, shape: &SHAPE };
    let request = completion(ask, rules)?;
    let prompt = match request.prompts.as_slice() {
        [] => return Err(Error::invalid("prompts", "must hold at least one prompt")),
        [prompt] => prompt,
        [_, ..] => return Err(Error::unsupported_content("prompts[1]", target.provider)),
    };
    let mut params = Params::unnamed(rules, &request.provider_options)?;
    params.put("prompts", "inputs", prompt)?;
    params.nest("parameters", |inner| put_parameters(&request, ask.streaming, inner))?;
    if let Some(stream) = stream {
        params.set("stream", &stream)?;
    }
    params.lack("choice_count", request.choice_count.is_some_and(|count| count != 1))?;
    params.lack("suffix", !request.suffix.is_empty())?;
    params.lack("user", !request.user.is_empty())?;
    params.lack("presence_penalty", request.presence_penalty.is_some())?;
    params.lack("logit_bias", !request.logit_bias.is_empty())?;
    params.end()
}

fn put_parameters(request: &CompleteRequest, streaming: bool, inner: &mut Params<'_>) -> Result<()> {
    inner.put_some("max_tokens", "max_new_tokens", request.max_tokens)?;
    inner.put_number("temperature", "temperature", request.temperature)?;
    inner.put_number("top_p", "top_p", request.top_p)?;
    inner.put_some("top_k", "top_k", request.top_k)?;
    inner.put_some("seed", "seed", request.seed)?;
    inner.put_number("frequency_penalty", "frequency_penalty", request.frequency_penalty)?;
    inner.put_list("stop", "stop", &request.stop)?;
    inner.put_some("logprobs", "top_n_tokens", request.logprobs.filter(|count| *count > 0))?;
    if streaming {
        // Only the last event of a stream would hold the prompt.
        inner.lack("echo", request.echo == Some(true))?;
    } else {
        inner.put_some("echo", "return_full_text", request.echo)?;
    }
    // They hold the counts and why the answer ended; those of the prompt do not go with a stream.
    for (name, wanted) in [("details", true), ("decoder_input_details", !streaming)] {
        if wanted && !inner.is_replaced(name) {
            inner.set(name, &true)?;
        }
    }
    Ok(())
}
