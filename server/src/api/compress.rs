//! Bodies in and out of the HTTP doors: bounded, decompressed on the way in, compressed on the way out where it pays.

use std::{
    io::{Read, Write as _},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::BodyExt as _;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::body::{Body, BodyError};
use crate::{
    dialect::{is_json, media_type},
    error::{Error, Result},
};

/// Smaller answers cost more to compress than to send.
pub(super) const LEAST: usize = 16 * 1024;
/// Larger answers take too long to compress.
const MOST: usize = 8 << 20;
/// Larger answers are compressed apart.
const MOST_HERE: usize = 256 * 1024;
/// How long the next piece of a request's body may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many bodies are worked on apart at a time, so that they do not take the cores from all other requests.
static APART: Semaphore = Semaphore::const_new(2);

/// A content coding that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Encoding {
    /// The best coding that a client accepts.
    pub fn accepted(headers: &HeaderMap) -> Self {
        let offered = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let mut best = Self::Identity;
        for coding in offered.flat_map(|list| list.split(',')) {
            let mut parts = coding.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            if parts.any(|quality| matches!(quality, "q=0" | "q=0.0" | "q=0.00" | "q=0.000")) {
                continue;
            }
            match name {
                "zstd" => return Self::Zstd,
                "gzip" => best = Self::Gzip,
                _ => {}
            }
        }
        best
    }
}

/// Reads a request's body whole, decompressed, within `most` bytes.
///
/// # Errors
/// `CALLER_TOO_LARGE`, `CALLER_UNSUPPORTED_MEDIA_TYPE`, `CALLER_INVALID_REQUEST`, `CALLER_CANCELLED`.
pub async fn read<B>(headers: &HeaderMap, body: B, most: usize) -> Result<Bytes>
where
    B: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Unpin,
{
    let coding = match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"" | b"identity") => Encoding::Identity,
        Some(b"gzip") => Encoding::Gzip,
        Some(b"zstd") => Encoding::Zstd,
        Some(_) => {
            let message = "the content encoding is not known; send gzip, zstd or none";
            return Err(Error::new(ErrorReason::CallerUnsupportedMediaType, message));
        }
    };
    let body = gather(body, most).await?;
    match coding {
        Encoding::Identity => Ok(body),
        // Always apart: a few bytes may stand for many.
        Encoding::Gzip => apart(move || inflate(flate2::read::MultiGzDecoder::new(&*body), most)).await?,
        Encoding::Zstd => apart(move || inflate(zstd::stream::read::Decoder::new(&*body).map_err(corrupt)?, most)).await?,
    }
}

