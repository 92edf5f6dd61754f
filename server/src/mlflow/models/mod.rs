//! The models that Flowgate runs itself: which there are, and what becomes of each. What is defined alike is one model, however many
//! deployments name it, and outlives a reload that keeps it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::sync::OnceCell;

use crate::{
    config::{self, Environment, Models as Settings},
    error::{Error, Result},
    event::Task,
    task::Tasks,
    telemetry::models::Models as Meters,
    upstream::{Server, Servers, grants::Grants},
};

mod engine;
mod found;
mod generation;
mod ground;
mod hosted;
mod keep;
mod load;
mod room;
mod runtimes;

use self::{found::Edition, ground::Ground, runtimes::Runtimes};
pub use self::{
    generation::Generation,
    hosted::{Hosted, State},
};
use super::{artifacts::Report, registry::RegisteredModel};

/// The models that a gateway runs.
#[derive(Clone, Debug)]
pub struct Models(Arc<Common>);

/// What all models share.
struct Common {
    settings: Settings,
    known: Mutex<HashMap<config::Model, Weak<Hosted>>>,
    /// What versions are for that are endpoints without being named.
    purposes: Mutex<HashMap<Edition, Task>>,
    ground: OnceCell<Arc<Ground>>,
    open: Open,
    meters: Meters,
    tasks: Tasks,
    /// Registered models and aliases whose names no endpoint can have, as they were told last.
    left_out: Mutex<Vec<String>>,
}

/// How what models stand on is opened; it blocks for a moment.
type Open = Arc<dyn Fn() -> Result<Ground> + Send + Sync>;

impl Models {
    /// No model yet; nothing is opened or asked until there is one.
    pub fn new(settings: Settings, environment: Arc<dyn Environment + Send + Sync>, grants: Arc<Grants>, meters: Meters) -> Self {
        let tasks = Tasks::default();
        let (own, spawning) = (settings.clone(), tasks.clone());
        let open = move || {
            let start = Arc::new(Runtimes::new(&own, &*environment, &spawning));
            Ground::open(&own, &environment, &grants, start, &spawning)
        };
        Self::with(settings, meters, (Arc::new(open), tasks))
    }

    fn with(settings: Settings, meters: Meters, (open, tasks): (Open, Tasks)) -> Self {
        let (known, purposes, ground, left_out) = (Mutex::default(), Mutex::default(), OnceCell::new(), Mutex::default());
        Self(Arc::new(Common { settings, known, purposes, ground, open, meters, tasks, left_out }))
    }

    /// What holds for all of them.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
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

    /// The registered models that a filter lets through.
    ///
    /// # Errors
    /// What the registry says.
    pub async fn registered(&self, filter: Option<&str>) -> Result<Vec<RegisteredModel>> {
        self.0.ground().await?.registered(filter).await
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
        let open = || async {
            let open = Arc::clone(&self.open);
            let opened = tokio::task::spawn_blocking(move || open()).await;
            opened.unwrap_or_else(|error| Err(Error::internal("the models' cache was not opened").because(error))).map(Arc::new)
        };
        self.ground.get_or_try_init(open).await.cloned()
    }

    /// Has the model make way that was called least recently, if any may; not the one of this name.
    fn evict(&self, but: &Arc<str>) -> bool {
        let idle = self.all().into_iter().filter(|hosted| !Arc::ptr_eq(hosted.name(), but));
        let oldest = idle.filter_map(|hosted| Some((hosted.idle_since()?, hosted))).min_by_key(|(since, _)| *since);
        oldest.is_some_and(|(_, hosted)| hosted.unload())
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
