//! What each reference meant last, in a small file: models start by it when the registry is away.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flowgate_proto::v1::ErrorReason;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Reach, RegisteredModel, Registry, Resolved};
use crate::{
    config::ModelUri,
    error::{Error, Result},
};

/// How large the file may be: a few hundred bytes for each reference.
const MOST: u64 = 16 << 20;
/// How long a call waits for a registry that does not answer, where its last word is known.
const ENOUGH: Duration = Duration::from_secs(3);
/// How long a look-up may take in all, however many questions and tries it is made of.
const LONGEST: Duration = Duration::from_secs(15);
/// How long a registry that knows nothing of a reference may take to say why.
const COURTESY: Duration = Duration::from_secs(1);
/// How long the registry may take to say which models there are.
const LISTING: Duration = Duration::from_secs(5);

/// What each reference meant last. Shared by all who ask.
#[derive(Debug)]
pub struct Memory {
    path: PathBuf,
    known: Mutex<BTreeMap<String, Resolved>>,
    reach: Reach,
}

impl Memory {
    /// What the file holds; nothing when it is not there, or damaged, which is logged.
    pub fn open(path: &Path, reach: Reach) -> Self {
        let known = match read(path) {
            Ok(known) => known,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the last versions of models cannot be read; they are asked for anew");
                BTreeMap::new()
            }
        };
        Self { path: path.to_owned(), known: Mutex::new(known), reach }
    }

    /// What a reference meant last.
    pub fn recall(&self, uri: &ModelUri) -> Option<Resolved> {
        self.lock().get(&uri.to_string()).cloned()
    }

    /// Keeps what a reference means. A file that cannot be written costs only the next cold start, so that it is logged and no error.
    pub fn keep(&self, resolved: &Resolved) {
        // No registry was asked, and its query may be a secret.
        if matches!(resolved.uri, ModelUri::Stored(_)) {
            return;
        }
        let mut known = self.lock();
        let key = resolved.uri.to_string();
        if known.get(&key) == Some(resolved) {
            return;
        }
        known.insert(key, resolved.clone());
        if let Err(error) = write(&self.path, &*known) {
            tracing::warn!(path = %self.path.display(), %error, "the last versions of models cannot be kept");
        }
    }

    /// What a reference means now, or meant last when the registry is away; tells which. When a call waits for it and its last meaning is
    /// known, the registry must be quick. Blocks for as long as a small file is written.
    ///
    /// # Errors
    /// As [`Registry::resolve`].
    pub async fn resolve(&self, registry: &Registry, uri: &ModelUri, is_awaited: bool) -> Result<(Resolved, bool)> {
        if let ModelUri::Stored(_) = uri {
            // Nobody is asked.
            return Ok((registry.resolve(uri).await?, true));
        }
        let is_known = self.recall(uri).is_some();
        let most = if is_awaited && is_known { ENOUGH } else { LONGEST };
        let until = Instant::now() + most;
        match self.within(most, registry, registry.resolve(uri)).await {
            Ok(resolved) => {
                self.keep(&resolved);
                Ok((resolved, true))
            }
            // That is its word, whatever becomes of further questions. What was found once is not misspelt.
            Err(error) if error.reason() == ErrorReason::ProviderNotFound => {
                let explained = registry.explained(uri, error.clone(), !is_known);
                Err(timeout_at(until.min(Instant::now() + COURTESY), explained).await.unwrap_or(error))
            }
            Err(error) if is_away(&error) => match self.recall(uri) {
                Some(resolved) => Ok((resolved, false)),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// The registered models that a filter lets through.
    ///
    /// # Errors
    /// As [`Registry::models`].
    pub async fn models(&self, registry: &Registry, filter: Option<&str>) -> Result<Vec<RegisteredModel>> {
        self.within(LISTING, registry, registry.models(filter)).await
    }

    /// What the registry says in time; whether it says anything is noted.
    async fn within<T>(&self, most: Duration, registry: &Registry, asked: impl Future<Output = Result<T>>) -> Result<T> {
        let late = || Error::new(ErrorReason::ProviderTimeout, format!("{} gave no answer within {} s", registry.named(), most.as_secs()));
        let answer = timeout(most, asked).await.unwrap_or_else(|_| Err(late()));
        self.reach.note(&answer);
        answer
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Resolved>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An outage, and no word of the registry's on the model.
pub(super) fn is_away(error: &Error) -> bool {
    use ErrorReason as R;
    matches!(
        error.reason(),
        R::ProviderUnavailable | R::ProviderTimeout | R::ProviderFailed | R::ProviderBadAnswer | R::ProviderRateLimited
    )
}

/// What [`write`] wrote.
pub(in crate::mlflow) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    if fs::metadata(path)?.len() > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large"));
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Whole or not at all.
pub(in crate::mlflow) fn write(path: &Path, known: &impl Serialize) -> io::Result<()> {
    let fresh = path.with_extension(format!("{}.tmp", uuid::Uuid::now_v7()));
    // An address that a registry gives may hold a token.
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).and_then(|mut file| {
        file.write_all(&serde_json::to_vec_pretty(known)?)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    });
    if written.is_err() {
        drop(fs::remove_file(&fresh));
    }
    written
}
