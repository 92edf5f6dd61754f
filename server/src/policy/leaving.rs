//! Attempts that end before anybody was asked.

use crate::balance::vitals::Vitals;

/// Tells the breaker, when it is dropped, that a call is over which says nothing of the provider: else one that names what cannot be
/// fetched, or sent, could keep all others from a deployment that is just coming back.
pub(super) struct Leaving<'a>(Option<&'a Vitals>);

impl<'a> Leaving<'a> {
    pub(super) fn new(vitals: &'a Vitals) -> Self {
        Self(Some(vitals))
    }

    /// The call goes on.
    pub(super) fn stays(mut self) {
        self.0 = None;
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if let Some(vitals) = self.0 {
            vitals.breaker.leave();
        }
    }
}
