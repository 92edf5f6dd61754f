//! A server of models that this process runs itself: it takes the request that a dialect wrote, as one behind a socket would. What runs it
//! is not known here.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::body::Body;
use crate::{config, error::Result};

/// A server of one model.
pub trait Server: Send + Sync + fmt::Debug {
    /// Gets ready to answer, however long that takes; at once where it is. Dropping the future stops nothing.
    ///
    /// # Errors
    /// What keeps the model from running.
    fn ready(&self) -> BoxFuture<'_, Result<()>>;

    /// Answers a request; first gets ready for it, where it is not. Dropping the future, or the body, gives the call up.
    ///
    /// # Errors
    /// What keeps the model from running.
    fn answer(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Body>>>;
}

/// Where the servers of models come from: what `lib` hands in. Of what is defined alike there is one.
pub trait Servers: Send + Sync + fmt::Debug {
    /// The server of a model.
    ///
    /// # Errors
    /// What makes it impossible to run any.
    fn of(&self, model: &config::Model) -> Result<Arc<dyn Server>>;
}

/// Runs none.
#[cfg(test)]
#[derive(Debug)]
pub(super) struct Nobody;

#[cfg(test)]
impl Servers for Nobody {
    fn of(&self, _: &config::Model) -> Result<Arc<dyn Server>> {
        Err(crate::error::Error::internal("nobody runs models here"))
    }
}
