//! A model in ONNX Runtime: as many sessions as may compute at once, for one answers one call at a time.

use std::{
    fmt,
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use ort::{environment::Environment, session::Session as Ort};

use super::{Library, Order, share::Share, values};
use crate::mlflow::native::{Fault, Port, Tensor, Value};

/// What a session takes beside its weights, about.
const BARE: u64 = 2 << 20;

/// A model that is ready to answer, from any number of threads.
pub(in crate::mlflow) struct Session {
    sessions: Vec<Mutex<Ort>>,
    /// Where the next call looks first.
    next: AtomicUsize,
    inputs: Vec<Port>,
    gives: Vec<Port>,
    outputs: Vec<String>,
    bytes: u64,
}

impl Session {
    /// Reads a model and makes it ready.
    ///
    /// # Errors
    /// When ONNX Runtime is not there, or does not take the model either; the words name no path.
    pub(in crate::mlflow) fn open(library: &Library, order: Order<'_>) -> Result<Self, Fault> {
        let environment = library.load()?;
        let copy = order.weights.saturating_add(BARE);
        let share = Share::of(copy, order.threads);
        let sessions = (0..share.sessions).map(|_| open(&environment, order.path, share.threads)).collect::<Result<Vec<_>, _>>()?;
        let declared = sessions.first().map(Ort::outputs).unwrap_or_default();
        declared.iter().try_for_each(|output| values::check(output.name(), output.dtype()))?;
        Ok(Self {
            outputs: declared.iter().map(|output| output.name().to_owned()).collect(),
            sessions: sessions.into_iter().map(Mutex::new).collect(),
            next: AtomicUsize::new(0),
            inputs: order.outline.inputs,
            gives: order.outline.gives,
            bytes: copy.saturating_mul(share.sessions as u64),
        })
    }

    /// What it asks for, in the model's order.
    pub(in crate::mlflow) fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// Those of its outputs that are tensors, as the model declares them.
    pub(in crate::mlflow) fn gives(&self) -> &[Port] {
        &self.gives
    }

    /// Answers inputs, in the order of [`Session::inputs`], with outputs by name. Waits for a session that is free.
    ///
    /// # Errors
    /// When an input is of another type or shape, or the model fails.
    pub(in crate::mlflow) fn run(&self, inputs: &[Tensor]) -> Result<Vec<(&str, Value)>, Fault> {
        self.inputs.iter().zip(inputs).try_for_each(|(port, tensor)| port.check(tensor))?;
        let names = self.inputs.iter().map(|port| port.name.as_str());
        let given = names.zip(inputs).map(|(name, tensor)| Ok((name, values::give(tensor)?))).collect::<Result<Vec<_>, ort::Error>>();
        let given = given.map_err(|error| Fault::new(error.to_string()))?;
        let mut session = self.free();
        let answered = session.run(given).map_err(|error| Fault::new(error.to_string()))?;
        self.outputs.iter().zip(answered.values()).map(|(name, value)| Ok((name.as_str(), values::take(name, &value)?))).collect()
    }

    /// About how many bytes of memory it takes.
    pub(in crate::mlflow) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn free(&self) -> MutexGuard<'_, Ort> {
        let count = self.sessions.len();
        let first = self.next.fetch_add(1, Relaxed) % count;
        let free = (0..count).find_map(|at| self.sessions[(first + at) % count].try_lock().ok());
        // A session outlives a panic: what it computes is not kept in it.
        free.unwrap_or_else(|| self.sessions[first].lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn open(environment: &Environment, path: &Path, threads: usize) -> Result<Ort, Fault> {
    let open = || -> Result<Ort, ort::Error> {
        // Threads that wait would else burn what others compute with.
        let builder = Ort::builder(environment)?.with_intra_threads(threads)?.with_inter_threads(1)?.with_intra_op_spinning(false)?;
        { builder }.commit_from_file(path)
    };
    open().map_err(|error| refused(path, &error.to_string()))
}

/// What it says, less where the file is.
fn refused(path: &Path, said: &str) -> Fault {
    let folder = path.parent().map(|folder| format!("{}/", folder.display())).unwrap_or_default();
    let said = if folder.is_empty() { said.to_owned() } else { said.replace(&folder, "") };
    Fault::new(format!("ONNX Runtime refuses it: {}", said.trim().trim_end_matches('.')))
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("sessions", &self.sessions.len()).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}
