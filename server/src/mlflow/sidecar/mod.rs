//! Python processes that serve a model each: a small server of our own, `sidecar.py`, around MLflow's, which the gateway starts and talks to
//! over a Unix socket. Which models run, and how many processes for each, is not known here.

use std::{borrow::Cow, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use http::{Request, Response, StatusCode};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use self::folder::Folder;
use super::{
    model_file::ModelFile,
    process::{Exit, Process, Shim, shim::SIGNALLED},
};
use crate::{
    config::{self, PythonEnv},
    error::{Error, Result},
    task::Tasks,
    upstream::{Body, Unanswered, Unix},
};

mod folder;
mod launch;
mod memory;

/// How often a process that starts is asked whether it is ready.
const LOOK: Duration = Duration::from_millis(20);
/// How long MLflow may take to make an environment for a model: packages are fetched, and some of them built.
const ENVIRONMENT: Duration = Duration::from_secs(60 * 60);
/// How long a connection that broke off waits for word that the process has ended.
const NEWS: Duration = Duration::from_secs(2);
/// How much of its very last line is told to callers.
const TOLD: usize = 300;

/// What a process is started for.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// What the model is called in logs and errors.
    pub name: Arc<str>,
    /// The folder of the model's files.
    pub folder: &'a Path,
    /// What the model says of itself.
    pub file: &'a ModelFile,
    /// What the configuration says of it.
    pub model: &'a config::Model,
    /// The Python that runs it, or that has MLflow make the one that does.
    pub python: &'a Path,
    /// The folder in which each process gets a private one, with its socket. Short: a socket's path has at most 100 bytes.
    pub sockets: &'a Path,
    /// What stands between the gateway and the process.
    pub shim: &'a Shim,
    /// Who the process's tasks belong to.
    pub tasks: &'a Tasks,
}

/// One Python process that serves one model. Dropping it ends the process, whatever it is doing.
#[derive(Debug)]
pub struct Sidecar {
    name: Arc<str>,
    process: Process,
    client: Unix,
    folder: Folder,
}

impl Sidecar {
    /// Starts a process, and waits until it has the Python that is to run the model, where MLflow makes that. Dropping the future ends the
    /// process. Must be called within a runtime.
    ///
    /// # Errors
    /// `GATEWAY_NOT_SERVING` when the model cannot be run, with what the process said last;
    /// `PROVIDER_UNAVAILABLE` when something killed it.
    pub async fn start(options: &Options<'_>) -> Result<Self> {
        let folder = Folder::new(options.sockets)?;
        let program = launch::program(options, &folder)?;
        let cannot = |error| not_serving("its process cannot be started; see the gateway's log").because(error);
        let process = Process::start(&program, options.shim, options.tasks).map_err(cannot)?;
        let client = Unix::new(folder.socket(), options.tasks)?;
        let sidecar = Self { name: Arc::clone(&options.name), process, client, folder };
        if options.model.env_manager != PythonEnv::Local {
            let late = || not_serving("MLflow has not made its Python environment within an hour; the log has what it says");
            timeout(ENVIRONMENT, sidecar.unless_ended(sidecar.begun())).await.unwrap_or_else(|_| Err(late()))?;
        }
        Ok(sidecar)
    }

    /// Waits until the process has loaded the model and answers, however long that takes.
    ///
    /// # Errors
    /// As [`Sidecar::start`].
    pub async fn ready(&self) -> Result<()> {
        self.unless_ended(self.loaded()).await
    }

    /// Sends a request to the model's process, and waits for the head of the response. Dropping the future, or the body before its end,
    /// gives the call up: a streamed answer then ends at its next piece.
    ///
    /// # Errors
    /// `PROVIDER_UNAVAILABLE` when the process has ended, or ends meanwhile.
    pub async fn answer(&self, request: Request<Bytes>) -> Result<Response<Body>> {
        match self.client.send(request).await {
            Ok(response) => Ok(response),
            Err(unanswered) => Err(self.unanswered(unanswered).await),
        }
    }

    /// Waits until the process has ended, and all that it has started.
    pub async fn ended(&self) -> Exit {
        self.process.ended().await
    }

    /// Waits as [`Sidecar::ended`] does, for longer than this lives; also what it wrote last.
    pub fn watched(&self) -> impl Future<Output = (Exit, Vec<String>)> + Send + 'static {
        self.process.watched()
    }

    /// How the process ended; `None` while it runs.
    pub fn exit(&self) -> Option<Exit> {
        self.process.exit()
    }

    /// The process's number in the operating system.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The bytes of memory that the process and all that it has started hold; `None` where the operating system does not say.
    pub fn bytes(&self) -> Option<u64> {
        memory::resident(self.process.id())
    }

    /// What the process wrote last, a line each, without the values of the model's `env`.
    pub fn last_lines(&self) -> Vec<String> {
        self.process.last_lines()
    }

    /// Waits for something, or for the end of the process.
    async fn unless_ended(&self, waiting: impl Future<Output = ()> + Send) -> Result<()> {
        tokio::select! {
            () = waiting => Ok(()),
            exit = self.process.ended() => Err(self.crashed(exit)),
        }
    }

    async fn begun(&self) {
        let (mut looks, begun) = (looks(), self.folder.begun());
        while !begun.exists() {
            looks.tick().await;
        }
    }

    async fn loaded(&self) {
        let mut looks = looks();
        // Its socket is there when the model is loaded.
        while !(self.folder.socket().exists() && self.answers().await) {
            looks.tick().await;
        }
    }

    async fn answers(&self) -> bool {
        let mut ping = Request::new(Bytes::new());
        *ping.uri_mut() = http::Uri::from_static("/ping");
        self.client.send(ping).await.is_ok_and(|response| response.status() == StatusCode::OK)
    }

    /// Why a process that never answered ended.
    fn crashed(&self, exit: Exit) -> Error {
        let lines = self.last_lines();
        let last = lines.last().map_or("it said nothing", String::as_str);
        let last = last.char_indices().nth(TOLD).map_or(last, |(end, _)| last.get(..end).unwrap_or_default());
        if is_killed(exit) {
            let what = format!("its process {exit} before it had loaded the model: {last}");
            return Error::new(ErrorReason::ProviderUnavailable, format!("{what}; try again, or have the operator see to its memory"));
        }
        not_serving(format!("its process {exit}: {last}"))
    }

    /// Why a request has no response: the process has ended, or does as it should not.
    async fn unanswered(&self, unanswered: Unanswered) -> Error {
        let (how, cause) = match (timeout(NEWS, self.process.ended()).await, unanswered) {
            (Ok(exit), Unanswered::Unreached(cause) | Unanswered::Cut(cause)) => (exit.to_string(), cause),
            (Err(_), Unanswered::Unreached(cause)) => ("takes no connections".to_owned(), cause),
            (Err(_), Unanswered::Cut(cause)) => ("closed the connection".to_owned(), cause),
        };
        let message = format!("the process of model `{}` {how} before it answered; try again", self.name);
        // Its last words are for the operator.
        let last = self.last_lines().pop().map(|last| format!("; it said last: {last}")).unwrap_or_default();
        Error::new(ErrorReason::ProviderUnavailable, message).because(format!("{cause}{last}"))
    }
}

fn looks() -> Interval {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

/// Which model it is, is known to whoever starts it.
fn not_serving(why: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorReason::GatewayNotServing, why)
}

/// Whether it did not end by itself, so that another one may fare better.
fn is_killed(exit: Exit) -> bool {
    match exit {
        Exit::Killed => true,
        Exit::Code(code) => code > SIGNALLED,
    }
}

#[cfg(test)]
mod tests;
