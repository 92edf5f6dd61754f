//! The cache's folder on the disk: whole models under the hashes of their content, leases on them, and what is being written. Shared by
//! several processes through locks on files, which end with the process that holds them.

use std::{
    collections::HashSet,
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use flowgate_proto::v1::ErrorReason;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{download::Manifest, writer::unwritable};
use crate::{
    error::{Error, Result},
    mlflow::model_file::{self, ModelFile},
};

const MANIFEST: &str = "manifest.json";
const FILES: &str = "files";

/// The folder.
#[derive(Debug)]
pub(super) struct Shelf {
    models: PathBuf,
    index: PathBuf,
    fresh: PathBuf,
    /// The models whose content was compared with their hashes by this process.
    verified: Mutex<HashSet<String>>,
}

/// A model that stays on the disk as long as somebody has this.
#[derive(Debug)]
pub struct Lease {
    digest: String,
    folder: PathBuf,
    bytes: u64,
    /// Its lock is what holds the model.
    _lock: File,
}

/// A model on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The hash of its content.
    pub digest: String,
    /// How large it is.
    pub bytes: u64,
    /// When somebody last took it.
    pub used: SystemTime,
}

/// What a key stands for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Indexed {
    key: String,
    digest: String,
    /// What the store's list was then.
    pub(super) fingerprint: Option<String>,
}

/// A model that is being written; gone when this is dropped.
#[derive(Debug)]
pub(super) struct Fresh {
    folder: PathBuf,
    lock: PathBuf,
    _held: File,
}

impl Lease {
    /// The hash of the model's content.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The model's folder, with `MLmodel` in it. Nobody may write there.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How large it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the model says of itself. Blocks while the file is read.
    ///
    /// # Errors
    /// `GATEWAY_NOT_SERVING` when it says nothing that can be used.
    pub fn model_file(&self) -> Result<ModelFile> {
        let path = self.folder.join(ModelFile::NAME);
        let missing = |error| Error::new(ErrorReason::GatewayNotServing, "the model has no `MLmodel` that can be read").because(error);
        let length = fs::metadata(&path).map_err(missing)?.len();
        if length > u64::try_from(model_file::LONGEST).unwrap_or(u64::MAX) {
            return Err(Error::new(ErrorReason::GatewayNotServing, "the model's `MLmodel` is too long to be one"));
        }
        ModelFile::read(&fs::read(&path).map_err(missing)?)
    }
}

impl Fresh {
    /// Where the files go.
    pub(super) fn files(&self) -> PathBuf {
        self.folder.join(FILES)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        discard(&self.folder);
        discard(&self.lock);
    }
}

