//! Where a model is: the addresses that MLflow writes, read into total types. Nothing is looked up here.

use std::{fmt, path::PathBuf, str::FromStr};

use http::{Uri, uri::Authority};
use serde::{Deserialize, Serialize};

use super::{relative_path::RelativePath, tracking::ServerRole};

const REGISTERED: &str = "`models:/Name/3`, `models:/Name/latest`, `models:/Name/Production`, `models:/Name@alias` or `models:/m-…`";

/// Where a model is, as a person or a registry writes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ModelUri {
    /// `models:/Name/…`, `models:/Name@alias`: a version of a registered model.
    Registered {
        /// The model's name.
        name: String,
        /// Which of its versions.
        pick: Pick,
        /// What follows the version: a folder within its artifacts.
        path: Option<RelativePath>,
    },
    /// `models:/m-…`: a logged model.
    Logged {
        /// Its id, with `m-`.
        id: String,
        /// A folder within its artifacts.
        path: Option<RelativePath>,
    },
    /// `runs:/<id>/path`: what a run logged.
    Run {
        /// The run's id.
        id: String,
        /// The model's name, or its folder within the run's artifacts.
        path: RelativePath,
    },
    /// Where the files are.
    Stored(Location),
}

/// Which version of a registered model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pick {
    /// This one.
    Version(u32),
    /// The highest.
    Latest,
    /// The highest in this stage.
    Stage(Stage),
    /// The one that this alias points to.
    Alias(String),
}

/// A stage of the registry; deprecated by MLflow, and still in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stage {
    /// `None`: no stage.
    None,
    /// `Staging`.
    Staging,
    /// `Production`.
    Production,
    /// `Archived`.
    Archived,
}

/// Where the files of a model are.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Location {
    /// `mlflow-artifacts:/path`: behind a tracking server.
    Proxied {
        /// Another server than the one that is configured.
        server: Option<Authority>,
        /// The folder in its store.
        path: RelativePath,
    },
    /// `s3://bucket/key`.
    S3 {
        /// The bucket.
        bucket: String,
        /// What the names of the files begin with, before a `/`. `None`: the whole bucket.
        prefix: Option<RelativePath>,
    },
    /// `http://…`, `https://…`: a folder on a web server.
    Http(Uri),
    /// `file:`, or a path: a local folder.
    Local(PathBuf),
    /// `flowgate:name`: one that this binary brings along.
    BuiltIn(RelativePath),
}

/// A text that says no place of a model, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadModelUri(String);

impl Stage {
    const ALL: [Self; 4] = [Self::None, Self::Staging, Self::Production, Self::Archived];

    /// The name that the registry gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Staging => "Staging",
            Self::Production => "Production",
            Self::Archived => "Archived",
        }
    }

    /// The stage of a name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name().eq_ignore_ascii_case(name))
    }
}

impl ModelUri {
    /// The server that must say where the files are, or hand them out.
    pub fn server(&self) -> Option<ServerRole> {
        match self {
            Self::Registered { .. } => Some(ServerRole::Registry),
            Self::Logged { .. } | Self::Run { .. } | Self::Stored(Location::Proxied { .. }) => Some(ServerRole::Tracking),
            Self::Stored(Location::S3 { .. } | Location::Http(_) | Location::Local(_) | Location::BuiltIn(_)) => None,
        }
    }

    /// Whether it always means the same files.
    pub fn is_fixed(&self) -> bool {
        matches!(self, Self::Registered { pick: Pick::Version(_), .. } | Self::Logged { .. })
    }
}

