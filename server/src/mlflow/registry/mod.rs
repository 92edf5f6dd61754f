//! The registry, asked over REST: which version a reference means now, and where its files are. Keeps no files.

use std::{fmt, sync::Arc};

use flowgate_proto::v1::ErrorReason;
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::{
    config::{Location, ModelUri, Pick, RelativePath, suggest},
    error::{Error, Result},
    upstream::control::Fetch,
};

mod answers;
mod ask;
pub(super) mod memory;
mod reach;
mod servers;

pub use self::{
    answers::{RegisteredModel, Version},
    memory::Memory,
    reach::Reach,
    servers::{Server, Servers},
};

use self::{
    answers::{Download, Logged, Models, OneLogged, OneRun, OneVersion, Versions},
    ask::ask,
};

/// How many models a search takes at most, and how many it asks for at once.
const MOST_MODELS: usize = 10_000;
const PAGE: &str = "200";
/// How many addresses may lead from one to another until there are files.
const MOST_HOPS: u8 = 4;

/// Asks the servers of models.
#[derive(Clone)]
pub struct Registry {
    servers: Arc<Servers>,
    fetch: Fetch,
}

/// What a reference means at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The reference.
    pub uri: ModelUri,
    /// The version, where a registered model was named.
    pub version: Option<Version>,
    /// Where the files are.
    pub location: Location,
    /// What names these files for ever, where something does: they need not be asked for again.
    pub identity: Option<String>,
}

impl Registry {
    /// Over these servers.
    pub fn new(servers: Arc<Servers>, fetch: Fetch) -> Self {
        Self { servers, fetch }
    }

    /// What a reference means now. Asks nobody where it names the place itself.
    ///
    /// # Errors
    /// `PROVIDER_NOT_FOUND` for what the registry does not know; `GATEWAY_NOT_SERVING` for a version that is not ready, or when there is no
    /// server; `PROVIDER_CREDENTIAL_REJECTED`, `PROVIDER_UNAVAILABLE`, `PROVIDER_TIMEOUT`, `PROVIDER_FAILED`, `PROVIDER_BAD_ANSWER` as the
    /// server has it.
    pub async fn resolve(&self, uri: &ModelUri) -> Result<Resolved> {
        let (version, location, identity, path) = match uri {
            ModelUri::Registered { name, pick, path } => {
                let version = self.version(name, pick).await?;
                let location = self.download(&version).await?;
                let (server, number, created) = (self.servers.registry()?.address(), version.version, version.created);
                let identity = format!("{server} models:/{name}/{number} {created}");
                (Some(version), location, Some(identity), path.as_ref())
            }
            ModelUri::Logged { id, path } => {
                let location = self.files_of_logged(id).await?;
                let identity = format!("{} models:/{id}", self.servers.tracking()?.address());
                (None, location, Some(identity), path.as_ref())
            }
            ModelUri::Run { id, path } => {
                let (location, logged) = self.files_of_run(id, path).await?;
                let tracking = self.servers.tracking()?.address();
                (None, location, logged.map(|id| format!("{tracking} models:/{id}")), None)
            }
            ModelUri::Stored(location) => (None, location.clone(), None, None),
        };
        let (location, identity) = match path {
            None => (location, identity),
            Some(path) => (below(&location, path)?, identity.map(|identity| format!("{identity} {path}"))),
        };
        Ok(Resolved { uri: uri.clone(), version, location, identity })
    }

    /// The version that a name and a pick mean now; it is ready.
    async fn version(&self, name: &str, pick: &Pick) -> Result<Version> {
        let version = self.picked(name, pick).await?;
        // An old registry says no status at all.
        if version.status.is_empty() || version.status == "READY" {
            return Ok(version);
        }
        let (number, status) = (version.version, &version.status);
        let message = format!("version {number} of model `{name}` is not ready: the registry says {status}; wait, or register it anew");
        Err(Error::new(ErrorReason::GatewayNotServing, message).because(version.status_message.clone()))
    }

