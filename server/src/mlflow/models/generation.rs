//! One version of a model that answers: its instances, which of them a call takes, and what is known of it. It lives as long as a call is
//! under way on it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{
            AtomicUsize,
            Ordering::{AcqRel, Relaxed},
        },
    },
    time::SystemTime,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use futures_util::StreamExt as _;
use http::{HeaderName, HeaderValue, Request, Response};

use super::{
    engine::Engine,
    room::{Size, Taken},
};
use crate::{
    dialect::{Settings, scoring::message},
    error::{Error, Result},
    event::{MODEL, MODEL_ALIASES, MODEL_VERSION},
    mlflow::{artifacts::Lease, language, model_file::ModelFile, registry::Resolved, signature::Signature},
    upstream::Body,
};

/// How many calls one instance has at once before there should be another one.
const BUSY: usize = 4;

/// One version of a model that answers.
pub struct Generation {
    /// What it was called for, and which version that was.
    meant: ArcSwap<Meant>,
    /// What it takes and gives.
    signature: Option<Signature>,
    /// What a dialect should know of it.
    settings: Settings,
    /// Whether it runs in this process.
    is_native: bool,
    /// Since when it answers.
    since: SystemTime,
    pub(super) lease: Arc<Lease>,
    instances: ArcSwap<Vec<Arc<Instance>>>,
    changing: Mutex<()>,
}

/// One engine, and the calls on it.
pub(super) struct Instance {
    pub(super) engine: Arc<dyn Engine>,
    calls: AtomicUsize,
    taken: Taken,
}

/// What a version was called for.
struct Meant {
    resolved: Resolved,
    /// What each answer says of it.
    labels: Vec<(HeaderName, HeaderValue)>,
}

/// A call on an instance; both live while it is under way.
struct Call {
    instance: Arc<Instance>,
    _generation: Arc<Generation>,
}

impl Generation {
    pub(super) fn new(resolved: Resolved, lease: Arc<Lease>, file: ModelFile, is_native: bool, first: Instance) -> Arc<Self> {
        let mut settings = language::settings(&file);
        if is_native {
            settings.0.push((message::TAKEN, message::AS_THEY_ARE.to_owned()));
        }
        Arc::new(Self {
            meant: ArcSwap::from_pointee(Meant::new(resolved)),
            settings,
            signature: first.engine.signature().or(file.signature),
            is_native,
            since: SystemTime::now(),
            lease,
            instances: ArcSwap::from_pointee(vec![Arc::new(first)]),
            changing: Mutex::default(),
        })
    }

    /// Answers a request at the instance that has the fewest to answer.
    ///
    /// # Errors
    /// `PROVIDER_UNAVAILABLE` when its last instance has just ended; else those of the engine.
    pub(super) async fn answer(self: &Arc<Self>, request: Request<Bytes>) -> Result<Response<Body>> {
        let free = self.instances.load().iter().min_by_key(|instance| instance.calls.load(Relaxed)).cloned();
        let instance = free.ok_or_else(|| Error::new(ErrorReason::ProviderUnavailable, "the model's process has ended; try again"))?;
        instance.calls.fetch_add(1, Relaxed);
        let call = Call { instance, _generation: Arc::clone(self) };
        let mut response = call.instance.engine.answer(request).await?;
        for (name, value) in &self.meant.load().labels {
            response.headers_mut().insert(name, value.clone());
        }
        // What is still to come is part of the call.
        Ok(response.map(|body| {
            Body::made(body.map(move |piece| {
                let _until_the_end = &call;
                piece
            }))
        }))
    }

    /// What it was called for, and which version that was.
    pub fn resolved(&self) -> Resolved {
        self.meant.load().resolved.clone()
    }

    /// The same files are what is meant now.
    pub(super) fn is_now(&self, resolved: Resolved) {
        self.meant.store(Arc::new(Meant::new(resolved)));
    }

    /// What it takes and gives, as far as it says so.
    pub fn signature(&self) -> Option<&Signature> {
        self.signature.as_ref()
    }

    /// What a dialect should know of it.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether it runs in this process.
    pub fn is_native(&self) -> bool {
        self.is_native
    }