impl Location {
    /// A folder below this one.
    ///
    /// # Errors
    /// When the path becomes too long, or no address.
    pub fn join(&self, below: &RelativePath) -> Result<Self, BadModelUri> {
        let long = |error| bad(format!("`{below}` cannot follow: {error}"));
        Ok(match self {
            Self::Proxied { server, path } => Self::Proxied { server: server.clone(), path: path.join(below).map_err(long)? },
            Self::S3 { bucket, prefix } => {
                let prefix = match prefix {
                    Some(prefix) => prefix.join(below).map_err(long)?,
                    None => below.clone(),
                };
                Self::S3 { bucket: bucket.clone(), prefix: Some(prefix) }
            }
            Self::Http(uri) => {
                let (path, query) = (uri.path().trim_end_matches('/'), uri.query().map(|query| format!("?{query}")).unwrap_or_default());
                let escaped: String = below.segments().map(|segment| format!("/{}", escape(segment))).collect();
                let joined = Uri::builder()
                    .scheme(uri.scheme_str().unwrap_or_default())
                    .authority(uri.authority().map_or("", |authority| authority.as_str()))
                    .path_and_query(format!("{path}{escaped}{query}"));
                Self::Http(joined.build().map_err(|error| bad(format!("`{below}` cannot follow: {error}")))?)
            }
            Self::Local(folder) => Self::Local(below.within(folder)),
            Self::BuiltIn(path) => Self::BuiltIn(path.join(below).map_err(long)?),
        })
    }
}

impl FromStr for ModelUri {
    type Err = BadModelUri;

    fn from_str(text: &str) -> Result<Self, BadModelUri> {
        match scheme(text) {
            Some(("models", rest)) => models(text, rest),
            Some(("runs", rest)) => run(text, rest),
            _ => text.parse().map(Self::Stored),
        }
    }
}

impl FromStr for Location {
    type Err = BadModelUri;

    fn from_str(text: &str) -> Result<Self, BadModelUri> {
        let Some((scheme, rest)) = scheme(text) else {
            return match text.trim() {
                "" => Err(bad(format!("a model's place is empty; write {REGISTERED}, or a folder"))),
                path if path.contains('\0') => Err(bad("a folder's name has a NUL in it".to_owned())),
                path => Ok(Self::Local(path.into())),
            };
        };
        match scheme.to_ascii_lowercase().as_str() {
            "mlflow-artifacts" => proxied(text, rest),
            "s3" => s3(text, rest),
            "http" | "https" => {
                let uri: Uri = text.parse().map_err(|error| bad(format!("`{text}` is no address: {error}")))?;
                let has_user = uri.authority().is_none_or(|authority| authority.as_str().contains('@'));
                if has_user { Err(bad("an address of a model must name a host, and no user".to_owned())) } else { Ok(Self::Http(uri)) }
            }
            "file" => file(text, rest),
            "flowgate" => Ok(Self::BuiltIn(sub_path(text, rest.trim_start_matches('/'))?)),
            "models" | "runs" => Err(bad(format!("`{text}` says no place of files"))),
            other => Err(bad(format!(
                "nothing is read from `{other}:`; write {REGISTERED}, `runs:/…`, `mlflow-artifacts:/…`, `s3://…`, `http(s)://…` or a \
                 folder, or let the tracking server hand out the files (`mlflow server --serve-artifacts`)"
            ))),
        }
    }
}

fn models(text: &str, rest: &str) -> Result<ModelUri, BadModelUri> {
    let expected = || bad(format!("`{text}` names no version of a model; write {REGISTERED}"));
    if rest.starts_with("//") {
        return Err(bad(format!("`{text}` names a Databricks profile, which is not read here; write {REGISTERED}")));
    }
    let rest = rest.strip_prefix('/').ok_or_else(expected)?;
    let (first, rest) = rest.split_once('/').map_or((rest, None), |(first, rest)| (first, Some(rest)));
    if first.trim().is_empty() {
        return Err(expected());
    }
    let (second, below) = rest.map_or((None, None), |rest| rest.split_once('/').map_or((Some(rest), None), |(a, b)| (Some(a), Some(b))));
    if let Some(pick) = second.map(|second| pick(text, second)).transpose()?.flatten() {
        return Ok(ModelUri::Registered {
            name: model_name(text, first)?,
            pick,
            path: below.map(|below| sub_path(text, below)).transpose()?,
        });
    }
    let path = rest.map(|rest| sub_path(text, rest)).transpose();
    if let Some((name, alias)) = first.rsplit_once('@') {
        if alias.trim().is_empty() {
            return Err(expected());
        }
        return Ok(ModelUri::Registered { name: model_name(text, name)?, pick: Pick::Alias(alias.to_owned()), path: path? });
    }
    if is_logged(first) {
        return Ok(ModelUri::Logged { id: first.to_owned(), path: path? });
    }
    Err(match second {
        Some(other) if !other.is_empty() => bad(format!(
            "`{other}` is neither a version's number, `latest`, nor a stage (None, Staging, Production, Archived); an alias is written \
             `models:/{first}@{other}`"
        )),
        _ => expected(),
    })
}

