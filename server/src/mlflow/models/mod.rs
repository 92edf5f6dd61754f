//! The models that Flowgate runs itself: which there are, and what becomes of each. What is defined alike is one model, however many
//! deployments name it, and outlives a reload that keeps it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicBool},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::{OnceCell, watch};

use crate::{
    config::{self, Environment, Models as Settings},
    error::{Error, Result},
    event::Task,
    task::Tasks,
    telemetry::models::Models as Meters,
    upstream::{Server, Servers, grants::Grants},
};

mod desk;
mod engine;
mod failure;
mod found;
mod generation;
mod ground;
mod hosted;
mod keep;
mod load;
mod room;
mod runtimes;
mod succession;

pub use self::{
    failure::{Again, Failure},
    found::Listing,
    generation::Generation,
    hosted::{Hosted, State},
};
use self::{
    found::Edition,
    ground::Ground,
    room::{Lack, Size},
    runtimes::Runtimes,
};
use super::artifacts::Report;

/// The models that a gateway runs.
#[derive(Clone, Debug)]
pub struct Models(Arc<Common>);

/// What all models share.
struct Common {
    settings: ArcSwap<Settings>,
    known: Mutex<HashMap<config::Model, Weak<Hosted>>>,
    /// What versions are for that are endpoints without being named.
    purposes: Mutex<HashMap<Edition, Task>>,
    ground: OnceCell<Arc<Ground>>,
    open: Open,
    meters: Meters,
    tasks: Tasks,
    /// Registered models and aliases whose names no endpoint can have, as they were told last.
    left_out: Mutex<Vec<String>>,
    /// Told when a model is loaded, let go, or fails.
    stirred: watch::Sender<()>,
    /// The registry has not yet said which models there are, though some are to be served.
    is_unlisted: AtomicBool,
}

/// How what models stand on is opened; it blocks for a moment.
type Open = Arc<dyn Fn(&Settings) -> Result<Ground> + Send + Sync>;

impl Models {
    /// No model yet; nothing is opened or asked until there is one.
    pub fn new(settings: Settings, environment: Arc<dyn Environment + Send + Sync>, grants: Arc<Grants>, meters: Meters) -> Self {
        let tasks = Tasks::default();
        let (spawning, counting) = (tasks.clone(), meters.clone());
        let open = move |settings: &Settings| {
            let start = Arc::new(Runtimes::new(settings, &*environment, &spawning));
            Ground::open(settings, &environment, &grants, start, (&spawning, &counting))
        };
        Self::with(settings, meters, (Arc::new(open), tasks))
    }

    fn with(settings: Settings, meters: Meters, (open, tasks): (Open, Tasks)) -> Self {
        let (settings, known, ground) = (ArcSwap::from_pointee(settings), Mutex::default(), OnceCell::new());
        let (purposes, left_out) = (Mutex::default(), Mutex::default());
        let (stirred, is_unlisted) = (watch::Sender::default(), AtomicBool::new(false));
        Self(Arc::new(Common { settings, known, purposes, ground, open, meters, tasks, left_out, stirred, is_unlisted }))
    }

    /// What holds for all of them.
    pub fn settings(&self) -> Arc<Settings> {
        self.0.settings()
    }

    /// Takes over what holds for all of them from now on; the tracking server and the cache's folder stay those of the start. Where there is
    /// less room now, models make way that nobody calls.
    pub fn configure(&self, settings: &Settings) {
        let first = self.settings();
        let kept = Settings { tracking_uri: first.tracking_uri.clone(), cache: first.cache.clone(), ..settings.clone() };
        self.0.settings.store(Arc::new(kept));
        if let Some(ground) = self.0.ground.get() {
            self.0.allow(ground);
        }
    }

    /// The model of a definition, which begins to live now if it is new.
    pub fn hosted(&self, model: &config::Model) -> Arc<Hosted> {
        let mut known = self.0.known();
        if let Some(hosted) = known.get(model).and_then(Weak::upgrade) {
            return hosted;
        }
        known.retain(|_, hosted| hosted.strong_count() > 0);
        let hosted = Hosted::new(model.clone(), Arc::clone(&self.0));
        known.insert(model.clone(), Arc::downgrade(&hosted));
        hosted
    }

