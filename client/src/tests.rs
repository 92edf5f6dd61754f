//! The client against a small server in this process.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use flowgate_proto::v1::{
    CallSummary, ChatDelta, ChatRequest, ChatResponse, Choice, ChoiceEnd, Endpoint, ErrorReason, FinishReason, GetEndpointRequest,
    GetEndpointResponse, ListEndpointsRequest, ListEndpointsResponse, PredictRequest, PredictResponse, Role, StreamChatEnd,
    StreamChatResponse, StreamPredictRequest, StreamPredictResponse, StreamStart, Usage,
    chat_delta::Delta,
    chat_service_server::{ChatService, ChatServiceServer},
    endpoint_service_server::{EndpointService, EndpointServiceServer},
    prediction_service_server::{PredictionService, PredictionServiceServer},
    stream_chat_response::Event,
    stream_predict_response,
};
use futures_util::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::{
    net::TcpListener,
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    codec::CompressionEncoding,
    metadata::MetadataMap,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{CallOptions, Client, Tls, input, message};

type Result<T> = std::result::Result<T, Status>;

/// Answers by the text of the first message; `metadata:NAME` answers what the client sent under that name.
#[derive(Clone, Default)]
struct Fake {
    /// Told when the client of a `hang` stream went away.
    dropped: Arc<Notify>,
}

struct OnDrop(Arc<Notify>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn answer(metadata: &MetadataMap, asked: &str) -> String {
    match asked.strip_prefix("metadata:") {
        Some(name) => metadata.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default(),
        None => format!("you said {asked}"),
    }
}

fn events(text: &str) -> Vec<Event> {
    let mut events = vec![Event::Start(StreamStart { id: "a-1".to_owned(), model: "fake".to_owned(), ..Default::default() })];
    events.extend(text.split_inclusive(' ').map(|piece| {
        let delta = Some(Delta::Text(piece.to_owned()));
        Event::Delta(ChatDelta { delta, ..Default::default() })
    }));
    events.push(Event::ChoiceEnd(ChoiceEnd { finish_reason: FinishReason::Stop.into(), ..Default::default() }));
    events.push(Event::Usage(Usage { output_tokens: Some(3), ..Default::default() }));
    events.push(Event::End(StreamChatEnd { call: Some(summary()) }));
    events
}

fn summary() -> CallSummary {
    CallSummary { endpoint: "chat".to_owned(), attempts: 1, ..Default::default() }
}

#[tonic::async_trait]
impl ChatService for Fake {
    type StreamChatStream = BoxStream<'static, Result<StreamChatResponse>>;

    async fn chat(&self, request: Request<ChatRequest>) -> Result<Response<ChatResponse>> {
        let asked = request.get_ref().messages[0].text.clone();
        if asked == "hang" {
            std::future::pending::<()>().await;
        }
        if asked == "fail" {
            let details = ErrorDetails::with_error_info("CALLER_WRONG_TASK", "flowgate", [("endpoint".to_owned(), "chat".to_owned())]);
            return Err(Status::with_error_details(Code::InvalidArgument, "ask another endpoint", details));
        }
        let message = message::with_parts(Role::Assistant, [message::text(answer(request.metadata(), &asked))]);
        let choice = Choice { message: Some(message), finish_reason: FinishReason::Stop.into(), ..Default::default() };
        Ok(Response::new(ChatResponse {
            id: "a-1".to_owned(),
            model: "fake".to_owned(),
            choices: vec![choice],
            usage: Some(Usage { output_tokens: Some(3), ..Default::default() }),
            call: Some(summary()),
            ..Default::default()
        }))
    }

    async fn stream_chat(&self, request: Request<ChatRequest>) -> Result<Response<Self::StreamChatStream>> {
        let asked = request.get_ref().messages[0].text.clone();
        let mut events = events(&answer(request.metadata(), &asked));
        if asked == "cut" {
            events.truncate(3);
        }
        let numbered = stream::iter((0..).zip(events).map(|(sequence, event)| Ok(StreamChatResponse { sequence, event: Some(event) })));
        Ok(Response::new(match asked.as_str() {
            "hang" => {
                let guard = OnDrop(Arc::clone(&self.dropped));
                let forever = stream::once(async move {
                    let _guard = guard;
                    std::future::pending().await
                });
                numbered.take(2).chain(forever).boxed()
            }
            "fail" => numbered.take(2).chain(stream::once(async { Err(Status::unavailable("gone")) })).boxed(),
            _ => numbered.boxed(),
        }))
    }
}

#[tonic::async_trait]
impl PredictionService for Fake {
    type StreamPredictStream = BoxStream<'static, Result<StreamPredictResponse>>;

    async fn predict(&self, request: Request<PredictRequest>) -> Result<Response<PredictResponse>> {
        assert!(request.into_inner().input.is_some());
        Ok(Response::new(PredictResponse { call: Some(summary()), ..Default::default() }))
    }

    async fn stream_predict(&self, request: Request<Streaming<StreamPredictRequest>>) -> Result<Response<Self::StreamPredictStream>> {
        use stream_predict_response::Result as Outcome;
        let guard = OnDrop(Arc::clone(&self.dropped));
        let answers = request.into_inner().enumerate().map(move |(index, request)| {
            let _alive = &guard;
            let result = match request?.request.unwrap_or_default().input {
                Some(_) => Outcome::Response(PredictResponse::default()),
                None => Outcome::Error(flowgate_proto::google::rpc::Status { code: 3, message: "no input".to_owned(), details: vec![] }),
            };
            Ok(StreamPredictResponse { index: index as u64, result: Some(result) })
        });
        Ok(Response::new(answers.boxed()))
    }
}

#[tonic::async_trait]
impl EndpointService for Fake {
    /// Two pages of one endpoint each.
    async fn list_endpoints(&self, request: Request<ListEndpointsRequest>) -> Result<Response<ListEndpointsResponse>> {
        let (name, next_page_token) = match request.into_inner().page_token.as_str() {
            "" => ("a", "2".to_owned()),
            _ => ("b", String::new()),
        };
        Ok(Response::new(ListEndpointsResponse { endpoints: vec![endpoint(name)], next_page_token }))
    }

    async fn get_endpoint(&self, request: Request<GetEndpointRequest>) -> Result<Response<GetEndpointResponse>> {
        Ok(Response::new(GetEndpointResponse { endpoint: Some(endpoint(&request.into_inner().endpoint)) }))
    }
}

fn endpoint(name: &str) -> Endpoint {
    Endpoint { name: name.to_owned(), ..Default::default() }
}

async fn serve(fake: Fake, tls: Option<ServerTlsConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let chat = ChatServiceServer::new(fake.clone())
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(64 << 20);
    let mut server = Server::builder();
    if let Some(tls) = tls {
        server = server.tls_config(tls).unwrap();
    }
    let router =
        server.add_service(chat).add_service(PredictionServiceServer::new(fake.clone())).add_service(EndpointServiceServer::new(fake));
    #[expect(clippy::disallowed_methods, reason = "a test has no drain")]
    tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

async fn client() -> Client {
    Client::connect(format!("http://{}", serve(Fake::default(), None).await)).unwrap()
}

fn ask(text: impl Into<String>) -> ChatRequest {
    ChatRequest { endpoint: "chat".to_owned(), messages: vec![message::user(text)], ..Default::default() }
}

async fn collect<T>(stream: impl Stream<Item = T>) -> Vec<T> {
    stream.collect().await
}

#[tokio::test]
async fn a_collected_stream_equals_the_unary_answer() {
    let client = client().await;
    let whole = client.chat(ask("hello there")).await.unwrap();
    let collected = client.stream_chat(ask("hello there")).await.unwrap().collect().await.unwrap();
    assert_eq!(whole, collected);
    assert_eq!(message::text_of(&whole), "you said hello there");
}

#[tokio::test]
async fn events_and_text_come_piece_by_piece() {
    let client = client().await;
    let events = collect(client.stream_chat(ask("hello")).await.unwrap()).await;
    let sequence: Vec<u32> = events.iter().map(|event| event.as_ref().unwrap().sequence).collect();
    assert_eq!(sequence, (0..7).collect::<Vec<_>>());
    let mut text = client.stream_chat(ask("hello")).await.unwrap().text();
    let mut pieces = Vec::new();
    while let Some(piece) = text.next().await {
        pieces.push(piece.unwrap());
    }
    assert_eq!(pieces, ["you ", "said ", "hello"]);
}

#[tokio::test]
async fn a_stream_never_ends_silently() {
    let client = client().await;
    for asked in ["cut", "fail"] {
        let mut events = collect(client.stream_chat(ask(asked)).await.unwrap()).await;
        assert!(events.pop().unwrap().is_err(), "{asked}");
        assert!(events.iter().all(std::result::Result::is_ok));
        assert!(client.stream_chat(ask(asked)).await.unwrap().collect().await.is_err());
    }
}

#[tokio::test]
async fn metadata_key_and_request_id_are_sent() {
    let address = serve(Fake::default(), None).await;
    let client = Client::options(format!("http://{address}")).key("fg-1").unwrap().metadata("team", "ml").unwrap().connect().unwrap();
    let call = CallOptions::new().request_id("r-7").unwrap().metadata("team", "web").unwrap();
    let said = async |client: &Client, asked: &str| message::text_of(&client.chat(ask(asked)).await.unwrap());
    assert_eq!(said(&client, "metadata:authorization").await, "Bearer fg-1");
    assert_eq!(said(&client, "metadata:team").await, "ml");
    let special = client.with(&call);
    assert_eq!(said(&special, "metadata:team").await, "web");
    assert_eq!(said(&special, "metadata:x-request-id").await, "r-7");
    assert!(said(&special, "metadata:user-agent").await.starts_with("flowgate-client/"));
    assert_eq!(said(&client, "metadata:grpc-timeout").await, "");
}

#[tokio::test]
async fn a_deadline_is_sent_and_kept() {
    let client = client().await.with(&CallOptions::new().deadline(Duration::from_millis(60)));
    assert!(message::text_of(&client.chat(ask("metadata:grpc-timeout")).await.unwrap()).ends_with(['n', 'u']));
    let start = Instant::now();
    let error = client.chat(ask("hang")).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::DeadlineExceeded, Some(ErrorReason::CallerDeadlineExceeded)));
    let mut events = collect(client.stream_chat(ask("hang")).await.unwrap()).await;
    assert_eq!(events.pop().unwrap().unwrap_err().reason(), Some(ErrorReason::CallerDeadlineExceeded));
    assert_eq!(events.len(), 2, "what came before the deadline is kept");
    assert!(start.elapsed() < Duration::from_secs(2));
    let patient = client.with(&CallOptions::new().deadline(Duration::MAX));
    assert!(patient.chat(ask("hello")).await.is_ok(), "a deadline beyond all bounds is none");
}

#[tokio::test]
async fn dropping_a_stream_cancels_the_call() {
    let fake = Fake::default();
    let client = Client::connect(format!("http://{}", serve(fake.clone(), None).await)).unwrap();
    let mut stream = client.stream_chat(ask("hang")).await.unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    drop(stream);
    timeout(Duration::from_secs(5), fake.dropped.notified()).await.unwrap();
}

#[tokio::test]
async fn dropping_predictions_cancels_the_call_though_more_requests_may_come() {
    let fake = Fake::default();
    let client = Client::connect(format!("http://{}", serve(fake.clone(), None).await)).unwrap();
    let requests = stream::iter([PredictRequest::default()]).chain(stream::pending());
    let mut answers = client.stream_predict(requests).await.unwrap();
    assert!(answers.next().await.unwrap().is_ok());
    drop(answers);
    timeout(Duration::from_secs(5), fake.dropped.notified()).await.unwrap();
}

#[tokio::test]
async fn errors_carry_their_reason() {
    let error = client().await.chat(ask("fail")).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::InvalidArgument, Some(ErrorReason::CallerWrongTask)));
    assert_eq!((error.message(), error.metadata()["endpoint"].as_str()), ("ask another endpoint", "chat"));
}

