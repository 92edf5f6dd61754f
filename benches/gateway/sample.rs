//! What is asked and what must come back, word for word; the fake upstream answers from it and the load generator checks against it.

use bytes::{BufMut as _, Bytes, BytesMut};
use flowgate_proto::v1::{
    ChatDelta, ChatRequest, ChatResponse, Choice, ChoiceEnd, Column, DoubleValues, FinishReason, Frame, Message, Part, PredictRequest,
    PredictResponse, Role, StreamChatEnd, StreamChatResponse, StreamStart, TextPart, Usage, UsageSource, chat_delta::Delta, column, part,
    predict_request::Input, predict_response::Output, stream_chat_response::Event,
};
use serde_json::json;

/// How many pieces the text of an answer comes in.
pub const PIECES: usize = 64;
/// The table to predict for.
pub const ROWS: usize = 100;
pub const COLUMNS: [&str; 4] = ["sepal_length", "sepal_width", "petal_length", "petal_width"];

const ID: &str = "chatcmpl-bench";
const MODEL: &str = "fake-model";
const CREATED: u32 = 1_700_000_000;
const INPUT_TOKENS: u32 = 21;
const SYSTEM: &str = "You answer in words that a benchmark can count.";
const QUESTION: &str =
    "Say the numbers from zero to sixty-three, one word each, and nothing else; this sentence gives the request some length.";

/// Requests in both contracts, and the answers in the forms of the fake upstream.
pub struct Sample {
    pub chat_json: Bytes,
    pub stream_json: Bytes,
    pub predict_json: Bytes,
    pub chat: ChatRequest,
    pub predict: PredictRequest,

    /// Whole answers, as JSON.
    pub chat_answer: Bytes,
    pub predict_answer: Bytes,
    /// A streamed answer, one server-sent event each, and all of them.
    pub events: Vec<Bytes>,
    pub stream_answer: Bytes,
    /// The same answers as gRPC frames, for the gRPC reference.
    pub grpc_chat: Vec<Bytes>,
    pub grpc_stream: Vec<Bytes>,
    pub grpc_predict: Vec<Bytes>,

    /// What the answers must hold.
    pub text: String,
    pub predictions: Vec<f64>,
}

impl Sample {
    pub fn new() -> Self {
        let text = (0..PIECES).map(piece).collect::<String>();
        let predictions: Vec<f64> = (0..ROWS).map(|row| number(row) / 8.0 + 0.0625).collect();
        let events = events();
        Self {
            chat_json: chat_json(None),
            stream_json: chat_json(Some(json!({"include_usage": true}))),
            predict_json: predict_json(),
            chat: chat_request(),
            predict: predict_request(),
            chat_answer: chat_answer(&text),
            predict_answer: Bytes::from(json!({ "predictions": predictions }).to_string()),
            stream_answer: events.concat().into(),
            events,
            grpc_chat: vec![frame(&grpc_chat(&text))],
            grpc_stream: grpc_stream().iter().map(frame).collect(),
            grpc_predict: vec![frame(&PredictResponse {
                output: Some(Output::Frame(Frame { columns: vec![doubles("", predictions.clone())] })),
                ..PredictResponse::default()
            })],
            text,
            predictions,
        }
    }

    /// How many bytes of the streamed answer have arrived when the first content has.
    pub fn first_content(&self) -> usize {
        self.events.iter().take(2).map(Bytes::len).sum()
    }
}

fn piece(n: usize) -> String {
    format!(" w{n:02}")
}

fn number(n: usize) -> f64 {
    f64::from(u32::try_from(n).expect("a small number"))
}

/// Measures with as many digits as measures have.
fn cell(row: usize, column: usize) -> f64 {
    (number(row * 7 + column * 13 + 1) * 0.37).rem_euclid(10.0)
}

fn chat_json(stream_options: Option<serde_json::Value>) -> Bytes {
    let mut body = json!({
        "model": "chat",
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}],
        "temperature": 0.25,
        "max_tokens": 64,
    });
    if let Some(options) = stream_options {
        body["stream"] = true.into();
        body["stream_options"] = options;
    }
    Bytes::from(body.to_string())
}

fn chat_request() -> ChatRequest {
    let message = |role: Role, text: &str| Message { role: role.into(), text: text.to_owned(), ..Message::default() };
    ChatRequest {
        endpoint: "chat".to_owned(),
        messages: vec![message(Role::System, SYSTEM), message(Role::User, QUESTION)],
        temperature: Some(0.25),
        max_tokens: Some(64),
        ..ChatRequest::default()
    }
}

