//! Every way to ask the gateway for a text: one question and one kind of outcome, so that a test is a table of doors.

use flowgate_client::{
    message,
    proto::v1::{
        ChatRequest, ChatResponse, CompleteRequest, CompleteResponse, StreamChatResponse, StreamCompleteResponse, chat_delta::Delta,
        stream_chat_response, stream_complete_response,
    },
};
use futures_util::{Stream, StreamExt as _, stream, stream::BoxStream};
use http::HeaderMap;
use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::gateway::Running;

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Grpc,
    GrpcWeb,
    /// `/v1/endpoints/{endpoint}:chat`
    Native,
    /// `/v1/chat/completions`
    OpenAi,
    /// `/llm/v1/chat/{endpoint}`
    Named,
    /// `/endpoints/{endpoint}/invocations`
    Invocations,
    /// The endpoint's own `path:`.
    Own,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Chat,
    Complete,
}

/// One door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    pub way: Way,
    pub task: Task,
    pub streaming: bool,
}

/// What a caller is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub text: String,
    pub tokens: Option<(u32, u32)>,
}

/// One thing that a stream tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    Tokens(u32, u32),
    End,
}

/// Why a call failed, in the words of its door.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The HTTP status; `None` over gRPC.
    pub http: Option<u16>,
    /// The gRPC code; `None` over HTTP.
    pub code: Option<Code>,
    pub reason: String,
    pub message: String,
    /// Whole seconds after which to try again.
    pub retry_after: Option<u64>,
    /// Everything that the caller sees.
    pub seen: String,
}

/// A streamed answer.
pub type Pieces = BoxStream<'static, Result<Piece, Refusal>>;

const WAYS: [Way; 7] = [Way::Grpc, Way::GrpcWeb, Way::Native, Way::OpenAi, Way::Named, Way::Invocations, Way::Own];

/// Every door for a task.
pub fn doors(task: Task) -> Vec<Door> {
    WAYS.into_iter().flat_map(|way| [false, true].map(|streaming| Door { way, task, streaming })).collect()
}

/// Every streaming door for a task.
pub fn streaming(task: Task) -> Vec<Door> {
    doors(task).into_iter().filter(|door| door.streaming).collect()
}

impl Door {
    /// Asks, and puts a stream together. A stream that just stops is a refusal with the reason `SILENT_END`.
    pub async fn ask(self, running: &Running, endpoint: &str) -> Result<Told, Refusal> {
        self.say(running, endpoint, "hi").await
    }

    /// Asks with a prompt.
    pub async fn say(self, running: &Running, endpoint: &str, prompt: &str) -> Result<Told, Refusal> {
        if self.streaming {
            return collect(self.open_saying(running, endpoint, prompt).await?).await;
        }
        match self.way {
            Way::Grpc => self.grpc(running, endpoint, prompt).await,
            Way::GrpcWeb => {
                let messages: Vec<_> = self.web(running, endpoint, prompt).await?.collect().await;
                let message = messages.into_iter().next().unwrap_or_else(|| Err(silent("an RPC without an answer")))?;
                Ok(match self.task {
                    Task::Chat => of_chat(&ChatResponse::decode(&*message).unwrap()),
                    Task::Complete => of_completion(&CompleteResponse::decode(&*message).unwrap()),
                })
            }
            _ => {
                let response = self.post(running, endpoint, prompt).await?;
                Ok(self.told(&serde_json::from_str(&response.text().await.unwrap()).unwrap()))
            }
        }
    }

    /// Opens a stream.
    pub async fn open(self, running: &Running, endpoint: &str) -> Result<Pieces, Refusal> {
        self.open_saying(running, endpoint, "hi").await
    }

