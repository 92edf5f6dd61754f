//! From one configuration to the next: the model that answers at a deployment goes on until the one that is to take its place is warm.

use std::sync::Arc;

use super::{Hosted, Models};
use crate::config::{Config, Deployment, Endpoint, Place};

impl Models {
    /// Lets the models of the configuration before stay at their deployments, where they answer and the new ones do not yet; these begin to
    /// load. Tells which they are.
    pub fn bridge(&self, next: &mut Config, before: &Config) -> Vec<Arc<Hosted>> {
        let mut awaited = Vec::new();
        for endpoint in &mut next.endpoints {
            let Some(known) = before.endpoints.iter().find(|known| known.name == endpoint.name) else { continue };
            for deployment in &mut endpoint.deployments {
                if let Some(hosted) = self.stays(deployment, known) {
                    awaited.push(hosted);
                }
            }
        }
        awaited
    }

    /// Has a deployment keep its model of before, where that must answer for now. The model that is awaited then.
    fn stays(&self, deployment: &mut Deployment, known: &Endpoint) -> Option<Arc<Hosted>> {
        let Place::Model(model) = &deployment.place else { return None };
        let last = known.deployments.iter().find(|last| last.alias == deployment.alias)?;
        let Place::Model(old) = &last.place else { return None };
        if old == model || self.known(old)?.current().is_none() {
            return None;
        }
        let hosted = self.hosted(model);
        if hosted.current().is_some() {
            return None;
        }
        hosted.begin();
        deployment.place = last.place.clone();
        Some(hosted)
    }
}
