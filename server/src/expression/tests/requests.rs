//! What `request` shows: of every door, of either form of the request, and when it looks.

use bytes::Bytes;
use flowgate_proto::{
    v1::{
        ChatRequest, Column, CompleteRequest, DataType, DoubleValues, EmbedRequest, Frame, Message, PredictRequest, Raw, Role,
        StringValues, Tensor, Tensors, TextPart, column::Values, part::Kind, predict_request::Input,
    },
    wkt,
};

use super::{ask, openai, sample, scoring, typed};
use crate::event::{Protocol, Request};

const SENTIMENT: &str = "request.json()['dataframe_split']['data'][0][0].startswith('Domain specific text')";

fn predict(input: Input) -> Request {
    Request::Predict(PredictRequest {
        input: Some(input),
        metadata: [("plan".to_owned(), "gold".to_owned())].into(),
        ..PredictRequest::default()
    })
}

fn texts(values: &[&str]) -> Column {
    let values = values.iter().map(|text| (*text).to_owned()).collect();
    Column { name: "text".to_owned(), values: Some(Values::Strings(StringValues { values })), ..Column::default() }
}

#[test]
fn a_typed_frame_shows_the_json_of_the_scoring_server() {
    let numbers = Column { name: "n".to_owned(), values: Some(Values::Doubles(DoubleValues { values: vec![1.5] })), ..Column::default() };
    let frame = Frame { columns: vec![texts(&["Domain specific text …"]), numbers] };
    let request = typed(predict(Input::Frame(frame)));
    assert_eq!(ask(SENTIMENT, &request), Ok(true));
    for text in [
        "request.json['dataframe_split']['columns'] == ['text', 'n'] and request.json['dataframe_split']['data'][0][1] == 1.5",
        "request.metadata.get('plan') == 'gold' and request.metadata['plan'] == 'gold' and 'x' not in request.metadata",
        "request.text == ''",
    ] {
        assert_eq!(ask(text, &request), Ok(true), "{text}");
    }
    assert_eq!(request.metadata_of("plan").as_deref(), Some("gold"));
}

