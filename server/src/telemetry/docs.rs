//! The page for operators against the code: every metric with its type and labels, every field of the access line, every message.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    costs::Bill,
    metrics::{Metrics, Outcome},
    mirrors,
    models::ModelMeter,
    routing::Cause,
    upstreams::Series,
};

const PAGE: &str = "docs/operations.md";

/// Rooms whose messages at `info` and above are all on the page.
const ROUTING: [&str; 4] = ["upstream", "balance", "mlflow/models", "telemetry/routing.rs"];

/// A metric's type and the names of its labels.
type Told = (String, BTreeSet<String>);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The cells of the tables that a marker precedes.
fn rows(page: &str, marker: &str) -> Vec<Vec<String>> {
    let marker = format!("<!-- {marker} -->\n");
    let tables = page.split(&marker).skip(1);
    let lines = tables.flat_map(|table| table.lines().take_while(|line| line.starts_with('|')).skip(2));
    let rows: Vec<Vec<_>> = lines.map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect()).collect();
    assert!(!rows.is_empty(), "no table of {marker}");
    rows
}

/// What stands between backticks.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// One of everything, so that every family has a series. What is returned keeps those of the upstream and the model.
fn populated() -> (Metrics, (Arc<Series>, ModelMeter)) {
    let metrics = Metrics::new();
    let (name, other) = (Arc::from("e"), Arc::from("d"));
    drop(metrics.begin("grpc"));
    let bill = |pico_usd| Some(Bill { deployment: &other, provider: "mock", pico_usd });
    let outcome = Outcome {
        door: "grpc",
        endpoint: Some(&name),
        task: "chat",
        error: Some(("PROVIDER_FAILED", "provider")),
        duration: Duration::ZERO,
        first_event: Some(Duration::ZERO),
        overhead: Some(Duration::ZERO),
        bill: bill(Some(1)),
        tokens: (Some(1), Some(1)),
    };
    metrics.end(&outcome);
    metrics.end(&Outcome { bill: bill(None), ..outcome });
    let routing = metrics.routing();
    drop((routing.endpoint(&name), routing.deployment(&name, &other), metrics.load().shed()));
    let rollout = routing.rollout(&name, &other);
    rollout.show(5);
    rollout.rolled_back(Cause::Operator, "", 5);
    metrics.load().deployment(&name, &other).limited(1);
    metrics.batches().deployment(&name, &other).sent(2, 3);
    let mirror = routing.mirrors().mirror(&name, &other);
    mirror.ended(mirrors::Outcome::Ok);
    mirror.took(Duration::ZERO, Duration::ZERO);
    mirror.drifted("absolute", 0.0);
    mirror.length(1);
    mirror.mismatched("shape", 1);
    let model = metrics.models().model(&name);
    model.loaded(true, Some(Duration::ZERO));
    model.looked_up(true);
    metrics.models().registry().answers(true);
    model.unloaded();
    model.crashed();
    model.holds(1, 1);
    let series = metrics.upstreams().series("a.test:80", true);
    (metrics, (series, model))
}

/// The metrics of a scrape, by the names that queries have.
fn rendered(page: &str) -> BTreeMap<String, Told> {
    let mut found = BTreeMap::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (family, kind) = line.split_once(' ').unwrap();
        let name = if kind == "counter" { format!("{family}_total") } else { family.to_owned() };
        let first = if kind == "histogram" { format!("{family}_sum") } else { name.clone() };
        let sample = page.lines().find_map(|line| line.strip_prefix(&first)).unwrap_or_else(|| panic!("{family} has no sample"));
        let labels = sample.split_once('}').map_or("", |(labels, _)| labels.trim_start_matches('{'));
        let labels = labels.split(',').filter_map(|label| label.split_once('=')).map(|(label, _)| label.to_owned()).collect();
        assert!(found.insert(name, (kind.to_owned(), labels)).is_none(), "{line}");
    }
    found
}

/// The names of metrics on a page, wherever they stand.
fn named(page: &str) -> BTreeSet<&str> {
    let words = page.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("flowgate_")).collect()
}

#[test]
fn the_page_has_every_metric_and_no_other() {
    let (metrics, _series) = populated();
    let scrape = metrics.render();
    let told = rendered(&scrape);
    let page = read(PAGE);
    let written: BTreeMap<String, Told> = rows(&page, "metrics")
        .iter()
        .map(|cells| {
            let name = code(&cells[1]).next().unwrap_or_default().to_owned();
            (name, (cells[2].clone(), code(&cells[3]).map(str::to_owned).collect()))
        })
        .collect();
    assert_eq!(written, told);
    assert_eq!(written.len(), rows(&page, "metrics").len(), "a metric stands twice");
    for name in named(&page) {
        let series = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let is_there = told.contains_key(name) || told.get(series).is_some_and(|(kind, _)| kind == "histogram");
        assert!(is_there, "there is no {name}");
    }
}

#[test]
fn the_page_has_every_field_of_the_access_line() {
    let source = read("server/src/api/record.rs");
    let (_, line) = source.split_once("target: \"access\",\n").unwrap();
    let (line, _) = line.split_once("\"call\"").unwrap();
    let fields: Vec<&str> = line.lines().filter_map(|line| Some(line.split_once(" = ")?.0.trim())).collect();
    assert!(fields.contains(&"request_id") && fields.contains(&"output_tokens"), "{fields:?}");
    let page = read(PAGE);
    let rows = rows(&page, "access");
    let written: Vec<&str> = rows.iter().filter_map(|cells| code(&cells[1]).next()).collect();
    assert_eq!(written, fields);
}

/// The Rust sources below a folder of the server's, or the one file, without what tests say.
fn sources(path: &Path, found: &mut String) {
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| sources(&entry.unwrap().path(), found));
    } else if path.extension().is_some_and(|end| end == "rs") {
        let text = fs::read_to_string(path).unwrap();
        *found += text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    }
}

/// Level and message of everything that is logged so that a person sees it by default.
fn logged(sources: &str) -> BTreeSet<(String, String)> {
    let calls = sources.split("tracing::").skip(1).filter_map(|call| call.split_once("!("));
    let seen = calls.filter(|(level, _)| ["error", "warn", "info"].contains(level));
    seen.filter_map(|(level, call)| {
        // The last argument of the macro; fields have names.
        let pieces: Vec<&str> = call.split('"').collect();
        let is_message =
            |pair: &&[&str]| (pair[0].is_empty() || pair[0].trim_end().ends_with(',')) && pair[2].trim_start().starts_with(')');
        let message = pieces.windows(3).find(is_message)?[1];
        Some((level.to_owned(), message.split("\\n").next()?.to_owned()))
    })
    .collect()
}

#[test]
fn the_page_has_the_messages_as_they_are() {
    let whole = |rooms: &[&str]| {
        let mut found = String::new();
        rooms.iter().for_each(|room| sources(&root().join("server/src").join(room), &mut found));
        logged(&found)
    };
    let (all, routing) = (whole(&[""]), whole(&ROUTING));
    assert!(routing.iter().any(|(_, message)| message == "an upstream cannot be reached"), "{routing:?}");
    let rows = rows(&read(PAGE), "log");
    let written: BTreeSet<(String, String)> = rows.iter().map(|cells| (cells[1].to_lowercase(), cells[2].clone())).collect();
    let missing: Vec<_> = routing.difference(&written).collect();
    let unknown: Vec<_> = written.difference(&all).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "not on the page: {missing:#?}, not in the code: {unknown:#?}");
}
