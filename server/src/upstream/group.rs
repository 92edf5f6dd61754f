//! The replicas of one deployment: which there are as names change, and which of them are ejected.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use http::{Uri, uri::Scheme};

use super::{
    Seen,
    choice::{self, Member},
    connections::{Definition, Origin, Shared},
    ejection,
    mock::Mock,
    names::Name,
    replica::{Client, InFlight, Replica},
    tls,
};
use crate::{
    call::ReplicaId,
    catalog::Deployment,
    config::{self, Place, Timeouts},
    dialect::Target,
    error::Result,
};

/// The replicas of one deployment.
pub(super) struct Group {
    members: ArcSwap<Vec<Member>>,
    /// Where they are, one for each of the deployment's targets; empty for what is made up.
    sites: Vec<Site>,
    ejection: config::Ejection,
    /// Held by who changes the list, or ejects one: the share that may be ejected is that of all.
    changing: Mutex<()>,
    shared: Arc<Shared>,
}

/// One address as it is written.
struct Site {
    definition: Definition,
    /// Where it may stand for several servers.
    name: Option<Arc<Name>>,
}

impl Group {
    /// The replicas of a deployment, as far as its names are known.
    ///
    /// # Errors
    /// What makes one impossible to reach, for example certificate authorities that cannot be read.
    pub(super) fn new(shared: &Arc<Shared>, deployment: &Deployment, timeouts: &Timeouts) -> Result<Arc<Self>> {
        let (made, sites) = match &deployment.config.place {
            Place::Mock(mock) => {
                let replica = || Arc::new(Replica::new(Client::Mock(Mock::new(mock.clone()))));
                ((0..deployment.targets.len()).map(|target| Member { target, replica: replica() }).collect(), Vec::new())
            }
            Place::Model(model) => {
                let replica = Arc::new(Replica::new(Client::Own(shared.servers.of(model)?)));
                (
                    deployment.targets.iter().enumerate().map(|(target, _)| Member { target, replica: Arc::clone(&replica) }).collect(),
                    Vec::new(),
                )
            }
            Place::Http(_) | Place::Nowhere(_) => {
                let site = |target: &Target| Site::new(shared, &deployment.config, &target.base, timeouts);
                (Vec::new(), deployment.targets.iter().map(site).collect::<Result<_>>()?)
            }
        };
        let group = Arc::new(Self {
            members: ArcSwap::from_pointee(made),
            sites,
            ejection: deployment.config.traits.ejection,
            changing: Mutex::default(),
            shared: Arc::clone(shared),
        });
        // First, so that no change is missed.
        group.sites.iter().filter_map(|site| site.name.as_ref()).for_each(|name| name.tell(&group));
        if !group.sites.is_empty() {
            group.refresh()?;
        }
        Ok(group)
    }

    /// The replicas there are now.
    pub(super) fn members(&self) -> Guard<Arc<Vec<Member>>> {
        self.members.load()
    }

    /// Takes over what names stand for now. Replicas that stay keep their connections; calls to those that leave go on.
    ///
    /// # Errors
    /// What makes a replica impossible to reach; all then stays as it is.
    pub(super) fn refresh(&self) -> Result<()> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut members = Vec::with_capacity(self.sites.len());
        for (target, site) in self.sites.iter().enumerate() {
            let several = site.name.as_ref().map(|name| name.several()).unwrap_or_default();
            let one = several.is_empty().then_some(None);
            for address in one.into_iter().chain(several.into_iter().map(Some)) {
                let replica = self.shared.replica(&site.definition.at(address))?;
                members.push(Member { target, replica });
            }
        }
        self.members.store(Arc::new(members));
        Ok(())
    }

    /// Enters a replica: the one that is named, if it is still there. Also the position of its target.
    pub(super) fn enter(&self, named: Option<ReplicaId>) -> Option<(usize, InFlight)> {
        let members = self.members();
        let named = named.and_then(|named| members.iter().find(|member| member.replica.id == named));
        let member = named.or_else(|| choice::choose(&members, &[]))?;
        Some((member.target, member.replica.enter()))
    }

    /// Takes in how an attempt at a replica ended.
    pub(super) fn report(&self, replica: ReplicaId, seen: Seen) {
        let members = self.members();
        let Some(member) = members.iter().find(|member| member.replica.id == replica) else { return };
        match seen {
            Seen::Answered(took) => member.replica.answered(took),
            Seen::Failed if member.replica.ejection.failed(&self.ejection) => self.eject(&members, &member.replica),
            Seen::Failed => {}
            Seen::Refused => member.replica.ejection.answered(),
            Seen::Abandoned(waited) => member.replica.was_slow(waited),
        }
    }

    /// Leaves a replica out for a while, if enough others are left.
    fn eject(&self, members: &[Member], replica: &Arc<Replica>) {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let out = members.iter().filter(|member| member.replica.ejection.is_out()).count();
        let is_other = |member: &Member| !Arc::ptr_eq(&member.replica, replica);
        let is_left = |member: &Member| is_other(member) && member.replica.is_healthy() && !member.replica.ejection.is_out();
        if out >= ejection::most(members.len(), self.ejection.max_share) || !members.iter().any(is_left) {
            return;
        }
        let Some(time) = replica.eject(&self.ejection) else { return };
        let replica = Arc::downgrade(replica);
        self.shared.tasks.spawn(async move {
            tokio::time::sleep(time).await;
            if let Some(replica) = replica.upgrade() {
                replica.take_back();
            }
        });
    }
}

impl Site {
    fn new(shared: &Arc<Shared>, config: &config::Deployment, base: &Uri, timeouts: &Timeouts) -> Result<Self> {
        let origin = Origin {
            https: base.scheme() == Some(&Scheme::HTTPS),
            authority: base.authority().cloned(),
            proxy: config.proxy.clone(),
            ca: authorities(config)?,
            connect: timeouts.connect,
            h2: config.provider.quirks.is_grpc,
            address: None,
        };
        // Behind a proxy it is the proxy that looks names up.
        let name = base.host().filter(|_| config.proxy.is_none()).and_then(|host| shared.name(host));
        Ok(Self { definition: Definition { base: base.clone(), origin, health: config.traits.health.clone() }, name })
    }
}

/// The certificate authorities that a deployment trusts beside the system's, and the file that they are from.
///
/// # Errors
/// An internal error when the file cannot be read.
pub(super) fn authorities(config: &config::Deployment) -> Result<Option<(PathBuf, Bytes)>> {
    config.ca.as_ref().map(|path| Ok((path.clone(), tls::read(path)?.into()))).transpose()
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Group").field(&self.members.load()).finish()
    }
}
