//! Chooses where a call goes, and where it goes next when it failed there: deployment, replica, credential.

use std::{sync::Arc, time::Duration};

use flowgate_proto::v1::ErrorReason;

use crate::{
    call::{Attempt, Call, Place, ReplicaId, Service, Steps},
    catalog::{Deployment, Endpoint},
    config::{Affinity, Require, Retry},
    error::{Again, Error, Result},
    event::Reply,
    telemetry::routing::EndpointMeter,
    upstream::Upstream,
};

pub mod blame;
pub mod breaker;
pub mod budget;
pub mod credentials;
mod gradient;
mod kept;
pub mod latency;
pub mod limiter;
mod needs;
mod order;
pub mod rollout;
pub mod tempo;
#[cfg(test)]
mod tests;
pub mod vitals;
mod window;

use order::{By, Complaints};
use rollout::Trial;
use vitals::{Fitness, Vitals};

/// Without `retry.attempts`, so many attempts at most, or one at each deployment.
const ATTEMPTS: usize = 3;

/// The choice among an endpoint's deployments.
pub struct Balance {
    choices: Vec<Choice>,
    by: By,
    affinity: Option<Affinity>,
    require: Vec<Require>,
    retry: Retry,
    min_throughput: Option<f64>,
    /// Whether deployments differ in what they can do.
    is_mixed: bool,
    /// A number from 0 to 1; fixed in tests.
    draw: fn() -> f64,
    /// Why there is nothing to choose from.
    not_serving: Option<String>,
    complaints: Complaints,
    meter: EndpointMeter,
}

/// One deployment, what is known of it, and how it is called.
#[derive(Debug)]
pub struct Choice {
    /// The deployment.
    pub deployment: Arc<Deployment>,
    /// What is known of it.
    pub vitals: Arc<Vitals>,
    /// Its replicas.
    pub upstream: Arc<Upstream>,
    /// The attempt stack.
    pub service: Service<Attempt>,
    /// Its part in a rollout.
    trial: Option<Trial>,
    complaints: Complaints,
}

/// Where a call goes after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Further {
    /// The place.
    pub place: Place,
    /// Set where it was already: it should wait before, at least so long.
    pub pause: Option<Duration>,
}

impl Choice {
    /// A deployment as it is called.
    pub fn new(deployment: &Arc<Deployment>, vitals: Arc<Vitals>, upstream: Arc<Upstream>, service: Service<Attempt>) -> Self {
        Self { deployment: Arc::clone(deployment), vitals, upstream, service, trial: None, complaints: Complaints::new() }
    }

    /// The same with a part in a rollout.
    #[must_use]
    pub fn on_trial(self, trial: Option<Trial>) -> Self {
        Self { trial, ..self }
    }

    /// Whether the deployment that failed has another server or credential that this fault does not concern.
    fn has_other(&self, tried: &[Place], failed: Place, error: &Error) -> bool {
        let here = || tried.iter().filter(|tried| tried.deployment == failed.deployment);
        match error.reason() {
            ErrorReason::ProviderRateLimited | ErrorReason::ProviderCredentialRejected => {
                self.vitals.credentials.has_free(|credential| here().any(|tried| tried.credential == credential))
            }
            // One server may lack what another one has.
            reason if error.again() == Again::Anywhere || reason == ErrorReason::ProviderNotFound => {
                let replicas: Vec<ReplicaId> = here().filter_map(|tried| tried.replica).collect();
                self.upstream.has_untried(&replicas)
            }
            _ => false,
        }
    }

    fn fitness(&self, min_throughput: Option<f64>) -> Fitness {
        let own = self.vitals.fitness(min_throughput);
        if own < Fitness::Out && !self.upstream.is_fit() { Fitness::Out } else { own }
    }
}

impl Balance {
    /// The choice among these deployments of an endpoint.
    pub fn new(endpoint: &Endpoint, choices: Vec<Choice>, meter: EndpointMeter) -> Self {
        let routing = &endpoint.config.routing;
        let has_weights = endpoint.deployments.iter().any(|deployment| deployment.config.weight.is_some());
        let rollout = choices.iter().find_map(|choice| Some(Arc::clone(&choice.trial.as_ref()?.rollout)));
        let by = match (rollout, routing.prefer) {
            (Some(rollout), _) => By::Rollout(rollout),
            (None, Some(signal)) => By::Signal(signal),
            (None, None) if has_weights => By::Weight,
            (None, None) => By::File,
        };
        let traits = |choice: &Choice| (choice.deployment.capabilities().to_vec(), choice.deployment.config.traits.context_window);
        Self {
            is_mixed: choices.iter().any(|choice| traits(choice) != traits(&choices[0])),
            choices,
            by,
            affinity: routing.affinity.clone(),
            require: routing.require.clone(),
            retry: routing.retry,
            min_throughput: routing.min_throughput,
            draw: fastrand::f64,
            not_serving: endpoint.not_serving(),
            complaints: Complaints::new(),
            meter,
        }
    }

