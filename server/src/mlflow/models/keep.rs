//! What is done for a model without a call: instances are added, replaced and let go, and the model itself when nobody calls; its reference
//! is followed.

use std::{
    sync::{
        Arc, Weak,
        atomic::Ordering::{AcqRel, Relaxed, Release},
    },
    time::Duration,
};

use flowgate_proto::v1::ErrorReason;
use tokio::time::{Instant, sleep};

use super::{
    engine::Engine,
    failure::{Again, Failed},
    generation::Generation,
    hosted::Hosted,
};
use crate::error::{Error, Result};

/// How often it is looked what is due, at least and at most.
const LOOK: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_millis(50);
/// How many letters of a process's very last line are told to callers.
const TOLD: usize = 300;

impl Hosted {
    /// Has somebody look after it while it is loaded, or is to be.
    pub(super) fn look_after(&self) {
        if !self.kept.swap(true, AcqRel) {
            self.common.tasks.spawn(keep(Weak::clone(&self.me)));
        }
    }

    /// Whether there is anything to look after.
    fn is_wanted(&self) -> bool {
        self.is_kept() || self.current.load().is_some() || self.desk().fault().is_some()
    }

    /// Whether it is to be loaded without a call.
    fn is_kept(&self) -> bool {
        self.model.min > 0 || self.is_pinned()
    }

    /// Whether calls miss it: who is told that it does not serve sends none.
    fn is_missed(&self) -> bool {
        self.model.idle.is_none_or(|idle| self.used().elapsed() < idle)
    }

    /// Who tries again what failed, and when.
    pub(super) fn again(&self, failed: &Failed) -> Again {
        let after = failed.again_in();
        match self.current.load().is_some() {
            true if self.moves() => Again::LookUp(after),
            true => Again::Load,
            false if self.is_kept() || (failed.is_fault() && self.is_missed()) => Again::Itself(after),
            false => Again::Call(after),
        }
    }

    /// Sees to it that an instance that ends is not asked any more.
    pub(super) fn watch(&self, generation: &Arc<Generation>, engine: &Arc<dyn Engine>) {
        let Some(ended) = engine.ended() else { return };
        let (me, generation, engine) = (Weak::clone(&self.me), Arc::downgrade(generation), Arc::downgrade(engine));
        self.common.tasks.spawn(async move {
            let (exit, lines) = ended.await;
            let (Some(me), Some(generation)) = (me.upgrade(), generation.upgrade()) else { return };
            // One that was let go is not missed.
            let Some(left) = generation.remove(&engine) else { return };
            me.meter.crashed();
            let how = exit.to_string();
            tracing::warn!(model = %me.name, how, last = lines.last(), "a model's process has ended");
            if left == 0 {
                me.lost(&generation, &how, &lines);
            }
        });
    }

