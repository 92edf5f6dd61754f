//! Span: one tracing span for each attempt, for logs now and traces later.

use std::pin::pin;

use tracing::Instrument as _;

use super::{Next, Policy};
use crate::{call::Attempt, error::Result, event::Reply};

/// Innermost of the attempt stack: covers the exchange with the upstream until its first byte.
#[derive(Debug)]
pub struct Span;

impl Policy<Attempt> for Span {
    async fn handle(&self, attempt: Attempt, next: &impl Next<Attempt>) -> Result<Reply> {
        let span = tracing::debug_span!(
            "attempt",
            request_id = %attempt.call.id,
            endpoint = %attempt.call.endpoint.name,
            deployment = %attempt.deployment.alias,
            provider = attempt.deployment.provider,
            lane = attempt.lane.name(),
            number = attempt.number,
        );
        // Pinned where it is: what is given by value is moved, all of its states.
        pin!(next.call(attempt)).instrument(span).await
    }
}
