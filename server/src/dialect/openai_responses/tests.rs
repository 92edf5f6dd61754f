//! Golden fixtures of the dialect, and what fixtures cannot show.

use super::OPENAI_RESPONSES;
use crate::dialect::{
    Habit, Quirks, Target,
    golden::{Case, Suite, checks, target},
};

mod replay;
mod round_trip;

static SUITE: Suite = Suite { dialect: &OPENAI_RESPONSES, folder: "openai_responses", target: target_of };
checks!(SUITE, Chat, Complete);

static OPEN: Quirks = Quirks { habits: &[Habit::OpenReasoning], ..Quirks::NONE };

fn target_of(case: &Case) -> Target {
    let quirks = match &*case.quirks {
        "" => &Quirks::NONE,
        "open" => &OPEN,
        other => panic!("no quirks {other}"),
    };
    Target { quirks, ..target("openai-responses", "https://api.openai.com/v1", "gpt-5-mini") }
}
