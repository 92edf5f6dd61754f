//! The only place that orders policies: builds the services over a catalog and publishes both as one snapshot.

use std::{collections::HashMap, sync::Arc};

use crate::{
    balance::Balance,
    call::{Attempt, Call, Service},
    catalog::{Catalog, Deployment, Endpoint},
    config::{Config, Timeouts},
    error::{Error, Result},
    event::Reply,
    policy::{
        Next, Over,
        commit::Commit,
        defaults::Defaults,
        erase,
        meter::Meter,
        span::Span,
        timeouts::{Total, Try},
    },
    upstream::{Connections, Upstream},
};

/// A catalog and the services over it; calls in flight keep the one they began with.
#[derive(Debug)]
pub struct Snapshot {
    /// What can be called.
    pub catalog: Catalog,
    services: HashMap<Arc<str>, Service<Call>>,
}

/// An endpoint and what carries its calls out, of one snapshot.
#[derive(Clone, Debug)]
pub struct Served {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    service: Service<Call>,
}

/// The bottom of the attempt stack.
struct Send(Upstream);

impl Next<Attempt> for Send {
    async fn call(&self, attempt: Attempt) -> Result<Reply> {
        self.0.send(attempt).await
    }
}

/// The bottom of the call stack.
struct Choose(Balance);

impl Next<Call> for Choose {
    async fn call(&self, call: Call) -> Result<Reply> {
        self.0.call(call).await
    }
}

impl Snapshot {
    /// Builds the services of a configuration; connections to places that did not change are kept.
    ///
    /// # Errors
    /// What makes a deployment impossible to reach, for example an unreadable `upstream.ca`.
    pub fn build(config: &Config, connections: &Connections) -> Result<Self> {
        let catalog = Catalog::new(config);
        let services = catalog.all().iter().map(|endpoint| {
            let service = call_stack(endpoint, connections)?;
            Ok((Arc::clone(&endpoint.name), service))
        });
        let services = services.collect::<Result<_>>()?;
        Ok(Self { catalog, services })
    }

    /// A snapshot with services made by hand.
    #[cfg(test)]
    pub(crate) fn of(catalog: Catalog, services: HashMap<Arc<str>, Service<Call>>) -> Self {
        Self { catalog, services }
    }

    /// The endpoint that `find` picks, with what carries its calls out.
    ///
    /// # Errors
    /// What `find` says.
    pub fn served(&self, find: impl FnOnce(&Catalog) -> Result<&Arc<Endpoint>>) -> Result<Served> {
        let endpoint = find(&self.catalog)?;
        let service = self.services.get(&endpoint.name).cloned().ok_or_else(|| Error::internal("an endpoint has no service"))?;
        Ok(Served { endpoint: Arc::clone(endpoint), service })
    }
}

impl Served {
    /// Carries a call of this endpoint out.
    ///
    /// # Errors
    /// Whatever fails before the first event that commits.
    pub async fn call(self, call: Call) -> Result<Reply> {
        self.service.call(call).await
    }
}

/// Steps 6 to 8 of a request's life, outermost first.
fn call_stack(endpoint: &Endpoint, connections: &Connections) -> Result<Service<Call>> {
    let timeouts = endpoint.config.timeouts;
    let balance = Balance::new(endpoint, |deployment| attempt_stack(deployment, timeouts, connections))?;
    // Nearest to the choice: what passes it has its first content, so nothing above it ever sees a failure that could be retried.
    let commit = Over(Commit, Choose(balance));
    // Over all attempts, so that several tries share one time.
    let total = Over(Total(timeouts), commit);
    // Outermost: sees just what the client gets, refusals of the policies below included.
    let meter = Over(Meter, total);
    Ok(erase(meter))
}

/// Steps 9 and 10, outermost first.
fn attempt_stack(deployment: &Arc<Deployment>, timeouts: Timeouts, connections: &Connections) -> Result<Service<Attempt>> {
    let send = Send(connections.upstream(deployment, &timeouts)?);
    // Nearest to the exchange: the span covers what is spent on the upstream and nothing else.
    let span = Over(Span, send);
    let bounded = Over(Try(timeouts), span);
    // Before anything reads the request: from here on it is what the upstream gets.
    let defaults = Over(Defaults, bounded);
    Ok(erase(defaults))
}
