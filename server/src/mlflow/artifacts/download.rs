//! One model's files, from a store into a folder: each taken up again where it broke off, and checked. Nobody sees the folder until it is whole.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use flowgate_proto::v1::ErrorReason;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{
    cache::Room,
    progress::Progress,
    source::{Listed, MOST_FILES, Opened, Source, bad_answer, too_many},
    writer::{Create, Writer, Written, unwritable},
};
use crate::{
    config::RelativePath,
    error::{Again, Error, Result},
    mlflow::model_file::ModelFile,
};

/// How many files are read at once.
const AT_ONCE: usize = 4;
/// How often in a row a file may bring nothing, how often it may break off at all, and how long it rests then, about.
const FRUITLESS: u32 = 4;
const BROKEN: u32 = 100;
const PAUSE: Duration = Duration::from_millis(200);
/// How much room a file takes at once whose size nobody tells.
const STEP: u64 = 1 << 20;

/// What a model consists of; its hash is the model's name in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// By their paths.
    pub(super) files: Vec<Entry>,
}

/// One file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) path: RelativePath,
    pub(super) size: u64,
    /// Of BLAKE3, in hex.
    pub(super) hash: String,
}

/// A download under way.
pub(super) struct Download<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) folder: &'a Path,
    pub(super) create: &'a Create,
    pub(super) progress: &'a Progress,
    pub(super) room: &'a Room,
}

