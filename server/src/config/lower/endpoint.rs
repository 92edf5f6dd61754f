//! One endpoint of the native form; the other forms become it first.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::{
    batch,
    deployment::{self, Common},
    media, rollout, routing, traits,
    upstream::Upstream,
};
use crate::{
    config::{
        Breaker, Deployment, Endpoint, Limit, Timeouts,
        diagnostic::Diagnostic,
        raw::{RawDeployment, RawEndpoint, RawLimit, RawTask, RawTimeouts, RawTraits, RawUnsupported},
        reading::Reading,
        tree::{At, Tree},
        units,
    },
    dialect::Unsupported,
    event::Task,
};

/// The endpoint; `None` when what is wrong with it leaves none.
pub(super) fn lower(at: &At<RawEndpoint>, reading: &mut Reading<'_>) -> Option<Endpoint> {
    let raw = &at.value;
    let task = raw.endpoint_type.as_ref().map(|task| lower_task(task.value));
    // What is wrong with the rest is said also when the task is.
    let known = task.unwrap_or(Task::Chat);
    let timeouts = lower_timeouts(raw.timeouts.as_ref(), known, reading);
    let limit = raw.limit.as_ref().and_then(|limit| lower_limit(&limit.value, reading));
    let media = raw.media.as_ref().and_then(|written| media::lower(written, known, reading));
    let compat = media::compat(raw.compat.as_ref(), known, reading);
    let deployments = lower_deployments(at, known, reading);
    let routing = routing::lower(at, known, &deployments, reading);
    if deployments.is_empty() && routing.steps.is_empty() {
        return None;
    }
    Some(Endpoint {
        name: raw.name.as_ref()?.value.clone(),
        task: task?,
        path: raw.path.as_ref().map(|path| path.value.clone()),
        description: raw.description.as_ref().map(|text| text.value.clone()).unwrap_or_default(),
        tags: tags(raw.tags.as_ref()),
        limit,
        timeouts,
        unsupported: match raw.unsupported.as_ref().map(|word| word.value) {
            Some(RawUnsupported::Drop) => Unsupported::Drop,
            Some(RawUnsupported::Refuse) | None => Unsupported::Refuse,
        },
        media,
        compat,
        is_split: false,
        routing,
        deployments,
    })
}

/// The task a word stands for.
pub(super) fn lower_task(raw: RawTask) -> Task {
    match raw {
        RawTask::Chat => Task::Chat,
        RawTask::Complete => Task::Complete,
        RawTask::Embed => Task::Embed,
        RawTask::Predict => Task::Predict,
    }
}

fn tags(raw: Option<&Tree>) -> Vec<(String, String)> {
    let entries = raw.and_then(Tree::entries).into_iter().flatten();
    let mut tags: Vec<_> = entries.filter_map(|(key, value)| Some((key.value.clone(), value.text()?.to_owned()))).collect();
    tags.sort();
    tags
}

/// The limit, in the words of listings.
pub(super) fn lower_limit(raw: &RawLimit, reading: &mut Reading<'_>) -> Option<Limit> {
    let calls = raw.calls.as_ref().filter(|calls| {
        if calls.value == 0 {
            reading.wrong(calls.spot, "calls", "1 or more");
        }
        calls.value > 0
    });
    let period = raw.renewal_period.as_ref().and_then(|period| {
        let lowered = units::period(&period.value);
        if lowered.is_none() {
            reading.wrong(period.spot, "renewal_period", units::PERIOD);
        }
        lowered
    });
    Some(Limit { calls: calls?.value, renewal_period: period? })
}

fn lower_timeouts(raw: Option<&At<RawTimeouts>>, task: Task, reading: &mut Reading<'_>) -> Timeouts {
    let mut timeouts = Timeouts::defaults(task);
    let Some(raw) = raw.map(|raw| &raw.value) else { return timeouts };
    if matches!(task, Task::Predict | Task::Embed) {
        warn_streamless(raw, reading);
    }
    if let Some(Some(connect)) = wait(raw.connect.as_ref(), "connect", false, reading) {
        timeouts.connect = connect;
    }
    let mut set = |raw: &Option<At<String>>, key: &str, fields: &mut [&mut Option<Duration>]| {
        if let Some(value) = wait(raw.as_ref(), key, true, reading) {
            fields.iter_mut().for_each(|field| **field = value);
        }
    };
    set(&raw.attempt, "attempt", &mut [&mut timeouts.attempt]);
    set(&raw.first_event, "first_event", &mut [&mut timeouts.first_event]);
    set(&raw.idle, "idle", &mut [&mut timeouts.idle]);
    set(&raw.total, "total", &mut [&mut timeouts.total_unary, &mut timeouts.total_stream]);
    timeouts
}

/// Predictions and embeddings are never streamed, so what limits streams would do nothing, silently.
fn warn_streamless(raw: &RawTimeouts, reading: &mut Reading<'_>) {
    for (key, value) in [("first_event", &raw.first_event), ("idle", &raw.idle)] {
        if let Some(value) = value {
            let message = format!("`{key}` does nothing here: it applies to streams only, and predictions and embeddings are none");
            let suggestion = "`attempt` limits one try, `total` the whole call";
            reading.report.warn(value.spot, Diagnostic::new(message).suggest(Some(suggestion)));
        }
    }
}

