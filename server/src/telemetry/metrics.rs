//! Prometheus metrics. Label values are bounded: endpoints are resolved names, reasons are the contract's closed set.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric as _, LabelValueEncoder, text},
    metrics::{
        counter::{ConstCounter, Counter},
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};

use super::{
    batches::Batches,
    costs::{Bill, Costs},
    load::Load,
    logs,
    models::Models,
    routing::Routing,
    upstreams::Upstreams,
};

/// Seconds; from half a millisecond to ten minutes.
pub(super) const SECONDS: [f64; 16] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0];
/// Seconds of the gateway's own; from ten microseconds to a tenth of a second.
const OWN_SECONDS: [f64; 12] = [0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_2, 0.000_4, 0.000_8, 0.001_6, 0.003_2, 0.01, 0.03, 0.1];

/// All metrics of one gateway.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: Family<CallLabels, Counter>,
    errors: Family<ErrorLabels, Counter>,
    routing: Routing,
    load: Load,
    models: Models,
    batches: Batches,
    duration: Family<EndpointLabels, Histogram, Buckets>,
    first_event: Family<EndpointLabels, Histogram, Buckets>,
    overhead: Family<DoorLabels, Histogram, OwnBuckets>,
    in_flight: Family<DoorLabels, Gauge>,
    tokens: Family<TokenLabels, Counter>,
    costs: Costs,
    generation: Gauge,
    reloads_refused: Counter,
    upstreams: Upstreams,
}

/// How one request at a door ended.
#[derive(Clone, Debug)]
pub struct Outcome<'a> {
    /// The door.
    pub door: &'static str,
    /// The endpoint; empty when none was resolved.
    pub endpoint: Option<&'a Arc<str>>,
    /// What was asked for; empty when unknown.
    pub task: &'static str,
    /// The error's reason and origin; `None` for a success.
    pub error: Option<(&'static str, &'static str)>,
    /// From the request's first byte to the answer's last.
    pub duration: Duration,
    /// To the first event of a streamed answer.
    pub first_event: Option<Duration>,
    /// What the gateway itself took until then; `None` when no upstream was called.
    pub overhead: Option<Duration>,
    /// What it cost; `None` where nothing was called that may cost something.
    pub bill: Option<Bill<'a>>,
    /// Tokens in and out, where known.
    pub tokens: (Option<u32>, Option<u32>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(pub(super) Arc<str>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    endpoint: Name,
    task: &'static str,
    door: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    endpoint: Name,
    door: &'static str,
    reason: &'static str,
    origin: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    endpoint: Name,
    task: &'static str,
    door: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DoorLabels {
    door: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    endpoint: Name,
    direction: &'static str,
}

#[derive(Clone, Debug)]
pub(super) struct Buckets;

#[derive(Clone, Debug)]
struct OwnBuckets;

/// Log lines that were thrown away, read when a scraper asks.
#[derive(Debug)]
struct LostLines;

/// One request in flight at a door; ends when dropped.
#[derive(Debug)]
pub struct InFlight(Gauge);

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("flowgate");
        let calls = Family::default();
        registry.register("calls", "Requests at the doors, by how they ended", calls.clone());
        let errors = Family::default();
        registry.register("errors", "Failed requests, by reason and by whose fault it was", errors.clone());
        let routing = Routing::register(&mut registry);
        let load = Load::register(&mut registry);
        let models = Models::register(&mut registry);
        let batches = Batches::register(&mut registry);
        let duration = Family::new_with_constructor(Buckets);
        registry.register_with_unit(
            "call_duration",
            "First byte of the request to last byte of the answer",
            Unit::Seconds,
            duration.clone(),
        );
        let first_event = Family::new_with_constructor(Buckets);
        registry.register_with_unit("first_event", "Request to first content of a streamed answer", Unit::Seconds, first_event.clone());
        let overhead = Family::new_with_constructor(OwnBuckets);
        registry.register_with_unit("overhead", "What the gateway itself took until the first content", Unit::Seconds, overhead.clone());
        let in_flight = Family::default();
        registry.register("in_flight", "Requests that are being answered", in_flight.clone());
        let tokens = Family::default();
        registry.register("tokens", "Tokens that providers reported", tokens.clone());
        let costs = Costs::register(&mut registry);
        let generation = Gauge::default();
        registry.register("config_generation", "How often a configuration was taken over since the start", generation.clone());
        let reloads_refused = Counter::default();
        registry.register("config_reloads_refused", "Changed configurations that were refused", reloads_refused.clone());
        registry.register_collector(Box::new(LostLines));
        let upstreams = Upstreams::default();
        registry.register_collector(Box::new(upstreams.clone()));
        Self {
            registry,
            calls,
            errors,
            routing,
            load,
            models,
            batches,
            duration,
            first_event,
            overhead,
            in_flight,
            tokens,
            costs,
            generation,
            reloads_refused,
            upstreams,
        }
    }

    /// Counts a request in until the guard is dropped.
    pub fn begin(&self, door: &'static str) -> InFlight {
        let gauge = self.in_flight.get_or_create_owned(&DoorLabels { door });
        gauge.inc();
        InFlight(gauge)
    }

    /// Counts a request that is over.
    pub fn end(&self, outcome: &Outcome<'_>) {
        let endpoint = Name(outcome.endpoint.map_or_else(|| Arc::from(""), Arc::clone));
        let (task, door) = (outcome.task, outcome.door);
        let ended = if outcome.error.is_some() { "error" } else { "ok" };
        self.calls.get_or_create(&CallLabels { endpoint: endpoint.clone(), task, door, outcome: ended }).inc();
        if let Some((reason, origin)) = outcome.error {
            self.errors.get_or_create(&ErrorLabels { endpoint: endpoint.clone(), door, reason, origin }).inc();
        }
        let labels = EndpointLabels { endpoint: endpoint.clone(), task, door };
        self.duration.get_or_create(&labels).observe(outcome.duration.as_secs_f64());
        if let Some(first) = outcome.first_event {
            self.first_event.get_or_create(&labels).observe(first.as_secs_f64());
        }
        if let Some(own) = outcome.overhead {
            self.overhead.get_or_create(&DoorLabels { door }).observe(own.as_secs_f64());
        }
        if let Some(bill) = &outcome.bill {
            self.costs.charge(endpoint.clone(), bill);
        }
        for (direction, tokens) in [("input", outcome.tokens.0), ("output", outcome.tokens.1)] {
            if let Some(tokens) = tokens {
                self.tokens.get_or_create(&TokenLabels { endpoint: endpoint.clone(), direction }).inc_by(tokens.into());
            }
        }
    }

    /// What is counted of routing.
    pub fn routing(&self) -> &Routing {
        &self.routing
    }

    /// What is counted of requests that are put together.
    pub fn batches(&self) -> &Batches {
        &self.batches
    }

    /// What is counted of load.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// What is counted of models that the gateway runs.
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// A configuration was taken over.
    pub fn reloaded(&self) {
        self.generation.inc();
    }

    /// A changed configuration was refused.
    pub fn reload_refused(&self) {
        self.reloads_refused.inc();
    }

    /// Where upstreams are counted.
    pub fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }

    /// The text that a scraper reads.
    pub fn render(&self) -> String {
        let mut page = String::new();
        // Writing into a string cannot fail.
        text::encode(&mut page, &self.registry).unwrap_or_default();
        page
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(&self.0)
    }
}