    /// Opens a stream with a prompt.
    pub async fn open_saying(self, running: &Running, endpoint: &str, prompt: &str) -> Result<Pieces, Refusal> {
        match self.way {
            Way::Grpc => self.grpc_stream(running, endpoint, prompt).await,
            Way::GrpcWeb => {
                let messages = self.web(running, endpoint, prompt).await?;
                Ok(messages.flat_map(move |message| stream::iter(message.map_or_else(|r| vec![Err(r)], |m| self.of_message(&m)))).boxed())
            }
            _ => {
                let response = self.post(running, endpoint, prompt).await?;
                assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8", "{self:?}");
                Ok(self.sse(response).boxed())
            }
        }
    }

    /// The path over HTTP.
    pub fn path(self, endpoint: &str) -> String {
        let of = |chat, complete| if self.task == Task::Chat { chat } else { complete };
        match (self.way, self.streaming) {
            (Way::Grpc | Way::GrpcWeb, false) => of("/flowgate.v1.ChatService/Chat", "/flowgate.v1.CompletionService/Complete").to_owned(),
            (Way::Grpc | Way::GrpcWeb, true) => {
                of("/flowgate.v1.ChatService/StreamChat", "/flowgate.v1.CompletionService/StreamComplete").to_owned()
            }
            (Way::Native, false) => format!("/v1/endpoints/{endpoint}:{}", of("chat", "complete")),
            (Way::Native, true) => format!("/v1/endpoints/{endpoint}:{}", of("streamChat", "streamComplete")),
            (Way::OpenAi, _) => of("/v1/chat/completions", "/v1/completions").to_owned(),
            (Way::Named, _) => format!("/llm/v1/{}/{endpoint}", of("chat", "completions")),
            (Way::Invocations, _) => format!("/endpoints/{endpoint}/invocations"),
            (Way::Own, _) => format!("/own/{endpoint}"),
        }
    }

    /// The JSON body over HTTP.
    pub fn body(self, endpoint: &str, prompt: &str) -> Value {
        let mut body = match (self.way, self.task) {
            (Way::Native, Task::Chat) => json!({"messages": [{"text": prompt}]}),
            (Way::Native, Task::Complete) => json!({"prompts": [prompt]}),
            (_, Task::Chat) => json!({"messages": [{"role": "user", "content": prompt}]}),
            (_, Task::Complete) => json!({"prompt": prompt}),
        };
        if self.way == Way::OpenAi {
            body["model"] = endpoint.into();
        }
        if self.way != Way::Native && self.streaming {
            (body["stream"], body["stream_options"]) = (true.into(), json!({"include_usage": true}));
        }
        body
    }

    async fn post(self, running: &Running, endpoint: &str, prompt: &str) -> Result<reqwest::Response, Refusal> {
        let response = running.post(&self.path(endpoint), self.body(endpoint, prompt).to_string()).await;
        if response.status() == 200 { Ok(response) } else { Err(Refusal::of_response(response).await) }
    }

    fn message(self, endpoint: &str, prompt: &str) -> Vec<u8> {
        match self.task {
            Task::Chat => chat(endpoint, prompt).encode_to_vec(),
            Task::Complete => completion(endpoint, prompt).encode_to_vec(),
        }
    }

    /// The text and usage of a whole JSON answer.
    fn told(self, answer: &Value) -> Told {
        let choice = &answer["choices"][0];
        let (text, tokens) = match (self.way, self.task) {
            (Way::Native, Task::Chat) => (&choice["message"]["parts"][0]["text"]["text"], ["input_tokens", "output_tokens"]),
            (Way::Native, Task::Complete) => (&choice["text"], ["input_tokens", "output_tokens"]),
            (_, Task::Chat) => (&choice["message"]["content"], ["prompt_tokens", "completion_tokens"]),
            (_, Task::Complete) => (&choice["text"], ["prompt_tokens", "completion_tokens"]),
        };
        let [input, output] = tokens.map(|name| answer["usage"][name].as_u64().map(|n| u32::try_from(n).unwrap()));
        Told { text: text.as_str().unwrap_or_default().to_owned(), tokens: input.zip(output) }
    }

