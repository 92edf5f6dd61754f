//! Hedge: begins a second attempt beside one that is slower than most; the first answer counts, and the other attempt is dropped.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use tokio::time::{Instant, timeout};

use super::{Next, Policy};
use crate::{
    balance::tempo::Tempo,
    call::Call,
    error::{Again, Result},
    event::Reply,
    telemetry::routing::EndpointMeter,
};

/// An endpoint's `hedge`. Stands over the retries, so that either attempt has its own, and over the commit point, so that who wins has
/// something to say. Both attempts share the call's route: the second goes where the first has not been.
#[derive(Debug)]
pub struct Hedge {
    /// What is known of the endpoint's calls; `None`: it does not hedge.
    pub tempo: Option<Arc<Tempo>>,
    /// What is counted.
    pub meter: EndpointMeter,
}

impl Policy<Call> for Hedge {
    async fn handle(&self, call: Call, next: &impl Next<Call>) -> Result<Reply> {
        let Some(tempo) = &self.tempo else { return next.call(call).await };
        let (since, streaming) = (Instant::now(), call.streaming);
        let after = tempo.begin(streaming).filter(|after| call.remaining().is_none_or(|left| left > *after));
        let reply = match after {
            // Boxed, so that an endpoint that does not hedge has no room for two attempts in its calls.
            Some(after) => Box::pin(self.hedged(tempo, call, after, next)).await?,
            None => next.call(call).await?,
        };
        tempo.learn(streaming, since.elapsed());
        Ok(reply)
    }
}

impl Hedge {
    async fn hedged(&self, tempo: &Tempo, call: Call, after: Duration, next: &impl Next<Call>) -> Result<Reply> {
        let record = Arc::clone(&call.record);
        let (since, before) = (Instant::now(), record.read(|facts| facts.upstream));
        let mut first = pin!(next.call(call.clone()));
        if let Ok(reply) = timeout(after, &mut first).await {
            return reply;
        }
        if !tempo.may_hedge() {
            return first.await;
        }
        self.meter.hedged();
        let reply = self.race(first, next.call(call)).await;
        // Both attempts waited at the same time, which passed once.
        record.note(|facts| facts.upstream = facts.upstream.min(before + since.elapsed()));
        reply
    }

    /// The answer of whichever is first to have one. When both fail, what the first says, unless the second knows that it is final.
    async fn race(&self, first: impl Future<Output = Result<Reply>> + Unpin, second: impl Future<Output = Result<Reply>>) -> Result<Reply> {
        let second = pin!(second);
        let (ended, other) = match select(first, second).await {
            Either::Left((ended, second)) => (ended, Either::Right(second)),
            Either::Right((ended, first)) => (ended, Either::Left(first)),
        };
        let is_second = matches!(other, Either::Left(_));
        let error = match ended {
            Ok(reply) => return Ok(self.won(is_second, reply)),
            Err(error) if error.again() == Again::Nowhere => return Err(error),
            Err(error) => error,
        };
        match other.await {
            Ok(reply) => Ok(self.won(!is_second, reply)),
            Err(later) if is_second || later.again() == Again::Nowhere => Err(later),
            Err(_) => Err(error),
        }
    }

