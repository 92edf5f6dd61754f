//! The only place that spawns tasks, so that whoever owns some can wait for them, the end of that wait, and how late they run.

use std::future::Future;

use tokio_util::task::TaskTracker;

mod cut;
mod lag;

pub use cut::Cut;
pub use lag::Lag;

/// The tasks of one owner, for example of a listener. Cloning shares.
#[derive(Clone, Debug, Default)]
pub struct Tasks(TaskTracker);

impl Tasks {
    /// Starts a task that [`Tasks::finished`] waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }

    /// Tasks that are not done.
    pub fn left(&self) -> usize {
        self.0.len()
    }

    /// Waits until all tasks are done, those included that others spawn meanwhile.
    pub async fn finished(&self) {
        self.0.close();
        self.0.wait().await;
    }
}
