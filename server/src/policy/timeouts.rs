//! Timeouts: [`Total`] over the whole call, [`Try`] over one attempt: the try itself if unary, first event and idle gaps if streamed.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use flowgate_proto::v1::ErrorReason;
use futures_util::{Stream, StreamExt as _};
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};

use super::{Next, Policy};
use crate::{
    call::{Attempt, Call},
    config::Timeouts,
    error::{Error, Result},
    event::{Event, Reply},
};

/// The endpoint's `total` and the caller's own deadline, whichever is nearer.
#[derive(Debug)]
pub struct Total(pub Timeouts);

/// The endpoint's `attempt`, `first_event` and `idle`.
#[derive(Debug)]
pub struct Try(pub Timeouts);

/// A stream with an end in time. The timer is set anew only when it fires, so that an event costs no more than a look at the clock.
struct Bounded {
    /// Dropped when it is late, so that the upstream stops at once.
    reply: Option<Reply>,
    timer: Pin<Box<Sleep>>,
    /// When the stream fails if nothing more comes; `None`: never.
    until: Option<Instant>,
    /// Counts again from each event.
    idle: Option<Duration>,
    /// Whether `until` moves with each event.
    moves: bool,
    late: fn(bool) -> Error,
    started: bool,
}

impl Policy<Call> for Total {
    async fn handle(&self, mut call: Call, next: &impl Next<Call>) -> Result<Reply> {
        let streaming = call.streaming;
        let total = if streaming { self.0.total_stream } else { self.0.total_unary };
        let own = total.map(|total| Instant::now() + total);
        let is_own = own.is_some_and(|own| call.deadline.is_none_or(|callers| own < callers));
        let late: fn(bool) -> Error = if is_own { total_passed } else { deadline_passed };
        let Some(until) = own.into_iter().chain(call.deadline).min() else {
            return next.call(call).await;
        };
        call.deadline = Some(until);
        call.own_total = total.filter(|_| is_own);
        let reply = timeout_at(until, pin!(next.call(call))).await.map_err(|_| late(false))??;
        if reply.is_unary() {
            return Ok(reply);
        }
        Ok(reply.wrap(|reply| Bounded::new(reply, Some(until), late)))
    }
}

impl Policy<Attempt> for Try {
    async fn handle(&self, attempt: Attempt, next: &impl Next<Attempt>) -> Result<Reply> {
        if !attempt.call.streaming {
            let Some(limit) = self.0.attempt else { return next.call(attempt).await };
            return timeout(limit, pin!(next.call(attempt))).await.map_err(|_| attempt_passed())?;
        }
        let first = self.0.first_event.map(|limit| Instant::now() + limit);
        let reply = match first {
            Some(first) => timeout_at(first, pin!(next.call(attempt))).await.map_err(|_| silence(false))??,
            None => next.call(attempt).await?,
        };
        // A provider may answer a streamed ask whole.
        if reply.is_unary() {
            return Ok(reply);
        }
        let idle = self.0.idle;
        Ok(reply.wrap(|reply| Bounded { idle, moves: true, ..Bounded::new(reply, first, silence) }))
    }
}

impl Bounded {
    fn new(reply: Reply, until: Option<Instant>, late: fn(bool) -> Error) -> Self {
        let timer = Box::pin(sleep_until(until.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))));
        Self { reply: Some(reply), timer, until, idle: None, moves: false, late, started: false }
    }
}

impl Stream for Bounded {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(reply) = &mut this.reply else { return Poll::Ready(None) };
        if let Poll::Ready(event) = reply.poll_next_unpin(cx) {
            if this.moves {
                // Comments and empty pieces prove that the provider lives, but they are not the first event that was waited for.
                let counts = this.started || event.as_ref().is_some_and(|event| event.as_ref().is_ok_and(Event::commits));
                this.started |= counts;
                if counts {
                    this.until = this.idle.map(|idle| Instant::now() + idle);
                }
            }
            return Poll::Ready(event);
        }
        let Some(until) = this.until else { return Poll::Pending };
        loop {
            if until < this.timer.deadline() {
                this.timer.as_mut().reset(until);
            }
            if this.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() >= until {
                this.reply = None;
                return Poll::Ready(Some(Err((this.late)(this.started))));
            }
            this.timer.as_mut().reset(until);
        }
    }
}

fn deadline_passed(_started: bool) -> Error {
    Error::new(ErrorReason::CallerDeadlineExceeded, "the caller's deadline passed before the answer was complete; allow more time")
}

fn total_passed(_started: bool) -> Error {
    Error::new(ErrorReason::ProviderTimeout, "the call took longer than the endpoint's `timeouts.total`; try again")
}

fn attempt_passed() -> Error {
    Error::new(ErrorReason::ProviderTimeout, "the provider did not answer within the endpoint's `timeouts.attempt`; try again")
}

