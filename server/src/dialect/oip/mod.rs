//! The Open Inference Protocol, version 2, in both directions: its messages and its REST form as a door, and KServe, MLServer or Triton behind
//! it. One file per concern, no I/O.

mod contents;
mod datatype;
pub mod door;
mod elements;
pub mod rest;
mod tensors;