#[tokio::test]
async fn a_refused_connection_is_unavailable_and_the_next_call_tries_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = Client::connect(format!("http://{address}")).unwrap();
    let error = client.chat(ask("hello")).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::Unavailable, None));

    let listener = TcpListener::bind(address).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test has no drain")]
    tokio::spawn(
        Server::builder().add_service(ChatServiceServer::new(Fake::default())).serve_with_incoming(TcpListenerStream::new(listener)),
    );
    sleep(Duration::from_millis(10)).await;
    assert!(client.chat(ask("hello")).await.is_ok());
}

#[tokio::test]
async fn predictions_of_a_stream_fail_one_by_one() {
    let client = client().await;
    let request = || PredictRequest { input: Some(input::frame([input::integers("n", [1 << 60])])), ..Default::default() };
    assert!(client.predict(request()).await.is_ok());
    let requests = [request(), PredictRequest::default(), request()];
    let predictions = collect(client.stream_predict(stream::iter(requests)).await.unwrap()).await;
    let told: Vec<_> = predictions.into_iter().map(|prediction| prediction.unwrap()).map(|p| (p.index, p.result.is_ok())).collect();
    assert_eq!(told, [(0, true), (1, false), (2, true)]);
}

#[tokio::test]
async fn all_pages_of_endpoints_are_read() {
    let client = client().await;
    let names: Vec<_> = client.list_endpoints().await.unwrap().into_iter().map(|endpoint| endpoint.name).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(client.get_endpoint("c").await.unwrap().name, "c");
}

