//! How many calls a deployment gets at once, and who waits for a place: interactive calls before batch, each in the order they came.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::gradient::Gradient;
use crate::{
    call::Priority,
    config::{Concurrency, ConcurrencyLimit},
};

/// The places at one deployment. Cloning shares.
#[derive(Clone, Debug)]
pub struct Limiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// How many may wait, and for how long.
    queue: usize,
    wait: Duration,
    is_adaptive: bool,
    /// The [`Room`] that `state` leaves, so that a look costs no lock.
    room: AtomicU8,
    /// Held for a few steps at a time, and never while a permit is dropped, which takes it too.
    state: Mutex<State>,
}

/// As long as somebody waits, no place is free, but for the moment in which one is handed on.
#[derive(Debug)]
struct State {
    limit: u32,
    in_use: u32,
    /// How often somebody had to wait.
    tickets: u64,
    waiting: BTreeMap<Turn, oneshot::Sender<Permit>>,
    gradient: Option<Gradient>,
}

/// Whether it is a batch call, then its ticket: the lowest is next.
type Turn = (bool, u64);

/// What a call finds at a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// A free place.
    Free,
    /// None, but it may wait for one.
    Queue,
    /// Neither.
    None,
}

/// How a call came in.
#[derive(Debug)]
pub enum Entry {
    /// At once.
    In(Permit),
    /// It has to wait.
    Queued(Queued),
}

/// A call in the queue. Dropped, it leaves it.
#[derive(Debug)]
pub struct Queued {
    limiter: Limiter,
    turn: Turn,
    until: Instant,
    receiver: oneshot::Receiver<Permit>,
}

/// A place. Dropped, it goes to whoever is next.
#[derive(Debug)]
pub struct Permit {
    limiter: Limiter,
    begun: Instant,
    /// How many places were taken then, this one included.
    crowd: u32,
}

/// There is no place, and there was none in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Limiter {
    /// Nobody is in.
    pub fn new(config: Concurrency) -> Self {
        let (limit, gradient) = match config.limit {
            ConcurrencyLimit::Fixed(limit) => (limit, None),
            ConcurrencyLimit::Adaptive { min, max } => {
                let gradient = Gradient::new(min, max);
                (gradient.limit(), Some(gradient))
            }
        };
        let is_adaptive = gradient.is_some();
        let state = State { limit, in_use: 0, tickets: 0, waiting: BTreeMap::new(), gradient };
        let Concurrency { queue, wait, .. } = config;
        let room = AtomicU8::new(state.room(queue) as u8);
        Self(Arc::new(Inner { queue, wait, is_adaptive, room, state: Mutex::new(state) }))
    }

    /// Takes a place, or one in the queue; if that is full, an interactive call takes it from the batch call that came last.
    ///
    /// # Errors
    /// [`Full`] when the queue has no place either.
    pub fn enter(&self, priority: Priority) -> Result<Entry, Full> {
        let is_batch = priority == Priority::Batch;
        let mut state = self.lock();
        if state.in_use < state.limit && state.waiting.is_empty() {
            state.in_use += 1;
            let crowd = state.in_use;
            self.look(&state);
            return Ok(Entry::In(self.permit(crowd)));
        }
        if state.waiting.len() >= self.0.queue {
            let last = state.waiting.last_entry().filter(|last| last.key().0 && !is_batch);
            // Without its sender it knows.
            drop(last.ok_or(Full)?.remove());
        }
        let turn = (is_batch, state.tickets);
        state.tickets += 1;
        let (sender, receiver) = oneshot::channel();
        state.waiting.insert(turn, sender);
        self.look(&state);
        Ok(Entry::Queued(Queued { limiter: self.clone(), turn, until: Instant::now() + self.0.wait, receiver }))
    }

    /// What a call would find now.
    pub fn room(&self) -> Room {
        match self.0.room.load(Relaxed) {
            0 => Room::Free,
            1 => Room::Queue,
            _ => Room::None,
        }
    }

    /// How many may be in at once now.
    pub fn limit(&self) -> u32 {
        self.lock().limit
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn permit(&self, crowd: u32) -> Permit {
        Permit { limiter: self.clone(), begun: Instant::now(), crowd }
    }

    /// Notes the room there is. Written only if it changed: a write takes the line from the other cores.
    fn look(&self, state: &State) {
        let room = state.room(self.0.queue) as u8;
        if self.0.room.load(Relaxed) != room {
            self.0.room.store(room, Relaxed);
        }
    }

    /// Takes a free place for whoever is next.
    fn next(&self, state: &mut State) -> Option<(oneshot::Sender<Permit>, u32)> {
        let next = if state.in_use < state.limit { state.waiting.pop_first() } else { None };
        let next = next.map(|(_, sender)| {
            state.in_use += 1;
            (sender, state.in_use)
        });
        self.look(state);
        next
    }

    /// Gives places to those who are next, as long as there are some.
    fn hand(&self, mut next: Option<(oneshot::Sender<Permit>, u32)>) {
        while let Some((sender, crowd)) = next {
            // Of who left meanwhile the permit comes back, and is dropped here.
            drop(sender.send(self.permit(crowd)));
            next = self.next(&mut self.lock());
        }
    }

    /// Tells the adaptive limit something; the limit if that changed it.
    fn learn(&self, tell: impl FnOnce(&mut Gradient)) -> Option<u32> {
        if !self.0.is_adaptive {
            return None;
        }
        let mut state = self.lock();
        let gradient = state.gradient.as_mut()?;
        tell(gradient);
        let limit = gradient.limit();
        if limit == state.limit {
            return None;
        }
        state.limit = limit;
        let next = self.next(&mut state);
        drop(state);
        self.hand(next);
        Some(limit)
    }
}

impl State {
    fn room(&self, queue: usize) -> Room {
        match () {
            () if self.in_use < self.limit => Room::Free,
            () if self.waiting.len() < queue => Room::Queue,
            () => Room::None,
        }
    }
}

impl Queued {
    /// Waits for a place, as long as the deployment's `wait` allows. The caller's own time is for the time's policy to watch.
    ///
    /// # Errors
    /// [`Full`] when that is over, or when another call needed the place in the queue more.
    pub async fn wait(mut self) -> Result<Permit, Full> {
        match timeout_at(self.until, &mut self.receiver).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Full),
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let mut state = self.limiter.lock();
        if state.waiting.remove(&self.turn).is_some() {
            self.limiter.look(&state);
        }
        // A permit that has come already is dropped with its receiver, after this.
    }
}

impl Permit {
    /// There is an answer, or its first event. The limit, if that changed it.
    pub fn answered(&self) -> Option<u32> {
        self.limiter.learn(|gradient| {
            let now = Instant::now();
            gradient.answered(now - self.begun, self.crowd, now);
        })
    }

    /// Nobody waits for the answer any more. The limit, if that changed it.
    pub fn abandoned(&self) -> Option<u32> {
        self.limiter.learn(|gradient| {
            let now = Instant::now();
            gradient.abandoned(now - self.begun, self.crowd, now);
        })
    }

    /// The deployment has too many calls: it said so, or did not answer in time. The limit, if that changed it.
    pub fn overloaded(&self) -> Option<u32> {
        self.limiter.learn(|gradient| gradient.overloaded(self.begun, Instant::now()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.limiter.lock();
        state.in_use -= 1;
        let next = self.limiter.next(&mut state);
        drop(state);
        self.limiter.hand(next);
    }
}

#[cfg(test)]
mod tests;