#[test]
fn every_form_of_an_input_has_its_json() {
    let list = |text: &str| wkt::ListValue { values: vec![text.to_owned().into()] };
    let ones = Bytes::from_static(&[1, 0, 0, 0, 2, 0, 0, 0]);
    let tensor = Tensor { name: "x".to_owned(), shape: vec![2], data_type: DataType::Int32.into(), data: ones, ..Tensor::default() };
    let raw = |content_type: &str, body: &'static str| Raw { content_type: content_type.to_owned(), body: body.into() };
    for (input, text) in [
        (Input::Instances(list("a")), "request.json['instances'][0] == 'a'"),
        (Input::Inputs("a".to_owned().into()), "request.json['inputs'] == 'a'"),
        (Input::Tensors(Tensors { tensors: vec![tensor] }), "request.json['inputs']['x'] == [1, 2]"),
        (Input::Raw(raw("application/json; charset=utf-8", r#"{"inputs": [1]}"#)), "request.json['inputs'] == [1]"),
        (Input::Raw(raw("text/csv", "a,b\n1,2")), "request.json is None and request.get_json(silent=True) is None"),
        (Input::Raw(raw("application/json", "{")), "request.json is None"),
    ] {
        assert_eq!(ask(text, &typed(predict(input))), Ok(true), "{text}");
    }
}

fn message(role: Role, text: &str) -> Message {
    let part = flowgate_proto::v1::Part {
        kind: Some(Kind::Text(TextPart { text: text.to_owned(), ..TextPart::default() })),
        ..Default::default()
    };
    Message { role: role.into(), parts: vec![part], ..Message::default() }
}

#[test]
fn typed_calls_to_models_of_language_show_openais_json() {
    let chat = typed(Request::Chat(ChatRequest {
        endpoint: "chat".to_owned(),
        messages: vec![message(Role::System, "Be brief"), message(Role::User, "Hi")],
        temperature: Some(0.5),
        top_k: Some(3),
        metadata: [("plan".to_owned(), "gold".to_owned())].into(),
        ..ChatRequest::default()
    }));
    let complete = typed(Request::Complete(CompleteRequest {
        endpoint: "c".to_owned(),
        prompts: vec!["One".to_owned(), "Two".to_owned()],
        ..CompleteRequest::default()
    }));
    let embed = typed(Request::Embed(EmbedRequest { inputs: vec!["Text".to_owned()], ..EmbedRequest::default() }));
    for (request, text) in [
        (&chat, "request.json['messages'][1]['role'] == 'user' and request.json['temperature'] == 0.5 and request.json['model'] == 'chat'"),
        (&chat, "request.text == 'Be brief\\nHi' and request.metadata['plan'] == 'gold' and 'top_k' not in request.json"),
        (&complete, "request.json['prompt'] == ['One', 'Two'] and request.text == 'One\\nTwo'"),
        (&embed, "request.text == 'Text' and 'Text' in request.json['input']"),
    ] {
        assert_eq!(ask(text, request), Ok(true), "{text}");
    }
}

#[test]
fn bodies_as_received_show_their_json() {
    let chat = sample();
    for text in [
        "request.text == 'Be brief\\nHi'",
        "request.metadata['plan'] == 'gold'",
        "request.json == request.get_json() and request.json['t'] is True",
    ] {
        assert_eq!(ask(text, &chat), Ok(true), "{text}");
    }
    assert_eq!(chat.field(&["c", "d"]).as_deref(), Some("Text"));
    assert_eq!(chat.field(&["b", "1"]).as_deref(), Some("2"));
    assert_eq!((chat.field(&["c"]), chat.field(&["c", "e"]), chat.field(&["z", "y"])), (None, None, None));
    let complete = openai(Protocol::OpenAiCompletions, r#"{"prompt": "Say"}"#);
    assert_eq!(ask("request.text == 'Say' and len(request.metadata) == 0", &complete), Ok(true));
    let embed = openai(Protocol::OpenAiEmbeddings, r#"{"input": ["a", "b"]}"#);
    assert_eq!(ask("request.text == 'a\\nb'", &embed), Ok(true));
    for (content_type, body) in [("text/csv", "a\n1"), ("application/json", "{"), ("application/json", "")] {
        let request = scoring(content_type, body);
        assert_eq!(ask("request.json is None and request.text == '' and len(request.metadata) == 0", &request), Ok(true), "{body}");
        assert!(ask(SENTIMENT, &request).is_err());
    }
    let python = scoring("application/json", r#"{"inputs": [NaN, -Infinity, 1]}"#);
    assert_eq!(ask("request.json['inputs'] == [None, None, 1] and request.text == ''", &python), Ok(true));
    let list = scoring("application/json; charset=utf-8", "[1, 2]");
    assert_eq!(ask("request.json[1] == 2 and len(request.json()) == 2", &list), Ok(true));
}

#[test]
fn the_rest_is_what_flask_shows() {
    let request = sample();
    for text in [
        "request.headers['X-Team'] == 'red' and request.headers.get('x-TEAM') == 'red' and 'X-team' in request.headers",
        "request.headers.get('x-none') is None and request.headers.get('x-none', 'd') == 'd' and 'x-none' not in request.headers",
        "request.headers['accept'] == 'text/plain, */*' and len(request.headers) == 2 and 'x-team' in request.headers.keys()",
        "request.headers.get(5) is None and ['x-team', 'red'] in request.headers.items()",
        "request.method == 'POST' and request.path.startswith('/endpoints/') and request.path.split('/')[2] == 'chat'",
        "request.args['debug'] == '1' and request.args.get('tag') == 'a b' and request.args['empty'] == '' and 'x' not in request.args",
        "request.remote_addr == '10.1.2.3' and request.principal == 'app'",
    ] {
        assert_eq!(ask(text, &request), Ok(true), "{text}");
    }
}

#[test]
fn the_body_is_parsed_at_most_once_and_only_if_it_is_read() {
    let request = sample();
    for text in
        ["request.headers['x-team'] == 'red'", "request.path == '/' or request.args.get('debug') == '1'", "request.principal == 'app'"]
    {
        assert_eq!(ask(text, &request), Ok(true), "{text}");
        assert!(!request.has_read_body(), "{text}");
    }
    assert_eq!(ask("request.json['a'] == 1", &request), Ok(true));
    assert!(request.has_read_body());
}
