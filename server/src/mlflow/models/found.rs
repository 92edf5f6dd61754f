//! Registered models that are endpoints without being named in a file, and what each is for.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
    sync::{
        MutexGuard, PoisonError,
        atomic::Ordering::{Acquire, Release},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{Common, Models};
use crate::{
    config::{Found, ModelUri, Pick, Serve},
    error::{Error, Result},
    event::Task,
    mlflow::{
        language,
        registry::{RegisteredModel, memory},
    },
};

/// How long it is waited for what versions say of themselves, and of how many at once.
const ENOUGH: Duration = Duration::from_secs(3);
const AT_ONCE: usize = 8;

/// The most names that one line of the log holds.
const MOST_NAMED: usize = 50;

/// One version of a registered model. What it is for never changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Edition {
    name: String,
    /// When the model was made: another may have its name one day.
    created: i64,
    version: u32,
}

/// The models that were found last, in a file: a start without the registry serves those.
#[derive(Serialize, Deserialize)]
struct Listed {
    /// What they were searched by.
    serve: Serve,
    found: Vec<Found>,
}

/// The registered models that are served, and who says so.
#[derive(Debug)]
pub struct Listing {
    /// What there is; `None` where nobody has ever said it.
    pub found: Option<Vec<Found>>,
    /// Why the registry did not say it.
    pub error: Option<Error>,
}

impl Models {
    /// The registered models that are served, as the registry says now, or said last while it does not: each that has a version by its
    /// name, which then means the latest one, and by each of its aliases. Those whose names no endpoint can have are left out, which the log
    /// says once. What a version is for is read once; until that is done it is for predictions.
    pub async fn found(&self, serve: Option<&Serve>) -> Listing {
        let Some(serve) = serve else {
            self.0.is_unlisted.store(false, Release);
            return Listing { found: Some(Vec::new()), error: None };
        };
        match self.searched(serve).await {
            Ok(found) => {
                self.0.is_unlisted.store(false, Release);
                Listing { found: Some(found), error: None }
            }
            Err(error) => {
                let found = self.0.ground.get().and_then(|ground| recall(&ground.listed, serve));
                self.0.is_unlisted.store(found.is_none(), Release);
                Listing { found, error: Some(error) }
            }
        }
    }

    /// Whether registered models are to be served, and nobody has said yet which there are.
    pub fn is_unlisted(&self) -> bool {
        self.0.is_unlisted.load(Acquire)
    }

    async fn searched(&self, serve: &Serve) -> Result<Vec<Found>> {
        let filter = match serve {
            Serve::All => None,
            Serve::Filter(filter) => Some(filter.as_str()),
        };
        let ground = self.0.ground().await?;
        let models = ground.registered(filter).await?;
        self.0.tell_left_out(&models);
        let named: Vec<_> = models.iter().flat_map(named).collect();
        self.0.learn(named.iter().map(|(edition, _)| edition.clone()).collect()).await;
        let known = self.0.purposes();
        let task = |edition: &Edition| known.get(edition).copied().unwrap_or(Task::Predict);
        let mut found: Vec<_> = named.into_iter().map(|(edition, found)| Found { task: task(&edition), ..found }).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        keep(&ground.listed, serve, &found);
        Ok(found)
    }
}

impl Common {
    /// Logs which models are no endpoints, when they are others than before.
    fn tell_left_out(&self, models: &[RegisteredModel]) {
        let mut told = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(names) = is_news(&mut told, models.iter().flat_map(left_out).collect()) {
            tracing::warn!(
                models = ?names.iter().take(MOST_NAMED).collect::<Vec<_>>(),
                count = names.len(),
                "registered models, or their aliases, are not served, since no endpoint can have their names; name them in an endpoint's `uri`",
            );
        }
    }

    /// Reads what versions are for of which nobody knows yet, and forgets those that are not named any more. What takes too long, or
    /// fails, is for the next time.
    async fn learn(&self, named: HashSet<Edition>) {
        let unknown: Vec<Edition> = {
            let mut known = self.purposes();
            known.retain(|edition, _| named.contains(edition));
            named.into_iter().filter(|edition| !known.contains_key(edition)).collect()
        };
        let read = stream::iter(unknown).map(async |edition| match self.purpose(&edition).await {
            Ok(task) => drop(self.purposes().insert(edition, task)),
            Err(error) => tracing::debug!(?edition, ?error, "a registered model does not say what it is for"),
        });
        if timeout(ENOUGH, read.buffer_unordered(AT_ONCE).for_each(async |()| ())).await.is_err() {
            tracing::info!("there was no time to read what all registered models are for; it goes on the next time they are looked up");
        }
    }

