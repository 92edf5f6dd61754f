//! MLflow models, from registry to answer. So far only what runs them in this process: [`native`].

pub mod native;
