//! Retry: makes attempts until one commits, each where `balance` says; waits only before it goes back to a place that failed.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{Next, Policy};
use crate::{balance::Balance, call::Call, config, error::Result, event::Reply, telemetry::routing::EndpointMeter};

/// A provider that asks for more is not waited for: the caller is told when to come back.
const MOST_PATIENCE: Duration = Duration::from_secs(30);

/// Attempts within one endpoint.
#[derive(Debug)]
pub struct Retry {
    balance: Arc<Balance>,
    backoff: (Duration, Duration),
    meter: EndpointMeter,
}

impl Retry {
    /// Attempts as the endpoint's `retry` wants them.
    pub fn new(balance: Arc<Balance>, config: config::Retry, meter: EndpointMeter) -> Self {
        Self { balance, backoff: config.backoff, meter }
    }

    /// Full jitter below a bound that doubles; at least what the provider asked for.
    fn pause(&self, pauses: u32, asked: Option<Duration>) -> Duration {
        let (least, most) = self.backoff;
        let bound = least.saturating_mul(2_u32.saturating_pow(pauses)).min(most);
        bound.mul_f64(fastrand::f64()).max(asked.unwrap_or_default())
    }
}

impl Policy<Call> for Retry {
    async fn handle(&self, mut call: Call, next: &impl Next<Call>) -> Result<Reply> {
        call.choice.place = Some(self.balance.first(&call)?);
        let mut pauses = 0;
        loop {
            let error = match pin!(next.call(call.clone())).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let Some(further) = self.balance.further(&call, &error) else { return Err(error) };
            if let Some(rest) = further.pause {
                let pause = self.pause(pauses, error.retry_after_hint().max(Some(rest)));
                if pause > MOST_PATIENCE || call.remaining().is_some_and(|left| left <= pause) {
                    return Err(error);
                }
                let since = Instant::now();
                sleep(pause).await;
                call.record.note(|facts| facts.upstream += since.elapsed());
                pauses += 1;
            }
            self.meter.retried();
            call.choice.place = Some(further.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use flowgate_proto::v1::ErrorReason;

    use super::*;
    use crate::{
        error::Error,
        policy::testing::{Then, balance, deployment, endpoint, meter, unary},
    };

    type Answers = Arc<Mutex<Vec<Result<Reply>>>>;

    /// Retries over answers that are given in turn; how long it took, and what is left of the answers.
    async fn run(attempts: Option<u32>, answers: Vec<Result<Reply>>, left: Option<Duration>) -> (Result<Reply>, Duration, usize) {
        let mut config = endpoint("e", vec![deployment("only")]);
        config.routing.retry.attempts = attempts;
        let (balance, mut call) = balance(&config);
        call.deadline = left.map(|left| Instant::now() + left);
        let answers: Answers = Arc::new(Mutex::new(answers));
        let given = Arc::clone(&answers);
        let next = Then(move |call: Call| {
            assert!(call.choice.place.is_some());
            let answer = given.lock().unwrap().remove(0);
            async move { answer }
        });
        let since = Instant::now();
        let reply = Retry::new(balance, config.routing.retry, meter()).handle(call, &next).await;
        let left = answers.lock().unwrap().len();
        (reply, since.elapsed(), left)
    }

    fn fails(reason: ErrorReason, after: Option<u64>) -> Result<Reply> {
        Err(Error::new(reason, "x").retry_after(after.map(Duration::from_secs)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_that_passes_costs_a_pause_and_no_more() {
        let answers = vec![fails(ErrorReason::ProviderFailed, None), fails(ErrorReason::ProviderFailed, None), Ok(unary())];
        let (reply, took, _) = run(Some(3), answers, None).await;
        assert!(reply.is_ok());
        assert!(took <= Duration::from_millis(300), "full jitter stays below 100 ms and 200 ms: {took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_attempts_asked_for_a_lone_place_is_asked_once() {
        let (reply, _, left) = run(None, vec![fails(ErrorReason::ProviderFailed, None), Ok(unary())], None).await;
        assert_eq!((reply.unwrap_err().reason(), left), (ErrorReason::ProviderFailed, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_provider_asks_for_is_waited_for_unless_it_is_too_long() {
        let limited = |after| vec![fails(ErrorReason::ProviderRateLimited, Some(after)), Ok(unary())];
        let (reply, took, _) = run(Some(2), limited(2), None).await;
        assert!(reply.is_ok() && took >= Duration::from_secs(2) && took < Duration::from_secs(3), "{took:?}");
        let (reply, took, left) = run(Some(2), limited(60), None).await;
        assert_eq!((reply.unwrap_err().retry_after_hint(), took, left), (Some(Duration::from_secs(60)), Duration::ZERO, 1));
        let (reply, took, _) = run(Some(2), limited(2), Some(Duration::from_secs(1))).await;
        assert!(reply.is_err() && took.is_zero(), "a deadline that comes before is not waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_callers_fault_and_a_models_are_final() {
        for reason in [ErrorReason::ProviderRejectedRequest, ErrorReason::ProviderModelFailed] {
            let (reply, _, left) = run(Some(3), vec![fails(reason, None), Ok(unary())], None).await;
            assert_eq!((reply.unwrap_err().reason(), left), (reason, 1));
        }
    }
}
