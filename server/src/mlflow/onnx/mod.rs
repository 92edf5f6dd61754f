//! ONNX models that the native engine does not know, through ONNX Runtime's shared library: only in builds with the cargo feature `onnx`.
//!
//! The library is found by `mlflow.onnx_runtime`, else `ORT_DYLIB_PATH`, else where the system keeps its libraries. It is loaded when the
//! first model needs it, once for the life of the process; a library that is missing or too old keeps only such models from being loaded.
//! Without the feature a session cannot be, and asking for one says so.

#[cfg(not(feature = "onnx"))]
mod absent;
#[cfg(feature = "onnx")]
mod elf;
#[cfg(feature = "onnx")]
mod library;
#[cfg(feature = "onnx")]
mod session;
#[cfg(any(test, feature = "onnx"))]
mod share;
#[cfg(test)]
mod tests;
#[cfg(feature = "onnx")]
mod values;

use std::path::{Path, PathBuf};

#[cfg(not(feature = "onnx"))]
pub(super) use self::absent::Session;
#[cfg(feature = "onnx")]
pub(super) use self::session::Session;
use super::native::Outline;
use crate::config::Environment;

/// The variable that other programs, too, find the library by.
const VARIABLE: &str = "ORT_DYLIB_PATH";

/// Where ONNX Runtime is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    path: PathBuf,
    /// What says so; `None`: nothing does.
    said: Option<&'static str>,
}

/// An ONNX model that is to be run by ONNX Runtime.
#[derive(Debug)]
#[cfg_attr(not(feature = "onnx"), expect(dead_code, reason = "nobody takes it"))]
pub(super) struct Order<'a> {
    /// The model's file.
    pub(super) path: &'a Path,
    /// What it says of itself.
    pub(super) outline: Outline,
    /// How many bytes it has, with the files beside it.
    pub(super) weights: u64,
    /// How many threads may compute at once; `None`: as many as the machine has.
    pub(super) threads: Option<u32>,
}

impl Library {
    /// Where it is looked for. Nothing is loaded.
    pub fn find(setting: Option<&Path>, environment: &dyn Environment) -> Self {
        let variable = || environment.variable(VARIABLE).filter(|path| !path.is_empty());
        match setting {
            // A library's bare name would be looked for elsewhere.
            Some(path) => Self { path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()), said: Some("mlflow.onnx_runtime") },
            None => variable().map_or_else(Self::of_system, |path| Self { path: path.into(), said: Some(VARIABLE) }),
        }
    }

    fn of_system() -> Self {
        use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
        Self { path: format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}").into(), said: None }
    }
}
