//! What keeps ailing replicas out: `upstream.health` and `upstream.ejection`, the endpoint's own as defaults below the deployment's.

use http::uri::PathAndQuery;

use crate::config::{
    Ejection, Health, HealthCheck,
    diagnostic::Diagnostic,
    raw::{RawEjection, RawHealth, Short},
    reading::Reading,
    tree::At,
    units::{self, NONZERO, SHARE},
};

/// The active check, laid over the one below.
pub(super) fn health(at: &At<Short<String, RawHealth>>, below: Option<Health>, reading: &mut Reading<'_>) -> Option<Health> {
    let brief;
    let raw = match &at.value {
        Short::Word(path) => {
            brief = RawHealth { path: Some(at.with(path.clone())), ..RawHealth::default() };
            &brief
        }
        Short::Whole(raw) => raw,
    };
    let check = match (&raw.path, &raw.grpc) {
        (Some(path), None) => check_path(path, reading),
        (None, Some(service)) => check_service(service, reading),
        (Some(_), Some(service)) => {
            reading.error(service.spot, Diagnostic::new("`grpc` stands beside `path`").expected("one of the two"));
            None
        }
        (None, None) => {
            if below.is_none() && !reading.is_damaged(at.spot) {
                reading.error(at.spot, Diagnostic::new("`health` asks nothing").expected("`path`, for example `/ping`, or `grpc`"));
            }
            below.as_ref().map(|below| below.check.clone())
        }
    };
    let interval = reading.amount(raw.interval.as_ref(), "interval", (units::nonzero, NONZERO));
    let timeout = reading.amount(raw.timeout.as_ref(), "timeout", (units::nonzero, NONZERO));
    let check = check?;
    let below = below.unwrap_or_else(|| Health::new(check.clone()));
    Some(Health {
        check,
        interval: interval.unwrap_or(below.interval),
        timeout: timeout.unwrap_or(below.timeout),
        unhealthy: raw.unhealthy.as_ref().map_or(below.unhealthy, |number| number.value),
        healthy: raw.healthy.as_ref().map_or(below.healthy, |number| number.value),
    })
}

fn check_path(path: &At<String>, reading: &mut Reading<'_>) -> Option<HealthCheck> {
    let is_path = path.value.starts_with('/') && !path.value.contains('#') && path.value.parse::<PathAndQuery>().is_ok();
    if !is_path {
        reading.wrong(path.spot, "health", "a path on the server, for example `/ping`");
    }
    is_path.then(|| HealthCheck::Http(path.value.clone()))
}

fn check_service(service: &At<String>, reading: &mut Reading<'_>) -> Option<HealthCheck> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    let is_name = service.value.len() <= 256 && service.value.chars().all(plain);
    if !is_name {
        reading.wrong(service.spot, "grpc", "the name of a service, or `\"\"` for the server as a whole");
    }
    is_name.then(|| HealthCheck::Grpc(service.value.clone()))
}

/// When a replica is left out, laid over what holds below.
pub(super) fn ejection(at: &At<RawEjection>, below: Ejection, reading: &mut Reading<'_>) -> Ejection {
    let raw = &at.value;
    let time = reading.amount(raw.time.as_ref(), "time", (units::nonzero, NONZERO)).unwrap_or(below.time);
    let max_time = reading.amount(raw.max_time.as_ref(), "max_time", (units::nonzero, NONZERO));
    if let Some(written) = raw.max_time.as_ref().filter(|_| max_time.is_some_and(|max_time| max_time < time)) {
        reading.wrong(written.spot, "max_time", "at least as long as `time`");
    }
    Ejection {
        failures: raw.failures.as_ref().map_or(below.failures, |number| number.value),
        time,
        max_time: max_time.unwrap_or(below.max_time).max(time),
        max_share: reading.amount(raw.max_share.as_ref(), "max_share", (units::share, SHARE)).unwrap_or(below.max_share),
    }
}
