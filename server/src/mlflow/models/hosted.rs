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
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture};
use http::{Request, Response};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{
    Common,
    desk::{Desk, Flight},
    failure::Failed,
    generation::Generation,
    ground::Ground,
    load::{Load, Loaded},
    room::{Lack, Size},
};
use crate::{
    config,
    dialect::Settings,
    error::{Error, Result},
    mlflow::{discreet::discreet, registry::Resolved},
    telemetry::{models::ModelMeter, rounded},
    upstream::{Body, Ready, Server},
};

/// How long a model stays that was just loaded, however much others want its room: else two that do not fit together would do nothing but
/// load.
const RESIDENCE: Duration = Duration::from_secs(2);
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
    /// How much memory one of its processes took when it was last looked; 0: none has run yet.
    pub(super) took: AtomicU64,
    /// It was said that it alone takes more memory than there is for all.
    pub(super) is_over: AtomicBool,
    /// Somebody looks after it.
    pub(super) kept: AtomicBool,
    pub(super) me: Weak<Self>,
}

/// How a model stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is not loaded; the first call does it.
    Unloaded,
    /// It is being loaded for the first time.
    Loading,
    /// A version answers.
    Loaded,
    /// It could not be loaded.
    Failed,
}

/// A call, or a wait for one.
#[derive(Debug)]
struct Visit(Arc<Hosted>);

