//! The services in process, over calls that answer as told.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use flowgate_proto::{
    v1::{
        self, ErrorReason, chat_service_client::ChatServiceClient, completion_service_client::CompletionServiceClient,
        embedding_service_client::EmbeddingServiceClient, prediction_service_client::PredictionServiceClient, stream_chat_response,
        stream_complete_response, stream_predict_response,
    },
    wkt,
};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use tonic::{Code, body::Body, codec::CompressionEncoding};
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;

use super::*;
use crate::{
    api::{Visit, edge::insert},
    call::{Call, Record, Service},
    config,
    event::{self, Answer, Event, Reply, Task},
    identity::{Identity, Peer, Principal},
    policy::{
        Over,
        commit::Commit,
        erase,
        meter::Meter,
        testing::{Then, catalog, deployment, endpoint, head, streamed, text},
    },
    stack::Snapshot,
    task::Cut,
    telemetry::metrics::Metrics,
};

/// A visit of nobody in particular.
pub(in crate::api) fn visit() -> Visit {
    let peer = Peer { address: ([127, 0, 0, 1], 1).into(), certificate: None };
    Visit {
        id: "id-1".into(),
        peer,
        principal: Principal::nobody(),
        record: Arc::new(Record::default()),
        method: http::Method::POST,
        uri: http::Uri::default(),
    }
}

/// A gate to one endpoint per task, all of which answer by `answer`.
pub(in crate::api) fn gate<F, Fut>(answer: F) -> Arc<Gate>
where
    F: Fn(Call) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Reply>> + Send + 'static,
{
    let named = [("chat", Task::Chat), ("text", Task::Complete), ("vectors", Task::Embed), ("predict", Task::Predict)];
    let endpoints = named.map(|(name, task)| config::Endpoint { task, ..endpoint(name, vec![deployment("only")]) });
    let service = |name: &str| -> (Arc<str>, Service<Call>) { (name.into(), erase(Over(Meter, Over(Commit, Then(answer.clone()))))) };
    let services: HashMap<_, _> = named.iter().map(|(name, _)| service(name)).collect();
    Arc::new(Gate {
        snapshot: ArcSwap::from_pointee(Snapshot::of(catalog(endpoints.into()), services)),
        identity: Identity::new(&[]),
        metrics: Arc::new(Metrics::new()),
        max_request_bytes: 1 << 20,
        cut: Cut::default(),
    })
}

/// The services over a gate, with a visit for each request that has none.
pub(in crate::api) fn services(gate: &Arc<Gate>) -> GrpcService {
    service(gate, &Table::new().unwrap(), &Health::new(), gate.max_request_bytes).unwrap()
}

fn visited(gate: &Arc<Gate>, visit: &Visit) -> GrpcService {
    let (service, visit) = (services(gate), visit.clone());
    GrpcService::new(move |mut request: Request<Body>| {
        insert(&mut request, visit.clone());
        service.call(request)
    })
}

fn asked(text: &str) -> v1::ChatRequest {
    let messages = vec![v1::Message { text: text.to_owned(), ..Default::default() }];
    v1::ChatRequest { endpoint: "chat".to_owned(), messages, ..Default::default() }
}

fn chat_answer(text: &str) -> v1::ChatResponse {
    let message = v1::Message { role: v1::Role::Assistant.into(), parts: vec![convert::text_part(text.to_owned())], ..Default::default() };
    let choice = v1::Choice { message: Some(message), finish_reason: v1::FinishReason::Stop.into(), ..Default::default() };
    let usage = v1::Usage { output_tokens: Some(2), ..Default::default() };
    v1::ChatResponse { id: "a1".to_owned(), model: "m".to_owned(), choices: vec![choice], usage: Some(usage), ..Default::default() }
}

/// Answers a chat with the text of its first part, whole.
async fn echo(call: Call) -> Result<Reply> {
    let event::Request::Chat(request) = call.payload.typed()? else { return Err(Error::internal("not a chat")) };
    let message = &request.messages[0];
    assert_eq!((message.role(), message.text.as_str()), (v1::Role::User, ""));
    let Some(v1::part::Kind::Text(part)) = &message.parts[0].kind else { panic!("not text") };
    Ok(Reply::one(head(), Answer::Chat(chat_answer(&part.text))))
}

