//! The runtimes that there are: this process, and Python.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, ready},
};
use http::{Request, Response, header, request::Parts};
use tokio::{sync::Semaphore, time::Instant};

use super::engine::{Engine, Plan, Prepared, Start};
use crate::{
    config::{Environment, Models as Settings, Runtime},
    dialect::scoring::message,
    error::{Error, Result},
    mlflow::{
        onnx::Library,
        process::{Exit, Shim},
        scoring::{Ask, Beyond, Native, Scored, Stop, Unfit, Unread, Written},
        sidecar::{Options, Sidecar},
        signature::Signature,
    },
    task::Tasks,
    upstream::Body,
};

/// The Python of models where the configuration names none.
const PYTHON: &str = "python3";
/// What may take longer is computed where nobody waits for the thread.
const SHORT: Duration = Duration::from_micros(200);
/// How long a body may be that is read where others wait for the thread.
const SMALL: usize = 16 << 10;
/// How many bytes a short body may become there: a number in it may stand for a column.
const ROOM: usize = 8 * SMALL;
/// How many calls are computed elsewhere after one that took longer than was thought.
const DOUBT: u32 = 16;
/// How many calls of a model are computed elsewhere at once, for each processor: more would take memory and be no faster. Each model has its
/// own, so that the long calls of one do not keep those of another waiting.
const TURNS: usize = 2;
/// And how many at least, so that a long one leaves room for others.
const LEAST_TURNS: usize = 4;

/// The runtimes that there are.
#[derive(Debug)]
pub(super) struct Runtimes {
    onnx: Library,
    /// Where each process gets a folder for its socket. Temporary files have short paths, which sockets need.
    sockets: PathBuf,
    tasks: Tasks,
}

/// A model in this process.
struct Here {
    model: Arc<Native>,
    pace: Pace,
    turns: Arc<Semaphore>,
}

/// Up to how many values the model is known to be quick. Until it has shown that, it is taken to be slow.
#[derive(Debug, Default)]
struct Pace {
    quick: AtomicUsize,
    /// How many calls are to be quick elsewhere before one is trusted again.
    doubt: AtomicU32,
}

/// Tells a computation when nobody waits for it any longer.
struct Waiting(Arc<Stop>);

impl Runtimes {
    pub(super) fn new(settings: &Settings, environment: &dyn Environment, tasks: &Tasks) -> Self {
        let onnx = Library::find(settings.onnx_runtime.as_deref(), environment);
        Self { onnx, sockets: std::env::temp_dir(), tasks: tasks.clone() }
    }
}

impl Start for Runtimes {
    fn prepare(&self, plan: Plan<'_>) -> Result<Prepared> {
        let has_python = plan.file.python.is_some();
        let here = |model: Native| Prepared::Here(Arc::new(Here::new(model.called(plan.name), turns())));
        let others = Beyond { library: &self.onnx, threads: plan.model.resources.threads };
        match (plan.model.runtime, (plan.model.runtime != Runtime::Python).then(|| Native::load(plan.folder, plan.file, others))) {
            (_, Some(Ok(model))) => Ok(here(model)),
            (Runtime::Auto, Some(Err(Unfit::Beyond(what)))) if has_python => {
                tracing::info!(model = %plan.name, what, "a model is left to Python");
                Ok(Prepared::Process)
            }
            (_, Some(Err(unfit @ Unfit::Beyond(_)))) => {
                let message = if has_python {
                    format!("{unfit}; Python can run it: leave `runtime: native` out")
                } else {
                    format!("{unfit}, and it has no `python_function` flavor, so that Python cannot serve it either")
                };
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

impl Pace {
    /// Whether a call of so many values may be computed where others wait for the thread.
    fn is_quick(&self, values: usize) -> bool {
        values <= self.quick.load(Relaxed) && self.doubt.load(Relaxed) == 0
    }

    /// Learns from a call. How long a body is says nothing, and one call of many values that was quick makes no slow one quick.
    fn learn(&self, values: usize, took: Duration) {
        if took <= SHORT {
            self.quick.fetch_max(values, Relaxed);
            self.doubt.fetch_update(Relaxed, Relaxed, |doubt| doubt.checked_sub(1)).ok();
        } else if values <= self.quick.load(Relaxed) {
            self.quick.store(values.saturating_sub(1), Relaxed);
            self.doubt.store(DOUBT, Relaxed);
        }
    }
}

/// How a request's body is written.
fn written(parts: &Parts) -> Written<'_> {
    if parts.uri.path().ends_with(message::PATH) {
        return Written::Message;
    }
    Written::As(parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()))
}

fn turns() -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    (processors * TURNS).max(LEAST_TURNS)
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.set();
    }
}

