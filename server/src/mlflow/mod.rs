//! MLflow's models: what the registry says of them, their files, what they say of themselves, and what runs them. Opens no sockets: it is
//! handed a [`Fetch`].
//!
//! [`Fetch`]: crate::upstream::control::Fetch

pub mod artifacts;
pub mod discreet;
pub mod language;
pub mod model_file;
pub mod models;
pub mod native;
pub mod onnx;
pub mod process;
pub mod registry;
pub mod scoring;
pub mod sidecar;
pub mod signature;

#[cfg(test)]
mod testing;
