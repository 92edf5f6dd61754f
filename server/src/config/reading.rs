//! What is known while a configuration is read: findings, placeholders, what is not set or not enforced. Judges no key.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::PathBuf,
};

use secrecy::SecretString;

use super::{
    diagnostic::{Diagnostic, Report, Spot},
    load::LoadOptions,
    secrets::{Environment, Expanded, Resolver, SecretsMode},
    suggest,
    tracking::ServerRole,
    tree::{Any, At, Tree},
};
use crate::provider::models::{Fault, Models};

/// One reading of a configuration, from the tree to the lowered types.
pub(super) struct Reading<'a> {
    /// Errors and warnings.
    pub report: Report,
    /// Placeholders.
    pub resolver: Resolver<'a>,
    /// How it is read.
    pub options: LoadOptions,
    /// What is not set, and where it is asked for.
    pub unset: BTreeSet<(Spot, String)>,
    /// Keys that this build does not enforce yet.
    pub later: BTreeSet<(Spot, String)>,
    /// What is known of models.
    pub models: Models,
    /// Servers of MLflow's that are needed, and the first place that needs each.
    pub needed: BTreeMap<ServerRole, Spot>,
    /// Mappings that lost an entry to a finding, so that what is missing there is no finding of its own.
    damaged: HashSet<Spot>,
}

/// A secret as far as it is known.
pub(super) enum Secret {
    /// It is this.
    Is(SecretString),
    /// It is not set, which is recorded.
    Unset,
    /// It stands in a secret manager, which is recorded.
    Manager(&'static str),
}

impl<'a> Reading<'a> {
    /// A reading of files with these names and texts.
    pub(super) fn new(sources: Vec<(String, String)>, environment: &'a dyn Environment, options: LoadOptions) -> Self {
        Self {
            report: Report::new(sources),
            resolver: Resolver::new(environment),
            options,
            unset: BTreeSet::new(),
            later: BTreeSet::new(),
            models: Models::default(),
            needed: BTreeMap::new(),
            damaged: HashSet::new(),
        }
    }

    /// Adds an error.
    pub(super) fn error(&mut self, spot: Spot, diagnostic: Diagnostic) {
        self.report.error(spot, diagnostic);
    }

    /// Adds an error about the value of a key, which is shown as it is written.
    pub(super) fn wrong(&mut self, spot: Spot, key: &str, expected: impl Into<String>) {
        let message = format!("`{key}` is {}", self.shown(spot));
        self.error(spot, Diagnostic::new(message).expected(expected));
    }

    /// What a text stands for, as the function reads it; where it stands for nothing, an error says what is expected.
    pub(super) fn amount<T>(
        &mut self,
        raw: Option<&At<String>>,
        key: &str,
        (parse, expected): (impl FnOnce(&str) -> Option<T>, &str),
    ) -> Option<T> {
        let raw = raw?;
        let amount = parse(&raw.value);
        if amount.is_none() {
            self.wrong(raw.spot, key, expected);
        }
        amount
    }

    /// As [`Self::wrong`] for one word of a few, with the nearest.
    pub(super) fn wrong_word(&mut self, spot: Spot, key: &str, written: &str, words: &[&str]) {
        let message = format!("`{key}` is {}", self.shown(spot));
        let diagnostic = Diagnostic::new(message).expected(suggest::list(words)).suggest(suggest::nearest(written, words));
        self.error(spot, diagnostic);
    }

    /// A key of the mapping at `owner` that nothing knows: a warning where that is allowed, else the mapping is damaged.
    pub(super) fn unknown_key(&mut self, owner: Spot, key: &At<String>, known: &[&str], tolerant: bool) {
        let mut diagnostic = Diagnostic::new(format!("unknown key `{}`", suggest::short(&key.value)));
        diagnostic.suggestion = match key.value.split_once(':') {
            Some((name, _)) if known.contains(&name) => Some("put a space behind its `:`".to_owned()),
            _ => suggest::nearest(&key.value, known),
        };
        if diagnostic.suggestion.is_none() {
            diagnostic = diagnostic.expected(suggest::list(known));
        }
        if tolerant || self.options.lenient {
            self.report.warn(key.spot, Diagnostic { message: format!("{} is ignored", diagnostic.message), ..diagnostic });
        } else {
            self.report.error(key.spot, diagnostic);
            self.damage(owner);
        }
    }

    /// Notes a place that needs a server of MLflow's.
    pub(super) fn needs(&mut self, role: ServerRole, spot: Spot) {
        let first = self.needed.entry(role).or_insert(spot);
        *first = spot.min(*first);
    }

    /// Notes a key that this build does not enforce yet.
    pub(super) fn later(&mut self, spot: Spot, key: impl Into<String>) {
        self.later.insert((spot, key.into()));
    }

    /// The path that a text names, as seen from the file it stands in; it is watched from now on. A file that is not there is a warning.
    pub(super) fn path(&mut self, text: &At<String>, key: &str) -> PathBuf {
        let beside = PathBuf::from(self.report.name(text.spot.source));
        let found = self.resolver.locate(&text.value, &beside);
        if found.is_none() {
            let message = format!("`{key}` names a file that cannot be read: {}", self.shown(text.spot));
            let diagnostic =
                Diagnostic::new(message).suggest(Some("relative paths are looked up beside this file, then in the working directory"));
            self.report.warn(text.spot, diagnostic);
        }
        let path = found.unwrap_or_else(|| PathBuf::from(&text.value));
        self.resolver.watched.insert(path.clone());
        path
    }

