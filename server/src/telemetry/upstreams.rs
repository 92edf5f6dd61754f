//! What scrapers are told of upstreams: the series of each one, for as long as it exists.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// The upstreams there are. Cloning shares.
#[derive(Clone, Debug, Default)]
pub struct Upstreams(Arc<Mutex<Vec<Weak<Series>>>>);

/// What is counted of one upstream; its series end when this is dropped.
#[derive(Debug)]
pub struct Series {
    /// `host:port`.
    upstream: String,
    /// Whether it is asked for its health.
    checked: bool,
    healthy: AtomicBool,
    ejected: AtomicBool,
    ejections: AtomicU64,
}

/// Several upstreams of one name, for example through different proxies, told as one.
#[derive(Default)]
struct Sum {
    unhealthy: Option<bool>,
    ejected: bool,
    ejections: u64,
}

impl Upstreams {
    /// The series of one more upstream, at `host:port`. `checked`: whether it is asked for its health.
    pub fn series(&self, upstream: &str, checked: bool) -> Arc<Series> {
        let series = Arc::new(Series {
            upstream: upstream.to_owned(),
            checked,
            healthy: AtomicBool::new(true),
            ejected: AtomicBool::new(false),
            ejections: AtomicU64::new(0),
        });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|series| series.strong_count() > 0);
        all.push(Arc::downgrade(&series));
        series
    }

    fn sums(&self) -> BTreeMap<String, Sum> {
        let mut sums = BTreeMap::<String, Sum>::new();
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for series in all.iter().filter_map(Weak::upgrade) {
            let sum = sums.entry(series.upstream.clone()).or_default();
            sum.ejected |= series.ejected.load(Relaxed);
            sum.ejections += series.ejections.load(Relaxed);
            if series.checked {
                sum.unhealthy = Some(sum.unhealthy.unwrap_or(false) || !series.healthy.load(Relaxed));
            }
        }
        sums
    }
}

impl Series {
    /// `host:port`.
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// It was ejected.
    pub fn ejected(&self) {
        self.ejected.store(true, Relaxed);
        self.ejections.fetch_add(1, Relaxed);
    }

    /// It is tried again after an ejection.
    pub fn returned(&self) {
        self.ejected.store(false, Relaxed);
    }

    /// Whether it passes its health checks.
    pub fn healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Relaxed);
    }
}

impl Collector for Upstreams {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let sums = self.sums();
        let mut ejected = encoder.encode_descriptor("upstream_ejected", "Whether an upstream is left out", None, MetricType::Gauge)?;
        for (upstream, sum) in &sums {
            let gauge = ConstGauge::new(i64::from(sum.ejected));
            gauge.encode(ejected.encode_family(&[("upstream", upstream.as_str())])?)?;
        }
        let help = "How often an upstream was left out because its calls failed";
        let mut ejections = encoder.encode_descriptor("upstream_ejections", help, None, MetricType::Counter)?;
        for (upstream, sum) in &sums {
            ConstCounter::new(sum.ejections).encode(ejections.encode_family(&[("upstream", upstream.as_str())])?)?;
        }
        let help = "Whether an upstream passes its health checks";
        let mut healthy = encoder.encode_descriptor("upstream_healthy", help, None, MetricType::Gauge)?;
        for (upstream, unhealthy) in sums.iter().filter_map(|(upstream, sum)| Some((upstream, sum.unhealthy?))) {
            let gauge = ConstGauge::new(i64::from(!unhealthy));
            gauge.encode(healthy.encode_family(&[("upstream", upstream.as_str())])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::telemetry::metrics::Metrics;

    #[test]
    fn the_series_of_an_upstream_end_with_it() {
        let metrics = Metrics::new();
        let plain = metrics.upstreams().series("a.test:80", false);
        let checked = metrics.upstreams().series("b.test:81", true);
        let twin = metrics.upstreams().series("b.test:81", true);
        plain.ejected();
        plain.ejected();
        plain.returned();
        checked.ejected();
        twin.healthy(false);
        let page = metrics.render();
        for line in [
            "flowgate_upstream_ejected{upstream=\"a.test:80\"} 0",
            "flowgate_upstream_ejected{upstream=\"b.test:81\"} 1",
            "flowgate_upstream_ejections_total{upstream=\"a.test:80\"} 2",
            "flowgate_upstream_ejections_total{upstream=\"b.test:81\"} 1",
            "flowgate_upstream_healthy{upstream=\"b.test:81\"} 0",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("healthy{upstream=\"a.test:80\"}"), "nobody asks it");
        drop((checked, twin));
        let page = metrics.render();
        assert!(!page.contains("b.test") && page.contains("a.test"), "{page}");
    }
}