impl Here {
    fn new(model: Native, turns: usize) -> Self {
        Self { model: Arc::new(model), pace: Pace::default(), turns: Arc::new(Semaphore::new(turns)) }
    }

    async fn scored(&self, parts: Parts, body: Bytes) -> Result<Scored> {
        let read = if body.len() > SMALL { Err(Unread::Large) } else { self.model.read(written(&parts), &body, ROOM) };
        let ask = match read {
            Ok(ask) => ask,
            Err(Unread::Refused(refused)) => return Ok(refused),
            Err(Unread::Large) => return self.elsewhere(move |model, stop| model.answer(written(&parts), &body, stop)).await,
        };
        let Some(values) = ask.values() else { return self.elsewhere(|model, stop| model.predict(ask, stop)).await };
        let timed = move |model: &Native, ask: Ask, stop: &Stop| {
            let begun = Instant::now();
            (model.predict(ask, stop), begun.elapsed())
        };
        let (scored, took) = if self.pace.is_quick(values) {
            timed(&self.model, ask, &Stop::default())
        } else {
            self.elsewhere(move |model, stop| timed(model, ask, stop)).await?
        };
        self.pace.learn(values, took);
        Ok(scored)
    }

    /// Computes where nobody waits for the thread, when it is its turn, and for as long as somebody waits for the answer.
    async fn elsewhere<T: Send + 'static>(&self, work: impl FnOnce(&Native, &Stop) -> T + Send + 'static) -> Result<T> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|error| Error::internal("models take no turns any longer").because(error))?;
        let (model, stop) = (Arc::clone(&self.model), Arc::new(Stop::default()));
        let _waiting = Waiting(Arc::clone(&stop));
        let done = tokio::task::spawn_blocking(move || {
            // Held to the end of the work, which may come after that of the call.
            let _turn = turn;
            work(&model, &stop)
        });
        done.await.map_err(|error| Error::new(ErrorReason::ProviderModelFailed, "the model failed on this input").because(error))
    }
}

