//! What runs one version of a model, and how one is started. The rest of the room knows no runtime.

use std::{fmt, path::Path, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};

use crate::{
    config,
    error::Result,
    mlflow::{model_file::ModelFile, process::Exit, signature::Signature},
    upstream::Body,
};

/// What answers the requests of one version of a model.
pub(super) trait Engine: Send + Sync + fmt::Debug {
    /// Waits until it has loaded the model, and can answer.
    ///
    /// # Errors
    /// What kept it from that.
    fn ready(&self) -> BoxFuture<'_, Result<()>>;

    /// Answers a request as a scoring server does.
    ///
    /// # Errors
    /// When it is gone, or does not speak its protocol.
    fn answer(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>>>;

    /// What the model takes and gives: as its `MLmodel` says, and where that is silent as its own file does. `None` where only the `MLmodel`
    /// is known, or nothing.
    fn signature(&self) -> Option<Signature>;

    /// How much memory it takes, about; `None` when nobody knows.
    fn bytes(&self) -> Option<u64>;

    /// The number of its process; `None` for what lives in this one.
    fn process(&self) -> Option<u32>;

    /// Tells how it ended, and what it said last, without keeping it from that; `None` for what lives in this process.
    fn ended(&self) -> Option<BoxFuture<'static, (Exit, Vec<String>)>>;
}

/// A model on the disk that is to be run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan<'a> {
    /// For logs.
    pub name: &'a Arc<str>,
    /// The folder with `MLmodel`.
    pub folder: &'a Path,
    /// What that says.
    pub file: &'a ModelFile,
    /// What the configuration says.
    pub model: &'a config::Model,
    /// The Python that it says for all; `None`: the one on the path.
    pub python: Option<&'a Path>,
}

/// How engines come to be.
pub(super) trait Start: Send + Sync + fmt::Debug {
    /// What would run a model, and what that takes; reads it where it is read into this process. Blocks.
    ///
    /// # Errors
    /// `GATEWAY_NOT_SERVING` when nothing can run it, and why.
    fn prepare(&self, plan: Plan<'_>) -> Result<Prepared>;

    /// A process that is to serve a model, and has all that it needs for that but the model.
    ///
    /// # Errors
    /// What kept it from being started.
    fn process<'a>(&'a self, plan: Plan<'a>) -> BoxFuture<'a, Result<Arc<dyn Engine>>>;
}

/// What will run a model.
#[derive(Clone, Debug)]
pub(super) enum Prepared {
    /// This process: it is ready.
    Here(Arc<dyn Engine>),
    /// A process of its own, which is to be started.
    Process,
}
