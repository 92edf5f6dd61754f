//! The body of an upstream's response, off a socket or made up, read in chunks or as a whole.

use std::{
    error::Error as StdError,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream::BoxStream};

use http::HeaderMap;

use super::pool::Received;

/// Any error of a transport.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A body; dropping it before its end tells the upstream to stop.
pub struct Body(Source);

/// Where a body comes from.
enum Source {
    /// Off a socket.
    Socket(Received),
    /// Made in this process.
    Made(BoxStream<'static, Result<Bytes, BoxError>>),
}

/// Why a body could not be read as a whole.
#[derive(Debug)]
pub(super) enum Unread {
    /// It is larger than allowed.
    TooLarge,
    /// It stopped before its end.
    Cut(BoxError),
}

impl Body {
    /// A body in one piece.
    pub fn full(bytes: Bytes) -> Self {
        Self::made(futures_util::stream::iter([Ok(bytes)]))
    }

    /// A body that is made in this process.
    pub fn made(pieces: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Self {
        Self(Source::Made(pieces.boxed()))
    }

    /// The whole body, if it has at most `most` bytes, and its trailers.
    pub(super) async fn collect(mut self, most: usize) -> Result<(Bytes, HeaderMap), Unread> {
        let whole = self.read(most).await?;
        let trailers = match self.0 {
            Source::Socket(body) => body.trailers(),
            Source::Made(_) => HeaderMap::new(),
        };
        Ok((whole, trailers))
    }

    async fn read(&mut self, most: usize) -> Result<Bytes, Unread> {
        let Some(first) = self.next().await.transpose().map_err(Unread::Cut)? else {
            return Ok(Bytes::new());
        };
        if first.len() > most {
            return Err(Unread::TooLarge);
        }
        let Some(second) = self.next().await.transpose().map_err(Unread::Cut)? else {
            return Ok(first);
        };
        let mut whole = BytesMut::with_capacity(first.len() + second.len() + self.expected(most));
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&second);
        while let Some(chunk) = self.next().await.transpose().map_err(Unread::Cut)? {
            if whole.len() + chunk.len() > most {
                return Err(Unread::TooLarge);
            }
            whole.extend_from_slice(&chunk);
        }
        if whole.len() > most { Err(Unread::TooLarge) } else { Ok(whole.freeze()) }
    }

    /// The first bytes, up to about `most`, whatever becomes of the rest; for error bodies.
    pub async fn start(mut self, most: usize) -> Bytes {
        let mut start = BytesMut::new();
        while let Some(Ok(chunk)) = self.next().await {
            start.extend_from_slice(&chunk);
            if start.len() >= most {
                start.truncate(most);
                break;
            }
        }
        start.freeze()
    }

    /// What the upstream says is still to come, as far as memory is set aside on its word.
    fn expected(&self, most: usize) -> usize {
        const TRUSTED: usize = 8 << 20;
        match &self.0 {
            Source::Socket(body) => usize::try_from(body.size_hint().lower()).unwrap_or(0).min(most).min(TRUSTED),
            Source::Made(_) => 0,
        }
    }
}

impl From<Received> for Body {
    fn from(received: Received) -> Self {
        Self(Source::Socket(received))
    }
}

impl Stream for Body {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.get_mut().0 {
            Source::Made(chunks) => chunks.poll_next_unpin(cx),
            Source::Socket(body) => body.poll_next_unpin(cx).map_err(Into::into),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::Socket(_) => "Body::Socket",
            Source::Made(_) => "Body::Made",
        })
    }
}
