//! Batch: prediction requests of one kind that come to a deployment at the same time become one, and its answer an answer for each.
//!
//! It stands over the places of a deployment, the judgement of its faults and the time of an attempt: one request to the model holds one
//! place, counts once for the breaker and its replica, and has the whole time of an attempt, however long others were waited for. It stands
//! under the deployment's parameters, which are part of what must be alike, and under retry and the caller's deadline, which each
//! request goes on having for itself.

use std::{pin::pin, sync::Arc};

use tokio::time::Instant;

use super::{Next, Policy};
use crate::{
    call::{Attempt, Record, Service},
    config,
    error::{Error, Result},
    event::Reply,
    task::Tasks,
    telemetry::batches::BatchMeter,
};

mod group;
mod groups;
mod member;
mod together;

use groups::{Entry, Groups};

/// For a deployment that speaks MLflow's scoring protocol.
#[derive(Clone, Debug)]
pub struct Batch(Arc<Groups>);

/// The time for which a request waits for others and for the answer to all is none of the gateway's own.
struct Wait {
    record: Arc<Record>,
    since: Instant,
}

impl Batch {
    /// For a deployment whose requests are put together and carried out by what stands `below`, in tasks of their own: a caller that goes
    /// away leaves the others theirs.
    pub fn new(config: config::Batch, below: Service<Attempt>, tasks: Tasks, meter: BatchMeter) -> Self {
        Self(Arc::new(Groups::new(config, below, tasks, meter)))
    }
}

impl Policy<Attempt> for Batch {
    async fn handle(&self, attempt: Attempt, next: &impl Next<Attempt>) -> Result<Reply> {
        let Some(rows) = self.0.rows(&attempt) else { return pin!(next.call(attempt)).await };
        let record = Arc::clone(&attempt.call.record);
        match self.0.enter(attempt, rows) {
            // While it is under way, those like it wait for each other.
            Entry::Alone(attempt, _under_way) => pin!(next.call(*attempt)).await,
            Entry::Waiting(answer) => {
                let _wait = Wait { record, since: Instant::now() };
                answer.await.unwrap_or_else(|_| Err(Error::internal("requests that were put together were not carried out")))
            }
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.record.note(|facts| facts.upstream += self.since.elapsed());
    }
}

#[cfg(test)]
mod tests;
