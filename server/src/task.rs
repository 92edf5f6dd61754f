//! The only place that spawns tasks, so that a drain knows what to wait for.

use std::future::Future;

use tokio_util::task::TaskTracker;

/// The tasks of one gateway.
#[derive(Clone, Debug, Default)]
pub struct Tasks(TaskTracker);

impl Tasks {
    /// Starts a task that the drain waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }

    /// Waits until all tasks are done. Nothing may be spawned any more.
    pub async fn finished(&self) {
        self.0.close();
        self.0.wait().await;
    }
}