#[tokio::test]
async fn a_chat_is_put_into_its_normal_form_and_answered_with_a_summary() {
    let mut client = ChatServiceClient::new(visited(&gate(echo), &visit()));
    let answer = client.chat(asked("hello")).await.unwrap().into_inner();
    let want = v1::CallSummary {
        request_id: "id-1".to_owned(),
        endpoint: "chat".to_owned(),
        deployment: "only".to_owned(),
        provider: "mock".to_owned(),
        attempts: 1,
        ..Default::default()
    };
    assert_eq!(answer.call, Some(want));
    assert_eq!(answer.choices, chat_answer("hello").choices);
}

#[tokio::test]
async fn all_faults_of_a_request_are_named_at_once() {
    let request = v1::ChatRequest {
        messages: vec![
            v1::Message { text: "a".to_owned(), parts: vec![convert::text_part(String::new())], ..Default::default() },
            v1::Message { role: 77, parts: vec![v1::Part::default()], ..Default::default() },
        ],
        max_tokens: Some(0),
        top_p: Some(0.0),
        presence_penalty: Some(f64::NAN),
        top_logprobs: Some(2),
        tool_choice: Some(v1::ToolChoice { mode: v1::ToolChoiceMode::Tool.into(), name: String::new() }),
        ..Default::default()
    };
    let visit = visit();
    let status = ChatServiceClient::new(visited(&gate(echo), &visit)).chat(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "CALLER_INVALID_REQUEST");
    let fields: Vec<_> = details.bad_request().unwrap().field_violations.iter().map(|violation| violation.field.clone()).collect();
    let want = [
        "endpoint",
        "messages[0].text",
        "messages[1].role",
        "messages[1].parts[0]",
        "max_tokens",
        "top_p",
        "presence_penalty",
        "top_logprobs",
        "tool_choice.name",
    ];
    assert_eq!(fields, want);
    assert_eq!(visit.record.facts().failure.unwrap().reason, ErrorReason::CallerInvalidRequest);
}

#[tokio::test]
async fn faults_beyond_those_that_fit_a_header_are_left_out() {
    let mut request = asked("a");
    request.stop = vec![String::new(); 1000];
    let status = ChatServiceClient::new(visited(&gate(echo), &visit())).chat(request).await.unwrap_err();
    assert_eq!(status.get_error_details().bad_request().unwrap().field_violations.len(), 10);
    assert!(status.details().len() < 4096);
}

/// The events of a streamed chat, their sequence checked.
async fn told(gate: &Arc<Gate>) -> (Vec<stream_chat_response::Event>, Option<Status>) {
    let stream = ChatServiceClient::new(visited(gate, &visit())).stream_chat(asked("hi")).await.unwrap().into_inner();
    let messages: Vec<_> = stream.collect().await;
    let mut events = Vec::new();
    for message in messages {
        match message {
            Ok(message) => {
                assert_eq!(usize::try_from(message.sequence).unwrap(), events.len());
                events.push(message.event.unwrap());
            }
            Err(status) => return (events, Some(status)),
        }
    }
    (events, None)
}

fn names(events: &[stream_chat_response::Event]) -> Vec<&'static str> {
    use stream_chat_response::Event as E;
    let name = |event: &E| match event {
        E::Start(_) => "start",
        E::Delta(_) => "delta",
        E::ChoiceEnd(_) => "choice",
        E::Usage(_) => "usage",
        E::End(_) => "end",
    };
    events.iter().map(name).collect()
}

#[tokio::test]
async fn a_stream_is_numbered_without_gaps_and_ends_with_a_summary() {
    let gate = gate(|_| async {
        Ok(streamed(stream::iter([Ok(Event::Ping), Ok(text("a")), Ok(Event::Ping), Ok(text("b")), Ok(Event::End), Ok(text("late"))])))
    });
    let (events, status) = told(&gate).await;
    assert_eq!(names(&events), ["start", "delta", "delta", "end"]);
    assert!(status.is_none());
    let Some(stream_chat_response::Event::End(end)) = events.last() else { panic!() };
    assert_eq!(end.call.as_ref().unwrap().deployment, "only");
}

#[tokio::test]
async fn a_whole_answer_is_told_as_events() {
    let (events, status) = told(&gate(echo)).await;
    assert_eq!(names(&events), ["start", "delta", "choice", "usage", "end"]);
    assert!(status.is_none());
}

