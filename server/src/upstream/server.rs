//! A server of models that this process runs itself: it takes the request that a dialect wrote, as one behind a socket would, and can say
//! beforehand what the dialect should know. What runs it is not known here.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::body::Body;
use crate::{config, dialect::Settings, error::Result};

/// A server of one model.
pub trait Server: Send + Sync + fmt::Debug {
    /// Gets ready to answer, however long that takes; at once where it is. Dropping the future stops nothing.
    ///
    /// # Errors
    /// What keeps the model from running.
    fn ready(&self) -> BoxFuture<'_, Result<()>>;

    /// Gets ready for a call, where it is not, and stays so until what is returned is dropped.
    ///
    /// # Errors
    /// What keeps the model from running.
    fn enter(&self) -> BoxFuture<'_, Result<Box<dyn Ready>>>;
}

/// A server that is ready for one call.
pub trait Ready: Send + Sync + fmt::Debug {
    /// What the model that will answer says of itself, by the names of a target's settings.
    fn settings(&self) -> &Settings;

    /// Answers the call's request. Dropping the future, or the body, gives the call up.
    ///
    /// # Errors
    /// What keeps the model from answering.
    fn answer(self: Box<Self>, request: http::Request<Bytes>) -> BoxFuture<'static, Result<http::Response<Body>>>;
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
