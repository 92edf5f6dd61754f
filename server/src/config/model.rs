//! Models that Flowgate runs itself: what a deployment says of its own, and what holds for all of them.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
    path::PathBuf,
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::ModelUri;
use crate::event::Task;

/// A deployment's `model` that has a `uri`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Model {
    /// `uri`: which model.
    pub uri: ModelUri,
    /// `runtime`: what runs it. Default `auto`.
    pub runtime: Runtime,
    /// `idle`: after how long without a call it is unloaded. Default 15 min; `None`: never.
    pub idle: Option<Duration>,
    /// `load_timeout`: how long it may take to load it, and as long again to answer its own example. Default 10 min; `None`: no bound.
    pub load_timeout: Option<Duration>,
    /// `min`: how many instances there are even without a call. Default 0: the first call loads it.
    pub min: u32,
    /// `max`: how many instances there are at most. Default 1.
    pub max: u32,
    /// `env_manager`: where the Python that runs it comes from. Default `local`.
    pub env_manager: PythonEnv,
    /// `env`: what its process gets beside a cleared environment.
    pub env: Variables,
    /// `resources`: what it may use.
    pub resources: Resources,
}

/// What runs a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// `native` where every part of the model is known to it, else `python`.
    #[default]
    Auto,
    /// In this process.
    Native,
    /// A Python process of its own.
    Python,
}

/// Where the Python of a model comes from, in the words of MLflow's `--env-manager`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PythonEnv {
    /// The Python that is there: `mlflow.python`, or `python3` on the path.
    #[default]
    Local,
    /// One that MLflow makes with `virtualenv` from what the model says it needs.
    Virtualenv,
    /// The same with `uv`.
    Uv,
    /// The same with `conda`.
    Conda,
}

/// What a model's process may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    /// `threads`: for each of the libraries that have threads of their own. `None`: as many as they like.
    pub threads: Option<u32>,
    /// `memory`: bytes of address space; beyond them it fails to get more. `None`: no bound.
    pub memory: Option<u64>,
    /// `devices`: which CUDA devices it sees, as `CUDA_VISIBLE_DEVICES` says it. `None`: none are hidden.
    pub devices: Option<String>,
}

/// Variables of an environment, whose values may be secrets.
#[derive(Clone, Debug, Default)]
pub struct Variables(pub BTreeMap<String, SecretString>);

/// `mlflow`: what holds for all models that Flowgate runs itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Models {
    /// `tracking_uri`: MLflow's server. Unset: what `MLFLOW_TRACKING_URI` says.
    pub tracking_uri: Option<String>,
    /// `refresh`: how often aliases, stages and `latest` are looked up again, jittered by a tenth. Default 10 s.
    pub refresh: Duration,
    /// `cache`: the folder of the models' files. Default: `flowgate/models` below the user's cache folder.
    pub cache: Option<PathBuf>,
    /// `cache_bytes`: how large that folder may grow. Default 20 GiB.
    pub cache_bytes: u64,
    /// `memory`: how many bytes of models may be loaded at once; those that were called least recently make way. `None`: no bound.
    pub memory: Option<u64>,
    /// `max_processes`: how many Python processes there may be. Default 8.
    pub max_processes: u32,
    /// `python`: the Python of `env_manager: local`. Default `python3`.
    pub python: Option<PathBuf>,
    /// `onnx_runtime`: ONNX Runtime's shared library. Unset: what `ORT_DYLIB_PATH` says, else the system's.
    pub onnx_runtime: Option<PathBuf>,
    /// `serve`: the registered models that are endpoints without being named. `None`: none.
    pub serve: Option<Serve>,
}

/// Which registered models are endpoints by their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Serve {
    /// `"*"`: all.
    All,
    /// Those that a filter in the registry's own language lets through, for example `name LIKE 'fraud%'`, `tags.serve = 'yes'`.
    Filter(String),
}

/// A registered model that is an endpoint without being named in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The endpoint's name: the model's, or that and an alias.
    pub name: String,
    /// The model's name.
    pub model: String,
    /// What people wrote about it.
    pub description: String,
    /// Which version.
    pub uri: ModelUri,
    /// What that version is for.
    pub task: Task,
}

impl Default for Models {
    fn default() -> Self {
        Self {
            tracking_uri: None,
            refresh: Duration::from_secs(10),
            cache: None,
            cache_bytes: 20 << 30,
            memory: None,
            max_processes: 8,
            python: None,
            onnx_runtime: None,
            serve: None,
        }
    }
}

impl Model {
    /// How long a model is kept without a call, unless the file says otherwise.
    pub const IDLE: Duration = Duration::from_secs(15 * 60);

    /// How long loading may take, unless the file says otherwise: a large model is read from a slow disk in that time.
    pub const LOAD_TIMEOUT: Duration = Duration::from_secs(10 * 60);

    /// A model as it is where nothing else is said.
    pub fn new(uri: ModelUri) -> Self {
        Self {
            uri,
            runtime: Runtime::default(),
            idle: Some(Self::IDLE),
            load_timeout: Some(Self::LOAD_TIMEOUT),
            min: 0,
            max: 1,
            env_manager: PythonEnv::default(),
            env: Variables::default(),
            resources: Resources::default(),
        }
    }
}

impl Variables {
    fn exposed(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.expose_secret()))
    }
}

impl PartialEq for Variables {
    fn eq(&self, other: &Self) -> bool {
        self.exposed().eq(other.exposed())
    }
}

impl Eq for Variables {}

impl Hash for Variables {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.exposed().for_each(|variable| variable.hash(state));
    }
}
