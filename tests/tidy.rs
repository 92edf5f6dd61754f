//! The house rules that no compiler knows: budgets, the direction between rooms, names, messages. Reads text; runs nothing.

#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/samples.rs"]
mod samples;
#[path = "tidy/source.rs"]
mod source;

use std::{
    fs,
    path::{Path, PathBuf},
};

use rules::Rules;
use serde::Deserialize;
use source::{Source, test_modules};

/// Where there is source of ours.
const ROOTS: &[&str] = &["benches", "build.rs", "client/src", "examples", "proto", "server/src", "server/tests", "tests"];
/// Folders below them that hold none.
const SKIPPED: &[&str] = &["gen", "node_modules", "target", "testdata", "google"];

#[test]
fn the_tree_is_tidy() {
    let sources = tree();
    assert!(sources.len() > 20, "the tree was not found");
    let providers = flowgate_server::provider::PROVIDERS.iter();
    let names = providers.flat_map(|provider| provider.aliases.iter().chain([&provider.name])).copied().collect();
    let found = Rules { providers: names }.check(&sources);
    assert!(found.is_empty(), "{} rules are broken:\n{}\n", found.len(), found.join("\n"));
}

/// A feature of one dependency holds for the whole binary; this one breaks every float in a flattened struct.
#[test]
fn arbitrary_precision_is_off() {
    #[derive(Deserialize)]
    struct Outer {
        #[serde(flatten)]
        inner: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        temperature: f64,
    }
    let outer: Outer = serde_json::from_str(r#"{"temperature": 0.5}"#).expect("a crate has turned on serde_json/arbitrary_precision");
    assert!((outer.inner.temperature - 0.5).abs() < f64::EPSILON);
}

fn tree() -> Vec<Source> {
    // At run time, so that a built test can be pointed at another checkout.
    let root = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let mut paths = Vec::new();
    for start in ROOTS {
        walk(&root.join(start), &mut paths);
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.strip_prefix(&root).expect("below the root").to_string_lossy().replace('\\', "/");
        Source::new(&name, &fs::read_to_string(path).expect("source is readable text"))
    };
    let mut sources: Vec<Source> = paths.iter().map(read).collect();
    test_modules(&mut sources);
    sources
}

fn walk(path: &Path, found: &mut Vec<PathBuf>) {
    let named = |name: &str| path.file_name().is_some_and(|file| file == name);
    if path.is_dir() && !SKIPPED.iter().copied().any(named) {
        for entry in fs::read_dir(path).expect("a readable folder") {
            walk(&entry.expect("a readable folder").path(), found);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "proto") {
        found.push(path.to_owned());
    }
}
