//! One file being written and hashed, on a thread that may wait for the disk.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest;
use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use tokio::{sync::mpsc, task::JoinHandle};

use super::source::Sums;
use crate::error::{Error, Result};

/// How many pieces may wait for the disk.
const WAITING: usize = 8;

/// How files come to be; tests have disks that are full.
pub(super) type Create = Arc<dyn Fn(&Path) -> io::Result<Box<dyn Write + Send>> + Send + Sync>;

/// A file being written.
pub(super) struct Writer {
    path: PathBuf,
    pieces: mpsc::Sender<Piece>,
    thread: JoinHandle<io::Result<Written>>,
    written: u64,
}

/// A file that was written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) size: u64,
    pub(super) hash: blake3::Hash,
    /// Whether it is what the store says that it has.
    pub(super) is_sound: bool,
}

enum Piece {
    /// The file begins, or begins anew, and should have these sums.
    Start(Sums),
    Bytes(Bytes),
}

/// Files on the disk.
pub(super) fn on_disk() -> Create {
    Arc::new(|path| Ok(Box::new(fs::File::create(path)?)))
}

impl Writer {
    pub(super) fn new(create: &Create, path: PathBuf) -> Self {
        let (pieces, received) = mpsc::channel(WAITING);
        let (create, at) = (Arc::clone(create), path.clone());
        let thread = tokio::task::spawn_blocking(move || write(&create, &at, received));
        Self { path, pieces, thread, written: 0 }
    }

    /// How much there is of it.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Begins, or begins anew.
    pub(super) async fn start(&mut self, sums: Sums) -> Result<()> {
        self.written = 0;
        self.send(Piece::Start(sums)).await
    }

    pub(super) async fn write(&mut self, piece: Bytes) -> Result<()> {
        self.written += piece.len() as u64;
        self.send(Piece::Bytes(piece)).await
    }

    pub(super) async fn finish(self) -> Result<Written> {
        drop(self.pieces);
        joined(&self.path, self.thread.await)
    }

    async fn send(&mut self, piece: Piece) -> Result<()> {
        if self.pieces.send(piece).await.is_ok() {
            return Ok(());
        }
        // It takes nothing more, so that it has failed.
        joined(&self.path, (&mut self.thread).await)?;
        Err(Error::internal("a file took nothing more; try again"))
    }
}

fn write(create: &Create, path: &Path, mut pieces: mpsc::Receiver<Piece>) -> io::Result<Written> {
    let mut file = None;
    let (mut size, mut hasher, mut sums) = (0, blake3::Hasher::new(), Sums::default());
    let (mut crc32, mut sha256) = (crc32fast::Hasher::new(), digest::Context::new(&digest::SHA256));
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Start(expected) => {
                file = Some(create(path)?);
                (size, hasher, sums) = (0, blake3::Hasher::new(), expected);
                (crc32, sha256) = (crc32fast::Hasher::new(), digest::Context::new(&digest::SHA256));
            }
            Piece::Bytes(bytes) => {
                let file = file.as_mut().ok_or_else(|| io::Error::other("it was not begun"))?;
                file.write_all(&bytes)?;
                size += bytes.len() as u64;
                hasher.update(&bytes);
                if sums.crc32.is_some() {
                    crc32.update(&bytes);
                }
                if sums.sha256.is_some() {
                    sha256.update(&bytes);
                }
            }
        }
    }
    if let Some(mut file) = file {
        file.flush()?;
    }
    let is_sound = sums.crc32.is_none_or(|expected| expected == crc32.finalize())
        && sums.sha256.is_none_or(|expected| expected == sha256.finish().as_ref());
    Ok(Written { size, hash: hasher.finalize(), is_sound })
}

fn joined(path: &Path, done: Result<io::Result<Written>, tokio::task::JoinError>) -> Result<Written> {
    match done {
        Ok(written) => written.map_err(|error| unwritable(path, &error)),
        Err(error) => Err(Error::internal("a file was not written to its end; try again").because(error)),
    }
}

/// What the disk's refusal means.
pub(super) fn unwritable(path: &Path, error: &io::Error) -> Error {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let folder = path.display();
    let message = if matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
        format!("the disk of the models' cache is full, at `{folder}`; make room, or set another cache folder")
    } else {
        format!("the models' cache cannot be written at `{folder}`: {error}; correct its folder or rights")
    };
    Error::new(ErrorReason::GatewayNotServing, message)
}