    async fn grpc(self, running: &Running, endpoint: &str, prompt: &str) -> Result<Told, Refusal> {
        let client = running.client();
        match self.task {
            Task::Chat => Ok(of_chat(&client.chat(chat(endpoint, prompt)).await?)),
            Task::Complete => Ok(of_completion(&client.complete(completion(endpoint, prompt)).await?)),
        }
    }

    async fn grpc_stream(self, running: &Running, endpoint: &str, prompt: &str) -> Result<Pieces, Refusal> {
        let client = running.client();
        Ok(match self.task {
            Task::Chat => {
                let events = client.stream_chat(chat(endpoint, prompt)).await?;
                events.flat_map(|event| told_by(event, of_chat_event)).boxed()
            }
            Task::Complete => {
                let events = client.stream_complete(completion(endpoint, prompt)).await?;
                events.flat_map(|event| told_by(event, of_completion_event)).boxed()
            }
        })
    }

    /// The messages of an RPC over gRPC-Web.
    async fn web(self, running: &Running, endpoint: &str, prompt: &str) -> Result<BoxStream<'static, Result<Vec<u8>, Refusal>>, Refusal> {
        let message = self.message(endpoint, prompt);
        let mut body = vec![0];
        body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend(message);
        let request = running.http().post(running.url(&self.path(endpoint))).header("content-type", "application/grpc-web+proto");
        let response = request.body(body).send().await.unwrap();
        assert_eq!(response.status(), 200, "gRPC-Web tells by trailers");
        match status_of(response.headers()) {
            Some(refusal) => Err(refusal),
            None => Ok(web_messages(response).boxed()),
        }
    }

    fn of_message(self, message: &[u8]) -> Vec<Result<Piece, Refusal>> {
        match self.task {
            Task::Chat => of_chat_event(StreamChatResponse::decode(message).unwrap()),
            Task::Complete => of_completion_event(StreamCompleteResponse::decode(message).unwrap()),
        }
        .into_iter()
        .map(Ok)
        .collect()
    }

    fn sse(self, response: reqwest::Response) -> impl Stream<Item = Result<Piece, Refusal>> + Send + 'static {
        datas(response).flat_map(move |data| {
            stream::iter(match data {
                Ok(data) if data == "[DONE]" => vec![Ok(Piece::End)],
                Ok(data) => {
                    let event: Value = serde_json::from_str(&data).unwrap();
                    match event.get("error") {
                        Some(_) => vec![Err(Refusal::of_body(None, &HeaderMap::new(), &data))],
                        None => self.of_event(&event).into_iter().map(Ok).collect(),
                    }
                }
                Err(refusal) => vec![Err(refusal)],
            })
        })
    }

    fn of_event(self, event: &Value) -> Vec<Piece> {
        let text = |text: &Value| text.as_str().filter(|text| !text.is_empty()).map(|text| Piece::Text(text.to_owned()));
        let tokens = |[input, output]: [&str; 2]| {
            let count = |name| event["usage"][name].as_u64().map(|n| u32::try_from(n).unwrap());
            Some(Piece::Tokens(count(input)?, count(output)?))
        };
        let pieces = if self.way == Way::Native {
            let end = event.get("end").map(|_| Piece::End);
            [text(&event["delta"]["text"]), tokens(["input_tokens", "output_tokens"]), end]
        } else {
            let choice = &event["choices"][0];
            let said = if self.task == Task::Chat { &choice["delta"]["content"] } else { &choice["text"] };
            [text(said), tokens(["prompt_tokens", "completion_tokens"]), None]
        };
        pieces.into_iter().flatten().collect()
    }
}

