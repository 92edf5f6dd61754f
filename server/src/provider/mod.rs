//! Providers as rows of data: who they are, where, how they authenticate, and which dialect they speak.

use flowgate_proto::v1::Capability;

use crate::{
    dialect::{Dialect, Quirks, Settings},
    event::Task,
};

mod auth;
#[cfg(test)]
mod capabilities;
mod codes;
mod field;
mod kinds;
pub mod models;
mod registry;
mod settings;

pub use auth::{Auth, Grants};
pub use field::{Check, Field, Flavour, Sets, Setting};
pub use registry::PROVIDERS;

/// One provider.
#[derive(Clone, Copy, Debug)]
pub struct Provider {
    /// The name in `provider:`, lower case with `-`.
    pub name: &'static str,
    /// Other spellings that load.
    pub aliases: &'static [&'static str],
    /// Where it is.
    pub kind: Kind,
    /// The address of its API, with `{name}` where a setting stands; empty when the operator must give one.
    pub base: &'static str,
    /// The environment variable that holds its key by custom, for messages; empty when there is none.
    pub key_env: &'static str,
    /// How a credential is sent.
    pub auth: Auth,
    /// How it gives credentials that expire to who has no key; `None` when it does not.
    pub grant: Option<Grants>,
    /// Whether calls fail without a credential, so that `start` asks for one.
    pub needs_key: bool,
    /// The dialect it speaks for LLM tasks; `None` when this build does not speak it.
    pub llm: Option<&'static dyn Dialect>,
    /// Why no build will speak its protocol and what to name in its stead, for messages; `None` where a dialect may come.
    pub instead: Option<&'static str>,
    /// The dialect it speaks for predictions.
    pub predict: Option<&'static dyn Dialect>,
    /// The tasks it can serve.
    pub tasks: &'static [Task],
    /// The fields of `config` that it takes.
    pub fields: &'static [Field],
    /// What differs from the plain protocol.
    pub quirks: Quirks,
    /// What its models can do, as far as the provider decides it.
    pub capabilities: &'static [Capability],
}

/// Where a provider is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// At an address.
    Remote,
    /// A scoring server, or a model that a `uri` names.
    Models,
    /// In this process, made up.
    Mock,
}

/// The row of a provider, by name or alias; upper case and `_` for `-` are accepted as MLflow does.
pub fn find(name: &str) -> Option<&'static Provider> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    PROVIDERS.iter().find(|provider| provider.name == name || provider.aliases.contains(&name.as_str()))
}

/// The row of whoever stands at an `oip` address.
pub fn inference() -> Option<&'static Provider> {
    find(registry::INFERENCE)
}

impl Provider {
    /// What a field of `config` sets: one of the row's own, or `api_key` and `api_base` with or without the provider's name before them.
    pub fn field(&self, name: &str) -> Option<Sets> {
        if let Some(field) = self.fields.iter().find(|field| field.name == name) {
            return Some(field.sets);
        }
        let own = self.name.replace('-', "_");
        let name = name.strip_prefix(&own).and_then(|rest| rest.strip_prefix('_')).unwrap_or(name);
        match name {
            "api_key" if self.kind != Kind::Mock => Some(Sets::ApiKey),
            "api_base" if self.kind != Kind::Mock => Some(Sets::ApiBase),
            _ => None,
        }
    }

    /// The settings that its fields set, each once.
    pub fn settings(&self) -> Vec<&'static Setting> {
        let mut settings: Vec<&'static Setting> = Vec::new();
        for field in self.fields {
            if let Sets::Setting(setting) = field.sets
                && !settings.contains(&setting)
            {
                settings.push(setting);
            }
        }
        settings
    }

    /// The settings that its address holds.
    pub fn placed(&self) -> impl Iterator<Item = &'static Setting> {
        let stands = |setting: &&'static Setting| setting.spots().iter().any(|spot| self.base.contains(spot));
        self.settings().into_iter().filter(stands)
    }

    /// Its address with the values of settings in their places.
    ///
    /// # Errors
    /// The setting that has no value.
    pub fn address(&self, settings: &Settings) -> Result<String, &'static Setting> {
        self.placed().try_fold(self.base.to_owned(), |address, setting| {
            let value = settings.get(setting.name);
            if value.is_empty() {
                return Err(setting);
            }
            let [plain, host] = setting.spots();
            let address = address.replace(&plain, value.trim_end_matches('/'));
            Ok(setting.host.map_or(address.clone(), |make| address.replace(&host, &make(value))))
        })
    }

    /// The dialect it speaks for a task; `None` when this build cannot serve the task by it.
    pub fn dialect(&self, task: Task) -> Option<&'static dyn Dialect> {
        let dialect = if task == Task::Predict { self.predict } else { self.llm };
        dialect.filter(|_| self.tasks.contains(&task))
    }
}
