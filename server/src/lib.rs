//! Flowgate: one door to every model a company has.
//!
//! A file may use only what stands before it here:
//! `error → event → dialect → provider → expression → config → catalog, identity → call → upstream → mlflow → balance → policy → chain →
//! stack → api → admin → listen → lib → cli`. `telemetry` and `task` use only `error` and may be used from `upstream` on.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use hyper_util::service::TowerToHyperService;
use tokio::{
    net::TcpListener,
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    admin::{Access, Readiness},
    api::{Gate, edge::Edge, grpc::Health},
    config::{Config, Found, Place},
    error::{Error, Result},
    identity::Identity,
    mlflow::models::{Hosted, Listing},
    stack::{Grounds, Snapshot},
    task::{Cut, Tasks},
    telemetry::metrics::Metrics,
};

pub mod admin;
pub mod api;
pub mod balance;
pub mod call;
pub mod catalog;
pub mod chain;
pub mod cli;
pub mod config;
pub mod dialect;
pub mod error;
pub mod event;
pub mod expression;
pub mod identity;
pub mod listen;
pub mod mlflow;
pub mod policy;
pub mod provider;
pub mod stack;
pub mod task;
pub mod telemetry;
pub mod upstream;

/// How long a scrape may take that is under way when the last call is done.
const SCRAPE: Duration = Duration::from_secs(1);
/// How long readiness waits at most for models that are to be loaded without a call.
const FIRST_LOADS: Duration = Duration::from_secs(10 * 60);
/// How many names of served models are said in one line.
const NAMES: usize = 20;

/// The sockets that a gateway serves on, bound by the caller so that port 0 works.
#[derive(Debug)]
pub struct Listeners {
    /// gRPC, gRPC-Web and JSON over HTTP.
    pub data: TcpListener,
    /// Metrics, probes and admin services.
    pub admin: TcpListener,
}

/// A whole gateway. [`Gateway::serve`] runs it; [`Gateway::reload`] changes what it serves meanwhile.
#[derive(Debug)]
pub struct Gateway {
    gate: Arc<Gate>,
    grounds: Grounds,
    health: Health,
    readiness: Readiness,
    access: Arc<Access>,
    /// What is served, for whoever changes it.
    served: tokio::sync::Mutex<Served>,
    /// Which registered models are served may be another question now.
    registry_due: Notify,
}

/// What a gateway serves.
#[derive(Debug)]
struct Served {
    /// The configuration as it was read.
    config: Config,
    /// The registered models beside it.
    found: Vec<Found>,
    /// The whole as it is in use: where a model is still to be loaded, the one before it.
    used: Config,
    /// Models that take the place of others once they are loaded.
    awaited: Vec<Arc<Hosted>>,
    /// Why the registry did not say last which models there are.
    unsaid: Option<String>,
}

impl Listeners {
    /// Binds the addresses of a configuration.
    ///
    /// # Errors
    /// An internal error that names the address which cannot be bound.
    pub async fn bind(config: &Config) -> Result<Self> {
        let data = bind(config.listen, "listen, or pass `--port`").await?;
        Ok(Self { data, admin: bind(config.admin, "admin.listen").await? })
    }
}

impl Gateway {
    /// A gateway over a configuration; nothing is served yet.
    ///
    /// # Errors
    /// What makes a deployment impossible to reach, for example an unreadable `upstream.ca`.
    pub async fn new(config: &Config) -> Result<Arc<Self>> {
        let grounds = Grounds::new(&config.models);
        if runs_models(config)
            && let Err(error) = grounds.models.open().await
        {
            tracing::warn!(?error, "no model that the gateway runs itself can be loaded; it is tried again with the next one");
        }
        let mut served = Served::new(config, Vec::new());
        let listing = listing(&grounds).await;
        served.say(listing.error.as_ref(), listing.found.is_some());
        served.found = listing.found.unwrap_or_default();
        if config.models.serve.is_some() {
            tracing::info!(endpoints = served.found.len(), names = names(&served.found), "registered models are served");
        }
        served.used = served.whole();
        let snapshot = Snapshot::build(&served.used, &grounds)?;
        let health = Health::new();
        health.publish(&snapshot).await;
        snapshot.announce(&grounds.metrics);
        let gate = Arc::new(Gate {
            snapshot: ArcSwap::from_pointee(snapshot),
            identity: Identity::new(&config.keys),
            metrics: Arc::clone(&grounds.metrics),
            max_request_bytes: config.max_request_bytes,
            cut: Cut::default(),
        });
        let (readiness, access) = (Readiness::default(), Arc::new(Access::new(config)));
        Ok(Arc::new(Self {
            gate,
            grounds,
            health,
            readiness,
            access,
            served: tokio::sync::Mutex::new(served),
            registry_due: Notify::new(),
        }))
    }

