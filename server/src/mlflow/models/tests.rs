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
    config::{Environment, Model, Runtime, fixture::Fake},
    mlflow::{artifacts::Stores, process::Exit, registry::Servers as Registries, testing::fetch},
    telemetry::metrics::Metrics,
    upstream::Body,
};

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
        let (champion, no) = (AtomicUsize::new(1), || AtomicBool::new(false));
        let (away, is_gone, has_example) = (no(), no(), no());
        Self(Arc::new(Inner { folder, champion, away, is_gone, has_example, engines, metrics: Metrics::new() }))
    }

    fn engines(&self) -> &Engines {
        &self.0.engines
    }

    /// A model's folder; it says `words`.
    fn folder(&self, words: &str) -> PathBuf {
        let folder = self.0.folder.path().join(words);
        std::fs::create_dir_all(&folder).unwrap();
        let example = if self.0.has_example.load(SeqCst) { "serving_input_path: example.json" } else { "" };
        let file = format!("flavors: {{python_function: {{loader_module: none}}}}\nsaved_input_example_info: {{{example}}}\n");
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
        let champion = self.0.champion.load(SeqCst).to_string();
        let known: HashMap<&str, String> = HashMap::from([
            (
                "/api/2.0/mlflow/registered-models/alias",
                format!(r#"{{"model_version": {{"name": "iris", "version": "{champion}", "status": "READY"}}}}"#),
            ),
            (
                "/api/2.0/mlflow/registered-models/search",
                r#"{"registered_models": [{"name": "iris", "latest_versions": [{"name": "iris", "version": "1"}]}]}"#.to_owned(),
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
    let response = hosted.answer(Request::new(Bytes::from_static(body.as_bytes()))).await?;
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
async fn what_cannot_be_loaded_says_why_and_is_tried_again_ever_more_seldom() {
    let world = World::new();
    world.engines().0.fail.store(true, SeqCst);
    let models = world.models(Settings::default());
    let (hosted, other) = (models.hosted(&local(&world.folder("a"))), world.folder("b"));
    let error = call(&hosted, "").await.unwrap_err();
    assert_eq!(error.reason(), ErrorReason::GatewayNotServing);
    assert!(error.to_string().contains("cannot be loaded: it is of no use; it is tried again in "), "{error}");
    assert!(error.retry_after_hint().is_some_and(|after| after <= Duration::from_millis(1100)), "{error:?}");
    world.engines().0.fail.store(false, SeqCst);
    // Not yet.
    assert_eq!(call(&hosted, "").await.unwrap_err().reason(), ErrorReason::GatewayNotServing);
    assert_eq!(call(&models.hosted(&local(&other)), "").await.unwrap(), "b");
    world.engines().0.fail.store(true, SeqCst);
    tokio::time::advance(Duration::from_millis(1200)).await;
    let again = call(&hosted, "").await.unwrap_err();
    assert!(again.retry_after_hint().is_some_and(|after| after > Duration::from_millis(1500)), "{again:?}");
    world.engines().0.fail.store(false, SeqCst);
    tokio::time::advance(Duration::from_millis(2300)).await;
    assert_eq!(call(&hosted, "").await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn failures_are_forgotten_once_a_version_has_answered_for_long() {
    let world = World::new();
    let hosted = world.models(Settings::default()).hosted(&Model { idle: None, ..local(&world.folder("a")) });
    let fails = async |again_in: f64| {
        // It may have been tried again meanwhile.
        hosted.unload();
        world.engines().0.fail.store(true, SeqCst);
        let after = call(&hosted, "").await.unwrap_err().retry_after_hint().unwrap();
        assert!((0.85..1.15).contains(&(after.as_secs_f64() / again_in)), "{after:?}");
        world.engines().0.fail.store(false, SeqCst);
        pass(after).await;
    };
    fails(1.0).await;
    fails(2.0).await;
    // One that is let go at once proves nothing.
    call(&hosted, "").await.unwrap();
    assert!(hosted.unload());
    fails(4.0).await;
    call(&hosted, "").await.unwrap();
    pass(Duration::from_secs(31)).await;
    assert!(hosted.unload());
    fails(1.0).await;
    call(&hosted, "").await.unwrap();
    assert_eq!(hosted.desk().failures, 1);
    pass(Duration::from_secs(31)).await;
    hosted.refresh().await.unwrap();
    assert_eq!(hosted.desk().failures, 0, "it is looked up, and still answers");
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
async fn a_load_that_takes_too_long_is_given_up_and_tried_again() {
    let world = World::new();
    let minute = Some(Duration::from_secs(60));
    let hosted = world.models(Settings::default()).hosted(&Model {
        runtime: Runtime::Python,
        load_timeout: minute,
        ..model("models:/iris@champion")
    });
    world.engines().0.loads.forget_permits(1000);
    let in_time = tokio::time::timeout(Duration::from_secs(90), call(&hosted, ""));
    let error = in_time.await.expect("an end").unwrap_err();
    assert_eq!(error.reason(), ErrorReason::GatewayNotServing);
    assert!(error.to_string().contains("cannot be loaded: loading it takes longer than its `load_timeout` of 1 min"), "{error}");
    assert_eq!((world.engines().started(), world.engines().alive()), (1, 0), "the process is ended");
    world.engines().0.loads.add_permits(1000);
    pass(Duration::from_secs(2)).await;
    assert_eq!(call(&hosted, "").await.unwrap(), "version-1");
    // A version that hangs on its own example leaves the one before it where it is.
    world.0.has_example.store(true, SeqCst);
    world.0.champion.store(2, SeqCst);
    world.engines().0.examples.forget_permits(1000);
    let in_time = tokio::time::timeout(Duration::from_secs(90), hosted.refresh());
    let error = in_time.await.expect("an end").unwrap_err();
    assert!(error.to_string().contains("answering its own example takes longer than its `load_timeout` of 1 min"), "{error}");
    assert_eq!(call(&hosted, "").await.unwrap(), "version-1");
    assert_eq!((world.engines().started(), world.engines().alive()), (3, 1));
    world.engines().0.examples.add_permits(1000);
    pass(Duration::from_secs(30)).await;
    assert_eq!(call(&hosted, "").await.unwrap(), "version-2");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_fails_is_told_beside_the_one_that_answers_and_any_other_is_tried_at_once() {
    let world = World::new();
    let hosted = world.models(Settings::default()).hosted(&Model { runtime: Runtime::Native, ..model("models:/iris@champion") });
    assert_eq!(call(&hosted, "").await.unwrap(), "version-1");
    assert!(hosted.failure().is_none());
    world.engines().0.fail.store(true, SeqCst);
    world.0.champion.store(2, SeqCst);
    pass(Duration::from_secs(300)).await;
    let failure = hosted.failure().unwrap();
    assert_eq!((failure.version, failure.error.to_string().as_str()), (Some(2), "it is of no use"));
    assert_eq!((hosted.state(), call(&hosted, "").await.unwrap().as_str()), (State::Loaded, "version-1"));
    assert!(world.0.metrics.render().contains("flowgate_model_failing{model=\"models:/iris@champion\"} 1\n"));
    // 1 s, 2, 4, 8, 16, 32, 60 and so on, each rounded up to the next look: not at each of thirty.
    assert!((8..=12).contains(&world.failed()), "{}", world.failed());
    while hosted.failure().unwrap().again_in < Duration::from_secs(30) {
        pass(Duration::from_secs(1)).await;
    }
    world.engines().0.fail.store(false, SeqCst);
    pass(Duration::from_secs(12)).await;
    assert_eq!(call(&hosted, "").await.unwrap(), "version-1", "it is not tried again yet");
    world.0.champion.store(3, SeqCst);
    pass(Duration::from_secs(12)).await;
    assert_eq!(call(&hosted, "").await.unwrap(), "version-3");
    assert!(hosted.failure().is_none());
    assert!(world.0.metrics.render().contains("flowgate_model_failing{model=\"models:/iris@champion\"} 0\n"));
    // Back to what answers there is nothing to load.
    world.engines().0.fail.store(true, SeqCst);
    world.0.champion.store(4, SeqCst);
    pass(Duration::from_secs(12)).await;
    assert!(
        hosted.failure().is_some_and(|failure| failure.version == Some(4) && failure.again_in < Duration::from_secs(2)),
        "the first pause is short again"
    );
    world.0.champion.store(3, SeqCst);
    pass(Duration::from_secs(12)).await;
    assert!(hosted.failure().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_reference_that_cannot_be_looked_up_is_told_and_looked_up_again_as_often() {
    let world = World::new();
    let hosted = world.models(Settings::default()).hosted(&Model { runtime: Runtime::Native, ..model("models:/iris@champion") });
    assert_eq!(call(&hosted, "").await.unwrap(), "version-1");
    world.0.is_gone.store(true, SeqCst);
    world.0.champion.store(2, SeqCst);
    pass(Duration::from_secs(200)).await;
    let failure = hosted.failure().unwrap();
    assert_eq!(failure.version, None);
    assert!(failure.error.to_string().contains("knows no alias `champion`"), "{}", failure.error);
    assert_eq!(call(&hosted, "").await.unwrap(), "version-1");
    world.0.is_gone.store(false, SeqCst);
    pass(Duration::from_secs(12)).await;
    assert_eq!(call(&hosted, "").await.unwrap(), "version-2");
    assert!(hosted.failure().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_meant_no_more_is_not_waited_for() {
    let world = World::new();
    let hosted = world.models(Settings::default()).hosted(&Model { runtime: Runtime::Python, ..model("models:/iris@champion") });
    assert_eq!(call(&hosted, "").await.unwrap(), "version-1");
    world.engines().0.loads.forget_permits(1000);
    world.0.champion.store(2, SeqCst);
    pass(Duration::from_secs(15)).await;
    assert_eq!(world.engines().alive(), 2, "the second one is being loaded");
    world.0.champion.store(3, SeqCst);
    pass(Duration::from_secs(12)).await;
    assert_eq!((world.engines().started(), world.engines().alive()), (3, 2), "and ended");
    world.engines().0.loads.add_permits(1);
    pass(Duration::from_secs(1)).await;
    assert_eq!(call(&hosted, "").await.unwrap(), "version-3");
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
async fn the_model_that_was_called_least_recently_makes_way() {
    let world = World::new();
    let models = world.models(Settings { memory: Some(250), ..Settings::default() });
    let all: Vec<_> = ["a", "b", "c"].map(|name| models.hosted(&local(&world.folder(name)))).into();
    let loaded = || all.iter().map(|hosted| matches!(hosted.state(), State::Loaded)).collect::<Vec<_>>();
    for (at, expected) in [(0, [true, false, false]), (1, [true, true, false]), (0, [true, true, false]), (2, [true, false, true])] {
        call(&all[at], "").await.unwrap();
        assert_eq!(loaded(), expected);
        pass(Duration::from_secs(3)).await;
    }
    // `a` is in use, so that `c` goes, though it was called later.
    let (slow, ()) = tokio::join!(call(&all[0], "slow"), async {
        tokio::task::yield_now().await;
        call(&all[1], "").await.unwrap();
        assert_eq!(loaded(), [true, true, false]);
        world.engines().0.calls.add_permits(1);
    });
    slow.unwrap();
    assert_eq!(world.engines().started(), 4);
}

/// Which of them are loaded.
fn loaded(all: &[Arc<Hosted>]) -> Vec<bool> {
    all.iter().map(|hosted| hosted.state() == State::Loaded).collect()
}

#[tokio::test(start_paused = true)]
async fn only_models_with_processes_make_way_for_a_process() {
    let world = World::new();
    let models = world.models(Settings { max_processes: 1, ..Settings::default() });
    let of = |name: &str, runtime| models.hosted(&Model { runtime, ..local(&world.folder(name)) });
    let (native, python) = (Runtime::Native, Runtime::Python);
    let all = [of("a", native), of("b", native), of("c", python), of("d", python)];
    for hosted in &all {
        call(hosted, "").await.unwrap();
        pass(Duration::from_secs(3)).await;
    }
    assert_eq!(loaded(&all), [true, true, false, true], "native ones were called longer ago, and free no process");
}

#[tokio::test(start_paused = true)]
async fn memory_settles_below_its_bound_when_a_process_is_measured() {
    let world = World::new();
    let models = world.models(Settings { memory: Some(1000), ..Settings::default() });
    let all: Vec<_> = ["a", "b", "c"].map(|name| models.hosted(&Model { runtime: Runtime::Python, ..local(&world.folder(name)) })).into();
    // Their files are small.
    world.engines().0.bytes.store(600, SeqCst);
    for at in [0, 1, 2] {
        call(&all[at], "").await.unwrap();
        pass(Duration::from_secs(3)).await;
        let expected: Vec<_> = (0..3).map(|other| other == at).collect();
        assert_eq!(loaded(&all), expected, "the one before made way when this one was measured");
    }
    // What it took last is counted before it is loaded again.
    world.engines().0.gate.forget_permits(1000);
    let (answer, ()) = tokio::join!(call(&all[0], ""), async {
        pass(Duration::from_millis(200)).await;
        assert_eq!(loaded(&all), [false; 3]);
        world.engines().0.gate.add_permits(1000);
    });
    answer.unwrap();
    // One that grows has the others make way as well.
    world.engines().0.bytes.store(400, SeqCst);
    pass(Duration::from_secs(3)).await;
    call(&all[1], "").await.unwrap();
    pass(Duration::from_secs(3)).await;
    assert_eq!(loaded(&all), [true, true, false]);
    world.engines().0.bytes.store(700, SeqCst);
    pass(Duration::from_secs(3)).await;
    assert_eq!(loaded(&all), [false, true, false]);
    // One that is too large by itself stays, and is loaded again.
    world.engines().0.bytes.store(2000, SeqCst);
    pass(Duration::from_secs(3)).await;
    assert_eq!(loaded(&all), [false, true, false]);
    assert!(all[1].unload());
    call(&all[1], "").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn all_room_in_use_is_an_error_that_says_so() {
    let world = World::new();
    let models = world.models(Settings { memory: Some(150), ..Settings::default() });
    let (a, b) = (models.hosted(&local(&world.folder("a"))), models.hosted(&local(&world.folder("b"))));
    call(&a, "").await.unwrap();
    a.pin(true);
    let error = call(&b, "").await.unwrap_err();
    assert_eq!(error.reason(), ErrorReason::GatewayOverloaded);
    let tight = world.models(Settings { memory: Some(50), ..Settings::default() });
    let error = call(&tight.hosted(&local(&world.folder("a"))), "").await.unwrap_err();
    assert!(error.to_string().contains("`mlflow.memory` is 50"), "{error}");
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

/// The value of a line of the metrics.
fn metric(world: &World, name: &str, label: &str) -> Option<u32> {
    let text = world.0.metrics.render();
    let line = text.lines().find(|line| line.starts_with(name) && line.contains(label))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test(start_paused = true)]
async fn look_ups_are_no_loads() {
    let world = World::new();
    let hosted = world.models(Settings::default()).hosted(&Model { runtime: Runtime::Native, ..model("models:/iris@champion") });
    call(&hosted, "").await.unwrap();
    pass(Duration::from_secs(65)).await;
    let counted = |name: &str, label: &str| metric(&world, name, label).unwrap_or_default();
    assert_eq!((counted("flowgate_model_loads_total{", "ok"), counted("flowgate_model_load_duration_seconds_count", "")), (1, 1));
    assert!((5..=8).contains(&counted("flowgate_model_lookups_total{", "ok")), "{}", world.0.metrics.render());
}

#[tokio::test(start_paused = true)]
async fn a_model_that_cannot_be_loaded_does_not_serve_until_it_can() {
    let world = World::new();
    world.engines().0.fail.store(true, SeqCst);
    let models = world.models(Settings::default());
    let hosted = models.hosted(&local(&world.folder("a")));
    assert!(hosted.not_serving().is_none(), "the first call loads it");
    call(&hosted, "").await.unwrap_err();
    let mut changes = models.changes();
    assert!(hosted.not_serving().unwrap().to_string().contains("it is of no use"));
    pass(Duration::from_secs(30)).await;
    assert!(hosted.not_serving().is_some());
    // Whoever looks at health sends no calls.
    world.engines().0.fail.store(false, SeqCst);
    pass(Duration::from_secs(61)).await;
    assert!(hosted.not_serving().is_none() && hosted.state() == State::Loaded);
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    hosted.unload();
    assert!(changes.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_nobody_misses_is_forgotten() {
    let world = World::new();
    world.engines().0.fail.store(true, SeqCst);
    let idle = Some(Duration::from_secs(300));
    let hosted = world.models(Settings::default()).hosted(&Model { idle, ..local(&world.folder("a")) });
    call(&hosted, "").await.unwrap_err();
    pass(Duration::from_secs(290)).await;
    assert_eq!(hosted.state(), State::Failed);
    pass(Duration::from_secs(80)).await;
    assert_eq!(hosted.state(), State::Unloaded);
    let failed = world.failed();
    pass(Duration::from_secs(500)).await;
    assert_eq!(world.failed(), failed, "it is tried no more");
}

#[tokio::test(start_paused = true)]
async fn first_loads_are_waited_for_well_or_not() {
    let world = World::new();
    let models = world.models(Settings::default());
    let good = models.hosted(&Model { runtime: Runtime::Python, min: 1, ..local(&world.folder("a")) });
    let lazy = models.hosted(&local(&world.folder("b")));
    world.engines().0.loads.forget_permits(1000);
    assert!(tokio::time::timeout(Duration::from_secs(20), models.first_loads()).await.is_err());
    world.engines().0.loads.add_permits(1000);
    models.first_loads().await;
    assert_eq!((good.state(), lazy.state()), (State::Loaded, State::Unloaded));
    world.engines().0.fail.store(true, SeqCst);
    let bad = models.hosted(&Model { runtime: Runtime::Python, min: 1, ..local(&world.folder("c")) });
    models.first_loads().await;
    assert_eq!(bad.state(), State::Failed);
}

/// A configuration whose only endpoint has this model.
fn over(model: &Model) -> config::Config {
    let mut deployment = crate::policy::testing::deployment("only");
    deployment.place = config::Place::Model(Box::new(model.clone()));
    config::Config { endpoints: vec![crate::policy::testing::endpoint("e", vec![deployment])], ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn a_changed_model_takes_over_when_it_is_loaded_and_not_before() {
    let world = World::new();
    let models = world.models(Settings::default());
    let (old, new) = (local(&world.folder("a")), local(&world.folder("b")));
    let before = over(&old);
    let bridged = || {
        let mut next = over(&new);
        let awaited = models.bridge(&mut next, &before);
        let stays = matches!(&next.endpoints[0].deployments[0].place, config::Place::Model(model) if **model == old);
        (awaited, stays)
    };
    let known = models.hosted(&old);
    assert!(!bridged().1, "nothing answers that could go on");
    call(&known, "").await.unwrap();
    world.engines().0.fail.store(true, SeqCst);
    let (awaited, stays) = bridged();
    assert!(stays && awaited.len() == 1);
    pass(Duration::from_secs(2)).await;
    assert!(awaited[0].failure().unwrap().error.to_string().contains("it is of no use"));
    assert!(bridged().1, "one that fails leaves the one before it answering");
    world.engines().0.fail.store(false, SeqCst);
    pass(Duration::from_secs(10)).await;
    let (awaited, stays) = bridged();
    assert!(!stays && awaited.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_models_that_were_named_last_are_served_without_the_registry() {
    let world = World::new();
    let (all, some) = (config::Serve::All, config::Serve::Filter("name LIKE 'i%'".to_owned()));
    world.0.away.store(true, SeqCst);
    let models = world.models(Settings::default());
    let listing = models.found(Some(&all)).await;
    assert!(listing.found.is_none() && listing.error.is_some() && models.is_unlisted());
    world.0.away.store(false, SeqCst);
    let found = models.found(Some(&all)).await.found.unwrap();
    assert_eq!((&found[0].name[..], models.is_unlisted()), ("iris", false));
    world.0.away.store(true, SeqCst);
    let later = world.models(Settings::default());
    let listing = later.found(Some(&all)).await;
    assert_eq!((listing.found, listing.error.is_some(), later.is_unlisted()), (Some(found), true, false));
    assert!(later.found(Some(&some)).await.found.is_none(), "these were found by other words");
    assert_eq!(later.found(None).await.found, Some(Vec::new()));
    assert!(!later.is_unlisted());
}
