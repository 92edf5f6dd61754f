//! Client sockets: connections to models, TLS, and the framing of what comes back.

use std::sync::Arc;

use crate::{
    call::Attempt,
    catalog::Deployment,
    config::Timeouts,
    error::{Error, Result},
    event::Reply,
};

/// The connections of one gateway; they outlive a reload where their definition did not change.
#[derive(Debug, Default)]
pub struct Connections;

/// The way to one deployment: encode, send, classify, decode.
#[derive(Debug)]
pub struct Upstream {
    _deployment: Arc<Deployment>,
}

impl Connections {
    /// The way to a deployment. Existing connections to the same place are kept.
    ///
    /// # Errors
    /// An internal error when the deployment's certificate authorities cannot be read.
    pub fn upstream(&self, deployment: &Arc<Deployment>, _timeouts: &Timeouts) -> Result<Upstream> {
        Ok(Upstream { _deployment: Arc::clone(deployment) })
    }
}

impl Upstream {
    /// Carries one attempt out.
    ///
    /// # Errors
    /// What went wrong before the answer's first byte; later failures are events of the reply.
    pub async fn send(&self, _attempt: Attempt) -> Result<Reply> {
        std::future::ready(Err(Error::internal("spine"))).await
    }
}
