//! The gateway in process, on port 0, before scripted upstreams: one binary, so that it links once.

mod auth;
mod doors;
mod drain;
mod fake;
mod gateway;
mod health;
mod limits;
mod metrics;
mod openapi;
mod reload;
mod speech;
mod split;
mod tls;
