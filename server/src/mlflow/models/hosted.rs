//! One model as deployments name it: loaded by the first call however many wait, followed where its reference moves, let go when nobody
//! calls, tried again ever more seldom when it fails.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, Shared},
};
use http::{Request, Response};
use tokio::{sync::oneshot, time::Instant};

use super::{
    Common,
    generation::Generation,
    ground::Ground,
    load::{Load, Loaded},
};
use crate::{
    config,
    error::{Error, Result},
    telemetry::models::ModelMeter,
    upstream::{Body, Server},
};

/// How long after a failure the next load is tried at the earliest, doubled with each further one, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a model stays that was just loaded, however much others want its room: else two that do not fit together would do nothing but
/// load.
const RESIDENCE: Duration = Duration::from_secs(2);
/// How long a version must have answered for what failed before it to count no more.
const STEADY: Duration = Duration::from_secs(30);

/// One load under way, for all who wait for it.
type Flight = Shared<oneshot::Receiver<Result<Arc<Generation>>>>;

/// One model as deployments name it.
pub struct Hosted {
    pub(super) name: Arc<str>,
    pub(super) model: config::Model,
    pub(super) common: Arc<Common>,
    pub(super) meter: ModelMeter,
    pub(super) current: ArcSwapOption<Generation>,
    desk: Mutex<Desk>,
    calls: AtomicUsize,
    born: Instant,
    /// When a call began or ended last, in milliseconds after `born`.
    used: AtomicU64,
    /// It is neither unloaded nor makes way.
    pinned: AtomicBool,
    pub(super) growing: AtomicBool,
    /// Somebody looks after it.
    pub(super) kept: AtomicBool,
    pub(super) me: Weak<Self>,
}

/// What is under way, and what went wrong.
#[derive(Default)]
pub(super) struct Desk {
    flight: Option<Flight>,
    pub(super) failures: u32,
    failed: Option<Failed>,
    /// When the version that answers was loaded.
    pub(super) loaded: Option<Instant>,
}

/// A load that failed.
#[derive(Clone)]
pub(super) struct Failed {
    error: Error,
    until: Instant,
}

/// How a model stands.
#[derive(Clone, Debug)]
pub enum State {
    /// It is not loaded; the first call does it.
    Unloaded,
    /// It is being loaded for the first time.
    Loading,
    /// A version answers.
    Loaded,
    /// It could not be loaded, and why; how long until it is tried again.
    Failed(Error, Duration),
}

/// A call, or a wait for one.
struct Visit(Arc<Hosted>);

impl Hosted {
    pub(super) fn new(model: config::Model, common: Arc<Common>) -> Arc<Self> {
        let name: Arc<str> = model.uri.to_string().into();
        let hosted = Arc::new_cyclic(|me| Self {
            meter: common.meters.model(&name),
            name,
            model,
            common,
            current: ArcSwapOption::empty(),
            desk: Mutex::default(),
            calls: AtomicUsize::new(0),
            born: Instant::now(),
            used: AtomicU64::new(0),
            pinned: AtomicBool::new(false),
            growing: AtomicBool::new(false),
            kept: AtomicBool::new(false),
            me: Weak::clone(me),
        });
        if hosted.model.min > 0 {
            hosted.look_after();
        }
        hosted
    }

    /// The reference, as it is written in full.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether it is the model of a definition.
    pub fn is(&self, model: &config::Model) -> bool {
        self.model == *model
    }

    /// The version that answers, loaded now where none does.
    ///
    /// # Errors
    /// What kept it from being loaded; right away while the pause after a failure lasts.
    pub async fn load(&self) -> Result<Arc<Generation>> {
        let flight = {
            // The version first: a load that ends puts it there before it leaves the desk.
            if let Some(current) = self.current.load_full() {
                return Ok(current);
            }
            let mut desk = self.desk();
            if let Some(flight) = desk.flight() {
                flight
            } else if let Some(current) = self.current.load_full() {
                return Ok(current);
            } else {
                if let Some(failed) = desk.failed.as_ref().filter(|failed| failed.until > Instant::now()) {
                    return Err(failed.told());
                }
                self.take_off(&mut desk, None)
            }
        };
        flight.await.unwrap_or_else(|_| Err(Error::internal("loading the model was given up; try again")))
    }

