//! Registered models that are endpoints without being named in a file, and what each is for.

use std::{
    collections::{HashMap, HashSet},
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;

use super::{Common, Models};
use crate::{
    config::{Found, ModelUri, Pick, Serve},
    error::Result,
    event::Task,
    mlflow::{language, registry::RegisteredModel},
};

/// How long it is waited for what versions say of themselves, and of how many at once.
const ENOUGH: Duration = Duration::from_secs(3);
const AT_ONCE: usize = 8;

/// One version of a registered model. What it is for never changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Edition {
    name: String,
    /// When the model was made: another may have its name one day.
    created: i64,
    version: u32,
}

impl Models {
    /// The registered models that are served: each that has a version by its name, which then means the latest one, and by each of its
    /// aliases. Those whose names no endpoint can have are left out. What a version is for is read once; until that is done it is for
    /// predictions.
    ///
    /// # Errors
    /// What the registry says.
    pub async fn found(&self, serve: &Serve) -> Result<Vec<Found>> {
        let filter = match serve {
            Serve::All => None,
            Serve::Filter(filter) => Some(filter.as_str()),
        };
        let named: Vec<_> = self.registered(filter).await?.iter().flat_map(named).collect();
        self.0.learn(named.iter().map(|(edition, _)| edition.clone()).collect()).await;
        let known = self.0.purposes();
        let task = |edition: &Edition| known.get(edition).copied().unwrap_or(Task::Predict);
        let mut found: Vec<_> = named.into_iter().map(|(edition, found)| Found { task: task(&edition), ..found }).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }
}

impl Common {
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

/// The endpoints of one model, with the versions that they mean now.
fn named(model: &RegisteredModel) -> Vec<(Edition, Found)> {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_name = |name: &str| name.chars().all(is_letter) && name.contains(|c| c != '.');
    if !is_name(&model.name) {
        tracing::debug!(model = model.name, "a registered model has no name that an endpoint can have");
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
        assert!(named(&RegisteredModel { name: "a/b".to_owned(), ..model.clone() }).is_empty());
        assert!(named(&RegisteredModel { latest: Vec::new(), aliases: Default::default(), ..model }).is_empty());
    }
}
