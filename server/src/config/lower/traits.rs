//! What a deployment is and what it can bear: its own keys over what its endpoint sets for all.

use std::sync::Arc;

use flowgate_proto::v1::Capability;

use super::{batch, deployment::Common, price, upstream::Upstream};
use crate::{
    config::{
        Breaker, Concurrency, ConcurrencyLimit, Tags, Traits,
        diagnostic::Diagnostic,
        raw::{RawBreaker, RawConcurrency, RawDeployment, Short},
        reading::Reading,
        schema, suggest,
        tree::{Any, At, Tree},
        units::{self, DURATION, NONZERO, SHARE},
    },
    provider::Provider,
};

/// The traits of a deployment.
pub(super) fn lower(raw: &RawDeployment, common: &Common, upstream: &Upstream, reading: &mut Reading<'_>) -> Traits {
    let own = &raw.traits;
    Traits {
        tags: raw.tags.as_ref().map(|written| tags(written, reading)).unwrap_or_default(),
        price: own.price.as_ref().and_then(|written| price::lower(written, common.task, reading)).map(Arc::new),
        context_window: own.context_window.as_ref().map(|tokens| tokens.value),
        capabilities: own.capabilities.as_deref().map(capabilities),
        breaker: own.breaker.as_ref().map_or(common.breaker, |written| breaker(written, common.breaker, reading)),
        concurrency: match &own.concurrency {
            Some(written) => concurrency(written, common.concurrency, reading),
            None => common.concurrency,
        },
        batch: match &own.batch {
            Some(written) => batch::lower(written, common.task, common.batch, reading),
            None => common.batch,
        },
        health: upstream.health.clone(),
        ejection: upstream.ejection,
    }
}

/// Tags with their values, sorted.
pub(super) fn tags(written: &Tree, reading: &mut Reading<'_>) -> Tags {
    let mut tags = Tags::new();
    for (key, value) in written.entries().into_iter().flatten() {
        let values: Vec<String> = match &value.value {
            Any::List(items) => items.iter().filter_map(|item| Some(item.text()?.to_owned())).collect(),
            Any::Null | Any::Bool(_) | Any::Number(_) | Any::Text(_) | Any::Map(_) => value.text().map(str::to_owned).into_iter().collect(),
        };
        if values.is_empty() && !reading.is_damaged(value.spot) {
            let diagnostic = Diagnostic::new(format!("`{}` has no value", suggest::short(&key.value)));
            reading.error(value.spot, diagnostic.expected("one value, or a list of them"));
        }
        tags.push((key.value.clone(), values));
    }
    tags.sort();
    tags
}

/// The tags that something asks for: at least one.
pub(super) fn required(written: &Tree, key: &str, reading: &mut Reading<'_>) -> Tags {
    let tags = tags(written, reading);
    if tags.is_empty() && !reading.is_damaged(written.spot) {
        reading.error(written.spot, Diagnostic::new(format!("`{key}` is empty")).expected("at least one tag, for example `region: eu`"));
    }
    tags
}

/// The capabilities behind the words, in the order of the contract.
fn capabilities(words: &[At<String>]) -> Vec<Capability> {
    let known = schema::capability_words().filter(|(word, _)| words.iter().any(|written| written.value == *word));
    known.map(|(_, capability)| capability).collect()
}

/// Whoever lists what a model can do means its inputs and tools: that answers are streamed goes without saying where the provider does.
pub(super) fn keep_streaming(traits: &mut Traits, provider: &Provider) {
    const STREAM: Capability = Capability::Stream;
    if let Some(listed) = traits.capabilities.as_mut().filter(|listed| !listed.contains(&STREAM) && provider.capabilities.contains(&STREAM))
    {
        listed.insert(0, STREAM);
    }
}

/// The breaker, laid over what holds below.
pub(super) fn breaker(at: &At<RawBreaker>, below: Breaker, reading: &mut Reading<'_>) -> Breaker {
    let raw = &at.value;
    let number = |raw: &Option<At<u32>>, below: u32| raw.as_ref().map_or(below, |number| number.value);
    Breaker {
        failures: number(&raw.failures, below.failures),
        error_rate: reading.amount(raw.error_rate.as_ref(), "error_rate", (units::share, SHARE)).unwrap_or(below.error_rate),
        window: reading.amount(raw.window.as_ref(), "window", (units::nonzero, NONZERO)).unwrap_or(below.window),
        min_calls: number(&raw.min_calls, below.min_calls),
        open: reading.amount(raw.open.as_ref(), "open", (units::nonzero, NONZERO)).unwrap_or(below.open),
    }
}

/// How many calls a deployment gets at once, laid over what holds below.
pub(super) fn concurrency(
    at: &At<Short<u32, RawConcurrency>>,
    below: Option<Concurrency>,
    reading: &mut Reading<'_>,
) -> Option<Concurrency> {
    let brief;
    let raw = match &at.value {
        Short::Word(limit) => {
            brief = RawConcurrency { limit: Some(at.with(*limit)), ..RawConcurrency::default() };
            &brief
        }
        Short::Whole(raw) => raw,
    };
    let wait = reading.amount(raw.wait.as_ref(), "wait", (units::duration, DURATION));
    let limit = limit(raw, reading).or(below.map(|below| below.limit));
    if limit.is_none() && !reading.is_damaged(at.spot) {
        reading.error(at.spot, Diagnostic::new("`concurrency` sets no limit").expected("`limit`, or `adaptive`"));
    }
    let below = below.or(limit.map(Concurrency::new))?;
    let queue = raw.queue.as_ref().map_or(below.queue, |queue| usize::try_from(queue.value).unwrap_or(usize::MAX));
    Some(Concurrency { limit: limit?, queue, wait: wait.unwrap_or(below.wait) })
}

fn limit(raw: &RawConcurrency, reading: &mut Reading<'_>) -> Option<ConcurrencyLimit> {
    if let (Some(_), Some(adaptive)) = (&raw.limit, &raw.adaptive) {
        reading.error(adaptive.spot, Diagnostic::new("`adaptive` stands beside `limit`").expected("one of the two"));
    }
    if let Some(limit) = &raw.limit {
        if limit.value == 0 {
            reading.wrong(limit.spot, "concurrency", "1 or more");
        }
        return Some(ConcurrencyLimit::Fixed(limit.value));
    }
    let adaptive = &raw.adaptive.as_ref()?.value;
    let ConcurrencyLimit::Adaptive { min: least, max: most } = ConcurrencyLimit::ADAPTIVE else { return None };
    let min = adaptive.min.as_ref().map(|min| min.value);
    let max = adaptive.max.as_ref().map(|max| max.value);
    if let (Some(min), Some(written)) = (min, adaptive.max.as_ref().filter(|max| Some(max.value) < min)) {
        reading.wrong(written.spot, "max", format!("at least `min`, which is {min}"));
    }
    // One of them alone moves the other's default out of its way.
    let min = min.unwrap_or(least.min(max.unwrap_or(least)));
    Some(ConcurrencyLimit::Adaptive { min, max: max.unwrap_or(most.max(min)) })
}
