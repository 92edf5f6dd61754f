//! A deployment's part in a rollout, and the registry in which rollouts outlive reloads that leave them and their canaries alone.

use std::{sync::Arc, time::Duration};

use flowgate_proto::v1::ErrorReason;

use super::{Leg, Rollout, Stand, Tally};
use crate::{
    balance::kept::Kept,
    catalog::{Deployment, Endpoint},
    error::{Error, Origin},
    telemetry::routing::Routing,
};

/// A deployment on trial: what the first attempts of calls come to there is told here, and of no others, since what comes second has
/// failed or been slow elsewhere. Cloning shares.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The rollout.
    pub rollout: Arc<Rollout>,
    role: Role,
}

/// The rollouts of all endpoints.
#[derive(Debug, Default)]
pub struct Rollouts(Kept<[u8; 32], Rollout>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Role {
    Canary,
    Stable {
        /// How much it gets of what the canary leaves, from 0 to 1; `None`: nothing ever.
        part: Option<f64>,
    },
}

impl Trial {
    /// The part of a deployment in the rollout of its endpoint; `None` where a condition decides.
    pub fn of(rollout: &Arc<Rollout>, endpoint: &Endpoint, deployment: &Deployment) -> Option<Self> {
        let role = if deployment.alias == rollout.canary {
            Role::Canary
        } else if deployment.config.condition.is_none() {
            Role::Stable { part: part(rollout, endpoint, deployment) }
        } else {
            return None;
        };
        Some(Self { rollout: Arc::clone(rollout), role })
    }

    /// What it weighs against the others while the canary has this share, in percent. 0: it serves only when others have failed;
    /// `None`: never.
    pub fn weight(&self, share: u32) -> Option<f64> {
        match self.role {
            Role::Canary => Some(f64::from(share)).filter(|share| *share > 0.0),
            Role::Stable { part } => Some(f64::from(100_u32.saturating_sub(share)) * part?),
        }
    }

    /// An attempt there was answered after so long.
    pub fn answered(&self, latency: Duration) {
        self.count(|tally, _| tally.took(latency));
    }

    /// An attempt there failed after so long. What the caller did wrong, or the gateway, says nothing of the deployment.
    pub fn failed(&self, error: &Error, waited: Duration) {
        match error.reason() {
            ErrorReason::ProviderRejectedRequest | ErrorReason::ProviderBlocked => {}
            ErrorReason::CallerDeadlineExceeded | ErrorReason::CallerCancelled => self.given_up(waited),
            _ if error.origin() == Origin::Provider => self.count(|tally, _| tally.failed()),
            _ => {}
        }
    }

    /// Nobody waited for an attempt there any more. It counts where it was too slow already.
    pub fn given_up(&self, waited: Duration) {
        self.count(|tally, leg| {
            if self.rollout.most_time(leg).is_some_and(|most| waited > most) {
                tally.took(waited);
            }
        });
    }

    /// A call that was meant for it went elsewhere, since it was not fit to be tried: what keeps others from failing must not hide
    /// that it does.
    pub fn passed_over(&self) {
        self.count(|tally, _| tally.failed());
    }

    fn count(&self, count: impl FnOnce(&Tally, &Leg)) {
        let leg = self.rollout.leg.load();
        if leg.stand != Stand::Running {
            return;
        }
        match self.role {
            Role::Canary => {
                count(&leg.canary, &leg);
                self.rollout.judge(&leg, false);
            }
            Role::Stable { .. } => count(&leg.stable, &leg),
        }
    }
}

impl Rollouts {
    /// The rollout of an endpoint, if it wants one; that of before if neither it nor what the canary is has changed.
    pub fn of(&self, endpoint: &Endpoint, meters: &Routing) -> Option<Arc<Rollout>> {
        let config = endpoint.config.routing.rollout.as_ref()?;
        let canary = endpoint.deployments.iter().find(|deployment| *deployment.alias == *config.canary)?;
        let make = || Rollout::new(&endpoint.name, &canary.alias, config.clone(), meters.rollout(&endpoint.name, &canary.alias));
        Some(self.0.of(key(endpoint, canary), make))
    }
}

/// A stable deployment's part by its weight; without any weight the first that can be called has it all, and the others come after.
fn part(rollout: &Rollout, endpoint: &Endpoint, deployment: &Deployment) -> Option<f64> {
    let is_stable = |other: &&Arc<Deployment>| other.dialect.is_some() && other.config.condition.is_none() && other.alias != rollout.canary;
    let stable: Vec<_> = endpoint.deployments.iter().filter(is_stable).collect();
    stable.iter().find(|other| other.alias == deployment.alias)?;
    if stable.iter().all(|other| other.config.weight.is_none()) {
        return Some(if stable[0].alias == deployment.alias { 1.0 } else { 0.0 });
    }
    let weight = |other: &Deployment| f64::from(other.config.weight.unwrap_or(0));
    let own = weight(deployment);
    (own > 0.0).then(|| own / stable.iter().map(|other| weight(other)).sum::<f64>())
}

/// What the rollout is and what answers at its canary. Keys and limits may change meanwhile.
fn key(endpoint: &Endpoint, canary: &Deployment) -> [u8; 32] {
    let config = &canary.config;
    let rollout = &endpoint.config.routing.rollout;
    let told = format!("{:?}", (&endpoint.name, rollout, config.provider.name, &config.model, &config.place, &config.parameters));
    *blake3::hash(told.as_bytes()).as_bytes()
}