    /// Whether a deployment would get a call now that is not left alone for what is known of it.
    pub fn is_ready(&self, call: &Call) -> bool {
        // A chain has no deployments, and what cannot be ordered says so when it is called.
        self.choices.is_empty()
            || call.choice.route.with(|steps| match self.ordered(call, steps) {
                Ok(()) => self.best(steps).is_some_and(|(fitness, _)| fitness <= Fitness::Busy),
                Err(_) => true,
            })
    }

    /// Where a call goes first, or where a second attempt beside its first one goes.
    ///
    /// # Errors
    /// `GATEWAY_NOT_SERVING` when there is nothing to choose from, and that a deployment was wished for which does not exist;
    /// `PROVIDER_UNAVAILABLE` when the call is a spare one and all deployments are left alone.
    pub fn first(&self, call: &Call) -> Result<Place> {
        call.choice.route.with(|steps| {
            self.ordered(call, steps)?;
            let Some((fitness, best)) = self.best(steps) else { return Err(Error::internal("a call has nowhere to go")) };
            if call.choice.spare && steps.tried.is_empty() && fitness > Fitness::Full {
                let message = "every deployment of the endpoint is left alone after failures; try again later";
                return Err(Error::new(ErrorReason::ProviderUnavailable, message));
            }
            if steps.tried.is_empty() {
                self.note_passed_over(steps.order.as_deref().unwrap_or_default(), best);
                self.choices[best].vitals.retries.deposit();
            }
            let place = self.settle(best, &steps.tried);
            steps.tried.push(place);
            Ok(place)
        })
    }

    fn ordered(&self, call: &Call, steps: &mut Steps) -> Result<()> {
        if steps.order.is_none() {
            *steps = self.order(call)?;
        }
        Ok(())
    }

    /// The fittest deployment and how fit it is; one that was chosen for the call may have a queue. Among equals the order counts, but for a
    /// second attempt beside the first: that goes to another replica of the same deployment, which gives the same answer, else to the
    /// next in the order of the file, but never to one that a share, a condition or what pins the caller would not have chosen.
    fn best(&self, steps: &Steps) -> Option<(Fitness, usize)> {
        let order = steps.order.as_deref().unwrap_or_default();
        let is_bound = steps.chosen || matches!(self.by, By::Weight | By::Rollout(_));
        let distance = |place: usize| {
            let here = || steps.tried.iter().filter(|tried| tried.deployment == place);
            if here().next().is_none() {
                return if is_bound { 2 } else { 1 };
            }
            let replicas: Vec<ReplicaId> = here().filter_map(|tried| tried.replica).collect();
            match (self.choices[place].upstream.has_untried(&replicas), is_bound) {
                (true, _) => 0,
                (false, true) => 1,
                (false, false) => 2,
            }
        };
        let fitness = |position: usize, place: usize| match self.choices[place].fitness(self.min_throughput) {
            Fitness::Busy if steps.chosen && position == 0 => Fitness::Fit,
            fitness => fitness,
        };
        let all = order.iter().enumerate().map(|(position, place)| (fitness(position, *place), *place));
        all.min_by_key(|(fitness, place)| (*fitness, distance(*place)))
    }

    /// Tells the rollout that a call goes elsewhere than it was meant to, since that does not work. To have enough to do is no fault.
    fn note_passed_over(&self, order: &[usize], best: usize) {
        let meant = order.first().filter(|meant| **meant != best).map(|meant| &self.choices[*meant]);
        if let Some(Choice { trial: Some(trial), .. }) = meant.filter(|meant| meant.fitness(None) > Fitness::Full) {
            trial.passed_over();
        }
    }

    /// Where a call goes after it failed at a place; `None` when it has failed for good.
    pub fn further(&self, call: &Call, error: &Error) -> Option<Further> {
        let failed = call.choice.place?;
        let again = error.again();
        call.choice.route.with(|steps| {
            self.ask_rest(call, steps);
            let order = steps.order.as_deref().unwrap_or_default();
            let most = self.retry.attempts.map_or(order.len().max(ATTEMPTS), |attempts| attempts as usize);
            if again == Again::Nowhere || steps.tried.len() >= most {
                return None;
            }
            let (deployment, pause) = self.next(order, &steps.tried, failed, error)?;
            let place = self.settle(deployment, &steps.tried);
            steps.tried.push(place);
            Some(Further { place, pause })
        })
    }

