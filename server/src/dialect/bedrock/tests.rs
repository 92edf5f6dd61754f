//! Golden fixtures of the dialect.

use super::{BEDROCK, words};
use crate::dialect::{
    Dialect, Quirks, Target,
    golden::{Case, Suite, checks, target},
};

mod roundtrip;

static SUITE: Suite = Suite { dialect: &BEDROCK, folder: "bedrock", target: target_of };
checks!(SUITE, Chat, Complete, Embed);

static CACHELESS: Quirks = Quirks { lacks: &["cachePoint"], ..Quirks::NONE };

/// Whom a case asks.
fn target_of(case: &Case) -> Target {
    let model = case.model_or("anthropic.claude-sonnet-4-20250514-v1:0");
    let quirks = match &*case.quirks {
        "" => &Quirks::NONE,
        "cacheless" => &CACHELESS,
        other => panic!("no quirks {other}"),
    };
    let settings = case.settings(&["base_model"]);
    Target { settings, quirks, ..target("bedrock", "https://bedrock-runtime.us-east-1.amazonaws.com", model) }
}

#[test]
fn titan_takes_one_text_a_call() {
    for (model, most) in [("amazon.titan-embed-text-v2:0", 1), ("cohere.embed-english-v3", 96), ("us.cohere.embed-v4:0", 96)] {
        let target = target_of(&Case { model: model.to_owned(), ..Case::default() });
        assert_eq!(BEDROCK.most_inputs(&target), most, "{model}");
    }
}

#[test]
fn an_expired_token_is_told_inside_a_success_too() {
    let stale = |name: &str| {
        let body = format!(r#"{{"__type":"com.amazon.coral.service#{name}","message":"no"}}"#);
        words::told_inside(&Quirks::NONE, body.as_bytes()).unwrap().is_credential_stale()
    };
    assert!(stale("ExpiredTokenException") && !stale("AccessDeniedException") && !stale("ThrottlingException"));
}
