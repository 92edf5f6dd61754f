//! `uri` and what goes with it, and `mlflow`: models that Flowgate runs itself.

use std::{collections::BTreeMap, path::PathBuf};

use super::{endpoint, older::registry};
use crate::{
    config::{
        Endpoint, Found, Location, Model, ModelUri, Models, PythonEnv, Resources, Runtime, Serve, ServerRole, Variables,
        diagnostic::{Diagnostic, Spot},
        raw::{RawEndpoint, RawMlflow, RawModel, RawPythonEnv, RawResources, RawRun, RawRuntime, RawTask, RawUpstream},
        reading::{Reading, Secret},
        tree::{At, Tree},
        units::{self, BYTES, NONZERO},
    },
    event::Task,
};

/// What every model's folder holds.
const MODEL_FILE: &str = "MLmodel";

/// The model of a `uri`; `None` when that names none, which is recorded.
pub(super) fn lower(uri: &At<String>, run: &RawRun, reading: &mut Reading<'_>) -> Option<Model> {
    let known = match uri.value.parse::<ModelUri>() {
        Ok(known) => {
            let known = beside(known, uri, reading);
            check_place(&known, uri, reading);
            Some(known)
        }
        Err(error) => {
            reading.error(uri.spot, Diagnostic::new(error.to_string()));
            None
        }
    };
    let (min, max) = instances(run, reading);
    let model = Model {
        runtime: match run.runtime.as_ref().map(|word| word.value) {
            Some(RawRuntime::Native) => Runtime::Native,
            Some(RawRuntime::Python) => Runtime::Python,
            Some(RawRuntime::Auto) | None => Runtime::Auto,
        },
        idle: or_none(run.idle.as_ref(), ("idle", "a duration above 0, for example `15m`, or `none`", Model::IDLE), reading),
        load_timeout: or_none(
            run.load_timeout.as_ref(),
            ("load_timeout", "a duration above 0, for example `10m`, or `none`", Model::LOAD_TIMEOUT),
            reading,
        ),
        min,
        max,
        env_manager: match run.env_manager.as_ref().map(|word| word.value) {
            Some(RawPythonEnv::Virtualenv) => PythonEnv::Virtualenv,
            Some(RawPythonEnv::Uv) => PythonEnv::Uv,
            Some(RawPythonEnv::Conda) => PythonEnv::Conda,
            Some(RawPythonEnv::Local) | None => PythonEnv::Local,
        },
        env: run.env.as_ref().map(|env| variables(env, reading)).unwrap_or_default(),
        resources: run.resources.as_ref().map(|written| resources(&written.value, reading)).unwrap_or_default(),
        ..Model::new(known?)
    };
    check_native(&model, run, reading);
    Some(model)
}

/// Keys that go with `uri` and stand where there is none.
pub(super) fn check_idle(model: &At<RawModel>, reading: &mut Reading<'_>) {
    if model.value.uri.is_some() {
        return;
    }
    for (key, spot) in given(&model.value.run) {
        reading.error(spot, Diagnostic::new(format!("`{key}` does nothing without `uri`")).expected("`uri`, or this left out"));
    }
}

/// How a server is reached does nothing for a model that Flowgate runs.
pub(super) fn check_upstream(model: &At<RawModel>, upstream: Option<&At<RawUpstream>>, reading: &mut Reading<'_>) {
    if let (Some(_), Some(upstream)) = (&model.value.uri, upstream) {
        let diagnostic = Diagnostic::new("`upstream` does nothing beside `uri`: Flowgate runs the model itself");
        reading.error(upstream.spot, diagnostic.expected("one of the two"));
    }
}

/// A relative folder is meant as seen from the file that names it.
fn beside(uri: ModelUri, text: &At<String>, reading: &Reading<'_>) -> ModelUri {
    let ModelUri::Stored(Location::Local(folder)) = &uri else { return uri };
    ModelUri::Stored(Location::Local(seen_from(folder.clone(), text, reading)))
}

/// Notes which server knows the model, or whether its folder is here.
fn check_place(model: &ModelUri, text: &At<String>, reading: &mut Reading<'_>) {
    if let Some(role) = model.server() {
        reading.needs(role, text.spot);
    }
    let ModelUri::Stored(Location::Local(folder)) = model else { return };
    if let Err(error) = reading.resolver.text(&folder.join(MODEL_FILE)) {
        let message = format!("`uri` names a folder without a model: `{}`: {error}", folder.join(MODEL_FILE).display());
        let diagnostic =
            Diagnostic::new(message).suggest(Some("relative folders are looked up beside this file, then in the working directory"));
        reading.report.warn(text.spot, diagnostic);
    }
}

