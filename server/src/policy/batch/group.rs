//! Requests of one kind: those under way, and those that wait for each other meanwhile.

use std::{collections::HashMap, sync::Arc};

use tokio::{sync::oneshot, time::Instant};

use super::{groups::Groups, member::Member};
use crate::{
    call::{Attempt, Priority, ReplicaId},
    dialect::scoring::rows::Rows,
};

/// Of how many kinds it is remembered that they go alone; a caller may make up as many as it likes.
const MOST_APART: usize = 256;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) groups: HashMap<Key, Group>,
    /// How often requests began to wait.
    pub(super) begun: u64,
    /// Of which kinds nothing is put together, by their hash, and until when.
    pub(super) apart: HashMap<blake3::Hash, Instant>,
}

/// What requests have in common that may go together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    replica: Option<ReplicaId>,
    credential: usize,
    is_urgent: bool,
    kind: Box<[u8]>,
}

/// Requests of one kind. Some wait only while others are under way.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) under_way: usize,
    pub(super) waiting: Option<Waiting>,
}

/// Requests that wait for each other.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) number: u64,
    pub(super) members: Vec<Member>,
    pub(super) rows: usize,
    pub(super) bytes: usize,
    /// Where they go when the wait is over.
    pub(super) over: oneshot::Sender<Vec<Member>>,
}

/// A request to the model that is under way.
pub(super) struct UnderWay {
    pub(super) groups: Arc<Groups>,
    pub(super) key: Key,
}

impl State {
    /// Whether requests of a kind go alone for now.
    pub(super) fn is_apart(&self, rows: &Rows) -> bool {
        !self.apart.is_empty() && self.apart.get(&blake3::hash(&rows.kind)).is_some_and(|until| Instant::now() < *until)
    }

    /// Has requests of a kind go alone until then. Others stay as they are: what makes an answer one for all may be a parameter that only some callers
    /// send.
    pub(super) fn part(&mut self, rows: &Rows, until: Instant) {
        let now = Instant::now();
        self.apart.retain(|_, until| now < *until);
        if self.apart.len() < MOST_APART {
            self.apart.insert(blake3::hash(&rows.kind), until);
        }
    }
}

impl Key {
    pub(super) fn of(attempt: &Attempt, rows: &Rows) -> Self {
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
    pub(super) fn close(&mut self) {
        if let Some(Waiting { members, over, .. }) = self.waiting.take() {
            self.under_way += 1;
            // They are lost only with the runtime.
            over.send(members).ok();
        }
    }

    pub(super) fn is_waiting(&self, number: u64) -> bool {
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