    /// Why nothing was found of a reference: its model is not there itself, or has not what was picked, as the error says. Names like its own
    /// are looked for where it `may_be_misspelt`. All this is more to be asked, which may take its time or fail.
    async fn explained(&self, uri: &ModelUri, error: Error, may_be_misspelt: bool) -> Error {
        let (ModelUri::Registered { name, .. }, Ok(server)) = (uri, self.servers.registry()) else { return error };
        let found: Result<IgnoredAny> = ask(&self.fetch, server, "registered-models/get", &[("name", name)], "such model").await;
        if !found.is_err_and(|missing| missing.reason() == ErrorReason::ProviderNotFound) {
            return error;
        }
        let mut others = Vec::new();
        if may_be_misspelt {
            let page: Result<Models> = ask(&self.fetch, server, "registered-models/search", &[("max_results", PAGE)], "models").await;
            others = page.map(|page| page.registered_models).unwrap_or_default();
        }
        let names: Vec<&str> = others.iter().map(|model| model.name.as_str()).collect();
        let advice = suggest::nearest(name, &names).unwrap_or_else(|| "correct the name, or register it".to_owned());
        let message = format!("the registry at {} has no model `{name}`; {advice}", server.address());
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        Error::new(ErrorReason::ProviderNotFound, message).because(cause)
    }

    async fn picked(&self, name: &str, pick: &Pick) -> Result<Version> {
        let model = format!("model `{name}`");
        Ok(match pick {
            Pick::Version(number) => {
                let (number, what) = (number.to_string(), format!("version {number} of {model}"));
                let query = [("name", name), ("version", &*number)];
                ask::<OneVersion>(&self.fetch, self.servers.registry()?, "model-versions/get", &query, &what).await?.model_version
            }
            Pick::Alias(alias) => {
                let what = format!("alias `{alias}` of {model}");
                let query = [("name", name), ("alias", &**alias)];
                ask::<OneVersion>(&self.fetch, self.servers.registry()?, "registered-models/alias", &query, &what).await?.model_version
            }
            Pick::Latest => self.highest(name, None).await?,
            Pick::Stage(stage) => self.highest(name, Some(stage.name())).await?,
        })
    }

    /// What errors call the server of registered models.
    fn named(&self) -> String {
        self.servers.registry().map_or_else(|_| "the registry".to_owned(), Server::named)
    }

    async fn highest(&self, name: &str, stage: Option<&str>) -> Result<Version> {
        let (path, what) = ("registered-models/get-latest-versions", format!("model `{name}`"));
        let query: Vec<_> = [Some(("name", name)), stage.map(|stage| ("stages", stage))].into_iter().flatten().collect();
        let found: Versions = ask(&self.fetch, self.servers.registry()?, path, &query, &what).await?;
        let highest = found.model_versions.into_iter().max_by_key(|version| version.version);
        highest.ok_or_else(|| {
            let message = match stage {
                Some(stage) => format!("{what} has no version in stage {stage}; move one there, or name a version"),
                None => format!("{what} has no version yet; register one"),
            };
            Error::new(ErrorReason::ProviderNotFound, message)
        })
    }

    /// Where the files of a version are.
    async fn download(&self, version: &Version) -> Result<Location> {
        let (number, what) = (version.version.to_string(), format!("version {} of model `{}`", version.version, version.name));
        let query = [("name", &*version.name), ("version", &*number)];
        let answer: Download = ask(&self.fetch, self.servers.registry()?, "model-versions/get-download-uri", &query, &what).await?;
        self.follow(&answer.artifact_uri, &what).await
    }

