//! Placeholders and secrets: what `$NAME`, `{{ secrets.NAME }}` and their like stand for. The only file that reads the environment.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use chrono::{DateTime, NaiveDate};
use rustix::fs::{Access, access};
use secrecy::SecretString;

/// Where variables, files and the date come from.
pub trait Environment {
    /// The value of an environment variable.
    fn variable(&self, name: &str) -> Option<String>;

    /// The text of a file.
    ///
    /// # Errors
    /// When the file cannot be read as text.
    fn file(&self, path: &Path) -> io::Result<String>;

    /// Whether a program can be started here: by its path, or by its name where the `PATH` has it.
    fn runs(&self, program: &Path) -> bool;

    /// Whether files can be kept in a folder, which need not be there yet. Nothing is made.
    ///
    /// # Errors
    /// Why they cannot.
    fn keeps(&self, folder: &Path) -> io::Result<()>;

    /// The day it is. `None`: nobody knows.
    fn today(&self) -> Option<NaiveDate>;
}

/// The environment and the files of this process.
#[derive(Clone, Copy, Debug)]
pub struct Process;

/// What a secret that is not set means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecretsMode {
    /// An error: what serves needs its secrets.
    #[default]
    Require,
    /// An entry in a list: what only looks does not.
    List,
}

/// Where `{{ secrets.NAME }}` is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Store {
    /// In environment variables, with this before the name.
    Variables(String),
    /// In files of this folder.
    Files(PathBuf),
    /// In a secret manager, which this build does not read.
    Manager(&'static str),
}

/// What a text with placeholders stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expanded {
    /// There is no placeholder in it.
    Plain,
    /// This text.
    Text(String),
    /// Nothing: this is not set.
    Unset(String),
    /// What only a secret manager knows.
    Manager(&'static str),
    /// `{{ … }}` around something that is no placeholder.
    Unknown,
}

/// Resolves placeholders and remembers the files it read.
pub(super) struct Resolver<'a> {
    environment: &'a dyn Environment,
    /// Where `{{ secrets.NAME }}` is looked up.
    pub store: Store,
    /// Files whose change changes the configuration.
    pub watched: BTreeSet<PathBuf>,
}

impl Environment for Process {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn file(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn runs(&self, program: &Path) -> bool {
        let is_name = program.components().count() < 2;
        let folders = self.variable("PATH").filter(|_| is_name).unwrap_or_default();
        let found = std::env::split_paths(&folders).map(|folder| folder.join(program));
        let named = (!is_name).then(|| program.to_owned());
        found.chain(named).any(|path| path.is_file() && access(&path, Access::EXEC_OK).is_ok())
    }

    fn keeps(&self, folder: &Path) -> io::Result<()> {
        let whole = std::path::absolute(folder)?;
        let there = whole.ancestors().find(|folder| folder.exists()).ok_or(io::ErrorKind::NotFound)?;
        if !there.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(access(there, Access::WRITE_OK | Access::EXEC_OK)?)
    }

    fn today(&self) -> Option<NaiveDate> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(DateTime::from_timestamp(since.as_secs().try_into().ok()?, 0)?.date_naive())
    }
}

impl<'a> Resolver<'a> {
    /// A resolver that takes secrets from environment variables.
    pub(super) fn new(environment: &'a dyn Environment) -> Self {
        Self { environment, store: Store::Variables(String::new()), watched: BTreeSet::new() }
    }

    /// The day it is, if that is known.
    pub(super) fn today(&self) -> Option<NaiveDate> {
        self.environment.today()
    }

    /// The text of a file.
    ///
    /// # Errors
    /// When the file cannot be read as text.
    pub(super) fn text(&self, path: &Path) -> io::Result<String> {
        self.environment.file(path)
    }

    /// Whether a program can be started here.
    pub(super) fn runs(&self, program: &Path) -> bool {
        self.environment.runs(program)
    }

    /// Whether files can be kept in a folder.
    ///
    /// # Errors
    /// Why they cannot.
    pub(super) fn keeps(&self, folder: &Path) -> io::Result<()> {
        self.environment.keeps(folder)
    }

