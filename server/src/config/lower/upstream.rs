//! `upstream:` how deployments are reached; a deployment's own wins over its endpoint's, key by key.

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri::Scheme};
use secrecy::{ExposeSecret as _, SecretString};

use super::{fields, health};
use crate::{
    config::{
        Ejection, Health,
        diagnostic::{Diagnostic, Spot},
        raw::{RawAuth, RawUpstream},
        reading::{Reading, Secret},
        suggest,
        tree::{At, Tree},
        units,
    },
    dialect::Credential,
};

/// How a deployment is reached.
#[derive(Clone, Default)]
pub(super) struct Upstream {
    /// An HTTP proxy.
    pub proxy: Option<Uri>,
    /// Certificate authorities to trust beside the system's.
    pub ca: Option<PathBuf>,
    /// Headers of every request.
    pub headers: HeaderMap,
    /// The credential that is not the provider's own.
    pub credential: Option<Credential>,
    /// Where `auth` stands in the file, even if its secret is not set.
    pub auth: Option<Spot>,
    /// Where each of the headers stands.
    pub written: Vec<(HeaderName, Spot)>,
    /// What came from somewhere else into headers, so that no error may repeat it.
    pub hidden: Vec<SecretString>,
    /// The secret manager that holds what is needed.
    pub manager: Option<&'static str>,
    /// How replicas are asked whether they are well.
    pub health: Option<Health>,
    /// When one that fails is left out.
    pub ejection: Ejection,
}

/// Headers that belong to the connection or to the body.
const OWN: &[HeaderName] = &[
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

impl Upstream {
    /// This, with what the file says laid over it.
    pub(super) fn with(&self, raw: Option<&At<RawUpstream>>, reading: &mut Reading<'_>) -> Self {
        let mut upstream = self.clone();
        let Some(raw) = raw.map(|raw| &raw.value) else { return upstream };
        if let Some(proxy) = &raw.proxy {
            upstream.proxy = upstream.secret(proxy, "proxy", reading).and_then(|secret| lower_proxy(proxy, &secret, reading));
        }
        if let Some(ca) = &raw.ca {
            upstream.ca = Some(reading.path(ca, "ca"));
        }
        for (key, value) in raw.headers.as_ref().and_then(Tree::entries).into_iter().flatten() {
            upstream.header(key, value, reading);
        }
        if let Some(written) = &raw.health {
            upstream.health = health::health(written, upstream.health, reading);
        }
        if let Some(written) = &raw.ejection {
            upstream.ejection = health::ejection(written, upstream.ejection, reading);
        }
        if let Some(auth) = &raw.auth {
            upstream.auth = Some(auth.spot);
            upstream.credential = upstream.authorized(auth, reading);
        }
        upstream
    }

    fn secret(&mut self, text: &At<String>, key: &str, reading: &mut Reading<'_>) -> Option<SecretString> {
        match reading.secret(text, key) {
            Secret::Is(secret) => Some(secret),
            Secret::Unset => None,
            Secret::Manager(manager) => {
                self.manager = Some(manager);
                None
            }
        }
    }

    fn header(&mut self, key: &At<String>, value: &Tree, reading: &mut Reading<'_>) {
        // A `$` may stand in a header's name, but in a key nothing takes its place.
        let name = HeaderName::from_bytes(key.value.as_bytes()).ok().filter(|name| !OWN.contains(name) && !key.value.contains('$'));
        if name.is_none() {
            let message = format!("`{}` is no header that can be set here", suggest::short(&key.value));
            reading.error(key.spot, Diagnostic::new(message).expected("a header's name, for example `x-team`"));
        }
        let Some(text) = value.text().map(|text| value.with(text.to_owned())) else { return };
        let Some(secret) = self.secret(&text, &key.value, reading) else { return };
        if let (Some(name), Some(value)) = (name, header_value("", &secret, &text, &key.value, reading)) {
            self.hidden.extend(Some(secret).filter(|secret| fields::is_from_elsewhere(secret, &text)));
            self.written.retain(|(known, _)| *known != name);
            self.written.push((name.clone(), key.spot));
            self.headers.insert(name, value);
        }
    }

    fn authorized(&mut self, at: &At<RawAuth>, reading: &mut Reading<'_>) -> Option<Credential> {
        let raw = &at.value;
        let (header, prefix, secret, text) = match (&raw.bearer, &raw.basic, &raw.header, &raw.value) {
            (Some(bearer), None, None, None) => (header::AUTHORIZATION, "Bearer ", self.secret(bearer, "bearer", reading)?, bearer),
            (None, Some(basic), None, None) => {
                let (user, password) = (basic.value.username.as_ref()?, basic.value.password.as_ref()?);
                let secret = self.secret(password, "password", reading)?;
                // What is sent is the pair, but an error may repeat the password alone.
                self.hidden.push(secret.clone());
                let pair = STANDARD.encode(format!("{}:{}", user.value, secret.expose_secret()));
                (header::AUTHORIZATION, "Basic ", SecretString::from(pair), password)
            }
            (None, None, Some(name), Some(value)) => {
                let secret = self.secret(value, "value", reading);
                let Some(header) = HeaderName::from_bytes(name.value.as_bytes()).ok().filter(|name| !OWN.contains(name)) else {
                    reading.wrong(name.spot, "header", "a header's name, for example `x-api-key`");
                    return None;
                };
                (header, "", secret?, value)
            }
            _ => {
                if !reading.is_damaged(at.spot) {
                    let diagnostic = Diagnostic::new("`auth` holds no one way to authenticate");
                    reading.error(at.spot, diagnostic.expected("`bearer`, or `basic`, or `header` and `value`"));
                }
                return None;
            }
        };
        header_value(prefix, &secret, text, "auth", reading)?;
        Some(Credential::Header { header, prefix, secret })
    }
}

/// The value of a header with a secret in it; no message shows it.
pub(super) fn header_value(
    prefix: &str,
    secret: &SecretString,
    text: &At<String>,
    key: &str,
    reading: &mut Reading<'_>,
) -> Option<HeaderValue> {
    let Ok(mut value) = HeaderValue::from_str(&format!("{prefix}{}", secret.expose_secret())) else {
        let diagnostic = Diagnostic::new(format!("`{key}` has characters that no header can hold"));
        reading.error(text.spot, diagnostic.expected("one line of text").suggest(Some("look for a line break at its end")));
        return None;
    };
    value.set_sensitive(true);
    Some(value)
}

/// The proxy's address may hold a password, so no message shows it.
fn lower_proxy(text: &At<String>, secret: &SecretString, reading: &mut Reading<'_>) -> Option<Uri> {
    let uri: Option<Uri> = secret.expose_secret().trim_end_matches('/').parse().ok();
    let is_proxy = |uri: &Uri| {
        let place = uri.authority().is_some_and(|authority| !authority.host().is_empty() && units::port_is_sound(authority));
        place && uri.scheme() == Some(&Scheme::HTTP) && uri.path() == "/" && uri.query().is_none()
    };
    let uri = uri.filter(is_proxy);
    if uri.is_none() {
        let diagnostic = Diagnostic::new("`proxy` is no address of an HTTP proxy");
        reading.error(text.spot, diagnostic.expected("`http://host:port` or `http://user:password@host:port`"));
    }
    uri
}
