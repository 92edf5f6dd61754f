//! The gateway in process, on port 0, before scripted upstreams: one binary, so that it links once.

mod doors;
mod fake;
mod gateway;
mod lanes;
mod speech;
mod streams;
