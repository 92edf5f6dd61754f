//! Golden fixtures of the dialect.

use super::{MLFLOW, OWN, SCHEMA, SCHEMAS};
use crate::dialect::{
    Quirks, Settings, Target,
    golden::{Case, Suite, checks, target},
};

static SUITE: Suite = Suite { dialect: &MLFLOW, folder: "mlflow", target: target_of };
checks!(SUITE, Chat, Complete, Embed);

fn target_of(case: &Case) -> Target {
    let schema = case.settings.get(SCHEMA).cloned().unwrap_or_default();
    assert!(schema.is_empty() || SCHEMAS.contains(&&*schema), "{schema}");
    let quirks = match &*case.quirks {
        "" => &Quirks::NONE,
        "own" => &OWN,
        other => panic!("no quirks {other}"),
    };
    Target { settings: Settings(vec![(SCHEMA, schema)]), quirks, ..target("mlflow", "http://models:5000", "ours") }
}
