//! Attribution: whose fault a failed attempt is, told to those who should know: replica, credential, breaker or rollout. Never the
//! caller's to them.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Next, Policy};
use crate::{
    balance::{blame::Blame, breaker::Change, credentials::Fault, rollout::Trial, vitals::Vitals},
    call::{Attempt, ReplicaId},
    error::{Error, Result},
    event::{Event, Reply},
    telemetry::routing::DeploymentMeter,
    upstream::{Seen, Upstream},
};

/// Stands over the timeouts of an attempt, so that it sees what they end.
#[derive(Clone, Debug)]
pub struct Attribution(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    vitals: Arc<Vitals>,
    upstream: Arc<Upstream>,
    meter: DeploymentMeter,
    trial: Option<Trial>,
}

/// One attempt as it is watched. Dropped without a verdict it tells only how long nothing was heard.
struct Watch {
    parts: Arc<Parts>,
    replica: Option<ReplicaId>,
    credential: usize,
    begun: Instant,
    first: Option<Instant>,
    tokens: u32,
    is_over: bool,
}

impl Attribution {
    /// For the attempts at one deployment, which may be on trial.
    pub fn new(vitals: Arc<Vitals>, upstream: Arc<Upstream>, meter: DeploymentMeter, trial: Option<Trial>) -> Self {
        Self(Arc::new(Parts { vitals, upstream, meter, trial }))
    }
}

impl Policy<Attempt> for Attribution {
    async fn handle(&self, attempt: Attempt, next: &impl Next<Attempt>) -> Result<Reply> {
        let (parts, begun) = (Arc::clone(&self.0), Instant::now());
        let Attempt { replica, credential, .. } = attempt;
        let mut watch = Watch { parts, replica, credential, begun, first: None, tokens: 0, is_over: false };
        match next.call(attempt).await {
            Err(error) => {
                watch.failed(&error);
                Err(error)
            }
            Ok(reply) if reply.is_unary() => {
                watch.answered();
                Ok(reply)
            }
            Ok(reply) => Ok(reply.tap(move |event| watch.see(event))),
        }
    }
}

impl Watch {
    fn see(&mut self, event: &Result<Event>) {
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

    fn answered(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let Parts { vitals, meter, trial, .. } = &*self.parts;
        let now = Instant::now();
        let first = self.first.unwrap_or(now);
        let latency = first - self.begun;
        vitals.answered(latency, (self.tokens, now - first));
        vitals.credentials.good(self.credential, self.begun);
        meter.answered();
        trial.as_ref().inspect(|trial| trial.answered(latency));
        self.tell(Seen::Answered(latency), vitals.breaker.success());
    }

    fn failed(&mut self, error: &Error) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let Parts { vitals, meter, trial, .. } = &*self.parts;
        meter.failed(error.reason_name());
        let waited = self.begun.elapsed();
        trial.as_ref().inspect(|trial| trial.failed(error, waited));
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
        let (latency, trial) = (self.first.map(|first| first - self.begun), self.parts.trial.as_ref());
        let waited = latency.unwrap_or_else(|| self.begun.elapsed());
        trial.inspect(|trial| if latency.is_some() { trial.answered(waited) } else { trial.given_up(waited) });
        self.tell(if latency.is_some() { Seen::Answered(waited) } else { Seen::Abandoned(waited) }, None);
    }
}

#[cfg(test)]
mod tests {
    use flowgate_proto::v1::ErrorReason;
    use futures_util::{StreamExt as _, stream};
    use http::StatusCode;
    use tokio::time::{Duration, advance};

    use super::*;
    use crate::{
        balance::{
            breaker::State,
            rollout::Rollouts,
            vitals::{Fitness, Ward},
        },
        config::{self, Timeouts},
        event::Task,
        policy::testing::{Once, Then, attempt, catalog, deployment, endpoint, streamed, text, unary},
        telemetry::metrics::Metrics,
        upstream::Connections,
    };

    struct Bench {
        policy: Attribution,
        vitals: Arc<Vitals>,
    }

    fn bench() -> Bench {
        let Attempt { call, deployment, .. } = attempt(false);
        let vitals = Ward::default().of(&call.endpoint, &deployment);
        let upstream = Arc::new(Connections::default().upstream(&deployment, &Timeouts::defaults(Task::Chat)).unwrap());
        let meter = Metrics::new().routing().deployment(&"e".into(), &"only".into());
        Bench { policy: Attribution::new(Arc::clone(&vitals), upstream, meter, None), vitals }
    }