    /// An environment variable that says something.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.environment.variable(name).filter(|value| !value.is_empty())
    }

    /// What a text stands for.
    pub(super) fn expand(&mut self, text: &str) -> Expanded {
        let pieces = pieces(text);
        if let [] | [Piece::Text(_)] = pieces.as_slice() {
            return Expanded::Plain;
        }
        let mut whole = String::new();
        for piece in pieces {
            match self.piece(&piece) {
                Expanded::Plain | Expanded::Unknown if matches!(piece, Piece::Text(_)) => {}
                Expanded::Text(text) => whole.push_str(&text),
                other => return other,
            }
        }
        Expanded::Text(whole)
    }

    fn piece(&mut self, piece: &Piece<'_>) -> Expanded {
        match piece {
            Piece::Text(text) => Expanded::Text((*text).to_owned()),
            Piece::Dollar => Expanded::Text("$".to_owned()),
            Piece::Variable { name, default } => {
                let value = self.environment.variable(name);
                match (value, default) {
                    (Some(value), None) => Expanded::Text(value),
                    (Some(value), Some(_)) if !value.is_empty() => Expanded::Text(value),
                    (_, Some(default)) => Expanded::Text((*default).to_owned()),
                    (None, None) => Expanded::Unset(format!("environment variable {name}")),
                }
            }
            Piece::Braced(inner) => self.braced(inner),
        }
    }

    fn braced(&mut self, inner: &str) -> Expanded {
        if let Some(name) = inner.strip_prefix("secrets.") {
            return self.secret(name);
        }
        let Some(short) = inner.strip_prefix("ENV_").filter(|short| is_variable(short)) else { return Expanded::Unknown };
        match self.environment.variable(inner).or_else(|| self.environment.variable(short)) {
            Some(value) => Expanded::Text(value),
            None => Expanded::Unset(format!("environment variable {inner} or {short}")),
        }
    }

    fn secret(&mut self, name: &str) -> Expanded {
        for (prefix, manager) in [("aws:", "aws"), ("vault:", "vault")] {
            if name.starts_with(prefix) {
                return Expanded::Manager(manager);
            }
        }
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')) || name.starts_with('.') {
            return Expanded::Unknown;
        }
        match &self.store {
            Store::Variables(prefix) => {
                let name = format!("{prefix}{name}");
                let value = self.environment.variable(&name);
                value.map_or_else(|| Expanded::Unset(format!("environment variable {name}")), Expanded::Text)
            }
            Store::Files(folder) => {
                let path = folder.join(name);
                match self.read(&path) {
                    Some(text) => Expanded::Text(text),
                    None => Expanded::Unset(format!("secret file {}", path.display())),
                }
            }
            Store::Manager(manager) => Expanded::Manager(manager),
        }
    }

    /// The trimmed text of a file, which is watched from now on.
    fn read(&mut self, path: &Path) -> Option<String> {
        let text = self.environment.file(path).ok()?;
        self.watched.insert(path.to_owned());
        Some(text.trim().to_owned())
    }

    /// The secret in the file that `text` names: beside the file that says so, else in the working directory. `None` when there is none.
    pub(super) fn file(&mut self, text: &str, beside: &Path) -> Option<SecretString> {
        let is_path = !text.is_empty() && text.len() < 1024 && !text.contains(char::is_control);
        let path = self.locate(text, beside).filter(|_| is_path)?;
        self.read(&path).map(SecretString::from)
    }

    /// The file that `text` names: beside the file that says so, else in the working directory.
    pub(super) fn locate(&self, text: &str, beside: &Path) -> Option<PathBuf> {
        let folder = beside.parent().unwrap_or(Path::new(""));
        [folder.join(text), PathBuf::from(text)].into_iter().find(|path| self.environment.file(path).is_ok())
    }
}

/// A part of a text with placeholders.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    /// `$$`
    Dollar,
    /// `$NAME`, `${NAME}`, `${NAME:-default}`
    Variable {
        name: &'a str,
        default: Option<&'a str>,
    },
    /// `{{ … }}`
    Braced(&'a str),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut plain = 0;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let found = rest.strip_prefix('$').and_then(variable).or_else(|| rest.strip_prefix("{{").and_then(braced));
        let Some((piece, length)) = found else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        pieces.extend(text.get(plain..at).filter(|text| !text.is_empty()).map(Piece::Text));
        pieces.push(piece);
        at += length;
        plain = at;
    }
    pieces.extend(text.get(plain..).filter(|text| !text.is_empty()).map(Piece::Text));
    pieces
}

