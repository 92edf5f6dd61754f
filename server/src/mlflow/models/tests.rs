//! The life of models, on a registry that is a function, folders that are real, and engines that do as a test says.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Mutex as StdMutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use futures_util::{FutureExt as _, future::BoxFuture, future::join_all};
use http::{Request, Response};
use tokio::sync::{Semaphore, watch};

use super::{
    engine::{Engine, Plan, Prepared, Start},
    *,
};
use crate::{
    config::{Environment, Model, Runtime, Serve, fixture::Fake},
    mlflow::{artifacts::Stores, process::Exit, registry::Servers as Registries, signature::Signature, testing::fetch},
    telemetry::metrics::Metrics,
    upstream::Body,
};

mod failing;
mod making_way;
mod standing;

/// What a search finds.
const FOUND: &str = r#"{"registered_models": [{"name": "iris", "latest_versions": [{"name": "iris", "version": "1"}]}]}"#;
/// What a model with an example is asked before anybody else asks it.
const EXAMPLE: &str = "{}";

/// A registry, folders of models, and engines.
#[derive(Clone, Debug)]
struct World(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: tempfile::TempDir,
    /// What an alias points to: the number of a version.
    champion: AtomicUsize,
    /// How often it was asked where files are.
    read: AtomicUsize,
    /// What a search finds.
    registered: StdMutex<String>,
    away: AtomicBool,
    /// The registry knows the model no more.
    is_gone: AtomicBool,
    has_example: AtomicBool,
    engines: Engines,
    metrics: Metrics,
}

/// Makes engines; what becomes of them is for the test to say.
#[derive(Clone, Debug)]
struct Engines(Arc<Doing>);

#[derive(Debug)]
struct Doing {
    /// What each start takes a permit of.
    gate: Semaphore,
    /// What each process takes a permit of before it has loaded its model, and each example before it is answered.
    loads: Semaphore,
    examples: Semaphore,
    started: AtomicUsize,
    fail: AtomicBool,
    /// What each call takes a permit of, when it is about the word `slow`.
    calls: Semaphore,
    running: StdMutex<Vec<watch::Sender<bool>>>,
    /// How much memory an engine takes.
    bytes: AtomicU64,
}

/// Answers with the words in its folder.
#[derive(Debug)]
struct Fixed {
    words: String,
    doing: Arc<Doing>,
    alive: Option<watch::Receiver<bool>>,
    /// Ends the process with it.
    life: Option<watch::Sender<bool>>,
}

impl Drop for Fixed {
    fn drop(&mut self) {
        if let Some(life) = &self.life {
            life.send_replace(false);
        }
    }
}

/// Lets time pass; the clock is the test's, so that nobody waits.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

impl Start for Engines {
    fn prepare(&self, plan: Plan<'_>) -> Result<Prepared> {
        if self.0.fail.load(SeqCst) {
            return Err(Error::new(ErrorReason::GatewayNotServing, "it is of no use"));
        }
        Ok(match plan.model.runtime {
            Runtime::Native => {
                self.0.started.fetch_add(1, SeqCst);
                Prepared::Here(Arc::new(self.fixed(plan, None, None)))
            }
            Runtime::Auto | Runtime::Python => Prepared::Process,
        })
    }

    fn process<'a>(&'a self, plan: Plan<'a>) -> BoxFuture<'a, Result<Arc<dyn Engine>>> {
        async move {
            self.0.started.fetch_add(1, SeqCst);
            self.0.gate.acquire().await.unwrap().forget();
            let (life, alive) = watch::channel(true);
            self.0.running.lock().unwrap().push(life.clone());
            Ok(Arc::new(self.fixed(plan, Some(alive), Some(life))) as Arc<dyn Engine>)
        }
        .boxed()
    }
}

