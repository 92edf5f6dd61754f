//! The files of models: brought from wherever they are into a cache of our own, whole or not at all. Loads and runs nothing.

use std::{fmt, sync::Arc};

use crate::{
    config::{Environment, Location, RelativePath},
    error::Result,
    mlflow::registry::{Resolved, Servers},
    upstream::{control::Fetch, grants::Grants},
};

mod built_in;
mod cache;
mod download;
mod local;
mod progress;
mod proxied;
mod s3;
mod shelf;
mod source;
mod web;
mod writer;

pub use self::{
    cache::Cache,
    progress::Report,
    shelf::{Held, Lease},
};

use self::source::Source;

/// All stores that files come from.
pub struct Stores {
    /// The tracking server, whose store is `mlflow-artifacts:`.
    pub servers: Arc<Servers>,
    /// How the tracking server is asked.
    pub tracking: Fetch,
    /// How all others are asked.
    pub others: Fetch,
    /// Where keys for S3 come from.
    pub grants: Arc<Grants>,
    /// Where S3 is.
    pub environment: Arc<dyn Environment + Send + Sync>,
}

/// The files that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The model, as people named it.
    pub name: String,
    /// Where the files are.
    pub location: Location,
    /// What names them for ever, where something does.
    pub identity: Option<String>,
}

impl Stores {
    /// The store of a place.
    fn source(&self, location: &Location) -> Result<Box<dyn Source>> {
        Ok(match location {
            Location::Proxied { server, path } => {
                let tracking = self.servers.tracking()?;
                let (server, fetch) = match server {
                    None => (tracking.clone(), &self.tracking),
                    Some(host) => (tracking.elsewhere(host), if tracking.is_at(host) { &self.tracking } else { &self.others }),
                };
                Box::new(proxied::Proxied { server, folder: path.clone(), fetch: Arc::clone(fetch) })
            }
            Location::S3 { bucket, prefix } => {
                Box::new(s3::S3::new(bucket, prefix.as_ref(), &*self.environment, &self.grants, Arc::clone(&self.others)))
            }
            Location::Http(uri) => match self.in_tracking(&uri.to_string()) {
                Some((server, folder)) => Box::new(proxied::Proxied { server, folder, fetch: Arc::clone(&self.tracking) }),
                None => Box::new(web::Web { folder: uri.clone(), fetch: Arc::clone(&self.others) }),
            },
            Location::Local(folder) => Box::new(local::Local(folder.clone())),
            Location::BuiltIn(name) => Box::new(built_in::BuiltIn(name.clone())),
        })
    }

    /// The tracking server's store, when an address is written out.
    fn in_tracking(&self, address: &str) -> Option<(crate::mlflow::registry::Server, RelativePath)> {
        let server = self.servers.tracking().ok()?;
        let path = address.strip_prefix(server.address())?.strip_prefix("/api/2.0/mlflow-artifacts/artifacts/")?;
        let path = percent_encoding::percent_decode_str(path.trim_end_matches('/')).decode_utf8().ok()?;
        Some((server.clone(), path.parse().ok()?))
    }
}

impl From<&Resolved> for Wanted {
    fn from(resolved: &Resolved) -> Self {
        Self { name: resolved.uri.to_string(), location: resolved.location.clone(), identity: resolved.identity.clone() }
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores").field("servers", &self.servers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