/// A placeholder behind a `$`, and its length with it.
fn variable(rest: &str) -> Option<(Piece<'_>, usize)> {
    if rest.starts_with('$') {
        return Some((Piece::Dollar, 2));
    }
    if let Some(rest) = rest.strip_prefix('{') {
        let (inner, _) = rest.split_once('}')?;
        let (name, default) = inner.split_once(":-").map_or((inner, None), |(name, default)| (name, Some(default)));
        return is_variable(name).then_some((Piece::Variable { name, default }, inner.len() + 3));
    }
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let name = rest.get(..end).filter(|name| is_variable(name))?;
    Some((Piece::Variable { name, default: None }, end + 1))
}

/// A placeholder behind a `{{`, and its length with it.
fn braced(rest: &str) -> Option<(Piece<'_>, usize)> {
    let (inner, _) = rest.split_once("}}")?;
    Some((Piece::Braced(inner.trim()), inner.len() + 4))
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::config::fixture::Fake;

    fn expand(text: &str) -> Expanded {
        let fake = Fake::default().variable("KEY", "k").variable("ENV_FULL", "full").variable("FULL", "short").variable("ONE", "1");
        Resolver::new(&fake).expand(text)
    }

    #[test]
    fn variables() {
        for (text, expected) in [
            ("$KEY", "k"),
            ("${KEY}", "k"),
            ("${KEY:-x}", "k"),
            ("${NONE:-x:y}", "x:y"),
            ("${NONE:-}", ""),
            ("a-$KEY/${ONE}b", "a-k/1b"),
            ("$$KEY", "$KEY"),
            ("é$KEY", "ék"),
            ("{{ ENV_FULL }}", "full"),
            ("{{ENV_ONE}}", "1"),
            ("{{ secrets.KEY }}", "k"),
            ("Bearer {{ secrets.KEY }}", "Bearer k"),
        ] {
            assert_eq!(expand(text), Expanded::Text(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_placeholder_stays() {
        for text in ["", "plain", "costs $5", "a $ b", "${1X}", "{ x }", "{{ open", "100%"] {
            assert_eq!(expand(text), Expanded::Plain, "{text}");
        }
        for text in ["{{ name }}", "{{ secrets. }}", "{{ secrets.../etc/passwd }}", "{{ secrets.a/b }}"] {
            assert_eq!(expand(text), Expanded::Unknown, "{text}");
        }
    }

    #[test]
    fn what_is_not_set_is_named() {
        assert_eq!(expand("$NONE"), Expanded::Unset("environment variable NONE".to_owned()));
        assert_eq!(expand("{{ ENV_NONE }}"), Expanded::Unset("environment variable ENV_NONE or NONE".to_owned()));
        assert_eq!(expand("{{ secrets.aws:id#field }}"), Expanded::Manager("aws"));
        assert_eq!(expand("{{ secrets.vault:path#field }}"), Expanded::Manager("vault"));
    }

    #[test]
    fn secrets_come_from_the_configured_store() {
        let fake = Fake::default().variable("FG_KEY", "v").text("/run/secrets/KEY", "from a file\n");
        let mut resolver = Resolver::new(&fake);
        resolver.store = Store::Variables("FG_".to_owned());
        assert_eq!(resolver.expand("{{ secrets.KEY }}"), Expanded::Text("v".to_owned()));
        resolver.store = Store::Files("/run/secrets".into());
        assert_eq!(resolver.expand("{{ secrets.KEY }}"), Expanded::Text("from a file".to_owned()));
        assert_eq!(resolver.expand("{{ secrets.NO }}"), Expanded::Unset("secret file /run/secrets/NO".to_owned()));
        assert!(resolver.watched.contains(Path::new("/run/secrets/KEY")));
        resolver.store = Store::Manager("vault");
        assert_eq!(resolver.expand("{{ secrets.KEY }}"), Expanded::Manager("vault"));
    }

    #[test]
    fn a_path_stands_for_its_file() {
        let fake = Fake::default().text("/etc/flowgate/key", "beside\n").text("key2", "here");
        let mut resolver = Resolver::new(&fake);
        let file = |resolver: &mut Resolver<'_>, text: &str| {
            resolver.file(text, Path::new("/etc/flowgate/config.yaml")).map(|secret| secret.expose_secret().to_owned())
        };
        assert_eq!(file(&mut resolver, "key").as_deref(), Some("beside"));
        assert_eq!(file(&mut resolver, "key2").as_deref(), Some("here"));
        assert_eq!(file(&mut resolver, "sk-literal"), None);
        assert_eq!(resolver.watched.len(), 2);
    }
}
