//! Flowgate: one door to every model a company has.
//!
//! A file may use only what stands before it here:
//! `error → event → dialect → provider → config → catalog, identity → call → upstream → balance → policy → stack → api →
//! admin → listen → lib → cli`.

pub mod call;
pub mod catalog;
pub mod config;
pub mod dialect;
pub mod error;
pub mod event;
pub mod identity;
pub mod listen;
pub mod provider;
pub mod task;
pub mod upstream;
