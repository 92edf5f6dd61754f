//! Golden fixtures of the dialect: what differs from the protocols that it carries.

use super::VERTEX;
use crate::dialect::{
    Quirks, Target,
    golden::{Case, Suite, checks, target},
};

static SUITE: Suite = Suite { dialect: &VERTEX, folder: "vertex", target: target_of };
checks!(SUITE, Chat, Complete, Embed);

static QUIRKS: Quirks = Quirks { max_tokens_field: "max_tokens", default_max_tokens: Some(8192), ..Quirks::NONE };

/// Whom a case asks.
fn target_of(case: &Case) -> Target {
    let base = "https://aiplatform.googleapis.com/v1/projects/p/locations/global";
    Target { quirks: &QUIRKS, ..target("vertex-ai", base, case.model_or("gemini-3-pro-preview")) }
}
