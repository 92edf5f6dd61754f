//! Tree ensembles: one engine for the trees of ONNX, XGBoost and LightGBM, with the readers of their forms.
//!
//! `spec` holds ONNX's attributes and `xgboost` and `lightgbm` read the libraries' own files; all become a `Plan` of plain trees.
//! A [`Forest`] checks the plan and lays it out for speed, [`Model`] adds what a file says of the answer's form. Files are outside
//! bytes: whatever they hold, reading ends in a model or a fault, never in a panic, an endless walk or memory out of proportion.

mod contribution;
mod document;
mod forest;
mod layout;
pub mod lightgbm;
mod model;
mod plan;
mod real;
mod spec;
mod transform;
mod ubjson;
pub mod xgboost;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

pub use forest::Forest;
pub use model::{Model, Task};
pub use plan::Aggregate;
pub use real::Real;
pub use spec::{Mode, NestedSpec, Spec};