/// The next text of a stream.
pub async fn next_text(pieces: &mut Pieces) -> Result<String, Refusal> {
    loop {
        match crate::fake::soon("the next piece", pieces.next()).await {
            Some(Ok(Piece::Text(text))) => return Ok(text),
            Some(Ok(Piece::Tokens(..))) => {}
            Some(Ok(Piece::End)) | None => return Err(silent("the stream ended")),
            Some(Err(refusal)) => return Err(refusal),
        }
    }
}

/// Puts a stream together.
pub async fn collect(mut pieces: Pieces) -> Result<Told, Refusal> {
    let mut told = Told::default();
    loop {
        match crate::fake::soon("the next piece", pieces.next()).await {
            Some(Ok(Piece::Text(text))) => told.text.push_str(&text),
            Some(Ok(Piece::Tokens(input, output))) => told.tokens = Some((input, output)),
            Some(Ok(Piece::End)) => {
                let more = crate::fake::soon("the end of the body", pieces.next()).await;
                return if more.is_none() { Ok(told) } else { Err(silent("something after the end mark")) };
            }
            Some(Err(refusal)) => return Err(refusal),
            None => return Err(silent("a stream that just stopped")),
        }
    }
}

/// The `data` of each event.
pub fn datas(response: reqwest::Response) -> impl Stream<Item = Result<String, Refusal>> + Send + 'static {
    let state = (response.bytes_stream().boxed(), String::new(), Vec::new());
    stream::unfold(state, |(mut body, mut text, mut bytes)| async move {
        loop {
            if let Some((event, rest)) = text.clone().split_once("\n\n") {
                text = rest.to_owned();
                let data: Vec<_> = event.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim).collect();
                if data.is_empty() {
                    continue;
                }
                return Some((Ok(data.join("\n")), (body, text, bytes)));
            }
            match body.next().await {
                Some(Ok(piece)) => {
                    bytes.extend_from_slice(&piece);
                    // A character may be cut in two.
                    if let Ok(whole) = std::str::from_utf8(&bytes) {
                        text.push_str(whole);
                        bytes.clear();
                    }
                }
                Some(Err(error)) => return Some((Err(silent(&error.to_string())), (stream::empty().boxed(), text, bytes))),
                None => return None,
            }
        }
    })
}

fn web_messages(response: reqwest::Response) -> impl Stream<Item = Result<Vec<u8>, Refusal>> + Send + 'static {
    let state = (response.bytes_stream().boxed(), Vec::new(), false);
    stream::unfold(state, |(mut body, mut bytes, over)| async move {
        if over {
            return None;
        }
        loop {
            let whole = bytes.first_chunk::<5>().map(|[flag, length @ ..]| (*flag, 5 + u32::from_be_bytes(*length) as usize));
            if let Some((flag, length)) = whole.filter(|(_, length)| bytes.len() >= *length) {
                let rest = bytes.split_off(length);
                let message = bytes.split_off(5);
                if flag & 0x80 == 0 {
                    return Some((Ok(message), (body, rest, false)));
                }
                let refusal = status_of(&trailers(&message));
                return refusal.map(|refusal| (Err(refusal), (body, rest, true)));
            }
            match body.next().await {
                Some(Ok(piece)) => bytes.extend_from_slice(&piece),
                Some(Err(error)) => return Some((Err(silent(&error.to_string())), (body, bytes, true))),
                None => return Some((Err(silent("an RPC without trailers")), (body, bytes, true))),
            }
        }
    })
}

fn trailers(block: &[u8]) -> HeaderMap {
    let lines = std::str::from_utf8(block).unwrap().lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.trim().parse::<http::HeaderName>().unwrap(), value.trim().parse().unwrap())).collect()
}

fn status_of(headers: &HeaderMap) -> Option<Refusal> {
    let status = Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)?;
    Some(flowgate_client::Error::from(status).into())
}

fn silent(what: &str) -> Refusal {
    let reason = "SILENT_END".to_owned();
    Refusal { http: None, code: None, reason, message: what.to_owned(), retry_after: None, seen: what.to_owned() }
}

