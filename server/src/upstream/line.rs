//! One HTTP/1.1 connection and the answer on it, driven by the call that uses them: without a task of their own no request pays
//! for waking one.

use std::{
    fmt,
    future::{Future as _, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use tokio::task::coop::unconstrained;

use super::connect::Io;

/// One connection. Dropping it closes it, whatever is under way on it.
pub(super) struct Line {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` once it has ended.
    connection: Option<http1::Connection<TokioIo<Io>, Full<Bytes>>>,
}

impl Line {
    /// Speaks HTTP/1.1 on a socket.
    ///
    /// # Errors
    /// None that is known; hyper reserves the right.
    pub(super) async fn new(io: Io) -> hyper::Result<Box<Self>> {
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await?;
        Ok(Box::new(Self { sender, connection: Some(connection) }))
    }

    /// Whether a request can be sent, as far as is known: looks at what the server has done since the last one.
    pub(super) fn is_free(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of the response.
    ///
    /// # Errors
    /// Those of the connection; with the request if nothing of it was written.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        // Only the connection can bring the response, and it is driven right before: there is nothing to be woken for. Unconstrained,
        // since a spent budget would be told to the waker that nobody listens to.
        let mut response = pin!(unconstrained(self.sender.try_send_request(request)));
        let connection = &mut self.connection;
        poll_fn(|cx| {
            drive(connection, cx);
            response.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }

    /// The next piece of the body of the response under way.
    pub(super) fn poll_body(&mut self, body: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Bytes>>> {
        let mut driven = false;
        loop {
            // As for the response.
            match hyper::body::Body::poll_frame(Pin::new(&mut *body), &mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers say nothing that a dialect reads.
                    if let Ok(piece) = frame.into_data() {
                        return Poll::Ready(Some(Ok(piece)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending if driven => return Poll::Pending,
                Poll::Pending => {
                    self.drive(cx);
                    driven = true;
                }
            }
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.connection, cx);
    }
}

/// Reads and writes what can be read and written now. What is still waited for when the connection ends gets its error.
fn drive(connection: &mut Option<http1::Connection<TokioIo<Io>, Full<Bytes>>>, cx: &mut Context<'_>) {
    let Some(driven) = connection else { return };
    if let Poll::Ready(ended) = Pin::new(driven).poll(cx) {
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to an upstream ended badly");
        }
        *connection = None;
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("open", &self.connection.is_some()).finish()
    }
}
