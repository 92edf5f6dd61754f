//! Whether the registry answers: an outage is said once when it begins and once when it is over, however many ask.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::AcqRel},
};

use super::memory::is_away;
use crate::{error::Result, telemetry::models::RegistryMeter};

/// Whether the registry answers. Cloning shares.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    is_away: Arc<AtomicBool>,
    meter: Option<RegistryMeter>,
}

impl Reach {
    /// Nobody has asked yet. What is found is told to the meter as well.
    pub fn new(meter: RegistryMeter) -> Self {
        Self { is_away: Arc::default(), meter: Some(meter) }
    }

    /// Takes in what a question to it came to. Its refusals are answers.
    pub(super) fn note<T>(&self, answer: &Result<T>) {
        let outage = answer.as_ref().err().filter(|error| is_away(error));
        let was_away = self.is_away.swap(outage.is_some(), AcqRel);
        if let Some(meter) = &self.meter {
            meter.answers(outage.is_none());
        }
        match outage {
            Some(error) if !was_away => {
                tracing::warn!(?error, "the registry is away; the versions that it named last are used until it is back");
            }
            None if was_away => tracing::info!("the registry is back"),
            Some(_) | None => {}
        }
    }
}
