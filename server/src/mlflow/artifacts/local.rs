//! Files of a local folder.

use std::{
    fs,
    io::{self, SeekFrom},
    path::{Path, PathBuf},
};

use bytes::BytesMut;
use flowgate_proto::v1::ErrorReason;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::source::{Listed, MOST_FILES, MOST_FOLDERS, Opened, Source, Sums, bad_name, too_many};
use crate::{
    config::RelativePath,
    error::{Error, Result},
};

/// How much is read at once.
const PIECE: usize = 1 << 20;

/// A folder on this machine.
pub(super) struct Local(pub(super) PathBuf);

impl Source for Local {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>>> {
        let folder = self.0.clone();
        async move {
            let walked = tokio::task::spawn_blocking(move || walk(&folder)).await;
            walked.unwrap_or_else(|error| Err(Error::internal("the model's folder was not read to its end").because(error)))
        }
        .boxed()
    }

    fn open<'a>(&'a self, file: &'a Listed, from: u64) -> BoxFuture<'a, Result<Opened>> {
        async move {
            let path = file.path.within(&self.0);
            let failed = |error| unreadable(&path, &error);
            let mut open = tokio::fs::File::open(&path).await.map_err(failed)?;
            let facts = open.metadata().await.map_err(failed)?;
            open.seek(SeekFrom::Start(from)).await.map_err(failed)?;
            let body = stream::unfold(Some((open, path.clone())), |state| async {
                let (mut open, path) = state?;
                let mut piece = BytesMut::with_capacity(PIECE);
                match open.read_buf(&mut piece).await {
                    Ok(0) => None,
                    Ok(_) => Some((Ok(piece.freeze()), Some((open, path)))),
                    Err(error) => Some((Err(unreadable(&path, &error)), None)),
                }
            });
            Ok(Opened { body: body.boxed(), from, size: Some(facts.len()), mark: mark(&facts), sums: Sums::default() })
        }
        .boxed()
    }
}

/// All files; links are followed as long as they stay within the folder.
fn walk(folder: &Path) -> Result<Vec<Listed>> {
    let root = folder.canonicalize().map_err(|error| unreadable(folder, &error))?;
    let (mut found, mut folders, mut seen) = (Vec::new(), vec![None::<RelativePath>], 0);
    while let Some(below) = folders.pop() {
        seen += 1;
        let here = below.as_ref().map_or_else(|| root.clone(), |below| below.within(&root));
        for entry in fs::read_dir(&here).map_err(|error| unreadable(&here, &error))? {
            let place = entry.map_err(|error| unreadable(&here, &error))?.path();
            let name = place.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let name: RelativePath = name.parse().map_err(|error| bad_name(&error))?;
            let path = match &below {
                None => name,
                Some(below) => below.join(&name).map_err(|error| bad_name(&error))?,
            };
            let real = place.canonicalize().map_err(|error| unreadable(&place, &error))?;
            let facts = fs::metadata(&real).map_err(|error| unreadable(&place, &error))?;
            if !real.starts_with(&root) {
                return Err(not_taken(&place, "it is a link that leads out of the model's folder"));
            }
            if facts.is_dir() {
                folders.push(Some(path));
            } else if facts.is_file() {
                found.push(Listed { path, size: Some(facts.len()), mark: mark(&facts) });
            } else {
                return Err(not_taken(&place, "it is neither a file nor a folder"));
            }
            if found.len() > MOST_FILES || seen + folders.len() > MOST_FOLDERS {
                return Err(too_many());
            }
        }
    }
    Ok(found)
}

/// When it was changed, as exact as the file system knows.
fn mark(facts: &fs::Metadata) -> Option<String> {
    let since = facts.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(format!("{}.{:09} {}", since.as_secs(), since.subsec_nanos(), facts.len()))
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    let reason = if error.kind() == io::ErrorKind::NotFound { ErrorReason::ProviderNotFound } else { ErrorReason::GatewayNotServing };
    Error::new(reason, format!("cannot read `{}`: {error}", path.display()))
}

fn not_taken(path: &Path, why: &str) -> Error {
    Error::new(ErrorReason::GatewayNotServing, format!("`{}` is not taken: {why}", path.display()))
}
