//! The bytes of one connection, in the clear or by TLS.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

/// One connection.
pub(super) struct Wire {
    io: Either<TcpStream, TlsStream<TcpStream>>,
    /// Until the first bytes are there: unknown.
    is_h2: Option<bool>,
    asked: AtomicBool,
}

impl Wire {
    pub(super) fn new(io: Either<TcpStream, TlsStream<TcpStream>>) -> Self {
        Self { io, is_h2: None, asked: AtomicBool::new(false) }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, into);
        if self.is_h2.is_none() && !into.filled().is_empty() {
            self.is_h2 = Some(into.filled().starts_with(b"PRI"));
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    /// h2 asks once before it writes, to choose how large a message it copies behind its frame's head. A message that it does not
    /// copy is written apart from the trailers behind it: told no, it copies up to 1 KiB instead of 256 bytes, which spares most
    /// unary answers a system call and a packet.
    fn is_write_vectored(&self) -> bool {
        let chooses = self.is_h2 == Some(true) && !self.asked.swap(true, Relaxed);
        !chooses && self.io.is_write_vectored()
    }
}
