//! Amounts as people write them: durations, sizes, addresses, networks, periods. Pure functions of text.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use http::{
    Uri,
    uri::{Authority, Scheme},
};

use super::Network;

/// What [`duration`] takes.
pub(super) const DURATION: &str = "a duration, for example `2s`, `100ms`, `15m` or `1h`; a plain number is seconds";
/// What [`nonzero`] takes.
pub(super) const NONZERO: &str = "a duration above 0, for example `2s`, `100ms`, `15m` or `1h`; a plain number is seconds";
/// What [`range`] takes.
pub(super) const RANGE: &str = "two durations, the shorter one first, for example `100ms..2s`, or one for both";
/// What [`share`] takes.
pub(super) const SHARE: &str = "a share, for example `20%` or `0.2`";
/// What [`factor`] takes.
pub(super) const FACTOR: &str = "how many times as much, for example `1.5x`";
/// What [`bytes`] takes.
pub(super) const BYTES: &str = "a size, for example `32MiB` or a number of bytes";
/// What [`address`] takes.
pub(super) const ADDRESS: &str = "an address and a port, for example `127.0.0.1:5000`";
/// What [`network`] takes.
pub(super) const NETWORK: &str = "a network, for example `10.0.0.0/8`, or one address";
/// What [`period`] takes.
pub(super) const PERIOD: &str = "`second`, `minute`, `hour`, `day`, `month` or `year`, also `5 minutes`";
/// What [`name`] takes.
pub(super) const NAME: &str = "letters, digits, `.`, `_` and `-`, not dots alone";
/// What [`url`] takes.
pub(super) const URL: &str = "an address, for example `http://10.0.0.5:5001`";

const LONGEST: f64 = 10.0 * 365.0 * 86_400.0;
const PERIODS: [&str; 6] = ["second", "minute", "hour", "day", "month", "year"];

/// A duration of at most ten years.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let seconds = number
        * match unit {
            "ms" => 0.001,
            "" | "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
    (seconds <= LONGEST).then(|| Duration::from_secs_f64(seconds))
}

/// A duration above zero, of at most ten years.
pub(super) fn nonzero(text: &str) -> Option<Duration> {
    duration(text).filter(|duration| !duration.is_zero())
}

/// Two durations, the shorter one first; one alone stands for both.
pub(super) fn range(text: &str) -> Option<(Duration, Duration)> {
    let (least, most) = text.split_once("..").unwrap_or((text, text));
    let (least, most) = (duration(least)?, duration(most)?);
    (least <= most).then_some((least, most))
}

/// A share from 0 to 1, also in percent.
pub(super) fn share(text: &str) -> Option<f64> {
    let share = match split(text)? {
        (percent, "%") => percent / 100.0,
        (share, "") => share,
        _ => return None,
    };
    (share <= 1.0).then_some(share)
}

/// A factor above 0.
pub(super) fn factor(text: &str) -> Option<f64> {
    let (factor, unit) = split(text)?;
    (factor > 0.0 && factor.is_finite() && matches!(unit, "" | "x")).then_some(factor)
}

/// A size in bytes, at least 1.
pub(super) fn bytes(text: &str) -> Option<usize> {
    let (number, unit) = split(text)?;
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "ki" | "kib" => 1024.0,
        "mi" | "mib" => 1_048_576.0,
        "gi" | "gib" => 1_073_741_824.0,
        _ => return None,
    };
    let size = Duration::try_from_secs_f64(number * scale).ok()?.as_secs();
    usize::try_from(size).ok().filter(|size| *size > 0)
}

/// A number, not negative, and the unit behind it.
fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text.get(..end)?.parse::<f64>().ok()?;
    Some((number, text.get(end..)?.trim()))
}

/// A socket address; `localhost` stands for the IPv4 loopback.
pub(super) fn address(text: &str) -> Option<SocketAddr> {
    match text.trim().strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().ok()?)),
        None => text.trim().parse().ok(),
    }
}

/// A network in CIDR form, or a single address.
pub(super) fn network(text: &str) -> Option<Network> {
    let (address, prefix) = text.trim().split_once('/').map_or((text.trim(), None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.map_or(Some(most), |prefix| prefix.parse::<u8>().ok())?;
    (prefix <= most).then_some(Network { address, prefix })
}

/// The period of a limit, in its shortest form: `minute`, `5 minutes`.
pub(super) fn period(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let count: u64 = if end == 0 { 1 } else { text.get(..end)?.parse().ok()? };
    let unit = match text.get(end..)?.trim() {
        "" | "s" | "sec" if end > 0 => "second",
        "m" | "min" if end > 0 => "minute",
        "h" if end > 0 => "hour",
        "d" if end > 0 => "day",
        word => PERIODS.into_iter().find(|unit| word.strip_suffix('s').unwrap_or(word) == *unit)?,
    };
    let (count, unit) = match (count, unit) {
        (0, _) => return None,
        (count, "second") if count % 3600 == 0 => (count / 3600, "hour"),
        (count, "second") if count % 60 == 0 => (count / 60, "minute"),
        other => other,
    };
    Some(if count == 1 { unit.to_owned() } else { format!("{count} {unit}s") })
}

/// A name that can stand in a path, a header and a metric.
pub(super) fn name(text: &str) -> bool {
    // A path ends at dots alone.
    let dots = text.bytes().all(|c| c == b'.');
    !dots && text.len() <= 128 && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
}

/// An HTTP base address: scheme, host, path prefix. Says what is wrong otherwise.
pub(super) fn url(text: &str) -> Result<Uri, &'static str> {
    let uri: Uri = text.trim().trim_end_matches('/').parse().map_err(|_| "it is not an address")?;
    if !uri.scheme().is_some_and(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme)) {
        return Err("write `http://` or `https://` before the host");
    }
    let authority = uri.authority().ok_or("it has no host")?;
    if authority.as_str().contains('@') {
        return Err("give user and password in `upstream.auth`, not in the address");
    }
    if authority.host().is_empty() || text.contains('#') {
        return Err("it is not an address");
    }
    if !port_is_sound(authority) {
        return Err("its port is not a number from 1 to 65535");
    }
    Ok(uri)
}