fn silence(started: bool) -> Error {
    let message = if started {
        "the provider's stream fell silent for longer than the endpoint's `timeouts.idle`; try again"
    } else {
        "the provider sent no event within the endpoint's `timeouts.first_event`; try again"
    };
    Error::new(ErrorReason::ProviderTimeout, message)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;
    use crate::policy::testing::{Once, Then, attempt, call, streamed, text, unary};

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> Timeouts {
        Timeouts {
            connect: SECOND,
            attempt: Some(SECOND),
            first_event: Some(3 * SECOND),
            idle: Some(SECOND),
            total_unary: Some(5 * SECOND),
            total_stream: Some(10 * SECOND),
        }
    }

    /// Events at these seconds after the start.
    fn at(seconds: &'static [u64], event: fn() -> Event) -> impl Stream<Item = Result<Event>> + Send {
        let start = Instant::now();
        stream::iter(seconds).then(move |second| async move {
            sleep_until(start + SECOND * u32::try_from(*second).unwrap() / 2).await;
            Ok(event())
        })
    }

    async fn count(reply: Reply) -> (usize, Option<Error>) {
        let events: Vec<_> = reply.take(20).collect().await;
        let good = events.iter().filter(|event| event.is_ok()).count();
        (good, events.into_iter().find_map(Result::err))
    }

    #[tokio::test(start_paused = true)]
    async fn a_unary_try_is_bounded() {
        let next = Then(|_: Attempt| std::future::pending());
        let error = Try(limits()).handle(attempt(false), &next).await.unwrap_err();
        assert_eq!(error.reason(), ErrorReason::ProviderTimeout);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_event_may_take_longer_than_a_gap_between_later_ones() {
        let events = at(&[5, 6, 7], || text("a")).chain(stream::pending());
        let next = Once::new(Ok(streamed(events)));
        let reply = Try(limits()).handle(attempt(true), &next).await.unwrap();
        let (good, error) = count(reply).await;
        assert_eq!(good, 3);
        assert!(error.unwrap().to_string().contains("timeouts.idle"));
    }

    #[tokio::test(start_paused = true)]
    async fn comments_are_no_first_event() {
        let events = at(&[1, 2, 3, 4, 5, 6, 7, 8, 9], || Event::Ping);
        let next = Once::new(Ok(streamed(events)));
        let reply = Try(limits()).handle(attempt(true), &next).await.unwrap();
        let (good, error) = count(reply).await;
        assert!(good < 9);
        assert!(error.unwrap().to_string().contains("timeouts.first_event"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_answer_to_a_streamed_call_stays_whole() {
        let next = Once::new(Ok(unary()));
        assert!(Try(limits()).handle(attempt(true), &next).await.unwrap().is_unary());
    }

    #[tokio::test(start_paused = true)]
    async fn a_streams_deadline_is_the_callers_own_when_the_endpoint_sets_none() {
        let mut near = call(true);
        near.deadline = Some(Instant::now() + SECOND);
        let next = Once::new(Ok(streamed(at(&[1], || text("a")).chain(stream::pending()))));
        let reply = Total(Timeouts { total_stream: None, ..limits() }).handle(near, &next).await.unwrap();
        let (good, error) = count(reply).await;
        assert_eq!((good, error.unwrap().reason()), (1, ErrorReason::CallerDeadlineExceeded));
    }

    #[tokio::test(start_paused = true)]
    async fn total_bounds_a_stream_that_never_rests() {
        let events = at(&[4, 8, 12, 16, 19, 22, 24], || text("a"));
        let next = Once::new(Ok(streamed(events)));
        let reply = Total(limits()).handle(call(true), &next).await.unwrap();
        let (good, error) = count(reply.wrap(|reply| reply.take(6))).await;
        assert_eq!(good, 5);
        assert_eq!(error.unwrap().reason(), ErrorReason::ProviderTimeout);
    }

    #[tokio::test(start_paused = true)]
    async fn the_callers_deadline_may_only_shorten_and_is_the_callers_own() {
        let mut near = call(false);
        near.deadline = Some(Instant::now() + SECOND);
        let next = Then(|_: Call| std::future::pending());
        let error = Total(limits()).handle(near, &next).await.unwrap_err();
        assert_eq!(error.reason(), ErrorReason::CallerDeadlineExceeded);

        let mut far = call(false);
        far.deadline = Some(Instant::now() + 60 * SECOND);
        let start = Instant::now();
        let error = Total(limits()).handle(far, &next).await.unwrap_err();
        assert_eq!((error.reason(), start.elapsed().as_secs()), (ErrorReason::ProviderTimeout, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn the_call_knows_whose_time_it_has() {
        let callers = |left: Option<Duration>| Call { deadline: left.map(|left| Instant::now() + left), ..call(false) };
        for (left, own) in [(None, Some(5)), (Some(60), Some(5)), (Some(1), None)] {
            let next = Once::new(Ok(unary()));
            Total(limits()).handle(callers(left.map(Duration::from_secs)), &next).await.unwrap();
            let known = next.1.lock().unwrap().take().unwrap().own_total;
            assert_eq!(known, own.map(Duration::from_secs), "{left:?}");
        }
    }
}
