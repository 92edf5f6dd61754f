//! Images, documents, videos and sound as Converse takes them: a format of its own list, and bytes or a place in S3.

use flowgate_proto::v1::{MediaKind, MediaPart, media_part::Source};
use serde::Serialize;

use super::message::Block;
use crate::{
    dialect::{
        json::At,
        media::{base64, of_data_uri, read, subtype},
        params::Rules,
    },
    error::{Error, Result},
};

/// A media block.
#[derive(Debug, Serialize)]
pub(super) struct Medium<'a> {
    format: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    source: SourceOut<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum SourceOut<'a> {
    Bytes(String),
    S3Location { uri: &'a str },
}

/// What the service calls formats, by the second half of a media type or the ending of a file. Others go under their own name.
const FORMATS: &[(&str, &str)] = &[
    ("jpg", "jpeg"),
    ("plain", "txt"),
    ("text", "txt"),
    ("markdown", "md"),
    ("x-markdown", "md"),
    ("msword", "doc"),
    ("vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
    ("vnd.ms-excel", "xls"),
    ("vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
    ("quicktime", "mov"),
    ("x-matroska", "mkv"),
    ("x-flv", "flv"),
    ("x-ms-wmv", "wmv"),
    ("3gpp", "three_gp"),
    ("3gp", "three_gp"),
    ("x-wav", "wav"),
    ("wave", "wav"),
    ("vnd.wave", "wav"),
    ("x-flac", "flac"),
    ("x-m4a", "m4a"),
];

/// The names of documents so far, and how to make new ones.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<String>);

impl Names {
    /// A name that the service takes and that no other document of the request has.
    fn name(&mut self, file_name: &str) -> String {
        const MOST: usize = 190;
        let plain: String = file_name.chars().map(|c| if c.is_ascii_alphanumeric() || "-()[]".contains(c) { c } else { ' ' }).collect();
        let words: String = plain.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MOST).collect();
        let first = if words.is_empty() { "document".to_owned() } else { words.trim_end().to_owned() };
        let mut name = first.clone();
        let mut number = 1;
        while self.0.contains(&name) {
            number += 1;
            name = format!("{first} {number}");
        }
        self.0.push(name.clone());
        name
    }
}

/// A media part as a block; `None` where it is left out since the provider lacks it.
pub(super) fn lower<'a>(media: &'a MediaPart, rules: Rules<'_>, names: &mut Names, path: &str) -> Result<Option<Block<'a>>> {
    let (kind, source) = read(media, At::Root.key(path))?;
    if !media.detail.is_empty() {
        rules.lack(format!("{path}.detail"))?;
    }
    if !media.file_name.is_empty() && kind != MediaKind::Document {
        rules.lack(format!("{path}.file_name"))?;
    }
    let (source, mime_type) = match source {
        Source::Data(bytes) => (SourceOut::Bytes(base64(bytes)), None),
        Source::Uri(uri) if uri.starts_with("s3://") => (SourceOut::S3Location { uri }, None),
        Source::Uri(uri) => match of_data_uri(uri) {
            Some((mime_type, bytes)) => (SourceOut::Bytes(base64(&bytes)), Some(mime_type)),
            None => return rules.unfetched(format!("{path}.uri")).map(|()| None),
        },
        Source::FileId(_) => return rules.lack_content(format!("{path}.file_id")).map(|()| None),
    };
    let format = format(kind, mime_type.as_deref().unwrap_or(&media.mime_type), media)
        .ok_or_else(|| Error::invalid(format!("{path}.mime_type"), "is required, since nothing else tells the format"))?;
    let name = (kind == MediaKind::Document).then(|| names.name(&media.file_name));
    let medium = Medium { format, name, source };
    Ok(Some(match kind {
        MediaKind::Image | MediaKind::Unspecified => Block::Image(medium),
        MediaKind::Audio => Block::Audio(medium),
        MediaKind::Video => Block::Video(medium),
        MediaKind::Document => Block::Document(medium),
    }))
}

/// The service's name for a format: told by the media type, else by the ending of a name.
fn format(kind: MediaKind, mime_type: &str, media: &MediaPart) -> Option<String> {
    let ending = |name: &str| name.rsplit('/').next()?.rsplit_once('.').map(|(_, ending)| ending.to_owned());
    let told = match (subtype(mime_type), &media.source) {
        ("", Some(Source::Uri(uri))) => ending(uri).or_else(|| ending(&media.file_name))?,
        ("", _) => ending(&media.file_name)?,
        (told, _) => told.to_owned(),
    };
    let told = told.to_ascii_lowercase();
    if kind == MediaKind::Audio && told == "mpeg" {
        return Some("mp3".to_owned());
    }
    Some(FORMATS.iter().find(|(name, _)| *name == told).map_or(told, |(_, format)| (*format).to_owned()))
}