/// A relative path as seen from the file that names it, where that is something.
fn seen_from(path: PathBuf, text: &At<String>, reading: &Reading<'_>) -> PathBuf {
    let file = PathBuf::from(reading.report.name(text.spot.source));
    let there = file.parent().map(|parent| parent.join(&path)).filter(|there| path.is_relative() && there.exists());
    there.unwrap_or(path)
}

/// A duration that may be `none`.
fn or_none(
    raw: Option<&At<String>>,
    (key, expected, usual): (&str, &str, std::time::Duration),
    reading: &mut Reading<'_>,
) -> Option<std::time::Duration> {
    match raw {
        Some(raw) if raw.value == "none" => None,
        raw => reading.amount(raw, key, (units::nonzero, expected)).or(Some(usual)),
    }
}

fn instances(run: &RawRun, reading: &mut Reading<'_>) -> (u32, u32) {
    let min = run.min.as_ref().map_or(0, |min| min.value);
    let max = run.max.as_ref().map_or(min.max(1), |max| max.value);
    if let Some(at) = run.max.as_ref().filter(|_| max < min) {
        let message = format!("`max` is {max}, which is less than `min`");
        reading.error(at.spot, Diagnostic::new(message).expected(format!("{min} or more")));
    }
    (min, max.max(min))
}

/// What only a process has does nothing for a model that has none.
fn check_native(model: &Model, run: &RawRun, reading: &mut Reading<'_>) {
    if model.runtime != Runtime::Native {
        return;
    }
    // What ONNX Runtime computes with is this process's.
    let has_threads = cfg!(feature = "onnx") && model.resources.memory.is_none() && model.resources.devices.is_none();
    let idle = |key: &str| matches!(key, "env_manager" | "env") || key == "resources" && !has_threads;
    for (key, spot) in given(run).into_iter().filter(|(key, _)| idle(key)) {
        let diagnostic = Diagnostic::new(format!("`{key}` does nothing beside `runtime: native`, which has no process of its own"));
        reading.error(spot, diagnostic.expected("one of the two"));
    }
}

fn given(run: &RawRun) -> Vec<(&'static str, Spot)> {
    let all = [
        ("runtime", run.runtime.as_ref().map(|at| at.spot)),
        ("idle", run.idle.as_ref().map(|at| at.spot)),
        ("load_timeout", run.load_timeout.as_ref().map(|at| at.spot)),
        ("min", run.min.as_ref().map(|at| at.spot)),
        ("max", run.max.as_ref().map(|at| at.spot)),
        ("env_manager", run.env_manager.as_ref().map(|at| at.spot)),
        ("env", run.env.as_ref().map(|at| at.spot)),
        ("resources", run.resources.as_ref().map(|at| at.spot)),
    ];
    all.into_iter().filter_map(|(key, spot)| Some((key, spot?))).collect()
}

fn variables(env: &Tree, reading: &mut Reading<'_>) -> Variables {
    let mut variables = BTreeMap::new();
    for (name, value) in env.entries().into_iter().flatten() {
        let is_name = !name.value.is_empty() && !name.value.contains(['=', '\0']);
        if !is_name {
            reading.wrong(name.spot, "env", "the name of a variable, without `=`");
        }
        let Some(text) = value.text().map(|text| value.with(text.to_owned())) else { continue };
        if text.value.is_empty() {
            variables.insert(name.value.clone(), String::new().into());
            continue;
        }
        match reading.secret(&text, &name.value) {
            Secret::Is(secret) => drop(variables.insert(name.value.clone(), secret)),
            Secret::Unset => {}
            Secret::Manager(manager) => {
                let diagnostic = Diagnostic::new(format!("`{}` stands in {manager}, which this build does not read yet", name.value));
                reading.error(value.spot, diagnostic.expected("an environment variable or a file"));
            }
        }
    }
    Variables(variables)
}

fn resources(raw: &RawResources, reading: &mut Reading<'_>) -> Resources {
    Resources {
        threads: raw.threads.as_ref().map(|threads| threads.value),
        memory: reading.amount(raw.memory.as_ref(), "memory", (size, BYTES)),
        devices: raw.devices.as_ref().and_then(|devices| reading.plain(devices)),
    }
}