    /// Takes over another configuration: endpoints, deployments and keys, the admin's too, at once; calls in flight keep what they
    /// began with. Listeners, TLS, CORS, sizes, and where models come from and are kept, stay as they were at the start.
    ///
    /// # Errors
    /// As [`Gateway::new`]; the old configuration then stays in use.
    pub async fn reload(&self, config: &Config) -> Result<()> {
        let mut served = self.served.lock().await;
        let built = self.publish(Served::new(config, served.found.clone()), &served.used).await;
        *served = built.inspect_err(|_| self.gate.metrics.reload_refused())?;
        for awaited in &served.awaited {
            tracing::info!(model = %awaited.name(), "a changed model is being loaded; the one before it answers until then");
        }
        self.grounds.models.configure(&config.models);
        self.registry_due.notify_one();
        self.gate.identity.replace(&config.keys);
        self.access.replace(config);
        self.gate.metrics.reloaded();
        Ok(())
    }

    /// Looks up which registered models there are, where they are served without being named, and serves those.
    async fn follow_registry(&self) {
        let listing = listing(&self.grounds).await;
        let mut served = self.served.lock().await;
        served.awaited.iter().for_each(|hosted| hosted.begin());
        served.say(listing.error.as_ref(), true);
        let Some(found) = listing.found else { return };
        let is_partial = self.gate.snapshot.load().catalog.is_partial();
        if served.found == found && is_partial == self.grounds.models.is_unlisted() {
            return;
        }
        match self.publish(Served::new(&served.config, found), &served.used).await {
            Ok(next) => {
                *served = next;
                let (endpoints, names) = (served.found.len(), names(&served.found));
                tracing::info!(endpoints, names, "the registered models that are served have changed");
            }
            Err(error) => tracing::warn!(?error, "the registered models cannot be served as they are now"),
        }
    }

    /// Takes in that models were loaded or let go, or have failed: those that are loaded take the place of the ones before.
    async fn follow_models(&self) {
        let mut served = self.served.lock().await;
        if served.awaited.is_empty() {
            self.health.publish(&self.gate.snapshot.load_full()).await;
            return;
        }
        match self.publish(Served::new(&served.config, served.found.clone()), &served.used).await {
            Ok(next) => *served = next,
            Err(error) => tracing::warn!(?error, "the models that are loaded now cannot be served"),
        }
    }

    /// Puts another whole in the place of the one before; where its models are not loaded yet, those before answer.
    async fn publish(&self, mut next: Served, before: &Config) -> Result<Served> {
        next.used = next.whole();
        next.awaited = self.grounds.models.bridge(&mut next.used, before);
        let snapshot = Arc::new(Snapshot::build(&next.used, &self.grounds)?);
        self.grounds.models.retire(&next.used, before);
        self.gate.snapshot.store(Arc::clone(&snapshot));
        snapshot.announce(&self.gate.metrics);
        // After the snapshot, so that nobody is told of an endpoint before it answers.
        self.health.publish(&snapshot).await;
        Ok(next)
    }

    /// What is in use, registered models that no file names included.
    pub async fn used(&self) -> Config {
        self.served.lock().await.used.clone()
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.gate.metrics
    }