    /// Since when it answers.
    pub fn since(&self) -> SystemTime {
        self.since
    }

    /// The hash of its files.
    pub fn digest(&self) -> &str {
        self.lease.digest()
    }

    /// What its instances run on.
    pub(super) fn engines(&self) -> Vec<Arc<dyn Engine>> {
        self.instances.load().iter().map(|instance| Arc::clone(&instance.engine)).collect()
    }

    /// The numbers of its processes.
    pub fn processes(&self) -> Vec<u32> {
        self.instances.load().iter().filter_map(|instance| instance.engine.process()).collect()
    }

    /// How many instances there are.
    pub fn count(&self) -> usize {
        self.instances.load().len()
    }

    /// Calls under way.
    pub(super) fn calls(&self) -> usize {
        self.instances.load().iter().map(|instance| instance.calls.load(Relaxed)).sum()
    }

    /// How much memory all instances take.
    pub fn bytes(&self) -> u64 {
        self.size().bytes
    }

    /// What all instances take.
    pub(super) fn size(&self) -> Size {
        let add = |sum: Size, size: Size| Size { bytes: sum.bytes + size.bytes, processes: sum.processes + size.processes };
        self.instances.load().iter().map(|instance| instance.taken.size()).fold(Size::default(), add)
    }

    /// How much memory the largest of its processes takes; `None` where it runs in this one.
    pub(super) fn largest(&self) -> Option<u64> {
        let instances = self.instances.load();
        let processes = instances.iter().map(|instance| instance.taken.size()).filter(|size| size.processes > 0);
        processes.map(|size| size.bytes).max()
    }

    /// Whether all instances have enough to do.
    pub(super) fn is_busy(&self) -> bool {
        self.calls() >= self.count() * BUSY
    }

    /// Whether one instance fewer would do.
    pub(super) fn is_idle(&self) -> bool {
        self.calls() * 2 < self.count().saturating_sub(1) * BUSY
    }

    /// Takes an instance in.
    pub(super) fn add(&self, instance: Instance) {
        self.change(|instances| instances.push(Arc::new(instance)));
    }

    /// Lets an instance go that has ended. How many are left; `None` when it was let go before.
    pub(super) fn remove(&self, engine: &Weak<dyn Engine>) -> Option<usize> {
        let mut was = false;
        self.change(|instances| {
            let before = instances.len();
            instances.retain(|instance| !Weak::ptr_eq(&Arc::downgrade(&instance.engine), engine));
            was = instances.len() < before;
        });
        was.then(|| self.count())
    }

    /// Takes in how much memory the instances take by now.
    pub(super) fn measure(&self) {
        self.instances.load().iter().for_each(|instance| instance.measure());
    }

    /// Lets the youngest instance go, once its calls are done.
    pub(super) fn shrink(&self) {
        self.change(|instances| drop(instances.pop()));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Instance>>)) {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut instances = (**self.instances.load()).clone();
        change(&mut instances);
        self.instances.store(Arc::new(instances));
    }
}

impl Meant {
    fn new(resolved: Resolved) -> Self {
        let version = resolved.version.as_ref();
        let labels = [
            (MODEL, version.map(|version| version.name.clone())),
            (MODEL_VERSION, version.map(|version| version.version.to_string())),
            (MODEL_ALIASES, version.map(|version| version.aliases.join(",")).filter(|aliases| !aliases.is_empty())),
        ];
        // A name that no header can hold is left out.
        let labels = labels.into_iter().filter_map(|(name, text)| Some((name, HeaderValue::from_str(&text?).ok()?))).collect();
        Self { resolved, labels }
    }
}

impl Instance {
    pub(super) fn new(engine: Arc<dyn Engine>, taken: Taken) -> Self {
        let instance = Self { engine, calls: AtomicUsize::new(0), taken };
        instance.measure();
        instance
    }

    fn measure(&self) {
        if let Some(bytes) = self.engine.bytes() {
            self.taken.correct(bytes);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.instance.calls.fetch_sub(1, AcqRel);
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation").field("model", &self.lease.digest()).field("instances", &self.count()).finish_non_exhaustive()
    }
}
