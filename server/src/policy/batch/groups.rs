//! Who waits for whom: requests of one kind, while one like them is under way.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prost::Message as _;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::together::Member;
use crate::{
    call::{Attempt, Priority, ReplicaId, Service},
    config,
    dialect::scoring::{
        json_view,
        rows::{self, Rows},
    },
    error::Result,
    event::{Protocol, Reply, Request},
    task::Tasks,
    telemetry::batches::BatchMeter,
};

/// A larger request gains little by company, and costs to look at.
const LARGEST: usize = 256 << 10;
/// The most text of rows that is put together.
const MOST_BYTES: usize = 4 << 20;
/// How long a model is asked for each request alone whose answer could not be cut apart.
const APART: Duration = Duration::from_secs(60);

/// The requests of one deployment.
#[derive(Debug)]
pub(super) struct Groups {
    config: config::Batch,
    /// What carries attempts out.
    pub(super) below: Service<Attempt>,
    tasks: Tasks,
    pub(super) meter: BatchMeter,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    groups: HashMap<Key, Group>,
    /// How often requests began to wait.
    begun: u64,
    /// Until when nothing is put together.
    apart: Option<Instant>,
}

/// What requests have in common that may go together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    replica: Option<ReplicaId>,
    credential: usize,
    is_urgent: bool,
    kind: Box<[u8]>,
}

/// Requests of one kind. Some wait only while others are under way.
#[derive(Debug, Default)]
struct Group {
    under_way: usize,
    waiting: Option<Waiting>,
}

/// Requests that wait for each other.
#[derive(Debug)]
struct Waiting {
    number: u64,
    members: Vec<Member>,
    rows: usize,
    bytes: usize,
    /// Where they go when the wait is over.
    over: oneshot::Sender<Vec<Member>>,
}

/// What becomes of a request.
pub(super) enum Entry {
    /// It goes at once; others wait for as long as the second lives.
    Alone(Box<Attempt>, UnderWay),
    /// It is carried out with others.
    Waiting(oneshot::Receiver<Result<Reply>>),
}

/// A request to the model that is under way.
pub(super) struct UnderWay {
    groups: Arc<Groups>,
    key: Key,
}

impl Groups {
    pub(super) fn new(config: config::Batch, below: Service<Attempt>, tasks: Tasks, meter: BatchMeter) -> Self {
        Self { config, below, tasks, meter, state: Mutex::default() }
    }

    /// The rows of a request that may be put together with others.
    pub(super) fn rows(&self, attempt: &Attempt) -> Option<Rows> {
        if self.state().apart.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        let payload = &attempt.call.payload;
        let rows = match payload.wire() {
            Some(wire) if wire.protocol == Protocol::MlflowScoring && wire.body.len() <= LARGEST => {
                rows::rows(wire.content_type.as_bytes(), &wire.body)
            }
            Some(_) => None,
            None => match payload.typed() {
                Ok(Request::Predict(request)) if request.encoded_len() <= LARGEST => rows::rows(b"application/json", &json_view(request)?),
                Ok(_) | Err(_) => None,
            },
        };
        rows.filter(|rows| rows.count <= self.config.max_rows)
    }

    /// Lets a request go at once if none like it is under way, or it has no time to wait.
    pub(super) fn enter(self: &Arc<Self>, mut attempt: Attempt, rows: Rows) -> Entry {
        let key = Key::of(&attempt, &rows);
        let mut state = self.state();
        let State { groups, begun, .. } = &mut *state;
        let group = groups.entry(key.clone()).or_default();
        if group.under_way == 0 || attempt.call.remaining().is_some_and(|left| left <= self.config.max_delay) {
            group.under_way += 1;
            self.meter.sent(1, rows.count);
            return Entry::Alone(Box::new(attempt), UnderWay { groups: Arc::clone(self), key });
        }
        let (count, bytes) = (rows.count, rows.bytes());
        if group.waiting.as_ref().is_some_and(|waiting| waiting.rows + count > self.config.max_rows || waiting.bytes + bytes > MOST_BYTES) {
            group.close();
        }
        let waiting = group.waiting.get_or_insert_with(|| {
            *begun += 1;
            let (over, is_over) = oneshot::channel();
            self.tasks.spawn(Arc::clone(self).wait(key, *begun, is_over));
            Waiting { number: *begun, members: Vec::new(), rows: 0, bytes: 0, over }
        });
        let (answer, answered) = oneshot::channel();
        attempt.call.record.note(|facts| {
            facts.deployment = Some(Arc::clone(&attempt.deployment.alias));
            facts.provider = Some(attempt.deployment.provider);
            facts.lane = Some(attempt.lane);
        });
        // Whoever waits notes the time itself.
        attempt.call.record = Arc::default();
        waiting.members.push(Member { attempt, rows, answer });
        waiting.rows += count;
        waiting.bytes += bytes;
        if waiting.rows >= self.config.max_rows {
            group.close();
        }
        Entry::Waiting(answered)
    }

    /// Carries requests out when they have waited for as long as they should.
    async fn wait(self: Arc<Self>, key: Key, number: u64, mut over: oneshot::Receiver<Vec<Member>>) {
        let members = match timeout(self.config.max_delay, &mut over).await {
            Ok(members) => members,
            Err(_) => {
                if let Some(group) = self.state().groups.get_mut(&key).filter(|group| group.is_waiting(number)) {
                    group.close();
                }
                over.await
            }
        };
        // No sender is dropped without them.
        let Ok(members) = members else { return };
        let _under_way = UnderWay { groups: Arc::clone(&self), key };
        self.settle(members).await;
    }

    /// The model gave not one prediction for each row.
    pub(super) fn part(&self, attempt: &Attempt) {
        self.state().apart = Some(Instant::now() + APART);
        tracing::warn!(
            endpoint = %attempt.call.endpoint.name,
            deployment = %attempt.deployment.alias,
            "the model does not give one prediction for each row; its requests go alone for a minute, remove `batch` if that goes on",
        );
    }

    /// Whether nothing is under way, and nothing is remembered of what was.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.state().groups.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Key {
    fn of(attempt: &Attempt, rows: &Rows) -> Self {
        Self {
            replica: attempt.replica,
            credential: attempt.credential,
            is_urgent: attempt.call.choice.priority == Priority::Interactive,
            kind: rows.kind.clone(),
        }
    }
}

impl Group {
    /// Ends the wait of those who wait; from then on they are under way.
    fn close(&mut self) {
        if let Some(Waiting { members, over, .. }) = self.waiting.take() {
            self.under_way += 1;
            // They are lost only with the runtime.
            over.send(members).ok();
        }
    }

    fn is_waiting(&self, number: u64) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.number == number)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.groups.state();
        let Some(group) = state.groups.get_mut(&self.key) else { return };
        group.under_way -= 1;
        if group.under_way == 0 {
            group.close();
        }
        if group.under_way == 0 {
            state.groups.remove(&self.key);
        }
    }
}
