//! What all stores of files have in common: a list, and files that can be read from any place on.

use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use futures_util::{future::BoxFuture, stream::BoxStream};
use http::{HeaderMap, Request, StatusCode, header};

use crate::{
    config::RelativePath,
    error::{Error, Result},
    upstream::control::Answer,
};

/// How many files a model may have, and in how many folders.
pub(super) const MOST_FILES: usize = 10_000;
pub(super) const MOST_FOLDERS: usize = 2_000;
/// The longest answer to a question for a list.
pub(super) const MOST_LIST: usize = 16 << 20;

/// A folder of files somewhere.
pub(super) trait Source: Send + Sync {
    /// All files below the folder, in no order.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>>>;

    /// A file, from a place on where the store can do that, else from its start.
    fn open<'a>(&'a self, file: &'a Listed, from: u64) -> BoxFuture<'a, Result<Opened>>;
}

/// A file as a list names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) path: RelativePath,
    /// `None`: the list does not say.
    pub(super) size: Option<u64>,
    /// What changes when the content does.
    pub(super) mark: Option<String>,
}

/// A file under way.
pub(super) struct Opened {
    pub(super) body: BoxStream<'static, Result<Bytes>>,
    /// Where it begins: what was asked, or 0.
    pub(super) from: u64,
    /// Of the whole file.
    pub(super) size: Option<u64>,
    pub(super) mark: Option<String>,
    pub(super) sums: Sums,
}

/// Checksums of a whole file, where the store has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) crc32: Option<u32>,
    pub(super) sha256: Option<[u8; 32]>,
}

/// Asks for a file from a place on, of the same content as the list meant.
pub(super) fn range(request: &mut Request<Bytes>, from: u64) {
    if let Ok(value) = format!("bytes={from}-").parse()
        && from > 0
    {
        request.headers_mut().insert(header::RANGE, value);
    }
}

/// A file as HTTP answers with it. `what` names it for people.
pub(super) async fn opened(answer: Answer, asked: u64, what: &str) -> Result<Opened> {
    let (from, size) = match answer.status {
        StatusCode::OK => (0, text(&answer.headers, header::CONTENT_LENGTH).and_then(|length| length.parse().ok())),
        StatusCode::PARTIAL_CONTENT => {
            let place = text(&answer.headers, header::CONTENT_RANGE).and_then(content_range);
            let place = place.filter(|(from, _)| *from == asked);
            place.ok_or_else(|| bad_answer(format!("the store answered with another part of {what} than was asked for")))?
        }
        // The file ends where it was asked to begin.
        StatusCode::RANGE_NOT_SATISFIABLE => return Err(bad_answer(format!("{what} became shorter while it was downloaded"))),
        status => {
            let body = answer.whole(64 << 10).await.unwrap_or_default();
            return Err(refused(status, &body, what));
        }
    };
    // Compressed, its size and checksums would be of something else.
    if answer.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(bad_answer(format!("the store compresses {what}, which was not asked for")));
    }
    let mark = text(&answer.headers, header::ETAG).map(ToOwned::to_owned);
    Ok(Opened { sums: sums(&answer.headers, from), body: answer.body, from, size, mark })
}

/// What S3 and its like say of a whole object; of a part, or of one that was sent in parts, they say something else.
fn sums(headers: &HeaderMap, from: u64) -> Sums {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    if from > 0 || headers.get("x-amz-checksum-type").is_some_and(|kind| kind != "FULL_OBJECT") {
        return Sums::default();
    }
    let sum = |name: &str| headers.get(name).and_then(|value| STANDARD.decode(value.as_bytes()).ok());
    Sums {
        crc32: sum("x-amz-checksum-crc32").and_then(|sum| sum.try_into().ok()).map(u32::from_be_bytes),
        sha256: sum("x-amz-checksum-sha256").and_then(|sum| sum.try_into().ok()),
    }
}

/// `bytes 5-9/1372`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, size.parse().ok()))
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// What a store's refusal means. Its own words are for the log.
pub(super) fn refused(status: StatusCode, body: &[u8], what: &str) -> Error {
    let (reason, message) = match status.as_u16() {
        401 | 403 => (
            ErrorReason::ProviderCredentialRejected,
            format!("the store refuses the gateway's credential for {what}; check the credential and what it may read"),
        ),
        404 | 410 => (ErrorReason::ProviderNotFound, format!("the store has no {what}; check the model's address")),
        412 => (ErrorReason::ProviderBadAnswer, format!("{what} changed while it was downloaded; try again")),
        408 | 429 | 500 | 502..=504 => (ErrorReason::ProviderUnavailable, format!("the store of {what} is away; try again later")),
        300..=399 => {
            (ErrorReason::ProviderBadAnswer, format!("the store answers with a redirection for {what}; give the address that it leads to"))
        }
        _ => (ErrorReason::ProviderBadAnswer, format!("the store refuses to hand out {what}; the log says why")),
    };
    let said: String = String::from_utf8_lossy(body).chars().take(300).collect();
    Error::new(reason, message).upstream_status(status).because(format!("{status}: {said}"))
}

pub(super) fn bad_answer(message: impl Into<String>) -> Error {
    Error::new(ErrorReason::ProviderBadAnswer, message.into())
}

/// A name that a list has and no folder may.
pub(super) fn bad_name(error: &crate::config::BadPath) -> Error {
    bad_answer(format!("the model has a file whose name is not taken: {error}"))
}

pub(super) fn too_many() -> Error {
    Error::new(
        ErrorReason::GatewayNotServing,
        format!("the model has more than {MOST_FILES} files or {MOST_FOLDERS} folders; name its own folder"),
    )
}
