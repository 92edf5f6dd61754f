//! `model.config`: which of its fields the provider takes, and what they set.

use http::{HeaderMap, HeaderName, Uri};
use secrecy::{ExposeSecret as _, SecretString};

use super::{compile, upstream::header_value};
use crate::{
    config::{
        diagnostic::{Diagnostic, Spot},
        reading::{Reading, Secret},
        schema::KEYS,
        suggest,
        tree::{Any, At, Tree},
        units,
    },
    dialect::{
        Credential, Settings,
        templated::{self, Templates},
    },
    expression::Makes,
    provider::{Provider, Sets, Setting, find},
};

/// What `config` sets.
pub(super) struct Fields {
    /// Whose they are.
    pub provider: &'static Provider,
    /// The credentials, of which each call takes one.
    pub credentials: Vec<Credential>,
    /// The field with the key, even if that is not set.
    pub key: Option<At<String>>,
    /// The base address, and where it stands.
    pub base: Option<(Spot, Uri)>,
    /// Headers of every request.
    pub headers: HeaderMap,
    /// Why the deployment cannot be served, if it cannot.
    pub nowhere: Option<String>,
    /// What the dialect, the address and grants read.
    pub settings: Settings,
    /// The templates that the dialect fills.
    pub templates: Templates,
    /// Secrets that a grant reads, by name.
    pub secrets: Vec<(&'static str, SecretString)>,
    /// What came from somewhere else into headers, so that no error may repeat it.
    pub hidden: Vec<SecretString>,
    /// What the addresses say of the setting that hosts hold, and where they stand.
    pub in_hosts: Vec<(Spot, String)>,
    /// The fields that are there, whether what they name is set or not.
    pub given: Vec<At<String>>,
    /// Templates as they are written, and whether each is of answers.
    written: Vec<(bool, At<String>)>,
    /// Fields that this build does not read.
    unread: Vec<At<String>>,
}

/// Reads the fields of `config`; `owner` is the mapping that holds it.
pub(super) fn lower(config: Option<&Tree>, owner: Spot, provider: &'static Provider, reading: &mut Reading<'_>) -> Fields {
    let mut fields = Fields {
        provider,
        credentials: Vec::new(),
        key: None,
        base: None,
        headers: HeaderMap::new(),
        nowhere: None,
        settings: Settings::default(),
        templates: Templates::default(),
        secrets: Vec::new(),
        hidden: Vec::new(),
        in_hosts: Vec::new(),
        given: Vec::new(),
        written: Vec::new(),
        unread: Vec::new(),
    };
    let mut given: Vec<&At<String>> = Vec::new();
    fields.read(config, owner, &mut given, reading);
    fields.check_flavour(&given, reading);
    fields.given = given.into_iter().cloned().collect();
    fields.compile_templates(reading);
    fields
}

/// The row that a flavour in `config` names instead of the provider's own.
pub(super) fn flavoured(config: Option<&Tree>, provider: &'static Provider, reading: &mut Reading<'_>) -> &'static Provider {
    let Some(config) = config else { return provider };
    let entries = || config.entries().into_iter().flatten();
    for (key, value) in entries() {
        let Some(Sets::Flavour(flavour)) = provider.field(&key.value) else { continue };
        let word = reading.plain(value).unwrap_or_default().to_ascii_lowercase();
        let other = flavour.others.iter().find(|other| **other == word).and_then(|other| find(other));
        let Some(other) = other else { return provider };
        for (field, _) in entries().filter(|(field, _)| flavour.only_plain.contains(&field.value.as_str())) {
            misplaced(field, &key.value, &word, &[flavour.plain], reading);
        }
        for field in flavour.needs.iter().filter(|field| !entries().any(|(key, _)| key.value == **field)) {
            let message = format!("`{field}` is missing, which `{}: {word}` needs", key.value);
            reading.error(config.spot, Diagnostic::new(message).expected("text"));
        }
        return other;
    }
    provider
}

fn misplaced(field: &At<String>, key: &str, word: &str, wanted: &[&str], reading: &mut Reading<'_>) {
    let diagnostic = Diagnostic::new(format!("`{}` does not go with `{key}: {word}`", field.value));
    reading.error(field.spot, diagnostic.expected(format!("`{key}` to be {}", suggest::list(wanted))));
}

/// The fields that a provider takes.
pub(super) fn known(provider: &Provider) -> Vec<&'static str> {
    let several = (provider.field("api_key") == Some(Sets::ApiKey)).then_some(KEYS);
    provider.fields.iter().map(|field| field.name).chain(several).collect()
}

