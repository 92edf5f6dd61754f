//! The native engine: runs ONNX models as skl2onnx and onnxmltools write them, in this process and in pure Rust.
//!
//! [`Model::load`] reads a model and plans it once: every operator is built for the types of its inputs, what hangs on constants alone
//! is computed, and what cannot be run is named. [`Model::run`] answers rows, from any thread. A model file is outside bytes: nothing in
//! it may panic, recurse without end or ask for memory without bound. No I/O here, and nothing of the rest of the house.

mod beside;
mod bounds;
pub mod fault;
mod model;
mod operators;
mod plan;
mod site;
mod tensor;
pub mod trees;
mod value;
mod wire;

pub(crate) use self::bounds::MOST_BYTES;
pub use self::{
    bounds::Stop,
    fault::Fault,
    model::{Model, Outline, Port},
    tensor::{Tensor, Type, Values},
    value::{Kind, Labels, Maps, Value},
};

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod tests;
