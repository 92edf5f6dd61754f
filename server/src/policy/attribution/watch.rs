//! The watch over one attempt: what it comes to, by its events, its error or its being dropped.

use std::{sync::Arc, time::Duration};

use flowgate_proto::v1::ErrorReason;
use tokio::time::Instant;

use super::Parts;
use crate::{
    balance::{
        blame::Blame,
        breaker::{Change, State},
        credentials::Fault,
        rollout::Trial,
    },
    call::{Attempt, ReplicaId},
    error::{Error, Result},
    event::Event,
    upstream::Seen,
};

/// Silence is a fault when it is so many times as long as the slowest hundredth of answers takes, and at least so long.
const OVERDUE: u32 = 3;
const LEAST_OVERDUE: Duration = Duration::from_secs(1);

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
            // What was to find out whether the provider is well has found out, however long the stream goes on.
            if self.parts.vitals.breaker.state() != State::Closed {
                self.note(self.parts.vitals.breaker.success(self.begun));
            }
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
        vitals.credentials.good(self.credential, self.begun);
        meter.answered();
        self.trial.as_ref().inspect(|trial| trial.answered(latency));
        self.tell(Seen::Answered(latency), vitals.breaker.success(self.begun));
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
                // One that says when to come back is left alone until then; where there are others, ejection is enough.
                if error.retry_after_hint().is_some() && self.parts.upstream.is_alone() {
                    self.bench(Fault::Limited(error.retry_after_hint()), error);
                }
                self.tell(Seen::Failed, vitals.breaker.fault(self.begun));
            }
            Blame::Credential(fault) => {
                self.bench(fault, error);
                self.refused();
            }
            // A server that lacks the model is quick to say so, and none the better for it.
            Blame::Nobody if error.reason() == ErrorReason::ProviderNotFound => self.refused(),
            Blame::Nobody => self.tell(Seen::Answered(waited), vitals.breaker.success(self.begun)),
            // Nothing was sent: it could not be written in the words of the protocol.
            Blame::Unknown => vitals.breaker.leave(),
        }
    }

    /// The server lives, which says nothing of how well it serves.
    fn refused(&self) {
        self.parts.vitals.breaker.leave();
        self.tell(Seen::Refused, None);
    }

    fn bench(&self, fault: Fault, error: &Error) {
        let rest = self.parts.vitals.credentials.bench(self.credential, fault);
        self.parts.meter.benched(self.credential, error.reason_name(), rest);
    }

    fn tell(&self, seen: Seen, change: Option<Change>) {
        if let Some(replica) = self.replica {
            self.parts.upstream.report(replica, seen);
        }
        self.note(change);
    }

    fn note(&self, change: Option<Change>) {
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
        let (vitals, waited) = (&self.parts.vitals, self.begun.elapsed());
        // Whoever leaves early says nothing of the provider, but who waited far longer than others do was left waiting.
        let is_overdue = || vitals.latency.get(0.99).is_some_and(|slow| waited >= LEAST_OVERDUE.max(OVERDUE * slow));
        if self.due.is_some_and(|due| Instant::now() >= due) || waited >= LEAST_OVERDUE && is_overdue() {
            return self.failed(&Error::new(ErrorReason::ProviderTimeout, "the provider said nothing for far longer than it takes"));
        }
        vitals.breaker.leave();
        self.trial.as_ref().inspect(|trial| trial.given_up(waited));
        self.tell(Seen::Abandoned(waited), None);
    }
}
