//! Concurrency: at most so many attempts at once at a deployment, streams until their end; others wait for their turn, or are refused.

use std::{sync::Arc, time::Duration};

use flowgate_proto::v1::ErrorReason;

use super::{Next, Policy};
use crate::{
    balance::limiter::{Entry, Limiter, Permit},
    call::{Attempt, Call},
    error::{Error, Result},
    event::{Event, Reply},
    telemetry::load::PlaceMeter,
};

/// When a call that got no place may come back.
const COME_BACK: Duration = Duration::from_secs(1);

/// Stands over what judges a deployment, so that it is not blamed for the wait.
#[derive(Clone, Debug)]
pub struct Concurrency(Option<Arc<Places>>);

#[derive(Debug)]
struct Places {
    limiter: Limiter,
    meter: PlaceMeter,
}

/// An attempt in its place.
struct Held {
    places: Arc<Places>,
    permit: Permit,
    /// Whether the limit has learnt what the attempt has to tell.
    has_told: bool,
}

impl Concurrency {
    /// For a deployment that gets all calls there are.
    pub fn unlimited() -> Self {
        Self(None)
    }

    /// For a deployment with so many places.
    pub fn limited(limiter: Limiter, meter: PlaceMeter) -> Self {
        meter.limited(limiter.limit());
        Self(Some(Arc::new(Places { limiter, meter })))
    }
}

impl Policy<Attempt> for Concurrency {
    async fn handle(&self, attempt: Attempt, next: &impl Next<Attempt>) -> Result<Reply> {
        let Some(places) = &self.0 else { return next.call(attempt).await };
        let mut held = places.enter(&attempt.call).await?;
        match next.call(attempt).await {
            Err(error) => {
                held.failed(&error);
                Err(error)
            }
            Ok(reply) if reply.is_unary() => {
                held.answered();
                Ok(reply)
            }
            Ok(reply) => {
                let mut held = Some(held);
                Ok(reply.tap(move |event| {
                    if held.as_mut().is_some_and(|held| held.see(event)) {
                        held = None;
                    }
                }))
            }
        }
    }
}

impl Places {
    async fn enter(self: &Arc<Self>, call: &Call) -> Result<Held> {
        let permit = match self.limiter.enter(call.choice.priority) {
            Ok(Entry::In(permit)) => Ok(permit),
            Ok(Entry::Queued(queued)) => {
                let waiting = self.meter.queued();
                let place = queued.wait().await;
                call.record.note(|facts| facts.upstream += waiting.elapsed());
                place
            }
            Err(full) => Err(full),
        };
        let permit = permit.map_err(|_full| {
            self.meter.refused();
            let message = "the deployment has as many calls as it may have at once, and no place became free in time; try again shortly";
            Error::new(ErrorReason::GatewayOverloaded, message).retry_after(Some(COME_BACK))
        })?;
        self.meter.entered();
        Ok(Held { places: Arc::clone(self), permit, has_told: false })
    }
}

impl Held {
    /// Looks at an event; whether nothing follows it.
    fn see(&mut self, event: &Result<Event>) -> bool {
        match event {
            Ok(event) => {
                if event.commits() {
                    self.answered();
                }
                matches!(event, Event::End | Event::Answer(_))
            }
            Err(error) => {
                self.failed(error);
                true
            }
        }
    }

    fn answered(&mut self) {
        self.tell(Permit::answered);
    }

    fn failed(&mut self, error: &Error) {
        let is_overload = match error.reason() {
            ErrorReason::ProviderRateLimited | ErrorReason::ProviderTimeout => true,
            // Without a status nobody was there to say so.
            ErrorReason::ProviderUnavailable => error.upstream_status_code().is_some(),
            _ => false,
        };
        self.tell(|permit| if is_overload { permit.overloaded() } else { None });
    }

    fn tell(&mut self, tell: impl FnOnce(&Permit) -> Option<u32>) {
        if std::mem::replace(&mut self.has_told, true) {
            return;
        }
        if let Some(limit) = tell(&self.permit) {
            self.places.meter.limited(limit);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.tell(Permit::abandoned);
        self.places.meter.left();
    }
}

#[cfg(test)]
mod tests;
