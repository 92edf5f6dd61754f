//! A path below a folder that cannot leave it.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

/// How long a path may be, its segments, and how many it may have: what every file system takes.
const LONGEST: usize = 1024;
const LONGEST_SEGMENT: usize = 255;
const DEEPEST: usize = 32;

/// A path below a folder, with `/` between its segments: never absolute, never empty, without `.` and `..`, without characters that some
/// system reads as something else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelativePath(String);

/// Why a text is no path below a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// It says nothing.
    #[error("it is empty, or has an empty segment")]
    Empty,
    /// It leads elsewhere.
    #[error("it leads out of its folder; `.` and `..` are not taken")]
    Outside,
    /// It has characters that no file should have.
    #[error("it has a backslash or a control character")]
    Characters,
    /// It is too much for a file system.
    #[error(
        "it is longer than {LONGEST} bytes, has a segment of more than {LONGEST_SEGMENT} bytes, or nests deeper than {DEEPEST} folders"
    )]
    Long,
}

impl RelativePath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its segments, at least one.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The path of something in the folder that this one names.
    ///
    /// # Errors
    /// [`BadPath::Long`] when both together are too long.
    pub fn join(&self, below: &Self) -> Result<Self, BadPath> {
        format!("{self}/{below}").parse()
    }

    /// The place of it in a folder.
    pub fn within(&self, folder: &std::path::Path) -> PathBuf {
        self.segments().fold(folder.to_owned(), |path, segment| path.join(segment))
    }
}

impl FromStr for RelativePath {
    type Err = BadPath;

    fn from_str(text: &str) -> Result<Self, BadPath> {
        if text.chars().any(|letter| letter == '\\' || letter.is_control()) {
            return Err(BadPath::Characters);
        }
        for segment in text.split('/') {
            match segment {
                "" => return Err(BadPath::Empty),
                "." | ".." => return Err(BadPath::Outside),
                _ if segment.len() > LONGEST_SEGMENT => return Err(BadPath::Long),
                _ => {}
            }
        }
        if text.len() > LONGEST || text.split('/').count() > DEEPEST {
            return Err(BadPath::Long);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for RelativePath {
    type Error = BadPath;

    fn try_from(text: String) -> Result<Self, BadPath> {
        text.parse()
    }
}

impl From<RelativePath> for String {
    fn from(path: RelativePath) -> Self {
        path.0
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_below_is_taken() {
        for path in ["MLmodel", "data/model.onnx", "a b/ü.txt", ".hidden", "..data", "a/%2e%2e/b", "c:d"] {
            assert_eq!(path.parse::<RelativePath>().unwrap().as_str(), path);
        }
        let path: RelativePath = "a/b".parse().unwrap();
        assert_eq!(path.within(std::path::Path::new("/x")), PathBuf::from("/x/a/b"));
        assert_eq!(path.join(&"c".parse().unwrap()).unwrap().as_str(), "a/b/c");
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for (path, why) in [
            ("", BadPath::Empty),
            ("/etc/passwd", BadPath::Empty),
            ("a//b", BadPath::Empty),
            ("a/", BadPath::Empty),
            ("..", BadPath::Outside),
            ("a/../../b", BadPath::Outside),
            ("./a", BadPath::Outside),
            ("a\\..\\b", BadPath::Characters),
            ("a\0b", BadPath::Characters),
            ("a\nb", BadPath::Characters),
        ] {
            assert_eq!(path.parse::<RelativePath>(), Err(why), "{path:?}");
        }
        assert_eq!("a".repeat(256).parse::<RelativePath>(), Err(BadPath::Long));
        assert_eq!(["a"; 33].join("/").parse::<RelativePath>(), Err(BadPath::Long));
        assert_eq!([&*"a".repeat(250); 5].join("/").parse::<RelativePath>(), Err(BadPath::Long));
        assert!(serde_json::from_str::<RelativePath>(r#""../x""#).is_err());
    }
}
