//! What holds for every row, and what pages say of some.

use super::*;
use crate::dialect::{Settings, Target, mlflow};
use crate::provider::find;

#[test]
fn names_are_sorted_and_unique() {
    assert!(PROVIDERS.is_sorted_by(|a, b| a.name < b.name), "the table is not sorted");
    let mut names: Vec<_> = PROVIDERS.iter().flat_map(|row| row.aliases.iter().chain([&row.name])).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "a name stands twice");
    let plain = |name: &&str| name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.'));
    assert!(names.into_iter().all(plain));
}

#[test]
fn doors_of_others_sign_for_themselves() {
    // Azure serves Claude itself.
    let doors: Vec<_> = PROVIDERS.iter().filter(|row| row.name.ends_with("-anthropic") && row.name != "azure-anthropic").collect();
    assert!(doors.len() >= 3);
    for row in doors {
        assert!(row.quirks.habits.contains(&Habit::OwnSignatures), "{} would get Claude's signatures", row.name);
    }
}

#[test]
fn rows_are_complete() {
    for row in PROVIDERS {
        let filled = crate::provider::capabilities::address(row);
        assert!(row.base.is_empty() || is_url(&filled), "{}: {filled}", row.name);
        assert!(!row.base.ends_with('/'), "{}", row.name);
        assert!(!row.tasks.is_empty(), "{}", row.name);
        assert!(!row.needs_key || !row.key_env.is_empty(), "{} says no variable for its key", row.name);
        assert!(!row.needs_key || row.auth.header().is_some(), "{} has no place for its key", row.name);
        let mut fields: Vec<_> = row.fields.iter().map(|field| field.name).collect();
        fields.sort_unstable();
        fields.dedup();
        assert_eq!(fields.len(), row.fields.len(), "{} has a field twice", row.name);
    }
}

fn is_url(base: &str) -> bool {
    base.parse::<http::Uri>().is_ok_and(|uri| uri.host().is_some())
}

#[test]
fn every_name_of_mlflow_is_known() {
    let names = "openai anthropic cohere ai21labs mlflow-model-serving mosaicml huggingface-text-generation-inference palm gemini bedrock \
                 amazon-bedrock databricks-model-serving databricks mistral togetherai litellm azure groq deepseek xai openrouter ollama \
                 vertex_ai portkey sap-ai-core typesafe OpenAI VERTEX_AI";
    for name in names.split_whitespace() {
        assert!(find(name).is_some(), "{name}");
    }
}

#[test]
fn a_scoring_server_by_mlflows_name_takes_what_mlflow_sends() {
    let schema = |name: &str| find(name).unwrap().settings().into_iter().find(|setting| setting.name == "schema").unwrap();
    assert_eq!((schema("mlflow-model-serving").default, schema("mlflow").default), (mlflow::PLAIN, ""));
    assert_eq!(schema("mlflow-model-serving").words, mlflow::SCHEMAS);
}

#[test]
fn what_will_never_be_spoken_says_what_to_name_instead() {
    for row in PROVIDERS.iter().filter(|row| row.instead.is_some()) {
        assert!(row.llm.is_none() && row.predict.is_none(), "{} is spoken", row.name);
    }
    for (name, known) in [("mosaicml", "databricks"), ("palm", "gemini"), ("litellm", "litellm-proxy"), ("typesafe", "openai-compatible")] {
        assert!(find(name).unwrap().instead.unwrap().contains(&format!("`provider: {known}`")), "{name}");
        assert!(find(known).unwrap().llm.is_some(), "{known}");
    }
}

#[test]
fn a_key_may_carry_the_providers_name() {
    let row = find("groq").unwrap();
    for name in ["api_key", "groq_api_key"] {
        assert_eq!(row.field(name), Some(Sets::ApiKey), "{name}");
    }
    assert_eq!(row.field("groq_api_base"), Some(Sets::ApiBase));
    assert_eq!(row.field("openai_api_key"), None);
    assert_eq!(find("mock").unwrap().field("api_key"), None);
}

#[test]
fn codes_of_their_own_mean_what_their_pages_say() {
    use ErrorReason as R;
    let read = |name: &str, status: u16, body: &str| {
        let row = find(name).unwrap();
        let status = http::StatusCode::from_u16(status).unwrap();
        row.llm.unwrap().classify(&target(row, "m"), status, &http::HeaderMap::new(), body.as_bytes()).reason()
    };
    let told = |code| format!(r#"{{"type":"error","error":{{"type":"api_error","message":"so ({code})"}}}}"#);
    for name in ["minimax", "minimax-anthropic"] {
        assert_eq!(read(name, 500, &told(1008)), R::ProviderCredentialRejected, "{name}");
        assert_eq!(read(name, 500, &told(1002)), R::ProviderRateLimited, "{name}");
        assert_eq!(read(name, 500, &told(1000)), R::ProviderFailed, "{name}");
    }
    assert_eq!(read("groq", 498, ""), R::ProviderUnavailable);
    let listed = |code| format!(r#"{{"success":false,"errors":[{{"code":{code},"message":"so"}}]}}"#);
    assert_eq!(read("cloudflare", 429, &listed(3036)), R::ProviderCredentialRejected);
    assert_eq!(read("cloudflare", 429, &listed(3040)), R::ProviderUnavailable);
    assert_eq!(read("cloudflare", 400, &listed(5007)), R::ProviderNotFound);
    assert_eq!(read("zai", 429, r#"{"error":{"code":"1113","message":"so"}}"#), R::ProviderCredentialRejected);
}

#[test]
fn models_take_as_many_texts_as_their_pages_say() {
    let most = |name: &str, model| {
        let row = find(name).unwrap();
        row.llm.unwrap().most_inputs(&target(row, model))
    };
    assert_eq!(most("vertex-ai", "text-embedding-005"), 250);
    assert_eq!(most("vertex-ai", "text-multilingual-embedding-002"), 250);
    assert_eq!(most("vertex-ai", "gemini-embedding-001"), 1);
    assert_eq!(most("vertex-ai", "gemini-embedding-2-preview"), 1);
    assert_eq!(most("gemini", "gemini-embedding-001"), 100);
    assert_eq!(most("bedrock", "amazon.titan-embed-text-v2:0"), 1);
}

#[test]
fn who_refuses_a_message_for_its_fields_gets_none_of_them() {
    for name in ["ai21labs", "cerebras", "groq", "mistral"] {
        let lacks = find(name).unwrap().quirks.lacks;
        assert!(["reasoning_content", "annotations", "refusal"].iter().all(|field| lacks.contains(field)), "{name}");
    }
}

#[test]
fn ids_of_tool_calls_are_as_short_as_the_owner_wants_them() {
    for name in ["openai", "azure", "azuread"] {
        assert_eq!(find(name).unwrap().quirks.longest_tool_id, 40, "{name}");
    }
}

fn target(row: &'static Provider, model: &str) -> Target {
    Target {
        provider: row.name,
        base: http::Uri::default(),
        model: model.to_owned(),
        headers: http::HeaderMap::new(),
        settings: Settings::default(),
        templates: templated::Templates::default(),
        quirks: &row.quirks,
    }
}

#[test]
fn rows_serve_what_is_at_their_addresses() {
    let tasks = |name| find(name).unwrap().tasks;
    assert_eq!(tasks("deepseek"), CHAT, "completions are at a beta address");
    assert_eq!(tasks("cloudflare"), CHAT_EMBED);
    assert!(find("mistral").unwrap().quirks.renames.contains(&("dimensions", "output_dimension")));
}
