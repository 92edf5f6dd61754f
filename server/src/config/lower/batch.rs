//! `batch`: how requests that come at the same time are put together.

use std::time::Duration;

use crate::{
    config::{Batch, diagnostic::Diagnostic, raw::RawBatch, reading::Reading, tree::At, units},
    event::Task,
};

/// Who waits longer for others gains nothing by them.
const LONGEST: Duration = Duration::from_secs(1);

/// How requests are put together, laid over what holds below.
pub(super) fn lower(at: &At<RawBatch>, task: Task, below: Option<Batch>, reading: &mut Reading<'_>) -> Option<Batch> {
    let raw = &at.value;
    if task != Task::Predict {
        let diagnostic = Diagnostic::new("`batch` does not go with this endpoint, whose requests have no rows");
        reading.error(at.spot, diagnostic.expected("`endpoint_type: mlflow/predict`, or no `batch`"));
    }
    let usual = below.unwrap_or_default();
    let max_rows = raw.max_rows.as_ref().map(|rows| usize::try_from(rows.value).unwrap_or(usize::MAX));
    let short = |text: &str| units::nonzero(text).filter(|delay| *delay <= LONGEST);
    let max_delay = reading.amount(raw.max_delay.as_ref(), "max_delay", (short, "a duration above 0 and up to `1s`, for example `5ms`"));
    Some(Batch { max_rows: max_rows.unwrap_or(usual.max_rows), max_delay: max_delay.unwrap_or(usual.max_delay) })
}
