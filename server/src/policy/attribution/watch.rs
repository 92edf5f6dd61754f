//! The watch over one attempt: what it comes to, by its events, its error or its being dropped.

use flowgate_proto::v1::ErrorReason;
use tokio::time::Instant;

use super::{Parts, Watch};
use crate::{
    balance::{
        blame::Blame,
        breaker::{Change, State},
        credentials::Fault,
    },
    error::{Error, Result},
    event::Event,
    upstream::Seen,
};

impl Watch {
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
        if self.due.is_some_and(|due| Instant::now() >= due) || vitals.is_overdue(waited) {
            return self.failed(&Error::new(ErrorReason::ProviderTimeout, "the provider said nothing for far longer than it takes"));
        }
        vitals.breaker.leave();
        self.trial.as_ref().inspect(|trial| trial.given_up(waited));
        self.tell(Seen::Abandoned(waited), None);
    }
}
