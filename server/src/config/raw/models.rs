//! Models that Flowgate runs itself, as a person writes it.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::{
    schema,
    tree::{At, Tree},
};

/// MLflow's servers, and what holds for all models that Flowgate runs.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Mlflow", deny_unknown_fields)]
pub(in crate::config) struct RawMlflow {
    /// The tracking server and registry, for example `http://mlflow:5000`. Default: `MLFLOW_TRACKING_URI`; user, password, token and TLS
    /// come from MLflow's other variables.
    pub tracking_uri: Option<At<String>>,
    /// How often aliases, stages and `latest` are looked up again, ±10 %. Default `10s`.
    #[schemars(schema_with = "schema::duration")]
    pub refresh: Option<At<String>>,
    /// Where the files of models are kept.
    pub cache: Option<At<RawModelCache>>,
    /// How much memory loaded models may take together; those that were called least recently make way. Default: no bound.
    #[schemars(schema_with = "schema::bytes")]
    pub memory: Option<At<String>>,
    /// How many Python processes there may be at once. Default 8.
    #[schemars(range(min = 1))]
    pub max_processes: Option<At<u32>>,
    /// The registered models that are endpoints without being named, each by its name and by `name@alias`: `"*"` for all, or a filter in the
    /// registry's own language, for example `name LIKE 'fraud%'` or `tags.serve = 'yes'`. Default: none.
    pub serve: Option<At<String>>,
    /// The Python that runs models with `env_manager: local`. Default `python3`.
    pub python: Option<At<String>>,
    /// ONNX Runtime's shared library, for example `/opt/onnxruntime/lib/libonnxruntime.so`; it runs in this process the ONNX models that
    /// Flowgate's own engine does not know. Only in builds with the feature `onnx`. Default: `ORT_DYLIB_PATH`, else the system's.
    pub onnx_runtime: Option<At<String>>,
}

/// Where the files of models are kept.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "ModelCache", deny_unknown_fields)]
pub(in crate::config) struct RawModelCache {
    /// The folder. Default: `flowgate/models` in the user's cache folder.
    pub folder: Option<At<String>>,
    /// How large it may grow; models that nobody uses make way. Default `20GiB`.
    #[schemars(schema_with = "schema::bytes")]
    pub max_bytes: Option<At<String>>,
}

/// Part of a model: how Flowgate runs it. Goes with `uri`.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(in crate::config) struct RawRun {
    /// What runs it. Default `auto`: in this process where every part of the model is known to it, else by Python.
    pub runtime: Option<At<RawRuntime>>,
    /// After how long without a call it is unloaded; `none` for never. Default `15m`.
    #[schemars(schema_with = "schema::duration")]
    pub idle: Option<At<String>>,
    /// How long it may take to load it, and as long again to answer its own example; `none` for no bound. Neither its download counts nor
    /// the making of its Python environment. Default `10m`.
    #[schemars(schema_with = "schema::duration")]
    pub load_timeout: Option<At<String>>,
    /// How many instances there are even without a call. Default 0: the first call loads it.
    #[schemars(range(max = 64))]
    pub min: Option<At<u32>>,
    /// How many instances there are at most; another one is started when each has four calls. In this process one serves all calls. Default 1.
    #[schemars(range(min = 1, max = 64))]
    pub max: Option<At<u32>>,
    /// Where its Python comes from. Default `local`.
    pub env_manager: Option<At<RawPythonEnv>>,
    /// Variables of its process, whose environment is else empty but for paths and the like.
    #[schemars(schema_with = "schema::headers")]
    pub env: Option<Tree>,
    /// What its process may use.
    pub resources: Option<At<RawResources>>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Runtime", inline)]
pub(in crate::config) enum RawRuntime {
    Auto,
    Native,
    Python,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "PythonEnv", inline)]
pub(in crate::config) enum RawPythonEnv {
    Local,
    Virtualenv,
    Uv,
    Conda,
}

/// What a model's process may use.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Resources", deny_unknown_fields)]
pub(in crate::config) struct RawResources {
    /// Threads of each numeric library.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<At<u32>>,
    /// Address space, for example `4GiB`.
    #[schemars(schema_with = "schema::bytes")]
    pub memory: Option<At<String>>,
    /// The CUDA devices that it sees, for example `0,1`; empty for none.
    #[schemars(schema_with = "schema::text")]
    pub devices: Option<Tree>,
}