/// What follows the name, when it picks a version.
fn pick(text: &str, word: &str) -> Result<Option<Pick>, BadModelUri> {
    if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()) {
        let version = word.parse().map_err(|_| bad(format!("the version in `{text}` is too large")))?;
        return Ok(Some(Pick::Version(version)));
    }
    if word.eq_ignore_ascii_case("latest") {
        return Ok(Some(Pick::Latest));
    }
    Ok(Stage::named(word).map(Pick::Stage))
}

/// The registry takes no other names.
fn model_name(text: &str, name: &str) -> Result<String, BadModelUri> {
    if name.trim().is_empty() || name.contains(':') || matches!(name, "." | "..") || name.chars().any(char::is_control) {
        return Err(bad(format!("`{text}` has no name of a model; write {REGISTERED}")));
    }
    Ok(name.to_owned())
}

/// `m-` and a 128-bit number.
fn is_logged(id: &str) -> bool {
    id.strip_prefix("m-").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

fn run(text: &str, rest: &str) -> Result<ModelUri, BadModelUri> {
    let expected = || bad(format!("`{text}` names nothing in a run; write `runs:/<run id>/<path of the model>`"));
    let rest = rest.strip_prefix('/').filter(|rest| !rest.starts_with('/')).ok_or_else(expected)?;
    let (id, path) = rest.split_once('/').ok_or_else(expected)?;
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return Err(expected());
    }
    Ok(ModelUri::Run { id: id.to_owned(), path: sub_path(text, path)? })
}

fn proxied(text: &str, rest: &str) -> Result<Location, BadModelUri> {
    let expected = || bad(format!("`{text}` names no folder; write `mlflow-artifacts:/path` or `mlflow-artifacts://host:port/path`"));
    let (server, path) = match rest.strip_prefix("//") {
        None => (None, rest),
        Some(rest) => {
            let (host, path) = rest.split_once('/').ok_or_else(expected)?;
            let host = match host {
                "" => None,
                _ if host.contains('@') => return Err(expected()),
                _ => Some(host.parse::<Authority>().map_err(|_| expected())?),
            };
            (host, path)
        }
    };
    Ok(Location::Proxied { server, path: sub_path(text, path.trim_start_matches('/'))? })
}

fn s3(text: &str, rest: &str) -> Result<Location, BadModelUri> {
    let expected = || bad(format!("`{text}` names no bucket; write `s3://bucket/folder`"));
    let rest = rest.strip_prefix("//").ok_or_else(expected)?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if bucket.is_empty() || !bucket.bytes().all(is_name) || matches!(bucket, "." | "..") {
        return Err(expected());
    }
    let prefix = prefix.trim_end_matches('/');
    let prefix = if prefix.is_empty() { None } else { Some(sub_path(text, prefix)?) };
    Ok(Location::S3 { bucket: bucket.to_owned(), prefix })
}