    impl Bench {
        async fn fails(&self, error: Error) {
            let next = Once::new(Err(error));
            assert!(self.policy.handle(attempt(false), &next).await.is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_providers_fault_opens_the_breaker() {
        let bench = bench();
        let poison = [ErrorReason::ProviderModelFailed, ErrorReason::ProviderRejectedRequest, ErrorReason::CallerContextTooLong];
        for reason in poison.into_iter().cycle().take(1000) {
            bench.fails(Error::new(reason, "x").upstream_status(StatusCode::BAD_REQUEST)).await;
        }
        assert_eq!(bench.vitals.fitness(None), Fitness::Fit);
        for state in [State::Closed, State::Closed, State::Closed, State::Closed, State::Open] {
            bench.fails(Error::new(ErrorReason::ProviderTimeout, "x")).await;
            assert_eq!(bench.vitals.breaker.state(), state);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_and_a_refused_key_rest_the_credential_alone() {
        let bench = bench();
        bench.fails(Error::new(ErrorReason::ProviderRateLimited, "x").retry_after(Some(Duration::from_secs(2)))).await;
        assert_eq!((bench.vitals.fitness(None), bench.vitals.breaker.state()), (Fitness::Resting, State::Closed));
        advance(Duration::from_secs(2)).await;
        assert_eq!(bench.vitals.fitness(None), Fitness::Fit);
        bench.fails(Error::new(ErrorReason::ProviderCredentialRejected, "x")).await;
        assert_eq!(bench.vitals.fitness(None), Fitness::Resting);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_judged_by_its_end() {
        let bench = bench();
        let cut = || [Ok(text("a")), Err(Error::stream_cut())];
        for _ in 0..5 {
            let next = Once::new(Ok(streamed(stream::iter(cut()))));
            let reply = bench.policy.handle(attempt(true), &next).await.unwrap();
            assert_eq!(reply.count().await, 2);
        }
        assert_eq!(bench.vitals.breaker.state(), State::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rollout_is_told_what_each_attempt_came_to() {
        let mut config = endpoint("e", vec![deployment("stable"), deployment("only")]);
        let (canary, steps, every) = ("only".to_owned(), vec![5], Duration::from_secs(60));
        config.routing.rollout = Some(config::Rollout { canary, steps, every, error_rate: None, p95: None, min_calls: 1 });
        let catalog = catalog(vec![config]);
        let endpoint = catalog.endpoint("e").unwrap();
        let rollout = Rollouts::default().of(endpoint, Metrics::new().routing()).unwrap();
        let mut bench = bench();
        let parts = Arc::get_mut(&mut bench.policy.0).unwrap();
        parts.trial = Trial::of(&rollout, endpoint, &endpoint.deployments[1]);
        for error in [Error::new(ErrorReason::ProviderTimeout, "x"), Error::new(ErrorReason::ProviderRejectedRequest, "x")] {
            bench.fails(error).await;
        }
        let slow = Then(|_: Attempt| async {
            advance(Duration::from_secs(1)).await;
            Ok(unary())
        });
        assert!(bench.policy.handle(attempt(false), &slow).await.is_ok());
        for (events, ends) in [(vec![Ok(text("a")), Err(Error::stream_cut())], 2), (vec![Ok(text("a")), Ok(Event::End)], 1)] {
            let next = Once::new(Ok(streamed(stream::iter(events))));
            bench.policy.handle(attempt(true), &next).await.unwrap().take(ends).count().await;
        }
        let tally = rollout.describe().canary_tally.unwrap();
        assert_eq!((tally.calls, tally.failures, tally.p95.unwrap().seconds), (4, 2, 1), "the last one was left after its first event");
    }

    #[tokio::test(start_paused = true)]
    async fn speed_is_measured_from_the_first_event_and_an_abandoned_attempt_says_nothing() {
        let bench = bench();
        let usage = flowgate_proto::v1::Usage { output_tokens: Some(30), ..Default::default() };
        let events = stream::iter([text("a"), Event::Usage(usage), Event::End]).enumerate().then(|(place, event)| async move {
            advance(Duration::from_secs(place as u64)).await;
            Ok(event)
        });
        let next = Once::new(Ok(streamed(events)));
        assert_eq!(bench.policy.handle(attempt(true), &next).await.unwrap().count().await, 3);
        assert_eq!(bench.vitals.throughput.get(Duration::MAX), Some(10.0), "30 tokens in 1 s and 2 s");
        drop(bench.policy.handle(attempt(true), &Once::new(Ok(streamed(stream::pending())))).await.unwrap());
        drop(bench.policy.handle(attempt(false), &Once::new(Ok(unary()))).await.unwrap());
        assert_eq!(bench.vitals.fitness(None), Fitness::Fit);
    }
}
