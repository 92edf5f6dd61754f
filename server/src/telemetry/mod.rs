//! What the gateway tells about itself: numbers and log lines. Uses only plain values, so that every room may use it.

pub mod batches;
pub mod costs;
#[cfg(test)]
mod docs;
mod json;
pub mod lines;
pub mod load;
pub mod logs;
pub mod metrics;
pub mod mirrors;
pub mod models;
pub mod routing;
pub mod upstreams;
