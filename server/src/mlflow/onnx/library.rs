//! The library itself: loaded once, and then what all sessions live in.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use ort::{LoadDynamicError, environment::Environment, logging::LogLevel};

use super::{Library, elf::is_cut};
use crate::mlflow::native::Fault;

/// ONNX Runtime as it was loaded. A process can have one, and gives it back at its end only.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

impl Library {
    /// What sessions live in; loads the library where that has not been done.
    ///
    /// # Errors
    /// When there is no library, or none that fits; the words are for callers, and so name no path.
    pub(super) fn load(&self) -> Result<Environment, Fault> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        match &*loaded {
            Some((path, environment)) if *path == self.path => return Ok(environment.clone()),
            Some(_) => return Err(Fault::new("another ONNX Runtime is loaded already; restart the gateway for this one")),
            None => {}
        }
        if is_cut(&self.path) {
            tracing::warn!(path = %self.path.display(), said = self.said, "ONNX Runtime is not loaded: its file was cut short");
            return Err(self.unloaded("names a file that was cut short"));
        }
        // No other call of `ort` may come before this one: they would look for a library on their own, and panic without one.
        let found = ort::init_from(&self.path).map_err(|error| self.refuse(&error))?;
        let environment = found.with_name("flowgate").with_telemetry(false).with_logger(Arc::new(log)).build();
        let environment = environment.map_err(|error| Fault::new(format!("ONNX Runtime does not start: {error}")))?;
        environment.set_log_level(LogLevel::Warning);
        tracing::info!(path = %self.path.display(), "ONNX Runtime is loaded");
        *loaded = Some((self.path.clone(), environment.clone()));
        Ok(environment)
    }

    fn refuse(&self, error: &LoadDynamicError) -> Fault {
        tracing::warn!(path = %self.path.display(), said = self.said, %error, "ONNX Runtime is not loaded");
        let what = match error {
            LoadDynamicError::Dlopen { .. } if self.path.is_absolute() && !self.path.exists() => "names no file".to_owned(),
            LoadDynamicError::Dlopen { .. } => "names no library that can be loaded here; the gateway's log says why".to_owned(),
            LoadDynamicError::MissingApi { .. } | LoadDynamicError::InvalidVersionString => "names a library of something else".to_owned(),
            LoadDynamicError::BadVersion { version_str, .. } => format!("names version {version_str}, and 1.17 or later is needed"),
        };
        self.unloaded(&what)
    }

    fn unloaded(&self, what: &str) -> Fault {
        let what = match self.said {
            Some(said) => format!("`{said}` {what}"),
            None => "its library is none of the system's".to_owned(),
        };
        Fault::new(format!(
            "ONNX Runtime, which may know it, is not loaded: {what}; name `libonnxruntime.so` by `mlflow.onnx_runtime` or `ORT_DYLIB_PATH`"
        ))
    }
}

/// What it says is told again by the errors that it gives, which go where they belong.
fn log(level: LogLevel, _: &str, _: &str, place: &str, message: &str) {
    tracing::debug!(?level, place, message, "ONNX Runtime");
}
