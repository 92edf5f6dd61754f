//! Programs that the gateway starts, and that never outlive it. What they are, and what is said to them, is not known here.

use std::{
    cmp::Reverse,
    collections::VecDeque,
    ffi::OsString,
    fmt, io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use secrecy::ExposeSecret as _;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::watch,
    time::timeout,
};

use crate::{config::Variables, dialect::hide, task::Tasks};

pub mod shim;
pub mod table;

/// Variables of the gateway's own environment that a program gets: where programs, homes, certificates and temporary files are. Nothing
/// that could be a key.
const PASSED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "CONDA_EXE",
    "CONDA_PREFIX",
    "PYENV_ROOT",
    "UV_CACHE_DIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
];
/// How many of a program's last lines are kept, and how much of a line.
const LINES: usize = 40;
const LINE: usize = 2 << 10;
/// How much of a line is looked at for secrets: of one that is cut, the end of what is kept must not be half of one.
const LOOKED_AT: usize = 64 << 10;
/// How long its end waits for what it wrote last to be read: what has its output too may live on.
const LAST: Duration = Duration::from_secs(1);
/// Shorter values of variables are part of too many other words to be hidden.
const LEAST: usize = 4;

/// What is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// For logs.
    pub name: Arc<str>,
    /// What is run, and its arguments.
    pub command: Vec<OsString>,
    /// Its environment, beside what every program gets of the gateway's own; of two for one name the later counts.
    pub env: Vec<(OsString, OsString)>,
    /// More of its environment, which counts before that. Their values are in no log and no line that is kept.
    pub secrets: Variables,
    /// The folder that it is in.
    pub folder: PathBuf,
}

/// How the gateway's own binary is asked to stand between itself and a program.
#[derive(Clone, Debug)]
pub struct Shim(Vec<OsString>);

/// A program that runs, or has run. Dropping it ends the program and all that it has started, in its own time and in no more than
/// [`shim::GRACE`].
pub struct Process {
    /// The pipe that the shim watches.
    hold: Option<ChildStdin>,
    exit: watch::Receiver<Option<Exit>>,
    tail: Arc<Tail>,
    id: u32,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this code; beyond 128 it was ended by the signal of the rest.
    Code(i32),
    /// What watches it was ended.
    Killed,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed => f.write_str("was killed"),
            // Whoever has no memory left to give ends a process so; so does an operator.
            Self::Code(code) if *code == shim::SIGNALLED + 9 => f.write_str("was killed by signal 9 (out of memory?)"),
            Self::Code(code) if *code > shim::SIGNALLED => write!(f, "was ended by signal {}", code - shim::SIGNALLED),
            Self::Code(code) => write!(f, "ended with code {code}"),
        }
    }
}

/// The last lines that a program wrote.
#[derive(Debug, Default)]
struct Tail {
    lines: Mutex<VecDeque<String>>,
    secrets: Variables,
}

impl Shim {
    /// This binary, also when another one has been put in its place since it was started.
    ///
    /// # Errors
    /// The operating system does not say which it is.
    pub fn this() -> io::Result<Self> {
        let own = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe()? };
        Ok(Self(vec![own.into(), "shim".into(), "--".into()]))
    }

    /// Another one: the words before the program's own.
    pub fn of(words: Vec<OsString>) -> Self {
        Self(words)
    }
}

