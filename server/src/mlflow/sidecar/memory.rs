//! How much memory a model's processes hold.

use crate::mlflow::process::table;

/// The resident bytes of a process and all that it has started; `None` where nobody tells, or nothing is left. Blocks for as long as
/// `/proc` is read.
pub(super) fn resident(process: u32) -> Option<u64> {
    let held = table::descendants(process).into_iter().filter_map(table::resident);
    Some(held.sum()).filter(|held| *held > 0)
}
