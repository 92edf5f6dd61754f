//! Golden fixtures of the dialect, and what fixtures cannot show.

use super::OPENAI_RESPONSES;
use crate::dialect::{
    Target,
    golden::{Case, Suite, checks, target},
};

mod replay;
mod round_trip;

static SUITE: Suite = Suite { dialect: &OPENAI_RESPONSES, folder: "openai_responses", target: target_of };
checks!(SUITE, Chat, Complete);

fn target_of(_: &Case) -> Target {
    target("openai-responses", "https://api.openai.com/v1", "gpt-5-mini")
}
