//! When an upstream wants to be asked again, in all the spellings that there are. Its own `date` is the clock for absolute times.

use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use http::{HeaderMap, StatusCode};
use serde_json::Value;

/// A longer hint is taken for a mistake.
const LONGEST: f64 = 86_400.0;

/// What a failed answer's headers say: `retry-after-ms`; `retry-after` in seconds or as a date; for a rate limit the resets of the
/// limits that are used up.
pub fn in_headers(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| text(headers, name)?.parse::<f64>().ok();
    number("retry-after-ms")
        .and_then(|ms| seconds(ms / 1000.0))
        .or_else(|| number("retry-after").and_then(seconds))
        .or_else(|| until(headers, text(headers, "retry-after")?))
        .or_else(|| (status == StatusCode::TOO_MANY_REQUESTS).then(|| resets(headers)).flatten())
}

/// What a failed answer's body says: `google.rpc.RetryInfo` among `error.details`, or a `retry_after` in seconds.
pub fn in_body(body: &Value) -> Option<Duration> {
    // Some wrap the object in a list.
    let body = body.get(0).unwrap_or(body);
    let error = body.get("error").unwrap_or(body);
    let details = error.get("details").and_then(Value::as_array).into_iter().flatten();
    let delay = details.filter_map(|detail| detail.get("retryDelay")?.as_str()).find_map(span);
    let plain = || ["retry_after", "retryAfter"].into_iter().find_map(|name| error.get(name).or_else(|| body.get(name))?.as_f64());
    delay.or_else(|| plain().and_then(seconds))
}

/// The longest reset of the limits of which nothing is left.
fn resets(headers: &HeaderMap) -> Option<Duration> {
    let of = |left: String, reset: String| {
        let used_up = text(headers, &left)?.parse::<f64>().ok()? < 1.0;
        let reset = text(headers, &reset).filter(|_| used_up)?;
        span(reset).or_else(|| until(headers, reset))
    };
    let kinds = ["requests", "tokens", "input-tokens", "output-tokens"];
    let openai = kinds.iter().map(|kind| of(format!("x-ratelimit-remaining-{kind}"), format!("x-ratelimit-reset-{kind}")));
    let anthropic =
        kinds.iter().map(|kind| of(format!("anthropic-ratelimit-{kind}-remaining"), format!("anthropic-ratelimit-{kind}-reset")));
    openai.chain(anthropic).flatten().max()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn seconds(seconds: f64) -> Option<Duration> {
    (0.0..=LONGEST).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// The time from the answer's own date to a date; nothing when that has passed.
fn until(headers: &HeaderMap, date: &str) -> Option<Duration> {
    let read = |text: &str| DateTime::parse_from_rfc2822(text).or_else(|_| DateTime::parse_from_rfc3339(text)).ok();
    let left: TimeDelta = read(date)? - read(text(headers, "date")?)?;
    seconds(left.as_seconds_f64().max(0.0))
}

/// A span as Go and protobuf write it: `6m0s`, `1h2m3.5s`, `20ms`, `3.5s`.
fn span(text: &str) -> Option<Duration> {
    let (mut rest, mut sum) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(end)?;
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit)?;
        let scale = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * scale;
        rest = tail;
    }
    seconds(sum).filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use serde_json::json;

    use super::*;

    fn told(headers: &[(&'static str, &'static str)]) -> Option<u128> {
        let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
        in_headers(StatusCode::TOO_MANY_REQUESTS, &headers).map(|hint| hint.as_millis())
    }

    #[test]
    fn every_spelling_of_headers_is_read() {
        let date = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
        for (headers, ms) in [
            (&[("retry-after", "2")][..], 2_000),
            (&[("retry-after", "0.5")], 500),
            (&[("retry-after", " 7 ")], 7_000),
            (&[("retry-after-ms", "1500"), ("retry-after", "9")], 1_500),
            (&[date, ("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT")], 30_000),
            (&[date, ("retry-after", "Wed, 21 Oct 2026 07:27:00 GMT")], 0),
            (&[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "6m0s")], 360_000),
            (&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "20ms")], 20),
            (
                &[date, ("anthropic-ratelimit-requests-remaining", "0"), ("anthropic-ratelimit-requests-reset", "2026-10-21T07:28:05Z")],
                5_000,
            ),
        ] {
            assert_eq!(told(headers), Some(ms), "{headers:?}");
        }
        for headers in [
            &[][..],
            &[("retry-after", "soon")],
            &[("retry-after", "-1")],
            &[("retry-after", "99999999")],
            &[("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT")],
            &[("x-ratelimit-remaining-requests", "3"), ("x-ratelimit-reset-requests", "6m0s")],
        ] {
            assert_eq!(told(headers), None, "{headers:?}");
        }
        let reset = HeaderMap::from_iter([
            (HeaderName::from_static("x-ratelimit-remaining-requests"), HeaderValue::from_static("0")),
            (HeaderName::from_static("x-ratelimit-reset-requests"), HeaderValue::from_static("6m0s")),
        ]);
        assert_eq!(in_headers(StatusCode::SERVICE_UNAVAILABLE, &reset), None, "a failure has nothing to do with limits");
    }

    #[test]
    fn bodies_are_read_too() {
        let info = |delay: &str| json!({ "error": { "code": 429, "details": [{ "@type": "x" }, { "retryDelay": delay }] } });
        for (body, ms) in [
            (info("34.5s"), Some(34_500)),
            (json!([info("2s")]), Some(2_000)),
            (json!({ "retry_after": 3 }), Some(3_000)),
            (info("later"), None),
            (json!("text"), None),
        ] {
            assert_eq!(in_body(&body).map(|hint| hint.as_millis()), ms, "{body}");
        }
    }
}