    /// What is known of the deployment of a place.
    #[cfg(test)]
    pub(crate) fn vitals(&self, place: Place) -> &Vitals {
        &self.choices[place.deployment].vitals
    }

    /// Carries one attempt out, at the place that was chosen for it.
    ///
    /// # Errors
    /// What the attempt fails with.
    pub async fn call(&self, call: Call) -> Result<Reply> {
        let place = call.choice.place.ok_or_else(|| Error::internal("an attempt has no place"))?;
        let choice = self.choices.get(place.deployment).ok_or_else(|| Error::internal("an attempt's place is not there"))?;
        let attempt = call.attempt(Arc::clone(&choice.deployment))?;
        choice.service.call(attempt).await
    }

    /// The largest context window that a call was tried with; what did not fit needs a larger one. 1 where none is known.
    pub fn outgrown(&self, call: &Call) -> u32 {
        let tried = call.choice.route.with(|steps| steps.tried.clone());
        tried.into_iter().filter_map(|place| self.window_of(place)).max().unwrap_or(0).max(1)
    }

    /// The deployment for a further attempt: another server or credential of the one that failed; else another deployment; else, where
    /// the operator wants it, one that was tried, after a pause.
    fn next(&self, order: &[usize], tried: &[Place], failed: Place, error: &Error) -> Option<(usize, Option<Duration>)> {
        let choice = self.choices.get(failed.deployment)?;
        let fitness = |place: usize| self.choices[place].fitness(self.min_throughput);
        if choice.has_other(tried, failed, error) && fitness(failed.deployment) <= Fitness::Busy && choice.vitals.retries.withdraw() {
            return Some((failed.deployment, None));
        }
        let outgrown = self.window_of(failed).filter(|_| error.reason() == ErrorReason::CallerContextTooLong);
        let is_large = |place: usize| match outgrown {
            Some(outgrown) => self.choices[place].deployment.config.traits.context_window.is_some_and(|window| window > outgrown),
            None => true,
        };
        let was_at = |place: usize| tried.iter().any(|tried| tried.deployment == place);
        let others = order.iter().copied().filter(|place| !was_at(*place) && is_large(*place));
        // One that is slow, or has a queue, is better than none.
        let others = others.map(|place| (fitness(place), place)).filter(|(fitness, _)| *fitness <= Fitness::Busy);
        if let Some((_, other)) = others.min_by_key(|(fitness, _)| *fitness) {
            self.choices[other].vitals.retries.deposit();
            return Some((other, None));
        }
        if error.again() != Again::Anywhere || self.retry.attempts.is_none() {
            return None;
        }
        // One whose credentials rest, or whose servers cannot be reached just now, is worth the wait: that is what the pause is for.
        let same = order.iter().copied().find(|place| fitness(*place) <= Fitness::Out)?;
        let vitals = &self.choices[same].vitals;
        vitals.retries.withdraw().then(|| (same, Some(vitals.credentials.free_in())))
    }

    fn window_of(&self, place: Place) -> Option<u32> {
        Some(self.choices.get(place.deployment)?.deployment.config.traits.context_window.unwrap_or(0))
    }

    /// The replica and the credential at a deployment, those that were not tried yet before others.
    fn settle(&self, deployment: usize, tried: &[Place]) -> Place {
        let choice = &self.choices[deployment];
        choice.vitals.breaker.enter();
        if tried.is_empty() {
            let credential = choice.vitals.credentials.choose(|_| false);
            return Place { deployment, replica: choice.upstream.choose(&[]), credential, is_first: true };
        }
        let here = || tried.iter().filter(|tried| tried.deployment == deployment);
        let replicas: Vec<ReplicaId> = here().filter_map(|tried| tried.replica).collect();
        let credential = choice.vitals.credentials.choose(|credential| here().any(|tried| tried.credential == credential));
        Place { deployment, replica: choice.upstream.choose(&replicas), credential, is_first: false }
    }
}

impl std::fmt::Debug for Balance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let aliases = self.choices.iter().map(|choice| (&*choice.deployment.alias, choice.deployment.config.weight));
        f.debug_map().entries(aliases).finish()
    }
}
