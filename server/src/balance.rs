//! Chooses a deployment for a call: a weighted draw among those that can be called without a condition.

use std::sync::Arc;

use flowgate_proto::v1::ErrorReason;

use crate::{
    call::{Attempt, Call, Service},
    catalog::{Deployment, Endpoint},
    error::{Error, Result},
    event::Reply,
};

/// The choice among an endpoint's deployments.
pub struct Balance {
    choices: Vec<Choice>,
    /// The sum of all weights.
    total: u64,
    /// A number below its argument; fixed in tests.
    draw: fn(u64) -> u64,
    /// Why there is nothing to choose from.
    not_serving: Option<String>,
}

struct Choice {
    deployment: Arc<Deployment>,
    weight: u64,
    service: Service<Attempt>,
}

impl Balance {
    /// The choice among the deployments of an endpoint that can be called, each with its service.
    ///
    /// # Errors
    /// What `service` says of a deployment.
    pub fn new(endpoint: &Endpoint, service: impl Fn(&Arc<Deployment>) -> Result<Service<Attempt>>) -> Result<Self> {
        let eligible = endpoint.deployments.iter().filter(|deployment| deployment.is_eligible());
        let has_weights = endpoint.deployments.iter().any(|deployment| deployment.config.weight.is_some());
        let choices = eligible.enumerate().map(|(position, deployment)| {
            // Without weights the first one is the default and the others are there for fallback only.
            let weight = if has_weights { deployment.config.weight.unwrap_or(0).into() } else { u64::from(position == 0) };
            Ok(Choice { deployment: Arc::clone(deployment), weight, service: service(deployment)? })
        });
        let choices = choices.collect::<Result<Vec<_>>>()?;
        let total = choices.iter().map(|choice| choice.weight).sum();
        Ok(Self { choices, total, draw: |total| fastrand::u64(..total), not_serving: endpoint.not_serving() })
    }

    /// Carries the call out at the deployment that was drawn.
    ///
    /// # Errors
    /// `GATEWAY_NOT_SERVING` when there is nothing to draw from, and what the attempt fails with.
    pub async fn call(&self, call: Call) -> Result<Reply> {
        let choice = self.choose()?;
        let attempt = call.attempt(Arc::clone(&choice.deployment), 1)?;
        choice.service.call(attempt).await
    }

    fn choose(&self) -> Result<&Choice> {
        if self.total == 0 {
            let why = self.not_serving.as_deref().unwrap_or("every deployment that can be called has weight 0");
            let message = format!("the endpoint is not serving: {why}");
            return Err(Error::new(ErrorReason::GatewayNotServing, message));
        }
        let mut left = (self.draw)(self.total);
        let chosen = self.choices.iter().find(|choice| match left.checked_sub(choice.weight) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        });
        chosen.ok_or_else(|| Error::internal("a draw passed the sum of all weights"))
    }
}

impl std::fmt::Debug for Balance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let aliases = self.choices.iter().map(|choice| (&*choice.deployment.alias, choice.weight));
        f.debug_map().entries(aliases).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config,
        policy::testing::{Then, catalog, deployment, endpoint, unary},
    };

    fn balance(deployments: Vec<config::Deployment>) -> Balance {
        let catalog = catalog(vec![endpoint("e", deployments)]);
        let service = |_: &Arc<Deployment>| Ok(crate::policy::erase(Then(|_: Attempt| async { Ok(unary()) })));
        Balance::new(catalog.endpoint("e").unwrap(), service).unwrap()
    }

    fn weighted(alias: &str, weight: u32) -> config::Deployment {
        config::Deployment { weight: Some(weight), ..deployment(alias) }
    }

    fn chosen(balance: &mut Balance, draw: fn(u64) -> u64) -> String {
        balance.draw = draw;
        balance.choose().unwrap().deployment.alias.to_string()
    }

    #[test]
    fn the_draw_follows_the_weights() {
        let mut balance = balance(vec![weighted("stable", 90), weighted("none", 0), weighted("canary", 10)]);
        assert_eq!(balance.total, 100);
        assert_eq!(chosen(&mut balance, |_| 0), "stable");
        assert_eq!(chosen(&mut balance, |_| 89), "stable");
        assert_eq!(chosen(&mut balance, |_| 90), "canary");
        assert_eq!(chosen(&mut balance, |_| 99), "canary");
    }

    #[test]
    fn without_weights_the_first_that_can_be_called_is_the_default() {
        let nowhere = config::Deployment { place: config::Place::Nowhere("later".to_owned()), ..deployment("first") };
        let conditional =
            config::Deployment { condition: Some(crate::expression::Expression::compile("True").unwrap()), ..deployment("second") };
        let mut balance = balance(vec![nowhere, conditional, deployment("third"), deployment("fourth")]);
        assert_eq!(chosen(&mut balance, |_| 0), "third");
    }

    #[test]
    fn an_endpoint_that_cannot_be_served_says_why() {
        let nowhere = config::Deployment { place: config::Place::Nowhere("load it elsewhere".to_owned()), ..deployment("only") };
        let error = balance(vec![nowhere]).choose().err().unwrap();
        assert_eq!(error.reason(), ErrorReason::GatewayNotServing);
        assert!(error.to_string().contains("load it elsewhere"));
    }
}
