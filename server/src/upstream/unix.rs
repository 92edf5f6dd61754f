//! HTTP/1.1 with a server behind a Unix socket, such as a process that the gateway has started. Who that is, is not known here.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri};

use super::{
    body::Body,
    connect::Connector,
    exchange::chain,
    pool::{Pool, Unsent},
};
use crate::{error::Result, task::Tasks};

/// How long a connection may take: its server is on this machine, and may be busy.
const CONNECT: Duration = Duration::from_secs(5);

/// The connections to one server, kept open between requests.
#[derive(Debug)]
pub struct Unix(Arc<Pool>);

/// Why a request got no response, for logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Nobody takes connections; nothing was sent.
    Unreached(String),
    /// The connection ended before the head of a response, or brought something else.
    Cut(String),
}

impl Unix {
    /// A client of the server whose socket this is, or will be. Must be called within a runtime.
    ///
    /// # Errors
    /// None that is known.
    pub fn new(socket: &Path, tasks: &Tasks) -> Result<Self> {
        let connector = Connector::unix(socket, CONNECT);
        Pool::new(connector, &Uri::from_static("http://localhost"), tasks.clone()).map(Self)
    }

    /// Sends a request, whose address says no more than a path, and waits for the head of the response. Dropping the future, or the body
    /// before its end, closes the connection, by which the server learns of it.
    ///
    /// # Errors
    /// Why there is no response.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, Unanswered> {
        match self.0.send(request).await {
            Ok(response) => Ok(response.map(Body::from)),
            Err(Unsent::Connect(cause)) => Err(Unanswered::Unreached(cause.to_string())),
            Err(Unsent::Exchange(error)) => Err(Unanswered::Cut(chain(&error))),
            Err(Unsent::Refused(error)) => Err(Unanswered::Unreached(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests;
