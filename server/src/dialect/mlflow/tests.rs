//! Golden fixtures of the dialect.

use super::{MLFLOW, SCHEMA, SCHEMAS};
use crate::dialect::{
    Settings, Target,
    golden::{Case, Suite, checks, target},
};

static SUITE: Suite = Suite { dialect: &MLFLOW, folder: "mlflow", target: target_of };
checks!(SUITE, Chat, Complete, Embed);

fn target_of(case: &Case) -> Target {
    let schema = case.settings.get(SCHEMA).cloned().unwrap_or_default();
    assert!(schema.is_empty() || SCHEMAS.contains(&&*schema), "{schema}");
    Target { settings: Settings(vec![(SCHEMA, schema)]), ..target("mlflow", "http://models:5000", "ours") }
}
