//! The older forms of an endpoint (`routes:` with `route_type`, `model_endpoints:`) as the native one. Judges only what is theirs.

use super::fields;
use crate::{
    config::{
        bind::bind,
        diagnostic::{Diagnostic, Spot},
        raw::{
            RawDeployment, RawEndpoint, RawLimit, RawModel, RawModelEndpoint, RawModelRoute, RawOlderModel, RawRateLimit, RawRoute,
            RawRouteType, RawTask,
        },
        reading::Reading,
        suggest,
        tree::{Any, At, Entries, Tree},
    },
    provider::{self, Kind, PROVIDERS, Provider, Sets},
};

const STAGES: [&str; 4] = ["Staging", "Production", "Archived", "None"];
/// The keys of a model that mean the same for every provider.
const OWN: [&str; 6] = ["provider", "name", "version", "stage", "config", "cache"];

/// A route with `route_type`.
pub(super) fn route(at: At<RawRoute>, reading: &mut Reading<'_>) -> Option<At<RawEndpoint>> {
    let spot = at.spot;
    let raw = at.value;
    for (key, spot) in [
        ("task_type", raw.task_type.as_ref().map(|task| task.spot)),
        ("destinations", raw.destinations.as_ref().and_then(|list| list.first()).map(|each| each.spot)),
    ] {
        if let Some(spot) = spot {
            reading.error(spot, Diagnostic::new(format!("`{key}` stands beside `route_type`")).expected("one of the two"));
        }
    }
    if raw.route_type.is_none() && !reading.is_damaged(spot) {
        let expected = "`llm/v1/chat`, `llm/v1/completions`, `llm/v1/embeddings` or `mlflow-model`";
        reading.error(spot, Diagnostic::new("`route_type` is missing").expected(expected));
    }
    if raw.model.is_none() && !reading.is_damaged(spot) {
        reading.error(spot, Diagnostic::new("the route has no model").expected("`model`"));
        reading.damage(spot);
    }
    let registered = raw.route_type.as_ref().is_some_and(|word| matches!(word.value, RawRouteType::Model));
    let model = raw.model.as_ref().and_then(|model| lower_model(model, registered, raw.config.as_ref(), reading));
    if raw.model.is_some() && model.is_none() {
        reading.damage(spot);
    }
    let endpoint = RawEndpoint {
        name: raw.name,
        endpoint_type: raw.route_type.map(|word| word.with(task(word.value))),
        path: raw.endpoint,
        model,
        limit: raw.rate_limit.map(|limit| {
            let RawRateLimit { calls, period } = limit.value;
            At::new(RawLimit { calls, renewal_period: period, key: None }, limit.spot)
        }),
        ..RawEndpoint::default()
    };
    Some(At::new(endpoint, spot))
}

/// The provider that serves models of a registry.
pub(super) fn registry() -> String {
    PROVIDERS.iter().find(|row| row.kind == Kind::Models).map(|row| row.name.to_owned()).unwrap_or_default()
}

fn task(word: RawRouteType) -> RawTask {
    match word {
        RawRouteType::Chat => RawTask::Chat,
        RawRouteType::Complete => RawTask::Complete,
        RawRouteType::Embed => RawTask::Embed,
        RawRouteType::Model => RawTask::Predict,
    }
}

/// An item of `model_endpoints:`.
pub(super) fn model_endpoint(at: At<RawModelEndpoint>, reading: &mut Reading<'_>) -> At<RawEndpoint> {
    let RawModelEndpoint { name, routes } = at.value;
    if routes.is_empty() && !reading.is_damaged(at.spot) {
        reading.error(at.spot, Diagnostic::new("`routes` is empty").expected("at least one model"));
        reading.damage(at.spot);
    }
    let deployment = |route: At<RawModelRoute>| {
        let spot = route.spot;
        let route = route.value;
        let provider = Some(At::new(registry(), spot));
        let model = route.model_uri.map(|uri| At::new(RawModel { provider, uri: Some(uri), ..RawModel::default() }, spot));
        At::new(RawDeployment { alias: route.alias, when: route.model_request_condition, model, ..RawDeployment::default() }, spot)
    };
    let endpoint = RawEndpoint {
        name,
        endpoint_type: Some(At::new(RawTask::Predict, at.spot)),
        deployments: Some(routes.into_iter().map(deployment).collect()),
        ..RawEndpoint::default()
    };
    At::new(endpoint, at.spot)
}

fn lower_model(tree: &Tree, registered: bool, config: Option<&Tree>, reading: &mut Reading<'_>) -> Option<At<RawModel>> {
    let raw: RawOlderModel = match bind(tree) {
        Ok(raw) => raw,
        Err(error) => {
            reading.error(tree.spot, Diagnostic::new(format!("the model does not fit its schema: {error}")));
            return None;
        }
    };
    let provider = match &raw.provider {
        Some(provider) => provider.clone(),
        None if registered => At::new(registry(), tree.spot),
        None => {
            if !reading.is_damaged(tree.spot) {
                reading.error(tree.spot, Diagnostic::new("`provider` is missing").expected("who serves the model, for example `openai`"));
            }
            return None;
        }
    };
    let mut sorted =
        Sorted { owner: tree.spot, provider: provider::find(&provider.value), config: Entries::new(), parameters: Entries::new() };
    sorted.model(tree, reading);
    sorted.parameters(config.and_then(Tree::entries).into_iter().flatten());
    let uri = uri(&raw, registered, &sorted, tree, reading);
    let name = raw.name.filter(|_| uri.is_none());
    let model = RawModel {
        provider: Some(provider),
        name,
        uri,
        config: Some(At::new(Any::Map(sorted.config), tree.spot)),
        parameters: Some(At::new(Any::Map(sorted.parameters), tree.spot)),
        ..RawModel::default()
    };
    Some(At::new(model, tree.spot))
}

