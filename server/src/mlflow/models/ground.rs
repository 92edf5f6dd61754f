//! What all models stand on: the registry, the files, the memory of both, and room. Opened at the start where an endpoint of the file has a
//! model, else when the first one is asked for.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use flowgate_proto::v1::ErrorReason;

use super::{
    engine::Start,
    room::{Lack, Most, Room, Size},
};
use crate::{
    config::{Environment, ModelUri, Models as Settings},
    error::{Error, Result},
    mlflow::{
        artifacts::{Cache, Lease, Stores, Wanted},
        model_file::ModelFile,
        registry::{Memory, Reach, RegisteredModel, Registry, Resolved, Servers},
    },
    task::Tasks,
    telemetry::models::Models as Meters,
    upstream::{
        control::{self, ControlTls},
        grants::Grants,
    },
};

/// What all models stand on.
pub(super) struct Ground {
    registry: Registry,
    memory: Memory,
    /// The file of the registered models that were served last.
    pub(super) listed: PathBuf,
    cache: Arc<Cache>,
    pub(super) room: Arc<Room>,
    pub(super) start: Arc<dyn Start>,
}

impl Ground {
    /// Opens the cache's folder, which blocks for a moment.
    ///
    /// # Errors
    /// `GATEWAY_NOT_SERVING` when a server's address or the cache's folder is no good.
    pub(super) fn open(
        settings: &Settings,
        environment: &Arc<dyn Environment + Send + Sync>,
        grants: &Arc<Grants>,
        start: Arc<dyn Start>,
        (tasks, meters): (&Tasks, &Meters),
    ) -> Result<Self> {
        let servers = Arc::new(Servers::read(settings.tracking_uri.as_deref(), &**environment)?);
        let stores = Stores {
            tracking: control::fetch(&servers.tls)?,
            others: control::fetch(&ControlTls::default())?,
            servers,
            grants: Arc::clone(grants),
            environment: Arc::clone(environment),
        };
        Self::over(stores, settings, start, (tasks, meters))
    }

    /// Over these servers and stores.
    pub(super) fn over(stores: Stores, settings: &Settings, start: Arc<dyn Start>, (tasks, meters): (&Tasks, &Meters)) -> Result<Self> {
        let folder = folder(settings, &*stores.environment)?;
        Ok(Self {
            registry: Registry::new(Arc::clone(&stores.servers), Arc::clone(&stores.tracking)),
            // First: it makes the folder.
            cache: Cache::open(&folder, settings.cache_bytes, stores, tasks.clone())?,
            memory: Memory::open(&folder.join("resolved.json"), Reach::new(meters.registry())),
            listed: folder.join("served.json"),
            room: Room::new(Most::from(settings)),
            start,
        })
    }

    /// Takes over what may change while models are loaded. `evict` makes room where there is less now.
    pub(super) fn allow(&self, settings: &Settings, evict: impl Fn(Lack) -> Option<Size>) {
        self.cache.allow(settings.cache_bytes);
        self.room.allow(Most::from(settings), evict);
    }

    /// What a reference means now, or meant last while the registry is away; tells which. Sooner when a call waits for it.
    ///
    /// # Errors
    /// What the registry says.
    pub(super) async fn resolve(&self, uri: &ModelUri, is_awaited: bool) -> Result<(Resolved, bool)> {
        self.memory.resolve(&self.registry, uri, is_awaited).await
    }

    /// The files of a model.
    ///
    /// # Errors
    /// What the store says, or the disk.
    pub(super) async fn files(&self, resolved: &Resolved) -> Result<Arc<Lease>> {
        self.cache.get(&Wanted::from(resolved)).await
    }

    /// What a version says of itself; its files stay where they are. It is not kept as what the reference means.
    ///
    /// # Errors
    /// What the registry says, or the store.
    pub(super) async fn said(&self, uri: &ModelUri) -> Result<ModelFile> {
        self.cache.model_file(&Wanted::from(&self.registry.resolve(uri).await?)).await
    }

    /// The registered models that a filter lets through.
    ///
    /// # Errors
    /// What the registry says.
    pub(super) async fn registered(&self, filter: Option<&str>) -> Result<Vec<RegisteredModel>> {
        self.memory.models(&self.registry, filter).await
    }

    /// How far downloads are.
    pub(super) fn downloads(&self) -> Vec<crate::mlflow::artifacts::Report> {
        self.cache.progress()
    }
}

impl From<&Settings> for Most {
    fn from(settings: &Settings) -> Self {
        Self { bytes: settings.memory, processes: settings.max_processes }
    }
}

/// The cache's folder: the one that is set, or one that belongs to the user.
fn folder(settings: &Settings, environment: &dyn Environment) -> Result<PathBuf> {
    if let Some(folder) = &settings.cache {
        return std::path::absolute(folder).map_err(|error| no_folder(folder, &error));
    }
    let variable = |name| environment.variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = variable("XDG_CACHE_HOME").filter(|folder| folder.is_absolute()).or_else(|| Some(variable("HOME")?.join(".cache")));
    Ok(user.unwrap_or_else(std::env::temp_dir).join("flowgate").join("models"))
}

fn no_folder(folder: &Path, error: &io::Error) -> Error {
    let message = format!("`mlflow.cache.folder`, `{}`, is no folder: {error}", folder.display());
    Error::new(ErrorReason::GatewayNotServing, message)
}

impl fmt::Debug for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ground").field("room", &self.room).finish_non_exhaustive()
    }
}