/// Whether a provider takes a field: one of its own, or several keys where it takes one.
pub(super) fn takes(provider: &Provider, name: &str) -> bool {
    let one = name.strip_suffix('s').filter(|_| name.ends_with(KEYS));
    provider.field(name).is_some() || one.is_some_and(|one| provider.field(one) == Some(Sets::ApiKey))
}

impl Fields {
    /// Reads the entries of `config`, or of a group within.
    fn read<'a>(&mut self, config: Option<&'a Tree>, owner: Spot, given: &mut Vec<&'a At<String>>, reading: &mut Reading<'_>) {
        for (key, value) in config.and_then(Tree::entries).into_iter().flatten() {
            match self.provider.field(&key.value) {
                Some(_) if matches!(value.value, Any::Null) => {}
                Some(Sets::Group) if value.entries().is_some() => self.read(Some(value), value.spot, given, reading),
                // What cannot be called needs nothing: that is what is to be said of it.
                Some(_) if self.provider.instead.is_some() => {}
                Some(sets) => {
                    given.push(key);
                    self.set(key, value, sets, reading);
                }
                None if takes(self.provider, &key.value) => self.set_keys(key, value, reading),
                None => reading.unknown_key(owner, key, &known(self.provider), false),
            }
        }
    }

    /// The field of this name, if it is there.
    pub(super) fn given(&self, name: &str) -> Option<&At<String>> {
        self.given.iter().find(|given| given.value == name)
    }

    /// What the file does not say of the settings, the addresses in it, the environment or the row may.
    pub(super) fn fill_settings(&mut self, bases: &[(Spot, Uri)], reading: &mut Reading<'_>) {
        for setting in self.provider.settings() {
            let told = read_off(setting, bases);
            if self.settings.get(setting.name).is_empty() {
                let told = told.first().map(|(_, told)| told.clone());
                let told = told.or_else(|| setting.env.iter().find_map(|env| reading.resolver.variable(env)));
                let value = told.unwrap_or_else(|| setting.default.to_owned());
                self.settings.0.retain(|(name, _)| *name != setting.name);
                self.settings.0.push((setting.name, value));
            }
            self.in_hosts.extend(told);
        }
    }

    /// What has no body can only be asked by a query, which a template makes.
    pub(super) fn check_query(&self, reading: &mut Reading<'_>) {
        if self.settings.get(templated::METHOD) != templated::GET {
            return;
        }
        if let (Some(method), None) = (self.given(templated::METHOD), self.given(templated::REQUEST)) {
            let diagnostic = Diagnostic::new("`method: GET` sends no body, and nothing says what stands in the query");
            reading.error(
                method.spot,
                diagnostic.expected("`request`, a template of an object, for example `{\"x\": {{ rows[0][0]|tojson }}}`"),
            );
        }
        if let Some(key) = self.given(templated::CONTENT_TYPE) {
            let diagnostic = Diagnostic::new("`content_type` does nothing beside `method: GET`, which sends no body");
            reading.error(key.spot, diagnostic.expected("one of the two"));
        }
    }

    fn set_setting(&mut self, setting: &'static Setting, key: &At<String>, value: &Tree, reading: &mut Reading<'_>) {
        let text = reading.plain(value);
        if text.as_ref().is_some_and(String::is_empty) {
            reading.empty(value.spot, &key.value);
        }
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            self.nowhere = Some(format!("`{}` is not set", key.value));
            return;
        };
        if !setting.words.is_empty() && !setting.words.contains(&text.as_str()) {
            return reading.wrong_word(value.spot, &key.value, &text, setting.words);
        }
        if let Some((_, expected)) = setting.check.filter(|(is_fit, _)| !is_fit(&text)) {
            return reading.wrong(value.spot, &key.value, expected);
        }
        if !self.settings.get(setting.name).is_empty() {
            return twice(key, reading);
        }
        self.settings.0.push((setting.name, text));
    }

    fn set(&mut self, key: &At<String>, value: &Tree, sets: Sets, reading: &mut Reading<'_>) {
        if let Sets::Later(_) = sets {
            self.unread.push(key.clone());
            return check_set(value, &key.value, reading);
        }
        if let Sets::Setting(setting) = sets {
            return self.set_setting(setting, key, value, reading);
        }
        let Some(text) = value.text().map(|text| value.with(text.to_owned())) else {
            let message = format!("`{}` is {}", key.value, value.kind());
            reading.error(value.spot, Diagnostic::new(message).expected("text").suggest(Some("put quotes around it")));
            return;
        };
        match sets {
            Sets::ApiKey => self.set_key(key, &text, reading),
            Sets::ApiBase => self.set_base(key, value, reading),
            Sets::Header(name) => {
                let secret = self.secret(&text, &key.value, reading);
                self.hidden.extend(secret.clone().filter(|secret| is_from_elsewhere(secret, &text)));
                let value = secret.and_then(|secret| header_value("", &secret, &text, &key.value, reading));
                self.headers.extend(value.map(|value| (HeaderName::from_static(name), value)));
            }
            Sets::Flavour(flavour) => {
                let word = reading.plain(value).unwrap_or_default().to_ascii_lowercase();
                let words: Vec<_> = std::iter::once(&flavour.plain).chain(flavour.others).copied().collect();
                if !words.contains(&word.as_str()) {
                    reading.wrong_word(value.spot, &key.value, &word, &words);
                }
            }
            Sets::Secret(name) => {
                if self.secrets.iter().any(|(known, _)| *known == name) {
                    twice(key, reading);
                }
                let secret = self.secret(&text, &key.value, reading);
                self.secrets.extend(secret.map(|secret| (name, secret)));
            }
            Sets::Template(is_answer) => self.written.push((is_answer, text)),
            Sets::Later(_) | Sets::Setting(_) | Sets::Group => {}
        }
    }

    /// What a template is to make, other fields say.
    fn compile_templates(&mut self, reading: &mut Reading<'_>) {
        let told = self.settings.get(templated::CONTENT_TYPE);
        // It may be any, where what it names is not set, or is no content type: then that is what is to be said.
        let is_unknown = told.is_empty() && self.given(templated::CONTENT_TYPE).is_some();
        let body = match self.settings.get(templated::METHOD) {
            templated::GET => Makes::Query,
            _ if !is_unknown && templated::is_json_body(told) => Makes::Json,
            _ => Makes::Text,
        };
        for (is_answer, text) in std::mem::take(&mut self.written) {
            let made = compile::fill(&text, if is_answer { Makes::Predictions } else { body }, reading);
            *if is_answer { &mut self.templates.response } else { &mut self.templates.request } = made;
        }
    }

    fn set_key(&mut self, key: &At<String>, text: &At<String>, reading: &mut Reading<'_>) {
        self.check_second(key, reading);
        let credential = self.credential(key, text, reading);
        self.credentials.extend(credential);
    }

    /// Several keys: a list of secrets, none of them twice.
    fn set_keys(&mut self, key: &At<String>, value: &Tree, reading: &mut Reading<'_>) {
        if let Any::Null = value.value {
            return;
        }
        self.check_second(key, reading);
        let items = match &value.value {
            Any::List(items) if !items.is_empty() => items,
            Any::List(_) => {
                reading.error(value.spot, Diagnostic::new(format!("`{}` is empty", key.value)).expected("at least one key"));
                return;
            }
            Any::Null | Any::Bool(_) | Any::Number(_) | Any::Text(_) | Any::Map(_) => {
                let diagnostic = Diagnostic::new(format!("`{}` is {}", key.value, value.kind())).expected("a list of keys");
                reading.error(value.spot, diagnostic.suggest(Some("put brackets around it, or write `api_key`")));
                return;
            }
        };
        for item in items {
            let Some(text) = item.text().map(|text| item.with(text.to_owned())) else {
                let diagnostic = Diagnostic::new(format!("`{}` holds {}", key.value, item.kind())).expected("text");
                reading.error(item.spot, diagnostic.suggest(Some("put quotes around it")));
                continue;
            };
            let Some(credential) = self.credential(key, &text, reading) else { continue };
            if self.credentials.iter().any(|other| other.fingerprint() == credential.fingerprint()) {
                let diagnostic = Diagnostic::new(format!("`{}` holds the same key twice", key.value));
                reading.error(item.spot, diagnostic.expected("another key, or this one left out"));
            }
            self.credentials.push(credential);
        }
    }

    fn check_second(&mut self, key: &At<String>, reading: &mut Reading<'_>) {
        if self.key.is_some() {
            let diagnostic = Diagnostic::new(format!("`{}` is a second key for the same model", key.value));
            reading.error(key.spot, diagnostic.expected("one key").suggest(Some("list several in `api_keys`")));
        }
        self.key.get_or_insert_with(|| key.clone());
    }

    fn credential(&mut self, key: &At<String>, text: &At<String>, reading: &mut Reading<'_>) -> Option<Credential> {
        let secret = self.secret(text, &key.value, reading)?;
        let (header, prefix) = self.provider.auth.header()?;
        header_value(prefix, &secret, text, &key.value, reading)?;
        Some(Credential::Header { header, prefix, secret })
    }

    fn set_base(&mut self, key: &At<String>, value: &Tree, reading: &mut Reading<'_>) {
        let Some(text) = reading.plain(value) else {
            self.nowhere = Some(format!("the address in `{}` is not set", key.value));
            return;
        };
        match units::url(&text) {
            Ok(_) if self.base.is_some() => {
                let diagnostic = Diagnostic::new(format!("`{}` is a second address for the same model", key.value));
                reading.error(key.spot, diagnostic.expected("one address").suggest(Some("list equal replicas in `urls`")));
            }
            Ok(uri) => self.base = Some((value.spot, uri)),
            Err(what) => wrong_url(value.spot, &key.value, what, reading),
        }
    }

    fn secret(&mut self, text: &At<String>, key: &str, reading: &mut Reading<'_>) -> Option<SecretString> {
        match reading.secret(text, key) {
            Secret::Is(secret) => Some(secret),
            Secret::Unset => None,
            Secret::Manager(manager) => {
                self.nowhere = Some(in_manager(manager));
                None
            }
        }
    }

    /// Fields that go with another flavour of the API only.
    fn check_flavour(&mut self, given: &[&At<String>], reading: &mut Reading<'_>) {
        for field in self.provider.fields {
            let Sets::Flavour(flavour) = field.sets else { continue };
            for other in given.iter().filter(|key| flavour.only_others.contains(&key.value.as_str())) {
                misplaced(other, field.name, flavour.plain, flavour.others, reading);
            }
        }
        self.check_unread(reading);
    }

    /// What this build does not read is named where the deployment is served all the same.
    fn check_unread(&self, reading: &mut Reading<'_>) {
        if self.provider.llm.is_some() || self.provider.predict.is_some() {
            self.unread.iter().for_each(|key| reading.later(key.spot, key.value.clone()));
        }
    }
}