    /// Looks up what the reference means now, and has that version answer, once it is warm. The one that answers goes on until then, and
    /// after a failure.
    ///
    /// # Errors
    /// What kept it from being loaded.
    pub async fn refresh(&self) -> Result<Arc<Generation>> {
        let flight = {
            let mut desk = self.desk();
            match desk.flight() {
                Some(flight) => flight,
                None => self.take_off(&mut desk, self.current.load_full()),
            }
        };
        flight.await.unwrap_or_else(|_| Err(Error::internal("loading the model was given up; try again")))
    }

    /// As [`Hosted::refresh`] where the reference may have moved, and waits for nothing. A failure is logged by the load.
    pub(super) fn follow(&self) {
        let current = self.current.load_full();
        let mut desk = self.desk();
        let pausing = desk.failed.as_ref().is_some_and(|failed| failed.until > Instant::now());
        if self.moves() && current.is_some() && desk.flight().is_none() && !pausing {
            drop(self.take_off(&mut desk, current));
        }
    }

    /// Lets go of the version that answers, when its calls are done. Whether there was one.
    pub fn unload(&self) -> bool {
        let was = self.current.swap(None).is_some();
        if was {
            self.desk().settle();
            tracing::info!(model = %self.name, "a model is unloaded");
            self.meter.unloaded();
            self.meter.holds(0, 0);
        }
        was
    }

    /// Whether it stays loaded, whatever others need.
    pub fn pin(&self, pinned: bool) {
        self.pinned.store(pinned, Release);
        if pinned {
            self.look_after();
        }
    }

    /// Whether it is pinned.
    pub fn is_pinned(&self) -> bool {
        self.pinned.load(Acquire)
    }

    /// The version that answers.
    pub fn current(&self) -> Option<Arc<Generation>> {
        self.current.load_full()
    }

    /// How it stands.
    pub fn state(&self) -> State {
        if self.current.load().is_some() {
            return State::Loaded;
        }
        let desk = self.desk();
        match &desk.failed {
            _ if desk.flight().is_some() => State::Loading,
            Some(failed) => State::Failed(failed.error.clone(), failed.until.saturating_duration_since(Instant::now())),
            None => State::Unloaded,
        }
    }