impl Engine for Here {
    fn ready(&self) -> BoxFuture<'_, Result<()>> {
        ready(Ok(())).boxed()
    }

    fn answer(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>>> {
        async move {
            let (parts, body) = request.into_parts();
            let scored = self.scored(parts, body).await?;
            let mut response = Response::new(Body::full(scored.body));
            *response.status_mut() = scored.status;
            response.headers_mut().insert(header::CONTENT_TYPE, scored.content_type);
            Ok(response)
        }
        .boxed()
    }

    fn signature(&self) -> Option<Signature> {
        self.model.signature()
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

    fn signature(&self) -> Option<Signature> {
        None
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

#[cfg(test)]
mod tests {
    use std::{path::Path, task::Poll};

    use futures_util::poll;

    use super::*;
    use crate::mlflow::model_file::ModelFile;

    const QUICK: Duration = Duration::from_micros(5);
    const SLOW: Duration = Duration::from_millis(5);

    #[test]
    fn a_model_is_slow_until_it_has_shown_otherwise() {
        let pace = Pace::default();
        assert!(!pace.is_quick(4));
        pace.learn(4, QUICK);
        assert!(pace.is_quick(4) && !pace.is_quick(5));
        pace.learn(400, SLOW);
        assert!(pace.is_quick(4), "what many values take says nothing of few");
        pace.learn(4, SLOW);
        for _ in 0..DOUBT {
            assert!(!pace.is_quick(4));
            pace.learn(4, QUICK);
        }
        assert!(pace.is_quick(4));
    }

    fn here(name: &str) -> Here {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/mlflow/scoring/testdata")).join(name);
        let file = ModelFile::read(&std::fs::read(folder.join(ModelFile::NAME)).unwrap()).unwrap();
        let library = Library::find(None, &crate::config::fixture::Fake::default());
        Here::new(Native::load(&folder, &file, Beyond { library: &library, threads: None }).unwrap(), 1)
    }

    #[test]
    fn only_what_python_can_run_is_said_to_be_for_python() {
        let says = |runtime, model: &str| {
            let folder = tempfile::tempdir().unwrap();
            let text = format!("flavors:\n  sklearn: {{}}\n{model}");
            let (file, model) = (
                ModelFile::read(text.as_bytes()).unwrap(),
                crate::config::Model { runtime, ..crate::config::Model::new("models:/m/1".parse().unwrap()) },
            );
            let runtimes = Runtimes::new(&Settings::default(), &crate::config::fixture::Fake::default(), &Tasks::default());
            let plan = Plan { name: &"m".into(), folder: folder.path(), file: &file, model: &model, python: None };
            runtimes.prepare(plan).unwrap_err().to_string()
        };
        let python = "  python_function: { loader_module: mlflow.sklearn }\n";
        let told = says(Runtime::Native, python);
        assert!(told.contains("none is `onnx`") && told.ends_with("; Python can run it: leave `runtime: native` out"), "{told}");
        for runtime in [Runtime::Native, Runtime::Auto] {
            let told = says(runtime, "");
            assert!(told.contains("none is `onnx`") && told.ends_with("so that Python cannot serve it either"), "{told}");
            assert!(!told.contains("can run it"), "{told}");
        }
    }

    fn request(rows: usize, more: &str) -> Request<Bytes> {
        let rows = vec!["[1,1,1,1]"; rows].join(",");
        let body = format!(r#"{{"dataframe_split": {{"columns": ["a","b","c","d"], "data": [{rows}]}}{more}}}"#);
        Request::post("/").header(header::CONTENT_TYPE, "application/json").body(body.into()).unwrap()
    }

    #[tokio::test]
    async fn what_is_not_known_to_be_quick_waits_for_its_turn() {
        let here = here("xgb_classes");
        let turn = Arc::clone(&here.turns).acquire_owned().await.unwrap();
        here.pace.learn(8, QUICK);
        for (rows, more, is_ready) in [
            (2, "", true),
            (3, "", false),
            (2, r#", "params": {"explain": true}"#, false),
            // A long body is read elsewhere, too.
            (2, &format!(r#", "pad": "{}""#, "x".repeat(SMALL)), false),
        ] {
            let mut answer = here.answer(request(rows, more));
            assert_eq!(poll!(&mut answer).is_ready(), is_ready, "{rows} rows, {:?}", more.get(..10));
        }
        drop(turn);
        assert_eq!(here.answer(request(3, "")).await.unwrap().status(), 200);
    }

    /// What waits for its turn would else take all the room that it will need.
    #[tokio::test]
    async fn a_short_body_that_becomes_much_is_laid_out_in_its_turn() {
        for (rows, is_ready) in [(1_000, true), (5_000, false)] {
            let here = here("xgb_classes");
            let _turn = here.turns.acquire().await.unwrap();
            here.pace.learn(usize::MAX, QUICK);
            let body = format!(r#"{{"inputs": {{"a": [{}1], "b": 1, "c": 1, "d": 1}}}}"#, "1,".repeat(rows - 1));
            assert!(body.len() < SMALL);
            let request = Request::post("/").header(header::CONTENT_TYPE, "application/json").body(body.into()).unwrap();
            assert_eq!(poll!(here.answer(request)).is_ready(), is_ready, "{rows} rows");
        }
    }

    /// The next would wait for all of it.
    #[tokio::test]
    async fn a_computation_ends_when_nobody_waits_for_it() {
        let here = here("xgb_classes");
        let mut answer = here.answer(request(60_000, r#", "params": {"explain": true}"#));
        assert!(matches!(poll!(&mut answer), Poll::Pending));
        let all = Instant::now();
        drop(answer);
        drop(here.turns.acquire().await.unwrap());
        let stopped = all.elapsed();
        let (all, stop) = (Instant::now(), Stop::default());
        here.model.answer(Written::As(Some("application/json")), request(3_000, r#", "params": {"explain": true}"#).body(), &stop);
        assert!(stopped < all.elapsed() * 6, "a twentieth of it takes {:?}, and {stopped:?} passed", all.elapsed());
    }
}
