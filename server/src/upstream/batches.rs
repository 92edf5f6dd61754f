//! Embeddings of more texts than a provider takes at once: several requests, one answer.

use flowgate_proto::v1::{EmbedRequest, EmbedResponse, ErrorReason, ServiceTier, Usage, UsageSource};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Upstream, exchange::one};
use crate::{
    call::{Attempt, Call},
    dialect::Ask,
    error::{Error, Result},
    event::{Answer, Lane, Payload, Reply, Request, Task},
};

/// How many requests of one call are under way at once.
const AT_ONCE: usize = 4;

/// The requests that an attempt must be made of; `None` when it is one. What came in bytes is read where it may hold too many inputs; what
/// then makes no sense here goes on as received, for the provider to judge.
pub(super) fn of(upstream: &Upstream, attempt: &Attempt) -> Option<Vec<EmbedRequest>> {
    if attempt.deployment.task != Task::Embed {
        return None;
    }
    let deployment = &upstream.deployment;
    let most = deployment.dialect?.most_inputs(deployment.targets.first()?).max(1);
    if attempt.lane == Lane::Byte && attempt.call.payload.wire().is_some_and(|wire| holds_few(&wire.body, most)) {
        return None;
    }
    let Ok(Request::Embed(request)) = attempt.call.payload.typed() else { return None };
    if inputs(request) <= most {
        return None;
    }
    let rest = EmbedRequest { inputs: Vec::new(), token_inputs: Vec::new(), ..request.clone() };
    let texts = request.inputs.chunks(most).map(|inputs| EmbedRequest { inputs: inputs.to_vec(), ..rest.clone() });
    let tokens = request.token_inputs.chunks(most).map(|inputs| EmbedRequest { token_inputs: inputs.to_vec(), ..rest.clone() });
    Some(texts.chain(tokens).collect())
}

/// Whether a body cannot hold more inputs than that: there are commas between them.
fn holds_few(body: &[u8], most: usize) -> bool {
    memchr::memchr_iter(b',', body).nth(most.saturating_sub(1)).is_none()
}

/// How many vectors are asked for.
fn inputs(request: &EmbedRequest) -> usize {
    request.inputs.len() + request.token_inputs.len()
}

/// A typed answer has one vector for each input, in its place: else vectors would stand at the places of other texts. What the byte lane
/// passes on as received is the client's to judge, as it would be without the gateway.
///
/// # Errors
/// `PROVIDER_BAD_ANSWER`.
pub(super) fn judge(upstream: &Upstream, ask: &Ask<'_>, answer: &Answer) -> Result<()> {
    let Answer::Embed(answer) = answer else { return Ok(()) };
    let Request::Embed(request) = ask.payload.typed()? else { return Ok(()) };
    let fault = |what| Err(upstream.error(ErrorReason::ProviderBadAnswer, what));
    let mut missing = vec![true; inputs(request)];
    if answer.embeddings.len() != missing.len() {
        return fault("gave not as many vectors as it was sent texts; try again");
    }
    for embedding in &answer.embeddings {
        let place = usize::try_from(embedding.index).ok().and_then(|index| missing.get_mut(index));
        if !place.is_some_and(std::mem::take) {
            return fault("gave vectors whose indices are not those of the texts; try again");
        }
    }
    Ok(())
}

/// Sends them, a few at a time, and puts the answers together in order. The first failure is that of the whole.
pub(super) async fn exchange(upstream: &Upstream, attempt: &Attempt, batches: Vec<EmbedRequest>) -> Result<Reply> {
    let send = |batch: EmbedRequest| {
        let inputs = inputs(&batch);
        let call = Call { payload: Payload::typed_only(Request::Embed(batch)), ..attempt.call.clone() };
        let attempt = Attempt { call, lane: Lane::Typed, ..attempt.clone() };
        async move {
            let reply = one(upstream, &attempt).await?;
            let head = reply.head.clone();
            match reply.answer().await? {
                Answer::Embed(answer) => Ok((inputs, head, answer)),
                _ => Err(Error::internal("embeddings were answered with something else")),
            }
        }
    };
    let answers: Vec<_> = stream::iter(batches).map(send).buffered(AT_ONCE).try_collect().await?;
    let (mut whole, mut head, mut offset) = (EmbedResponse::default(), None, 0);
    for (n, (inputs, of_batch, answer)) in answers.into_iter().enumerate() {
        head.get_or_insert(of_batch);
        let EmbedResponse { model, embeddings, usage, call: _ } = answer;
        whole.usage = if n == 0 { usage } else { sum(whole.usage, usage) };
        whole.model = model;
        whole.embeddings.extend(embeddings.into_iter().map(|mut embedding| {
            embedding.index = embedding.index.saturating_add(offset);
            embedding
        }));
        offset = offset.saturating_add(u32::try_from(inputs).unwrap_or(u32::MAX));
    }
    let head = head.ok_or_else(|| Error::internal("no texts were sent"))?;
    Ok(Reply::one(head, Answer::Embed(whole)))
}

/// What two requests consumed; unknown where either does not say.
fn sum(a: Option<Usage>, b: Option<Usage>) -> Option<Usage> {
    let (a, b) = (a?, b?);
    let add = |a: Option<u32>, b: Option<u32>| Some(a?.saturating_add(b?));
    Some(Usage {
        input_tokens: add(a.input_tokens, b.input_tokens),
        cache_read_tokens: add(a.cache_read_tokens, b.cache_read_tokens),
        cost_pico_usd: a.cost_pico_usd.zip(b.cost_pico_usd).map(|(a, b)| a.saturating_add(b)),
        service_tier: if a.service_tier == b.service_tier { a.service_tier } else { ServiceTier::Unspecified.into() },
        source: if a.source == b.source { a.source } else { UsageSource::Estimated.into() },
        ..Usage::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_with_few_commas_hold_few_inputs() {
        assert!(holds_few(br#"{"input": "a", "model": "m"}"#, 2) && holds_few(b"{}", 1));
        assert!(!holds_few(br#"["a", "b", "c"]"#, 2) && !holds_few(br#"["a", "b"]"#, 1));
    }

    #[test]
    fn what_one_request_does_not_say_is_unknown_of_all() {
        let told = |tokens: Option<u32>| Some(Usage { input_tokens: tokens, source: UsageSource::Reported.into(), ..Usage::default() });
        assert_eq!(sum(told(Some(3)), told(Some(4))), told(Some(7)));
        assert_eq!(sum(told(Some(3)), told(None)), told(None));
        assert_eq!(sum(told(Some(3)), None), None);
    }

    #[test]
    fn what_the_provider_says_that_it_cost_is_added_up() {
        let told = |cost: Option<i64>| Some(Usage { input_tokens: Some(1), cost_pico_usd: cost, ..Usage::default() });
        let cost = |a, b| sum(told(a), told(b)).and_then(|usage| usage.cost_pico_usd);
        assert_eq!(cost(Some(3), Some(4)), Some(7));
        assert_eq!(cost(Some(3), None), None);
    }
}
