//! What no text of an upstream may repeat: the credential of a request, and what else in its headers is the operator's secret.

use std::{cmp::Reverse, sync::Arc};

use bytes::Bytes;
use secrecy::ExposeSecret as _;

use crate::{
    catalog::Deployment,
    dialect::{Credential, hide},
    error::Error,
};

/// Shorter values are part of too many other words.
const LEAST: usize = 4;
/// Shorter words of a value are no secrets on their own.
const LEAST_WORD: usize = 8;

/// The secrets of one request.
#[derive(Clone, Debug)]
pub(super) struct Secrets {
    credential: Option<Arc<Credential>>,
    deployment: Arc<Deployment>,
}

impl Secrets {
    pub(super) fn new(credential: Option<Arc<Credential>>, deployment: &Arc<Deployment>) -> Self {
        Self { credential, deployment: Arc::clone(deployment) }
    }

    /// A text without them.
    pub(super) fn hide(&self, text: Bytes) -> Bytes {
        let text = match &self.credential {
            Some(credential) => credential.hide(text),
            None => text,
        };
        let values = self.deployment.config.hidden.iter().map(|secret| secret.expose_secret().trim());
        // What stands before a secret, such as `Basic`, is none, and whoever repeats the secret may leave it out.
        let words = values.clone().flat_map(str::split_whitespace).filter(|word| word.len() >= LEAST_WORD);
        let mut hidden: Vec<&str> = values.filter(|value| value.len() >= LEAST).chain(words).collect();
        // The longest first: of a text whose start is hidden as another secret, the rest would be left.
        hidden.sort_unstable_by_key(|text| Reverse(text.len()));
        hidden.into_iter().fold(text, |text, secret| hide(text, secret.as_bytes()))
    }

    /// An error without them: not all are told by a status, and what is escaped in a body is plain in what is read of it.
    pub(super) fn hide_in(&self, error: Error) -> Error {
        error.retold(|text| {
            let hidden = self.hide(Bytes::copy_from_slice(text.as_bytes()));
            (hidden != text.as_bytes()).then(|| String::from_utf8_lossy(&hidden).into_owned())
        })
    }
}
