//! `config` of a provider that is made up in this process.

use std::sync::LazyLock;

use serde_json::Value;

use crate::config::{
    Mock, MockFailure, MockFailureMode,
    bind::bind,
    check::check,
    diagnostic::Diagnostic,
    raw::{RawMock, RawMockFailure, RawMockMode},
    reading::Reading,
    tree::{At, Tree},
    units,
};

static SCHEMA: LazyLock<Value> = LazyLock::new(|| schemars::schema_for!(RawMock).to_value());

/// The mock that a `config` describes.
pub(super) fn lower(config: Option<&Tree>, reading: &mut Reading<'_>) -> Mock {
    let Some(mut tree) = config.cloned() else { return Mock::default() };
    if !check(&mut tree, &SCHEMA, reading) {
        return Mock::default();
    }
    let raw: RawMock = match bind(&tree) {
        Ok(raw) => raw,
        Err(error) => {
            reading.error(tree.spot, Diagnostic::new(format!("the mock's `config` does not fit its schema: {error}")));
            return Mock::default();
        }
    };
    let default = Mock::default();
    Mock {
        text: raw.text.map(|text| text.value),
        tokens: raw.tokens.map(|tokens| tokens.value),
        first_delay: delay(raw.first_delay.as_ref(), "first_delay", reading),
        delay: delay(raw.delay.as_ref(), "delay", reading),
        predictions: raw.predictions.map(|predictions| predictions.to_json()),
        dimensions: raw.dimensions.map_or(default.dimensions, |dimensions| dimensions.value),
        failure: raw.failure.and_then(|failure| lower_failure(&failure, reading)),
    }
}

fn delay(raw: Option<&At<String>>, key: &str, reading: &mut Reading<'_>) -> std::time::Duration {
    let Some(raw) = raw else { return std::time::Duration::ZERO };
    units::duration(&raw.value).unwrap_or_else(|| {
        reading.wrong(raw.spot, key, units::DURATION);
        std::time::Duration::ZERO
    })
}

fn lower_failure(at: &At<RawMockFailure>, reading: &mut Reading<'_>) -> Option<MockFailure> {
    let raw = &at.value;
    let mode = raw.mode.as_ref().map_or(MockFailureMode::Status, |mode| match mode.value {
        RawMockMode::Status => MockFailureMode::Status,
        RawMockMode::Cut => MockFailureMode::Cut,
        RawMockMode::ErrorEvent => MockFailureMode::ErrorEvent,
        RawMockMode::NoEnd => MockFailureMode::NoEnd,
        RawMockMode::Silent => MockFailureMode::Silent,
    });
    let by_status = mode == MockFailureMode::Status;
    if by_status != raw.status.is_some() {
        if !reading.is_damaged(at.spot) {
            let diagnostic = Diagnostic::new("`failure` says no one way to fail");
            reading.error(at.spot, diagnostic.expected("`status`, or a `mode` of `cut`, `error_event`, `no_end` or `silent`"));
        }
        return None;
    }
    let every = raw.every.as_ref().map_or(1, |every| every.value);
    Some(MockFailure { every, status: raw.status.as_ref().map(|status| status.value), mode })
}
