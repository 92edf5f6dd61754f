//! What a registry answers, as it stands in the JSON, and what is made of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::config::Stage;

/// A version of a registered model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The model's name.
    pub name: String,
    /// The version's number.
    #[serde(deserialize_with = "number")]
    pub version: u32,
    /// When it was made, in milliseconds since 1970; tells it from one of a model that had its name before.
    #[serde(default, rename = "creation_timestamp", deserialize_with = "number")]
    pub created: i64,
    /// The stage; `None` where the registry has none of that name.
    #[serde(default, rename = "current_stage", deserialize_with = "stage")]
    pub stage: Option<Stage>,
    /// Where it was registered from.
    #[serde(default)]
    pub source: String,
    /// The run that made it.
    #[serde(default)]
    pub run_id: Option<String>,
    /// The logged model that it is.
    #[serde(default)]
    pub model_id: Option<String>,
    /// `READY`, and what else the registry says.
    #[serde(default)]
    pub status: String,
    /// Why it is not ready.
    #[serde(default)]
    pub status_message: String,
    /// The aliases that point to it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What people wrote about it.
    #[serde(default)]
    pub description: String,
    /// Its tags.
    #[serde(default, with = "tags")]
    pub tags: BTreeMap<String, String>,
}

/// A registered model, as a search finds it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RegisteredModel {
    /// Its name.
    pub name: String,
    /// When it was made, in milliseconds since 1970; tells it from one that had its name before.
    #[serde(default, rename = "creation_timestamp", deserialize_with = "number")]
    pub created: i64,
    /// What people wrote about it.
    #[serde(default)]
    pub description: String,
    /// Its tags.
    #[serde(default, with = "tags")]
    pub tags: BTreeMap<String, String>,
    /// Its aliases, and the versions they point to.
    #[serde(default, deserialize_with = "aliases")]
    pub aliases: BTreeMap<String, u32>,
    /// The highest version of each stage.
    #[serde(default, rename = "latest_versions")]
    pub latest: Vec<Version>,
}

#[derive(Deserialize)]
pub(super) struct OneVersion {
    pub(super) model_version: Version,
}

#[derive(Deserialize)]
pub(super) struct Versions {
    #[serde(default)]
    pub(super) model_versions: Vec<Version>,
}

#[derive(Deserialize)]
pub(super) struct Models {
    #[serde(default)]
    pub(super) registered_models: Vec<RegisteredModel>,
    #[serde(default)]
    pub(super) next_page_token: String,
}

#[derive(Deserialize)]
pub(super) struct Download {
    pub(super) artifact_uri: String,
}

#[derive(Deserialize)]
pub(super) struct OneLogged {
    pub(super) model: Logged,
}

#[derive(Deserialize)]
pub(super) struct Logged {
    pub(super) info: LoggedFacts,
}

#[derive(Deserialize)]
pub(super) struct LoggedFacts {
    #[serde(default)]
    pub(super) name: String,
    pub(super) artifact_uri: String,
    #[serde(default)]
    pub(super) status: serde_json::Value,
}

#[derive(Deserialize)]
pub(super) struct OneRun {
    pub(super) run: Run,
}

#[derive(Deserialize)]
pub(super) struct Run {
    pub(super) info: RunFacts,
    #[serde(default)]
    pub(super) outputs: Outputs,
}

#[derive(Deserialize)]
pub(super) struct RunFacts {
    pub(super) artifact_uri: String,
}

#[derive(Default, Deserialize)]
pub(super) struct Outputs {
    #[serde(default)]
    pub(super) model_outputs: Vec<Output>,
}

#[derive(Deserialize)]
pub(super) struct Output {
    pub(super) model_id: String,
}

/// A refusal.
#[derive(Default, Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) error_code: String,
    #[serde(default)]
    pub(super) message: String,
}

#[derive(Deserialize)]
struct Alias {
    alias: String,
    #[serde(deserialize_with = "number")]
    version: u32,
}

/// Some servers write 64-bit numbers, and all of them versions, as text.
fn number<'de, D: Deserializer<'de>, N: std::str::FromStr + TryFrom<i64>>(deserializer: D) -> Result<N, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(i64),
        Text(String),
    }
    let read = match Either::deserialize(deserializer)? {
        Either::Number(number) => N::try_from(number).ok(),
        Either::Text(text) => text.parse().ok(),
    };
    read.ok_or_else(|| D::Error::custom("no whole number within its range"))
}

fn stage<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Stage>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.as_deref().and_then(Stage::named))
}

fn aliases<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, u32>, D::Error> {
    Ok(Vec::<Alias>::deserialize(deserializer)?.into_iter().map(|alias| (alias.alias, alias.version)).collect())
}

/// Tags are pairs on the wire.
mod tags {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Tag {
        key: String,
        #[serde(default)]
        value: String,
    }

    pub(super) fn serialize<S: Serializer>(tags: &BTreeMap<String, String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(tags.iter().map(|(key, value)| Tag { key: key.clone(), value: value.clone() }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
        Ok(Vec::<Tag>::deserialize(deserializer)?.into_iter().map(|tag| (tag.key, tag.value)).collect())
    }
}