/// A duration above zero, or `none` where that is allowed.
fn wait(raw: Option<&At<String>>, key: &str, may_be_none: bool, reading: &mut Reading<'_>) -> Option<Option<Duration>> {
    let raw = raw?;
    if may_be_none && raw.value == "none" {
        return Some(None);
    }
    let duration = units::duration(&raw.value).filter(|duration| !duration.is_zero());
    if duration.is_none() {
        let or_none = if may_be_none { "; `none` for no limit" } else { "" };
        reading.wrong(raw.spot, key, format!("{}{or_none}", units::DURATION));
    }
    duration.map(Some)
}

/// What holds for all deployments.
fn common(raw: &RawEndpoint, task: Task, reading: &mut Reading<'_>) -> Common {
    let breaker = Breaker::default();
    Common {
        task,
        upstream: Upstream::default().with(raw.upstream.as_ref(), reading),
        breaker: raw.traits.breaker.as_ref().map_or(breaker, |written| traits::breaker(written, breaker, reading)),
        concurrency: raw.traits.concurrency.as_ref().and_then(|written| traits::concurrency(written, None, reading)),
        batch: raw.traits.batch.as_ref().and_then(|written| batch::lower(written, task, None, reading)),
    }
}

fn lower_deployments(at: &At<RawEndpoint>, task: Task, reading: &mut Reading<'_>) -> Vec<Deployment> {
    let raw = &at.value;
    let common = common(raw, task, reading);
    match (&raw.model, &raw.deployments) {
        // What stands beside the steps of a chain is said there.
        _ if raw.routing.steps.is_some() => Vec::new(),
        (Some(model), None) => {
            let RawTraits { price, context_window, capabilities, .. } = raw.traits.clone();
            let traits = RawTraits { price, context_window, capabilities, ..RawTraits::default() };
            let only = RawDeployment { model: Some(model.clone()), traits, ..RawDeployment::default() };
            let mut lowered = lower_each(&[at.with(only)], &common, reading);
            if let ([only], Some(name)) = (lowered.as_mut_slice(), &raw.name) {
                // A lone deployment without a model's name goes by the endpoint's.
                if only.model.is_empty() {
                    only.alias.clone_from(&name.value);
                }
            }
            lowered
        }
        (None, Some(deployments)) if !deployments.is_empty() => {
            check_traits(&raw.traits, reading);
            let lowered = lower_each(deployments, &common, reading);
            rollout::check_weights(raw, &lowered, reading);
            lowered
        }
        (Some(model), Some(_)) => {
            let diagnostic = Diagnostic::new("`model` stands beside `deployments`").expected("one of the two");
            reading.error(model.spot, diagnostic);
            Vec::new()
        }
        (None, _) => {
            if !reading.is_damaged(at.spot) {
                reading.error(at.spot, Diagnostic::new("the endpoint has no model").expected("`model`, `deployments` or `steps`"));
            }
            Vec::new()
        }
    }
}

/// What one deployment is cannot be said of several at once.
fn check_traits(raw: &RawTraits, reading: &mut Reading<'_>) {
    let own = [
        ("price", raw.price.as_ref().map(|at| at.spot)),
        ("context_window", raw.context_window.as_ref().map(|at| at.spot)),
        ("capabilities", raw.capabilities.as_ref().and_then(|words| words.first()).map(|at| at.spot)),
    ];
    for (key, spot) in own {
        if let Some(spot) = spot {
            let diagnostic = Diagnostic::new(format!("`{key}` stands beside `deployments`"));
            reading.error(spot, diagnostic.expected(format!("`{key}` on each deployment that it is true of")));
        }
    }
}

fn lower_each(raw: &[At<RawDeployment>], common: &Common, reading: &mut Reading<'_>) -> Vec<Deployment> {
    check_aliases(raw, reading);
    let mut taken: HashSet<String> = raw.iter().filter_map(|each| Some(each.value.alias.as_ref()?.value.clone())).collect();
    let mut lowered = Vec::new();
    for (position, each) in raw.iter().enumerate() {
        let Some(mut deployment) = deployment::lower(each, common, reading) else { continue };
        if each.value.alias.is_none() {
            deployment.alias = free_alias(&deployment.model, position, &taken);
        }
        taken.insert(deployment.alias.clone());
        lowered.push(deployment);
    }
    lowered
}

fn free_alias(model: &str, position: usize, taken: &HashSet<String>) -> String {
    if !model.is_empty() && !taken.contains(model) {
        return model.to_owned();
    }
    let mut number = position + 1;
    while taken.contains(&number.to_string()) {
        number += 1;
    }
    number.to_string()
}

fn check_aliases(raw: &[At<RawDeployment>], reading: &mut Reading<'_>) {
    let mut seen = HashMap::new();
    for alias in raw.iter().filter_map(|each| each.value.alias.as_ref()) {
        if !units::name(&alias.value) {
            reading.wrong(alias.spot, "alias", units::NAME);
        }
        super::check_twice(&mut seen, alias, "alias", reading);
    }
}
