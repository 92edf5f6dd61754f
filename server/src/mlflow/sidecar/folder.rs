//! The private folder of one process: its socket, its script, and where it is. Gone with whoever holds it.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::{ffi::OsStrExt as _, fs::DirBuilderExt as _},
    path::{Path, PathBuf, absolute},
};

use crate::error::{Error, Result};

/// The server around MLflow's.
const SCRIPT: &str = include_str!("sidecar.py");
/// Where it lies.
const SCRIPT_NAME: &str = "sidecar.py";
/// The socket, and what is there as soon as the script runs in the Python that is to run the model; as the script names them.
const SOCKET_NAME: &str = "s";
const BEGUN_NAME: &str = "begun";
/// How long the path of a socket may be on any system.
const MOST_BYTES: usize = 100;
/// For nobody else to look into.
const PRIVATE: u32 = 0o700;

/// A folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    socket: PathBuf,
}

impl Folder {
    /// A new folder below another one, which is made where it is not there.
    ///
    /// # Errors
    /// An internal error when the operating system refuses, or when the path is too long for a socket.
    pub(super) fn new(parent: &Path) -> Result<Self> {
        let cannot = |error| Error::internal(format!("no folder for sockets can be made in `{}`", parent.display())).because(error);
        // Unguessable, so that nobody else has made it before.
        let name = format!("flowgate-{:012x}", fastrand::u64(..1 << 48));
        let path = absolute(parent).map_err(cannot)?.join(name);
        let socket = path.join(SOCKET_NAME);
        if socket.as_os_str().as_bytes().len() > MOST_BYTES {
            let message =
                format!("`{}` is too long for sockets, whose paths have at most {MOST_BYTES} bytes; set TMPDIR", parent.display());
            return Err(Error::internal(message));
        }
        make(parent, &path).map_err(cannot)?;
        Ok(Self { path, socket })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn script(&self) -> PathBuf {
        self.path.join(SCRIPT_NAME)
    }

    /// What is there once the model's own Python has begun.
    pub(super) fn begun(&self) -> PathBuf {
        self.path.join(BEGUN_NAME)
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }
}

fn make(parent: &Path, path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE).create(parent)?;
    DirBuilder::new().mode(PRIVATE).create(path)?;
    fs::write(path.join(SCRIPT_NAME), SCRIPT)
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A process that ends removes it, too.
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::debug!(%error, path = %self.path.display(), "a folder of a socket cannot be removed");
            }
            _ => {}
        }
    }
}