#[tokio::test]
async fn a_stream_that_fails_or_stops_early_ends_with_a_status() {
    for cut in [false, true] {
        let gate = gate(move |_| async move {
            let failed = Err(Error::new(ErrorReason::ProviderFailed, "broken").upstream_status(http::StatusCode::BAD_GATEWAY));
            let rest = if cut { vec![] } else { vec![failed] };
            Ok(streamed(stream::iter([Ok(text("a"))]).chain(stream::iter(rest))))
        });
        let (events, status) = told(&gate).await;
        assert_eq!(names(&events), ["start", "delta"]);
        let details = status.unwrap().get_error_details();
        let reason = &details.error_info().unwrap().reason;
        assert_eq!(reason, if cut { "PROVIDER_STREAM_CUT" } else { "PROVIDER_FAILED" });
    }
}

#[tokio::test]
async fn a_failure_before_the_first_content_is_a_status_alone() {
    let gate = gate(|_| async { Ok(streamed(stream::iter([Ok(Event::Ping), Err(Error::new(ErrorReason::ProviderTimeout, "late"))]))) });
    let status = ChatServiceClient::new(visited(&gate, &visit())).stream_chat(asked("hi")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DeadlineExceeded, "late"));
}

#[tokio::test]
async fn dropping_a_stream_drops_the_reply() {
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let gate = gate(move |_| {
        let held = Arc::clone(&held);
        async move { Ok(streamed(stream::iter([Ok(text("a"))]).chain(stream::pending()).inspect(move |_| _ = &held))) }
    });
    let idle = Arc::strong_count(&alive);
    let mut stream = ChatServiceClient::new(visited(&gate, &visit())).stream_chat(asked("hi")).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    assert!(Arc::strong_count(&alive) > idle);
    drop(stream);
    assert_eq!(Arc::strong_count(&alive), idle, "only the gate holds it");
}

