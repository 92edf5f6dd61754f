//! The connections of one gateway: what there is by definition, so that a reload keeps what did not change.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::uri::{Authority, Uri};
use rustls::RootCertStore;

use super::{
    Upstream, Way,
    connect::{self, Connector},
    grants::{Grants, Route},
    group::{self, Group},
    health,
    media::Fetcher,
    names::{self, Name, Resolver},
    pool::Pool,
    replica::{Client, Replica, Sockets},
    server::Servers,
    tls,
};
use crate::{
    catalog::Deployment,
    config::{Access, Health, Timeouts},
    error::Result,
    task::Tasks,
    telemetry::upstreams::Upstreams,
};

/// The connections of one gateway; they outlive a reload where their definition did not change.
pub struct Connections(pub(super) Arc<Shared>);

/// What the deployments of a gateway share.
pub(super) struct Shared {
    known: Mutex<Known>,
    roots: OnceLock<RootCertStore>,
    resolver: Resolver,
    metrics: Upstreams,
    grants: Arc<Grants>,
    /// Whoever runs models in this process and by it.
    pub(super) servers: Arc<dyn Servers>,
    /// Looks after connections, health and names, and reads what follows an end mark; nobody waits for it.
    pub(super) tasks: Tasks,
}

/// What there is, for as long as somebody uses it.
#[derive(Default)]
struct Known {
    replicas: HashMap<Definition, Weak<Replica>>,
    pools: HashMap<Origin, Weak<Pool>>,
    names: HashMap<String, Weak<Name>>,
}

/// What makes two connections interchangeable.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) https: bool,
    pub(super) authority: Option<Authority>,
    pub(super) proxy: Option<Uri>,
    /// The certificate authorities themselves, so that a changed file makes new connections, and where they are from.
    pub(super) ca: Option<(PathBuf, Bytes)>,
    pub(super) connect: Duration,
    /// Whether HTTP/2 is spoken from the first byte on.
    pub(super) h2: bool,
    /// Which of the addresses of its name; `None` for all.
    pub(super) address: Option<IpAddr>,
}

/// What makes two replicas the same: models below different paths of one server do not fail together.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Definition {
    pub(super) base: Uri,
    pub(super) origin: Origin,
    pub(super) health: Option<Health>,
}

impl Connections {
    /// No connections yet; what becomes of them is counted in `metrics`.
    pub fn new(metrics: Upstreams, grants: Arc<Grants>, servers: Arc<dyn Servers>) -> Self {
        Self::resolving(metrics, grants, servers, names::system())
    }

    fn resolving(metrics: Upstreams, grants: Arc<Grants>, servers: Arc<dyn Servers>, resolver: Resolver) -> Self {
        let (known, roots, tasks) = (Mutex::default(), OnceLock::new(), Tasks::default());
        Self(Arc::new(Shared { known, roots, resolver, metrics, grants, servers, tasks }))
    }

    /// What fetches media that requests name: over sockets of its own, from the open internet only.
    ///
    /// # Errors
    /// An internal error when TLS cannot be set up.
    pub fn fetcher(&self) -> Result<Fetcher> {
        let roots = self.0.roots.get_or_init(tls::system_roots).clone();
        Ok(Fetcher::new(Arc::clone(&self.0.resolver), &*tls::client(roots)?))
    }

    /// The way to a deployment. Existing connections to the same place are kept. Must be called within a runtime.
    ///
    /// # Errors
    /// An internal error when the deployment's certificate authorities cannot be read, or its proxy is not an address.
    pub fn upstream(&self, deployment: &Arc<Deployment>, timeouts: &Timeouts) -> Result<Upstream> {
        let group = Group::new(&self.0, deployment, timeouts)?;
        let config = &deployment.config;
        let way = |access: &Access| match access {
            Access::Held(credential) => Ok(Way::Held(Arc::new(credential.clone()))),
            Access::Granted(grant) => {
                let route = Route { proxy: config.proxy.clone(), ca: group::authorities(config)? };
                Ok(Way::Granted(self.0.grants.pass(grant, route)))
            }
        };
        let ways = config.credentials.iter().map(way).collect::<Result<_>>()?;
        Ok(Upstream { deployment: Arc::clone(deployment), group, ways, tasks: self.0.tasks.clone() })
    }
}

