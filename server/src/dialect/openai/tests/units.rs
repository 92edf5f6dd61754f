//! What fixtures cannot show: exact bytes of the byte lane, the look at the door, and its refusals.

use bytes::{Bytes, BytesMut};
use flowgate_proto::v1;
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};

use super::{AUTO, FEW_FIELDS, FORTY, HABITS, OLD, frames, said, target, wire};
use crate::{
    dialect::{
        Ask, Dialect, Quirks, Unsupported,
        golden::ask,
        openai::{Encoding, OPENAI, chat_to_complete, chunks, complete_to_chat, door, reply},
    },
    error::Result,
    event::{Answer, Event, Lane, Payload, Request, Task},
};

fn passed(body: &'static str, streaming: bool, quirks: &'static Quirks) -> Result<String> {
    let payload = Payload::wire_only(wire(Task::Chat, body));
    let ask = Ask { streaming, lane: Lane::Byte, ..ask(Task::Chat, &payload) };
    let request = OPENAI.encode(&ask, &target(quirks))?;
    Ok(String::from_utf8(request.into_body().to_vec()).unwrap())
}

#[test]
fn the_byte_lane_changes_the_model_and_nothing_else() {
    let body =
        " {\n \"temperature\":1.00e0 ,\"model\" : \"my endpoint\",\"big\":123456789012345678901234567890, \"x\":{\"model\":\"kept\"}}\n";
    let sent = passed(body, false, &Quirks::NONE).unwrap();
    assert_eq!(sent, body.replace("\"my endpoint\"", "\"gpt-4o-mini\""));
    assert_eq!(passed("{}", false, &Quirks::NONE).unwrap(), r#"{"model":"gpt-4o-mini"}"#);
    assert_eq!(passed(r#" {"a":[1]} "#, false, &Quirks::NONE).unwrap(), r#" {"model":"gpt-4o-mini","a":[1]} "#);
    assert_eq!(passed(r#"{"mod\u0065l":null,"a":1}"#, false, &Quirks::NONE).unwrap(), r#"{"mod\u0065l":"gpt-4o-mini","a":1}"#);
}

/// What was answered in the typed lane may come back in the byte lane: the mark is taken off, or the signature is not the provider's.
#[test]
fn the_byte_lane_does_not_pass_on_marked_signatures() {
    let sent = |signature: &str| {
        let body = serde_json::json!({ "model": "e", "messages": [
            { "role": "user", "content": "Hi" },
            { "role": "assistant", "tool_calls": [
                { "id": "a", "type": "function", "function": { "name": "f", "arguments": "{}" }, "thought_signature": signature }] },
        ] });
        let sent: serde_json::Value = serde_json::from_str(&passed(body.to_string().leak(), false, &Quirks::NONE).unwrap()).unwrap();
        sent["messages"][1]["tool_calls"][0].get("thought_signature").cloned()
    };
    assert_eq!(sent("c2ln").unwrap(), "c2ln");
    assert_eq!(sent("openai:c2ln").unwrap(), "c2ln");
    assert_eq!(sent("gemini:c2ln"), None);
}

#[test]
fn the_byte_lane_asks_for_usage_where_a_stream_can_report_it() {
    let asked = |body, quirks| passed(body, true, quirks).unwrap();
    assert_eq!(
        asked(r#"{"model":"e","stream":true}"#, &Quirks::NONE),
        r#"{"stream_options":{"include_usage":true},"model":"gpt-4o-mini","stream":true}"#
    );
    assert_eq!(
        asked(r#"{"stream_options":{ "include_obfuscation":false},"model":"e"}"#, &Quirks::NONE),
        r#"{"stream_options":{"include_usage":true, "include_obfuscation":false},"model":"gpt-4o-mini"}"#
    );
    assert_eq!(
        asked(r#"{"stream_options":{"include_usage":false},"model":"e"}"#, &Quirks::NONE),
        r#"{"stream_options":{"include_usage":true},"model":"gpt-4o-mini"}"#
    );
    assert_eq!(
        asked(r#"{"stream_options":{},"model":"e"}"#, &Quirks::NONE),
        r#"{"stream_options":{"include_usage":true},"model":"gpt-4o-mini"}"#
    );
    assert_eq!(
        asked(r#"{"stream_options":null,"model":"e"}"#, &Quirks::NONE),
        r#"{"stream_options":{"include_usage":true},"model":"gpt-4o-mini"}"#
    );
    assert_eq!(asked(r#"{"model":"e","stream":true}"#, &OLD), r#"{"model":"gpt-4o-mini","stream":true}"#);
    assert_eq!(asked("{ }", &Quirks::NONE), r#"{"model":"gpt-4o-mini","stream_options":{"include_usage":true} }"#);
    let whole = r#"{"stream_options":{"include_usage":true},"model":"gpt-4o-mini"}"#;
    assert_eq!(asked(whole, &Quirks::NONE), whole);
}

#[test]
fn both_lanes_go_to_the_path_of_the_task() {
    let payload = Payload::typed_only(Request::Embed(v1::EmbedRequest { inputs: vec!["a".to_owned()], ..Default::default() }));
    let request = OPENAI.encode(&ask(Task::Embed, &payload), &target(&Quirks::NONE)).unwrap();
    assert_eq!(request.uri(), "https://api.openai.com/v1/embeddings");
    assert_eq!(request.headers()[CONTENT_TYPE], "application/json");
    for task in [Task::Chat, Task::Complete, Task::Predict] {
        assert_eq!(OPENAI.encode(&ask(task, &payload), &target(&Quirks::NONE)).unwrap_err().reason(), v1::ErrorReason::CallerWrongTask);
    }
}

#[test]
fn an_endless_number_is_refused_before_it_becomes_null() {
    let messages = vec![v1::Message { text: "Hi".to_owned(), ..Default::default() }];
    for bad in [f64::NAN, f64::INFINITY] {
        let request = v1::ChatRequest { messages: messages.clone(), temperature: Some(bad), ..Default::default() };
        let payload = Payload::typed_only(Request::Chat(request));
        let ask = Ask { unsupported: Unsupported::Drop, ..ask(Task::Chat, &payload) };
        let error = OPENAI.encode(&ask, &target(&Quirks::NONE)).unwrap_err();
        assert_eq!(error.to_string(), "the request is invalid: `temperature` must be a finite number");
    }
}

#[test]
fn a_look_finds_what_routing_needs() {
    let peek = door::peek(br#"{"model":"e","stream":true,"stream_options":{"include_usage":true},"encoding_format":"base64","x":[[[1]]]}"#);
    let expected =
        door::Peek { model: Some("e".to_owned()), stream: true, include_usage: true, encoding: Encoding::Base64, written_for: None };
    assert_eq!(peek.unwrap(), expected);
    let unset = door::peek(br#"{"model":null,"stream":null,"stream_options":null,"encoding_format":null}"#);
    assert_eq!(unset.unwrap(), door::Peek::default());
    let written_for = |body: &str| door::peek(body.as_bytes()).unwrap().written_for;
    assert_eq!(written_for(r#"{"messages":[],"prompt":null}"#), Some(Task::Chat));
    assert_eq!(written_for(r#"{"prompt":""}"#), Some(Task::Complete));
    assert_eq!(written_for(r#"{"messages":[],"prompt":""}"#), None);
}

#[test]
fn a_look_says_what_is_wrong() {
    let cases = [
        (r#"{"model": "e", oops}"#, "the body is not valid JSON at line 1 column 16; send a JSON object"),
        ("", "the body is not valid JSON at line 1 column 0; send a JSON object"),
        ("[1]", "the body must be a JSON object"),
        (r#"{"a":1} x"#, "the body is not valid JSON at line 1 column 9; send a JSON object"),
        (r#"{"model":"a","model":"b"}"#, "the request is invalid: `model` stands twice; send it once"),
        (r#"{"stream":true,"x":1,"str\u0065am":false}"#, "the request is invalid: `stream` stands twice; send it once"),
        (r#"{"model":7}"#, "the request is invalid: `model` must be a string"),
        (r#"{"stream":"secret"}"#, "the request is invalid: `stream` must be true or false"),
        (r#"{"stream_options":[]}"#, "the request is invalid: `stream_options` must be an object"),
        (r#"{"encoding_format":"hex"}"#, "the request is invalid: `encoding_format` must be `float` or `base64`"),
    ];
    for (body, message) in cases {
        assert_eq!(door::peek(body.as_bytes()).unwrap_err().to_string(), message, "{body}");
    }
    assert!(door::peek(b"{\"model\":\"\xff\"}").is_err(), "text that is not UTF-8");
}

#[test]
fn a_bad_field_is_named_by_its_path_and_not_quoted() {
    let message = |rest: &str| format!(r#"{{"messages":[{{"role":"user","content":"Hi"}},{rest}]}}"#);
    let cases = [
        (r#"{"model":"e"}"#.to_owned(), "`messages` is required"),
        (r#"{"messages":"secret"}"#.to_owned(), "`messages` must be a list"),
        (message(r#"{"content":"Hi"}"#), "`messages[1].role` is required"),
        (message(r#"{"role":"secret"}"#), "`messages[1].role` must be `system`, `developer`, `user`, `assistant` or `tool`"),
        (message(r#"{"role":"user","role":"user"}"#), "`messages[1]` has a duplicate field `role`"),
        (message(r#"{"role":"user","content":1}"#), "`messages[1].content` must be a string or a list of parts"),
        (message(r#"{"role":"user","content":[{"text":"x"}]}"#), "`messages[1].content[0].type` is required"),
        (
            message(r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":5}}]}"#),
            "`messages[1].content[0].image_url.url` must be a string",
        ),
        (message(r#"{"role":"user","content":[{"type":"image_url"}]}"#), "`messages[1].content[0].image_url` is required"),
        (
            message(r#"{"role":"user","content":[{"type":"text","text":"a","colour":"red"}]}"#),
            "`messages[1].content[0].colour` is not a field that is known here; leave it out",
        ),
        (
            message(r#"{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"?","format":"wav"}}]}"#),
            "`messages[1].content[0].input_audio.data` is not base64",
        ),
        (message(r#"{"role":"assistant","tool_calls":[{"id":1}]}"#), "`messages[1].tool_calls[0].id` must be a string"),
        (message(r#"{"role":"user","tool_call_id":"c"}"#), "`messages[1].tool_call_id` belongs to a message of role tool"),
        (r#"{"messages":[],"max_tokens":-1}"#.to_owned(), "`max_tokens` must be a whole number from 0 to 4294967295"),
        (r#"{"messages":[],"temperature":"secret, expected x"}"#.to_owned(), "`temperature` must be a number"),
        (r#"{"messages":[],"stop":{"a":1}}"#.to_owned(), "`stop` must be a text or a list of texts"),
        (r#"{"messages":[],"metadata":{"a":1}}"#.to_owned(), "`metadata.a` must be a string"),
        (r#"{"messages":[],"prompt":"x"}"#.to_owned(), "`prompt` belongs to another kind of request; leave it out"),
        (
            r#"{"messages":[],"max_tokens":1,"max_completion_tokens":2}"#.to_owned(),
            "`max_completion_tokens` contradicts the other of `max_tokens` and `max_completion_tokens`; send one",
        ),
        (
            r#"{"messages":[],"new_id":18446744073709551615}"#.to_owned(),
            "`new_id` holds a number that cannot be kept exactly; send a smaller one",
        ),
        (r#"{"messages":[],"tools":[{"function":{"name":1}}]}"#.to_owned(), "`tools[0].function.name` must be a string"),
    ];
    for (body, said) in cases {
        let error = door::decode_chat(&wire(Task::Chat, body.clone())).unwrap_err();
        assert_eq!(error.to_string(), format!("the request is invalid: {said}"), "{body}");
        assert!(!format!("{error:?}").contains("secret"));
    }
    let refused = |task, body: &'static str| door::decode_request(task, &wire(task, body)).unwrap_err().to_string();
    assert!(
        refused(Task::Complete, r#"{"prompt":[1,2]}"#)
            .ends_with("`prompt` must be a text or a list of texts; token ids are not taken here")
    );
    assert!(refused(Task::Complete, "{}").ends_with("`prompt` is required"));
    assert!(refused(Task::Embed, r#"{"input":{}}"#).ends_with("`input` must be a text, a list of texts, or lists of token ids"));
    assert!(refused(Task::Embed, r#"{"input":"a","stream":true}"#).ends_with("`stream` belongs to another kind of request; leave it out"));
    assert!(refused(Task::Predict, "{}").contains("another task"));
}

#[test]
fn a_usage_chunk_that_the_client_did_not_ask_for_is_swallowed() {
    let sse = b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
    for (body, shown) in [("{\"stream\":true}", false), ("{\"stream\":true,\"stream_options\":{\"include_usage\":true}}", true)] {
        let payload = Payload::wire_only(wire(Task::Chat, body));
        let ask = Ask { streaming: true, lane: Lane::Byte, ..ask(Task::Chat, &payload) };
        let mut decoder = OPENAI.decoder(&ask, &target(&Quirks::NONE));
        let (mut events, mut out) = (Vec::new(), BytesMut::new());
        frames(sse, "sse", sse.len()).into_iter().for_each(|frame| decoder.frame(frame, &mut events).unwrap());
        assert_eq!(events.iter().find_map(Event::usage).unwrap().output_tokens, Some(2));
        let mut encoder = chunks::ChunkEncoder::new(Task::Chat, &reply::Form::default());
        events.iter().for_each(|event| encoder.event(event, &mut out).unwrap());
        let text = String::from_utf8(out.to_vec()).unwrap();
        assert_eq!(text.contains("prompt_tokens"), shown);
        assert_eq!(text.matches("[DONE]").count(), 1, "frames of the byte lane bring their own end");
    }
}

#[test]
fn a_stream_without_usage_asked_for_has_none_and_a_head_of_its_own() {
    let mut encoder = chunks::ChunkEncoder::new(Task::Chat, &reply::Form { id: "r", model: "e", created: 5, ..Default::default() });
    let mut out = BytesMut::new();
    let raw = v1::RawPart { provider: "openai".to_owned(), json: "{\n\"audio\":{\r\n\"id\":1}}".to_owned() };
    let foreign = v1::RawPart { provider: "anthropic".to_owned(), json: "{}".to_owned() };
    for delta in [v1::chat_delta::Delta::Raw(raw), v1::chat_delta::Delta::Raw(foreign), v1::chat_delta::Delta::Signature("s".to_owned())] {
        encoder.event(&Event::Delta(v1::ChatDelta { delta: Some(delta), ..Default::default() }), &mut out).unwrap();
    }
    encoder.event(&Event::Usage(v1::Usage { input_tokens: Some(1), ..Default::default() }), &mut out).unwrap();
    encoder.event(&Event::End, &mut out).unwrap();
    assert_eq!(
        std::str::from_utf8(&out).unwrap(),
        "data: {\"id\":\"r\",\"object\":\"chat.completion.chunk\",\"created\":5,\"model\":\"e\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\
         \"content\":null,\"audio\":{  \"id\":1}},\"logprobs\":null,\"finish_reason\":null}]}\n\ndata: [DONE]\n\n"
    );
}

#[test]
fn a_chat_answer_becomes_a_completion_and_back() {
    let answer = OPENAI_ANSWER.clone();
    let complete = chat_to_complete(answer.clone());
    assert_eq!(complete.choices[0].text, "Hello");
    assert_eq!(complete_to_chat(complete), answer);
}

static OPENAI_ANSWER: std::sync::LazyLock<v1::ChatResponse> = std::sync::LazyLock::new(|| {
    serde_json::from_str(r#"{"id":"x","choices":[{"message":{"role":"ROLE_ASSISTANT","parts":[{"text":{"text":"Hello"}}]},"finish_reason":"FINISH_REASON_STOP"}]}"#).unwrap()
});

#[test]
fn other_providers_parts_have_openais_form_at_the_door() {
    let answer = r#"{"choices":[{"message":{"parts":[
        {"reasoning":{"text":"Hm.","signature":"s"}},{"text":{"text":"A"}},{"raw":{"provider":"anthropic","json":"{}"}},{"text":{"text":"B"}},
        {"media":{"data":"iVBORw==","mime_type":"image/png"}}]},"finish_reason":"FINISH_REASON_PAUSE","raw_finish_reason":"pause_turn"}]}"#;
    let answer = Answer::Chat(serde_json::from_str(answer).unwrap());
    let form = reply::Form { id: "r", model: "e", created: 5, ..Default::default() };
    assert_eq!(
        std::str::from_utf8(&reply::encode_answer(&answer, &form).unwrap()).unwrap(),
        "{\"id\":\"r\",\"object\":\"chat.completion\",\"created\":5,\"model\":\"e\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"AB\",\
         \"refusal\":null,\"reasoning_content\":\"Hm.\",\"images\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,iVBORw==\"}}]},\
         \"logprobs\":null,\"finish_reason\":\"pause_turn\"}]}"
    );
    assert!(reply::encode_answer(&Answer::Predict(v1::PredictResponse::default()), &form).is_err());
}

#[test]
fn the_list_of_models_is_openais() {
    assert_eq!(
        reply::models([("chat", 5), ("b", 0)]).unwrap(),
        r#"{"object":"list","data":[{"id":"chat","object":"model","created":5,"owned_by":"flowgate"},{"id":"b","object":"model","created":0,"owned_by":"flowgate"}]}"#
    );
}

#[test]
fn a_wire_answer_keeps_its_content_type() {
    let payload = Payload::wire_only(wire(Task::Chat, "{}"));
    let ask = Ask { lane: Lane::Byte, ..ask(Task::Chat, &payload) };
    let headers: HeaderMap = [(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"))].into_iter().collect();
    let body = Bytes::from_static(br#"{"choices":[{"new":1.50}],"usage":{"prompt_tokens":3}}"#);
    let Answer::Wire(answer) = OPENAI.decode(&ask, &target(&Quirks::NONE), &headers, body.clone()).unwrap() else { panic!("typed") };
    assert_eq!((answer.body, &answer.content_type), (body, &headers[CONTENT_TYPE]));
    assert_eq!(answer.usage.unwrap().input_tokens, Some(3));
}

#[test]
fn an_error_that_cannot_be_read_still_has_a_meaning() {
    for body in [&b"\xff\xfe"[..], b"[]", b"null", b"{\"error\":7}", b"upstream {\n secret", b"<html>sk-1234567890</html>"] {
        let error = OPENAI.classify(&target(&Quirks::NONE), StatusCode::BAD_GATEWAY, &HeaderMap::new(), body);
        assert_eq!(said(&error), "PROVIDER_FAILED: the provider failed; try again\nupstream status 502\n");
        assert!(!format!("{error:?}").contains("secret"));
    }
}

#[test]
fn the_byte_lane_writes_anew_what_a_provider_takes_in_another_form_only() {
    let asked = |body, quirks| passed(body, false, quirks).unwrap();
    let plain = r#"{"model":"e","messages":[{"role":"user","content":"Hi"}],"odd":1}"#;
    assert_eq!(asked(plain, &OLD), plain.replace("\"e\"", "\"gpt-4o-mini\""), "nothing to change");
    let renamed = asked(r#"{"model":"e","messages":[{"role":"user","content":"Hi"}],"seed":7,"odd":1}"#, &HABITS);
    assert_eq!(renamed, r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hi"}],"random_seed":7,"odd":1}"#);
    let limited = asked(r#"{"messages":[{"role":"user","content":"Hi"}],"max_completion_tokens":7}"#, &OLD);
    assert_eq!(limited, r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hi"}],"max_tokens":7}"#);
    let error = passed(r#"{"messages":[{"role":"user","content":"Hi"}],"user":"u"}"#, false, &OLD).unwrap_err();
    assert_eq!(error.reason(), v1::ErrorReason::CallerUnsupportedParameter);
}

#[test]
fn the_byte_lane_passes_on_the_one_choice_of_tools_that_a_provider_takes() {
    let body =
        |choice| format!(r#"{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"Hi"}}],"tool_choice":{choice},"odd":1}}"#);
    for choice in [r#""auto""#, "null"] {
        assert_eq!(passed(body(choice).leak(), false, &AUTO).unwrap(), body(choice));
    }
    for choice in [r#""required""#, r#""none""#, r#"{"type":"function","function":{"name":"f"}}"#] {
        let error = passed(body(choice).leak(), false, &AUTO).unwrap_err();
        assert_eq!(error.reason(), v1::ErrorReason::CallerUnsupportedParameter, "{choice}");
        assert!(said(&error).contains("`tool_choice`"), "{}", said(&error));
    }
}

/// One that is as strict as the strictest.
static STRICT: Quirks = Quirks {
    max_tokens_field: "max_tokens",
    stream_usage: false,
    lacks: &["store", "name", "reasoning_content"],
    renames: &[("dimensions", "output_dimension")],
    most_inputs: 2,
    ..Quirks::NONE
};

#[test]
fn no_lane_sends_stream_options_to_who_does_not_take_them() {
    let body = r#"{"messages":[{"role":"user","content":"Hi"}],"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}"#;
    let sent = passed(body, true, &STRICT).unwrap();
    assert_eq!(sent, r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hi"}],"stream":true}"#);
}

#[test]
fn what_a_provider_lacks_is_refused_also_where_it_has_no_name_in_the_contract() {
    let body = r#"{"messages":[{"role":"user","content":"Hi"}],"store":false}"#;
    let error = passed(body, false, &STRICT).unwrap_err();
    assert_eq!(error.reason(), v1::ErrorReason::CallerUnsupportedParameter);
    assert!(said(&error).contains("`provider_options.openai.store`"), "{}", said(&error));
    let payload = Payload::wire_only(wire(Task::Chat, body));
    let ask = Ask { lane: Lane::Byte, unsupported: Unsupported::Drop, ..ask(Task::Chat, &payload) };
    let request = OPENAI.encode(&ask, &target(&STRICT)).unwrap();
    assert_eq!(*request.body(), r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hi"}]}"#);
}

#[test]
fn the_byte_lane_finds_what_a_provider_lacks_in_messages() {
    let error = passed(r#"{"messages":[{"role":"user","content":"Hi","name":"anna"}]}"#, false, &STRICT).unwrap_err();
    assert_eq!(error.reason(), v1::ErrorReason::CallerUnsupportedParameter);
    let thought = r#"{"messages":[{"role":"assistant","content":"Hi","reasoning_content":"Hm"}]}"#;
    let without = r#"{"model":"gpt-4o-mini","messages":[{"role":"assistant","content":"Hi"}]}"#;
    assert_eq!(passed(thought, false, &STRICT).unwrap(), without);
    let tools =
        r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hi"}],"tools":[{"type":"function","function":{"name":"f"}}]}"#;
    assert_eq!(passed(tools, false, &STRICT).unwrap(), tools, "a tool may have a name");
}

#[test]
fn the_byte_lane_finds_fields_of_messages_that_a_provider_refuses() {
    let body =
        |answer: &str| format!(r#"{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"\"refusal\""}},{answer}],"odd":1}}"#);
    for (answer, sent) in [
        (r#"{"role":"assistant","content":"A","refusal":null,"annotations":[]}"#, r#"{"role":"assistant","content":"A"}"#),
        (r#"{"role":"assistant","content":null,"refusal":"No"}"#, r#"{"role":"assistant","content":"No"}"#),
        (r#"{"role":"assistant","content":[{"type":"refusal","refusal":"No"}]}"#, r#"{"role":"assistant","content":"No"}"#),
        (r#"{"role":"assistant","content" : "A"}"#, r#"{"role":"assistant","content" : "A"}"#),
    ] {
        assert_eq!(passed(body(answer).leak(), false, &FEW_FIELDS).unwrap(), body(sent), "{answer}");
    }
    let thought = body(r#"{"role":"assistant","content":"","reasoning_content":"Hm"},{"role":"user","content":"B"}"#);
    assert_eq!(passed(thought.leak(), false, &FEW_FIELDS).unwrap(), body(r#"{"role":"user","content":"B"}"#));
}

#[test]
fn the_byte_lane_fits_only_ids_of_calls_that_are_too_long() {
    let body = |id: &str| {
        let call = format!(r#"{{"id":"{id}","type":"function","function":{{"name":"f","arguments":"{{}}"}}}}"#);
        format!(
            r#"{{"model":"gpt-4o-mini","messages":[{{"role":"assistant","content":null,"tool_calls":[{call}]}},{{"role":"tool","tool_call_id":"{id}","content" : "1"}}]}}"#
        )
    };
    let fits = body(&"c".repeat(40));
    assert_eq!(passed(fits.clone().leak(), false, &FORTY).unwrap(), fits, "as it came");
    let long = "c".repeat(41);
    let sent = passed(body(&long).leak(), false, &FORTY).unwrap();
    let fitted = super::super::quirks::tool_id(&long, &FORTY);
    assert!(fitted.len() <= 40);
    assert_eq!(sent, body(&fitted).replace(" : ", ":"));
    for only in [
        r#"{"role":"tool","tool_call_id":"~","content" : "1"}"#,
        r#"{"role":"assistant","tool_calls":[{"id":"~","type":"function","function":{"name":"f","arguments":"{}"}}]}"#,
    ] {
        let body = format!(r#"{{"messages":[{only}]}}"#).replace('~', &long);
        assert!(!passed(body.leak(), false, &FORTY).unwrap().contains(&long), "{only}");
    }
    assert_eq!(passed(body(&long).leak(), false, &Quirks::NONE).unwrap(), body(&long));
}

#[test]
fn a_list_of_faults_says_what_is_wrong() {
    let fault = r#"[{"type":"extra_forbidden","loc":["body","user"],"msg":"Extra inputs are not permitted","input":"sk-12345678"}]"#;
    for body in [format!(r#"{{"detail":{fault}}}"#), format!(r#"{{"object":"error","message":{{"detail":{fault}}}}}"#)] {
        let error = OPENAI.classify(&target(&Quirks::NONE), StatusCode::UNPROCESSABLE_ENTITY, &HeaderMap::new(), body.as_bytes());
        let told = said(&error);
        assert!(told.contains("body.user: Extra inputs are not permitted"), "{told}");
        assert!(!told.contains("sk-"), "{told}");
    }
}
