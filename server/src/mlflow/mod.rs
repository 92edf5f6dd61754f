//! MLflow models: what stands between the registry's name of one and its answer.

pub mod native;