    /// Old servers answer with where a version was registered from, which may be a logged model or a run.
    async fn follow(&self, address: &str, what: &str) -> Result<Location> {
        let mut address = address.to_owned();
        for _ in 0..MOST_HOPS {
            let unusable = |error: &dyn fmt::Display| {
                let message = format!("the registry says that {what} is at an address that cannot be used: {error}");
                Error::new(ErrorReason::GatewayNotServing, message)
            };
            let uri: ModelUri = address.parse().map_err(|error| unusable(&error))?;
            let (next, path) = match uri {
                ModelUri::Stored(location) => return Ok(location),
                ModelUri::Logged { id, path } => (self.logged(&id).await?.info.artifact_uri, path),
                ModelUri::Run { id, path } => (self.run_files(&id, &path).await?.0, None),
                ModelUri::Registered { .. } => return Err(unusable(&"it names a registered model again")),
            };
            address = match path {
                None => next,
                Some(path) => format!("{}/{path}", next.trim_end_matches('/')),
            };
        }
        let message = format!("the addresses of {what} lead from one to another without end; register it anew");
        Err(Error::new(ErrorReason::GatewayNotServing, message))
    }

    async fn logged(&self, id: &str) -> Result<Logged> {
        let what = format!("logged model `{id}`");
        let path = format!("logged-models/{id}");
        let found: OneLogged = ask(&self.fetch, self.servers.tracking()?, &path, &[], &what).await?;
        // Either word of the protocol's enum, or its number.
        let is_failed =
            matches!(found.model.info.status.as_str(), Some("LOGGED_MODEL_PENDING" | "LOGGED_MODEL_UPLOAD_FAILED" | "PENDING" | "FAILED"))
                || matches!(found.model.info.status.as_u64(), Some(1 | 3));
        if is_failed {
            let message = format!("{what} is not ready: it was not logged to its end; log it anew");
            return Err(Error::new(ErrorReason::GatewayNotServing, message));
        }
        Ok(found.model)
    }

    async fn files_of_logged(&self, id: &str) -> Result<Location> {
        let model = self.logged(id).await?;
        self.follow(&model.info.artifact_uri, &format!("logged model `{id}`")).await
    }

    /// Where they are, and which logged model it is.
    async fn files_of_run(&self, id: &str, path: &RelativePath) -> Result<(Location, Option<String>)> {
        let (address, logged) = self.run_files(id, path).await?;
        Ok((self.follow(&address, &format!("`{path}` of run `{id}`")).await?, logged))
    }

    /// Since MLflow 3 a run's models are logged models of that name, and only older ones are folders of the run.
    async fn run_files(&self, id: &str, path: &RelativePath) -> Result<(String, Option<String>)> {
        let found: OneRun = ask(&self.fetch, self.servers.tracking()?, "runs/get", &[("run_id", id)], &format!("run `{id}`")).await?;
        // The last one that was logged under a name is the one that is meant.
        for output in found.run.outputs.model_outputs.iter().rev() {
            let model = self.logged(&output.model_id).await?;
            if model.info.name == path.as_str() {
                return Ok((model.info.artifact_uri, Some(output.model_id.clone())));
            }
        }
        Ok((format!("{}/{path}", found.run.info.artifact_uri.trim_end_matches('/')), None))
    }

    /// The registered models that a filter of MLflow's (`name LIKE 'a%'`, `tags.team = 'ml'`) lets through; all without one.
    ///
    /// # Errors
    /// As [`Registry::resolve`], and `GATEWAY_NOT_SERVING` when there are more than 10,000.
    pub async fn models(&self, filter: Option<&str>) -> Result<Vec<RegisteredModel>> {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let query = [("max_results", PAGE), ("filter", filter.unwrap_or_default()), ("page_token", &*token)];
            let query: Vec<_> = query.into_iter().filter(|(_, value)| !value.is_empty()).collect();
            let page: Models = ask(&self.fetch, self.servers.registry()?, "registered-models/search", &query, "such filter").await?;
            let is_last = page.next_page_token.is_empty() || page.next_page_token == token;
            found.extend(page.registered_models);
            if found.len() > MOST_MODELS {
                let message = "the filter finds more than 10,000 models; narrow it";
                return Err(Error::new(ErrorReason::GatewayNotServing, message));
            }
            if is_last {
                return Ok(found);
            }
            token = page.next_page_token;
        }
    }
}

fn below(location: &Location, path: &RelativePath) -> Result<Location> {
    location.join(path).map_err(|error| Error::new(ErrorReason::GatewayNotServing, error.to_string()))
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("servers", &self.servers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
