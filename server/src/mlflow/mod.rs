//! MLflow models: what they say of themselves.

pub mod model_file;
pub mod signature;
