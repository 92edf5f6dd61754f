//! Table: tensors go to a model that the gateway runs as its signature wants them: base64 in a table for a column of type `binary`, so that
//! the same bytes are the same to the model, whatever they are and whichever client sends them; and `[n, 1]` as `[n]` for any column.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{Next, Policy, leaving::Leaving};
use crate::{
    balance::vitals::Vitals,
    call::Attempt,
    dialect::scoring::table::{self, Entry},
    error::Result,
    event::{Payload, Reply, Request},
    mlflow::{discreet::discreet, models::Hosted},
};

/// A model that says what it takes.
pub trait Signed: Send + Sync + fmt::Debug {
    /// Its inputs; none where it does not say. It is loaded first, where it is not: that is what a call of it waits for anyway.
    ///
    /// # Errors
    /// What keeps it from being loaded.
    fn entries(&self) -> BoxFuture<'_, Result<Vec<Entry>>>;
}

/// Sends tensors as the model's signature wants them. Stands before requests are put together, which then are of one kind.
#[derive(Debug)]
pub struct Table {
    model: Option<Arc<dyn Signed>>,
    vitals: Arc<Vitals>,
}

impl Table {
    /// For a deployment whose model the gateway runs, or which is somebody else's.
    pub fn new(model: Option<Arc<dyn Signed>>, vitals: Arc<Vitals>) -> Self {
        Self { model, vitals }
    }
}

impl Policy<Attempt> for Table {
    async fn handle(&self, mut attempt: Attempt, next: &impl Next<Attempt>) -> Result<Reply> {
        if let Some(model) = &self.model
            && attempt.call.payload.wire().is_none()
            && let Request::Predict(request) = attempt.call.payload.typed()?
            && table::hangs_on_signature(request)
        {
            let leaving = Leaving::new(&self.vitals);
            let begun = Instant::now();
            let entries = model.entries().await;
            attempt.call.record.note(|facts| facts.upstream += begun.elapsed());
            let changed = table::of(request, &entries?)?;
            leaving.stays();
            if let Some(changed) = changed {
                attempt.call.payload = Payload::typed_only(Request::Predict(changed));
            }
        }
        next.call(attempt).await
    }
}

impl Signed for Hosted {
    fn entries(&self) -> BoxFuture<'_, Result<Vec<Entry>>> {
        Box::pin(async {
            let current = self.load().await.map_err(discreet)?;
            Ok(current.signature().map(|signature| signature.entries(current.is_native())).unwrap_or_default())
        })
    }
}

#[cfg(test)]
mod tests;
