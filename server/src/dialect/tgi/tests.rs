//! Golden fixtures of the dialect.

use flowgate_proto::v1::CompleteRequest;
use http::HeaderMap;

use super::TGI;
use crate::{
    dialect::{
        Ask, Dialect, Quirks, Target,
        golden::{Case, Suite, ask, checks, frames, target},
        join::join,
        openai::complete_to_chat,
    },
    event::{Answer, Payload, Request, Task},
};

static SUITE: Suite = Suite { dialect: &TGI, folder: "tgi", target: target_of };
checks!(SUITE, Complete);

static QUIRKS: Quirks = Quirks { max_tokens_field: "max_tokens", ..Quirks::NONE };

/// Whom a case asks.
fn target_of(case: &Case) -> Target {
    let url = case.url_or("http://localhost:8080");
    Target { quirks: &QUIRKS, ..target("huggingface-text-generation-inference", url, &case.model) }
}

#[test]
fn a_stream_says_what_a_whole_answer_says() {
    let payload = Payload::typed_only(Request::Complete(CompleteRequest { logprobs: Some(0), ..CompleteRequest::default() }));
    let ask = Ask { streaming: true, ..ask(Task::Complete, &payload) };
    let target = target_of(&Case::default());
    let whole = r#"{"generated_text":" a b","details":{"finish_reason":"eos_token","generated_tokens":3,"prefill":[{},{}],"tokens":[
        {"text":" a","logprob":-0.5},{"text":" b","logprob":-1.5}]}}"#;
    let stream = r#"data:{"token":{"text":" a","logprob":-0.5,"special":false},"generated_text":null,"details":null}

data:{"token":{"text":" b","logprob":-1.5,"special":false},"generated_text":null,"details":null}

data:{"token":{"text":"</s>","logprob":0.0,"special":true},"generated_text":" a b","details":{"finish_reason":"eos_token","generated_tokens":3,"input_length":2}}

"#;
    let Answer::Complete(whole) = TGI.decode(&ask, &target, &HeaderMap::new(), whole.into()).unwrap() else { panic!("no completion") };
    let mut decoder = TGI.decoder(&ask, &target);
    let mut events = Vec::new();
    frames(stream.as_bytes(), "sse", 1).into_iter().for_each(|frame| decoder.frame(frame, &mut events).unwrap());
    assert_eq!(join(events).unwrap(), complete_to_chat(whole));
}
