//! The documentation against the code: every key, every provider, every example. `UPDATE=1` writes the tables of providers anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    Batch, Breaker, Concurrency, ConcurrencyLimit, Config, Ejection, Health, HealthCheck, Hedge, HedgeAfter, LoadOptions, Media, Mock,
    Retry, SecretsMode, Timeouts, fixture::Fake, raw::RawMock, schema, schema::LATER, units,
};
use crate::{
    event::Task,
    provider::{Auth, PROVIDERS, Provider, Sets, Setting},
};

const PAGE: &str = "docs/configuration.md";
const BEGIN: &str = "<!-- begin: providers -->\n";
const END: &str = "<!-- end: providers -->";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The mappings of the schema by name, with their keys.
fn mappings() -> BTreeMap<String, Value> {
    let whole = schema();
    let mock = schemars::schema_for!(RawMock).to_value();
    let mut found = BTreeMap::from([("Config".to_owned(), whole["properties"].clone()), ("Mock".to_owned(), mock["properties"].clone())]);
    let named = whole["$defs"].as_object().unwrap().iter();
    found.extend(named.filter_map(|(name, schema)| Some((name.clone(), schema.get("properties")?.clone()))));
    found
}

/// Every key of a schema, wherever it stands.
fn keys(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(entries) => {
            for (name, value) in entries {
                if let ("properties", Value::Object(properties)) = (name.as_str(), value) {
                    found.extend(properties.keys().cloned());
                }
                keys(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The rows of the tables marked with `<!-- keys: NAME -->`, by that name: each key and its whole line.
fn tables(page: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let mut found = BTreeMap::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("<!-- keys: ").and_then(|rest| rest.strip_suffix(" -->")) else { continue };
        let rows = lines.by_ref().take_while(|line| line.starts_with('|')).skip(2);
        let rows = rows.map(|row| (row.split('`').nth(1).unwrap_or_default().to_owned(), row.to_owned())).collect();
        assert!(found.insert(name.to_owned(), rows).is_none(), "two tables of {name}");
    }
    found
}

#[test]
fn the_page_has_every_key_and_no_other() {
    let page = read(PAGE);
    let tables = tables(&page);
    let mappings = mappings();
    assert_eq!(
        tables.keys().collect::<Vec<_>>(),
        mappings.keys().collect::<Vec<_>>(),
        "the mappings that have a table, and those there are"
    );
    for (name, rows) in &tables {
        let properties = mappings[name].as_object().unwrap();
        let written: BTreeSet<&str> = rows.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(written, properties.keys().map(String::as_str).collect(), "the keys of {name}");
        assert_eq!(written.len(), rows.len(), "a key of {name} stands twice");
        for (key, row) in rows {
            let later = properties[key].get(LATER).is_some();
            assert_eq!(row.contains("not enforced yet"), later, "{row}");
            assert_eq!(row.matches('|').count(), rows[0].1.matches('|').count(), "the cells of {row}");
        }
    }
    let mut all = BTreeSet::new();
    keys(&schema(), &mut all);
    assert!(all.contains("aws_region") && all.contains("tracking_uri"), "{all:?}");
    for key in all {
        assert!(page.contains(&format!("`{key}`")), "`{key}` is not on the page");
    }
}

#[test]
fn the_page_lists_what_is_not_enforced_yet() {
    let page = read(PAGE);
    let (_, list) = page.split_once("<!-- later -->").unwrap();
    let list: String = list.lines().skip(1).take_while(|line| line.starts_with('|')).collect();
    let written: BTreeSet<&str> =
        list.split('`').skip(1).step_by(2).filter(|key| !matches!(*key, "telemetry" | "model_endpoints")).collect();
    let mappings = mappings();
    let properties = mappings.values().filter_map(Value::as_object).flatten();
    let later: BTreeSet<&str> = properties.filter(|(_, schema)| schema.get(LATER).is_some()).map(|(key, _)| key.as_str()).collect();
    assert_eq!(written, later);
}

#[test]
fn the_page_has_every_provider_as_it_is() {
    let page = read(PAGE);
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    let current = provider_tables();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(root().join(PAGE), format!("{before}{BEGIN}{current}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(written, current, "run the test with UPDATE=1");
}

fn code(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn provider_tables() -> String {
    let served = |provider: &&Provider| {
        [Task::Chat, Task::Complete, Task::Embed, Task::Predict].iter().any(|task| provider.dialect(*task).is_some())
    };
    let row = |provider: &Provider| {
        let base = if provider.base.is_empty() || provider.base.contains(".invalid") { String::new() } else { code(&[provider.base]) };
        let optional = if provider.needs_key { "" } else { " (optional)" };
        let key = if provider.key_env.is_empty() { String::new() } else { format!("{}{optional}", code(&[provider.key_env])) };
        format!("| `{}` | {} | {base} | {key} |", provider.name, code(provider.aliases))
    };
    let mut text =
        "Served by this build:\n\n| provider | also | default address | variable by custom | tasks |\n|---|---|---|---|---|\n".to_owned();
    for provider in PROVIDERS.iter().filter(served) {
        let tasks = provider.tasks.iter().filter(|task| provider.dialect(**task).is_some());
        let tasks: Vec<_> = tasks.map(|task| task.endpoint_type().rsplit('/').next().unwrap_or_default()).collect();
        text += &format!("{} {} |\n", row(provider), tasks.join(", "));
    }
    text += "\nTheir configuration loads, and their endpoints say that they do not serve:\n\n\
             | provider | also | default address | variable by custom | why |\n|---|---|---|---|---|\n";
    for provider in PROVIDERS.iter().filter(|provider| !served(provider)) {
        text += &format!("{} {} |\n", row(provider), provider.instead.unwrap_or("this build does not speak its protocol yet"));
    }
    text += "\nFields of `config` beside the common ones, and what they set:\n\n| provider | key | address | header | setting | loads, not read yet |\n|---|---|---|---|---|---|\n";
    PROVIDERS.iter().filter_map(field_row).for_each(|row| text += &row);
    text
}

fn field_row(provider: &Provider) -> Option<String> {
    let mut cells: [Vec<String>; 5] = Default::default();
    for field in provider.fields.iter().filter(|field| !matches!(field.name, "api_key" | "api_base")) {
        let name = code(&[field.name]);
        let (cell, text) = match field.sets {
            Sets::ApiKey => (0, name),
            Sets::ApiBase => (1, name),
            Sets::Header(header) => (2, format!("{name}: `{header}`")),
            Sets::Flavour(flavour) => (3, format!("{name} (`{}`, or {}: the rows of those names)", flavour.plain, code(flavour.others))),
            Sets::Setting(setting) => (3, name + &setting_note(setting)),
            Sets::Template(_) => (3, format!("{name} (a template)")),
            Sets::Secret(_) => (0, name),
            Sets::Group => (3, format!("{name} (a mapping of the others)")),
            Sets::Later(_) => (4, name),
        };
        cells[cell].push(text);
    }
    if let Auth::Header(header) = provider.auth {
        cells[0].push(format!("sent as `{header}`"));
    }
    let cells = cells.map(|cell| cell.join(", "));
    cells.iter().any(|cell| !cell.is_empty()).then(|| format!("| `{}` | {} |\n", provider.name, cells.join(" | ")))
}

/// What else may say a setting.
fn setting_note(setting: &Setting) -> String {
    let words = (!setting.words.is_empty()).then(|| code(setting.words));
    let env = (!setting.env.is_empty()).then(|| format!("else {}", code(setting.env)));
    let default = (!setting.default.is_empty()).then(|| format!("default `{}`", setting.default));
    let notes: Vec<_> = [words, env, default].into_iter().flatten().collect();
    if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) }
}

/// The YAML blocks of a page, with the line each begins in.
fn blocks(page: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if line.trim() == "```yaml" {
            found.push((
                at + 2,
                lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```").collect::<Vec<_>>().join("\n"),
            ));
        }
    }
    found
}

/// A whole file around a fragment: items belong to `endpoints`.
fn whole(block: &str) -> String {
    let is_item = block.lines().find(|line| !line.trim_start().starts_with('#')).is_some_and(|line| line.trim_start().starts_with("- "));
    if is_item { format!("endpoints:\n{block}") } else { block.to_owned() }
}

#[test]
fn every_example_loads() {
    let mut examples: Vec<(String, String)> = Vec::new();
    for page in ["README.md", PAGE, "examples/README.md"] {
        let text = read(page);
        let blocks = blocks(&text);
        assert_eq!(blocks.is_empty(), page.starts_with("examples"), "{page}");
        examples.extend(blocks.into_iter().map(|(line, block)| (format!("{page}:{line}"), whole(&block))));
    }
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if name.ends_with(".yaml") {
            examples.push((format!("examples/{name}"), read(&format!("examples/{name}"))));
        }
    }
    // What a shell example writes into a file.
    let readme = read("README.md");
    let (_, here) = readme.split_once("<<'YAML'\n").unwrap();
    examples.push(("README.md".to_owned(), here.split_once("YAML\n").unwrap().0.to_owned()));
    assert!(examples.len() > 12, "{}", examples.len());
    for (name, text) in examples {
        let options = LoadOptions { secrets: SecretsMode::List, lenient: false };
        let environment = Fake::default().variable("MLFLOW_TRACKING_URI", "http://mlflow:5000");
        let loaded = environment.parse(&[&text], options).unwrap_or_else(|found| panic!("{name}\n{found}"));
        assert!(!loaded.config.endpoints.is_empty(), "{name}");
        let said = loaded.warnings.iter().map(|warning| warning.message.as_str());
        let surprising: Vec<_> = said.filter(|said| !said.starts_with("anybody who") && !said.contains("cannot be read")).collect();
        assert_eq!(surprising, Vec::<&str>::new(), "{name}");
    }
}

#[test]
fn overlays_of_the_page_fit() {
    let page = read(PAGE);
    let blocks = blocks(&page);
    let over = blocks.iter().find(|(_, block)| block.starts_with("# production.yaml")).unwrap();
    let base = blocks.iter().find(|(_, block)| block.contains("secrets: {")).unwrap();
    let options = LoadOptions { secrets: SecretsMode::List, lenient: false };
    let config = Fake::default().parse(&[&base.1, &over.1], options).unwrap().config;
    assert_eq!((config.endpoints.len(), config.endpoints[0].deployments[0].model.as_str()), (1, "gpt-4o"));
}

/// Settings named in prose keep their values.
#[test]
fn the_defaults_of_the_page_are_those_of_the_code() {
    let tables = tables(&read(PAGE));
    let default = |table: &str, key: &str| -> String {
        let (_, row) = tables[table].iter().find(|(name, _)| name == key).unwrap();
        row.split('|').nth(3).unwrap().trim().trim_matches('`').to_owned()
    };
    let config = Config::default();
    assert_eq!(default("Config", "listen"), config.listen.to_string());
    assert_eq!(default("Admin", "listen"), config.admin.to_string());
    assert_eq!(units::bytes(&default("Config", "max_request_bytes")), Some(config.max_request_bytes));
    assert_eq!(units::duration(&default("Config", "shutdown_delay")), Some(config.shutdown_delay));
    assert_eq!(units::duration(&default("Config", "shutdown_grace")), Some(config.shutdown_grace));
    assert_eq!(units::duration(&default("Config", "max_connection_age")), Some(config.max_connection_age));
    let (predict, chat) = (Timeouts::defaults(Task::Predict), Timeouts::defaults(Task::Chat));
    assert_eq!(units::duration(&default("Timeouts", "connect")), Some(chat.connect));
    assert_eq!(units::duration(&default("Timeouts", "first_event")), chat.first_event);
    assert_eq!(units::duration(&default("Timeouts", "idle")), chat.idle);
    let seconds = |limit: Option<std::time::Duration>| limit.map_or("none".to_owned(), |limit| format!("{}s", limit.as_secs()));
    assert_eq!(
        default("Timeouts", "attempt"),
        format!("{}` for `mlflow/predict`, else `{}", seconds(predict.attempt), seconds(chat.attempt))
    );
    assert_eq!(default("Timeouts", "total"), format!("{}` unary, `{}` streamed", seconds(chat.total_unary), seconds(chat.total_stream)));
    assert_eq!(default("Config", "max_in_flight"), config.max_in_flight.to_string());
    let (retry, hedge, breaker, ejection) = (Retry::default(), Hedge::default(), Breaker::default(), Ejection::default());
    assert_eq!(units::range(&default("Retry", "backoff")), Some(retry.backoff));
    assert_eq!(units::share(&default("Retry", "budget")), Some(retry.budget));
    assert_eq!((default("Hedge", "after"), hedge.after), ("p95".to_owned(), HedgeAfter::Quantile(0.95)));
    assert_eq!(units::share(&default("Hedge", "budget")), Some(hedge.budget));
    assert_eq!(default("Breaker", "failures"), breaker.failures.to_string());
    assert_eq!(units::share(&default("Breaker", "error_rate")), Some(breaker.error_rate));
    assert_eq!(units::duration(&default("Breaker", "window")), Some(breaker.window));
    assert_eq!(default("Breaker", "min_calls"), breaker.min_calls.to_string());
    assert_eq!(units::duration(&default("Breaker", "open")), Some(breaker.open));
    assert_eq!(default("Ejection", "failures"), ejection.failures.to_string());
    assert_eq!(units::duration(&default("Ejection", "time")), Some(ejection.time));
    assert_eq!(units::duration(&default("Ejection", "max_time")), Some(ejection.max_time));
    assert_eq!(units::share(&default("Ejection", "max_share")), Some(ejection.max_share));
    let health = Health::new(HealthCheck::Grpc(String::new()));
    assert_eq!(units::duration(&default("Health", "interval")), Some(health.interval));
    assert_eq!(units::duration(&default("Health", "timeout")), Some(health.timeout));
    assert_eq!((default("Health", "unhealthy"), default("Health", "healthy")), (health.unhealthy.to_string(), health.healthy.to_string()));
    let concurrency = Concurrency::new(ConcurrencyLimit::ADAPTIVE);
    assert_eq!(default("Concurrency", "queue"), concurrency.queue.to_string());
    assert_eq!(units::duration(&default("Concurrency", "wait")), Some(concurrency.wait));
    let (min, max) = (default("Adaptive", "min").parse().unwrap(), default("Adaptive", "max").parse().unwrap());
    assert_eq!(concurrency.limit, ConcurrencyLimit::Adaptive { min, max });
    let batch = Batch::default();
    assert_eq!(default("Batch", "max_rows"), batch.max_rows.to_string());
    assert_eq!(units::duration(&default("Batch", "max_delay")), Some(batch.max_delay));
    let media = Media::default();
    assert_eq!(units::bytes(&default("Media", "max_bytes")), Some(media.max_bytes));
    assert_eq!(units::duration(&default("Media", "timeout")), Some(media.timeout));
    assert_eq!(default("Media", "types").split("`, `").collect::<Vec<_>>(), media.types);
    assert_eq!(default("Mock", "dimensions"), Mock::default().dimensions.to_string());
}
