//! Who waits for whom: requests of one kind, while one like them is under way.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{
    group::{Key, State, UnderWay, Waiting},
    member::{Member, rows_of},
};
use crate::{
    call::{Attempt, Service},
    config,
    dialect::scoring::rows::Rows,
    error::Result,
    event::Reply,
    task::Tasks,
    telemetry::batches::BatchMeter,
};

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

/// What becomes of a request.
pub(super) enum Entry {
    /// It goes at once; others wait for as long as the second lives.
    Alone(Box<Attempt>, UnderWay),
    /// It is carried out with others.
    Waiting(oneshot::Receiver<Result<Reply>>),
}

impl Groups {
    pub(super) fn new(config: config::Batch, below: Service<Attempt>, tasks: Tasks, meter: BatchMeter) -> Self {
        Self { config, below, tasks, meter, state: Mutex::default() }
    }

    /// The rows of a request that may be put together with others.
    pub(super) fn rows(&self, attempt: &Attempt) -> Option<Rows> {
        let rows = rows_of(&attempt.call.payload).filter(|rows| rows.count <= self.config.max_rows)?;
        (!self.state().is_apart(&rows)).then_some(rows)
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
    pub(super) fn part(&self, Member { attempt, rows, .. }: &Member) {
        self.state().part(rows, Instant::now() + APART);
        tracing::warn!(
            endpoint = %attempt.call.endpoint.name,
            deployment = %attempt.deployment.alias,
            "the model does not give one prediction for each row; requests of this form and these `params` go alone for a minute, remove `batch` if that goes on",
        );
    }

    /// Whether nothing is under way, and nothing is remembered of what was.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.state().groups.is_empty()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
