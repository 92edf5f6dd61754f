//! `flowgate providers`: the rows of providers, all of them or one in detail, for people or for programs. Reads no configuration.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{USAGE, complain, say};
use crate::{
    config::suggest::nearest,
    dialect::Quirks,
    event::Task,
    provider::{self, Field, Grants, PROVIDERS, Provider, Sets, Setting},
};

#[derive(Debug, Args)]
pub(super) struct Providers {
    /// One provider, in detail: its name or an alias.
    name: Option<String>,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// What is told of a row.
#[derive(Serialize)]
struct Told {
    name: &'static str,
    aliases: &'static [&'static str],
    /// The tasks that this build speaks its protocol for.
    tasks: Vec<&'static str>,
    capabilities: Vec<String>,
    /// With `{name}` where a setting stands; empty when the file must give one.
    address: &'static str,
    /// The variable that holds the key by custom; empty when there is none.
    key_variable: &'static str,
    needs_key: bool,
    /// The header that carries the credential; empty when none is sent.
    key_header: String,
    /// How it gives credentials to who has no key; empty when it does not.
    grant: String,
}

/// What is told of one row only.
#[derive(Serialize)]
struct Detail {
    #[serde(flatten)]
    told: Told,
    config: Vec<Key>,
    quirks: Vec<(&'static str, String)>,
}

/// A key of `config`.
#[derive(Serialize)]
struct Key {
    name: &'static str,
    sets: String,
}

pub(super) fn run(providers: &Providers) -> ExitCode {
    match providers.tell() {
        Ok(text) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(what) => {
            complain(&format!("error: {what}\n"));
            ExitCode::from(USAGE)
        }
    }
}

impl Providers {
    fn tell(&self) -> Result<String, String> {
        let Some(name) = &self.name else {
            let rows: Vec<_> = PROVIDERS.iter().map(Told::new).collect();
            return if self.json { json(&rows) } else { Ok(table(&rows)) };
        };
        let Some(row) = provider::find(name) else { return Err(unknown(name)) };
        let detail = Detail::new(row);
        if self.json { json(&detail) } else { Ok(detail.text()) }
    }
}

fn unknown(name: &str) -> String {
    let names: Vec<_> = PROVIDERS.iter().flat_map(|row| row.aliases.iter().chain([&row.name])).copied().collect();
    let advice = nearest(name, &names).unwrap_or_else(|| "`flowgate providers` lists them".to_owned());
    format!("no provider has this name\n    {advice}")
}

fn json(told: &impl Serialize) -> Result<String, String> {
    serde_json::to_string_pretty(told).map(|text| text + "\n").map_err(|error| format!("the rows cannot be written: {error}"))
}

impl Told {
    fn new(row: &'static Provider) -> Self {
        let all = [Task::Chat, Task::Complete, Task::Embed, Task::Predict];
        let served = all.into_iter().filter(|task| row.dialect(*task).is_some());
        let capability = |name: &str| name.trim_start_matches("CAPABILITY_").to_ascii_lowercase();
        Self {
            name: row.name,
            aliases: row.aliases,
            tasks: served.map(|task| task.endpoint_type().rsplit('/').next().unwrap_or_default()).collect(),
            capabilities: row.capabilities.iter().map(|each| capability(each.as_str_name())).collect(),
            address: row.base,
            key_variable: row.key_env,
            needs_key: row.needs_key,
            key_header: row.auth.header().map(|(name, before)| format!("{name}: {before}")).unwrap_or_default().trim_end().to_owned(),
            grant: row.grant.map(grant).unwrap_or_default(),
        }
    }

    /// What stands for a key in one column.
    fn key(&self) -> String {
        let way = self.grant.split(':').next().unwrap_or_default();
        let key =
            if self.needs_key || self.key_variable.is_empty() { self.key_variable.to_owned() } else { format!("[{}]", self.key_variable) };
        [key.as_str(), way].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" or ")
    }
}

