//! The runtimes that there are: this process, and Python.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, ready},
};
use http::{HeaderValue, Request, Response, header};
use tokio::time::Instant;

use super::engine::{Engine, Plan, Prepared, Start};
use crate::{
    config::Runtime,
    error::{Error, Result},
    mlflow::{
        process::{Exit, Shim},
        scoring::{Native, Unfit},
        sidecar::{Options, Sidecar},
    },
    task::Tasks,
    upstream::Body,
};

/// The Python of models where the configuration names none.
const PYTHON: &str = "python3";
/// What may take longer is computed where nobody waits for the thread, in nanoseconds.
const SHORT: u64 = 200_000;

/// The runtimes that there are.
#[derive(Debug)]
pub(super) struct Runtimes {
    /// Where each process gets a folder for its socket. Temporary files have short paths, which sockets need.
    sockets: PathBuf,
    tasks: Tasks,
}

/// A model in this process.
struct Here {
    model: Arc<Native>,
    /// How long a byte of a request takes of late, in thousandths of a nanosecond.
    pace: AtomicU64,
}

impl Runtimes {
    pub(super) fn new(tasks: &Tasks) -> Self {
        Self { sockets: std::env::temp_dir(), tasks: tasks.clone() }
    }
}

impl Start for Runtimes {
    fn prepare(&self, plan: Plan<'_>) -> Result<Prepared> {
        let has_python = plan.file.python.is_some();
        let here = |model| Prepared::Here(Arc::new(Here { model: Arc::new(model), pace: AtomicU64::new(0) }));
        match (plan.model.runtime, (plan.model.runtime != Runtime::Python).then(|| Native::load(plan.folder, plan.file))) {
            (_, Some(Ok(model))) => Ok(here(model)),
            (Runtime::Auto, Some(Err(Unfit::Beyond(what)))) if has_python => {
                tracing::info!(model = %plan.name, what, "a model is left to Python");
                Ok(Prepared::Process)
            }
            (Runtime::Auto, Some(Err(Unfit::Beyond(what)))) => {
                let message = format!("{what}, and it has no `python_function` flavor, so that Python cannot serve it either");
                Err(Error::new(ErrorReason::GatewayNotServing, message))
            }
            (_, Some(Err(unfit))) => Err(Error::new(ErrorReason::GatewayNotServing, unfit.to_string())),
            (_, None) if has_python => Ok(Prepared::Process),
            (_, None) => {
                let message = "the model has no `python_function` flavor, so that Python cannot serve it";
                Err(Error::new(ErrorReason::GatewayNotServing, message))
            }
        }
    }

    fn process<'a>(&'a self, plan: Plan<'a>) -> BoxFuture<'a, Result<Arc<dyn Engine>>> {
        async move {
            let shim = Shim::this().map_err(|error| Error::internal("the gateway's own program is not known").because(error))?;
            let options = Options {
                name: Arc::clone(plan.name),
                folder: plan.folder,
                file: plan.file,
                model: plan.model,
                python: plan.python.unwrap_or_else(|| Path::new(PYTHON)),
                sockets: &self.sockets,
                shim: &shim,
                tasks: &self.tasks,
            };
            let sidecar = Sidecar::start(&options).await?;
            Ok(Arc::new(sidecar) as Arc<dyn Engine>)
        }
        .boxed()
    }
}

impl Engine for Here {
    fn ready(&self) -> BoxFuture<'_, Result<()>> {
        ready(Ok(())).boxed()
    }

    fn answer(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>>> {
        async move {
            let (parts, body) = request.into_parts();
            let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
            let length = u64::try_from(body.len()).unwrap_or(u64::MAX).max(1);
            let is_short = self.pace.load(Relaxed).saturating_mul(length) / 1000 < SHORT && length < 64 << 10;
            let model = Arc::clone(&self.model);
            let work = move || {
                let begun = Instant::now();
                (model.answer(kind.as_deref(), &body), begun.elapsed())
            };
            let (scored, took) = if is_short {
                work()
            } else {
                let done = tokio::task::spawn_blocking(work).await;
                done.map_err(|error| Error::new(ErrorReason::ProviderModelFailed, "the model failed on this input").because(error))?
            };
            let pace = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).saturating_mul(1000) / length;
            // The mean of what was and what is, so that one slow moment is soon forgotten.
            self.pace.store(self.pace.load(Relaxed) / 2 + pace / 2, Relaxed);
            let mut response = Response::new(Body::full(scored.body));
            *response.status_mut() = scored.status;
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Ok(response)
        }
        .boxed()
    }

    fn bytes(&self) -> Option<u64> {
        Some(self.model.bytes())
    }

    fn process(&self) -> Option<u32> {
        None
    }

    fn ended(&self) -> Option<BoxFuture<'static, (Exit, Vec<String>)>> {
        None
    }
}

impl Engine for Sidecar {
    fn ready(&self) -> BoxFuture<'_, Result<()>> {
        Self::ready(self).boxed()
    }

    fn answer(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>>> {
        Self::answer(self, request).boxed()
    }

    fn bytes(&self) -> Option<u64> {
        Self::bytes(self)
    }

    fn process(&self) -> Option<u32> {
        Some(self.id())
    }

    fn ended(&self) -> Option<BoxFuture<'static, (Exit, Vec<String>)>> {
        Some(self.watched().boxed())
    }
}

impl fmt::Debug for Here {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Here").field("bytes", &self.model.bytes()).finish_non_exhaustive()
    }
}
