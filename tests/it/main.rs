//! The gateway in process, on port 0, before scripted upstreams: one binary, so that it links once.
#![expect(clippy::disallowed_methods, reason = "a test has no tasks to drain: its runtime ends with it")]

mod access;
mod auth;
mod batches;
mod cancel;
mod chains;
mod costs;
mod deadlines;
mod doors;
mod drain;
mod failures;
mod fake;
mod gateway;
mod health;
mod hedges;
mod lanes;
mod limits;
mod load;
mod metrics;
mod mirrors;
mod models;
mod oip;
mod openapi;
mod predict;
mod reload;
mod rollouts;
mod scoring;
mod speech;
mod split;
mod streams;
mod templates;
mod tls;