impl Engines {
    fn fixed(&self, plan: Plan<'_>, alive: Option<watch::Receiver<bool>>, life: Option<watch::Sender<bool>>) -> Fixed {
        let words = std::fs::read_to_string(plan.folder.join("words")).unwrap();
        Fixed { words, doing: Arc::clone(&self.0), alive, life }
    }

    fn started(&self) -> usize {
        self.0.started.load(SeqCst)
    }

    /// The processes that run.
    fn alive(&self) -> usize {
        self.0.running.lock().unwrap().iter().filter(|life| *life.borrow()).count()
    }

    /// Ends the process that was started last, of those that run.
    fn crash(&self) {
        let mut running = self.0.running.lock().unwrap();
        running.retain(|life| *life.borrow());
        running.pop().unwrap().send(false).unwrap();
    }
}

impl Engine for Fixed {
    fn ready(&self) -> BoxFuture<'_, Result<()>> {
        async {
            self.doing.loads.acquire().await.unwrap().forget();
            Ok(())
        }
        .boxed()
    }

    fn answer(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>>> {
        async move {
            if request.body() == EXAMPLE {
                self.doing.examples.acquire().await.unwrap().forget();
            }
            if request.body() == "slow" {
                self.doing.calls.acquire().await.unwrap().forget();
            }
            match &self.alive {
                Some(alive) if !*alive.borrow() => Err(Error::new(ErrorReason::ProviderUnavailable, "it is gone")),
                _ => Ok(Response::new(Body::full(self.words.clone().into()))),
            }
        }
        .boxed()
    }

    fn signature(&self) -> Option<Signature> {
        None
    }

    fn bytes(&self) -> Option<u64> {
        Some(self.doing.bytes.load(SeqCst))
    }

    fn process(&self) -> Option<u32> {
        self.alive.as_ref().map(|_| 7)
    }

    fn ended(&self) -> Option<BoxFuture<'static, (Exit, Vec<String>)>> {
        let mut alive = self.alive.clone()?;
        Some(
            async move {
                // Whoever holds the other end may be gone with the test.
                drop(alive.wait_for(|alive| !alive).await);
                (Exit::Code(1), vec!["boom".to_owned()])
            }
            .boxed(),
        )
    }
}

impl World {
    fn new() -> Self {
        let doing = Doing {
            gate: Semaphore::new(1000),
            loads: Semaphore::new(1000),
            examples: Semaphore::new(1000),
            started: AtomicUsize::new(0),
            fail: AtomicBool::new(false),
            calls: Semaphore::new(0),
            running: StdMutex::default(),
            bytes: AtomicU64::new(100),
        };
        let engines = Engines(Arc::new(doing));
        let folder = tempfile::tempdir().unwrap();
        let (champion, read, no) = (AtomicUsize::new(1), AtomicUsize::new(0), || AtomicBool::new(false));
        let (away, is_gone, has_example, registered) = (no(), no(), no(), StdMutex::new(FOUND.to_owned()));
        Self(Arc::new(Inner { folder, champion, read, registered, away, is_gone, has_example, engines, metrics: Metrics::new() }))
    }

    fn engines(&self) -> &Engines {
        &self.0.engines
    }

    /// A model's folder; it says `words`.
    fn folder(&self, words: &str) -> PathBuf {
        let folder = self.0.folder.path().join(words);
        std::fs::create_dir_all(&folder).unwrap();
        let example = if self.0.has_example.load(SeqCst) { "serving_input_path: example.json" } else { "" };
        let flavors = format!("flavors: {{python_function: {{loader_module: none}}}}\nsaved_input_example_info: {{{example}}}\n");
        let file = match words {
            "version-2" => format!("{flavors}metadata: {{task: agent/v2/chat}}\n"),
            "version-7" => "nothing".to_owned(),
            _ => flavors,
        };
        std::fs::write(folder.join("MLmodel"), file).unwrap();
        std::fs::write(folder.join("example.json"), EXAMPLE).unwrap();
        std::fs::write(folder.join("words"), words).unwrap();
        folder
    }