    /// When it may make way for others: since when nobody called; `None` while it may not.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let old = self.desk().loaded.is_some_and(|loaded| loaded.elapsed() >= RESIDENCE);
        let free = old && self.model.min == 0 && !self.is_pinned() && self.calls.load(Acquire) == 0 && self.current.load().is_some();
        free.then(|| self.used())
    }

    /// Calls under way, those included that wait for it to be loaded.
    pub fn calls(&self) -> usize {
        self.calls.load(Relaxed)
    }

    fn moves(&self) -> bool {
        let is_registered = matches!(self.model.uri, config::ModelUri::Registered { .. });
        is_registered && !self.model.uri.is_fixed()
    }

    pub(super) fn used(&self) -> Instant {
        self.born + Duration::from_millis(self.used.load(Relaxed))
    }

    fn enter(&self) -> Option<Visit> {
        let me = self.me.upgrade()?;
        self.calls.fetch_add(1, AcqRel);
        self.touch();
        Some(Visit(me))
    }

    fn touch(&self) {
        self.used.store(u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Loads in a task of its own: whoever asked may go away.
    fn take_off(&self, desk: &mut Desk, current: Option<Arc<Generation>>) -> Flight {
        let (done, flight) = oneshot::channel();
        let flight = flight.shared();
        desk.flight = Some(flight.clone());
        if let Some(me) = self.me.upgrade() {
            self.common.tasks.spawn(async move {
                let begun = Instant::now();
                let loaded = me.fetch(current).await;
                me.meter.loaded(loaded.is_ok(), begun.elapsed());
                let told = me.land(loaded);
                // Whoever asked may be gone.
                drop(done.send(told));
            });
        }
        flight
    }

    async fn fetch(&self, current: Option<Arc<Generation>>) -> Result<Loaded> {
        let ground = self.common.ground().await?;
        let evict = || self.common.evict(&self.name);
        self.loading(&ground, current, &evict).run().await
    }

    pub(super) fn loading<'a>(
        &'a self,
        ground: &'a Arc<Ground>,
        current: Option<Arc<Generation>>,
        evict: &'a (dyn Fn() -> bool + Send + Sync),
    ) -> Load<'a> {
        Load { ground, model: &self.model, name: &self.name, current, evict }
    }

    /// Takes in what a load came to.
    fn land(&self, loaded: Result<Loaded>) -> Result<Arc<Generation>> {
        let mut desk = self.desk();
        desk.flight = None;
        match loaded {
            Ok(Loaded::Same(generation)) => {
                desk.failed = None;
                desk.settle();
                Ok(generation)
            }
            Ok(Loaded::New(generation)) => {
                desk.failed = None;
                desk.loaded = Some(Instant::now());
                self.current.store(Some(Arc::clone(&generation)));
                drop(desk);
                self.meter.holds(u64::try_from(generation.count()).unwrap_or(u64::MAX), generation.bytes());
                self.touch();
                generation.engines().iter().for_each(|engine| self.watch(&generation, engine));
                self.look_after();
                Ok(generation)
            }
            Err(error) => {
                let failed = desk.fail(error);
                let again_in = failed.until.saturating_duration_since(Instant::now());
                tracing::warn!(model = %self.name, error = ?failed.error, ?again_in, "a model cannot be loaded");
                Err(failed.told())
            }
        }
    }

    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    /// The load under way. One that is done and still there has panicked.
    fn flight(&self) -> Option<Flight> {
        self.flight.clone().filter(|flight| flight.peek().is_none())
    }

    /// Forgets the failures before the version that answers, or did until now, when that has done so for long. Whether it has.
    pub(super) fn settle(&mut self) -> bool {
        let steady = self.loaded.is_some_and(|loaded| loaded.elapsed() >= STEADY);
        if steady {
            self.failures = 0;
        }
        steady
    }

    /// Takes in a failure; the next try waits longer than the last.
    pub(super) fn fail(&mut self, error: Error) -> Failed {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        let failed = Failed { error, until: Instant::now() + pause.mul_f64(0.9 + 0.2 * fastrand::f64()) };
        self.failed = Some(failed.clone());
        failed
    }
}

impl Failed {
    /// What callers are told: why, and when it is tried again. Where the model comes from is not theirs to know.
    fn told(&self) -> Error {
        let left = self.until.saturating_duration_since(Instant::now());
        let message = format!("the model cannot be loaded: {}; it is tried again in {:.0} s", self.error, left.as_secs_f64().ceil());
        // Whoever asks for it elsewhere may get an answer, so that a lack of room keeps its reason.
        let reason = match self.error.reason() {
            reason @ (ErrorReason::GatewayOverloaded | ErrorReason::ProviderNotFound) => reason,
            _ => ErrorReason::GatewayNotServing,
        };
        Error::new(reason, message).retry_after(Some(left)).because(self.error.clone())
    }
}

impl Server for Hosted {
    fn answer(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>>> {
        async move {
            let visit = self.enter().ok_or_else(|| Error::internal("a model is called that is gone"))?;
            let generation = match self.current.load_full() {
                Some(generation) => generation,
                None => self.load().await?,
            };
            self.grow(&generation);
            let response = generation.answer(request).await?;
            Ok(response.map(|body| visit.over(body)))
        }
        .boxed()
    }
}

impl Visit {
    /// Lasts until the body is read, or dropped.
    fn over(self, body: Body) -> Body {
        Body::made(body.map(move |piece| {
            let _until_the_end = &self;
            piece
        }))
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.touch();
        self.0.calls.fetch_sub(1, AcqRel);
    }
}

impl fmt::Debug for Hosted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosted").field("model", &self.name).field("state", &self.state()).finish_non_exhaustive()
    }
}
