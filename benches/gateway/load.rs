//! The load: a number of connections, each calling again as soon as it has its answer, for a fixed time.

use std::{
    net::SocketAddr,
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use tokio::{runtime::Runtime, task::JoinSet, time::Instant};

use crate::{
    Result,
    calls::{Link, Scenario},
    sample::Sample,
};

/// How long a call may hang before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is loaded, and how.
#[derive(Clone)]
pub struct Load {
    pub scenario: Scenario,
    pub address: SocketAddr,
    pub connections: usize,
    pub length: Duration,
    pub sample: Arc<Sample>,
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

/// Opens the connections, warms up, measures. `cpu` reads the peer's clock; opening and closing are not counted.
pub fn run(load: &Load, cpu: impl Fn() -> Result<Option<Duration>>) -> Result<Measured> {
    // One thread saturates half a small machine; the peer and the upstream need the rest.
    let threads = (thread::available_parallelism()?.get() / 2).clamp(1, load.connections);
    let barrier = Barrier::new(threads + 1);
    thread::scope(|scope| {
        let start = |thread| {
            let share = (load.connections + thread) / threads;
            let (load, barrier) = (Load { connections: share, ..load.clone() }, &barrier);
            scope.spawn(move || work(&load, barrier))
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
fn work(load: &Load, barrier: &Barrier) -> Result<Measured> {
    let ready = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Into::into).and_then(|runtime: Runtime| {
        let links = runtime.block_on(async {
            let links = open(load).await?;
            call(links, load.length / 10).await.map(|(links, _)| links)
        })?;
        Ok((runtime, links))
    });
    barrier.wait();
    barrier.wait();
    let called = ready.and_then(|(runtime, links)| {
        let (links, calls) = runtime.block_on(call(links, load.length))?;
        Ok((runtime, links, calls))
    });
    barrier.wait();
    called.map(|(_runtime, _links, calls)| calls)
}

async fn open(load: &Load) -> Result<Vec<Link>> {
    let mut links = Vec::with_capacity(load.connections);
    for _ in 0..load.connections {
        links.push(Link::open(load.scenario, load.address, Arc::clone(&load.sample)).await?);
    }
    Ok(links)
}

/// Calls on every link until the time is over; the first wrong answer ends it.
async fn call(links: Vec<Link>, length: Duration) -> Result<(Vec<Link>, Measured)> {
    let until = Instant::now() + length;
    let mut calling: JoinSet<Result<(Link, Measured)>> = JoinSet::new();
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
