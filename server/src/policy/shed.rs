//! Shed: turns calls away while the whole gateway has too much to do, batch calls first; by calls under way, and by how late it runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use flowgate_proto::v1::ErrorReason;

use super::{Next, Policy};
use crate::{
    call::{Call, Priority},
    error::{Error, Result},
    event::{Event, Reply},
    task::Lag,
    telemetry::load::ShedMeter,
};

/// When a call that was turned away may come back.
const COME_BACK: Duration = Duration::from_secs(1);
/// Batch calls are let in until so much of the limit is used.
const BATCH_SHARE: f64 = 0.8;
/// From such a delay on batch calls are turned away,
const LATE: Duration = Duration::from_millis(100);
/// and from this one on interactive ones too: the more the later it runs, all but a few after so much more.
const VERY_LATE: Duration = Duration::from_secs(1);
const HOPELESS: Duration = Duration::from_secs(2);
const MOST_TURNED_AWAY: f64 = 0.9;

/// What is under way in the whole gateway, whatever configuration it began with.
#[derive(Debug, Default)]
pub struct UnderWay {
    calls: AtomicU32,
    /// How late the gateway runs.
    pub lag: Lag,
}

/// Stands over all that a call costs, but under what counts it.
#[derive(Debug)]
pub struct Shed {
    under_way: Arc<UnderWay>,
    /// The most calls at once, by priority.
    interactive: u32,
    batch: u32,
    meter: ShedMeter,
    /// A number from 0 to 1; fixed in tests.
    draw: fn() -> f64,
}

/// A call that counts until this is dropped.
struct Counted(Arc<UnderWay>);

impl Shed {
    /// At most so many calls at once.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a number of this type")]
    pub fn new(under_way: Arc<UnderWay>, most: u32, meter: ShedMeter) -> Self {
        let batch = (f64::from(most) * BATCH_SHARE).ceil() as u32;
        Self { under_way, interactive: most, batch, meter, draw: fastrand::f64 }
    }

    fn enter(&self, priority: Priority) -> Result<Counted> {
        let lag = self.under_way.lag.get();
        let (most, is_late, meter) = match priority {
            Priority::Interactive => (self.interactive, lag > VERY_LATE && (self.draw)() < share(lag), &self.meter.interactive),
            Priority::Batch => (self.batch, lag > LATE, &self.meter.batch),
        };
        let before = self.under_way.calls.fetch_add(1, Relaxed);
        let counted = Counted(Arc::clone(&self.under_way));
        if before < most && !is_late {
            return Ok(counted);
        }
        meter.inc();
        let message = "the gateway has too much to do; try again shortly, or have the operator add replicas or raise `max_in_flight`";
        Err(Error::new(ErrorReason::GatewayOverloaded, message).retry_after(Some(COME_BACK)))
    }
}

impl Policy<Call> for Shed {
    async fn handle(&self, call: Call, next: &impl Next<Call>) -> Result<Reply> {
        let counted = self.enter(call.choice.priority)?;
        let reply = next.call(call).await?;
        if reply.is_unary() {
            return Ok(reply);
        }
        let mut counted = Some(counted);
        Ok(reply.tap(move |event| {
            if matches!(event, Ok(Event::End | Event::Answer(_)) | Err(_)) {
                drop(counted.take());
            }
        }))
    }
}

/// The share of interactive calls that is turned away at a delay.
fn share(lag: Duration) -> f64 {
    lag.saturating_sub(VERY_LATE).div_duration_f64(HOPELESS).min(MOST_TURNED_AWAY)
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt as _, future::join_all, stream};

    use super::*;
    use crate::{
        policy::testing::{Once, Then, call, streamed, text, unary},
        telemetry::metrics::Metrics,
    };

    fn shed(most: u32) -> (Shed, Metrics) {
        let metrics = Metrics::new();
        (Shed { draw: || 0.5, ..Shed::new(Arc::default(), most, metrics.load().shed()) }, metrics)
    }

    fn of(priority: Priority) -> Call {
        let mut call = call(false);
        call.choice.priority = priority;
        call
    }

    /// Whether a call is let in.
    async fn takes(shed: &Shed, priority: Priority) -> bool {
        match shed.handle(of(priority), &Once::new(Ok(unary()))).await {
            Ok(_) => true,
            Err(error) => {
                assert_eq!((error.reason(), error.retry_after_hint()), (ErrorReason::GatewayOverloaded, Some(COME_BACK)));
                false
            }
        }
    }

    #[tokio::test]
    async fn batch_calls_leave_the_last_fifth_to_interactive_ones() {
        let (shed, metrics) = shed(10);
        let next = Then(|_: Call| std::future::pending());
        let mut under_way = Vec::new();
        for count in 0..=10 {
            assert_eq!(takes(&shed, Priority::Batch).await, count < 8, "{count} under way");
            assert_eq!(takes(&shed, Priority::Interactive).await, count < 10, "{count} under way");
            let mut one = Box::pin(shed.handle(of(Priority::Interactive), &next));
            assert_eq!(one.as_mut().now_or_never().is_none(), count < 10);
            under_way.push(one);
        }
        drop(under_way);
        assert_eq!(shed.under_way.calls.load(Relaxed), 0);
        let page = metrics.render();
        assert!(page.contains("flowgate_shed_total{priority=\"batch\"} 3") && page.contains("{priority=\"interactive\"} 2"), "{page}");
    }

    #[tokio::test]
    async fn a_stream_counts_until_its_end_its_failure_or_its_drop() {
        let (shed, _) = shed(1);
        let calls = || shed.under_way.calls.load(Relaxed);
        for last in [Ok(Event::End), Err(Error::stream_cut())] {
            let events = stream::iter([Ok(text("a")), last]);
            let mut reply = shed.handle(call(true), &Once::new(Ok(streamed(events)))).await.unwrap();
            assert!(reply.next().await.is_some());
            assert_eq!((calls(), takes(&shed, Priority::Interactive).await), (1, false));
            assert!(reply.next().await.is_some());
            assert_eq!(calls(), 0);
        }
        let reply = shed.handle(call(true), &Once::new(Ok(streamed(stream::pending())))).await.unwrap();
        assert_eq!(calls(), 1);
        drop(reply);
        assert_eq!(calls(), 0);
        assert!(shed.handle(call(true), &Once::new(Err(Error::stream_cut()))).await.is_err());
        assert_eq!(calls(), 0);
    }

    #[tokio::test]
    async fn a_gateway_that_runs_late_turns_batch_away_and_then_more_and_more_of_the_others() {
        let (shed, _) = shed(1000);
        for (late, takes_batch, takes_interactive) in
            [(0, true, true), (99, true, true), (101, false, true), (1001, false, true), (1990, false, true), (2010, false, false)]
        {
            shed.under_way.lag.set(Duration::from_millis(late));
            let taken = (takes(&shed, Priority::Batch).await, takes(&shed, Priority::Interactive).await);
            assert_eq!(taken, (takes_batch, takes_interactive), "{late} ms late");
        }
        let shed = Shed { draw: fastrand::f64, ..shed };
        shed.under_way.lag.set(Duration::from_secs(60));
        let taken = join_all((0..1000).map(|_| takes(&shed, Priority::Interactive))).await;
        let taken = taken.into_iter().filter(|taken| *taken).count();
        assert!((40..200).contains(&taken), "{taken}: a few are let in, or it would never be known that it is over");
    }
}