/// What stands under `model`, sorted by what it is for.
struct Sorted {
    owner: Spot,
    provider: Option<&'static Provider>,
    config: Entries,
    parameters: Entries,
}

impl Sorted {
    fn model(&mut self, tree: &Tree, reading: &mut Reading<'_>) {
        for (key, value) in tree.entries().into_iter().flatten() {
            match &value.value {
                Any::Map(block) if key.value == "config" => block.iter().for_each(|(key, value)| self.config(key, value, reading)),
                // `config` of bedrock has a field of such a name itself.
                Any::Map(block) if key.value.ends_with("_config") && self.sets(key).is_none() => {
                    block.iter().for_each(|(key, value)| self.credential(key, value, reading));
                }
                Any::Null | Any::Bool(_) | Any::Number(_) | Any::Text(_) | Any::List(_) | Any::Map(_) => {
                    if !OWN.contains(&key.value.as_str()) {
                        self.credential(key, value, reading);
                    }
                }
            }
        }
    }

    fn sets(&self, key: &At<String>) -> Option<Sets> {
        self.provider?.field(&key.value)
    }

    /// What can only be a credential or an address.
    fn credential(&mut self, key: &At<String>, value: &Tree, reading: &mut Reading<'_>) {
        match self.provider {
            // The provider's own error says enough.
            None => {}
            Some(provider) if fields::takes(provider, &key.value) => self.config.push((key.clone(), value.clone())),
            Some(provider) => reading.unknown_key(self.owner, key, &fields::known(provider), true),
        }
    }

    /// What may be a credential, an address or a default parameter.
    fn config(&mut self, key: &At<String>, value: &Tree, reading: &mut Reading<'_>) {
        let known = self.provider.map(fields::known).unwrap_or_default();
        if self.provider.is_some_and(|provider| fields::takes(provider, &key.value)) {
            self.config.push((key.clone(), value.clone()));
        } else if suggest::near(&key.value, &known).is_some() {
            reading.unknown_key(self.owner, key, &known, true);
        } else {
            let mut value = value.clone();
            if reading.expand_all(&mut value) {
                self.parameters.push((key.clone(), value));
            }
        }
    }

    /// Default parameters of the route; the model's own win.
    fn parameters<'a>(&mut self, entries: impl Iterator<Item = &'a (At<String>, Tree)>) {
        for (key, value) in entries {
            if !self.parameters.iter().any(|(own, _)| own.value == key.value) {
                self.parameters.push((key.clone(), value.clone()));
            }
        }
    }

    fn has_address(&self) -> bool {
        self.config.iter().any(|(key, _)| self.sets(key) == Some(Sets::ApiBase))
    }
}

/// The URI of a registered model: its name with a version or a stage.
fn uri(raw: &RawOlderModel, registered: bool, sorted: &Sorted, tree: &Tree, reading: &mut Reading<'_>) -> Option<At<String>> {
    if let (Some(version), Some(_)) = (&raw.version, &raw.stage) {
        reading.error(version.spot, Diagnostic::new("`version` stands beside `stage`").expected("one of the two"));
    }
    let is_models = sorted.provider.is_some_and(|provider| provider.kind == Kind::Models);
    if !registered || !is_models || sorted.has_address() {
        for at in raw.version.iter().chain(&raw.stage) {
            let diagnostic = Diagnostic::new("only a registered model has a version or a stage");
            reading.error(at.spot, diagnostic.expected("`route_type: mlflow-model` and no address"));
        }
        return None;
    }
    let Some(name) = &raw.name else {
        if !reading.is_damaged(tree.spot) {
            reading.error(tree.spot, Diagnostic::new("`name` is missing").expected("the name of the registered model"));
        }
        return None;
    };
    let which = match (&raw.version, &raw.stage) {
        (Some(version), _) if version.value == "latest" || version.value.parse::<u64>().is_ok_and(|number| number > 0) => {
            version.value.clone()
        }
        (Some(version), _) => {
            reading.wrong(version.spot, "version", "a version's number or `latest`");
            return None;
        }
        (None, Some(stage)) => match STAGES.iter().find(|word| word.eq_ignore_ascii_case(&stage.value)) {
            Some(word) => (*word).to_owned(),
            None if stage.value.eq_ignore_ascii_case("latest") => "latest".to_owned(),
            None => {
                reading.wrong_word(stage.spot, "stage", &stage.value, &STAGES);
                return None;
            }
        },
        (None, None) => "latest".to_owned(),
    };
    Some(name.with(format!("models:/{}/{which}", name.value)))
}
