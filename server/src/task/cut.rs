//! [`Cut`]: how calls under way hear that their time is over. What they then say in their own protocol is the doors' concern.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use flowgate_proto::v1::ErrorReason;
use futures_util::Stream;
use pin_project_lite::pin_project;
use tokio::sync::{Notify, futures::OwnedNotified};

use crate::error::{Error, Result};

/// The end of the time that calls have to finish. Cloning shares.
#[derive(Clone, Debug, Default)]
pub struct Cut(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    over: AtomicBool,
    /// Several, since every call goes on the list of one of them and off again, under its lock.
    bells: [Arc<Notify>; 16],
    calls: AtomicUsize,
}

pin_project! {
    /// Work that fails when its time is over.
    #[derive(Debug)]
    pub struct Race<F> {
        #[pin]
        work: F,
        #[pin]
        wait: Wait,
    }
}

pin_project! {
    /// A stream that ends with a failure when its time is over.
    #[derive(Debug)]
    pub struct Until<S, F> {
        // Dropped at the end, so that its upstream stops at once.
        #[pin]
        events: Option<S>,
        #[pin]
        wait: Wait,
        fail: F,
    }
}

pin_project! {
    // Asking takes a lock only where the asker is not the one who asked before, so that an event costs none.
    #[derive(Debug)]
    struct Wait {
        cut: Cut,
        #[pin]
        bell: OwnedNotified,
        waker: Option<Waker>,
    }
}

impl Cut {
    /// The time is over, from now on and for all.
    pub fn end(&self) {
        self.0.over.store(true, Ordering::Release);
        self.0.bells.iter().for_each(|bell| bell.notify_waiters());
    }

    /// Whether the time is over.
    pub fn is_over(&self) -> bool {
        self.0.over.load(Ordering::Acquire)
    }

    /// Counts a call that was cut.
    pub fn count(&self) {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls that were cut.
    pub fn counted(&self) -> usize {
        self.0.calls.load(Ordering::Relaxed)
    }

    /// Why a call fails that was cut.
    pub fn error() -> Error {
        Error::new(ErrorReason::GatewayUnavailable, "the gateway shut down before the answer was complete; try again")
    }

    /// Work that fails when the time is over before it is done.
    pub fn race<F>(&self, work: F) -> Race<F> {
        Race { work, wait: self.wait() }
    }

    /// A stream that passes on what is ready, and fails when the time is over.
    pub fn until<S, F>(&self, events: S, fail: F) -> Until<S, F> {
        Until { events: Some(events), wait: self.wait(), fail }
    }

    fn wait(&self) -> Wait {
        let bell = &self.0.bells[fastrand::usize(..self.0.bells.len())];
        Wait { cut: self.clone(), bell: Arc::clone(bell).notified_owned(), waker: None }
    }
}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.cut.is_over() {
            return Poll::Ready(());
        }
        if this.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        // The end may come between the look above and here; whoever is on the list by then is woken.
        let rung = this.bell.poll(cx).is_ready() || this.cut.is_over();
        *this.waker = Some(cx.waker().clone());
        if rung { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<F, T> Future for Race<F>
where
    F: Future<Output = Result<T>>,
{
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let this = self.project();
        match this.work.poll(cx) {
            Poll::Pending => this.wait.poll(cx).map(|()| Err(Cut::error())),
            done @ Poll::Ready(_) => done,
        }
    }
}

impl<S, F, T, E> Stream for Until<S, F>
where
    S: Stream<Item = Result<T, E>>,
    F: FnMut(Error) -> E,
{
    type Item = Result<T, E>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        let Some(events) = this.events.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        if let Poll::Ready(event) = events.poll_next(cx) {
            return Poll::Ready(event);
        }
        ready!(this.wait.poll(cx));
        this.events.set(None);
        Poll::Ready(Some(Err((this.fail)(Cut::error()))))
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::{FutureExt as _, StreamExt as _, stream, task::ArcWake};
    use tokio::sync::mpsc;

    use super::*;

    struct Count(AtomicUsize);

    impl ArcWake for Count {
        fn wake_by_ref(this: &Arc<Self>) {
            this.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn work_that_is_done_counts_and_work_that_is_not_fails() {
        let cut = Cut::default();
        let mut early = Box::pin(cut.race(pending::<Result<()>>()));
        assert!(early.as_mut().now_or_never().is_none());
        cut.end();
        assert_eq!(early.await.unwrap_err().reason(), ErrorReason::GatewayUnavailable);
        assert_eq!(cut.race(pending::<Result<()>>()).await.unwrap_err().reason(), ErrorReason::GatewayUnavailable, "begun too late");
        assert_eq!(cut.race(ready(Ok(1))).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_stream_says_what_is_ready_then_fails_once_and_lets_go() {
        let cut = Cut::default();
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let mut events = Box::pin(cut.until(stream::poll_fn(move |cx| receiver.poll_recv(cx)).map(Ok), |error: Error| error.reason_name()));
        sender.send(1).unwrap();
        assert_eq!(events.next().await, Some(Ok(1)));
        assert!(events.next().now_or_never().is_none());
        sender.send(2).unwrap();
        cut.end();
        assert_eq!(events.next().await, Some(Ok(2)));
        assert_eq!(events.next().await, Some(Err("GATEWAY_UNAVAILABLE")));
        assert!(sender.is_closed());
        assert_eq!(events.next().await, None);
    }

    #[tokio::test]
    async fn a_stream_that_ends_in_time_just_ends() {
        let cut = Cut::default();
        let events: Vec<_> = cut.until(stream::iter([Ok::<_, Error>(1)]), |error| error).collect().await;
        assert!(matches!(events.as_slice(), [Ok(1)]));
    }

    /// Only who asked last waits.
    #[tokio::test]
    async fn who_asked_last_is_woken() {
        let (cut, counts) = (Cut::default(), [0, 0].map(|n| Arc::new(Count(AtomicUsize::new(n)))));
        let mut race = Box::pin(cut.race(pending::<Result<()>>()));
        for count in &counts {
            let waker = futures_util::task::waker(Arc::clone(count));
            for _ in 0..2 {
                assert!(race.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            }
        }
        cut.end();
        assert_eq!(counts.map(|count| count.0.load(Ordering::Relaxed)), [0, 1]);
    }
}
