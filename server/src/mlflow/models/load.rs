//! From a version that a reference means to one that answers: bring, prepare, start, warm.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use http::{Method, Request, header};
use tokio::time::timeout;

use super::{
    engine::{Engine, Plan, Prepared},
    generation::{Generation, Instance},
    ground::Ground,
    room::{Lack, Size, Taken},
};
use crate::{
    config,
    error::{Error, Result},
    mlflow::{artifacts::Lease, model_file::ModelFile, registry::Resolved},
};

/// How large a body of an example may be.
const MOST_EXAMPLE: u64 = 32 << 20;

/// What a model that takes too long takes it for.
const LOADING: &str = "loading it";

/// A model that is to be loaded.
pub(super) struct Load<'a> {
    pub(super) ground: &'a Arc<Ground>,
    pub(super) model: &'a config::Model,
    /// For logs.
    pub(super) name: &'a Arc<str>,
    /// The Python of models that bring none.
    pub(super) python: Option<PathBuf>,
    /// The version that answers meanwhile. It keeps its room, and the new one gets some beside it, be there any or not.
    pub(super) current: Option<Arc<Generation>>,
    /// How much memory one process of it took last; `None`: it has not run yet.
    pub(super) took: Option<u64>,
    /// Makes room.
    pub(super) evict: &'a (dyn Fn(Lack) -> Option<Size> + Send + Sync),
}

/// What a load came to.
pub(super) enum Loaded {
    /// The version that answers is the one that is meant.
    Same(Arc<Generation>),
    /// Another version is meant, which failed a while ago and is not tried again yet. This one goes on answering.
    Held(Arc<Generation>),
    /// Another version, which is warm.
    New(Arc<Generation>),
}

impl Load<'_> {
    /// Loads the version that is meant now.
    ///
    /// # Errors
    /// What kept it from being loaded.
    pub(super) async fn run(self, resolved: Resolved) -> Result<Loaded> {
        let lease = self.ground.files(&resolved).await?;
        if let Some(current) = self.current.as_ref().filter(|current| current.lease.digest() == lease.digest()) {
            current.is_now(resolved);
            return Ok(Loaded::Same(Arc::clone(current)));
        }
        let file = read(&lease).await?;
        let (instance, is_native) = self.start(&lease, &file).await?;
        self.within("answering its own example", self.warm(&*instance.engine, lease.folder(), &file)).await?;
        let number = |resolved: &Resolved| resolved.version.as_ref().map(|version| version.version);
        let (version, before) = (number(&resolved), self.current.as_ref().and_then(|current| number(&current.resolved())));
        tracing::info!(
            model = %self.name, version, before, native = is_native, bytes = lease.bytes(), "a model is loaded and answers"
        );
        Ok(Loaded::New(Generation::new(resolved, lease, file, is_native, instance)))
    }

    /// One more instance of a version that runs in processes.
    ///
    /// # Errors
    /// What kept it from starting.
    pub(super) async fn another(self, generation: &Generation) -> Result<Instance> {
        let file = read(&generation.lease).await?;
        self.process(&generation.lease, &file).await
    }

    async fn start(&self, lease: &Arc<Lease>, file: &ModelFile) -> Result<(Instance, bool)> {
        let (start, name, model, python) = (Arc::clone(&self.ground.start), Arc::clone(self.name), self.model.clone(), self.python.clone());
        let (held, said) = (Arc::clone(lease), file.clone());
        let prepare = blocking(move || {
            start.prepare(Plan { name: &name, folder: held.folder(), file: &said, model: &model, python: python.as_deref() })
        });
        match self.within(LOADING, prepare).await? {
            Prepared::Here(engine) => {
                let bytes = engine.bytes().unwrap_or_else(|| lease.bytes());
                let taken = self.room(Size { bytes, processes: 0 }).await?;
                Ok((Instance::new(engine, taken), true))
            }
            Prepared::Process => Ok((self.process(lease, file).await?, false)),
        }
    }

    async fn process(&self, lease: &Lease, file: &ModelFile) -> Result<Instance> {
        // What it takes is known when it has run; until then the size of its files must do. One that took all there is gets that again.
        let took = self.took.map(|took| self.ground.room.bytes().map_or(took, |most| took.min(most)));
        let taken = self.room(Size { bytes: took.unwrap_or_else(|| lease.bytes()), processes: 1 }).await?;
        let plan = Plan { name: self.name, folder: lease.folder(), file, model: self.model, python: self.python.as_deref() };
        let engine = self.ground.start.process(plan).await?;
        self.within(LOADING, engine.ready()).await?;
        Ok(Instance::new(engine, taken))
    }

    /// A step that is the model's own, which may take as long as its `load_timeout` says. Giving it up ends the process that takes it.
    async fn within<T>(&self, what: &str, step: impl Future<Output = Result<T>>) -> Result<T> {
        let Some(most) = self.model.load_timeout else { return step.await };
        let late = || {
            let message =
                format!("{what} takes longer than its `load_timeout` of {}; have the operator see to the model, or raise it", told(most));
            Error::new(ErrorReason::GatewayNotServing, message)
        };
        timeout(most, step).await.unwrap_or_else(|_| Err(late()))
    }

    async fn room(&self, size: Size) -> Result<Taken> {
        match self.current {
            Some(_) => Ok(self.ground.room.force(size)),
            None => self.ground.room.take(size, self.evict).await,
        }
    }

    /// Has it answer its own example, so that the first caller does not wait for what is made at the first call. A version that fails on
    /// it does not take the place of one that answers.
    async fn warm(&self, engine: &dyn Engine, folder: &Path, file: &ModelFile) -> Result<()> {
        let Some(example) = file.serving_input_example.as_ref().map(|path| path.within(folder)) else { return Ok(()) };
        if !tokio::fs::metadata(&example).await.is_ok_and(|found| found.len() <= MOST_EXAMPLE) {
            return Ok(());
        }
        let Ok(body) = tokio::fs::read(&example).await else { return Ok(()) };
        let request = Request::builder().method(Method::POST).uri("http://model.invalid/invocations");
        let request = request.header(header::CONTENT_TYPE, "application/json").body(Bytes::from(body));
        let request = request.map_err(|error| Error::internal("a request of our own is none").because(error))?;
        let answer = engine.answer(request).await?;
        let status = answer.status();
        // Read to its end, or the model would be told to stop.
        drop(answer.into_body().start(usize::try_from(MOST_EXAMPLE).unwrap_or(usize::MAX)).await);
        if status.is_success() {
            return Ok(());
        }
        if status.is_server_error() && self.current.is_some() {
            let message = format!("the version fails on its own example, with status {status}; the one before it goes on answering");
            return Err(Error::new(ErrorReason::GatewayNotServing, message));
        }
        tracing::warn!(model = %self.name, %status, "a model does not answer its own example; it is served all the same");
        Ok(())
    }
}

/// As people write it.
fn told(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds > 0 && seconds.is_multiple_of(60) && time.subsec_nanos() == 0 => format!("{} min", seconds / 60),
        _ => format!("{} s", time.as_secs_f64()),
    }
}

async fn read(lease: &Arc<Lease>) -> Result<ModelFile> {
    let lease = Arc::clone(lease);
    blocking(move || lease.model_file()).await
}

/// On a thread that may wait for the disk, and compute for long.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::internal("loading a model was given up; try again").because(error)))
}
