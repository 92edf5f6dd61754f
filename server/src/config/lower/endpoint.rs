//! One endpoint of the native form; the other forms become it first.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::{deployment, upstream::Upstream};
use crate::{
    config::{
        Deployment, Endpoint, Limit, Routing, Timeouts,
        diagnostic::Diagnostic,
        raw::{RawDeployment, RawEndpoint, RawLimit, RawTask, RawTimeouts, RawUnsupported},
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
    let upstream = Upstream::default().with(raw.upstream.as_ref(), reading);
    let deployments = lower_deployments(at, known, &upstream, reading);
    if deployments.is_empty() {
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
        is_split: false,
        routing: Routing::default(),
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

fn lower_deployments(at: &At<RawEndpoint>, task: Task, upstream: &Upstream, reading: &mut Reading<'_>) -> Vec<Deployment> {
    let raw = &at.value;
    match (&raw.model, &raw.deployments) {
        (Some(model), None) => {
            let only = RawDeployment { model: Some(model.clone()), ..RawDeployment::default() };
            let mut lowered = lower_each(&[at.with(only)], task, upstream, reading);
            if let ([only], Some(name)) = (lowered.as_mut_slice(), &raw.name) {
                // A lone deployment without a model's name goes by the endpoint's.
                if only.model.is_empty() {
                    only.alias.clone_from(&name.value);
                }
            }
            lowered
        }
        (None, Some(deployments)) if !deployments.is_empty() => {
            check_weights(deployments, reading);
            lower_each(deployments, task, upstream, reading)
        }
        (Some(model), Some(_)) => {
            let diagnostic = Diagnostic::new("`model` stands beside `deployments`").expected("one of the two");
            reading.error(model.spot, diagnostic);
            Vec::new()
        }
        (None, _) => {
            if !reading.is_damaged(at.spot) {
                reading.error(at.spot, Diagnostic::new("the endpoint has no model").expected("`model` or `deployments`"));
            }
            Vec::new()
        }
    }
}

fn lower_each(raw: &[At<RawDeployment>], task: Task, upstream: &Upstream, reading: &mut Reading<'_>) -> Vec<Deployment> {
    check_aliases(raw, reading);
    let mut taken: HashSet<String> = raw.iter().filter_map(|each| Some(each.value.alias.as_ref()?.value.clone())).collect();
    let mut lowered = Vec::new();
    for (position, each) in raw.iter().enumerate() {
        let Some(mut deployment) = deployment::lower(each, task, upstream, reading) else { continue };
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

/// Weights stand on all deployments without a condition, or on none.
fn check_weights(raw: &[At<RawDeployment>], reading: &mut Reading<'_>) {
    let mut sum = 0_u64;
    for each in raw {
        if let (Some(weight), Some(_)) = (&each.value.weight, &each.value.when) {
            let diagnostic = Diagnostic::new("`weight` stands beside `when`").expected("one of the two: a condition decides alone");
            reading.error(weight.spot, diagnostic);
        }
        sum += each.value.weight.as_ref().map_or(0, |weight| u64::from(weight.value));
    }
    let open: Vec<_> = raw.iter().filter(|each| each.value.when.is_none()).collect();
    let Some(first) = open.iter().find_map(|each| each.value.weight.as_ref()) else { return };
    for each in open.iter().filter(|each| each.value.weight.is_none() && !reading.is_damaged(each.spot)).copied().collect::<Vec<_>>() {
        let diagnostic = Diagnostic::new("`weight` is missing, while other deployments have one");
        reading.error(each.spot, diagnostic.expected("a weight on each deployment without `when`, or on none"));
    }
    if sum == 0 {
        reading.error(first.spot, Diagnostic::new("all weights are 0").expected("at least one above 0"));
    }
}