/// What follows the colon is for the detail only.
fn grant(grant: Grants) -> String {
    match grant {
        Grants::Aws(service) => format!("AWS: requests are signed for {service}, with keys of `config` or of AWS's own chain"),
        Grants::Google => "Google: `vertex_credentials`, or the application default credentials".to_owned(),
        Grants::Entra(scope) => format!("Entra: a client secret or a federated token file, for {scope}"),
        Grants::Own(path, scope) => format!("OAuth: client credentials at {path} of its host, for {scope}"),
    }
}

fn table(rows: &[Told]) -> String {
    let head = ["NAME", "TASKS", "CAPABILITIES", "KEY", "ADDRESS"].map(str::to_owned);
    let cells = rows.iter().map(|row| {
        let tasks = if row.tasks.is_empty() { "not served yet".to_owned() } else { row.tasks.join(",") };
        [row.name.to_owned(), tasks, row.capabilities.join(","), row.key(), row.address.to_owned()]
    });
    let lines: Vec<_> = std::iter::once(head).chain(cells).collect();
    aligned(&lines)
}

/// Lines of cells, each column as wide as its widest cell.
fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in lines {
        let padded: Vec<_> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

impl Detail {
    fn new(row: &'static Provider) -> Self {
        let keys = row.fields.iter().map(|field| Key { name: field.name, sets: sets(field) });
        Self { told: Told::new(row), config: keys.collect(), quirks: quirks(&row.quirks) }
    }

    fn text(&self) -> String {
        let Told { name, aliases, tasks, capabilities, address, key_variable, needs_key, key_header, grant } = &self.told;
        let key = match (key_variable.is_empty(), needs_key) {
            (true, _) => "optional".to_owned(),
            (false, true) => format!("required; ${key_variable} by custom"),
            (false, false) => format!("optional; ${key_variable} by custom"),
        };
        let facts = [
            ("name", (*name).to_owned()),
            ("also", aliases.join(", ")),
            ("tasks", if tasks.is_empty() { "none: this build does not speak its protocol".to_owned() } else { tasks.join(", ") }),
            ("capabilities", capabilities.join(", ")),
            ("address", if address.is_empty() { "none: the file gives one".to_owned() } else { (*address).to_owned() }),
            ("key", if key_header.is_empty() { String::new() } else { key }),
            ("sent as", key_header.clone()),
            ("without key", grant.clone()),
        ];
        let quirks = self.quirks.iter().map(|(name, value)| (*name, value.clone()));
        let told = facts.into_iter().chain(quirks).filter(|(_, value)| !value.is_empty());
        let mut text = aligned(&told.map(|(name, value)| [name.to_owned(), value]).collect::<Vec<_>>());
        if !self.config.is_empty() {
            let keys: Vec<_> = self.config.iter().map(|key| [format!("  {}", key.name), key.sets.clone()]).collect();
            text = format!("{text}\nconfig\n{}", aligned(&keys));
        }
        text
    }
}

fn sets(field: &Field) -> String {
    match field.sets {
        Sets::ApiKey => "the key; a secret".to_owned(),
        Sets::ApiBase => "the address".to_owned(),
        Sets::Header(name) => format!("the header {name}"),
        Sets::Flavour(flavour) => {
            format!("which API is meant: {}, or that of another provider: {}", flavour.plain, flavour.others.join(", "))
        }
        Sets::Setting(setting) => of_setting(setting),
        Sets::Template(false) => "a template of the request".to_owned(),
        Sets::Template(true) => "a template of the predictions in an answer".to_owned(),
        Sets::Secret(_) => "a secret that gets a credential".to_owned(),
        Sets::Group => "a mapping of further keys".to_owned(),
        Sets::Later(_) => "loads; nothing reads it yet".to_owned(),
    }
}

fn of_setting(setting: &Setting) -> String {
    let Setting { env, default, words, .. } = setting;
    let kind = if words.is_empty() { "text".to_owned() } else { words.join(" or ") };
    let env = (!env.is_empty()).then(|| format!("else ${}", env.join(", $")));
    let default = (!default.is_empty()).then(|| format!("default {default}"));
    [Some(kind), env, default].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// What differs from the plain protocol, as far as a caller or an operator meets it.
fn quirks(quirks: &Quirks) -> Vec<(&'static str, String)> {
    let renamed: Vec<_> = quirks.renames.iter().map(|(from, to)| format!("{from} as {to}")).collect();
    let told = [
        ("refuses", quirks.lacks.join(", ")),
        ("also takes", quirks.takes.join(", ")),
        ("renames", renamed.join(", ")),
        ("models begin", quirks.model_prefix.to_owned()),
        ("max_tokens", quirks.default_max_tokens.map(|most| format!("{most}, where nobody says it")).unwrap_or_default()),
        ("media", if quirks.fetches_media { String::new() } else { "as bytes only: it fetches no addresses".to_owned() }),
    ];
    told.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn tell(name: Option<&str>, json: bool) -> Result<String, String> {
        Providers { name: name.map(str::to_owned), json }.tell()
    }

    #[test]
    fn every_row_is_a_line() {
        let text = tell(None, false).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), PROVIDERS.len() + 1);
        for (line, row) in lines.iter().skip(1).zip(PROVIDERS) {
            assert!(line.starts_with(row.name) && line.ends_with(row.base), "{line}");
        }
        let address = lines[0].find("ADDRESS").unwrap();
        let groq = lines.iter().find(|line| line.starts_with("groq ")).unwrap();
        assert_eq!(groq.find("https://"), Some(address), "{groq}");
        assert!(groq.contains(" chat  ") && groq.contains("stream,tools,") && groq.contains(" GROQ_API_KEY "), "{groq}");
        let palm = lines.iter().find(|line| line.starts_with("palm ")).unwrap();
        assert!(palm.contains("not served yet"), "{palm}");
        let bedrock = lines.iter().find(|line| line.starts_with("bedrock ")).unwrap();
        assert!(bedrock.contains(" [AWS_BEARER_TOKEN_BEDROCK] or AWS "), "{bedrock}");
    }

    #[test]
    fn programs_read_the_same() {
        let rows: Vec<Value> = serde_json::from_str(&tell(None, true).unwrap()).unwrap();
        assert_eq!(rows.len(), PROVIDERS.len());
        let groq = rows.iter().find(|row| row["name"] == "groq").unwrap();
        assert_eq!(groq["tasks"], serde_json::json!(["chat"]));
        assert_eq!((&groq["key_variable"], &groq["key_header"]), (&"GROQ_API_KEY".into(), &"authorization: Bearer".into()));
        let azure: Value = serde_json::from_str(&tell(Some("azure"), true).unwrap()).unwrap();
        assert_eq!(azure["key_header"], "api-key:");
        let tenant = azure["config"].as_array().unwrap().iter().find(|key| key["name"] == "tenant_id").unwrap();
        assert_eq!(tenant["sets"], "text; else $AZURE_TENANT_ID");
    }

    #[test]
    fn one_row_is_told_in_detail_by_any_of_its_names() {
        let text = tell(Some("Google_AI_Studio"), false).unwrap();
        assert_eq!(text, tell(Some("gemini"), false).unwrap());
        assert!(text.contains("sent as       x-goog-api-key:\n"), "{text}");
        let vertex = tell(Some("vertex-ai"), false).unwrap();
        for line in ["without key   Google: ", "  vertex_location         text; else $GOOGLE_CLOUD_LOCATION; default global\n"] {
            assert!(vertex.contains(line), "{vertex}");
        }
        let mistral = tell(Some("mistral"), false).unwrap();
        assert!(mistral.contains("renames       seed as random_seed, ") && mistral.contains("refuses       user, "), "{mistral}");
        assert!(tell(Some("typesafe"), false).unwrap().contains("does not speak its protocol"));
    }

    #[test]
    fn a_name_that_is_none_gets_the_nearest() {
        assert_eq!(tell(Some("gemni"), false).unwrap_err(), "no provider has this name\n    did you mean `gemini`?");
        assert!(tell(Some("zzzzzzzzzzzzzz"), true).unwrap_err().ends_with("`flowgate providers` lists them"));
    }
}
