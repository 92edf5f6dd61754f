//! Metrics of the models that Flowgate runs itself: loads, what is loaded, and what it takes.

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _},
    metrics::{MetricType, counter::Counter, family::Family, gauge::ConstGauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::metrics::{Buckets, Name};

/// All families of this room. Cloning shares.
#[derive(Clone, Debug)]
pub struct Models {
    loads: Family<LoadLabels, Counter>,
    lookups: Family<LoadLabels, Counter>,
    unloads: Family<ModelLabels, Counter>,
    crashes: Family<ModelLabels, Counter>,
    duration: Family<ModelLabels, Histogram, Buckets>,
    shown: Shown,
    up: Up,
}

/// What is counted of one model; its gauges end when this is dropped.
#[derive(Debug)]
pub struct ModelMeter {
    families: Models,
    gauges: Arc<Gauges>,
}

/// What is told of the registry.
#[derive(Clone, Debug)]
pub struct RegistryMeter(Up);

/// Whether the registry answers; shown once it was asked.
#[derive(Clone, Debug, Default)]
struct Up(Arc<OnceLock<AtomicBool>>);

/// The gauges of the models there are.
#[derive(Clone, Debug, Default)]
struct Shown(Arc<Mutex<Vec<Weak<Gauges>>>>);

#[derive(Debug)]
struct Gauges {
    model: Arc<str>,
    instances: AtomicU64,
    bytes: AtomicU64,
    /// 1, or 0.
    failing: AtomicU64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    model: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoadLabels {
    model: Name,
    outcome: &'static str,
}

impl Models {
    /// The families, to be read with all others.
    pub fn register(registry: &mut Registry) -> Self {
        let models = Self {
            loads: Family::default(),
            lookups: Family::default(),
            unloads: Family::default(),
            crashes: Family::default(),
            duration: Family::new_with_constructor(Buckets),
            shown: Shown::default(),
            up: Up::default(),
        };
        registry.register("model_loads", "Loads of models that the gateway runs, by how they ended", models.loads.clone());
        let help = "Look-ups of references that led to no load, by how they ended";
        registry.register("model_lookups", help, models.lookups.clone());
        registry.register("model_unloads", "Models that were let go, since nobody called or to make room", models.unloads.clone());
        registry.register("model_crashes", "Processes of models that ended by themselves", models.crashes.clone());
        let help = "How long loads took, files included";
        registry.register_with_unit("model_load_duration", help, Unit::Seconds, models.duration.clone());
        registry.register_collector(Box::new(models.shown.clone()));
        registry.register_collector(Box::new(models.up.clone()));
        models
    }

    /// The handle of the registry.
    pub fn registry(&self) -> RegistryMeter {
        RegistryMeter(self.up.clone())
    }

    /// The handles of one model.
    pub fn model(&self, model: &Arc<str>) -> ModelMeter {
        let none = || AtomicU64::new(0);
        let gauges = Arc::new(Gauges { model: Arc::clone(model), instances: none(), bytes: none(), failing: none() });
        let mut shown = self.shown.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|gauges| gauges.strong_count() > 0);
        shown.push(Arc::downgrade(&gauges));
        drop(shown);
        ModelMeter { families: self.clone(), gauges }
    }
}

impl RegistryMeter {
    /// Whether it gave an answer when it was asked last.
    pub fn answers(&self, answers: bool) {
        self.0.0.get_or_init(AtomicBool::default).store(answers, Relaxed);
    }
}

impl Collector for Up {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(up) = self.0.get() else { return Ok(()) };
        let help = "Whether the registry of models gave an answer when it was asked last";
        let gauge = encoder.encode_descriptor("registry_up", help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::from(up.load(Relaxed))).encode(gauge)
    }
}

impl ModelMeter {
    /// A load has ended, and took so long; `None`: it did not get as far as to load anything.
    pub fn loaded(&self, well: bool, took: Option<Duration>) {
        if let Some(took) = took {
            self.families.duration.get_or_create(&ModelLabels { model: self.name() }).observe(took.as_secs_f64());
        }
        self.families.loads.get_or_create(&self.ended(well)).inc();
    }

    /// What a reference means was looked up, and nothing was to be loaded, or the look-up failed.
    pub fn looked_up(&self, well: bool) {
        self.families.lookups.get_or_create(&self.ended(well)).inc();
    }

    fn ended(&self, well: bool) -> LoadLabels {
        LoadLabels { model: self.name(), outcome: if well { "ok" } else { "error" } }
    }

    /// It was let go.
    pub fn unloaded(&self) {
        self.families.unloads.get_or_create(&ModelLabels { model: self.name() }).inc();
    }

    /// A process of it has ended by itself.
    pub fn crashed(&self) {
        self.families.crashes.get_or_create(&ModelLabels { model: self.name() }).inc();
    }

    /// What is loaded of it now.
    pub fn holds(&self, instances: u64, bytes: u64) {
        self.gauges.instances.store(instances, Relaxed);
        self.gauges.bytes.store(bytes, Relaxed);
    }

    /// Whether what it is called for could not be loaded.
    pub fn fails(&self, fails: bool) {
        self.gauges.failing.store(fails.into(), Relaxed);
    }

    fn name(&self) -> Name {
        Name(Arc::clone(&self.gauges.model))
    }
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut all: Vec<_> = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect();
        // Of models that differ by more than their names each has its gauges, but a name must stand once.
        all.sort_by(|a, b| a.model.cmp(&b.model));
        let sums = || {
            all.chunk_by(|a, b| a.model == b.model).map(|same| {
                let sum = |of: fn(&Gauges) -> &AtomicU64| same.iter().map(|each| of(each).load(Relaxed)).sum::<u64>();
                (&*same[0].model, [sum(|each| &each.instances), sum(|each| &each.bytes), sum(|each| &each.failing).min(1)])
            })
        };
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let families = [
            ("model_instances", "How many instances of a model are loaded", None),
            ("model_memory", "How much memory a loaded model takes, about", Some(&Unit::Bytes)),
            ("model_failing", "Whether the version that is meant could not be loaded: 1, whatever answers meanwhile", None),
        ];
        for (at, (name, help, unit)) in families.into_iter().enumerate() {
            let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            for (model, values) in sums() {
                ConstGauge::new(whole(values[at])).encode(family.encode_family(&[("model", model)])?)?;
            }
        }
        Ok(())
    }
}
