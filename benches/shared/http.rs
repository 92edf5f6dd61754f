//! One call over HTTP/1.1 on a connection of its own, its answer compared byte by byte.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet, time::Instant};

use super::Result;

/// What calls are sent by.
pub type Sender = http1::SendRequest<Full<Bytes>>;
/// The connection itself; ends when it is dropped.
pub type Driver = JoinSet<hyper::Result<()>>;

/// Opens a connection.
pub async fn open(address: SocketAddr) -> Result<(Sender, Driver)> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    Ok((sender, driver))
}

/// Sends, and compares the body byte by byte as it comes. How long it took until `first` bytes were there.
pub async fn exchange(sender: &mut Sender, request: Request<Full<Bytes>>, answer: &[u8], first: usize) -> Result<Option<Duration>> {
    sender.ready().await?;
    let started = Instant::now();
    let response = sender.send_request(request).await?;
    let status = response.status();
    let mut body = response.into_body();
    if status != StatusCode::OK {
        return Err(format!("status {status}: {}", String::from_utf8_lossy(&body.collect().await?.to_bytes())).into());
    }
    let (mut rest, mut reached) = (answer, None);
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame?.into_data() else { continue };
        rest = rest.strip_prefix(&*bytes).ok_or_else(|| format!("another body than expected: {}", String::from_utf8_lossy(&bytes)))?;
        if reached.is_none() && answer.len() - rest.len() >= first {
            reached = Some(started.elapsed());
        }
    }
    if rest.is_empty() { Ok(reached) } else { Err(format!("the body ends {} bytes too early", rest.len()).into()) }
}
