//! Bodies in and out of the HTTP doors: bounded, decompressed on the way in, compressed on the way out where it pays.

use std::io::{Read, Write as _};

use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::body::Body;
use crate::error::{Error, Result};

/// Smaller answers cost more to compress than to send.
pub(super) const LEAST: usize = 16 * 1024;

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
pub async fn read(headers: &HeaderMap, body: Incoming, most: usize) -> Result<Bytes> {
    let collected = Limited::new(body, most).collect().await.map_err(|error| match error.downcast::<LengthLimitError>() {
        Ok(_) => too_large(most),
        Err(error) => Error::new(ErrorReason::CallerCancelled, "the request's body broke off").because(error),
    })?;
    let body = collected.to_bytes();
    match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"" | b"identity") => Ok(body),
        Some(b"gzip") => inflate(flate2::read::MultiGzDecoder::new(&*body), most),
        Some(b"zstd") => inflate(zstd::stream::read::Decoder::new(&*body).map_err(corrupt)?, most),
        Some(_) => Err(Error::new(ErrorReason::CallerUnsupportedMediaType, "the content encoding is not known; send gzip, zstd or none")),
    }
}

/// Compresses a whole answer of 16 KiB and more if the client accepts it. Streams are never compressed: each piece must arrive at once.
pub fn write(response: Response<Body>, accepted: Encoding) -> Response<Body> {
    let Some(body) = response.body().whole().filter(|body| body.len() >= LEAST && accepted != Encoding::Identity) else {
        return response;
    };
    let (name, compressed) = match accepted {
        Encoding::Zstd => ("zstd", zstd::stream::encode_all(&**body, 1)),
        Encoding::Gzip | Encoding::Identity => ("gzip", gzip(body)),
    };
    // An answer that cannot be compressed is still an answer.
    let Ok(compressed) = compressed else { return response };
    let mut response = response.map(|_| Body::full(compressed));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    response
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

fn corrupt(error: std::io::Error) -> Error {
    Error::new(ErrorReason::CallerInvalidRequest, "the request's body is not what its content encoding says").because(error)
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn only_large_whole_answers_are_compressed() {
        let small = write(Response::new(Body::full(vec![b'a'; LEAST - 1])), Encoding::Gzip);
        assert!(small.headers().get(header::CONTENT_ENCODING).is_none());
        let large = write(Response::new(Body::full(vec![b'a'; LEAST])), Encoding::Gzip);
        assert_eq!(large.headers()[header::CONTENT_ENCODING], "gzip");
        let inside = inflate(flate2::read::MultiGzDecoder::new(&**large.body().whole().unwrap()), LEAST).unwrap();
        assert_eq!(inside.len(), LEAST);
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let bomb = gzip(&vec![0; 1 << 20]).unwrap();
        let error = inflate(flate2::read::MultiGzDecoder::new(&*bomb), 1000).unwrap_err();
        assert_eq!(error.reason(), ErrorReason::CallerTooLarge);
    }
}
