//! What the parts stand on: Python with MLflow and ONNX Runtime, the trained forests, and a folder for configurations, logs and caches.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::shared::Result;

/// Where `tests/interop/setup.sh` installs.
const INTEROP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.interop");

pub struct Ground {
    folder: TempDir,
}

impl Ground {
    pub fn new() -> Result<Self> {
        Ok(Self { folder: TempDir::with_prefix("flowgate-models-")? })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A program of the environment that the interop tests use.
    pub fn program(name: &str) -> PathBuf {
        Path::new(INTEROP).join("venv/bin").join(name)
    }

    /// Runs a script with ONNX Runtime beside the other packages.
    pub fn python(&self, script: &Path) -> Result<Command> {
        let program = Self::program("python");
        if !program.exists() || !Path::new(INTEROP).join("onnx").exists() {
            return Err("Python, MLflow or ONNX Runtime is missing: `make bench-models` installs them".into());
        }
        let mut command = Command::new(program);
        command.arg(script).env("PYTHONPATH", Path::new(INTEROP).join("onnx")).env("MLFLOW_DISABLE_TELEMETRY", "true");
        Ok(command)
    }

    /// The trained forests, see `forests.py`.
    pub fn forests(&self) -> PathBuf {
        self.folder().join("forests")
    }

    /// Trains them, where they are not there yet.
    pub fn train(&self) -> Result<()> {
        if self.forests().exists() {
            return Ok(());
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/models/forests.py");
        let log = self.folder().join("forests.log");
        let trained = self.python(&script)?.arg(self.forests()).stdout(Stdio::null()).stderr(fs::File::create(&log)?).status()?;
        if trained.success() { Ok(()) } else { Err(format!("no forests were trained:\n{}", fs::read_to_string(log)?).into()) }
    }
}