    /// The model of a definition, if it lives.
    pub fn known(&self, model: &config::Model) -> Option<Arc<Hosted>> {
        self.0.known().get(model).and_then(Weak::upgrade)
    }

    /// All models there are, by name.
    pub fn all(&self) -> Vec<Arc<Hosted>> {
        self.0.all()
    }

    /// How far downloads are.
    pub fn downloads(&self) -> Vec<Report> {
        self.0.ground.get().map(|ground| ground.downloads()).unwrap_or_default()
    }

    /// Opens what they stand on, which else the first of them does that is asked for.
    ///
    /// # Errors
    /// What keeps all of them from being loaded.
    pub async fn open(&self) -> Result<()> {
        self.0.ground().await.map(drop)
    }

    /// Hears of models that are loaded, let go, or fail.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.stirred.subscribe()
    }

    /// Waits until the first loads are over of the models that are to be loaded without a call, well or not.
    pub async fn first_loads(&self) {
        let mut changes = self.changes();
        while !self.all().iter().all(|hosted| hosted.is_settled()) {
            // Who tells of changes lives as long as the models.
            drop(changes.changed().await);
        }
    }
}

#[cfg(test)]
impl Default for Models {
    fn default() -> Self {
        let environment: Arc<dyn Environment + Send + Sync> = Arc::new(config::Process);
        let grants = Arc::new(Grants::new(Arc::clone(&environment), Tasks::default()));
        Self::new(Settings::default(), environment, grants, crate::telemetry::metrics::Metrics::new().models().clone())
    }
}

impl Servers for Models {
    fn of(&self, model: &config::Model) -> Result<Arc<dyn Server>> {
        Ok(self.hosted(model))
    }
}

impl Common {
    /// What models stand on, opened once; after a failure it is tried again.
    async fn ground(&self) -> Result<Arc<Ground>> {
        if let Some(ground) = self.ground.get() {
            return Ok(Arc::clone(ground));
        }
        let open = || async {
            let (open, settings) = (Arc::clone(&self.open), self.settings());
            let opened = tokio::task::spawn_blocking(move || open(&settings)).await;
            opened.unwrap_or_else(|error| Err(Error::internal("the models' cache was not opened").because(error))).map(Arc::new)
        };
        let ground = self.ground.get_or_try_init(open).await?;
        // The settings may have changed while it was opened.
        self.allow(ground);
        Ok(Arc::clone(ground))
    }

    fn allow(&self, ground: &Ground) {
        ground.allow(&self.settings(), |lack| self.spare(lack));
    }

    /// Has models make way while those that are loaded take more than they may.
    fn settle(&self) {
        if let Some(ground) = self.ground.get() {
            ground.room.settle(|lack| self.spare(lack));
        }
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// A model was loaded or let go, or has failed.
    fn stir(&self) {
        self.stirred.send_replace(());
    }

    /// How often it is looked what references mean.
    fn refresh(&self) -> Duration {
        self.settings.load().refresh
    }

    /// Has the model make way that was called least recently, of those that may and that take what is lacking; not the one that has this
    /// very name. Tells how much that makes free.
    fn evict(&self, lack: Lack, but: Option<&Arc<str>>) -> Option<Size> {
        let idle = self.all().into_iter().filter(|hosted| but.is_none_or(|but| !Arc::ptr_eq(hosted.name(), but)));
        let helps = |size: Size| match lack {
            Lack::Processes => size.processes > 0,
            Lack::Bytes => size.bytes > 0,
        };
        let free = idle.filter_map(|hosted| Some((hosted.idle_since()?, hosted.size()?, hosted))).filter(|(_, size, _)| helps(*size));
        let (_, size, oldest) = free.min_by_key(|(since, ..)| *since)?;
        oldest.let_go("others need its room").then_some(size)
    }

    /// As [`Common::evict`], unless that is the only one that is loaded: it would be loaded again by its next call, and nobody has won.
    fn spare(&self, lack: Lack) -> Option<Size> {
        let loaded = self.all().iter().filter(|hosted| hosted.current().is_some()).count();
        (loaded > 1).then(|| self.evict(lack, None)).flatten()
    }

    fn all(&self) -> Vec<Arc<Hosted>> {
        let mut all: Vec<_> = self.known().values().filter_map(Weak::upgrade).collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    fn known(&self) -> MutexGuard<'_, HashMap<config::Model, Weak<Hosted>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Models").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
