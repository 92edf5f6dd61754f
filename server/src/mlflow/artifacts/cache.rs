//! The models that are on this machine: each brought once however many ask, kept within a budget, never removed while in use.

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use flowgate_proto::v1::ErrorReason;
use futures_util::{FutureExt as _, future::Shared};
use http::{HeaderMap, StatusCode};
use tokio::sync::oneshot;

use super::{
    Held, Lease, Report, Stores, Wanted,
    download::{self, Download},
    progress::Progress,
    shelf::Shelf,
    source::{Listed, Opened, bad_name},
    writer::{Create, on_disk},
};
use crate::{
    error::{Error, Result},
    mlflow::model_file::{self, ModelFile},
    task::Tasks,
    upstream::control::Answer,
};

/// One model under way, for all who wait for it.
type Flight = Shared<oneshot::Receiver<Result<Arc<Lease>>>>;

/// The models that are on this machine.
pub struct Cache {
    shelf: Arc<Shelf>,
    stores: Stores,
    /// How many bytes there may be.
    budget: AtomicU64,
    create: Create,
    tasks: Tasks,
    desk: Mutex<Desk>,
}

/// What is under way.
#[derive(Default)]
struct Desk {
    flights: HashMap<String, Flight>,
    progress: Vec<Weak<Progress>>,
    /// How many bytes are coming.
    coming: u64,
}

/// What one download may fill; given back when it is dropped.
pub(super) struct Room {
    cache: Arc<Cache>,
    taken: AtomicU64,
}

impl Wanted {
    /// What it is known by.
    fn key(&self) -> String {
        self.identity.clone().unwrap_or_else(|| self.location.to_string())
    }
}

impl Cache {
    /// A cache in a folder, of at most `budget` bytes. What killed processes left is removed; blocks for that long.
    ///
    /// # Errors
    /// `GATEWAY_NOT_SERVING` when the folder cannot be written.
    pub fn open(folder: &Path, budget: u64, stores: Stores, tasks: Tasks) -> Result<Arc<Self>> {
        Self::with(folder, budget, stores, (tasks, on_disk()))
    }

    /// With a disk of the caller's.
    pub(super) fn with(folder: &Path, budget: u64, stores: Stores, (tasks, create): (Tasks, Create)) -> Result<Arc<Self>> {
        let shelf = Arc::new(Shelf::open(folder)?);
        Ok(Arc::new(Self { shelf, stores, budget: AtomicU64::new(budget), create, tasks, desk: Mutex::default() }))
    }

    /// A model's files, brought where they are not there. Dropping the future stops nothing that others may wait for. Files without an
    /// identity are looked up again each time, and brought again where they changed; when their store is away, the last ones are taken.
    /// Must be called within a runtime.
    ///
    /// # Errors
    /// `PROVIDER_NOT_FOUND` when there is no model; `GATEWAY_NOT_SERVING` when it cannot be kept, or is not sound; `GATEWAY_OVERLOADED` when
    /// the budget is full of models in use; else what the store has.
    pub async fn get(self: &Arc<Self>, wanted: &Wanted) -> Result<Arc<Lease>> {
        let flight = self.join(wanted);
        flight.await.unwrap_or_else(|_| Err(Error::internal("bringing a model was given up; try again")))
    }

    /// What a model says of itself, of which nothing else is brought.
    ///
    /// # Errors
    /// What the store says; `GATEWAY_NOT_SERVING` when it says nothing that can be used.
    pub async fn model_file(&self, wanted: &Wanted) -> Result<ModelFile> {
        let known = if wanted.identity.is_some() { self.by_key(&wanted.key()).await? } else { None };
        if let Some(lease) = known {
            return blocking(move || lease.model_file()).await;
        }
        let path = ModelFile::NAME.parse().map_err(|error| bad_name(&error))?;
        let source = self.stores.source(&wanted.location)?;
        let Opened { body, .. } = source.open(&Listed { path, size: None, mark: None }, 0).await?;
        let (status, headers) = (StatusCode::OK, HeaderMap::new());
        ModelFile::read(&Answer { status, headers, body }.whole(model_file::LONGEST).await?)
    }

    /// Sets how many bytes there may be, from the next download on.
    pub fn allow(&self, budget: u64) {
        self.budget.store(budget, Relaxed);
    }

    /// How far the downloads under way are.
    pub fn progress(&self) -> Vec<Report> {
        self.desk().progress.iter().filter_map(Weak::upgrade).map(|progress| progress.report()).collect()
    }

    /// The models that are there, those first that nobody took for longest. Blocks while folders are read.
    pub fn held(&self) -> Vec<Held> {
        self.shelf.held()
    }

    fn join(self: &Arc<Self>, wanted: &Wanted) -> Flight {
        let key = wanted.key();
        let mut desk = self.desk();
        // One that is done and still there has panicked.
        if let Some(flight) = desk.flights.get(&key).filter(|flight| flight.peek().is_none()) {
            return flight.clone();
        }
        let (done, flight) = oneshot::channel();
        let flight = flight.shared();
        desk.flights.insert(key.clone(), flight.clone());
        drop(desk);
        let (cache, wanted) = (Arc::clone(self), wanted.clone());
        self.tasks.spawn(async move {
            let brought = cache.find(&wanted).await.map(Arc::new);
            cache.desk().flights.remove(&key);
            // Whoever asked may be gone.
            drop(done.send(brought));
        });
        flight
    }

