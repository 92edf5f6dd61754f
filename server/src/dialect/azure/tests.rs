//! Golden fixtures of the dialect, and where its bodies go on both lanes.

use super::AZURE;
use crate::{
    dialect::{
        Ask, Dialect, Target,
        golden::{Case, Suite, ask, checks, request_from, target as plain, wire},
    },
    event::{Lane, Payload, Protocol, Task},
};

static SUITE: Suite = Suite { dialect: &AZURE, folder: "azure", target: target_of };
checks!(SUITE, Embed);

fn target_of(case: &Case) -> Target {
    let settings = case.settings(&["api", "api_version", "deployment"]);
    Target { settings, ..plain("azure", case.url_or("https://acme.openai.azure.com"), case.model_or("gpt-4o")) }
}

fn target(settings: &[(&str, &str)], url: &str) -> Target {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    target_of(&Case { settings, url: url.to_owned(), ..Case::default() })
}

/// The address and the body of a chat on the byte lane.
fn passed(body: &'static str, streaming: bool, target: &Target) -> (String, String) {
    let payload = Payload::wire_only(wire(Task::Chat, body));
    let ask = Ask { streaming, lane: Lane::Byte, ..ask(Task::Chat, &payload) };
    let request = AZURE.encode(&ask, target).unwrap();
    (request.uri().to_string(), String::from_utf8(request.into_body().to_vec()).unwrap())
}

#[test]
fn the_byte_lane_leaves_out_the_model_that_the_address_names() {
    let dated = target(&[("api_version", "2024-10-21"), ("deployment", "my gpt")], "");
    let (uri, body) = passed(r#"{"a":1, "model" : "e" ,"b":2}"#, false, &dated);
    assert_eq!(uri, "https://acme.openai.azure.com/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21");
    assert_eq!(body, r#"{"a":1 ,"b":2}"#);
    let left = |body, streaming| passed(body, streaming, &dated).1;
    assert_eq!(left(r#" { "model":"e" , "b":2 } "#, false), r#" { "b":2 } "#);
    assert_eq!(left(r#"{"b":2,"mod\u0065l":null}"#, false), r#"{"b":2}"#);
    assert_eq!(left(r#"{"model":"e"}"#, false), "{}");
    assert_eq!(left(r#"{"b":{"model":"kept"}}"#, false), r#"{"b":{"model":"kept"}}"#);
    assert_eq!(left(r#"{"model":"e","stream":true}"#, true), r#"{"stream_options":{"include_usage":true},"stream":true}"#);
    assert_eq!(left(r#"{"model":"e"}"#, true), r#"{"stream_options":{"include_usage":true}}"#);
}

#[test]
fn the_byte_lane_names_the_deployment_where_the_body_does() {
    let surface = target(&[("deployment", "mine")], "https://acme.services.ai.azure.com/api/projects/p");
    let (uri, body) = passed(r#"{"model":"e"}"#, false, &surface);
    assert_eq!(uri, "https://acme.services.ai.azure.com/api/projects/p/openai/v1/chat/completions");
    assert_eq!(body, r#"{"model":"mine"}"#);
}

#[test]
fn an_address_may_be_written_with_its_surface() {
    let uri = |settings: &[(&str, &str)], url| passed("{}", false, &target(settings, url)).0;
    assert_eq!(uri(&[], "https://a.b/openai/v1/"), "https://a.b/openai/v1/chat/completions");
    assert_eq!(uri(&[("api_version", "v1")], "https://a.b/openai"), "https://a.b/openai/v1/chat/completions");
    assert_eq!(uri(&[("api_version", "preview")], "https://a.b"), "https://a.b/openai/v1/chat/completions?api-version=preview");
    assert_eq!(
        uri(&[("api_version", "2024-10-21")], "https://a.b/openai"),
        "https://a.b/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
    );
}

#[test]
fn chat_by_the_responses_protocol_is_never_passed_on_as_received() {
    let responses = target(&[("api", "responses")], "");
    assert_eq!(AZURE.protocol_at(Task::Chat, &responses), None);
    assert_eq!(AZURE.protocol_at(Task::Embed, &responses), Some(Protocol::OpenAiEmbeddings));
    assert_eq!(AZURE.protocol_at(Task::Chat, &target(&[("api", "chat")], "")), Some(Protocol::OpenAiChat));
}

#[test]
fn a_dated_version_needs_a_deployment() {
    let nameless = Target { model: String::new(), ..target(&[("api_version", "2024-10-21")], "") };
    let payload = Payload::typed_only(request_from(Task::Embed, br#"{"inputs":["a"]}"#));
    assert!(AZURE.encode(&ask(Task::Embed, &payload), &nameless).is_err());
}
