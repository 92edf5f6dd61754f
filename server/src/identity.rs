//! Credentials to principals. No I/O and no SQL: keys live in a map in memory, fed by changes.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use http::HeaderMap;
use secrecy::ExposeSecret as _;
use subtle::ConstantTimeEq as _;

use crate::{
    config,
    error::{Error, Result},
};

/// Who calls.
#[derive(Debug, PartialEq, Eq)]
pub struct Principal {
    /// The key's name; `anonymous` behind an open door.
    pub name: Arc<str>,
    /// Whether the caller may name the deployment that serves a call.
    pub may_choose_deployment: bool,
    /// Whether the caller may load and unload models that Flowgate runs.
    pub may_load_models: bool,
    /// The tags that a deployment must have to serve its calls.
    pub require: config::Tags,
}

/// The other end of a client's connection. `listen` puts it into each request; only `api` reads it.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Its verified client certificate, DER; `None` without mTLS.
    pub certificate: Option<Bytes>,
}

/// All credentials that open the door.
#[derive(Debug)]
pub struct Identity {
    /// Keys the hash, so that a table in a core dump says nothing of the keys.
    salt: [u8; 32],
    keys: ArcSwap<HashMap<[u8; 32], Known>>,
    anonymous: Arc<Principal>,
}

#[derive(Debug)]
struct Known {
    hash: blake3::Hash,
    principal: Arc<Principal>,
}

impl Principal {
    /// Somebody without any permission beyond calling.
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), may_choose_deployment: false, may_load_models: false, require: config::Tags::new() }
    }

    /// Whoever calls without a credential.
    pub fn nobody() -> Arc<Self> {
        Arc::new(Self::named("anonymous"))
    }
}

impl Identity {
    /// The keys of a configuration. None: the door is open.
    pub fn new(keys: &[config::Key]) -> Self {
        let mut salt = [0; 32];
        salt[..16].copy_from_slice(uuid::Uuid::now_v7().as_bytes());
        salt[16..].copy_from_slice(uuid::Uuid::now_v7().as_bytes());
        let identity = Self { salt, keys: ArcSwap::default(), anonymous: Principal::nobody() };
        identity.replace(keys);
        identity
    }

    /// Takes over the keys of a new configuration.
    pub fn replace(&self, keys: &[config::Key]) {
        let known = keys.iter().map(|key| {
            let hash = self.hash(key.secret.expose_secret().as_bytes());
            let principal = Principal {
                name: key.name.as_str().into(),
                may_choose_deployment: key.may_choose_deployment,
                may_load_models: key.may_load_models,
                require: key.require.clone(),
            };
            (*hash.as_bytes(), Known { hash, principal: Arc::new(principal) })
        });
        self.keys.store(Arc::new(known.collect()));
    }

    /// Whether anyone may call.
    pub fn is_open(&self) -> bool {
        self.keys.load().is_empty()
    }

    /// Who sends these headers: `Authorization: Bearer`, else `x-api-key`.
    ///
    /// # Errors
    /// `CALLER_UNAUTHENTICATED` when keys are configured and none of them was sent.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<Principal>> {
        let keys = self.keys.load();
        if keys.is_empty() {
            return Ok(Arc::clone(&self.anonymous));
        }
        let Some(credential) = credential(headers) else {
            return Err(Error::new(
                ErrorReason::CallerUnauthenticated,
                "no credential was sent; send a key as `Authorization: Bearer KEY` or `x-api-key: KEY`",
            ));
        };
        let hash = self.hash(credential);
        match keys.get(hash.as_bytes()) {
            Some(known) if bool::from(known.hash.as_bytes().ct_eq(hash.as_bytes())) => Ok(Arc::clone(&known.principal)),
            _ => Err(Error::new(ErrorReason::CallerUnauthenticated, "the credential is not known; ask the operator for a key")),
        }
    }

    /// Whoever calls what anyone may call.
    pub fn nobody(&self) -> Arc<Principal> {
        Arc::clone(&self.anonymous)
    }

    fn hash(&self, credential: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.salt, credential)
    }
}

/// The credential that a client sent; SDKs of one provider use one header, those of another the other.
fn credential(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(http::header::AUTHORIZATION).and_then(|value| {
        let (scheme, credential) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| credential.trim_ascii())
    });
    bearer.or_else(|| headers.get("x-api-key").map(http::HeaderValue::as_bytes)).filter(|credential| !credential.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity::new(&[config::Key::new("app".to_owned(), "k-123".to_owned().into())])
    }

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), http::HeaderValue::from_static(value))])
    }

    #[test]
    fn either_header_opens_the_door() {
        for sent in [headers("authorization", "Bearer k-123"), headers("authorization", "bearer k-123"), headers("x-api-key", "k-123")] {
            assert_eq!(&*identity().authenticate(&sent).unwrap().name, "app");
        }
    }

    #[test]
    fn a_wrong_or_missing_key_is_refused() {
        for sent in [
            HeaderMap::new(),
            headers("authorization", "Bearer k-12"),
            headers("authorization", "Bearer k-1234"),
            headers("authorization", "Basic k-123"),
            headers("x-api-key", ""),
        ] {
            assert_eq!(identity().authenticate(&sent).unwrap_err().reason(), ErrorReason::CallerUnauthenticated, "{sent:?}");
        }
    }

    #[test]
    fn without_keys_the_door_is_open_and_a_reload_closes_it() {
        let identity = Identity::new(&[]);
        assert!(identity.authenticate(&HeaderMap::new()).is_ok());
        identity.replace(&[config::Key::new("app".to_owned(), "k".to_owned().into())]);
        assert!(identity.authenticate(&HeaderMap::new()).is_err());
    }
}
