//! Golden fixtures of the dialect.

use flowgate_proto::v1::ChatRequest;

use super::SAGEMAKER;
use crate::{
    dialect::{
        Ask, Dialect, Framing, Quirks, Target,
        golden::{Case, Suite, ask, checks, target},
    },
    event::{Payload, Request, Task},
};

static SUITE: Suite = Suite { dialect: &SAGEMAKER, folder: "sagemaker", target: target_of };
checks!(SUITE);

static QUIRKS: Quirks = Quirks { max_tokens_field: "max_tokens", ..Quirks::NONE };

/// Whom a case asks.
fn target_of(case: &Case) -> Target {
    let settings = case.settings(&["schema", "stream_format", "served_model"]);
    Target {
        settings,
        quirks: &QUIRKS,
        ..target("sagemaker", "https://runtime.sagemaker.eu-west-1.amazonaws.com", case.model_or("llama-8b"))
    }
}

#[test]
fn streams_are_framed_as_the_container_writes_them() {
    let payload = Payload::typed_only(Request::Chat(ChatRequest::default()));
    let ask = Ask { streaming: true, ..ask(Task::Chat, &payload) };
    let framing = |format: &str| {
        let settings = [("stream_format".to_owned(), format.to_owned())].into_iter().collect();
        SAGEMAKER.framing(&ask, &target_of(&Case { settings, ..Case::default() }))
    };
    assert_eq!(framing("sse"), Framing::PayloadSse);
    assert_eq!(framing("lines"), Framing::PayloadLines);
}
