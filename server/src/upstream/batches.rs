//! Embeddings of more texts than a provider takes at once: several requests, one answer.

use std::ops::Range;

use flowgate_proto::v1::{EmbedRequest, EmbedResponse, ErrorReason, ServiceTier, Usage, UsageSource};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;

use super::{Upstream, exchange::one};
use crate::{
    call::{Attempt, Call},
    dialect::Ask,
    error::{Error, Result},
    event::{Answer, Head, Lane, Payload, Reply, Request, Task},
};

/// How many requests of one call are under way at once.
const AT_ONCE: usize = 4;

/// How many requests one call is made of at most: each is paid for, and all the answers are held together.
const MOST: usize = 256;
/// How large the answers may be together, as the contract writes them.
const MOST_BYTES: usize = 256 << 20;

/// The requests that an attempt must be made of. What they have in common is not copied before it is one's turn.
pub(super) struct Batches<'a> {
    request: &'a EmbedRequest,
    parts: Vec<Part>,
}

/// The inputs of one request.
#[derive(Clone, Debug)]
enum Part {
    Texts(Range<usize>),
    Tokens(Range<usize>),
}

/// What was answered so far.
#[derive(Default)]
struct Whole {
    head: Option<Head>,
    answer: EmbedResponse,
    inputs: usize,
    bytes: usize,
}

/// The requests that an attempt must be made of; `None` when it is one. What came in bytes is read where it may hold too many inputs; what
/// then makes no sense here goes on as received, for the provider to judge.
///
/// # Errors
/// `CALLER_INVALID_REQUEST` when they are too many.
pub(super) fn of<'a>(upstream: &Upstream, attempt: &'a Attempt) -> Result<Option<Batches<'a>>> {
    let deployment = &upstream.deployment;
    let (Task::Embed, Some(dialect), Some(target)) = (attempt.deployment.task, deployment.dialect, deployment.targets.first()) else {
        return Ok(None);
    };
    let most = dialect.most_inputs(target).max(1);
    if attempt.lane == Lane::Byte && attempt.call.payload.wire().is_some_and(|wire| holds_few(&wire.body, most)) {
        return Ok(None);
    }
    let Ok(Request::Embed(request)) = attempt.call.payload.typed() else { return Ok(None) };
    if inputs(request) <= most {
        return Ok(None);
    }
    let parts = |count: usize| (0..count).step_by(most).map(move |start| start..count.min(start.saturating_add(most)));
    let (texts, tokens) = (request.inputs.len(), request.token_inputs.len());
    if texts.div_ceil(most) + tokens.div_ceil(most) > MOST {
        let field = if texts == 0 { "token_inputs" } else { "inputs" };
        let what = format!("must be at most {} for this deployment, which takes {most} at once; send fewer in a call", most * MOST);
        return Err(Error::invalid(field, what));
    }
    let parts = parts(texts).map(Part::Texts).chain(parts(tokens).map(Part::Tokens)).collect();
    Ok(Some(Batches { request, parts }))
}

impl Batches<'_> {
    /// One of the requests.
    fn request(&self, part: Part) -> EmbedRequest {
        let EmbedRequest { endpoint, inputs, token_inputs, dimensions, user, metadata, provider_options } = self.request;
        let (inputs, token_inputs) = match part {
            Part::Texts(range) => (inputs[range].to_vec(), Vec::new()),
            Part::Tokens(range) => (Vec::new(), token_inputs[range].to_vec()),
        };
        EmbedRequest {
            endpoint: endpoint.clone(),
            inputs,
            token_inputs,
            dimensions: *dimensions,
            user: user.clone(),
            metadata: metadata.clone(),
            provider_options: provider_options.clone(),
        }
    }
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
pub(super) async fn exchange(upstream: &Upstream, attempt: &Attempt, batches: &Batches<'_>) -> Result<Reply> {
    let send = |part: Part| async move {
        let batch = batches.request(part);
        let inputs = inputs(&batch);
        let call = Call { payload: Payload::typed_only(Request::Embed(batch)), ..attempt.call.clone() };
        let reply = one(upstream, &Attempt { call, lane: Lane::Typed, ..attempt.clone() }).await?;
        let head = reply.head.clone();
        match reply.answer().await? {
            Answer::Embed(answer) => Ok((inputs, head, answer)),
            _ => Err(Error::internal("embeddings were answered with something else")),
        }
    };
    let answers = stream::iter(batches.parts.iter().cloned()).map(send).buffered(AT_ONCE);
    let whole = answers.try_fold(Whole::default(), async |whole, (inputs, head, answer)| {
        let what = "gave vectors of more than 256 MiB; send fewer inputs in a call";
        whole.and(inputs, head, answer, MOST_BYTES).ok_or_else(|| upstream.error(ErrorReason::ProviderBadAnswer, what))
    });
    let Whole { head, answer, .. } = whole.await?;
    let head = head.ok_or_else(|| Error::internal("no texts were sent"))?;
    Ok(Reply::one(head, Answer::Embed(answer)))
}