impl Collector for LostLines {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let lost = ConstCounter::new(logs::lost());
        let help = "Log lines that were thrown away because their reader was too slow";
        lost.encode(encoder.encode_descriptor("log_lines_lost", help, None, lost.metric_type())?)
    }
}

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(SECONDS)
    }
}

impl MetricConstructor<Histogram> for OwnBuckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(OWN_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_call_is_counted_by_reason_and_in_flight_goes_back_to_zero() {
        let metrics = Metrics::new();
        let in_flight = metrics.begin("grpc");
        assert!(metrics.render().contains("flowgate_in_flight{door=\"grpc\"} 1"));
        metrics.end(&Outcome {
            door: "grpc",
            endpoint: Some(&Arc::from("chat")),
            task: "chat",
            error: Some(("PROVIDER_FAILED", "provider")),
            duration: Duration::from_millis(3),
            first_event: None,
            overhead: Some(Duration::from_micros(60)),
            bill: None,
            tokens: (Some(3), None),
        });
        drop(in_flight);
        let page = metrics.render();
        for line in [
            "flowgate_in_flight{door=\"grpc\"} 0",
            "flowgate_calls_total{endpoint=\"chat\",task=\"chat\",door=\"grpc\",outcome=\"error\"} 1",
            "reason=\"PROVIDER_FAILED\",origin=\"provider\"} 1",
            "flowgate_tokens_total{endpoint=\"chat\",direction=\"input\"} 3",
            "flowgate_log_lines_lost_total 0",
            "flowgate_overhead_seconds_bucket{le=\"0.0001\",door=\"grpc\"} 1",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
    }
}
