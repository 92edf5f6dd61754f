//! How a model's process is started: command and environment.

use std::{ffi::OsString, io, path::Path, sync::Arc};

use super::{Options, folder::Folder, not_serving};
use crate::{
    config::{PythonEnv, Resources},
    error::Result,
    mlflow::{model_file::PythonFunction, process::Program},
};

/// How many calls run at once in a process; more of them wait there. As many as in MLflow's own server on a large machine.
const CALLS: u32 = 32;
/// The same for models that stream, whose calls mostly wait for others.
const STREAMS: u32 = 64;
/// Variables by which libraries are told how many threads they may have.
const THREADS: [&str; 9] = [
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
];
/// What holds for all, unless the model's `env` says otherwise: lines come as they are written, a model's files stay as they are, and
/// nobody is told of anything.
const ALWAYS: [(&str, &str); 5] = [
    ("PYTHONUNBUFFERED", "1"),
    ("PYTHONDONTWRITEBYTECODE", "1"),
    ("MLFLOW_DISABLE_TELEMETRY", "true"),
    ("HF_HUB_DISABLE_TELEMETRY", "1"),
    ("DO_NOT_TRACK", "true"),
];

/// The program of a model's process.
///
/// # Errors
/// `GATEWAY_NOT_SERVING` when no Python can run the model.
pub(super) fn program(options: &Options<'_>, folder: &Folder) -> Result<Program> {
    let Some(python) = &options.file.python else {
        return Err(not_serving("it has no flavor `python_function`; log it with one"));
    };
    let manager = manager(options, python)?;
    let lost = |error: io::Error| not_serving("the gateway is in no folder").because(error);
    let resources = &options.model.resources;
    let calls = if python.streamable { STREAMS } else { CALLS };
    let arguments: [(&str, OsString); 6] = [
        ("--name", shown(&options.name).into()),
        ("--model", std::path::absolute(options.folder).map_err(lost)?.into()),
        ("--folder", folder.path().into()),
        ("--calls", calls.to_string().into()),
        ("--memory", resources.memory.unwrap_or_default().to_string().into()),
        ("--env-manager", manager.into()),
    ];
    let command = [located(options.python).map_err(lost)?, folder.script().into()];
    Ok(Program {
        name: Arc::clone(&options.name),
        command: command.into_iter().chain(arguments.into_iter().flat_map(|(flag, value)| [flag.into(), value])).collect(),
        env: environment(resources),
        secrets: options.model.env.clone(),
        folder: folder.path().to_owned(),
    })
}

/// What tells people whose process it is. Everybody on the machine may read it, so that nothing of a query stands in it.
fn shown(name: &str) -> &str {
    name.split_once('?').map_or(name, |(place, _)| place)
}

/// The word of the script for where the Python comes from.
fn manager(options: &Options<'_>, python: &PythonFunction) -> Result<&'static str> {
    match options.model.env_manager {
        PythonEnv::Local => Ok("local"),
        PythonEnv::Virtualenv => Ok("virtualenv"),
        PythonEnv::Uv => Ok("uv"),
        PythonEnv::Conda if python.conda.is_none() => {
            Err(not_serving("it names no environment for `env_manager: conda`; take another one, or log it with one"))
        }
        PythonEnv::Conda => Ok("conda"),
    }
}

/// A program as the process finds it, which is in another folder: a bare name is looked up on the path.
fn located(program: &Path) -> io::Result<OsString> {
    if program.components().count() < 2 { Ok(program.into()) } else { std::path::absolute(program).map(Into::into) }
}

fn environment(resources: &Resources) -> Vec<(OsString, OsString)> {
    let always = ALWAYS.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let threads = resources.threads.into_iter().flat_map(|most| THREADS.iter().map(move |name| (*name, most.to_string())));
    let devices = resources.devices.clone().map(|devices| ("CUDA_VISIBLE_DEVICES", devices));
    // Each would take address space on account.
    let arenas = resources.memory.map(|_| ("MALLOC_ARENA_MAX", "2".to_owned()));
    always.chain(threads).chain(devices).chain(arenas).map(|(name, value)| (name.into(), value.into())).collect()
}
