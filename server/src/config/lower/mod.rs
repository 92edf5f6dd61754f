//! From what a person wrote to what the house uses: semantic checks, which go on after a failure. Reads no file of its own.

mod batch;
mod chain;
mod compile;
mod deployment;
mod endpoint;
mod fields;
mod grant;
mod graph;
mod health;
mod idle;
mod media;
mod mock;
mod model;
mod older;
pub(crate) mod path;
mod price;
mod rollout;
mod routing;
mod server;
mod split;
mod tracking;
mod traits;
mod upstream;

use std::collections::{HashMap, HashSet};

use super::{
    Config, Endpoint, Found, Place,
    diagnostic::{Diagnostic, Spot},
    raw::{RawConfig, RawRoute},
    reading::Reading,
    suggest,
    tree::{At, Tree},
    units,
};
use crate::event::Task;

/// The configuration, as far as there is one: it counts only when the reading's report has no errors.
pub(super) fn lower(mut raw: RawConfig, tree: &Tree, reading: &mut Reading<'_>) -> Config {
    let lists = ["endpoints", "routes", "model_endpoints"];
    let serves = raw.mlflow.as_ref().is_some_and(|mlflow| mlflow.value.serve.is_some());
    if serves {
        // Its endpoints are found when it runs.
    } else if lists.iter().all(|list| tree.get(list).is_none()) && !reading.is_damaged(tree.spot) {
        let spot = Spot { line: tree.spot.line.max(1), column: tree.spot.column.max(1), ..tree.spot };
        reading.error(spot, Diagnostic::new("there is nothing to serve").expected(suggest::list(&lists)));
    } else if raw.endpoints.is_empty() && raw.routes.is_empty() && raw.model_endpoints.is_empty() && !reading.is_damaged(tree.spot) {
        reading.report.warn_nowhere(Diagnostic::new("there is no endpoint yet, so every call will be refused"));
    }
    reading.read_models(raw.prices.as_ref());
    let endpoints = endpoints(&mut raw, reading);
    if let Some(name) = &raw.default_endpoint {
        let names: Vec<_> = endpoints.known.iter().map(String::as_str).collect();
        if !names.contains(&name.value.as_str()) {
            let diagnostic = Diagnostic::new(format!("`default_endpoint` is {}, which is no endpoint", reading.shown(name.spot)));
            reading.error(name.spot, diagnostic.suggest(suggest::nearest(&name.value, &names)));
        }
    }
    let server = server::lower(&raw, reading);
    tracking::check(raw.mlflow.as_ref(), reading);
    server::warn_unmet(&raw, &endpoints.lowered, reading);
    if raw.identity.is_none() {
        warn_open_door(&server, reading);
    }
    Config { default_endpoint: raw.default_endpoint.map(|name| name.value), endpoints: endpoints.lowered, ..server }
}

/// An open door is fine on loopback; elsewhere it gives away what stands behind it.
fn warn_open_door(config: &Config, reading: &mut Reading<'_>) {
    if !config.listen.ip().is_loopback() {
        let message = format!("anybody who reaches {} may call: there are no `identity.keys`", config.listen);
        let suggestion = "add `identity: { keys: [{ name: app, key: $APP_KEY }] }`, or listen on 127.0.0.1";
        reading.report.warn_nowhere(Diagnostic::new(message).suggest(Some(suggestion)));
    }
}

struct Endpoints {
    lowered: Vec<Endpoint>,
    /// The names of all, those included that did not lower.
    known: HashSet<String>,
}

fn endpoints(raw: &mut RawConfig, reading: &mut Reading<'_>) -> Endpoints {
    let (splits, older): (Vec<_>, Vec<_>) = std::mem::take(&mut raw.routes).into_iter().partition(|route| is_split(&route.value));
    let mut written = std::mem::take(&mut raw.endpoints);
    written.extend(older.into_iter().filter_map(|route| older::route(route, reading)));
    written.extend(std::mem::take(&mut raw.model_endpoints).into_iter().map(|endpoint| older::model_endpoint(endpoint, reading)));

    let names = written.iter().map(|endpoint| &endpoint.value.name).chain(splits.iter().map(|split| &split.value.name));
    let mut names: Vec<&At<String>> = names.flatten().collect();
    names.sort_by_key(|name| name.spot);
    check_names(&names, reading);
    let known: HashSet<String> = names.into_iter().map(|name| name.value.clone()).collect();
    check_paths(written.iter().filter_map(|endpoint| endpoint.value.path.as_ref()), reading);

    graph::check(&written, &splits, reading);
    let direct: Vec<(Spot, Endpoint)> =
        written.iter().filter_map(|endpoint| Some((endpoint.spot, endpoint::lower(endpoint, reading)?))).collect();
    let by_name: HashMap<&str, &Endpoint> = direct.iter().map(|(_, endpoint)| (endpoint.name.as_str(), endpoint)).collect();
    let written_names: HashSet<&str> = written.iter().filter_map(|endpoint| Some(endpoint.value.name.as_ref()?.value.as_str())).collect();
    let destinations = split::Destinations { lowered: by_name, known: written_names };
    let splits: Vec<_> = splits.iter().filter_map(|split| Some((split.spot, split::lower(split, &destinations, reading)?))).collect();
    let mut all: Vec<_> = direct.into_iter().chain(splits).collect();
    all.sort_by_key(|(spot, _)| *spot);
    Endpoints { lowered: all.into_iter().map(|(_, endpoint)| endpoint).collect(), known }
}

/// Whether an item of `routes:` is a traffic split and no endpoint in the older form.
fn is_split(route: &RawRoute) -> bool {
    route.route_type.is_none() && (route.destinations.is_some() || route.task_type.is_some() || route.model.is_none())
}

fn check_names(names: &[&At<String>], reading: &mut Reading<'_>) {
    let mut seen: HashMap<&str, Spot> = HashMap::new();
    for name in names {
        if !units::name(&name.value) {
            reading.wrong(name.spot, "name", units::NAME);
        }
        check_twice(&mut seen, name, "name", reading);
    }
}

/// Reports a value that stands somewhere already.
fn check_twice<'a>(seen: &mut HashMap<&'a str, Spot>, value: &'a At<String>, key: &str, reading: &mut Reading<'_>) {
    if let Some(first) = seen.insert(&value.value, value.spot) {
        let place = reading.report.place(first);
        let message = format!("duplicate {key} {}; it stands at {place} already", reading.shown(value.spot));
        reading.error(value.spot, Diagnostic::new(message).expected(format!("another {key}")));
    }
}

fn check_paths<'a>(paths: impl Iterator<Item = &'a At<String>>, reading: &mut Reading<'_>) {
    let mut seen: HashMap<&str, Spot> = HashMap::new();
    for each in paths {
        if let Err(expected) = path::check(&each.value) {
            reading.wrong(each.spot, "path", expected);
        }
        check_twice(&mut seen, each, "path", reading);
    }
}

/// The endpoint of a registered model that no file names.
pub(super) fn served(found: &Found, reading: &mut Reading<'_>) -> Option<Endpoint> {
    model::endpoint(found, reading)
}

/// A place for a deployment whose address is not set, where that is allowed.
fn nowhere(reason: impl Into<String>) -> Place {
    Place::Nowhere(reason.into())
}

/// The task that a chat and a completion endpoint can serve by each other.
fn counterpart(task: Task) -> Option<Task> {
    match task {
        Task::Chat => Some(Task::Complete),
        Task::Complete => Some(Task::Chat),
        Task::Embed | Task::Predict => None,
    }
}