    fn won(&self, is_second: bool, reply: Reply) -> Reply {
        if is_second {
            self.meter.hedge_won();
        }
        reply
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use flowgate_proto::v1::ErrorReason;
    use tokio::time::sleep;

    use super::*;
    use crate::{
        config::{self, HedgeAfter},
        error::Error,
        policy::testing::{Then, call, meter, unary},
    };

    /// After how many milliseconds an attempt ends, and how.
    type Attempts = Vec<(u64, Result<(), ErrorReason>)>;

    struct Bench {
        hedge: Hedge,
        tempo: Arc<Tempo>,
        dropped: Arc<AtomicUsize>,
        made: Arc<AtomicUsize>,
    }

    /// Counts what was not finished.
    struct Guard(Arc<AtomicUsize>, bool);

    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.fetch_add(usize::from(!self.1), SeqCst);
        }
    }

    fn bench(after: HedgeAfter, budget: f64) -> Bench {
        let tempo = Arc::new(Tempo::new(config::Hedge { after, budget }));
        let hedge = Hedge { tempo: Some(Arc::clone(&tempo)), meter: meter() };
        Bench { hedge, tempo, dropped: Arc::default(), made: Arc::default() }
    }

    fn after_10ms() -> Bench {
        bench(HedgeAfter::Delay(Duration::from_millis(10)), 1.0)
    }

    impl Bench {
        /// One call with these attempts: how it ended, and after how many milliseconds.
        async fn run(&self, attempts: Attempts, call: Call) -> (Result<(), ErrorReason>, u128) {
            let attempts = Mutex::new(attempts.into_iter());
            let (dropped, made) = (Arc::clone(&self.dropped), Arc::clone(&self.made));
            let next = Then(move |_: Call| {
                let (ms, ends) = attempts.lock().unwrap().next().expect("no more attempts than these");
                let guard = Guard(Arc::clone(&dropped), false);
                made.fetch_add(1, SeqCst);
                async move {
                    let mut guard = guard;
                    sleep(Duration::from_millis(ms)).await;
                    guard.1 = true;
                    ends.map(|()| unary()).map_err(|reason| Error::new(reason, "x"))
                }
            });
            let since = Instant::now();
            let ended = self.hedge.handle(call, &next).await;
            (ended.map(drop).map_err(|error| error.reason()), since.elapsed().as_millis())
        }

        async fn ends(&self, attempts: Attempts) -> (Result<(), ErrorReason>, u128) {
            self.run(attempts, call(false)).await
        }

        /// Attempts made, those of them that were dropped, second ones, and those of them that won.
        fn counts(&self) -> [usize; 4] {
            let counted = |counter: u64| usize::try_from(counter).unwrap();
            let (hedges, won) = self.hedge.meter.hedges();
            [self.made.load(SeqCst), self.dropped.load(SeqCst), counted(hedges), counted(won)]
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_to_answer_wins_and_the_other_is_dropped_at_once() {
        let bench = after_10ms();
        assert_eq!(bench.ends(vec![(9, Ok(()))]).await, (Ok(()), 9));
        assert_eq!(bench.counts(), [1, 0, 0, 0], "what is in time is left alone");
        assert_eq!(bench.ends(vec![(1000, Ok(())), (5, Ok(()))]).await, (Ok(()), 15));
        assert_eq!(bench.counts(), [3, 1, 1, 1]);
        assert_eq!(bench.ends(vec![(12, Ok(())), (5, Ok(()))]).await, (Ok(()), 12));
        assert_eq!(bench.counts(), [5, 2, 2, 1], "the first may still win");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_waits_for_the_other_and_the_first_ones_is_told() {
        let (timeout, failed, final_) = (ErrorReason::ProviderTimeout, ErrorReason::ProviderFailed, ErrorReason::ProviderRejectedRequest);
        let bench = after_10ms();
        assert_eq!(bench.ends(vec![(9, Err(failed))]).await, (Err(failed), 9), "the retries below have done what can be done");
        for (first, second, ends) in [
            ((20, Err(timeout)), (30, Ok(())), (Ok(()), 40)),
            ((50, Ok(())), (10, Err(failed)), (Ok(()), 50)),
            ((20, Err(timeout)), (30, Err(failed)), (Err(timeout), 40)),
            ((50, Err(timeout)), (10, Err(failed)), (Err(timeout), 50)),
            ((20, Err(timeout)), (30, Err(final_)), (Err(final_), 40)),
            ((20, Err(final_)), (30, Ok(())), (Err(final_), 20)),
            ((50, Ok(())), (10, Err(final_)), (Err(final_), 20)),
        ] {
            assert_eq!(bench.ends(vec![first, second]).await, ends, "{first:?} {second:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_attempt_beyond_the_budget_nor_without_time_for_it() {
        let bench = bench(HedgeAfter::Delay(Duration::from_millis(10)), 0.1);
        for n in 1..=20 {
            let second = if n % 10 == 0 { vec![(1, Ok(()))] } else { vec![] };
            let ends = if n % 10 == 0 { 11 } else { 20 };
            assert_eq!(bench.ends([vec![(20, Ok(()))], second].concat()).await, (Ok(()), ends), "{n}");
        }
        let mut hurried = call(false);
        hurried.deadline = Some(Instant::now() + Duration::from_millis(10));
        let bench = after_10ms();
        assert_eq!(bench.run(vec![(20, Ok(()))], hurried).await, (Ok(()), 20));
        assert_eq!(bench.counts(), [1, 0, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quantile_of_what_was_learnt_decides_and_a_hedged_call_counts_whole() {
        let bench = bench(HedgeAfter::Quantile(0.9), 1.0);
        for n in 0..20 {
            assert_eq!(bench.ends(vec![(n + 1, Ok(()))]).await, (Ok(()), u128::from(n) + 1), "nothing is known yet");
        }
        let after = bench.tempo.begin(false).unwrap();
        assert!((18..20).contains(&after.as_millis()), "{after:?}");
        let (ended, took) = bench.ends(vec![(1000, Ok(())), (5, Ok(()))]).await;
        assert!(ended.is_ok() && (23..26).contains(&took), "{took} ms");
        assert!(bench.tempo.begin(false).unwrap() >= after, "a call that was cut short is no fast one");
        assert!(bench.tempo.begin(true).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_side_by_side_is_waiting_once() {
        let call = call(false);
        let record = Arc::clone(&call.record);
        let noted = Arc::clone(&record);
        let next = Then(move |_: Call| {
            let record = Arc::clone(&noted);
            async move {
                sleep(Duration::from_millis(30)).await;
                record.note(|facts| facts.upstream += Duration::from_millis(30));
                record.note(|facts| facts.upstream += Duration::from_millis(20));
                Ok(unary())
            }
        });
        after_10ms().hedge.handle(call, &next).await.unwrap();
        assert_eq!(record.facts().upstream, Duration::from_millis(30));
    }
}
