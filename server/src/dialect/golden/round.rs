//! Round trips: a client's body in OpenAI's protocol, into another protocol and, by a reader that only tests have, back. What both can say
//! survives.

use flowgate_proto::v1::ChatRequest;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value as Json, json};

use super::{Case, Suite, chat, sent, target};
use crate::dialect::openai::OPENAI;

/// Sends every body there and back, and conversations that are made up. `back` makes a body of the protocol one of OpenAI's.
pub(in crate::dialect) fn check(suite: &Suite, back: fn(Json) -> Json, bodies: &[Json]) {
    let one = |body: &Json| survives(suite, &Case::default(), chat(body), |sent| chat(&back(sent.clone())));
    bodies.iter().for_each(one);
    let mut runner = TestRunner::new_with_rng(Config { cases: 64, failure_persistence: None, ..Config::default() }, fixed());
    runner
        .run(&bodies_made_up(), |body| {
            one(&body);
            Ok(())
        })
        .unwrap();
}

fn fixed() -> proptest::test_runner::TestRng {
    proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha)
}

/// Sends a request, reads the body that goes to the provider, and finds in it all that a client of OpenAI's can say.
pub(in crate::dialect) fn survives(suite: &Suite, case: &Case, request: ChatRequest, back: impl Fn(&Json) -> ChatRequest) {
    let as_openai = |request| sent(&OPENAI, &target("openai", "https://h/v1", "m"), request);
    let there = sent(suite.dialect, &(suite.target)(case), request.clone());
    assert_eq!(as_openai(back(&there)), as_openai(request), "by way of {there:#}");
}

/// Conversations with tools and sampling, as every chat protocol has them.
fn bodies_made_up() -> impl Strategy<Value = Json> {
    let text = || "[a-zé\"\\\\ \n]{1,12}";
    let plain = (text(), text())
        .prop_map(|(user, answer)| vec![json!({ "role": "user", "content": user }), json!({ "role": "assistant", "content": answer })]);
    let calls = (text(), proptest::collection::vec((0..99_u32, text()), 1..4)).prop_map(|(user, results)| {
        let call = |n: &u32| json!({ "id": format!("c{n}"), "type": "function", "function": { "name": "f", "arguments": format!("{{\"n\":{n}}}") } });
        let calls: Vec<Json> = results.iter().map(|(n, _)| call(n)).collect();
        let mut messages = vec![json!({ "role": "user", "content": user }), json!({ "role": "assistant", "tool_calls": calls })];
        messages.extend(results.iter().map(|(n, text)| json!({ "role": "tool", "tool_call_id": format!("c{n}"), "content": text })));
        messages
    });
    let turns = proptest::collection::vec(prop_oneof![plain, calls], 0..4);
    let sampling = (proptest::option::of(0..200_u32), proptest::option::of(0.0..1.0_f64), proptest::option::of(any::<i64>()));
    (proptest::option::of(text()), turns, text(), sampling).prop_map(|(system, turns, last, (max_tokens, temperature, seed))| {
        let mut messages: Vec<Json> = system.into_iter().map(|text| json!({ "role": "system", "content": text })).collect();
        messages.extend(turns.into_iter().flatten());
        messages.push(json!({ "role": "user", "content": last }));
        json!({ "model": "m", "messages": messages, "max_tokens": max_tokens, "temperature": temperature, "seed": seed })
    })
}

/// Moves a field of one object to another name.
pub(in crate::dialect) fn rename(object: &mut Json, from: &str, to: &str) {
    let fields = object.as_object_mut().unwrap();
    if let Some(value) = fields.remove(from) {
        fields.insert(to.to_owned(), value);
    }
}

/// Rich requests that most protocols can say.
pub(in crate::dialect) fn rich() -> Vec<Json> {
    let user = json!({ "role": "user", "content": "Hi" });
    let schema = json!({ "type": "object", "properties": { "a": { "type": "integer" } }, "required": ["a"] });
    let tools = json!([{ "type": "function", "function": { "name": "f", "description": "d", "parameters": schema } }]);
    let image = json!({ "type": "image_url", "image_url": { "url": "data:image/png;base64,iVBORw0KGgo=" } });
    let with = |more: Json| {
        let mut body = json!({ "model": "m", "messages": [user] });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let call = |id: &str| json!({ "id": id, "type": "function", "function": { "name": "f", "arguments": "{\"a\":1,\"b\":[true,null]}" } });
    vec![
        with(json!({ "max_tokens": 7, "temperature": 0, "top_p": 0.5, "seed": 3, "stop": ["a", "b"] })),
        with(json!({ "frequency_penalty": 0.5, "presence_penalty": 0.25 })),
        with(json!({ "temperature": 0.7, "logprobs": true })),
        with(json!({ "tools": tools })),
        with(json!({ "response_format": { "type": "json_object" } })),
        with(json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "answer", "schema": schema } } })),
        with(json!({ "reasoning_effort": "none" })),
        with(
            json!({ "messages": [{ "role": "system", "content": "S" }, user, { "role": "assistant", "content": "A", "reasoning_content": "R" }, user] }),
        ),
        with(json!({ "messages": [{ "role": "user", "content": [image, { "type": "text", "text": "What?" }] }] })),
        with(json!({ "tools": tools, "messages": [user,
            { "role": "assistant", "reasoning_content": "R", "tool_calls": [call("x"), call("y")] },
            { "role": "tool", "tool_call_id": "x", "content": "1" }, { "role": "tool", "tool_call_id": "y", "content": "2" }, user] })),
    ]
}
