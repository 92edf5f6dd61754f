//! Models in process, without Python: pure functions from a model's bytes to its answers, with no I/O.

pub mod fault;
pub mod trees;
