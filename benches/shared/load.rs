//! The load: a number of connections, each calling again as soon as it has its answer, for a fixed time.

use std::{sync::Barrier, thread, time::Duration};

use tokio::{runtime::Runtime, task::JoinSet, time::Instant};

use super::Result;

/// How long a call may hang before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// One connection, and the one call that is made on it again and again.
pub trait Link: Send + 'static {
    /// Makes the call and checks the answer. For a stream: how long its first content took.
    fn call(&mut self) -> impl Future<Output = Result<Option<Duration>>> + Send;
}

/// How much is called, on connections that `open` opens.
#[derive(Clone)]
pub struct Load<O> {
    pub connections: usize,
    pub length: Duration,
    pub open: O,
}

/// What was measured.
#[derive(Default)]
pub struct Measured {
    pub elapsed: Duration,
    /// CPU time of the peer meanwhile; none for a direct call.
    pub cpu: Option<Duration>,
    /// One per call.
    pub latencies: Vec<Duration>,
    /// One per stream: until the first content.
    pub firsts: Vec<Duration>,
}

impl<O> Load<O> {
    /// Opens the connections, warms up, measures. `cpu` reads the peer's clock; opening and closing are not counted.
    pub fn run<L, F>(&self, cpu: impl Fn() -> Result<Option<Duration>>) -> Result<Measured>
    where
        L: Link,
        F: Future<Output = Result<L>>,
        O: Fn() -> F + Sync,
    {
        // One thread saturates half a small machine; the peer and the upstream need the rest.
        let threads = (thread::available_parallelism()?.get() / 2).clamp(1, self.connections);
        let barrier = Barrier::new(threads + 1);
        thread::scope(|scope| {
            let start = |thread| {
                let (share, barrier) = ((self.connections + thread) / threads, &barrier);
                scope.spawn(move || self.work(share, barrier))
            };
            let workers: Vec<_> = (0..threads).map(start).collect();
            barrier.wait(); // all connections are open and warm
            let (before, started) = (cpu(), Instant::now());
            barrier.wait(); // the measured calls begin
            barrier.wait(); // and are done
            let (elapsed, after) = (started.elapsed(), cpu());
            let mut measured = Measured { elapsed, ..Measured::default() };
            for worker in workers {
                let calls = worker.join().map_err(|_| "a thread of the load generator panicked")??;
                measured.latencies.extend(calls.latencies);
                measured.firsts.extend(calls.firsts);
            }
            measured.cpu = after?.zip(before?).map(|(after, before)| after.saturating_sub(before));
            Ok(measured)
        })
    }

    /// One thread's share. It passes the barrier three times whatever happens, so that nobody waits for it.
    fn work<L, F>(&self, connections: usize, barrier: &Barrier) -> Result<Measured>
    where
        L: Link,
        F: Future<Output = Result<L>>,
        O: Fn() -> F,
    {
        let ready = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Into::into).and_then(|runtime: Runtime| {
            let links = runtime.block_on(async {
                let mut links = Vec::with_capacity(connections);
                for _ in 0..connections {
                    links.push((self.open)().await?);
                }
                call(links, self.length / 10).await.map(|(links, _)| links)
            })?;
            Ok((runtime, links))
        });
        barrier.wait();
        barrier.wait();
        let called = ready.and_then(|(runtime, links)| {
            let (links, calls) = runtime.block_on(call(links, self.length))?;
            Ok((runtime, links, calls))
        });
        barrier.wait();
        called.map(|(_runtime, _links, calls)| calls)
    }
}

/// Calls on every link until the time is over; the first wrong answer ends it.
async fn call<L: Link>(links: Vec<L>, length: Duration) -> Result<(Vec<L>, Measured)> {
    let until = Instant::now() + length;
    let mut calling: JoinSet<Result<(L, Measured)>> = JoinSet::new();
    for mut link in links {
        calling.spawn(async move {
            let mut calls = Measured::default();
            loop {
                let started = Instant::now();
                if started >= until {
                    return Ok((link, calls));
                }
                calls.firsts.extend(link.call().await?);
                calls.latencies.push(started.elapsed());
            }
        });
    }
    let (mut links, mut all) = (Vec::new(), Measured::default());
    while let Some(called) = tokio::time::timeout_at(until + PATIENCE, calling.join_next()).await.map_err(|_| "a call hangs")? {
        let (link, calls) = called??;
        links.push(link);
        all.latencies.extend(calls.latencies);
        all.firsts.extend(calls.firsts);
    }
    Ok((links, all))
}
