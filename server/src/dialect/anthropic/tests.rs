//! Golden fixtures of the dialect, the bodies of those who address it in another way, and conversations there and back.

use http::{HeaderName, HeaderValue};

use super::{ANTHROPIC, Form, body};
use crate::{
    dialect::{
        Ask, Quirks, Target,
        golden::{Case, Suite, ask, checks, target},
    },
    event::{Payload, Request, Task},
};

mod round_trip;

static SUITE: Suite = Suite { dialect: &ANTHROPIC, folder: "anthropic", target: target_of };
checks!(SUITE, Chat, Complete);

static OWNER: Quirks = Quirks { default_max_tokens: Some(8192), ..Quirks::NONE };

static DOOR: Quirks = Quirks { lacks: &["format"], fetches_media: false, ..OWNER };
static WORDS: Quirks = Quirks { lacks: &["image", "document"], ..OWNER };

/// Whom a case asks. Headers of the operator stand in the setting `headers`, one a line.
fn target_of(case: &Case) -> Target {
    let quirks = match &*case.quirks {
        "" => &OWNER,
        "no_default" => &Quirks::NONE,
        "door" => &DOOR,
        "words" => &WORDS,
        other => panic!("no quirks {other}"),
    };
    let lines = case.settings.get("headers").into_iter().flat_map(|headers| headers.lines());
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
    };
    let plain = target("anthropic", "https://api.anthropic.com/v1", case.model_or("claude-sonnet-4-5"));
    Target { headers: lines.map(header).collect(), quirks, ..plain }
}

#[test]
fn others_address_it_in_their_own_way() {
    let request = r#"{"messages":[{"text":"Hi"}],"maxTokens":1,"providerOptions":{"anthropic":{"betas":["a","b"]}}}"#;
    let payload = Payload::typed_only(Request::Chat(serde_json::from_str(request).unwrap()));
    let (ask, owner) = (Ask { streaming: true, ..ask(Task::Chat, &payload) }, target_of(&Case::default()));
    let sent = |form| {
        let request = body(&ask, &owner, form).unwrap().post(&owner, "/models/m:rawPredict").unwrap();
        let betas = request.headers().get("anthropic-beta").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(request.headers().get("anthropic-version"), None);
        assert_eq!(request.uri(), "https://api.anthropic.com/v1/models/m:rawPredict");
        (String::from_utf8(request.into_body().to_vec()).unwrap(), betas)
    };
    let in_address = Form { names_model: false, says_stream: true, version: Some("v-1"), holds_betas: false };
    let message = r#""messages":[{"role":"user","content":"Hi"}],"max_tokens":1"#;
    assert_eq!(sent(in_address), (format!(r#"{{"anthropic_version":"v-1",{message},"stream":true}}"#), Some("a,b".to_owned())));
    let in_body = Form { says_stream: false, holds_betas: true, ..in_address };
    assert_eq!(sent(in_body), (format!(r#"{{"anthropic_version":"v-1","anthropic_beta":["a","b"],{message}}}"#), None));
}

#[test]
fn it_serves_no_other_task() {
    let payload = Payload::typed_only(Request::Embed(flowgate_proto::v1::EmbedRequest::default()));
    let error = body(&ask(Task::Embed, &payload), &target_of(&Case::default()), Form::PLAIN).unwrap_err();
    assert_eq!(error.reason(), flowgate_proto::v1::ErrorReason::CallerWrongTask);
}
