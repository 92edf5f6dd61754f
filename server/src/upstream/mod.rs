//! Client sockets: connections to models, TLS, and the framing of what comes back. Knows no wire protocol's content.

use std::{sync::Arc, time::Duration};

use crate::{
    call::{Attempt, ReplicaId},
    catalog::Deployment,
    dialect::Credential,
    error::{Error, Result},
    event::Reply,
    task::Tasks,
};

mod addresses;
mod batches;
mod body;
mod choice;
mod connect;
mod connections;
pub mod control;
mod ejection;
mod event_stream;
mod events;
mod exchange;
pub mod framing;
pub mod grants;
mod group;
mod health;
mod latency;
mod line;
mod lines;
pub mod media;
mod mock;
mod names;
mod payloads;
mod pool;
mod replica;
mod secrets;
mod server;
pub mod sse;
pub(crate) mod tls;
mod unframed;
mod unix;

pub use self::{
    body::{Body, BoxError},
    connections::Connections,
    server::{Ready, Server, Servers},
    unix::{Unanswered, Unix},
};

use grants::Pass;
use group::Group;

/// The way to one deployment: choose a replica, encode, send, classify, decode.
#[derive(Debug)]
pub struct Upstream {
    deployment: Arc<Deployment>,
    group: Arc<Group>,
    /// How its credentials are come by, in the order of the file.
    ways: Vec<Way>,
    tasks: Tasks,
}

/// How one credential is come by.
#[derive(Clone, Debug)]
enum Way {
    Held(Arc<Credential>),
    Granted(Arc<Pass>),
}

/// A credential in use, and how it was come by.
#[derive(Clone, Debug)]
struct Used {
    way: Way,
    credential: Arc<Credential>,
}

impl Used {
    async fn by(way: &Way) -> Result<Self> {
        let credential = match way {
            Way::Held(credential) => Arc::clone(credential),
            Way::Granted(pass) => pass.get().await?,
        };
        Ok(Self { way: way.clone(), credential })
    }

    /// Takes in how a request with it failed: one that is no good any more is not given to others.
    fn learn(&self, error: &Error) {
        if let (true, Way::Granted(pass)) = (error.is_credential_stale(), &self.way) {
            pass.forget(&self.credential);
        }
    }

    /// Another one that is to be had in its place: what is read anew from where it stands unchanged is none.
    async fn another(&self) -> Option<Self> {
        let other = Self::by(&self.way).await.ok()?;
        (other.credential.fingerprint() != self.credential.fingerprint()).then_some(other)
    }
}

/// How an attempt at a replica ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The replica did what it could, be it that the caller or the model was at fault; and how long it took to the head of the answer,
    /// or to the first event of a stream.
    Answered(Duration),
    /// The provider was at fault: it could not be reached, failed, took too long or stopped in the middle.
    Failed,
    /// It refused, which takes no time and says nothing of how fast it is.
    Refused,
    /// Nothing was heard for so long, then nobody waited any more: no fault, but it was at least that slow.
    Abandoned(Duration),
}

impl Upstream {
    /// A replica to ask: of two that are fit and not in `tried`, the one that is likely to answer first. Those in `tried` again when no
    /// other one is fit, and those that are out when none is. `None` when the deployment cannot be called.
    pub fn choose(&self, tried: &[ReplicaId]) -> Option<ReplicaId> {
        choice::choose(&self.group.members(), tried).map(|member| member.replica.id)
    }

    /// Whether a fit replica is left that is not in `tried`.
    pub fn has_untried(&self, tried: &[ReplicaId]) -> bool {
        choice::has_untried(&self.group.members(), tried)
    }

    /// Whether a replica is neither ejected, nor failing its health checks, nor out of reach just now.
    pub fn is_fit(&self) -> bool {
        choice::is_fit(&self.group.members())
    }

    /// Whether there is just one replica.
    pub fn is_alone(&self) -> bool {
        self.group.members().len() < 2
    }

    /// Calls in flight at all of its replicas, those of other deployments at the same address included.
    pub fn load(&self) -> usize {
        self.group.members().iter().map(|member| member.replica.in_flight()).sum()
    }

    /// Takes in how an attempt at a replica ended; once for each attempt. Must be called within a runtime.
    pub fn report(&self, replica: ReplicaId, seen: Seen) {
        self.group.report(replica, seen);
    }

    /// Carries one attempt out, at the replica that it names, or at any. Dropping the future, or the reply, closes what it opened
    /// upstream.
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

#[cfg(test)]
mod tests;
