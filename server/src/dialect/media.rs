//! Media parts, whatever protocol carries them.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use flowgate_proto::v1::{MediaKind, MediaPart, media_part::Source};

use super::json::At;
use crate::error::Result;

/// The name of a document that nobody named.
const UNNAMED: &str = "document";

/// Media types whose second half is not what names of their files end in.
const ENDINGS: [(&str, &str); 7] = [
    ("plain", "txt"),
    ("markdown", "md"),
    ("msword", "doc"),
    ("vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
    ("vnd.openxmlformats-officedocument.presentationml.presentation", "pptx"),
    ("vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
    ("vnd.ms-excel", "xls"),
];

/// What a media part is and where its bytes are.
///
/// # Errors
/// What the contract does not allow.
pub(super) fn read<'a>(part: &'a MediaPart, at: At<'_>) -> Result<(MediaKind, &'a Source)> {
    let Some(source) = &part.source else { return Err(at.invalid("has no source; set `data`, `uri` or `file_id`")) };
    if MediaKind::try_from(part.kind).is_err() {
        return Err(at.key("kind").invalid("is not a kind of the contract"));
    }
    if matches!(source, Source::Data(_)) && part.mime_type.is_empty() {
        return Err(at.key("mime_type").invalid("is required with `data`"));
    }
    Ok((kind_of(part, source), source))
}

/// What a media part is; where nothing tells, an address is an image and the rest a document.
pub(super) fn kind_of(part: &MediaPart, source: &Source) -> MediaKind {
    let told = part.kind();
    if told != MediaKind::Unspecified {
        return told;
    }
    match (part.mime_type.split('/').next(), source) {
        (Some("image"), _) => MediaKind::Image,
        (Some("audio"), _) => MediaKind::Audio,
        (Some("video"), _) => MediaKind::Video,
        (Some(""), Source::Uri(_)) => MediaKind::Image,
        _ => MediaKind::Document,
    }
}

/// A media type's second half, without parameters: `png` of `image/png`.
pub(super) fn subtype(mime_type: &str) -> &str {
    let plain = mime_type.split(';').next().unwrap_or_default().trim();
    plain.split_once('/').map_or(plain, |(_, subtype)| subtype)
}

/// The name of a document that is sent as bytes, for protocols that want one: the caller's, else one made of its media type.
pub(super) fn file_name(part: &MediaPart) -> Cow<'_, str> {
    if !part.file_name.is_empty() {
        return Cow::Borrowed(&part.file_name);
    }
    let subtype = subtype(&part.mime_type);
    let ending = ENDINGS.iter().find(|(known, _)| *known == subtype).map_or(subtype, |(_, ending)| ending);
    let is_ending = !ending.is_empty() && ending.len() <= 5 && ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_ending { Cow::Owned(format!("{UNNAMED}.{ending}")) } else { Cow::Borrowed(UNNAMED) }
}

/// Bytes as base64.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes behind base64; `None` when it is none.
pub(super) fn from_base64(text: &str) -> Option<Bytes> {
    STANDARD.decode(text).ok().map(Bytes::from)
}

/// Bytes as a `data:` address.
pub(super) fn data_uri(mime_type: &str, bytes: &[u8]) -> String {
    let mut uri = format!("data:{mime_type};base64,");
    STANDARD.encode_string(bytes, &mut uri);
    uri
}

/// The media type and the bytes of a `data:` address, so that other protocols can carry the bytes in their own form.
pub(super) fn of_data_uri(uri: &str) -> Option<(String, Bytes)> {
    let (mime_type, encoded) = uri.strip_prefix("data:")?.split_once(";base64,")?;
    Some((mime_type.to_owned(), from_base64(encoded)?))
}