    async fn find(self: &Arc<Self>, wanted: &Wanted) -> Result<Lease> {
        let key = wanted.key();
        if wanted.identity.is_some()
            && let Some(lease) = self.by_key(&key).await?
        {
            return Ok(lease);
        }
        // Held meanwhile, or it would be what makes way for the new files.
        let last = if wanted.identity.is_none() { self.by_key(&key).await? } else { None };
        match (self.bring(wanted, &key).await, last) {
            (Err(error), Some(last)) if is_away(&error) => {
                tracing::warn!(model = wanted.name, ?error, "the store of a model is away; the last files are taken");
                Ok(last)
            }
            (Err(error), Some(last)) if error.reason() == ErrorReason::GatewayOverloaded => {
                tracing::info!(
                    model = wanted.name,
                    "the models' cache has no room for the last files beside the new ones; the last ones go first"
                );
                drop(last);
                self.bring(wanted, &key).await
            }
            (brought, _) => brought,
        }
    }

    async fn by_key(&self, key: &str) -> Result<Option<Lease>> {
        let (shelf, key) = (Arc::clone(&self.shelf), key.to_owned());
        blocking(move || Ok(shelf.by_key(&key))).await
    }

    async fn bring(self: &Arc<Self>, wanted: &Wanted, key: &str) -> Result<Lease> {
        let source = self.stores.source(&wanted.location)?;
        let files = download::list(&*source).await?;
        let fingerprint = fingerprint(&files);
        let (shelf, asked, seen) = (Arc::clone(&self.shelf), key.to_owned(), fingerprint.clone());
        let known = blocking(move || {
            let same = seen.is_some() && shelf.indexed(&asked).is_some_and(|indexed| indexed.fingerprint == seen);
            Ok(if same { shelf.by_key(&asked) } else { None })
        });
        if let Some(lease) = known.await? {
            return Ok(lease);
        }
        let progress = Arc::new(Progress::new(&wanted.name));
        {
            let mut desk = self.desk();
            desk.progress.retain(|progress| progress.strong_count() > 0);
            desk.progress.push(Arc::downgrade(&progress));
        }
        let room = Room { cache: Arc::clone(self), taken: AtomicU64::new(0) };
        let shelf = Arc::clone(&self.shelf);
        let fresh = blocking(move || shelf.begin()).await?;
        let folder = fresh.files();
        let download = Download { source: &*source, folder: &folder, create: &self.create, progress: &progress, room: &room };
        // Boxed, or the compiler does not see that it may cross threads.
        let manifest = download.run(&files).boxed().await;
        // What comes is there now, and counted so.
        drop(room);
        let (shelf, key) = (Arc::clone(&self.shelf), key.to_owned());
        blocking(move || {
            let lease = shelf.put(&fresh, &manifest?)?;
            shelf.keep(&key, &lease, fingerprint);
            Ok(lease)
        })
        .await
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// Takes room for bytes that come; models that nobody uses make way.
    pub(super) async fn take(&self, bytes: u64) -> Result<()> {
        self.taken.fetch_add(bytes, Relaxed);
        let coming = {
            let mut desk = self.cache.desk();
            desk.coming = desk.coming.saturating_add(bytes);
            desk.coming
        };
        let (shelf, budget) = (Arc::clone(&self.cache.shelf), self.cache.budget.load(Relaxed));
        let made = blocking(move || Ok(shelf.make_room(coming, budget))).await?;
        made.map_err(|in_use| {
            let needed = self.taken.load(Relaxed);
            if needed > budget {
                let message = format!("the model needs {needed} bytes, and the models' cache has {budget}; raise its budget, `mlflow.cache.max_bytes`");
                return Error::new(ErrorReason::GatewayNotServing, message);
            }
            let message = format!(
                "the model needs {needed} bytes, and of the {budget} of the models' cache {in_use} are in use and {coming} coming; raise its \
                 budget, `mlflow.cache.max_bytes`, or unload models"
            );
            Error::new(ErrorReason::GatewayOverloaded, message)
        })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let taken = self.taken.load(Relaxed);
        let mut desk = self.cache.desk();
        desk.coming = desk.coming.saturating_sub(taken);
    }
}

/// What changes when a list does; `None` where the list does not tell what changes.
fn fingerprint(files: &[Listed]) -> Option<String> {
    let mut hasher = blake3::Hasher::new();
    for Listed { path, size, mark } in files {
        hasher.update(format!("{path}\n{size:?}\n{}\n", mark.as_ref()?).as_bytes());
    }
    Some(hasher.finalize().to_hex().to_string())
}

fn is_away(error: &Error) -> bool {
    use ErrorReason as R;
    matches!(
        error.reason(),
        R::ProviderUnavailable | R::ProviderTimeout | R::ProviderFailed | R::ProviderStreamCut | R::ProviderRateLimited
    )
}

/// On a thread that may wait for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::internal("work on the models' cache was not done; try again").because(error)))
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("budget", &self.budget).finish_non_exhaustive()
    }
}