#[tokio::test]
async fn chat_and_completion_answer_for_one_another() {
    let complete = v1::CompleteRequest { endpoint: "chat".to_owned(), prompts: vec!["p".to_owned()], ..Default::default() };
    let whole = gate(|_| async { Ok(Reply::one(head(), Answer::Chat(chat_answer("said")))) });
    let mut client = CompletionServiceClient::new(visited(&whole, &visit()));
    let answer = client.complete(complete.clone()).await.unwrap().into_inner();
    assert_eq!((answer.choices[0].text.as_str(), answer.choices[0].finish_reason()), ("said", v1::FinishReason::Stop));

    let reasoning = Event::Delta(v1::ChatDelta { delta: Some(v1::chat_delta::Delta::Reasoning("hm".to_owned())), ..Default::default() });
    let pieces = gate(move |_| {
        let events = [Ok(reasoning.clone()), Ok(text("sa")), Ok(text("id")), Ok(Event::End)];
        async move { Ok(streamed(stream::iter(events))) }
    });
    let mut client = CompletionServiceClient::new(visited(&pieces, &visit()));
    let messages: Vec<_> = client.stream_complete(complete).await.unwrap().into_inner().map(|message| message.unwrap()).collect().await;
    assert!(messages.iter().enumerate().all(|(n, message)| n == usize::try_from(message.sequence).unwrap()));
    let text: String = messages
        .iter()
        .filter_map(|message| match message.event.as_ref()? {
            stream_complete_response::Event::Delta(delta) => Some(delta.text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!((text.as_str(), messages.len()), ("said", 4));

    let completed = gate(|_| async {
        let choice = v1::CompletionChoice { text: "said".to_owned(), ..Default::default() };
        Ok(Reply::one(head(), Answer::Complete(v1::CompleteResponse { choices: vec![choice], ..Default::default() })))
    });
    let request = v1::ChatRequest { endpoint: "text".to_owned(), ..asked("hi") };
    let answer = ChatServiceClient::new(visited(&completed, &visit())).chat(request).await.unwrap().into_inner();
    assert_eq!(answer.choices[0].message.as_ref().unwrap().parts, [convert::text_part("said".to_owned())]);
}

#[tokio::test]
async fn an_endpoint_of_another_task_is_refused() {
    let request = v1::EmbedRequest { endpoint: "chat".to_owned(), inputs: vec!["a".to_owned()], ..Default::default() };
    let status = EmbeddingServiceClient::new(visited(&gate(echo), &visit())).embed(request).await.unwrap_err();
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "CALLER_WRONG_TASK");
}

/// Whether each message of an answer is compressed when the client offers gzip.
async fn compressed(path: &str, request: &v1::ChatRequest) -> Vec<bool> {
    let message = crate::api::transcode::tests::frame(&request.encode_to_vec());
    let request = Request::post(path).header("content-type", "application/grpc").header("grpc-accept-encoding", "identity, deflate, gzip");
    let request = request.body(Body::new(Full::new(message))).unwrap();
    let response = visited(&gate(echo), &visit()).oneshot(request).await.unwrap();
    let mut body = &*response.into_body().collect().await.unwrap().to_bytes();
    let mut flags = Vec::new();
    while let Some((head, rest)) = body.split_first_chunk::<5>() {
        flags.push(head[0] == 1);
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        body = &rest[usize::try_from(length).unwrap()..];
    }
    flags
}

#[tokio::test]
async fn only_large_whole_answers_are_compressed() {
    let large = asked(&"a".repeat(20_000));
    assert_eq!(compressed("/flowgate.v1.ChatService/Chat", &asked("a")).await, [false]);
    assert_eq!(compressed("/flowgate.v1.ChatService/Chat", &large).await, [true]);
    assert_eq!(compressed("/flowgate.v1.ChatService/StreamChat", &large).await, [false; 5]);
}

#[tokio::test]
async fn compressed_requests_are_read() {
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut client = ChatServiceClient::new(visited(&gate(echo), &visit())).send_compressed(encoding).accept_compressed(encoding);
        let answer = client.chat(asked(&"b".repeat(100_000))).await.unwrap().into_inner();
        assert_eq!(answer.choices[0].message.as_ref().unwrap().parts, [convert::text_part("b".repeat(100_000))]);
    }
}

#[tokio::test]
async fn what_the_grpc_layer_refuses_has_a_reason_too() {
    let visit = visit();
    let service = visited(&gate(echo), &visit);
    let status = ChatServiceClient::new(service.clone()).chat(asked(&"a".repeat(2 << 20))).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "CALLER_TOO_LARGE");
    assert_eq!(visit.record.facts().failure.unwrap().reason, ErrorReason::CallerTooLarge);

    let garbage = crate::api::transcode::tests::frame(b"\xff\xff\xff");
    let request = Request::post("/flowgate.v1.ChatService/Chat").body(Body::new(Full::new(garbage))).unwrap();
    let response = service.oneshot(request).await.unwrap();
    let status = Status::from_header_map(response.headers()).unwrap();
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "CALLER_INVALID_REQUEST");
}

fn predict_request(number: f64) -> v1::PredictRequest {
    let inputs = wkt::Value { kind: Some(wkt::value::Kind::NumberValue(number)) };
    v1::PredictRequest { endpoint: "predict".to_owned(), input: Some(v1::predict_request::Input::Inputs(inputs)), ..Default::default() }
}

