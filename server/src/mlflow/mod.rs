//! MLflow's models: where they are registered, their files, and what runs them.

pub mod process;