    async fn purpose(&self, edition: &Edition) -> Result<Task> {
        let uri = ModelUri::Registered { name: edition.name.clone(), pick: Pick::Version(edition.version), path: None };
        Ok(language::task(&self.ground().await?.said(&uri).await?))
    }

    fn purposes(&self) -> MutexGuard<'_, HashMap<Edition, Task>> {
        self.purposes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was found last by the same words.
fn recall(path: &Path, serve: &Serve) -> Option<Vec<Found>> {
    match memory::read::<Listed>(path) {
        Ok(listed) => Some(listed).filter(|listed| listed.serve == *serve).map(|listed| listed.found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the list of registered models that were served cannot be read");
            None
        }
    }
}

/// Keeps what was found. A file that cannot be written costs only the next cold start, so that it is logged and no error.
fn keep(path: &Path, serve: &Serve, found: &[Found]) {
    if recall(path, serve).is_some_and(|known| known == *found) {
        return;
    }
    let listed = Listed { serve: serve.clone(), found: found.to_vec() };
    if let Err(error) = memory::write(path, &listed) {
        tracing::warn!(path = %path.display(), %error, "the list of registered models that are served cannot be kept");
    }
}

/// Whether an endpoint can have the name.
fn is_name(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.chars().all(is_letter) && name.contains(|c| c != '.')
}

/// What of one model is no endpoint.
fn left_out(model: &RegisteredModel) -> Vec<String> {
    if !is_name(&model.name) {
        return vec![model.name.clone()];
    }
    model.aliases.keys().filter(|alias| !is_name(alias)).map(|alias| format!("{}@{alias}", model.name)).collect()
}

/// Takes in which names are left out now; them, if they are others than before.
fn is_news(told: &mut Vec<String>, mut now: Vec<String>) -> Option<&[String]> {
    now.sort();
    if *told == now {
        return None;
    }
    *told = now;
    Some(told.as_slice()).filter(|names| !names.is_empty())
}

/// The endpoints of one model, with the versions that they mean now.
fn named(model: &RegisteredModel) -> Vec<(Edition, Found)> {
    if !is_name(&model.name) {
        return Vec::new();
    }
    let of = |version: u32, name: String, pick: Pick| {
        let uri = ModelUri::Registered { name: model.name.clone(), pick, path: None };
        let (description, task) = (model.description.clone(), Task::Predict);
        let found = Found { name, model: model.name.clone(), description, uri, task };
        (Edition { name: model.name.clone(), created: model.created, version }, found)
    };
    let latest = model.latest.iter().map(|version| version.version).max();
    let latest = latest.map(|version| of(version, model.name.clone(), Pick::Latest));
    let aliases = model.aliases.iter().filter(|(alias, _)| is_name(alias));
    let aliases = aliases.map(|(alias, version)| of(*version, format!("{}@{alias}", model.name), Pick::Alias(alias.clone())));
    latest.into_iter().chain(aliases).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_there_by_its_name_and_by_each_alias() {
        let told = r#"{"name": "iris", "description": "flowers", "latest_versions": [{"name": "iris", "version": "2"}],
            "aliases": [{"alias": "champion", "version": "1"}, {"alias": "a b", "version": "1"}]}"#;
        let model: RegisteredModel = serde_json::from_str(told).unwrap();
        let told = |(edition, found): &(Edition, Found)| format!("{} {} {}", found.name, found.uri, edition.version);
        let names: Vec<_> = named(&model).iter().map(told).collect();
        assert_eq!(names, ["iris models:/iris/latest 2", "iris@champion models:/iris@champion 1"]);
        assert_eq!(left_out(&model), ["iris@a b"]);
        let other = RegisteredModel { name: "a/b".to_owned(), ..model.clone() };
        assert!(named(&other).is_empty());
        assert_eq!(left_out(&other), ["a/b"]);
        assert!(named(&RegisteredModel { latest: Vec::new(), aliases: Default::default(), ..model }).is_empty());
    }

    #[test]
    fn what_is_left_out_is_told_once() {
        let mut told = Vec::new();
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(is_news(&mut told, names(&[])), None);
        assert_eq!(is_news(&mut told, names(&["b c", "ä"])).unwrap(), names(&["b c", "ä"]));
        assert_eq!(is_news(&mut told, names(&["ä", "b c"])), None, "in any order");
        assert_eq!(is_news(&mut told, names(&["ä"])).unwrap(), names(&["ä"]));
        assert_eq!(is_news(&mut told, names(&[])), None, "nothing is no news");
        assert_eq!(is_news(&mut told, names(&["ä"])).unwrap(), names(&["ä"]));
    }
}