    /// The gateway's models, as after a start.
    fn models(&self, settings: Settings) -> Models {
        let settings = Settings { cache: Some(self.0.folder.path().join("cache")), ..settings };
        let world = self.clone();
        let (ask, _) = fetch(move |request| world.answer(request.uri().path(), request.uri().query().unwrap_or_default()));
        let environment: Arc<dyn Environment + Send + Sync> =
            Arc::new(Fake::default().variable("MLFLOW_TRACKING_URI", "http://registry.test:5000"));
        let (tasks, engines) = (Tasks::default(), self.engines().clone());
        let (spawning, counting) = (tasks.clone(), self.0.metrics.models().clone());
        let open = move |settings: &Settings| {
            let stores = Stores {
                servers: Arc::new(Registries::read(None, &*environment)?),
                tracking: Arc::clone(&ask),
                others: Arc::clone(&ask),
                grants: Arc::new(Grants::new(Arc::clone(&environment), Tasks::default())),
                environment: Arc::clone(&environment),
            };
            Ground::over(stores, settings, Arc::new(engines.clone()), (&spawning, &counting))
        };
        Models::with(settings, self.0.metrics.models().clone(), (Arc::new(open), tasks))
    }

    /// How many loads have failed.
    fn failed(&self) -> u32 {
        let text = self.0.metrics.render();
        let line = text.lines().find(|line| line.starts_with("flowgate_model_loads_total{") && line.contains("\"error\""));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    fn answer(&self, path: &str, query: &str) -> Result<(u16, String)> {
        if self.0.away.load(SeqCst) {
            return Err(Error::new(ErrorReason::ProviderUnavailable, "nobody is there"));
        }
        if self.0.is_gone.load(SeqCst) {
            return Ok((404, r#"{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "gone"}"#.to_owned()));
        }
        if path.ends_with("get-download-uri") {
            self.0.read.fetch_add(1, SeqCst);
        }
        let champion = self.0.champion.load(SeqCst).to_string();
        let known: HashMap<&str, String> = HashMap::from([
            (
                "/api/2.0/mlflow/registered-models/alias",
                format!(r#"{{"model_version": {{"name": "iris", "version": "{champion}", "status": "READY"}}}}"#),
            ),
            ("/api/2.0/mlflow/registered-models/search", self.0.registered.lock().unwrap().clone()),
            (
                "/api/2.0/mlflow/model-versions/get",
                format!(
                    r#"{{"model_version": {{"name": "iris", "version": "{}", "status": "READY"}}}}"#,
                    query.rsplit('=').next().unwrap()
                ),
            ),
            (
                "/api/2.0/mlflow/model-versions/get-download-uri",
                format!(r#"{{"artifact_uri": "{}"}}"#, self.folder(&format!("version-{}", query.rsplit('=').next().unwrap())).display()),
            ),
        ]);
        Ok((200, known.get(path).unwrap_or_else(|| panic!("{path}?{query}")).clone()))
    }
}

fn model(uri: &str) -> Model {
    Model::new(uri.parse().unwrap())
}

fn local(folder: &Path) -> Model {
    Model { runtime: Runtime::Native, ..model(&format!("file://{}", folder.display())) }
}

async fn call(hosted: &Hosted, body: &'static str) -> Result<String> {
    let ready = hosted.enter().await?;
    let response = ready.answer(Request::new(Bytes::from_static(body.as_bytes()))).await?;
    Ok(String::from_utf8(response.into_body().start(1 << 10).await.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_first_call_loads_it_once_however_many_wait() {
    let world = World::new();
    let models = world.models(Settings::default());
    let hosted = models.hosted(&model("models:/iris@champion"));
    assert!(matches!(hosted.state(), State::Unloaded));
    world.engines().0.gate.forget_permits(1000);
    let all = join_all((0..50).map(|_| call(&hosted, "")));
    let open = async {
        while world.engines().started() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(hosted.state(), State::Loading));
        world.engines().0.gate.add_permits(1);
    };
    let (answers, ()) = tokio::join!(all, open);
    assert!(answers.iter().all(|answer| answer.as_deref().unwrap() == "version-1"), "{answers:?}");
    assert_eq!(world.engines().started(), 1);
    assert!(matches!(hosted.state(), State::Loaded));
    // What is defined alike is one model.
    assert!(Arc::ptr_eq(&hosted, &models.hosted(&model("models:/iris@champion"))));
}

#[tokio::test(start_paused = true)]
async fn an_alias_is_followed_and_the_version_before_it_ends_its_calls() {
    let world = World::new();
    let models = world.models(Settings::default());
    let hosted = models.hosted(&Model { runtime: Runtime::Native, ..model("models:/iris@champion") });
    assert_eq!(call(&hosted, "").await.unwrap(), "version-1");
    let first = hosted.current().unwrap();
    world.0.champion.store(2, SeqCst);
    let (slow, ()) = tokio::join!(call(&hosted, "slow"), async {
        while hosted.current().is_some_and(|current| Arc::ptr_eq(&current, &first)) {
            pass(Duration::from_secs(1)).await;
        }
        assert_eq!(call(&hosted, "").await.unwrap(), "version-2");
        world.engines().0.calls.add_permits(1);
    });
    assert_eq!(slow.unwrap(), "version-1");
    assert_eq!(first.calls(), 0);
    // A version that fails to load leaves the one before it where it is.
    world.engines().0.fail.store(true, SeqCst);
    world.0.champion.store(3, SeqCst);
    assert!(hosted.refresh().await.is_err());
    assert_eq!(call(&hosted, "").await.unwrap(), "version-2");
}

#[tokio::test(start_paused = true)]
async fn what_holds_for_all_changes_while_they_are_loaded() {
    let world = World::new();
    let models = world.models(Settings { refresh: Duration::from_secs(3600), ..Settings::default() });
    let all: Vec<_> = ["a", "b", "c"].map(|name| models.hosted(&local(&world.folder(name)))).into();
    let moving = models.hosted(&Model { runtime: Runtime::Native, ..model("models:/iris@champion") });
    for hosted in &all {
        call(hosted, "").await.unwrap();
        pass(Duration::from_secs(3)).await;
    }
    assert_eq!(call(&moving, "").await.unwrap(), "version-1");
    world.0.champion.store(2, SeqCst);
    let settings = Settings {
        tracking_uri: Some("http://other.test".to_owned()),
        cache: Some("/elsewhere".into()),
        memory: Some(250),
        refresh: Duration::from_secs(5),
        ..Settings::default()
    };
    models.configure(&settings);
    let loaded: Vec<_> = all.iter().map(|hosted| hosted.state() == State::Loaded).collect();
    assert_eq!(loaded, [false, false, true], "the first of those that nobody calls make way");
    pass(Duration::from_secs(7)).await;
    assert_eq!(call(&moving, "").await.unwrap(), "version-2", "references are looked up as often as is said now");
    let now = models.settings();
    assert_eq!((now.memory, &now.tracking_uri), (Some(250), &None), "where models come from is the start's to say");
    assert!(now.cache.as_ref().is_some_and(|cache| cache.starts_with(world.0.folder.path())));
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_away_changes_nothing_and_a_start_without_it_takes_the_last_version() {
    let world = World::new();
    let definition = Model { runtime: Runtime::Native, ..model("models:/iris@champion") };
    let hosted = world.models(Settings::default()).hosted(&definition);
    assert_eq!(call(&hosted, "").await.unwrap(), "version-1");
    world.0.away.store(true, SeqCst);
    assert!(hosted.refresh().await.is_ok());
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(call(&hosted, "").await.unwrap(), "version-1");
    let later = world.models(Settings::default()).hosted(&definition);
    assert_eq!(call(&later, "").await.unwrap(), "version-1");
}

#[tokio::test(start_paused = true)]
async fn it_is_let_go_when_nobody_calls_and_not_while_somebody_does() {
    let world = World::new();
    let models = world.models(Settings::default());
    let definition = Model { idle: Some(Duration::from_secs(60)), ..local(&world.folder("a")) };
    let hosted = models.hosted(&definition);
    call(&hosted, "").await.unwrap();
    let (answer, ()) = tokio::join!(call(&hosted, "slow"), async {
        pass(Duration::from_secs(200)).await;
        assert!(matches!(hosted.state(), State::Loaded));
        world.engines().0.calls.add_permits(1);
    });
    answer.unwrap();
    pass(Duration::from_secs(50)).await;
    assert!(matches!(hosted.state(), State::Loaded));
    pass(Duration::from_secs(30)).await;
    assert!(matches!(hosted.state(), State::Unloaded));
    hosted.pin(true);
    pass(Duration::from_secs(200)).await;
    assert!(matches!(hosted.state(), State::Loaded), "what is pinned is loaded");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_is_started_again_by_the_next_call_and_not_at_once() {
    let world = World::new();
    let models = world.models(Settings::default());
    let hosted = models.hosted(&Model { runtime: Runtime::Python, ..local(&world.folder("a")) });
    call(&hosted, "").await.unwrap();
    pass(Duration::from_secs(40)).await;
    world.engines().crash();
    while hosted.current().is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(call(&hosted, "").await.unwrap(), "a");
    assert_eq!(world.engines().started(), 2);
    // So soon after the start that it may happen again.
    world.engines().crash();
    while hosted.current().is_some() {
        tokio::task::yield_now().await;
    }
    let error = call(&hosted, "").await.unwrap_err();
    assert!(error.to_string().contains("the model's process ended with code 1 soon after it was started: boom"), "{error}");
    pass(Duration::from_secs(2)).await;
    assert_eq!(call(&hosted, "").await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn instances_are_kept_and_added_while_all_are_busy() {
    let world = World::new();
    let models = world.models(Settings::default());
    let hosted = models.hosted(&Model { runtime: Runtime::Python, min: 2, max: 3, ..local(&world.folder("a")) });
    pass(Duration::from_secs(5)).await;
    let count = || hosted.current().map_or(0, |current| current.count());
    assert_eq!(count(), 2, "without a call");
    let calls = join_all((0..20).map(|_| call(&hosted, "slow")));
    let (answers, ()) = tokio::join!(calls, async {
        pass(Duration::from_secs(5)).await;
        call(&hosted, "").await.unwrap();
        pass(Duration::from_secs(5)).await;
        assert_eq!(count(), 3);
        world.engines().0.calls.add_permits(20);
    });
    assert!(answers.iter().all(Result::is_ok));
    pass(Duration::from_secs(5)).await;
    assert_eq!(count(), 2, "there is little to do");
    let crashes = || world.0.metrics.render().lines().filter(|line| line.starts_with("flowgate_model_crashes_total{")).count();
    assert_eq!(crashes(), 0, "one that is let go has not crashed");
    world.engines().crash();
    pass(Duration::from_secs(5)).await;
    assert_eq!((count(), crashes(), world.engines().started()), (2, 1, 4), "one that ended is replaced");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_panics_is_no_end_of_the_model() {
    let world = World::new();
    let folder = world.folder("a");
    std::fs::remove_file(folder.join("words")).unwrap();
    let models = world.models(Settings::default());
    let hosted = models.hosted(&Model { runtime: Runtime::Python, ..local(&folder) });
    assert_eq!(call(&hosted, "").await.unwrap_err().reason(), ErrorReason::GatewayInternal);
    world.folder("a");
    assert_eq!(call(&hosted, "").await.unwrap(), "a");
}