impl Shared {
    /// The replica of a definition, new or known.
    ///
    /// # Errors
    /// An internal error when its certificate authorities or its proxy are none.
    pub(super) fn replica(&self, definition: &Definition) -> Result<Arc<Replica>> {
        let mut known = self.known();
        if let Some(replica) = known.replicas.get(definition).and_then(Weak::upgrade) {
            return Ok(replica);
        }
        let Origin { https, h2, proxy, .. } = &definition.origin;
        let forwarded = proxy.as_ref().filter(|_| !https && !h2);
        let authorization = forwarded.map(connect::authorization).transpose()?.flatten();
        let pool = self.pool(&mut known, definition)?;
        let series = self.metrics.series(pool.name(), definition.health.is_some());
        let replica = Arc::new(Replica::new(Client::Sockets(Sockets { pool, authorization, series })));
        if let Some(health) = &definition.health {
            self.tasks.spawn(health::watch(Arc::downgrade(&replica), health.clone()));
        }
        known.replicas.retain(|_, replica| replica.strong_count() > 0);
        known.replicas.insert(definition.clone(), Arc::downgrade(&replica));
        Ok(replica)
    }

    fn pool(&self, known: &mut Known, definition: &Definition) -> Result<Arc<Pool>> {
        let origin = &definition.origin;
        if let Some(pool) = known.pools.get(origin).and_then(Weak::upgrade) {
            return Ok(pool);
        }
        let tls = if origin.https {
            let mut roots = self.roots.get_or_init(tls::system_roots).clone();
            if let Some((path, pem)) = &origin.ca {
                roots = tls::trust(roots, path, pem)?;
            }
            Some(tls::client(roots)?)
        } else {
            None
        };
        let connector = Connector::new(origin.proxy.as_ref(), tls, origin.connect, origin.h2)?.pinned(origin.address);
        let pool = Pool::new(connector, &definition.base, self.tasks.clone())?;
        known.pools.retain(|_, pool| pool.strong_count() > 0);
        known.pools.insert(origin.clone(), Arc::downgrade(&pool));
        Ok(pool)
    }

    /// What a host stands for; `None` when it is an address itself.
    pub(super) fn name(&self, host: &str) -> Option<Arc<Name>> {
        if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
            return None;
        }
        let mut known = self.known();
        let host = host.to_ascii_lowercase();
        if let Some(name) = known.names.get(&host).and_then(Weak::upgrade) {
            return Some(name);
        }
        let name = Arc::new(Name::new(&host));
        self.tasks.spawn(names::watch(Arc::downgrade(&name), Arc::clone(&self.resolver)));
        known.names.retain(|_, name| name.strong_count() > 0);
        known.names.insert(host, Arc::downgrade(&name));
        Some(name)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many replicas and pools are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> (usize, usize) {
        let known = self.known();
        (known.replicas.len(), known.pools.len())
    }
}

impl Definition {
    /// The same at one of the addresses of its name.
    pub(super) fn at(&self, address: Option<IpAddr>) -> Self {
        Self { origin: Origin { address, ..self.origin.clone() }, ..self.clone() }
    }
}

#[cfg(test)]
impl Connections {
    /// To sockets only.
    pub(crate) fn plain(metrics: Upstreams) -> Self {
        Self::looking_up(metrics, names::system())
    }

    /// To sockets only, whose names a test knows.
    pub(super) fn looking_up(metrics: Upstreams, resolver: Resolver) -> Self {
        let grants = Arc::new(Grants::new(Arc::new(crate::config::Process), Tasks::default()));
        Self::resolving(metrics, grants, Arc::new(super::server::Nobody), resolver)
    }
}

#[cfg(test)]
impl Default for Connections {
    fn default() -> Self {
        Self::plain(Upstreams::default())
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}
