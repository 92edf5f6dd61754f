//! Metrics of batching: how many requests were put together into each request to a model, and how many rows that had.

use std::sync::Arc;

use prometheus_client::{
    metrics::{
        family::{Family, MetricConstructor},
        histogram::Histogram,
    },
    registry::Registry,
};

use super::routing::DeploymentLabels;

/// Powers of two; what goes alone is in the first.
const SIZES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// All families of this room. Cloning shares.
#[derive(Clone, Debug)]
pub struct Batches {
    requests: Family<DeploymentLabels, Histogram, Sizes>,
    rows: Family<DeploymentLabels, Histogram, Sizes>,
}

/// What is counted of a deployment whose requests are put together.
#[derive(Clone, Debug)]
pub struct BatchMeter {
    requests: Histogram,
    rows: Histogram,
}

#[derive(Clone, Debug)]
struct Sizes;

impl MetricConstructor<Histogram> for Sizes {
    fn new_metric(&self) -> Histogram {
        Histogram::new(SIZES)
    }
}

impl Batches {
    /// The families, to be read with all others.
    pub fn register(registry: &mut Registry) -> Self {
        let batches = Self { requests: Family::new_with_constructor(Sizes), rows: Family::new_with_constructor(Sizes) };
        let help = "Requests that were put together into one request to a model, by their number";
        registry.register("batch_requests", help, batches.requests.clone());
        registry.register("batch_rows", "Rows of a request to a model that may be put together of several", batches.rows.clone());
        batches
    }

    /// The handles of a deployment.
    pub fn deployment(&self, endpoint: &Arc<str>, alias: &Arc<str>) -> BatchMeter {
        let labels = DeploymentLabels::new(endpoint, alias);
        BatchMeter { requests: self.requests.get_or_create_owned(&labels), rows: self.rows.get_or_create_owned(&labels) }
    }
}

impl BatchMeter {
    /// So many requests with so many rows together are sent as one.
    pub fn sent(&self, requests: usize, rows: usize) {
        let size = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        self.requests.observe(size(requests));
        self.rows.observe(size(rows));
    }
}
