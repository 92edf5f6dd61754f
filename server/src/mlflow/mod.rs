//! MLflow models: what the registry says of them, their files, and what they say of themselves. Opens no sockets: it is handed a [`Fetch`].
//!
//! [`Fetch`]: crate::upstream::control::Fetch

pub mod artifacts;
pub mod model_file;
pub mod registry;
pub mod signature;

#[cfg(test)]
mod testing;
