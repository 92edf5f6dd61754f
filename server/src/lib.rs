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
    config::{Config, Found},
    error::{Error, Result},
    identity::Identity,
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
/// How long the registry may take to say which models there are.
const REGISTRY: Duration = Duration::from_secs(5);

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
        let served = Served { config: config.clone(), found: found(&grounds).await.unwrap_or_default() };
        let snapshot = Snapshot::build(&served.whole(), &grounds)?;
        let health = Health::new();
        health.publish(&snapshot.catalog).await;
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
        let next = Served { config: config.clone(), found: served.found.clone() };
        let built = self.publish(&next).await;
        built.inspect_err(|_| self.gate.metrics.reload_refused())?;
        *served = next;
        self.grounds.models.configure(&config.models);
        self.registry_due.notify_one();
        self.gate.identity.replace(&config.keys);
        self.access.replace(config);
        self.gate.metrics.reloaded();
        Ok(())
    }

    /// Looks up which registered models there are, where they are served without being named, and serves those.
    async fn follow_registry(&self) {
        let Some(found) = found(&self.grounds).await else { return };
        let mut served = self.served.lock().await;
        if served.found == found {
            return;
        }
        let next = Served { config: served.config.clone(), found };
        match self.publish(&next).await {
            Ok(()) => {
                tracing::info!(endpoints = next.found.len(), "the registered models that are served have changed");
                *served = next;
            }
            Err(error) => tracing::warn!(?error, "the registered models cannot be served as they are now"),
        }
    }

    async fn publish(&self, served: &Served) -> Result<()> {
        let snapshot = Arc::new(Snapshot::build(&served.whole(), &self.grounds)?);
        self.gate.snapshot.store(Arc::clone(&snapshot));
        snapshot.announce(&self.gate.metrics);
        // After the snapshot, so that nobody is told of an endpoint before it answers.
        self.health.publish(&snapshot.catalog).await;
        Ok(())
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
            self.readiness.set(true);
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
        let following = async {
            let due = async || drop(timeout(self.grounds.models.settings().refresh, self.registry_due.notified()).await);
            while closing.run_until_cancelled(due()).await.is_some() {
                self.follow_registry().await;
            }
        };
        let admin = listen::serve(listeners.admin, admin, admin_options, admin_shutdown.clone(), &admin_tasks);
        let _measured_until_here = self.measure_delay();
        let (left, (), _, ()) = tokio::join!(data, drain, admin, following);
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
    /// The configuration with the endpoints of registered models.
    fn whole(&self) -> Config {
        let mut whole = self.config.clone();
        whole.endpoints.extend(config::served(&self.found, &self.config));
        whole
    }
}

/// The registered models that are served without being named; `None` where the registry does not say.
async fn found(grounds: &Grounds) -> Option<Vec<Found>> {
    let settings = grounds.models.settings();
    let Some(serve) = &settings.serve else { return Some(Vec::new()) };
    match timeout(REGISTRY, grounds.models.found(serve)).await {
        Ok(Ok(found)) => Some(found),
        Ok(Err(error)) => {
            tracing::warn!(?error, "the registry does not say which models there are; those it named last are served");
            None
        }
        Err(_) => {
            tracing::warn!("the registry takes too long to say which models there are; those it named last are served");
            None
        }
    }
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
