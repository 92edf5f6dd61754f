//! What concerns the server as a whole: listeners, TLS, who may call, sizes and times.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};

use super::{model, traits};
use crate::config::{
    Config, Endpoint, Key, LogFormat, Network, Tls,
    diagnostic::{Diagnostic, Spot},
    raw::{RawConfig, RawKey, RawLog, RawTls},
    reading::{Reading, Secret},
    tree::At,
    units,
};

/// Everything but the endpoints.
pub(super) fn lower(raw: &RawConfig, reading: &mut Reading<'_>) -> Config {
    let admin = raw.admin.as_ref().and_then(|admin| admin.value.listen.as_ref());
    let keys = raw.identity.as_ref().map(|identity| identity.value.keys.as_slice()).unwrap_or_default();
    if let Some(identity) = raw.identity.as_ref().filter(|identity| keys.is_empty() && !reading.is_damaged(identity.spot)) {
        // An empty list would leave the door more open than it looks.
        let diagnostic = Diagnostic::new("`identity` names nobody who may call").expected("at least one of `keys`");
        reading.error(identity.spot, diagnostic.suggest(Some("leave `identity` out if anybody may call")));
    }
    check_listeners(raw.listen.as_ref(), admin, reading);
    Config {
        listen: address(raw.listen.as_ref(), 5000, reading),
        admin: address(admin, 5001, reading),
        tls: raw.tls.as_ref().and_then(|tls| lower_tls(&tls.value, reading)),
        trusted_proxies: raw.trusted_proxies.iter().filter_map(|each| network(each, reading)).collect(),
        cors_origins: origins(raw, reading),
        keys: lower_keys(keys, reading),
        max_request_bytes: max_request_bytes(raw.max_request_bytes.as_ref(), reading),
        shutdown_delay: duration(raw.shutdown_delay.as_ref(), "shutdown_delay", Duration::ZERO, reading),
        shutdown_grace: duration(raw.shutdown_grace.as_ref(), "shutdown_grace", Duration::from_secs(30), reading),
        max_connection_age: age(raw.max_connection_age.as_ref(), reading),
        max_in_flight: raw.max_in_flight.as_ref().map_or(10_000, |most| most.value),
        admin_key: raw.admin.as_ref().and_then(|admin| opener(admin.value.key.as_ref()?, reading)),
        log: match raw.telemetry.as_ref().and_then(|telemetry| telemetry.value.log.as_ref()).map(|log| log.value) {
            Some(RawLog::Json) => LogFormat::Json,
            Some(RawLog::Text) | None => LogFormat::Text,
        },
        models: model::lower_all(raw.mlflow.as_ref(), reading),
        default_endpoint: None,
        endpoints: Vec::new(),
    }
}

fn address(raw: Option<&At<String>>, port: u16, reading: &mut Reading<'_>) -> SocketAddr {
    let default = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let Some(raw) = raw else { return default };
    units::address(&raw.value).unwrap_or_else(|| {
        reading.wrong(raw.spot, "listen", units::ADDRESS);
        default
    })
}

/// Two listeners cannot share a port, unless the system chooses it or their addresses differ.
fn check_listeners(data: Option<&At<String>>, admin: Option<&At<String>>, reading: &mut Reading<'_>) {
    let read = |raw: Option<&At<String>>, port| match raw {
        Some(raw) => units::address(&raw.value),
        None => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
    };
    let (Some(a), Some(b), Some(spot)) = (read(data, 5000), read(admin, 5001), admin.or(data).map(|raw| raw.spot)) else { return };
    let meet = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    if meet && a.port() == b.port() && a.port() != 0 {
        let message = format!("`listen` and `admin.listen` are both at port {}", a.port());
        reading.error(spot, Diagnostic::new(message).expected("a port of its own for each"));
    }
}

fn lower_tls(raw: &RawTls, reading: &mut Reading<'_>) -> Option<Tls> {
    let mut path = |raw: &Option<At<String>>, key: &str| raw.as_ref().map(|raw| reading.path(raw, key));
    let (cert, key, client_ca) = (path(&raw.cert, "cert"), path(&raw.key, "key"), path(&raw.client_ca, "client_ca"));
    Some(Tls { cert: cert?, key: key?, client_ca })
}

fn network(raw: &At<String>, reading: &mut Reading<'_>) -> Option<Network> {
    let network = units::network(&raw.value);
    if network.is_none() {
        reading.wrong(raw.spot, "trusted_proxies", units::NETWORK);
    }
    network
}

