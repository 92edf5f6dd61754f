//! Places and queues under paused time; one test with threads, which waits for nothing.
#![expect(clippy::disallowed_methods, reason = "a test has no tasks to drain: its runtime ends with it")]

use std::sync::atomic::AtomicU32;

use futures_util::{FutureExt as _, future::join_all};
use tokio::time::{advance, sleep, timeout};

use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn limiter(limit: u32, queue: usize) -> Limiter {
    Limiter::new(Concurrency { limit: ConcurrencyLimit::Fixed(limit), queue, wait: SECOND })
}

/// In use and waiting.
fn load(limiter: &Limiter) -> (u32, usize) {
    let state = limiter.lock();
    (state.in_use, state.waiting.len())
}

fn at_once(limiter: &Limiter) -> Permit {
    match limiter.enter(Priority::Interactive) {
        Ok(Entry::In(permit)) => permit,
        other => panic!("a place at once, not {other:?}"),
    }
}

fn queued(limiter: &Limiter, priority: Priority) -> Queued {
    match limiter.enter(priority) {
        Ok(Entry::Queued(queued)) => queued,
        other => panic!("a place in the queue, not {other:?}"),
    }
}

async fn enter(limiter: &Limiter, priority: Priority) -> Result<Permit, Full> {
    match limiter.enter(priority)? {
        Entry::In(permit) => Ok(permit),
        Entry::Queued(queued) => queued.wait().await,
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_let_in_by_priority_then_in_order() {
    let limiter = limiter(1, 10);
    let first = at_once(&limiter);
    assert_eq!(limiter.room(), Room::Queue);
    let order = Mutex::new(Vec::new());
    let names = [("a", Priority::Batch), ("b", Priority::Interactive), ("c", Priority::Batch), ("d", Priority::Interactive)];
    let calls = names.map(|(name, priority)| {
        let queued = queued(&limiter, priority);
        let order = &order;
        async move {
            let permit = queued.wait().await.unwrap();
            order.lock().unwrap().push(name);
            sleep(10 * MS).await;
            drop(permit);
        }
    });
    drop(first);
    join_all(calls).await;
    assert_eq!(*order.lock().unwrap(), ["b", "d", "a", "c"]);
    assert_eq!((load(&limiter), limiter.room()), ((0, 0), Room::Free));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_and_an_interactive_call_takes_the_place_of_the_last_batch_call() {
    let limiter = limiter(1, 2);
    let _first = at_once(&limiter);
    let old = queued(&limiter, Priority::Batch);
    let young = queued(&limiter, Priority::Batch);
    assert_eq!(limiter.room(), Room::None);
    assert!(limiter.enter(Priority::Batch).is_err());
    let interactive = queued(&limiter, Priority::Interactive);
    assert!(young.wait().now_or_never().unwrap().is_err(), "it hears of it at once");
    let _other = queued(&limiter, Priority::Interactive);
    assert!(old.wait().await.is_err());
    assert!(limiter.enter(Priority::Interactive).is_err(), "interactive calls take nothing from each other");
    drop(interactive);
    assert_eq!(load(&limiter), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_wait_ends_with_the_time() {
    let limiter = limiter(1, 2);
    let _first = at_once(&limiter);
    let since = Instant::now();
    assert!(queued(&limiter, Priority::Interactive).wait().await.is_err());
    assert_eq!(since.elapsed().as_millis(), 1000);
    assert_eq!(load(&limiter), (1, 0));
    let none = self::limiter(1, 0);
    let _first = at_once(&none);
    assert!(none.enter(Priority::Interactive).is_err(), "without a queue nobody waits");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_leaves_makes_room_and_takes_nothing_along() {
    let limiter = limiter(1, 1);
    let first = at_once(&limiter);
    let left = queued(&limiter, Priority::Interactive);
    assert!(limiter.enter(Priority::Interactive).is_err());
    drop(left);
    let other = queued(&limiter, Priority::Interactive);
    drop(first);
    assert_eq!(load(&limiter), (1, 0), "the place is on its way to the other");
    drop(other);
    assert_eq!((load(&limiter), limiter.room()), ((0, 0), Room::Free), "and comes back if that leaves before it has it");
    let third = at_once(&limiter);
    let waiting = queued(&limiter, Priority::Interactive).wait();
    drop(third);
    assert!(waiting.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_place_that_comes_back_from_who_left_goes_to_the_next() {
    let limiter = limiter(1, 3);
    let first = at_once(&limiter);
    let gone = queued(&limiter, Priority::Interactive);
    let stays = tokio::spawn(queued(&limiter, Priority::Batch).wait());
    drop(first);
    drop(gone);
    assert!(stays.await.unwrap().is_ok());
    assert_eq!(load(&limiter), (0, 0));
}

/// Calls that come, wait, hold, leave early or time out at random: nobody waits beside a free place, and none is lost.
#[tokio::test(start_paused = true)]
async fn no_wake_up_is_lost_whoever_leaves_whenever() {
    for seed in 0..50 {
        let mut random = fastrand::Rng::with_seed(seed);
        let limiter = limiter(random.u32(1..5), random.usize(0..20));
        let most = AtomicU32::new(0);
        let calls = (0..200).map(|_| {
            let (begin, hold, leave) = (random.u64(0..300), random.u64(0..30), random.u64(0..400));
            let priority = if random.bool() { Priority::Interactive } else { Priority::Batch };
            let (limiter, most) = (&limiter, &most);
            async move {
                sleep(Duration::from_millis(begin)).await;
                let call = async {
                    let permit = enter(limiter, priority).await;
                    most.fetch_max(load(limiter).0, Relaxed);
                    if permit.is_ok() {
                        sleep(Duration::from_millis(hold)).await;
                    }
                };
                timeout(Duration::from_millis(leave), call).await.unwrap_or_default();
                let (in_use, waiting) = load(limiter);
                assert!(waiting == 0 || in_use >= limiter.limit(), "{waiting} wait beside a free place, seed {seed}");
            }
        });
        join_all(calls).await;
        assert_eq!((load(&limiter), limiter.room()), ((0, 0), Room::Free), "seed {seed}");
        assert_eq!(most.into_inner(), limiter.limit(), "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_wake_up_is_lost_between_threads() {
    let limiter = Limiter::new(Concurrency { limit: ConcurrencyLimit::Fixed(2), queue: 1000, wait: 600 * SECOND });
    let calls = (0_usize..400).map(|number| {
        let limiter = limiter.clone();
        tokio::spawn(async move {
            for round in 0..50 {
                match limiter.enter(Priority::Interactive).unwrap() {
                    Entry::In(_permit) => tokio::task::yield_now().await,
                    // Some go while they wait, some with the place on its way.
                    Entry::Queued(queued) if (number + round) % 3 == 0 => {
                        tokio::task::yield_now().await;
                        drop(queued);
                    }
                    Entry::Queued(queued) => drop(queued.wait().await.unwrap()),
                }
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert_eq!((load(&limiter), limiter.room()), ((0, 0), Room::Free));
}

/// A server that takes longer the more calls it has, from some number on.
struct Server {
    capacity: AtomicU32,
    calls: AtomicU32,
}

impl Server {
    async fn answer(&self) {
        let calls = self.calls.fetch_add(1, Relaxed) + 1;
        let crowding = (f64::from(calls) / f64::from(self.capacity.load(Relaxed))).max(1.0);
        sleep((100 * MS).mul_f64(crowding)).await;
        self.calls.fetch_sub(1, Relaxed);
    }
}

async fn caller(limiter: Limiter, server: Arc<Server>) {
    loop {
        if let Ok(permit) = enter(&limiter, Priority::Interactive).await {
            server.answer().await;
            permit.answered();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_finds_what_a_server_bears_and_follows_it() {
    let limit = ConcurrencyLimit::Adaptive { min: 4, max: 1000 };
    let limiter = Limiter::new(Concurrency { limit, queue: 1000, wait: 60 * SECOND });
    let server = Arc::new(Server { capacity: AtomicU32::new(20), calls: AtomicU32::new(0) });
    let callers: Vec<_> = (0..200).map(|_| tokio::spawn(caller(limiter.clone(), Arc::clone(&server)))).collect();
    for (capacity, seconds, allowed) in [(20, 30, 20..33), (10, 30, 10..20), (20, 30, 20..33), (100, 60, 100..140), (20, 600, 20..36)] {
        server.capacity.store(capacity, Relaxed);
        sleep(seconds * SECOND).await;
        assert!(allowed.contains(&limiter.limit()), "{} at a capacity of {capacity}", limiter.limit());
        assert!(server.calls.load(Relaxed) <= limiter.limit() + 1);
    }
    callers.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_grows_lets_in_who_waits_and_one_that_falls_throws_nobody_out() {
    let limit = ConcurrencyLimit::Adaptive { min: 2, max: 8 };
    let limiter = Limiter::new(Concurrency { limit, queue: 10, wait: SECOND });
    let permits = [at_once(&limiter), at_once(&limiter)];
    let mut waiting = Box::pin(queued(&limiter, Priority::Interactive).wait());
    assert!(waiting.as_mut().now_or_never().is_none());
    advance(200 * MS).await;
    assert!((0..9).all(|_| permits[0].answered().is_none()));
    assert_eq!(permits[1].answered(), Some(3));
    let third = waiting.await.unwrap();
    assert_eq!(third.overloaded(), Some(2));
    assert_eq!(load(&limiter), (3, 0));
    let next = queued(&limiter, Priority::Interactive);
    drop(third);
    assert_eq!(load(&limiter), (2, 1), "one too many is out, nobody comes in");
    drop(permits);
    assert!(next.wait().await.is_ok());
}