impl Process {
    /// Starts a program. Must be called within a runtime.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn start(program: &Program, shim: &Shim, tasks: &Tasks) -> io::Result<Self> {
        let mut words = shim.0.iter().chain(&program.command);
        let first = words.next().ok_or(io::ErrorKind::InvalidInput)?;
        let passed = PASSED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
        let mut command = Command::new(first);
        command.args(words).env_clear().envs(passed).envs(program.env.iter().cloned()).current_dir(&program.folder);
        command.envs(program.secrets.0.iter().map(|(name, value)| (name, value.expose_secret())));
        // A group of its own: a signal from a terminal is for the gateway alone.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let tail = Arc::new(Tail { lines: Mutex::default(), secrets: program.secrets.clone() });
        let (hold, readers) = (child.stdin.take(), Tasks::default());
        let id = child.id().ok_or(io::ErrorKind::NotFound)?;
        if let Some(out) = child.stdout.take() {
            readers.spawn(follow(out, Arc::clone(&program.name), Arc::clone(&tail)));
        }
        if let Some(err) = child.stderr.take() {
            readers.spawn(follow(err, Arc::clone(&program.name), Arc::clone(&tail)));
        }
        let (told, exit) = watch::channel(None);
        tasks.spawn(async move {
            let exit = watch(child).await;
            // Who hears of the end finds the last lines.
            drop(timeout(LAST, readers.finished()).await);
            told.send_replace(Some(exit));
            readers.finished().await;
        });
        Ok(Self { hold, exit, tail, id })
    }

    /// The process that stands in front of it, whose process group all are in.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// How it ended; `None` while it runs.
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits until it has ended, and everything that it started.
    pub async fn ended(&self) -> Exit {
        let mut exit = self.exit.clone();
        // Who tells has told before it is gone.
        exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit).unwrap_or(Exit::Killed)
    }

    /// Waits as [`Process::ended`] does, for longer than this lives; also what it wrote last.
    pub fn watched(&self) -> impl Future<Output = (Exit, Vec<String>)> + Send + 'static {
        let (mut exit, tail) = (self.exit.clone(), Arc::clone(&self.tail));
        async move {
            let ended = exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit).unwrap_or(Exit::Killed);
            (ended, tail.lock().iter().cloned().collect())
        }
    }

    /// Asks it to end; see [`Process::ended`].
    pub fn stop(&mut self) {
        self.hold = None;
    }

    /// What it wrote last, a line each.
    pub fn last_lines(&self) -> Vec<String> {
        self.tail.lock().iter().cloned().collect()
    }
}

/// Waits for the shim's end and ends what it has left behind, which is nothing unless it was killed.
async fn watch(mut child: Child) -> Exit {
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let status = child.wait().await;
    // An empty group is no group any more.
    if let Some(Err(error)) = group.map(|group| kill_process_group(group, Signal::KILL)) {
        tracing::trace!(%error, "a process group is empty");
    }
    status.ok().as_ref().and_then(ExitStatus::code).map_or(Exit::Killed, Exit::Code)
}

/// Passes the lines of a stream on to the log, and keeps the last ones. Reads on whatever happens: a program that cannot write stands still.
async fn follow(stream: impl AsyncRead + Unpin, name: Arc<str>, tail: Arc<Tail>) {
    let (mut stream, mut line, mut chunk) = (BufReader::new(stream), Vec::new(), [0; 4 << 10]);
    loop {
        let read = stream.read(&mut chunk).await.unwrap_or(0);
        for byte in chunk.iter().take(read) {
            match byte {
                b'\n' => tail.add(&name, &mut line),
                byte if line.len() < LOOKED_AT => line.push(*byte),
                _ => {}
            }
        }
        if read == 0 {
            return tail.add(&name, &mut line);
        }
    }
}

impl Tail {
    fn add(&self, name: &str, line: &mut Vec<u8>) {
        let mut text = self.without_secrets(Bytes::copy_from_slice(line.trim_ascii_end()));
        text.truncate(text.floor_char_boundary(LINE));
        line.clear();
        if text.is_empty() {
            return;
        }
        tracing::info!(target: "model", model = name, "{text}");
        let mut lines = self.lock();
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(text);
    }

    fn without_secrets(&self, line: Bytes) -> String {
        // A value of several lines is written in as many.
        let mut secrets: Vec<&str> = self.secrets.0.values().flat_map(|value| value.expose_secret().lines()).map(str::trim).collect();
        // The longest first: of a line whose start is hidden as another secret, the rest would be left.
        secrets.sort_unstable_by_key(|secret| Reverse(secret.len()));
        let line = secrets.iter().filter(|secret| secret.len() >= LEAST).fold(line, |line, secret| hide(line, secret.as_bytes()));
        String::from_utf8_lossy(&line).into_owned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("id", &self.id).field("exit", &self.exit()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