impl Manifest {
    /// How large all files are together.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// The name of these files.
    pub(super) fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for Entry { path, size, hash } in &self.files {
            hasher.update(format!("{size} {hash} {path}\n").as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// The files of a model, in order, once each, `MLmodel` among them.
pub(super) async fn list(source: &dyn Source) -> Result<Vec<Listed>> {
    let mut files = source.list().await?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    if files.len() > MOST_FILES {
        return Err(too_many());
    }
    if files.windows(2).any(|pair| pair.first().map(|file| &file.path) == pair.last().map(|file| &file.path)) {
        return Err(bad_answer("the store lists a file twice"));
    }
    if !files.iter().any(|file| file.path.as_str() == ModelFile::NAME) {
        let message = "there is no model: the folder has no file `MLmodel`; check the model's address and path";
        return Err(Error::new(ErrorReason::ProviderNotFound, message));
    }
    Ok(files)
}

impl Download<'_> {
    /// Brings all files.
    pub(super) async fn run(&self, files: &[Listed]) -> Result<Manifest> {
        let sizes: Option<u64> = files.iter().map(|file| file.size).sum();
        self.progress.begin(files.len() as u64, sizes);
        // What no list tells is taken as it comes.
        if let Some(bytes) = sizes {
            self.room.take(bytes).await?;
        }
        let folders: BTreeSet<PathBuf> = files.iter().filter_map(|file| Some(file.path.within(self.folder).parent()?.to_owned())).collect();
        for folder in &folders {
            fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
        }
        let fetched: Vec<BoxFuture<'_, Result<Entry>>> = files.iter().map(|file| self.file(file, sizes.is_none()).boxed()).collect();
        let mut entries: Vec<Entry> = stream::iter(fetched).buffer_unordered(AT_ONCE).try_collect().await?;
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        self.progress.done();
        Ok(Manifest { files: entries })
    }

    /// One file, anew when it came damaged.
    async fn file(&self, file: &Listed, takes_room: bool) -> Result<Entry> {
        let mut tries = 0;
        loop {
            let Written { size, hash, is_sound } = self.whole(file, takes_room).await?;
            if is_sound {
                self.progress.file_done();
                return Ok(Entry { path: file.path.clone(), size, hash: hash.to_hex().to_string() });
            }
            tries += 1;
            tracing::warn!(file = %file.path, "a file of a model does not have its checksum");
            self.progress.take_back(size);
            if tries == 2 {
                return Err(bad_answer(format!("file `{}` does not have the checksum that the store names; upload it anew", file.path)));
            }
        }
    }

    /// One file, whole, however often it breaks off.
    async fn whole(&self, file: &Listed, takes_room: bool) -> Result<Written> {
        let mut writer = Writer::new(self.create, file.path.within(self.folder));
        let (mut begun, mut fruitless, mut broken) = (Begun { mark: None, room: if takes_room { 0 } else { u64::MAX } }, 0, 0);
        loop {
            let before = writer.written();
            let Err(error) = self.rest(file, &mut writer, &mut begun).await else { return writer.finish().await };
            fruitless = if writer.written() > before { 1 } else { fruitless + 1 };
            broken += 1;
            if error.again() != Again::Anywhere || fruitless >= FRUITLESS || broken >= BROKEN {
                self.progress.take_back(writer.written());
                return Err(error);
            }
            tracing::warn!(file = %file.path, at = writer.written(), ?error, "a file of a model broke off; it is taken up again");
            let factor = 2_f64.powi(fruitless.cast_signed());
            sleep(PAUSE.mul_f64(factor * (0.5 + fastrand::f64()))).await;
        }
    }

    /// What is missing of a file, or all of it when the store has no parts, or has something else now.
    async fn rest(&self, file: &Listed, writer: &mut Writer, begun: &mut Begun) -> Result<()> {
        let asked = writer.written();
        let mut opened = self.source.open(file, asked).await?;
        // Without a mark nobody knows whether it is still the same content.
        if opened.from > 0 && (begun.mark.is_none() || opened.mark != begun.mark) {
            opened = self.source.open(file, 0).await?;
        }
        let Opened { mut body, from, size, mark: now, sums } = opened;
        let size = expected_size(file, size)?;
        if let (Some(listed), Some(now)) = (&file.mark, &now)
            && listed.trim_start_matches("W/") != now.trim_start_matches("W/")
        {
            return Err(changed(file));
        }
        if from == 0 {
            self.progress.take_back(writer.written());
            writer.start(sums).await?;
            begun.mark = now;
            self.claim(begun, size.unwrap_or_default()).await?;
        }
        while let Some(piece) = body.next().await {
            let piece = piece?;
            let written = writer.written() + piece.len() as u64;
            if size.is_some_and(|size| written > size) {
                return Err(larger(file));
            }
            if written > begun.room {
                self.claim(begun, written.next_multiple_of(STEP)).await?;
            }
            self.progress.add(piece.len() as u64);
            writer.write(piece).await?;
        }
        match size {
            Some(size) if writer.written() < size => {
                let message = format!("file `{}` ended after {} of {size} bytes", file.path, writer.written());
                Err(Error::new(ErrorReason::ProviderStreamCut, message))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Takes room for so many bytes of one file; what it has already is part of them, however often the file is read anew.
    async fn claim(&self, begun: &mut Begun, bytes: u64) -> Result<()> {
        if bytes > begun.room {
            let more = bytes - begun.room;
            begun.room = bytes;
            self.room.take(more).await?;
        }
        Ok(())
    }
}

/// A file that is being read.
struct Begun {
    /// Which content it is.
    mark: Option<String>,
    /// How many bytes it has room for.
    room: u64,
}

/// What the list says, and what the answer says, where both speak.
fn expected_size(file: &Listed, size: Option<u64>) -> Result<Option<u64>> {
    match (file.size, size) {
        (Some(listed), Some(size)) if listed != size => {
            let message = format!("file `{}` has {size} bytes, and {listed} in the store's list; upload it anew", file.path);
            Err(Error::new(ErrorReason::GatewayNotServing, message))
        }
        (listed, size) => Ok(listed.or(size)),
    }
}

fn changed(file: &Listed) -> Error {
    let message = format!("file `{}` has changed since the store listed it: somebody writes the model; try again", file.path);
    Error::new(ErrorReason::GatewayNotServing, message)
}

fn larger(file: &Listed) -> Error {
    let message = format!("file `{}` is larger than the store says; upload it anew", file.path);
    Error::new(ErrorReason::GatewayNotServing, message)
}
