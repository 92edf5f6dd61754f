//! Who may call the admin services: whoever sends their key; without one, whoever is on this machine.

use std::{collections::HashMap, sync::Arc};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Version},
    middleware::Next,
    response::Response,
};
use flowgate_proto::v1::ErrorReason;

use crate::{
    api::failure,
    config::{Config, Key},
    error::{Error, Result},
    identity::Identity,
};

/// What opens the admin services.
#[derive(Debug)]
pub struct Access {
    key: Identity,
    /// Whether only this machine can reach the listener.
    on_loopback: bool,
}

impl Access {
    /// As a configuration wants it.
    pub fn new(config: &Config) -> Self {
        Self { key: Identity::new(&keys(config)), on_loopback: config.admin.ip().is_loopback() }
    }

    /// Takes over the key of another configuration.
    pub fn replace(&self, config: &Config) {
        self.key.replace(&keys(config));
    }

    fn check(&self, version: Version, headers: &HeaderMap) -> Result<()> {
        // No browser speaks it in the clear, so that no page can call in the name of who looks at it.
        if version != Version::HTTP_2 {
            return Err(Error::new(ErrorReason::CallerUnsupportedMediaType, "the admin services are gRPC, which needs HTTP/2"));
        }
        if self.key.is_open() && !self.on_loopback {
            let message = "the admin services are closed: they are reached from other machines and have no key; set `admin.key`, or let \
                           `admin.listen` be a loopback address";
            return Err(Error::new(ErrorReason::CallerForbidden, message));
        }
        self.key.authenticate(headers).map(drop)
    }
}

fn keys(config: &Config) -> Vec<Key> {
    config.admin_key.iter().map(|key| Key::new("admin".to_owned(), key.clone())).collect()
}

/// Lets a request through to the admin services, or refuses it in gRPC's own words.
pub(super) async fn admit(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    match access.check(request.version(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => failure::detailed(&error, HashMap::new()).into_http::<Body>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(admin: &str, key: Option<&str>, sent: &[(&'static str, &str)]) -> Result<(), ErrorReason> {
        let admin_key = key.map(|key| key.to_owned().into());
        let access = Access::new(&Config { admin: admin.parse().unwrap(), admin_key, ..Config::default() });
        let headers = sent.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        access.check(Version::HTTP_2, &headers).map_err(|error| error.reason())
    }

    #[test]
    fn a_key_is_needed_where_there_is_one_and_without_one_only_this_machine_gets_in() {
        let (here, everywhere) = ("127.0.0.1:5001", "0.0.0.0:5001");
        let (bearer, plain) = ([("authorization", "Bearer k-1")], [("x-api-key", "k-1")]);
        assert_eq!(check(here, None, &[]), Ok(()));
        assert_eq!(check("[::1]:5001", None, &[]), Ok(()));
        for sent in [&[][..], &bearer] {
            assert_eq!(check(everywhere, None, sent), Err(ErrorReason::CallerForbidden));
        }
        for admin in [here, everywhere] {
            assert_eq!(check(admin, Some("k-1"), &bearer), Ok(()));
            assert_eq!(check(admin, Some("k-1"), &plain), Ok(()));
            for wrong in [&[][..], &[("authorization", "Bearer k-2")], &[("authorization", "Basic k-1")], &[("x-api-key", "k")]] {
                assert_eq!(check(admin, Some("k-1"), wrong), Err(ErrorReason::CallerUnauthenticated), "{wrong:?}");
            }
        }
    }

    #[test]
    fn a_page_in_a_browser_does_not_get_in() {
        let access = Access::new(&Config::default());
        let error = access.check(Version::HTTP_11, &HeaderMap::new()).unwrap_err();
        assert_eq!(error.reason(), ErrorReason::CallerUnsupportedMediaType);
    }

    #[test]
    fn another_configuration_changes_the_key() {
        let with = |key: Option<&str>| Config { admin_key: key.map(|key| key.to_owned().into()), ..Config::default() };
        let access = Access::new(&with(None));
        assert!(access.check(Version::HTTP_2, &HeaderMap::new()).is_ok());
        access.replace(&with(Some("k-1")));
        assert!(access.check(Version::HTTP_2, &HeaderMap::new()).is_err());
        access.replace(&with(None));
        assert!(access.check(Version::HTTP_2, &HeaderMap::new()).is_ok());
    }
}
