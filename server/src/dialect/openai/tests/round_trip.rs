//! A client's body, read and written again, is the same body. What is made alike on the way:
//!
//! - the model is the target's, and the limit has its newer name;
//! - `stop` is a list;
//! - a field that is unset is left out, also `stream: false`, and `stream_options` without a stream; with one, usage is asked for;
//! - whole numbers have no fraction.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::target;
use crate::{
    dialect::{
        Ask, Dialect, Quirks,
        golden::{
            ask, chat,
            generated::{chat_bodies, set, with_doubles},
        },
        openai::OPENAI,
    },
    event::{Payload, Request, Task},
};

const FIELDS: &[&str] = &[
    "max_tokens",
    "temperature",
    "top_p",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "stop",
    "n",
    "logprobs",
    "tools",
    "response_format",
    "reasoning_effort",
    "metadata",
    "logit_bias",
    "user",
    "service_tier",
    "store",
    "prompt_cache_key",
    "stream",
];

fn again(body: &Json) -> Json {
    let streaming = body["stream"] == json!(true);
    let payload = Payload::typed_only(Request::Chat(chat(body)));
    let request = OPENAI.encode(&Ask { streaming, ..ask(Task::Chat, &payload) }, &target(&Quirks::NONE)).unwrap();
    serde_json::from_slice(request.body()).unwrap()
}

fn normal(mut body: Json) -> Json {
    body["model"] = json!("gpt-4o-mini");
    if let Some(limit) = body.get_mut("max_tokens").map(Json::take) {
        body["max_completion_tokens"] = limit;
    }
    if body.get("stop").is_some_and(Json::is_string) {
        body["stop"] = json!([body["stop"]]);
    }
    if body["stream"] == json!(true) {
        body["stream_options"] = json!({ "include_usage": true });
    } else {
        body["stream"] = Json::Null;
    }
    set(body)
}

proptest! {
    #[test]
    fn a_body_is_the_same_when_written_again(body in chat_bodies(FIELDS)) {
        prop_assert_eq!(with_doubles(again(&body)), with_doubles(normal(body)));
    }
}
