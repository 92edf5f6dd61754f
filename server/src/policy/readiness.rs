//! Readiness: a model that the gateway runs itself is loaded before the time of the attempt begins. To wait for that is the caller's to end,
//! by a deadline, and no sign that the model hangs.

use std::sync::Arc;

use super::{Next, Policy};
use crate::{call::Attempt, error::Result, event::Reply, upstream::Server};

/// The server of such a model; `None` for all others.
#[derive(Clone, Debug)]
pub struct Readiness(pub Option<Arc<dyn Server>>);

impl Policy<Attempt> for Readiness {
    async fn handle(&self, attempt: Attempt, next: &impl Next<Attempt>) -> Result<Reply> {
        if let Some(server) = &self.0 {
            server.ready().await?;
        }
        next.call(attempt).await
    }
}
