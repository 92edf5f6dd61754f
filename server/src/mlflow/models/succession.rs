//! From one configuration to the next: the model that answers at a deployment goes on until the one that is to take its place is warm.

use std::{collections::HashSet, sync::Arc};

use super::{Hosted, Models};
use crate::config::{Config, Deployment, Endpoint, Model, Place};

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

    /// Tells of models that answer and that the configuration names no more: they go when their calls are done.
    pub fn retire(&self, next: &Config, before: &Config) {
        let named: HashSet<_> = models_of(next).collect();
        for model in models_of(before).filter(|model| !named.contains(model)).collect::<HashSet<_>>() {
            if let Some(hosted) = self.known(model).filter(|hosted| hosted.current().is_some()) {
                tracing::info!(model = %hosted.name(), cause = "no endpoint names it any more", "a model is unloaded");
                hosted.meter.unloaded();
            }
        }
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

fn models_of(config: &Config) -> impl Iterator<Item = &Model> {
    config.endpoints.iter().flat_map(|endpoint| &endpoint.deployments).filter_map(|deployment| match &deployment.place {
        Place::Model(model) => Some(&**model),
        Place::Http(_) | Place::Mock(_) | Place::Nowhere(_) => None,
    })
}