#[tokio::test]
async fn messages_beyond_the_usual_four_mebibytes_pass_and_the_limit_holds() {
    let address = serve(Fake::default(), None).await;
    let long = "x".repeat(6 << 20);
    let small = Client::options(format!("http://{address}")).max_message_bytes(1 << 20).connect().unwrap();
    assert!(small.chat(ask(long.clone())).await.is_err());
    let client = Client::options(format!("http://{address}")).gzip(true).connect().unwrap();
    assert_eq!(message::text_of(&client.chat(ask(long)).await.unwrap()).len(), "you said ".len() + (6 << 20));
    assert_eq!(message::text_of(&client.chat(ask("metadata:grpc-encoding")).await.unwrap()), "gzip");
}

#[tokio::test]
async fn tls_with_a_client_certificate() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = ca.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::from_params(&ca, &key);
    let issue = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    };
    let (server, own) = (issue("models.example.com"), issue("app"));
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(server.0, server.1)).client_ca_root(Certificate::from_pem(&authority));
    let address = serve(Fake::default(), Some(tls)).await;

    let connect = |tls: Tls| Client::options(format!("https://{address}")).tls(tls).connect().unwrap();
    let trusted = Tls::new().ca(authority).domain("models.example.com");
    assert!(connect(trusted.clone().identity(own.0, own.1)).chat(ask("hello")).await.is_ok());
    assert!(connect(trusted).chat(ask("hello")).await.is_err(), "no client certificate");
    assert!(connect(Tls::new().domain("models.example.com")).chat(ask("hello")).await.is_err(), "not a public authority");
}

#[tokio::test]
async fn a_failed_connection_tells_its_causes_in_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let clear = serve(Fake::default(), None).await;
    for (uri, want) in [
        (format!("http://{closed}"), "Unavailable: tcp connect error: Connection refused"),
        (format!("https://{clear}"), "Unavailable: received corrupt message"),
    ] {
        let error = Client::connect(uri).unwrap().chat(ask("hello")).await.unwrap_err();
        let told = error.to_string();
        assert!(told.starts_with(want) && !told.contains("transport error") && !told.contains('\n'), "{told}");
        assert!(error.is_connection(), "{error:?}");
    }
}

#[tokio::test]
async fn a_broken_connection_is_told_apart_from_an_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::connect(format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let hang_up = async {
        drop(listener.accept().await.unwrap());
    };
    let (answer, ()) = tokio::join!(client.chat(ask("hello")), hang_up);
    let error = answer.unwrap_err();
    assert!(error.is_connection(), "{error:?}");
    let error = self::client().await.chat(ask("fail")).await.unwrap_err();
    assert!(!error.is_connection());
    assert_eq!(error.to_string(), "CALLER_WRONG_TASK: ask another endpoint");
}
