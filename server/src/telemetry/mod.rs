//! What the gateway tells about itself: numbers and log lines. Uses only plain values, so that every room may use it.

use std::time::Duration;

pub mod batches;
pub mod costs;
#[cfg(test)]
mod docs;
mod json;
pub mod lines;
pub mod load;
pub mod logs;
pub mod metrics;
pub mod mirrors;
pub mod models;
pub mod routing;
pub mod upstreams;

/// A time as it is logged: to the millisecond.
pub fn rounded(time: Duration) -> Duration {
    Duration::from_micros(time.as_micros().saturating_add(500).try_into().unwrap_or(u64::MAX) / 1000 * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_logged_to_the_millisecond() {
        for (micros, told) in [(975_329, "975ms"), (975_500, "976ms"), (1_975_329, "1.975s"), (0, "0ns")] {
            assert_eq!(format!("{:?}", rounded(Duration::from_micros(micros))), told);
        }
    }
}
