//! What stands here in builds without ONNX Runtime: a session that cannot be.

use super::{Library, Order};
use crate::mlflow::native::{Fault, Port, Tensor, Value};

/// A session that cannot be.
#[derive(Debug)]
pub(in crate::mlflow) enum Session {}

impl Session {
    /// Says why there is none, and what would help.
    pub(in crate::mlflow) fn open(_: &Library, _: Order<'_>) -> Result<Self, Fault> {
        Err(Fault::new("this build has no ONNX Runtime, which may know it: take one with the cargo feature `onnx`"))
    }

    pub(in crate::mlflow) fn inputs(&self) -> &[Port] {
        match *self {}
    }

    pub(in crate::mlflow) fn gives(&self) -> &[Port] {
        match *self {}
    }

    pub(in crate::mlflow) fn run(&self, _: &[Tensor]) -> Result<Vec<(&str, Value)>, Fault> {
        match *self {}
    }

    pub(in crate::mlflow) fn bytes(&self) -> u64 {
        match *self {}
    }
}