/// A call on a version that answers.
#[derive(Debug)]
struct Met {
    visit: Visit,
    generation: Arc<Generation>,
}

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
            took: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
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
    /// What kept it from being loaded, in words for the operator; right away while the pause after a failure lasts.
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
                    return Err(self.told(failed));
                }
                self.take_off(&mut desk, None, None)
            }
        };
        flight.await.unwrap_or_else(|_| Err(Error::internal("loading the model was given up; try again")))
    }

    /// Looks up what the reference means now, and has that version answer, once it is warm. The one that answers goes on until then, and
    /// after a failure.
    ///
    /// # Errors
    /// What kept it from being loaded, in words for the operator.
    pub async fn refresh(&self) -> Result<Arc<Generation>> {
        let flight = {
            let mut desk = self.desk();
            match desk.flight() {
                Some(flight) => flight,
                None => self.take_off(&mut desk, self.current.load_full(), None),
            }
        };
        flight.await.unwrap_or_else(|_| Err(Error::internal("loading the model was given up; try again")))
    }

    /// As [`Hosted::refresh`] where the reference may have moved, and waits for nothing. A version that has just failed is not tried again
    /// yet, any other one is. A failure is logged by the load.
    pub(super) fn follow(&self) {
        let current = self.current.load_full();
        let mut desk = self.desk();
        if self.moves() && current.is_some() && desk.flight().is_none() {
            let held = desk.failed.as_ref().filter(|failed| failed.until > Instant::now()).and_then(Failed::identity);
            drop(self.take_off(&mut desk, current, held));
        }
    }

    /// Lets go of the version that answers, when its calls are done. Whether there was one.
    pub fn unload(&self) -> bool {
        self.let_go("somebody said so")
    }

    /// As [`Hosted::unload`], for this reason.
    pub(super) fn let_go(&self, cause: &'static str) -> bool {
        let was = self.current.swap(None).is_some();
        if was {
            self.desk().settle();
            tracing::info!(model = %self.name, cause, "a model is unloaded");
            self.meter.unloaded();
            self.meter.holds(0, 0);
            self.common.stir();
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
            Some(_) => State::Failed,
            None => State::Unloaded,
        }
    }

    /// Loads it, unless that is under way, or has failed a moment ago; waits for nothing.
    pub fn begin(&self) {
        let mut desk = self.desk();
        let may = desk.failed.as_ref().is_none_or(|failed| failed.until <= Instant::now());
        if may && desk.flight().is_none() && self.current.load().is_none() {
            self.touch();
            drop(self.take_off(&mut desk, None, None));
        }
    }

    /// Whether its first load is over, well or not; or it has none to do before a call.
    pub(super) fn is_settled(&self) -> bool {
        self.model.min == 0 || self.current.load().is_some() || self.desk().failed.is_some()
    }

    /// When it may make way for others: since when nobody called; `None` while it may not.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let old = self.desk().loaded.is_some_and(|loaded| loaded.elapsed() >= RESIDENCE);
        let free = old && self.model.min == 0 && !self.is_pinned() && self.calls.load(Acquire) == 0 && self.current.load().is_some();
        free.then(|| self.used())
    }

    /// What the version that answers takes.
    pub(super) fn size(&self) -> Option<Size> {
        Some(self.current.load().as_ref()?.size())
    }

    /// Calls under way, those included that wait for it to be loaded.
    pub fn calls(&self) -> usize {
        self.calls.load(Relaxed)
    }

    pub(super) fn moves(&self) -> bool {
        let is_registered = matches!(self.model.uri, config::ModelUri::Registered { .. });
        is_registered && !self.model.uri.is_fixed()
    }

    pub(super) fn used(&self) -> Instant {
        self.born + Duration::from_millis(self.used.load(Relaxed))
    }

    fn visit(&self) -> Option<Visit> {
        let me = self.me.upgrade()?;
        self.calls.fetch_add(1, AcqRel);
        self.touch();
        Some(Visit(me))
    }

    fn touch(&self) {
        self.used.store(u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Loads in a task of its own: whoever asked may go away. What is `held` is not loaded.
    fn take_off(&self, desk: &mut Desk, current: Option<Arc<Generation>>, held: Option<String>) -> Flight {
        let (done, flight) = oneshot::channel();
        let flight = flight.shared();
        (desk.flight, desk.sought) = (Some(flight.clone()), None);
        if let Some(me) = self.me.upgrade() {
            self.common.tasks.spawn(async move {
                let begun = Instant::now();
                let loaded = me.fetch(current, held).await;
                me.count(&loaded, begun.elapsed());
                let told = me.land(loaded);
                me.common.stir();
                // Whoever asked may be gone.
                drop(done.send(told));
            });
        }
        flight
    }

    fn count(&self, loaded: &Result<Loaded>, took: Duration) {
        let is_found = self.desk().sought.is_some();
        match loaded {
            Ok(Loaded::New(_)) => self.meter.loaded(true, Some(took)),
            Ok(Loaded::Same(_) | Loaded::Held(_)) => self.meter.looked_up(true),
            Err(_) if is_found => self.meter.loaded(false, Some(took)),
            Err(_) => {
                self.meter.looked_up(false);
                // Nothing answers: what was wanted was a load.
                if self.current.load().is_none() {
                    self.meter.loaded(false, None);
                }
            }
        }
    }

    async fn fetch(&self, current: Option<Arc<Generation>>, held: Option<String>) -> Result<Loaded> {
        let ground = self.common.ground().await?;
        let (mut sought, _) = ground.resolve(&self.model.uri, current.is_none()).await?;
        if let Some(current) = current.as_ref().filter(|_| held.is_some() && held == sought.identity) {
            return Ok(Loaded::Held(Arc::clone(current)));
        }
        let evict = |lack| self.common.evict(lack, Some(&self.name));
        loop {
            self.desk().sought = Some(sought.clone());
            let load = self.loading(&ground, current.clone(), &evict).run(sought.clone());
            sought = tokio::select! {
                loaded = load => return loaded,
                // What is meant no more is not waited for, however long it would take.
                moved = self.moved(&ground, &sought) => moved,
            };
        }
    }

    /// Waits until the reference means another version.
    async fn moved(&self, ground: &Ground, before: &Resolved) -> Resolved {
        loop {
            sleep(self.common.refresh()).await;
            if !self.moves() {
                continue;
            }
            // While nobody says otherwise, it means what it did.
            if let Ok((now, _)) = ground.resolve(&self.model.uri, false).await
                && now.identity != before.identity
            {
                tracing::info!(model = %self.name, "a model's reference has moved while a version was being loaded");
                return now;
            }
        }
    }

    pub(super) fn loading<'a>(
        &'a self,
        ground: &'a Arc<Ground>,
        current: Option<Arc<Generation>>,
        evict: &'a (dyn Fn(Lack) -> Option<Size> + Send + Sync),
    ) -> Load<'a> {
        let took = Some(self.took.load(Relaxed)).filter(|took| *took > 0);
        Load { ground, model: &self.model, name: &self.name, python: self.common.settings().python.clone(), current, took, evict }
    }

    /// Takes in what a load came to.
    fn land(&self, loaded: Result<Loaded>) -> Result<Arc<Generation>> {
        let mut desk = self.desk();
        desk.flight = None;
        let sought = desk.sought.take();
        match loaded {
            Ok(Loaded::Held(generation)) => Ok(generation),
            Ok(Loaded::Same(generation)) => {
                desk.failed = None;
                desk.settle();
                self.meter.fails(false);
                Ok(generation)
            }
            Ok(Loaded::New(generation)) => {
                desk.failed = None;
                desk.loaded = Some(Instant::now());
                self.current.store(Some(Arc::clone(&generation)));
                drop(desk);
                self.meter.fails(false);
                self.touch();
                self.measured(&generation);
                generation.engines().iter().for_each(|engine| self.watch(&generation, engine));
                self.look_after();
                Ok(generation)
            }
            Err(error) if sought.is_none() && self.current.load().is_some() => Err(self.stays(&mut desk, error)),
            Err(error) => {
                let failed = desk.fail(error, sought);
                drop(desk);
                self.meter.fails(true);
                let (version, again_in) = (failed.version(), self.again(&failed).after().map(rounded).map(tracing::field::debug));
                tracing::warn!(model = %self.name, version, error = ?failed.error, again_in, "a model cannot be loaded");
                // Tried again without a call: whoever is told that it does not serve sends none.
                self.look_after();
                Err(self.told(&failed))
            }
        }
    }

    /// Takes in that a reference could not be looked up whose last version answers. It is looked up again as often as ever, without a pause.
    fn stays(&self, desk: &mut Desk, error: Error) -> Error {
        let is_known = desk.failed.as_ref().is_some_and(|failed| failed.error.to_string() == error.to_string());
        if !is_known {
            tracing::warn!(model = %self.name, ?error, "a model's reference cannot be looked up; the version that answers goes on");
        }
        let failed = Failed { error, until: Instant::now(), sought: None };
        // A version that failed is still the one to wait for.
        if desk.failed.as_ref().is_none_or(|failed| failed.sought.is_none()) {
            desk.failed = Some(failed.clone());
            self.meter.fails(true);
        }
        self.told(&failed)
    }

    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server for Hosted {
    fn ready(&self) -> BoxFuture<'_, Result<()>> {
        async move {
            if self.current.load().is_some() {
                return Ok(());
            }
            let _counted = self.visit();
            self.load().await.map(drop).map_err(discreet)
        }
        .boxed()
    }

    fn enter(&self) -> BoxFuture<'_, Result<Box<dyn Ready>>> {
        async move {
            let visit = self.visit().ok_or_else(|| Error::internal("a model is called that is gone"))?;
            let generation = match self.current.load_full() {
                Some(generation) => generation,
                None => self.load().await.map_err(discreet)?,
            };
            Ok(Box::new(Met { visit, generation }) as Box<dyn Ready>)
        }
        .boxed()
    }
}

impl Ready for Met {
    fn settings(&self) -> &Settings {
        self.generation.settings()
    }

    fn answer(self: Box<Self>, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>>> {
        async move {
            let Self { visit, generation } = *self;
            visit.0.grow(&generation);
            let response = generation.answer(request).await.map_err(discreet)?;
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