/// `mlflow`.
pub(super) fn lower_all(raw: Option<&At<RawMlflow>>, reading: &mut Reading<'_>) -> Models {
    let usual = Models::default();
    let Some(raw) = raw.map(|at| &at.value) else { return usual };
    let cache = raw.cache.as_ref().map(|at| &at.value);
    Models {
        tracking_uri: raw.tracking_uri.as_ref().map(|at| at.value.clone()),
        refresh: reading.amount(raw.refresh.as_ref(), "refresh", (units::nonzero, NONZERO)).unwrap_or(usual.refresh),
        cache: cache.and_then(|cache| cache.folder.as_ref()).map(|at| kept(at, reading)),
        cache_bytes: cache
            .and_then(|cache| reading.amount(cache.max_bytes.as_ref(), "max_bytes", (size, BYTES)))
            .unwrap_or(usual.cache_bytes),
        memory: reading.amount(raw.memory.as_ref(), "memory", (size, BYTES)),
        max_processes: raw.max_processes.as_ref().map_or(usual.max_processes, |at| at.value),
        python: raw.python.as_ref().map(|at| python(at, reading)),
        onnx_runtime: raw.onnx_runtime.as_ref().and_then(|at| onnx_runtime(at, reading)),
        serve: raw.serve.as_ref().and_then(|at| serve(at, reading)),
    }
}

/// The folder of the cache. Who checks a file may be another user, on another machine.
fn kept(at: &At<String>, reading: &mut Reading<'_>) -> PathBuf {
    let folder = PathBuf::from(&at.value);
    if let Err(error) = reading.resolver.keeps(&folder) {
        let message = format!("`mlflow.cache.folder` is {}, where nothing can be kept: {error}", reading.shown(at.spot));
        reading.report.warn(at.spot, Diagnostic::new(message).suggest(Some("name a folder that the gateway may make and write to")));
    }
    folder
}

fn python(at: &At<String>, reading: &mut Reading<'_>) -> PathBuf {
    let program = PathBuf::from(&at.value);
    if !reading.resolver.runs(&program) {
        let message = format!("`mlflow.python` is {}, which is no program here", reading.shown(at.spot));
        reading.report.warn(at.spot, Diagnostic::new(message).suggest(Some("name the Python where `mlflow` is installed")));
    }
    program
}

fn onnx_runtime(at: &At<String>, reading: &mut Reading<'_>) -> Option<PathBuf> {
    if !cfg!(feature = "onnx") {
        let diagnostic = Diagnostic::new("`onnx_runtime` names a library that this build cannot load");
        reading.error(at.spot, diagnostic.expected("a build with the cargo feature `onnx`, or no `onnx_runtime`"));
        return None;
    }
    if at.value.is_empty() {
        reading.wrong(at.spot, "onnx_runtime", "the path of ONNX Runtime's shared library");
        return None;
    }
    Some(seen_from(PathBuf::from(&at.value), at, reading))
}

fn serve(at: &At<String>, reading: &mut Reading<'_>) -> Option<Serve> {
    reading.needs(ServerRole::Registry, at.spot);
    match at.value.trim() {
        "" => {
            reading.wrong(at.spot, "serve", "`\"*\"`, or a filter, for example `name LIKE 'fraud%'`");
            None
        }
        "*" => Some(Serve::All),
        filter => Some(Serve::Filter(filter.to_owned())),
    }
}

/// The endpoint of a registered model that no file names.
pub(super) fn endpoint(found: &Found, reading: &mut Reading<'_>) -> Option<Endpoint> {
    let spot = Spot::default();
    let at = |text: &str| At::new(text.to_owned(), spot);
    let task = match found.task {
        Task::Chat => RawTask::Chat,
        Task::Complete => RawTask::Complete,
        Task::Embed => RawTask::Embed,
        Task::Predict => RawTask::Predict,
    };
    let model = RawModel {
        provider: Some(At::new(registry(), spot)),
        name: Some(at(&found.model)),
        uri: Some(at(&found.uri.to_string())),
        ..RawModel::default()
    };
    let raw = RawEndpoint {
        name: Some(at(&found.name)),
        endpoint_type: Some(At::new(task, spot)),
        description: Some(at(&found.description)),
        model: Some(At::new(model, spot)),
        ..RawEndpoint::default()
    };
    endpoint::lower(&At::new(raw, spot), reading)
}

fn size(text: &str) -> Option<u64> {
    units::bytes(text).and_then(|bytes| u64::try_from(bytes).ok())
}
