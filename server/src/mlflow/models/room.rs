//! How much there is room for: bytes of loaded models, and processes. Models that nobody calls make way, those first that were called least
//! recently.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flowgate_proto::v1::ErrorReason;
use tokio::{sync::Notify, time::Instant};

use crate::error::{Error, Result};

/// How long one waits for room until that is an error.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether a model has become old enough to make way.
const LOOK: Duration = Duration::from_millis(100);

/// What a loaded model takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Bytes of memory.
    pub bytes: u64,
    /// Processes.
    pub processes: u32,
}

/// What there is too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// Processes: only a model that has some makes room.
    Processes,
    /// Memory.
    Bytes,
}

/// The room that there is.
pub(super) struct Room {
    most: Mutex<Most>,
    taken: Mutex<Size>,
    changed: Notify,
}

/// How much may be taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    /// `mlflow.memory`. `None`: no bound.
    pub bytes: Option<u64>,
    /// `mlflow.max_processes`.
    pub processes: u32,
}

/// Room that is taken, until this is dropped.
pub(super) struct Taken {
    room: Arc<Room>,
    size: Mutex<Size>,
}

impl Room {
    pub(super) fn new(most: Most) -> Arc<Self> {
        Arc::new(Self { most: Mutex::new(most), taken: Mutex::default(), changed: Notify::new() })
    }

    /// Takes room; `evict` makes some of what is lacking and says how much, if it could. Who comes first is not served first: what is small
    /// may find room before.
    ///
    /// # Errors
    /// `GATEWAY_NOT_SERVING` when there will never be so much; `GATEWAY_OVERLOADED` when all of it is in use for too long.
    pub(super) async fn take(self: &Arc<Self>, size: Size, evict: impl Fn(Lack) -> Option<Size>) -> Result<Taken> {
        if let Some(most) = self.most().bytes.filter(|most| size.bytes > *most) {
            let message = format!("the model needs about {} bytes, and `mlflow.memory` is {most}; raise it", size.bytes);
            return Err(Error::new(ErrorReason::GatewayNotServing, message));
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let changed = self.changed.notified();
            let Some(lack) = self.lack(self.taken(), size) else { return Ok(self.force(size)) };
            // What made way may be in use to the end of its last call.
            if evict(lack).is_some() && self.lack(self.taken(), size).is_none() {
                return Ok(self.force(size));
            }
            if Instant::now() >= until {
                let message = "all the room for models is taken by models in use; raise `mlflow.memory` or `mlflow.max_processes`";
                return Err(Error::new(ErrorReason::GatewayOverloaded, message));
            }
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Sets how much may be taken from now on. Of what is taken beyond it, `evict` lets go as much as it can.
    pub(super) fn allow(&self, most: Most, evict: impl Fn(Lack) -> Option<Size>) {
        *self.most.lock().unwrap_or_else(PoisonError::into_inner) = most;
        self.settle(evict);
        self.changed.notify_waiters();
    }

    /// Where more is taken than there is, has `evict` let go of as much as it can: how much memory a process takes is known when it runs.
    pub(super) fn settle(&self, evict: impl Fn(Lack) -> Option<Size>) {
        // Reckoned, for what is let go may be held for a moment more.
        let mut taken = self.taken();
        while let Some(gone) = self.lack(taken, Size::default()).and_then(&evict) {
            taken.bytes = taken.bytes.saturating_sub(gone.bytes);
            taken.processes = taken.processes.saturating_sub(gone.processes);
        }
    }

    /// How much memory there is for all models.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.most().bytes
    }

    /// Takes room, be there any or not.
    pub(super) fn force(self: &Arc<Self>, size: Size) -> Taken {
        let mut taken = self.lock();
        taken.bytes = taken.bytes.saturating_add(size.bytes);
        taken.processes = taken.processes.saturating_add(size.processes);
        drop(taken);
        Taken { room: Arc::clone(self), size: Mutex::new(size) }
    }

    /// What is taken.
    fn taken(&self) -> Size {
        *self.lock()
    }

    /// What keeps a size from being taken beside what is.
    fn lack(&self, taken: Size, size: Size) -> Option<Lack> {
        let most = self.most();
        if taken.processes.saturating_add(size.processes) > most.processes.max(size.processes) {
            return Some(Lack::Processes);
        }
        most.bytes.is_some_and(|most| taken.bytes.saturating_add(size.bytes) > most).then_some(Lack::Bytes)
    }

    fn most(&self) -> Most {
        *self.most.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Size> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// What it takes.
    pub(super) fn size(&self) -> Size {
        *self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it takes in truth, now that it is known.
    pub(super) fn correct(&self, bytes: u64) {
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = self.room.lock();
        taken.bytes = taken.bytes.saturating_sub(size.bytes).saturating_add(bytes);
        size.bytes = bytes;
        drop(taken);
        self.room.changed.notify_waiters();
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let size = self.size();
        let mut taken = self.room.lock();
        taken.bytes = taken.bytes.saturating_sub(size.bytes);
        taken.processes = taken.processes.saturating_sub(size.processes);
        drop(taken);
        self.room.changed.notify_waiters();
    }
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Taken").field(&self.size()).finish()
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("most", &self.most()).field("taken", &self.taken()).finish()
    }
}