/// The body as sent. One that comes in one piece is not copied.
async fn gather<B>(mut body: B, most: usize) -> Result<Bytes>
where
    B: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Unpin,
{
    if body.size_hint().lower() > most as u64 {
        return Err(too_large(most));
    }
    let (mut first, mut whole) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = timeout(PATIENCE, body.frame()).await.map_err(stalled)? {
        let frame = frame.map_err(|error| Error::new(ErrorReason::CallerCancelled, "the request's body broke off").because(error))?;
        let Ok(piece) = frame.into_data() else { continue };
        if first.len() + whole.len() + piece.len() > most {
            return Err(too_large(most));
        }
        if first.is_empty() && whole.is_empty() {
            first = piece;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&piece);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// Compresses a whole answer of 16 KiB to 8 MiB if the client accepts it. Streams are never compressed: each piece must arrive at once.
pub async fn write(response: Response<Body>, accepted: Encoding) -> Response<Body> {
    let fits = |body: &&Bytes| (LEAST..=MOST).contains(&body.len()) && accepted != Encoding::Identity;
    let Some(body) = response.body().whole().filter(fits).cloned() else {
        return response;
    };
    let work = move || match accepted {
        Encoding::Zstd => ("zstd", zstd::stream::encode_all(&*body, 1)),
        Encoding::Gzip | Encoding::Identity => ("gzip", gzip(&body)),
    };
    let worked = if response.body().whole().is_some_and(|body| body.len() > MOST_HERE) { apart(work).await } else { Ok(work()) };
    // An answer that cannot be compressed is still an answer.
    let Ok((name, Ok(compressed))) = worked else { return response };
    let mut response = response.map(|_| Body::full(compressed));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    response
}

/// Runs long work where it holds no other request up. Its place is given back when the work is done, even if nobody waits for it.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let broken = "a body could not be worked on; try again";
    let place = APART.acquire().await.map_err(|error| Error::internal(broken).because(error))?;
    let done = spawn_blocking(move || {
        let done = work();
        drop(place);
        done
    });
    done.await.map_err(|error| Error::internal(broken).because(error))
}

/// Refuses a request that says that its body is something else than JSON; one that says nothing is taken for JSON.
///
/// # Errors
/// `CALLER_UNSUPPORTED_MEDIA_TYPE`.
pub(super) fn must_be_json(headers: &HeaderMap) -> Result<()> {
    if media_type(headers).is_none_or(is_json) {
        return Ok(());
    }
    Err(Error::new(ErrorReason::CallerUnsupportedMediaType, "this path takes JSON; send the body as `content-type: application/json`"))
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

fn inflate(reader: impl Read, most: usize) -> Result<Bytes> {
    let mut body = Vec::new();
    reader.take(most as u64 + 1).read_to_end(&mut body).map_err(corrupt)?;
    if body.len() > most {
        return Err(too_large(most));
    }
    Ok(body.into())
}

fn too_large(most: usize) -> Error {
    let message = format!("the request is larger than {most} bytes; send less, or ask the operator to raise `max_request_bytes`");
    Error::new(ErrorReason::CallerTooLarge, message)
}

fn stalled(late: tokio::time::error::Elapsed) -> Error {
    let message = "the request's body stalled for 30 s; send it without pauses";
    Error::new(ErrorReason::CallerInvalidRequest, message).because(late)
}

fn corrupt(error: std::io::Error) -> Error {
    Error::new(ErrorReason::CallerInvalidRequest, "the request's body is not what its content encoding says").because(error)
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    fn accepted(value: &'static str) -> Encoding {
        Encoding::accepted(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]))
    }

    #[test]
    fn the_best_accepted_coding_is_chosen() {
        assert_eq!(accepted("gzip, deflate, br, zstd"), Encoding::Zstd);
        assert_eq!(accepted("gzip;q=0.5, zstd;q=0"), Encoding::Gzip);
        assert_eq!(accepted("br"), Encoding::Identity);
    }

    #[tokio::test]
    async fn only_large_whole_answers_are_compressed_and_not_the_largest() {
        for (length, coding) in
            [(LEAST - 1, None), (LEAST, Some("gzip")), (MOST_HERE + 1, Some("gzip")), (MOST, Some("gzip")), (MOST + 1, None)]
        {
            let answer = write(Response::new(Body::full(vec![b'a'; length])), Encoding::Gzip).await;
            assert_eq!(answer.headers().get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap()), coding, "{length}");
            let body = answer.body().whole().unwrap().clone();
            let headers = answer.headers().clone();
            assert_eq!(read(&headers, Full::new(body), MOST + 1).await.unwrap().len(), length);
        }
    }

    #[tokio::test]
    async fn a_body_is_read_from_pieces_of_any_size_within_the_limit() {
        let pieces =
            |sizes: &'static [usize]| Body::stream(futures_util::stream::iter(sizes.iter().map(|size| Bytes::from(vec![b'a'; *size]))));
        for (sizes, fits) in [(&[][..], true), (&[5], true), (&[2, 0, 3], true), (&[0, 5], true), (&[6], false), (&[3, 3], false)] {
            let read = read(&HeaderMap::new(), pieces(sizes), 5).await;
            match read {
                Ok(body) => assert!(fits && body.len() == sizes.iter().sum::<usize>(), "{sizes:?}"),
                Err(error) => assert!(!fits && error.reason() == ErrorReason::CallerTooLarge, "{sizes:?}"),
            }
        }
    }

    #[test]
    fn only_json_is_taken() {
        let told = |value: &'static str| must_be_json(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]));
        for value in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"] {
            assert!(told(value).is_ok(), "{value}");
        }
        for value in ["text/csv", "application/x-www-form-urlencoded", ""] {
            assert_eq!(told(value).unwrap_err().reason(), ErrorReason::CallerUnsupportedMediaType, "{value}");
        }
        assert!(must_be_json(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let bomb = gzip(&vec![0; 1 << 20]).unwrap();
        let error = inflate(flate2::read::MultiGzDecoder::new(&*bomb), 1000).unwrap_err();
        assert_eq!(error.reason(), ErrorReason::CallerTooLarge);
    }
}
