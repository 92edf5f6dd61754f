//! Registered models that are endpoints without being named in a file.

use super::Models;
use crate::{
    config::{Found, ModelUri, Pick, Serve},
    error::Result,
    mlflow::registry::RegisteredModel,
};

impl Models {
    /// The registered models that are served: each that has a version by its name, which then means the latest one, and by each of its
    /// aliases. Those whose names no endpoint can have are left out.
    ///
    /// # Errors
    /// What the registry says.
    pub async fn found(&self, serve: &Serve) -> Result<Vec<Found>> {
        let filter = match serve {
            Serve::All => None,
            Serve::Filter(filter) => Some(filter.as_str()),
        };
        let mut found: Vec<_> = self.registered(filter).await?.iter().flat_map(named).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
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
