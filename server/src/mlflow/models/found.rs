//! Registered models that are endpoints without being named in a file.

use std::sync::PoisonError;

use super::Models;
use crate::{
    config::{Found, ModelUri, Pick, Serve},
    error::Result,
    mlflow::registry::RegisteredModel,
};

/// The most names that one line of the log holds.
const MOST_NAMED: usize = 50;

impl Models {
    /// The registered models that are served: each that has a version by its name, which then means the latest one, and by each of its
    /// aliases. Those whose names no endpoint can have are left out, which the log says once.
    ///
    /// # Errors
    /// What the registry says.
    pub async fn found(&self, serve: &Serve) -> Result<Vec<Found>> {
        let filter = match serve {
            Serve::All => None,
            Serve::Filter(filter) => Some(filter.as_str()),
        };
        let models = self.registered(filter).await?;
        let mut told = self.0.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(names) = is_news(&mut told, models.iter().flat_map(left_out).collect()) {
            tracing::warn!(
                models = ?names.iter().take(MOST_NAMED).collect::<Vec<_>>(),
                count = names.len(),
                "registered models, or their aliases, are not served, since no endpoint can have their names; name them in an endpoint's `uri`",
            );
        }
        drop(told);
        let mut found: Vec<_> = models.iter().flat_map(named).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
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

/// The endpoints of one model.
fn named(model: &RegisteredModel) -> Vec<Found> {
    if !is_name(&model.name) {
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