fn origins(raw: &RawConfig, reading: &mut Reading<'_>) -> Vec<String> {
    let written = raw.cors.as_ref().map(|cors| cors.value.allow_origins.as_slice()).unwrap_or_default();
    for origin in written {
        let is_origin = origin.value == "*"
            || units::url(&origin.value)
                .is_ok_and(|uri| matches!(uri.path(), "" | "/") && uri.query().is_none() && !origin.value.ends_with('/'));
        if !is_origin {
            reading.wrong(origin.spot, "allow_origins", "an origin, for example `https://app.example.com`, or `*`");
        }
    }
    written.iter().map(|origin| origin.value.clone()).collect()
}

fn lower_keys(raw: &[At<RawKey>], reading: &mut Reading<'_>) -> Vec<Key> {
    let mut names: HashMap<&str, Spot> = HashMap::new();
    let mut keys: Vec<Key> = Vec::new();
    for RawKey { name, key, may_choose_deployment, may_load_models, require } in raw.iter().map(|key| &key.value) {
        let require = require.as_ref().map(|tags| traits::required(tags, "require", reading)).unwrap_or_default();
        if let Some(name) = name {
            if name.value.trim().is_empty() || name.value.len() > 128 || name.value.contains(char::is_control) {
                reading.wrong(name.spot, "name", "who calls with the key, in one line");
            }
            super::check_twice(&mut names, name, "name", reading);
        }
        let (Some(name), Some(key)) = (name, key) else { continue };
        let Some(secret) = opener(key, reading) else { continue };
        if let Some(other) = keys.iter().find(|other| other.secret.expose_secret() == secret.expose_secret()) {
            let message = format!("`key` is the same as the key of `{}`", other.name);
            reading.error(key.spot, Diagnostic::new(message).expected("a key of its own for every name"));
            continue;
        }
        let may_choose_deployment = may_choose_deployment.as_ref().is_some_and(|may| may.value);
        let may_load_models = may_load_models.as_ref().is_some_and(|may| may.value);
        keys.push(Key { may_choose_deployment, may_load_models, require, ..Key::new(name.value.clone(), secret) });
    }
    keys
}

/// The secret that opens a door.
fn opener(key: &At<String>, reading: &mut Reading<'_>) -> Option<SecretString> {
    match reading.secret(key, "key") {
        Secret::Is(secret) => Some(secret),
        Secret::Unset => None,
        Secret::Manager(manager) => {
            // Without it the door would stand more open than the file says.
            let diagnostic = Diagnostic::new(format!("`key` stands in {manager}, which this build does not read yet"));
            reading.error(key.spot, diagnostic.expected("an environment variable or a file"));
            None
        }
    }
}

/// Warns of keys whose tags no deployment has: none of their calls could be served.
pub(super) fn warn_unmet(raw: &RawConfig, endpoints: &[Endpoint], reading: &mut Reading<'_>) {
    let deployments = || endpoints.iter().flat_map(|endpoint| &endpoint.deployments);
    for require in raw.identity.iter().flat_map(|identity| &identity.value.keys).filter_map(|key| key.value.require.as_ref()) {
        let tags = traits::tags(require, reading);
        if deployments().next().is_some() && !deployments().any(|deployment| deployment.traits.has_tags(&tags)) {
            let diagnostic = Diagnostic::new("no deployment has the tags that this key requires, so none can serve its calls");
            reading.report.warn(require.spot, diagnostic.suggest(Some("set `tags` on deployments")));
        }
    }
}

fn max_request_bytes(raw: Option<&At<String>>, reading: &mut Reading<'_>) -> usize {
    const DEFAULT: usize = 32 << 20;
    let Some(raw) = raw else { return DEFAULT };
    units::bytes(&raw.value).unwrap_or_else(|| {
        reading.wrong(raw.spot, "max_request_bytes", units::BYTES);
        DEFAULT
    })
}

fn age(raw: Option<&At<String>>, reading: &mut Reading<'_>) -> Duration {
    const KEY: &str = "max_connection_age";
    let age = duration(raw, KEY, Duration::from_secs(600), reading);
    if let Some(raw) = raw.filter(|_| age < Duration::from_secs(1)) {
        // Clients would spend their time on opening connections.
        reading.wrong(raw.spot, KEY, "at least `1s`");
    }
    age
}

fn duration(raw: Option<&At<String>>, key: &str, default: Duration, reading: &mut Reading<'_>) -> Duration {
    let Some(raw) = raw else { return default };
    units::duration(&raw.value).unwrap_or_else(|| {
        reading.wrong(raw.spot, key, units::DURATION);
        default
    })
}