/// What the addresses say of a setting, each that says anything.
fn read_off(setting: &Setting, bases: &[(Spot, Uri)]) -> Vec<(Spot, String)> {
    let Some(in_host) = setting.in_host else { return Vec::new() };
    bases.iter().filter_map(|(spot, uri)| Some((*spot, in_host(uri.host()?)?))).collect()
}

fn twice(key: &At<String>, reading: &mut Reading<'_>) {
    let diagnostic = Diagnostic::new(format!("`{}` says what another field said before", key.value));
    reading.error(key.spot, diagnostic.expected("one of the two"));
}

/// Whether a secret is not what stands in the file.
pub(super) fn is_from_elsewhere(secret: &SecretString, text: &At<String>) -> bool {
    secret.expose_secret() != text.value
}

/// Lists what is not set in a value that only a later build reads.
fn check_set(value: &Tree, key: &str, reading: &mut Reading<'_>) {
    match &value.value {
        Any::List(items) => items.iter().for_each(|item| check_set(item, key, reading)),
        Any::Map(entries) => entries.iter().for_each(|(key, value)| check_set(value, &key.value, reading)),
        Any::Text(text) => drop(reading.secret(&value.with(text.clone()), key)),
        Any::Null | Any::Bool(_) | Any::Number(_) => {}
    }
}

/// Why a deployment is not served whose secret is in a manager.
pub(super) fn in_manager(manager: &str) -> String {
    format!("its secret is in {manager}, which this build does not read yet; give it by an environment variable or a file")
}

/// Reports an address that is none.
pub(super) fn wrong_url(spot: Spot, key: &str, what: &'static str, reading: &mut Reading<'_>) {
    // What stands before an `@` may be a password, and what looks like no address a key in the wrong place.
    let written = reading.report.written(spot).trim_matches(['"', '\'']);
    let plain = written.is_empty() || written.contains([':', '.', '$']) || key.starts_with("url");
    let shown = if plain && !written.contains('@') { reading.shown(spot) } else { "no base address".to_owned() };
    let diagnostic = Diagnostic::new(format!("`{key}` is {shown}")).expected(units::URL);
    reading.error(spot, diagnostic.suggest(Some(what)));
}