    /// Lays the file of `prices` over the models that are known.
    pub(super) fn read_models(&mut self, prices: Option<&At<String>>) {
        let Some(prices) = prices else { return };
        let path = self.path(prices, "prices");
        let Ok(text) = self.resolver.text(&path) else {
            if self.options.secrets == SecretsMode::Require {
                self.wrong(prices.spot, "prices", "a file that can be read");
            }
            return;
        };
        match Models::over(&text) {
            Ok(models) => self.models = models,
            Err(faults) => {
                let source = self.report.also(path.display().to_string());
                for Fault { line, column, message } in faults {
                    self.error(Spot { source, line, column, ..Spot::default() }, Diagnostic::new(message));
                }
            }
        }
    }

    /// Notes that a mapping lost an entry.
    pub(super) fn damage(&mut self, spot: Spot) {
        self.damaged.insert(spot);
    }

    /// Whether a mapping lost an entry.
    pub(super) fn is_damaged(&self, spot: Spot) -> bool {
        self.damaged.contains(&spot)
    }

    /// What is written at a spot, short enough for a message.
    pub(super) fn shown(&self, spot: Spot) -> String {
        let written = self.report.written(spot);
        let line = written.lines().next().unwrap_or_default();
        let short: String = line.chars().take(60).collect();
        let more = if short.len() < written.len() { "…" } else { "" };
        format!("`{short}{more}`")
    }

    /// Puts what placeholders stand for in a text's place. `false` when that is not known, which is recorded.
    pub(super) fn expand(&mut self, tree: &mut Tree) -> bool {
        let Any::Text(text) = &tree.value else { return true };
        if tree.expanded {
            return true;
        }
        match self.resolver.expand(text) {
            Expanded::Plain | Expanded::Unknown => true,
            Expanded::Text(text) => {
                let quoted = self.report.written(tree.spot).starts_with(['"', '\'', '|', '>']);
                tree.value = if quoted { Any::Text(text) } else { infer(text) };
                tree.expanded = true;
                true
            }
            Expanded::Unset(what) => {
                self.not_set(tree.spot, what);
                false
            }
            Expanded::Manager(manager) => {
                self.later(tree.spot, format!("secrets.{manager}"));
                false
            }
        }
    }

    /// As [`Self::expand`], for all texts in a value. What is not known is taken out of it.
    pub(super) fn expand_all(&mut self, tree: &mut Tree) -> bool {
        match &mut tree.value {
            Any::List(items) => items.retain_mut(|item| self.expand_all(item)),
            Any::Map(entries) => entries.retain_mut(|(_, value)| self.expand_all(value)),
            Any::Null | Any::Bool(_) | Any::Number(_) | Any::Text(_) => return self.expand(tree),
        }
        true
    }

    /// As [`Self::expand`], for a text that the schema leaves alone.
    pub(super) fn plain(&mut self, tree: &Tree) -> Option<String> {
        let mut tree = tree.clone();
        self.expand(&mut tree).then_some(tree).and_then(|tree| match tree.value {
            Any::Text(text) => Some(text),
            Any::Bool(value) => Some(value.to_string()),
            Any::Number(value) => Some(value.to_string()),
            Any::Null | Any::List(_) | Any::Map(_) => None,
        })
    }

    /// The secret that a text stands for.
    pub(super) fn secret(&mut self, text: &At<String>, key: &str) -> Secret {
        let secret = match self.resolver.expand(&text.value) {
            Expanded::Plain => {
                let beside = PathBuf::from(self.report.name(text.spot.source));
                self.resolver.file(&text.value, &beside).unwrap_or_else(|| SecretString::from(text.value.clone()))
            }
            Expanded::Text(text) => SecretString::from(text),
            Expanded::Unset(what) => {
                self.not_set(text.spot, what);
                return Secret::Unset;
            }
            Expanded::Manager(manager) => {
                self.later(text.spot, format!("secrets.{manager}"));
                return Secret::Manager(manager);
            }
            Expanded::Unknown => {
                let expected =
                    "`$NAME`, `${NAME:-default}`, `{{ secrets.NAME }}`, `{{ ENV_NAME }}`, the path of a file, or the secret itself";
                // The text around the braces may be a secret.
                let message = format!("`{key}` has `{{{{ … }}}}` around what is no placeholder");
                self.error(text.spot, Diagnostic::new(message).expected(expected));
                return Secret::Unset;
            }
        };
        if secrecy::ExposeSecret::expose_secret(&secret).is_empty() {
            self.empty(text.spot, key);
            return Secret::Unset;
        }
        Secret::Is(secret)
    }

    /// Notes that the value of a key is an empty text, as that of a variable that says nothing: it counts as not set.
    pub(super) fn empty(&mut self, spot: Spot, key: &str) {
        self.not_set(spot, format!("`{key}`, whose text is empty,"));
    }

    fn not_set(&mut self, spot: Spot, what: String) {
        if self.options.secrets == SecretsMode::Require {
            let escape = if self.report.written(spot).contains('$') { "; `$$` stands for a `$`" } else { "" };
            let suggestion = format!("set it, or give the value another way{escape}");
            self.error(spot, Diagnostic::new(format!("{what} is not set")).suggest(Some(suggestion)));
        }
        self.unset.insert((spot, what));
    }
}

/// A text that came out of an unquoted placeholder, typed as if it stood in the file itself.
fn infer(text: String) -> Any {
    match serde_json::from_str(&text) {
        Ok(serde_json::Value::Bool(value)) => Any::Bool(value),
        Ok(serde_json::Value::Number(value)) if value.to_string() == text => Any::Number(value),
        _ => Any::Text(text),
    }
}
