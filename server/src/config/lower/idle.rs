//! What would do nothing beside, or without, something else in `config` and `upstream`: each is an error that names both.

use http::header;

use super::{fields::Fields, upstream::Upstream};
use crate::{
    config::{
        Grant,
        diagnostic::{Diagnostic, Spot},
        raw::RawModel,
        reading::Reading,
        tree::At,
    },
    dialect::{Credential, sigv4},
    provider::{Grants, Sets},
};

/// Fields that say more of another, which must be there.
const WITHOUT: &[(&str, &str)] =
    &[("aws_external_id", "aws_role_arn"), ("session_length_seconds", "aws_role_arn"), ("aws_session_token", "aws_access_key_id")];

/// Two ways to the same thing.
const BESIDE: &[(&str, &str)] = &[("aws_profile", "aws_access_key_id")];

/// Judges what is given to get a credential, and the headers that would stand in its way.
pub(super) fn check(fields: &Fields, upstream: &Upstream, reading: &mut Reading<'_>) {
    let key = fields.key.as_ref();
    if let (Some(key), Some(_)) = (key, upstream.auth) {
        beside(key, "upstream.auth", "one of the two: `upstream.auth` is sent instead of a key", reading);
    }
    let winner = if upstream.auth.is_some() { Some("upstream.auth") } else { key.map(|key| key.value.as_str()) };
    if let Some(winner) = winner {
        for given in fields.given.iter().filter(|given| fields.provider.field(&given.value).is_some_and(Sets::is_of_grant)) {
            beside(given, winner, "one of the two: what a credential is got with, or the credential itself", reading);
        }
    }
    for (name, other) in BESIDE {
        if let (Some(given), Some(_)) = (fields.given(name), fields.given(other)) {
            beside(given, other, "one of the two", reading);
        }
    }
    for (name, needed) in WITHOUT {
        if let (Some(given), None) = (fields.given(name), fields.given(needed)) {
            let diagnostic = Diagnostic::new(format!("`{name}` does nothing without `{needed}`"));
            reading.error(given.spot, diagnostic.expected(format!("`{needed}` in `config`, or `{name}` left out")));
        }
    }
}

/// Judges the headers of the file that the credential would replace, or whose values its signature makes.
pub(super) fn check_headers(fields: &Fields, upstream: &Upstream, granted: Option<&Grant>, reading: &mut Reading<'_>) {
    // What is got with a secret that is not set here is got where it is.
    let asks = || fields.given.iter().any(|given| fields.provider.field(&given.value).is_some_and(Sets::is_of_grant));
    let has_key = fields.key.is_some() || upstream.auth.is_some();
    let grants = fields.provider.grant.filter(|_| !has_key && (granted.is_some() || asks()));
    let own = match (&upstream.credential, &fields.key, grants) {
        (Some(Credential::Header { header, .. }), ..) => Some((header.clone(), "`upstream.auth`".to_owned())),
        (None, Some(key), _) => fields.provider.auth.header().map(|(header, _)| (header, format!("`{}`", key.value))),
        (None, None, Some(Grants::Google | Grants::Entra(_) | Grants::Own(..))) => {
            Some((header::AUTHORIZATION, "the token that is got for this deployment".to_owned()))
        }
        _ => None,
    };
    let is_signed = matches!(grants, Some(Grants::Aws(_)));
    for (name, spot) in &upstream.written {
        let what = match &own {
            Some((header, what)) if header == name => what.as_str(),
            _ if is_signed && sigv4::is_own(name) => "the signature of each request",
            _ => continue,
        };
        let message = format!("header `{name}` stands beside {what}, to which it belongs");
        reading.error(*spot, Diagnostic::new(message).expected("one of the two"));
    }
}

/// Judges what only the row's own address would hold, where the file has an address itself.
pub(super) fn check_address(fields: &Fields, model: &At<RawModel>, has_key: bool, reading: &mut Reading<'_>) {
    let beside_provider = if model.value.url.is_some() { Some("url") } else { model.value.urls.as_ref().map(|_| "urls") };
    let Some(address) = beside_provider.or(fields.base.as_ref().map(|_| "api_base")) else { return };
    for given in &fields.given {
        let Some(Sets::Setting(setting)) = fields.provider.field(&given.value) else { continue };
        // What can be read off a host is of use beside one, too: to who signs.
        if (setting.in_host.is_none() || has_key) && fields.provider.placed().any(|placed| placed == setting) {
            beside(given, address, "one of the two: the address is taken as it is", reading);
        }
    }
}

/// Reports a field that does nothing beside another.
pub(super) fn beside(field: &At<String>, other: &str, expected: &str, reading: &mut Reading<'_>) {
    let spot: Spot = field.spot;
    reading.error(spot, Diagnostic::new(format!("`{}` does nothing beside `{other}`", field.value)).expected(expected));
}