impl Whole {
    /// With the next answer, which is to so many inputs; `None` where that is more than so many bytes.
    fn and(mut self, inputs: usize, head: Head, next: EmbedResponse, most: usize) -> Option<Self> {
        self.bytes = self.bytes.saturating_add(next.encoded_len());
        if self.bytes > most {
            return None;
        }
        let EmbedResponse { model, embeddings, usage, call: _ } = next;
        self.answer.usage = if self.head.is_none() { usage } else { sum(self.answer.usage, usage) };
        self.head.get_or_insert(head);
        self.answer.model = model;
        let offset = u32::try_from(self.inputs).unwrap_or(u32::MAX);
        self.answer.embeddings.extend(embeddings.into_iter().map(|mut embedding| {
            embedding.index = embedding.index.saturating_add(offset);
            embedding
        }));
        self.inputs = self.inputs.saturating_add(inputs);
        Some(self)
    }
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
    use flowgate_proto::v1::{Embedding, TokenIds};

    use super::*;
    use crate::event::Tariff;

    #[test]
    fn bodies_with_few_commas_hold_few_inputs() {
        assert!(holds_few(br#"{"input": "a", "model": "m"}"#, 2) && holds_few(b"{}", 1));
        assert!(!holds_few(br#"["a", "b", "c"]"#, 2) && !holds_few(br#"["a", "b"]"#, 1));
    }

    #[test]
    fn a_request_has_its_own_inputs_and_what_all_have() {
        let metadata = [("k".to_owned(), "v".to_owned())].into();
        let rest = EmbedRequest { user: "u".to_owned(), dimensions: Some(3), metadata, ..EmbedRequest::default() };
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let whole = EmbedRequest { inputs: texts(&["a", "b", "c"]), token_inputs: vec![TokenIds { ids: vec![1] }], ..rest.clone() };
        let batches = Batches { request: &whole, parts: Vec::new() };
        assert_eq!(batches.request(Part::Texts(1..3)), EmbedRequest { inputs: texts(&["b", "c"]), ..rest.clone() });
        assert_eq!(batches.request(Part::Tokens(0..1)), EmbedRequest { token_inputs: whole.token_inputs.clone(), ..rest });
    }

    #[test]
    fn answers_are_no_larger_together_than_one_may_be() {
        let head = Head {
            lane: Lane::Typed,
            deployment: "d".into(),
            provider: "p",
            tariff: Tariff::default(),
            attempts: 1,
            headers: http::HeaderMap::new(),
        };
        let answer = EmbedResponse { embeddings: vec![Embedding { index: 0, values: vec![1.0; 10] }], ..EmbedResponse::default() };
        let most = 2 * answer.encoded_len();
        let add = |whole: Whole| whole.and(1, head.clone(), answer.clone(), most);
        let two = Whole::default().and(1, head.clone(), answer.clone(), most).and_then(add).unwrap();
        assert_eq!(two.answer.embeddings.iter().map(|vector| vector.index).collect::<Vec<_>>(), [0, 1]);
        assert!(add(two).is_none());
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