    /// The last instance of a version has ended.
    fn lost(&self, generation: &Arc<Generation>, how: &str, lines: &[String]) {
        let mut desk = self.desk();
        let is_current = self.current.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, generation));
        if !is_current {
            return;
        }
        self.current.store(None);
        self.meter.holds(0, 0);
        // The end of one that was just started is a failure to load.
        if !desk.settle() {
            let last = lines.last().map_or("it said nothing", String::as_str);
            let last: String = last.chars().take(TOLD).collect();
            let message = format!("the model's process {how} soon after it was started: {last}");
            desk.fail(Error::new(ErrorReason::GatewayNotServing, message), Some(generation.resolved()));
            drop(desk);
            self.meter.fails(true);
            self.look_after();
        }
        self.common.stir();
    }

    /// Takes in how much memory it takes, as it was measured last. Where that is more than there is, others make way.
    pub(super) fn measured(&self, current: &Arc<Generation>) {
        let bytes = current.bytes();
        self.meter.holds(u64::try_from(current.count()).unwrap_or(u64::MAX), bytes);
        if let Some(largest) = current.largest() {
            self.took.store(largest, Relaxed);
        }
        let is_over = self.common.settings().memory.is_some_and(|most| bytes > most);
        if is_over && !self.is_over.swap(true, AcqRel) {
            tracing::warn!(model = %self.name, bytes, "a model alone takes more than `mlflow.memory`");
        } else if !is_over {
            self.is_over.store(false, Release);
        }
        self.common.settle();
    }

    /// Starts one more instance where all have enough to do.
    pub(super) fn grow(&self, generation: &Arc<Generation>) {
        let most = usize::try_from(self.model.max).unwrap_or(1);
        if generation.is_native() || generation.count() >= most || !generation.is_busy() || self.growing.swap(true, AcqRel) {
            return;
        }
        let (Some(me), generation) = (self.me.upgrade(), Arc::clone(generation)) else { return };
        self.common.tasks.spawn(async move {
            if let Err(error) = me.add(&generation).await {
                tracing::warn!(model = %me.name, ?error, "no further instance of a model could be started");
            }
            me.growing.store(false, Release);
        });
    }

    async fn add(&self, generation: &Arc<Generation>) -> Result<()> {
        let ground = self.common.ground().await?;
        let evict = |lack| self.common.evict(lack, Some(&self.name));
        let instance = self.loading(&ground, None, &evict).another(generation).await?;
        let engine = Arc::clone(&instance.engine);
        generation.add(instance);
        self.watch(generation, &engine);
        tracing::info!(model = %self.name, instances = generation.count(), "a further instance of a model is started");
        Ok(())
    }

    /// Does what is due by now: loads what is to be there, lets go of what nobody calls.
    async fn look(&self) {
        if let Some(current) = self.current.load_full() {
            let measured = Arc::clone(&current);
            // It reads what the system says of all processes. Without it the last measure stands.
            drop(tokio::task::spawn_blocking(move || measured.measure()).await);
            self.measured(&current);
        }
        let min = usize::try_from(self.model.min).unwrap_or(0);
        let Some(current) = self.current.load_full() else {
            let is_missed = self.is_missed();
            if self.is_kept() || (is_missed && self.desk().fault().is_some()) {
                // What went wrong is logged by the load.
                drop(self.load().await);
            } else if !is_missed && self.desk().failed.take().is_some() {
                // Nobody has called it for long: the next call is as good as the first one.
                self.meter.fails(false);
                self.common.stir();
            }
            return;
        };
        let count = current.count();
        if !current.is_native() && count < min {
            if let Err(error) = self.add(&current).await {
                tracing::warn!(model = %self.name, ?error, "an instance of a model could not be started");
            }
        } else if count > min.max(1) && current.is_idle() {
            current.shrink();
            tracing::info!(model = %self.name, instances = current.count(), "an instance of a model is let go");
        }
        let is_idle = self.model.idle.is_some_and(|idle| self.used().elapsed() >= idle);
        if is_idle && self.idle_since().is_some() {
            self.let_go("nobody calls it");
        }
    }
}

/// Looks after a model until it is let go, or gone.
async fn keep(model: Weak<Hosted>) {
    let (mut last, jitter) = (Instant::now(), 0.9 + 0.2 * fastrand::f64());
    loop {
        let Some(hosted) = model.upgrade() else { return };
        hosted.look().await;
        if last.elapsed() >= hosted.common.refresh().mul_f64(jitter) {
            last = Instant::now();
            hosted.follow();
        }
        if !hosted.is_wanted() {
            hosted.kept.store(false, Release);
            // Unless it was loaded in this very moment, so that nobody else was asked to.
            if !hosted.is_wanted() || hosted.kept.swap(true, AcqRel) {
                return;
            }
        }
        let pause = hosted.model.idle.map_or(LOOK, |idle| (idle / 4).clamp(SOON, LOOK));
        drop(hosted);
        sleep(pause).await;
    }
}