fn chat_answer(text: &str) -> Bytes {
    let body = json!({
        "id": ID,
        "object": "chat.completion",
        "created": CREATED,
        "model": MODEL,
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": null},
            "logprobs": null,
            "finish_reason": "stop",
        }],
        "usage": usage_json(),
    });
    Bytes::from(body.to_string())
}

fn usage_json() -> serde_json::Value {
    json!({
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": PIECES,
        "total_tokens": INPUT_TOKENS as usize + PIECES,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    })
}

/// A role, the pieces, an end, the usage, `[DONE]`.
fn events() -> Vec<Bytes> {
    let chunk = |choices: serde_json::Value, usage: serde_json::Value| {
        let body = json!({
            "id": ID, "object": "chat.completion.chunk", "created": CREATED, "model": MODEL, "choices": choices, "usage": usage,
        });
        Bytes::from(format!("data: {body}\n\n"))
    };
    let choice = |delta: serde_json::Value, finish: Option<&str>| {
        chunk(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]), serde_json::Value::Null)
    };
    let mut events = vec![choice(json!({"role": "assistant", "content": ""}), None)];
    events.extend((0..PIECES).map(|n| choice(json!({ "content": piece(n) }), None)));
    events.push(choice(json!({}), Some("stop")));
    events.push(chunk(json!([]), usage_json()));
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    events
}

fn predict_json() -> Bytes {
    let rows: Vec<Vec<f64>> = (0..ROWS).map(|row| (0..COLUMNS.len()).map(|column| cell(row, column)).collect()).collect();
    Bytes::from(json!({"dataframe_split": {"columns": COLUMNS, "data": rows}}).to_string())
}

fn predict_request() -> PredictRequest {
    let columns = COLUMNS.iter().enumerate();
    let columns = columns.map(|(column, name)| doubles(name, (0..ROWS).map(|row| cell(row, column)).collect())).collect();
    PredictRequest { endpoint: "score".to_owned(), input: Some(Input::Frame(Frame { columns })), ..PredictRequest::default() }
}

fn doubles(name: &str, values: Vec<f64>) -> Column {
    Column { name: name.to_owned(), values: Some(column::Values::Doubles(DoubleValues { values })), ..Column::default() }
}

fn usage() -> Usage {
    Usage {
        input_tokens: Some(INPUT_TOKENS),
        output_tokens: u32::try_from(PIECES).ok(),
        source: UsageSource::Reported.into(),
        ..Usage::default()
    }
}

fn grpc_chat(text: &str) -> ChatResponse {
    let part = Part { kind: Some(part::Kind::Text(TextPart { text: text.to_owned(), ..TextPart::default() })), ..Part::default() };
    let message = Message { role: Role::Assistant.into(), parts: vec![part], ..Message::default() };
    let choice = Choice {
        message: Some(message),
        finish_reason: FinishReason::Stop.into(),
        raw_finish_reason: "stop".to_owned(),
        stop_sequence: String::new(),
        ..Choice::default()
    };
    ChatResponse {
        id: ID.to_owned(),
        model: MODEL.to_owned(),
        choices: vec![choice],
        usage: Some(usage()),
        created: CREATED,
        ..ChatResponse::default()
    }
}

fn grpc_stream() -> Vec<StreamChatResponse> {
    let start = StreamStart { id: ID.to_owned(), model: MODEL.to_owned(), created: CREATED, ..StreamStart::default() };
    let end = ChoiceEnd { finish_reason: FinishReason::Stop.into(), raw_finish_reason: "stop".to_owned(), ..ChoiceEnd::default() };
    let delta = |n| Event::Delta(ChatDelta { delta: Some(Delta::Text(piece(n))), ..ChatDelta::default() });
    let mut events = vec![Event::Start(start)];
    events.extend((0..PIECES).map(delta));
    events.extend([Event::ChoiceEnd(end), Event::Usage(usage()), Event::End(StreamChatEnd::default())]);
    (0..).zip(events).map(|(sequence, event)| StreamChatResponse { sequence, event: Some(event) }).collect()
}

/// One gRPC message: not compressed, its length, itself.
fn frame(message: &impl prost::Message) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).expect("a small message"));
    message.encode(&mut frame).expect("the buffer grows");
    frame.freeze()
}