    /// Serves until `shutdown`, says that it goes and serves on for the configured delay, then lets calls finish within the configured
    /// grace. Tells how many it had to cut.
    ///
    /// # Errors
    /// What makes serving impossible, for example an unreadable certificate.
    pub async fn serve(&self, config: &Config, listeners: Listeners, shutdown: CancellationToken) -> Result<usize> {
        let edge = Edge::new(&self.gate, config, &self.health)?;
        let options = listen::Options { cut: self.gate.cut.clone(), ..listen::Options::new(config)? };
        let (tasks, closing) = (Tasks::default(), CancellationToken::new());
        let (admin_tasks, admin_shutdown) = (Tasks::default(), CancellationToken::new());
        let admin = TowerToHyperService::new(admin::router(&self.gate, self.readiness.clone(), &self.access)?);
        let admin_options = listen::Options { grace: SCRAPE, ..listen::Options::new(&Config { tls: None, ..config.clone() })? };
        let data = async {
            let left = listen::serve(listeners.data, edge, options, closing.clone(), &tasks).await;
            // Probes and the last scrape are answered until the last call is done.
            admin_shutdown.cancel();
            left
        };
        let drain = async {
            shutdown.cancelled().await;
            self.readiness.set(false);
            self.health.drain().await;
            // Whoever sends calls here may need a while to hear of that; until then they are as welcome as before.
            if !config.shutdown_delay.is_zero() {
                tracing::info!("not ready any more; connections and calls are still taken for the delay");
                sleep(config.shutdown_delay).await;
            }
            tracing::info!("no new connections any more; calls in flight may finish within the grace");
            closing.cancel();
            self.health.end().await;
        };
        let warming = async {
            let first = timeout(FIRST_LOADS, self.grounds.models.first_loads());
            if let Some(Err(_)) = shutdown.run_until_cancelled(first).await {
                tracing::warn!("models with `min` are still being loaded; the gateway is ready without them");
            }
            self.readiness.set(!shutdown.is_cancelled());
        };
        let turning = async {
            let mut changes = self.grounds.models.changes();
            while let Some(Ok(())) = closing.run_until_cancelled(changes.changed()).await {
                self.follow_models().await;
            }
        };
        let following = async {
            let due = async || drop(timeout(self.grounds.models.settings().refresh, self.registry_due.notified()).await);
            while closing.run_until_cancelled(due()).await.is_some() {
                self.follow_registry().await;
            }
        };
        let admin = listen::serve(listeners.admin, admin, admin_options, admin_shutdown.clone(), &admin_tasks);
        let _measured_until_here = self.measure_delay();
        let (left, (), _, (), (), ()) = tokio::join!(data, drain, admin, following, turning, warming);
        Ok(self.gate.cut.counted() + left)
    }

    /// Measures how late calls get their turn, until what is returned is dropped.
    fn measure_delay(&self) -> DropGuard {
        let end = CancellationToken::new();
        let (until, lag, metrics) = (end.clone(), self.grounds.under_way.lag.clone(), Arc::clone(&self.gate.metrics));
        Tasks::default().spawn(async move {
            let watch = lag.watch(|delay| metrics.load().delayed(delay));
            // It ends by the token alone.
            until.run_until_cancelled(watch).await;
        });
        end.drop_guard()
    }
}

impl Served {
    fn new(config: &Config, found: Vec<Found>) -> Self {
        Self { config: config.clone(), found, used: Config::default(), awaited: Vec::new(), unsaid: None }
    }

    /// Says why the registry does not say which models there are; the same only once.
    fn say(&mut self, error: Option<&Error>, is_known: bool) {
        let unsaid = error.map(ToString::to_string);
        if let Some(error) = error.filter(|_| self.unsaid != unsaid) {
            if is_known {
                tracing::warn!(?error, "the registry does not say which models there are; those it named last are served");
            } else {
                tracing::warn!(?error, "the registry has not yet said which models there are; none is served by its name until it does");
            }
        }
        self.unsaid = unsaid;
    }

    /// The configuration with the endpoints of registered models.
    fn whole(&self) -> Config {
        let mut whole = self.config.clone();
        whole.endpoints.extend(config::served(&self.found, &self.config));
        whole
    }
}

/// Whether the file names models that the gateway runs itself.
fn runs_models(config: &Config) -> bool {
    let mut places = config.endpoints.iter().flat_map(|endpoint| &endpoint.deployments).map(|deployment| &deployment.place);
    places.any(|place| matches!(place, Place::Model(_)))
}

/// The registered models that are served without being named.
async fn listing(grounds: &Grounds) -> Listing {
    grounds.models.found(grounds.models.settings().serve.as_ref()).await
}

/// The first names of many.
fn names(found: &[Found]) -> String {
    let mut names: Vec<_> = found.iter().take(NAMES).map(|found| found.name.as_str()).collect();
    if found.len() > NAMES {
        names.push("…");
    }
    names.join(", ")
}

/// Serves a configuration until `shutdown`; for those who need no reload.
///
/// # Errors
/// As [`Gateway::new`] and [`Gateway::serve`].
pub async fn serve(config: &Config, listeners: Listeners, shutdown: CancellationToken) -> Result<usize> {
    Gateway::new(config).await?.serve(config, listeners, shutdown).await
}

async fn bind(address: SocketAddr, key: &str) -> Result<TcpListener> {
    let told = |error| Error::internal(format!("cannot listen on {address}: {error}; choose another address by {key}"));
    TcpListener::bind(address).await.map_err(told)
}

/// Makes aws-lc-rs the one crypto provider of the process. Doing it twice is fine.
pub fn install_crypto() {
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        tracing::debug!("a crypto provider was installed before");
    }
}