/// As Python's `pathlib` writes them: `file:///a%20b`, and as people do: `file:a b`.
fn file(text: &str, rest: &str) -> Result<Location, BadModelUri> {
    let expected = || bad(format!("`{text}` names no local folder; write `file:///folder`"));
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(rest) => rest.strip_prefix("localhost").filter(|rest| rest.starts_with('/')).unwrap_or(rest),
    };
    if path.is_empty() || (rest.starts_with("//") && !path.starts_with('/')) {
        return Err(expected());
    }
    let path = percent_encoding::percent_decode_str(path).decode_utf8().map_err(|_| expected())?;
    if path.contains('\0') {
        return Err(expected());
    }
    Ok(Location::Local(PathBuf::from(path.into_owned())))
}

fn sub_path(text: &str, path: &str) -> Result<RelativePath, BadModelUri> {
    let path = path.trim_end_matches('/');
    path.parse().map_err(|error| bad(format!("the path in `{text}` is not taken: {error}")))
}

/// The scheme and what follows its colon.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(is_letter)).then_some((scheme, rest))
}

fn bad(said: String) -> BadModelUri {
    BadModelUri(said)
}

fn escape(segment: &str) -> percent_encoding::PercentEncode<'_> {
    percent_encoding::utf8_percent_encode(segment, crate::dialect::sigv4::UNRESERVED)
}

impl fmt::Display for ModelUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self {
            Self::Registered { name, pick, path } => {
                match pick {
                    Pick::Version(version) => write!(f, "models:/{name}/{version}")?,
                    Pick::Latest => write!(f, "models:/{name}/latest")?,
                    Pick::Stage(stage) => write!(f, "models:/{name}/{}", stage.name())?,
                    Pick::Alias(alias) => write!(f, "models:/{name}@{alias}")?,
                }
                path
            }
            Self::Logged { id, path } => {
                write!(f, "models:/{id}")?;
                path
            }
            Self::Run { id, path } => return write!(f, "runs:/{id}/{path}"),
            Self::Stored(location) => return location.fmt(f),
        };
        path.iter().try_for_each(|path| write!(f, "/{path}"))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proxied { server: None, path } => write!(f, "mlflow-artifacts:/{path}"),
            Self::Proxied { server: Some(server), path } => write!(f, "mlflow-artifacts://{server}/{path}"),
            Self::S3 { bucket, prefix: None } => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix: Some(prefix) } => write!(f, "s3://{bucket}/{prefix}"),
            // A query may be a token, and this is in metrics, logs and errors; its hash tells models apart.
            Self::Http(uri) => match uri.query() {
                None => uri.fmt(f),
                Some(query) => {
                    let whole = uri.to_string();
                    let place = whole.split_once('?').map_or(whole.as_str(), |(place, _)| place);
                    let hash = blake3::hash(query.as_bytes()).to_hex();
                    write!(f, "{place}?***{}", hash.get(..8).unwrap_or_default())
                }
            },
            Self::BuiltIn(path) => write!(f, "flowgate:{path}"),
            // A scheme, so that a name with a colon is read as it was.
            Self::Local(path) => {
                let path = path.to_string_lossy();
                path.split('/').enumerate().try_for_each(|(n, segment)| {
                    f.write_str(if n == 0 { "file:" } else { "/" })?;
                    escape(segment).fmt(f)
                })
            }
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

impl TryFrom<String> for ModelUri {
    type Error = BadModelUri;

    fn try_from(text: String) -> Result<Self, BadModelUri> {
        text.parse()
    }
}

/// As it was written, secrets included: for files that only the gateway reads.
impl From<ModelUri> for String {
    fn from(uri: ModelUri) -> Self {
        match uri {
            ModelUri::Stored(location) => location.into(),
            other => other.to_string(),
        }
    }
}

impl TryFrom<String> for Location {
    type Error = BadModelUri;

    fn try_from(text: String) -> Result<Self, BadModelUri> {
        text.parse()
    }
}

/// As it was written, secrets included: for files that only the gateway reads.
impl From<Location> for String {
    fn from(location: Location) -> Self {
        match location {
            Location::Http(uri) => uri.to_string(),
            other => other.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