fn number_of(call: &Call) -> f64 {
    let Ok(event::Request::Predict(request)) = call.payload.typed() else { panic!("not a prediction") };
    let Some(v1::predict_request::Input::Inputs(value)) = &request.input else { panic!("not inputs") };
    let Some(wkt::value::Kind::NumberValue(number)) = value.kind else { panic!("not a number") };
    number
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_predictions_answers_each_as_it_is_ready_and_survives_a_bad_one() {
    let gate = gate(|call: Call| async move {
        let number = number_of(&call);
        if number < 0.0 {
            return Err(Error::new(ErrorReason::ProviderModelFailed, "the model raised"));
        }
        tokio::time::sleep(Duration::from_secs_f64(number)).await;
        Ok(Reply::one(head(), Answer::Predict(v1::PredictResponse::default())))
    });
    let visit = visit();
    let mut client = PredictionServiceClient::new(visited(&gate, &visit));
    let missing = v1::StreamPredictRequest { request: None };
    let requests = [3.0, -1.0, 1.0, 2.0].map(|number| v1::StreamPredictRequest { request: Some(predict_request(number)) });
    let answers = client.stream_predict(stream::iter(requests.into_iter().chain([missing]))).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(|answer| answer.unwrap()).collect().await;
    let order: Vec<_> = answers.iter().map(|answer| answer.index).collect();
    assert_eq!(order, [1, 4, 2, 3, 0]);
    for answer in answers {
        match answer.result.unwrap() {
            stream_predict_response::Result::Response(answer) => assert_eq!(answer.model.unwrap().name, "only"),
            stream_predict_response::Result::Error(status) => {
                let want = if answer.index == 1 { Code::Internal } else { Code::InvalidArgument };
                assert_eq!((status.code, status.details[0].type_url.as_str()), (want as i32, "type.googleapis.com/google.rpc.ErrorInfo"));
            }
        }
    }
    let facts = visit.record.facts();
    assert!(facts.failure.is_none() && facts.is_series);
    assert_eq!((facts.endpoint, facts.task, facts.attempts), (None, None, 0), "the stream is none of its calls");
    let page = gate.metrics.render();
    let counted = |line: &str| assert!(page.contains(line), "{line} is not in\n{page}");
    counted("flowgate_calls_total{endpoint=\"predict\",task=\"prediction\",door=\"grpc\",outcome=\"ok\"} 3");
    counted("flowgate_calls_total{endpoint=\"predict\",task=\"prediction\",door=\"grpc\",outcome=\"error\"} 1");
    counted("reason=\"CALLER_INVALID_REQUEST\",origin=\"caller\"} 1");
    counted("flowgate_in_flight{door=\"grpc\"} 0");
}

#[tokio::test(start_paused = true)]
async fn the_requests_of_a_stream_share_one_deadline_and_have_ids_of_their_own() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let gate = gate(move |call: Call| {
        told.lock().unwrap().push((call.id.to_string(), call.deadline.unwrap()));
        async { Err(Error::internal("enough")) }
    });
    let requests = stream::unfold(0, |count| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        (count < 3).then(|| (v1::StreamPredictRequest { request: Some(predict_request(0.0)) }, count + 1))
    });
    let mut request = tonic::Request::new(requests);
    request.set_timeout(Duration::from_secs(10));
    let began = tokio::time::Instant::now();
    let answers = PredictionServiceClient::new(visited(&gate, &visit())).stream_predict(request).await.unwrap().into_inner();
    assert_eq!(answers.count().await, 3);
    let seen = seen.lock().unwrap().clone();
    let ids: Vec<_> = seen.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["id-1/0", "id-1/1", "id-1/2"]);
    for (_, deadline) in &seen {
        let left = deadline.duration_since(began).as_millis();
        assert!((9_990..=10_010).contains(&left), "{left}");
    }
}

#[tokio::test]
async fn a_stream_of_predictions_reads_no_more_than_it_can_answer() {
    let running = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&running);
    let gate = gate(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        std::future::pending()
    });
    let requests = stream::iter(0..100).map(|_| v1::StreamPredictRequest { request: Some(predict_request(0.0)) });
    let mut answers = PredictionServiceClient::new(visited(&gate, &visit())).stream_predict(requests).await.unwrap().into_inner();
    assert!(answers.message().now_or_never().is_none());
    assert_eq!(running.load(Ordering::SeqCst), 32);
}

#[tokio::test]
async fn reflection_names_every_service() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
        server_reflection_response::MessageResponse,
    };
    let ask = ServerReflectionRequest { message_request: Some(MessageRequest::ListServices(String::new())), ..Default::default() };
    let mut client = ServerReflectionClient::new(visited(&gate(echo), &visit()));
    let mut answers = client.server_reflection_info(stream::iter([ask])).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = answers.message().await.unwrap().unwrap().message_response else { panic!() };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["flowgate.v1.ChatService", "flowgate.v1.PredictionService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]
    {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
}

#[tokio::test]
async fn an_unknown_name_in_health_is_not_found() {
    let mut client = tonic_health::pb::health_client::HealthClient::new(visited(&gate(echo), &visit()));
    let asked = tonic_health::pb::HealthCheckRequest { service: "nothing".to_owned() };
    let status = client.check(asked).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[test]
fn bytes_of_details_are_the_status_itself() {
    // `StreamPredict` hands tonic's details on as `google.rpc.Status`.
    let status = failure::status(&Error::invalid("a", "b"), &visit());
    let proto = flowgate_proto::google::rpc::Status::decode(Bytes::copy_from_slice(status.details())).unwrap();
    assert_eq!((proto.code, proto.message.as_str(), proto.details.len()), (3, status.message(), 2));
}
