//! The calls that are measured: how each is made on a connection of its own, and what makes its answer right.

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use flowgate_proto::v1::{
    ChatResponse, FinishReason, PredictResponse, chat_delta::Delta, chat_service_client::ChatServiceClient, column, part,
    predict_response::Output, prediction_service_client::PredictionServiceClient, stream_chat_response::Event,
};
use http::{Request, Response, Uri, header};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinSet, time::Instant};
use tonic::codegen::Service;

use crate::{
    sample::Sample,
    shared::{
        Result,
        http::{self as wire, Driver, Sender, exchange},
        load,
    },
};

/// What is asked, and in which protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scenario {
    /// OpenAI's protocol on both sides: the byte lane.
    HttpChat,
    HttpStream,
    /// MLflow's scoring protocol on both sides: the byte lane.
    HttpPredict,
    /// The typed contract over gRPC, to the same HTTP upstream.
    GrpcChat,
    GrpcStream,
    GrpcPredict,
}

impl Scenario {
    pub const ALL: [Self; 6] = [Self::HttpChat, Self::HttpStream, Self::HttpPredict, Self::GrpcChat, Self::GrpcStream, Self::GrpcPredict];

    pub fn name(self) -> &'static str {
        match self {
            Self::HttpChat => "http chat",
            Self::HttpStream => "http chat stream",
            Self::HttpPredict => "http predict",
            Self::GrpcChat => "grpc chat",
            Self::GrpcStream => "grpc chat stream",
            Self::GrpcPredict => "grpc predict",
        }
    }

    pub fn is_grpc(self) -> bool {
        self.http() != self
    }

    /// The same task in the upstream's own protocol.
    pub fn http(self) -> Self {
        match self {
            Self::HttpChat | Self::GrpcChat => Self::HttpChat,
            Self::HttpStream | Self::GrpcStream => Self::HttpStream,
            Self::HttpPredict | Self::GrpcPredict => Self::HttpPredict,
        }
    }

    pub fn is_stream(self) -> bool {
        matches!(self, Self::HttpStream | Self::GrpcStream)
    }
}

/// One connection, and the one call that is made on it again and again.
pub struct Link {
    scenario: Scenario,
    sample: Arc<Sample>,
    wire: Wire,
    _driver: Driver,
}

enum Wire {
    Http { sender: Sender, host: String },
    Chat(ChatServiceClient<Http2>),
    Predict(PredictionServiceClient<Http2>),
}

/// Generated clients over one h2 connection, without the queue and the reconnecting of tonic's channel.
#[derive(Clone)]
struct Http2(http2::SendRequest<tonic::body::Body>);

impl Service<Request<tonic::body::Body>> for Http2 {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(task)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

impl Link {
    pub async fn open(scenario: Scenario, address: SocketAddr, sample: Arc<Sample>) -> Result<Self> {
        if !scenario.is_grpc() {
            let (sender, driver) = wire::open(address).await?;
            let wire = Wire::Http { sender, host: address.to_string() };
            return Ok(Self { scenario, sample, wire, _driver: driver });
        }
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let origin: Uri = format!("http://{address}").parse()?;
        let wire = match scenario {
            Scenario::GrpcPredict => Wire::Predict(PredictionServiceClient::with_origin(Http2(sender), origin)),
            _ => Wire::Chat(ChatServiceClient::with_origin(Http2(sender), origin)),
        };
        Ok(Self { scenario, sample, wire, _driver: driver })
    }
}

impl load::Link for Link {
    async fn call(&mut self) -> Result<Option<Duration>> {
        let (scenario, sample) = (self.scenario, &*self.sample);
        match &mut self.wire {
            Wire::Http { sender, host } => {
                let (path, body, answer) = match scenario.http() {
                    Scenario::HttpPredict => ("/invocations", &sample.predict_json, &sample.predict_answer),
                    Scenario::HttpStream => ("/v1/chat/completions", &sample.stream_json, &sample.stream_answer),
                    _ => ("/v1/chat/completions", &sample.chat_json, &sample.chat_answer),
                };
                let request = Request::post(path)
                    .header(header::HOST, &*host)
                    .header(header::CONTENT_TYPE, "application/json")
                    .body(Full::new(body.clone()))?;
                let first = exchange(sender, request, answer, sample.first_content()).await?;
                Ok(first.filter(|_| scenario.is_stream()))
            }
            Wire::Chat(client) if scenario.is_stream() => stream(client, sample).await.map(Some),
            Wire::Chat(client) => {
                check_chat(client.chat(sample.chat.clone()).await?.get_ref(), sample)?;
                Ok(None)
            }
            Wire::Predict(client) => {
                check_prediction(client.predict(sample.predict.clone()).await?.get_ref(), sample)?;
                Ok(None)
            }
        }
    }
}

async fn stream(client: &mut ChatServiceClient<Http2>, sample: &Sample) -> Result<Duration> {
    let started = Instant::now();
    let mut events = client.stream_chat(sample.chat.clone()).await?.into_inner();
    let (mut text, mut first, mut usage, mut ended) = (String::with_capacity(sample.text.len()), None, false, false);
    while let Some(message) = events.message().await? {
        match message.event {
            Some(Event::Delta(delta)) => {
                first.get_or_insert_with(|| started.elapsed());
                if let Some(Delta::Text(piece)) = delta.delta {
                    text.push_str(&piece);
                }
            }
            Some(Event::Usage(found)) => usage = found.output_tokens.is_some(),
            Some(Event::End(_)) => ended = true,
            Some(Event::Start(_) | Event::ChoiceEnd(_)) | None => {}
        }
    }
    match first {
        Some(first) if text == sample.text && usage && ended => Ok(first),
        _ => Err(format!("a stream that is not right: usage {usage}, end {ended}, text {text:?}").into()),
    }
}

fn check_chat(answer: &ChatResponse, sample: &Sample) -> Result<()> {
    let [choice] = &*answer.choices else { return Err(format!("{} choices", answer.choices.len()).into()) };
    let text = choice.message.iter().flat_map(|message| &message.parts).filter_map(|part| match &part.kind {
        Some(part::Kind::Text(part)) => Some(&*part.text),
        _ => None,
    });
    let is_right = text.eq([&*sample.text])
        && choice.finish_reason() == FinishReason::Stop
        && answer.usage.as_ref().is_some_and(|usage| usage.output_tokens.is_some());
    if is_right { Ok(()) } else { Err(format!("an answer that is not right: {answer:?}").into()) }
}

fn check_prediction(answer: &PredictResponse, sample: &Sample) -> Result<()> {
    if let Some(Output::Frame(frame)) = &answer.output
        && let [only] = &*frame.columns
        && let Some(column::Values::Doubles(doubles)) = &only.values
        && doubles.values == sample.predictions
    {
        return Ok(());
    }
    Err(format!("predictions that are not right: {answer:?}").into())
}
