//! Registered models that are endpoints without being named in a file.

use std::{
    io,
    path::Path,
    sync::atomic::Ordering::{Acquire, Release},
};

use serde::{Deserialize, Serialize};

use super::Models;
use crate::{
    config::{Found, ModelUri, Pick, Serve},
    error::{Error, Result},
    mlflow::registry::{RegisteredModel, memory},
};

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
    /// name, which then means the latest one, and by each of its aliases. Those whose names no endpoint can have are left out.
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
        let mut found: Vec<_> = ground.registered(filter).await?.iter().flat_map(named).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        keep(&ground.listed, serve, &found);
        Ok(found)
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

/// The endpoints of one model.
fn named(model: &RegisteredModel) -> Vec<Found> {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_name = |name: &str| name.chars().all(is_letter) && name.contains(|c| c != '.');
    if !is_name(&model.name) {
        tracing::debug!(model = model.name, "a registered model has no name that an endpoint can have");
        return Vec::new();
    }
    let of = |name: String, pick: Pick| Found {
        name,
        model: model.name.clone(),
        description: model.description.clone(),
        uri: ModelUri::Registered { name: model.name.clone(), pick, path: None },
    };
    let latest = (!model.latest.is_empty()).then(|| of(model.name.clone(), Pick::Latest));
    let aliases = model.aliases.keys().filter(|alias| is_name(alias));
    latest.into_iter().chain(aliases.map(|alias| of(format!("{}@{alias}", model.name), Pick::Alias(alias.clone())))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_there_by_its_name_and_by_each_alias() {
        let told = r#"{"name": "iris", "description": "flowers", "latest_versions": [{"name": "iris", "version": "2"}],
            "aliases": [{"alias": "champion", "version": "1"}, {"alias": "a b", "version": "1"}]}"#;
        let model: RegisteredModel = serde_json::from_str(told).unwrap();
        let names: Vec<_> = named(&model).iter().map(|found| format!("{} {}", found.name, found.uri)).collect();
        assert_eq!(names, ["iris models:/iris/latest", "iris@champion models:/iris@champion"]);
        assert!(named(&RegisteredModel { name: "a/b".to_owned(), ..model.clone() }).is_empty());
        assert!(named(&RegisteredModel { latest: Vec::new(), aliases: Default::default(), ..model }).is_empty());
    }
}
