//! From files to a configuration: reads, merges, checks, lowers. The one way in.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use serde_json::Value;

use super::{
    Config, Endpoint, Found,
    bind::bind,
    check::check,
    diagnostic::{Diagnostic, Diagnostics, FilePlace, Spot},
    lower, merge,
    raw::RawConfig,
    reading::Reading,
    secrets::{Environment, Process, SecretsMode, Store},
    tree::{self, Any, Tree},
};

/// How a configuration is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Unknown keys are warnings.
    pub lenient: bool,
    /// What a secret that is not set means.
    pub secrets: SecretsMode,
}

/// One file.
#[derive(Clone)]
pub struct Source {
    /// Its path as it was named; relative paths in it are looked up beside it first.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A configuration that may be served.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What a person should know.
    pub warnings: Vec<Diagnostic>,
    /// What is not set; empty under [`SecretsMode::Require`].
    pub unset_secrets: Vec<Unset>,
    /// The files whose change changes the configuration: its own, certificates, authorities, secrets.
    pub watched: Vec<PathBuf>,
    /// Where the keys stand that are there, by their path of up to three words: `listen`, `mlflow.cache.folder`.
    pub places: BTreeMap<String, FilePlace>,
}

/// A variable or secret that is not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unset {
    /// What it is, for example `environment variable APP_KEY`.
    pub name: String,
    /// Where it is asked for.
    pub place: FilePlace,
}

/// How many words the path of a key has at most whose place is noted.
const KEY_WORDS: usize = 3;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| schemars::schema_for!(RawConfig).to_value());

/// The JSON Schema (2020-12) of a configuration file.
pub fn schema() -> Value {
    SCHEMA.clone()
}

/// Loads files, later ones laid over earlier ones.
///
/// # Errors
/// Everything that is wrong with them.
pub fn load(files: &[PathBuf], options: LoadOptions) -> Result<Loaded, Diagnostics> {
    let mut sources = Vec::new();
    let mut unread = Vec::new();
    for path in files {
        match std::fs::read_to_string(path) {
            Ok(text) => sources.push(Source { name: path.display().to_string(), text }),
            Err(error) => {
                let message = format!("cannot read {}: {error}", path.display());
                unread.push(Diagnostic::new(message).suggest(Some("name a file that is there and can be read")));
            }
        }
    }
    if !unread.is_empty() {
        return Err(Diagnostics(unread));
    }
    let mut loaded = parse(&sources, &Process, options)?;
    loaded.watched.splice(0..0, files.iter().cloned());
    Ok(loaded)
}

/// Reads sources, later ones laid over earlier ones.
///
/// # Errors
/// Everything that is wrong with them.
pub fn parse(sources: &[Source], environment: &dyn Environment, options: LoadOptions) -> Result<Loaded, Diagnostics> {
    let named = sources.iter().map(|source| (source.name.clone(), source.text.clone())).collect();
    let mut reading = Reading::new(named, environment, options);
    let config = whole(sources.len(), &mut reading).and_then(|mut tree| {
        find_store(&tree, &mut reading);
        check(&mut tree, &SCHEMA, &mut reading).then_some(tree)
    });
    let mut places = BTreeMap::new();
    let config = config.and_then(|tree| match bind::<RawConfig>(&tree) {
        Ok(raw) => {
            note_places(&tree, &[], &reading, &mut places);
            Some(lower::lower(raw, &tree, &mut reading))
        }
        Err(error) => {
            reading.report.error_nowhere(Diagnostic::new(format!("the configuration does not fit its own schema: {error}")));
            None
        }
    });
    finish((config, places), reading)
}

/// Where the keys stand of a mapping, and of those in it.
fn note_places(tree: &Tree, above: &[&str], reading: &Reading<'_>, places: &mut BTreeMap<String, FilePlace>) {
    for (key, value) in tree.entries().into_iter().flatten() {
        let path = [above, &[key.value.as_str()]].concat();
        places.insert(path.join("."), reading.report.place(key.spot));
        if path.len() < KEY_WORDS {
            note_places(value, &path, reading, places);
        }
    }
}

/// The endpoints of registered models that no file names; as if a file named each with nothing else said. What a file names stays the
/// file's.
pub fn served(found: &[Found], config: &Config) -> Vec<Endpoint> {
    let named = |name: &str| config.endpoints.iter().any(|endpoint| endpoint.name == name);
    let mut reading = Reading::new(Vec::new(), &Process, LoadOptions::default());
    found.iter().filter(|found| !named(&found.name)).filter_map(|found| lower::served(found, &mut reading)).collect()
}

fn finish((config, places): (Option<Config>, BTreeMap<String, FilePlace>), mut reading: Reading<'_>) -> Result<Loaded, Diagnostics> {
    warn_later(&mut reading);
    let unset = std::mem::take(&mut reading.unset);
    let unset_secrets = unset.into_iter().map(|(spot, name)| Unset { name, place: reading.report.place(spot) }).collect();
    let watched = reading.resolver.watched.into_iter().collect();
    let warnings = reading.report.finish()?;
    let config = config.ok_or_else(|| Diagnostics(vec![Diagnostic::new("the configuration is empty")]))?;
    Ok(Loaded { config, warnings, unset_secrets, watched, places })
}

/// One warning for all keys that are not enforced yet.
fn warn_later(reading: &mut Reading<'_>) {
    let later = std::mem::take(&mut reading.later);
    let several = later.iter().any(|(spot, _)| spot.source > 0);
    let name = |(spot, key): &(Spot, String)| {
        let file = if several { format!(" of {}", reading.report.name(spot.source)) } else { String::new() };
        format!("{key}, line {}{file}", spot.line)
    };
    if !later.is_empty() {
        let list: Vec<_> = later.iter().map(name).collect();
        reading.report.warn_nowhere(Diagnostic::new(format!("not enforced yet: {}", list.join("; "))));
    }
}

/// The tree of all files, as far as they are YAML; `None` when one is not.
fn whole(count: usize, reading: &mut Reading<'_>) -> Option<Tree> {
    let numbers = 0..u32::try_from(count).unwrap_or(u32::MAX);
    let trees: Vec<_> = numbers.map(|source| tree::read(source, &mut reading.report)).collect();
    let trees: Vec<Tree> = trees.into_iter().collect::<Option<_>>()?;
    let filled = trees.into_iter().map(|tree| match tree.value {
        Any::Null => tree.with(Any::Map(Vec::new())),
        Any::Bool(_) | Any::Number(_) | Any::Text(_) | Any::List(_) | Any::Map(_) => tree,
    });
    Some(filled.reduce(merge::merge).unwrap_or_else(|| Tree::new(Any::Map(Vec::new()), Spot::default())))
}

/// `secrets:` is needed before the other placeholders are.
fn find_store(tree: &Tree, reading: &mut Reading<'_>) {
    let Some(secrets) = tree.get("secrets") else { return };
    let prefix = secrets.get("prefix").and_then(|prefix| reading.plain(prefix)).unwrap_or_default();
    let source = secrets.get("source").and_then(|source| reading.plain(source));
    reading.resolver.store = match source.as_deref() {
        Some("file") => Store::Files(Path::new(&prefix).to_owned()),
        Some("aws") => Store::Manager("aws"),
        Some("vault") => Store::Manager("vault"),
        _ => Store::Variables(prefix),
    };
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}