impl Refusal {
    /// A failure as HTTP tells it.
    pub async fn of_response(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self::of_body(Some(status), &headers, &response.text().await.unwrap())
    }

    fn of_body(http: Option<u16>, headers: &HeaderMap, text: &str) -> Self {
        let body: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("a failure has a JSON body, not {text}"));
        // The Open Inference Protocol has one text.
        let is_brief = body["error"].is_string();
        let (message, reason) = if is_brief { ("/error", "/reason") } else { ("/detail", "/error/reason") };
        assert!(is_brief || body["detail"] == body["error"]["message"], "MLflow's clients and OpenAI's are told the same");
        let string = |value: &Value| value.as_str().unwrap_or_else(|| panic!("a failure without a reason: {text}")).to_owned();
        Self {
            http,
            code: None,
            reason: string(&body.pointer(reason).cloned().unwrap_or_default()),
            message: string(&body.pointer(message).cloned().unwrap_or_default()),
            retry_after: headers.get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap()),
            seen: format!("{headers:?} {text}"),
        }
    }
}

impl From<flowgate_client::Error> for Refusal {
    fn from(error: flowgate_client::Error) -> Self {
        let details = String::from_utf8_lossy(error.status().details()).into_owned();
        Self {
            http: None,
            code: Some(error.code()),
            reason: error.reason_name().unwrap_or("NONE").to_owned(),
            message: error.message().to_owned(),
            retry_after: error.retry_after().map(|after| after.as_secs()),
            seen: format!("{:?} {details}", error.status()),
        }
    }
}

/// A conversation.
pub fn chat(endpoint: &str, prompt: &str) -> ChatRequest {
    ChatRequest { endpoint: endpoint.to_owned(), messages: vec![message::user(prompt)], ..Default::default() }
}

fn completion(endpoint: &str, prompt: &str) -> CompleteRequest {
    CompleteRequest { endpoint: endpoint.to_owned(), prompts: vec![prompt.to_owned()], ..Default::default() }
}

fn of_chat(answer: &ChatResponse) -> Told {
    let tokens = answer.usage.and_then(|usage| usage.input_tokens.zip(usage.output_tokens));
    Told { text: message::text_of(answer), tokens }
}

fn of_completion(answer: &CompleteResponse) -> Told {
    let tokens = answer.usage.and_then(|usage| usage.input_tokens.zip(usage.output_tokens));
    Told { text: answer.choices[0].text.clone(), tokens }
}

fn told_by<T>(
    event: Result<T, flowgate_client::Error>,
    of: fn(T) -> Vec<Piece>,
) -> impl Stream<Item = Result<Piece, Refusal>> + Send + 'static {
    stream::iter(match event {
        Ok(event) => of(event).into_iter().map(Ok).collect::<Vec<_>>(),
        Err(error) => vec![Err(error.into())],
    })
}

fn of_chat_event(event: StreamChatResponse) -> Vec<Piece> {
    use stream_chat_response::Event;
    match event.event {
        Some(Event::Delta(delta)) => match delta.delta {
            Some(Delta::Text(text)) => vec![Piece::Text(text)],
            _ => vec![],
        },
        Some(Event::Usage(usage)) => usage.input_tokens.zip(usage.output_tokens).map(|(i, o)| Piece::Tokens(i, o)).into_iter().collect(),
        Some(Event::End(_)) => vec![Piece::End],
        _ => vec![],
    }
}

fn of_completion_event(event: StreamCompleteResponse) -> Vec<Piece> {
    use stream_complete_response::Event;
    match event.event {
        Some(Event::Delta(delta)) => vec![Piece::Text(delta.text)],
        Some(Event::Usage(usage)) => usage.input_tokens.zip(usage.output_tokens).map(|(i, o)| Piece::Tokens(i, o)).into_iter().collect(),
        Some(Event::End(_)) => vec![Piece::End],
        _ => vec![],
    }
}
