//! Client sockets: connections to models, TLS, and the framing of what comes back. Knows no wire protocol's content.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::uri::{Authority, Scheme, Uri};
use rustls::RootCertStore;

use crate::{
    call::{Attempt, ReplicaId},
    catalog::Deployment,
    config::{Place, Timeouts},
    dialect::Target,
    error::{Error, Result},
    event::Reply,
    task::Tasks,
};

mod body;
mod connect;
mod events;
mod exchange;
mod line;
mod mock;
mod pool;
mod replica;
pub mod sse;
pub(crate) mod tls;

use connect::Connector;
use mock::Mock;
use pool::Pool;
use replica::{Client, Replica, Sockets};

/// The connections of one gateway; they outlive a reload where their definition did not change.
#[derive(Default)]
pub struct Connections {
    replicas: Mutex<HashMap<Definition, Weak<Replica>>>,
    roots: OnceLock<RootCertStore>,
    /// Looks after connections and reads what follows an end mark; nobody waits for it.
    tasks: Tasks,
}

/// The way to one deployment: encode, send, classify, decode.
#[derive(Debug)]
pub struct Upstream {
    deployment: Arc<Deployment>,
    /// One for each of the deployment's targets.
    replicas: Vec<Arc<Replica>>,
    tasks: Tasks,
}

/// What makes two connections interchangeable.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Definition {
    https: bool,
    authority: Option<Authority>,
    proxy: Option<Uri>,
    /// The certificate authorities themselves, so that a changed file makes new connections.
    ca: Option<Bytes>,
    connect: Duration,
}

impl Connections {
    /// The way to a deployment. Existing connections to the same place are kept.
    ///
    /// # Errors
    /// An internal error when the deployment's certificate authorities cannot be read, or its proxy is not an address.
    pub fn upstream(&self, deployment: &Arc<Deployment>, timeouts: &Timeouts) -> Result<Upstream> {
        let replica = |target: &Target| match &deployment.config.place {
            Place::Mock(mock) => Ok(Arc::new(Replica::new(Client::Mock(Mock::new(mock.clone()))))),
            Place::Http(_) | Place::Nowhere(_) => self.replica(deployment, target, timeouts.connect),
        };
        let replicas = deployment.targets.iter().map(replica).collect::<Result<_>>()?;
        Ok(Upstream { deployment: Arc::clone(deployment), replicas, tasks: self.tasks.clone() })
    }

    fn replica(&self, deployment: &Deployment, target: &Target, connect: Duration) -> Result<Arc<Replica>> {
        let definition = Definition {
            https: target.base.scheme() == Some(&Scheme::HTTPS),
            authority: target.base.authority().cloned(),
            proxy: deployment.config.proxy.clone(),
            ca: deployment.config.ca.as_ref().map(|path| tls::read(path).map(Bytes::from)).transpose()?,
            connect,
        };
        let mut replicas = self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = replicas.get(&definition).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let replica = Arc::new(Replica::new(Client::Sockets(self.sockets(deployment, &target.base, &definition)?)));
        replicas.retain(|_, replica| replica.strong_count() > 0);
        replicas.insert(definition, Arc::downgrade(&replica));
        Ok(replica)
    }

    fn sockets(&self, deployment: &Deployment, base: &Uri, definition: &Definition) -> Result<Sockets> {
        let proxy = definition.proxy.as_ref();
        let tls = if definition.https {
            let mut roots = self.roots.get_or_init(tls::system_roots).clone();
            if let (Some(path), Some(pem)) = (&deployment.config.ca, &definition.ca) {
                roots = tls::trust(roots, path, pem)?;
            }
            Some(tls::client(roots)?)
        } else {
            None
        };
        let connector = Connector::new(proxy, tls, definition.connect)?;
        let pool = Pool::new(connector, base, self.tasks.clone())?;
        let forwarded = proxy.filter(|_| !definition.https);
        let authorization = forwarded.map(connect::authorization).transpose()?.flatten();
        Ok(Sockets { pool, authorization })
    }
}

/// What became of an attempt, for the replica that it was made at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It answered, after so long.
    Answered(Duration),
    /// The provider failed.
    Failed,
    /// Nothing was heard for so long, then nobody waited any more.
    Abandoned(Duration),
}

impl Upstream {
    /// stub
    pub fn choose(&self, _tried: &[ReplicaId]) -> Option<ReplicaId> {
        replica::choose(&self.replicas).map(|place| ReplicaId(place as u64))
    }
    /// stub
    pub fn has_untried(&self, tried: &[ReplicaId]) -> bool {
        tried.len() < self.replicas.len()
    }
    /// stub
    pub fn is_fit(&self) -> bool {
        true
    }
    /// stub
    pub fn load(&self) -> usize {
        0
    }
    /// stub
    pub fn report(&self, _replica: ReplicaId, _seen: Seen) {}

    /// Carries one attempt out. Dropping the future, or the reply, closes what it opened upstream.
    ///
    /// # Errors
    /// What went wrong before the answer's first byte; later failures are events of the reply.
    pub async fn send(&self, attempt: Attempt) -> Result<Reply> {
        exchange::exchange(self, &attempt).await
    }

    /// An error of this deployment, whose alias callers may see; its address they may not.
    fn error(&self, reason: flowgate_proto::v1::ErrorReason, what: &str) -> Error {
        Error::new(reason, format!("deployment `{}` {what}", self.deployment.alias))
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
