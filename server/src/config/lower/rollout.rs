//! `rollout:` and the weights beside it: which deployment is the canary, and that the shares of all can be told.

use crate::config::{
    Deployment, Rollout,
    diagnostic::Diagnostic,
    raw::{RawAbort, RawDeployment, RawEndpoint, RawRollout},
    reading::Reading,
    suggest,
    tree::At,
    units::{self, FACTOR, NONZERO, SHARE},
};

/// The rollout of an endpoint with these deployments.
pub(super) fn lower(at: &At<RawEndpoint>, deployments: &[Deployment], reading: &mut Reading<'_>) -> Option<Rollout> {
    let rollout = at.value.routing.rollout.as_ref()?;
    let raw = &rollout.value;
    let steps = steps(raw, reading);
    let every = reading.amount(raw.every.as_ref(), "every", (units::nonzero, NONZERO));
    let abort = raw.abort_if.as_ref();
    let error_rate = abort.and_then(|abort| reading.amount(abort.value.error_rate.as_ref(), "error_rate", (units::share, SHARE)));
    let p95 = abort.and_then(|abort| reading.amount(abort.value.p95.as_ref(), "p95", (units::factor, FACTOR)));
    let judges = |abort: &RawAbort| abort.error_rate.is_some() || abort.p95.is_some();
    if let Some(abort) = abort.filter(|abort| !judges(&abort.value) && !reading.is_damaged(abort.spot)) {
        reading.error(abort.spot, Diagnostic::new("`abort_if` judges nothing").expected("`error_rate`, `p95` or both"));
    }
    let written = at.value.deployments.as_deref().unwrap_or_default();
    let open = written.iter().filter(|deployment| deployment.value.when.is_none()).count();
    if open < 2 && at.value.routing.steps.is_none() && !reading.is_damaged(at.spot) {
        let diagnostic = Diagnostic::new("`rollout` has nothing to move the split between");
        reading.error(rollout.spot, diagnostic.expected("at least two `deployments` without `when`"));
        return None;
    }
    // Where one of them did not lower, its own errors say enough.
    let canary = if deployments.len() == written.len() { canary(raw, written, deployments, reading)? } else { String::new() };
    let min_calls = abort.and_then(|abort| abort.value.min_calls.as_ref()).map_or(20, |calls| calls.value);
    Some(Rollout { canary, steps, every: every?, error_rate, p95, min_calls })
}

fn steps(raw: &RawRollout, reading: &mut Reading<'_>) -> Vec<u32> {
    let Some(written) = &raw.steps else { return Vec::new() };
    let mut last = 0;
    for step in &written.value {
        if step.value <= last || step.value > 100 {
            reading.wrong(step.spot, "steps", "percentages from 1 to 100, each larger than the one before");
        }
        last = last.max(step.value);
    }
    if written.value.is_empty() && !reading.is_damaged(written.spot) {
        reading.error(written.spot, Diagnostic::new("`steps` is empty").expected("percentages, for example `[5, 25, 50, 100]`"));
    }
    written.value.iter().map(|step| step.value).collect()
}

/// The alias of the canary: named, or the last that has no condition. It has no weight of its own.
fn canary(raw: &RawRollout, written: &[At<RawDeployment>], deployments: &[Deployment], reading: &mut Reading<'_>) -> Option<String> {
    let mut open = written.iter().zip(deployments).filter(|(written, _)| written.value.when.is_none());
    let found = match &raw.canary {
        None => open.next_back(),
        Some(alias) => {
            let names: Vec<&str> = open.clone().map(|(_, deployment)| deployment.alias.as_str()).collect();
            let found = open.find(|(_, deployment)| deployment.alias == alias.value);
            if found.is_none() {
                let message = format!("`canary` is {}, which is no deployment without `when`", reading.shown(alias.spot));
                let diagnostic = Diagnostic::new(message).expected(suggest::list(&names));
                reading.error(alias.spot, diagnostic.suggest(suggest::nearest(&alias.value, &names)));
            }
            found
        }
    };
    let (written, deployment) = found?;
    if let Some(weight) = &written.value.weight {
        let diagnostic = Diagnostic::new("`weight` stands on the canary of a `rollout`");
        reading.error(weight.spot, diagnostic.expected("none: its share is that of the step, and the others share the rest by theirs"));
    }
    Some(deployment.alias.clone())
}

/// Weights stand on all deployments without a condition, or on none; the canary of a rollout is none of them. It goes by the alias that it
/// has in the end, written or not.
pub(super) fn check_weights(raw: &RawEndpoint, deployments: &[Deployment], reading: &mut Reading<'_>) {
    let written = raw.deployments.as_deref().unwrap_or_default();
    for each in written {
        if let (Some(weight), Some(_)) = (&each.value.weight, &each.value.when) {
            let diagnostic = Diagnostic::new("`weight` stands beside `when`").expected("one of the two: a condition decides alone");
            reading.error(weight.spot, diagnostic);
        }
    }
    let canary = raw.routing.rollout.as_ref().map(|rollout| rollout.value.canary.as_ref().map(|alias| alias.value.as_str()));
    // Where one of them did not lower, its own errors say enough.
    if canary.flatten().is_some() && deployments.len() != written.len() {
        return;
    }
    let aliases = deployments.iter().map(|deployment| Some(deployment.alias.as_str())).chain(std::iter::repeat(None));
    let open: Vec<_> = written.iter().zip(aliases).filter(|(each, _)| each.value.when.is_none()).collect();
    let is_canary = |n: usize, own: Option<&str>| match canary {
        None => false,
        Some(None) => n + 1 == open.len(),
        Some(alias) => own == alias,
    };
    let shares: Vec<_> = open.iter().enumerate().filter(|(n, (_, own))| !is_canary(*n, *own)).map(|(_, (each, _))| *each).collect();
    let Some(first) = shares.iter().find_map(|each| each.value.weight.as_ref()) else { return };
    for each in shares.iter().filter(|each| each.value.weight.is_none()) {
        if !reading.is_damaged(each.spot) {
            let diagnostic = Diagnostic::new("`weight` is missing, while other deployments have one");
            reading.error(each.spot, diagnostic.expected("a weight on each deployment without `when`, or on none"));
        }
    }
    if shares.iter().filter_map(|each| each.value.weight.as_ref()).all(|weight| weight.value == 0) {
        reading.error(first.spot, Diagnostic::new("all weights are 0").expected("at least one above 0"));
    }
}
