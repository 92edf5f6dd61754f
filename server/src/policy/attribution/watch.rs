//! The watch over one attempt: what it comes to, by its events, its error or its being dropped.

use std::sync::Arc;

use flowgate_proto::v1::ErrorReason;
use tokio::time::Instant;

use super::Parts;
use crate::{
    balance::{blame::Blame, breaker::Change, credentials::Fault, rollout::Trial},
    call::{Attempt, ReplicaId},
    error::{Error, Result},
    event::Event,
    upstream::Seen,
};

/// One attempt as it is watched. Dropped without a verdict it tells only how long nothing was heard, unless that is the provider's fault.
pub(super) struct Watch {
    parts: Arc<Parts>,
    replica: Option<ReplicaId>,
    credential: usize,
    /// Where it is the first of its call.
    trial: Option<Trial>,
    begun: Instant,
    /// From when on silence is a fault.
    due: Option<Instant>,
    first: Option<Instant>,
    tokens: u32,
    is_over: bool,
}

impl Watch {
    pub(super) fn over(parts: Arc<Parts>, attempt: &Attempt, begun: Instant) -> Self {
        let Attempt { call, replica, credential, .. } = attempt;
        // A call that was elsewhere before failed or was slow there: it would be no fair trial.
        let is_first = call.choice.place.is_none_or(|place| place.is_first);
        Self {
            trial: parts.trial.clone().filter(|_| is_first),
            parts,
            replica: *replica,
            credential: *credential,
            begun,
            due: call.end_of_patience(begun),
            first: None,
            tokens: 0,
            is_over: false,
        }
    }

    pub(super) fn see(&mut self, event: &Result<Event>) {
        let event = match event {
            Ok(event) => event,
            Err(error) => return self.failed(error),
        };
        if self.first.is_none() && event.commits() {
            self.first = Some(Instant::now());
        }
        if let Some(tokens) = event.usage().and_then(|usage| usage.output_tokens) {
            self.tokens = tokens;
        }
        if matches!(event, Event::End | Event::Answer(_)) {
            self.answered();
        }
    }

    pub(super) fn answered(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let Parts { vitals, meter, .. } = &*self.parts;
        let now = Instant::now();
        let first = self.first.unwrap_or(now);
        let latency = first - self.begun;
        vitals.answered(latency, (self.tokens, now - first));
        vitals.credentials.good(self.credential);
        meter.answered();
        self.trial.as_ref().inspect(|trial| trial.answered(latency));
        self.tell(Seen::Answered(latency), vitals.breaker.success());
    }

    pub(super) fn failed(&mut self, error: &Error) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let Parts { vitals, meter, .. } = &*self.parts;
        meter.failed(error.reason_name());
        let waited = self.begun.elapsed();
        self.trial.as_ref().inspect(|trial| trial.failed(error, waited));
        match Blame::of(error) {
            Blame::Server => {
                // One that says when to come back is left alone until then.
                if error.retry_after_hint().is_some() {
                    vitals.credentials.bench(self.credential, Fault::Limited(error.retry_after_hint()));
                }
                self.tell(Seen::Failed, vitals.breaker.fault());
            }
            Blame::Credential(fault) => {
                let rest = vitals.credentials.bench(self.credential, fault);
                meter.benched(self.credential, error.reason_name(), rest);
                self.tell(Seen::Answered(waited), None);
            }
            Blame::Nobody => self.tell(Seen::Answered(waited), vitals.breaker.success()),
            // Nothing was sent: it could not be written in the words of the protocol.
            Blame::Unknown => {}
        }
    }

    fn tell(&self, seen: Seen, change: Option<Change>) {
        if let Some(replica) = self.replica {
            self.parts.upstream.report(replica, seen);
        }
        match change {
            Some(Change::Opened(open)) => self.parts.meter.opened(open),
            Some(Change::Closed) => self.parts.meter.closed(),
            None => {}
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        if let Some(first) = self.first {
            let latency = first - self.begun;
            self.trial.as_ref().inspect(|trial| trial.answered(latency));
            return self.tell(Seen::Answered(latency), None);
        }
        if self.due.is_some_and(|due| Instant::now() >= due) {
            return self.failed(&Error::new(ErrorReason::ProviderTimeout, "the provider said nothing in the endpoint's `timeouts.total`"));
        }
        let waited = self.begun.elapsed();
        self.trial.as_ref().inspect(|trial| trial.given_up(waited));
        self.tell(Seen::Abandoned(waited), None);
    }
}