/// Whether there is no port, or one that exists: the parser takes any number for one, and none is then the default.
pub(super) fn port_is_sound(authority: &Authority) -> bool {
    let place = authority.as_str().rsplit('@').next().unwrap_or_default();
    let port = place.rsplit(']').next().unwrap_or_default().contains(':');
    !port || authority.port_u16().is_some_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expected) in [("2s", 2000), ("100ms", 100), ("15m", 900_000), ("1h", 3_600_000), ("3", 3000), ("1.5s", 1500), ("0", 0)] {
            assert_eq!(duration(text), Some(Duration::from_millis(expected)), "{text}");
        }
        for text in ["", "s", "-1s", "2 weeks", "1e3", "99999999h", "1.2.3s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn ranges_shares_and_factors() {
        let of = |least, most| Some((Duration::from_millis(least), Duration::from_millis(most)));
        for (text, expected) in [
            ("100ms..2s", of(100, 2000)),
            ("1s", of(1000, 1000)),
            ("0 .. 1", of(0, 1000)),
            ("1..2", of(1000, 2000)),
            ("1.5s..1.5s", of(1500, 1500)),
        ] {
            assert_eq!(range(text), expected, "{text}");
        }
        for text in ["", "..", "2s..1s", "1s..", "..1s", "1s...2s", "1s..2s..3s", "-1s..2s"] {
            assert_eq!(range(text), None, "{text}");
        }
        for (text, expected) in [("20%", 0.2), ("0.2", 0.2), ("0", 0.0), ("100 %", 1.0), ("1", 1.0), ("2.5%", 0.025)] {
            assert_eq!(share(text), Some(expected), "{text}");
        }
        for text in ["", "%", "20", "101%", "1.01", "-1%", "20 percent", "1e-1"] {
            assert_eq!(share(text), None, "{text}");
        }
        assert_eq!((factor("1.5x"), factor("2"), factor("0.5 x")), (Some(1.5), Some(2.0), Some(0.5)));
        for text in ["", "x", "0x", "0", "-1x", "150%", "1.5xx"] {
            assert_eq!(factor(text), None, "{text}");
        }
        assert_eq!((nonzero("0s"), nonzero("1ms")), (None, Some(Duration::from_millis(1))));
        assert!(factor(&"9".repeat(400)).is_none() && share(&"9".repeat(400)).is_none() && duration(&"9".repeat(400)).is_none());
    }

    #[test]
    fn sizes() {
        for (text, expected) in [("32MiB", 32 << 20), ("1024", 1024), ("1 GB", 1_000_000_000), ("4Ki", 4096), ("1.5k", 1500)] {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
        for text in ["", "0", "MiB", "1 TB", "-1"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn periods() {
        let cases =
            [("minute", "minute"), ("5 minutes", "5 minutes"), ("60s", "minute"), ("1m", "minute"), ("1h", "hour"), ("90s", "90 seconds")];
        for (text, expected) in cases {
            assert_eq!(period(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "fortnight", "0s", "m", "5 fortnights"] {
            assert_eq!(period(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_and_networks() {
        assert_eq!(address("localhost:5000"), address("127.0.0.1:5000"));
        assert!(address("[::]:5000").is_some());
        assert!(address("5000").is_none());
        assert_eq!(network("10.0.0.0/8").map(|network| network.prefix), Some(8));
        assert_eq!(network("::1").map(|network| network.prefix), Some(128));
        assert!(network("10.0.0.0/33").is_none());
        assert!(url("http://10.0.0.5:5001/").is_ok_and(|uri| uri.authority().is_some()));
        assert!(url("http://[::1]/v1").is_ok() && url("http://[::1]:80").is_ok());
        assert!(name("a.b") && !name("..") && !name("") && !name("a b"));
        for wrong in
            ["10.0.0.5:5001", "ftp://x", "http://", "http://a:b@x", "http://x#y", "http://x:99999", "http://x:", "http://[::1]:0", ""]
        {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }
}