impl Shelf {
    /// The folder, made where it is not there; what killed processes left half-written is removed.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let part = |name| folder.join(name);
        let shelf = Self { models: part("models"), index: part("index"), fresh: part("fresh"), verified: Mutex::default() };
        for part in [&shelf.models, &shelf.index, &shelf.fresh] {
            fs::create_dir_all(part).map_err(|error| unwritable(part, &error))?;
        }
        shelf.clean().map_err(|error| unwritable(&shelf.fresh, &error))?;
        Ok(shelf)
    }

    /// What nobody alive writes any more.
    fn clean(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.fresh)? {
            let path = entry?.path();
            let lock = path.with_extension("lock");
            let is_alive = File::open(&lock).is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
            if !is_alive {
                tracing::info!(path = %path.display(), "removing what a download left that was killed");
                discard(&path);
            }
        }
        Ok(())
    }

    /// A place for a model that is to come.
    pub(super) fn begin(&self) -> Result<Fresh> {
        let folder = self.fresh.join(Uuid::now_v7().to_string());
        let lock = folder.with_extension("lock");
        let made = File::create(&lock).and_then(|held| {
            held.lock()?;
            fs::create_dir_all(folder.join(FILES))?;
            Ok(held)
        });
        match made {
            Ok(held) => Ok(Fresh { folder, lock, _held: held }),
            Err(error) => {
                discard(&lock);
                Err(unwritable(&self.fresh, &error))
            }
        }
    }

    /// Makes a model that was written whole visible, or takes the one that is there with the same content.
    pub(super) fn put(&self, fresh: &Fresh, manifest: &Manifest) -> Result<Lease> {
        let digest = manifest.digest();
        let place = self.models.join(&digest);
        let failed = |error: io::Error| unwritable(&place, &error);
        let text = serde_json::to_vec(manifest).map_err(|error| failed(error.into()))?;
        fs::write(fresh.folder.join(MANIFEST), text).map_err(failed)?;
        for _ in 0..2 {
            let moved = fs::rename(&fresh.folder, &place);
            if moved.is_ok() {
                self.verified().insert(digest.clone());
            }
            // It may be there already, be damaged, and then be gone.
            if let Some(lease) = self.lease(&digest) {
                return Ok(lease);
            }
            moved.map_err(failed)?;
        }
        Err(failed(io::Error::other("the model went away at once")))
    }

    /// A model that is there, whole and as it was written. One that is damaged is removed.
    pub(super) fn lease(&self, digest: &str) -> Option<Lease> {
        let place = self.models.join(digest);
        let path = place.join(MANIFEST);
        let lock = File::open(&path).ok()?;
        // Whoever removes it holds it alone, and not for long.
        lock.lock_shared().ok()?;
        if lock.metadata().ok()?.ino() != fs::metadata(&path).ok()?.ino() {
            return None;
        }
        let in_full = !self.verified().contains(digest);
        match check(&place, digest, in_full) {
            Ok(bytes) => {
                self.verified().insert(digest.to_owned());
                if let Err(error) = lock.set_modified(SystemTime::now()) {
                    tracing::debug!(%error, "when a model was last used cannot be noted");
                }
                Some(Lease { digest: digest.to_owned(), folder: place.join(FILES), bytes, _lock: lock })
            }
            Err(error) => {
                tracing::warn!(digest, %error, "a model in the cache is damaged; it is removed");
                drop(lock);
                self.remove(digest);
                None
            }
        }
    }

    /// What a key stood for last.
    pub(super) fn indexed(&self, key: &str) -> Option<Indexed> {
        let indexed: Indexed = serde_json::from_slice(&fs::read(self.entry(key)).ok()?).ok()?;
        (indexed.key == key).then_some(indexed)
    }

    /// The model that a key stood for last, if it is there.
    pub(super) fn by_key(&self, key: &str) -> Option<Lease> {
        self.lease(&self.indexed(key)?.digest)
    }

    /// Keeps what a key stands for. When that fails, the model is brought again some day.
    pub(super) fn keep(&self, key: &str, lease: &Lease, fingerprint: Option<String>) {
        let indexed = Indexed { key: key.to_owned(), digest: lease.digest.clone(), fingerprint };
        let fresh = self.fresh.join(format!("{}.json", Uuid::now_v7()));
        let written = File::create(&fresh).and_then(|mut file| {
            file.write_all(&serde_json::to_vec(&indexed)?)?;
            fs::rename(&fresh, self.entry(key))
        });
        if let Err(error) = written {
            tracing::warn!(%error, "what a model's address stands for cannot be kept");
            discard(&fresh);
        }
    }

    /// All models, those first that nobody took for longest.
    pub(super) fn held(&self) -> Vec<Held> {
        let Ok(entries) = fs::read_dir(&self.models) else { return Vec::new() };
        let mut held: Vec<Held> = entries
            .filter_map(|entry| {
                let place = entry.ok()?.path();
                let manifest: Manifest = serde_json::from_slice(&fs::read(place.join(MANIFEST)).ok()?).ok()?;
                let used = fs::metadata(place.join(MANIFEST)).and_then(|facts| facts.modified()).ok()?;
                Some(Held { digest: place.file_name()?.to_str()?.to_owned(), bytes: manifest.bytes(), used })
            })
            .collect();
        held.sort_by_key(|model| model.used);
        held
    }

    /// Removes models that nobody uses until all that is left and `bytes` more are within a budget; tells what is in the way otherwise.
    pub(super) fn make_room(&self, bytes: u64, budget: u64) -> Result<(), u64> {
        let held = self.held();
        let mut total: u64 = held.iter().map(|model| model.bytes).sum();
        for model in &held {
            if total.saturating_add(bytes) <= budget {
                break;
            }
            if self.remove(&model.digest) {
                tracing::info!(digest = model.digest, bytes = model.bytes, "removed a model from the cache to make room");
                total -= model.bytes;
            }
        }
        if total.saturating_add(bytes) <= budget { Ok(()) } else { Err(total) }
    }

    /// Removes a model, unless somebody uses it.
    fn remove(&self, digest: &str) -> bool {
        let place = self.models.join(digest);
        let Ok(lock) = File::open(place.join(MANIFEST)) else { return false };
        if lock.try_lock().is_err() {
            return false;
        }
        // At once for others, however long its files take.
        let gone = self.fresh.join(Uuid::now_v7().to_string());
        let moved = fs::rename(&place, &gone);
        self.verified().remove(digest);
        if let Err(error) = &moved {
            tracing::warn!(%error, digest, "a model cannot be removed from the cache");
        }
        discard(&gone);
        moved.is_ok()
    }

    fn entry(&self, key: &str) -> PathBuf {
        self.index.join(format!("{}.json", blake3::hash(key.as_bytes()).to_hex()))
    }

    fn verified(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a model is what its name says; its size. In full, every byte is read: nothing is forced to the disk when it is written.
fn check(place: &Path, digest: &str, in_full: bool) -> io::Result<u64> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let manifest: Manifest = serde_json::from_slice(&fs::read(place.join(MANIFEST))?)?;
    if manifest.digest() != digest {
        return Err(damaged("its manifest is another one's"));
    }
    for file in &manifest.files {
        let path = file.path.within(&place.join(FILES));
        if fs::symlink_metadata(&path)?.len() != file.size {
            return Err(damaged(&format!("{} has another size", file.path)));
        }
        if in_full {
            let mut hasher = blake3::Hasher::new();
            io::copy(&mut File::open(&path)?, &mut hasher)?;
            if hasher.finalize().to_hex().as_str() != file.hash {
                return Err(damaged(&format!("{} has other content", file.path)));
            }
        }
    }
    Ok(manifest.bytes())
}

/// Removes a file or a folder that may be gone.
fn discard(path: &Path) {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a leftover of the models' cache cannot be removed");
    }
}
