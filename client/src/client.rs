//! [`Client`]: one method per RPC of the contract.

use std::{future::Future, sync::Arc, time::Duration};

use flowgate_proto::v1::{
    ChatRequest, ChatResponse, CompleteRequest, CompleteResponse, EmbedRequest, EmbedResponse, Endpoint, GetEndpointRequest,
    ListEndpointsRequest, PredictRequest, PredictResponse, StreamPredictRequest, chat_service_client::ChatServiceClient,
    completion_service_client::CompletionServiceClient, embedding_service_client::EmbeddingServiceClient,
    endpoint_service_client::EndpointServiceClient, prediction_service_client::PredictionServiceClient,
};
use futures_util::{Stream, StreamExt as _};
use tokio::time::Instant;
use tonic::{Request, Response, Status, codec::CompressionEncoding, transport::Channel};

use crate::{
    error::Error,
    options::{CallOptions, Options},
    stream::{ChatStream, CompleteStream, EventStream, PredictStream, Requests},
};

/// The longest deadline that is sent; what is longer is none.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A client of one Flowgate. Cheap to clone; clones share the connection.
///
/// Dropping the future of a call, or a stream, cancels the call on Flowgate's side and at the provider.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    options: Arc<Options>,
    call: CallOptions,
}

/// The generated client of a service, as the options want it.
macro_rules! service {
    ($client:expr, $service:ident) => {{
        let (channel, limit) = ($client.channel.clone(), $client.options.max_message_bytes);
        let service = $service::new(channel).max_decoding_message_size(limit).max_encoding_message_size(limit);
        if $client.options.gzip {
            service.send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip)
        } else {
            service
        }
    }};
}

mod admin;

pub use admin::Admin;

impl Client {
    /// A client with the defaults. The connection is opened by the first call.
    ///
    /// # Errors
    /// As [`Options::connect`].
    pub fn connect(uri: impl Into<String>) -> Result<Self, Error> {
        Options::new(uri.into()).connect()
    }

    /// How to connect to an address, to be changed and then finished by [`Options::connect`].
    pub fn options(uri: impl Into<String>) -> Options {
        Options::new(uri.into())
    }

    pub(crate) fn new(channel: Channel, options: Options) -> Self {
        let call = options.call.clone();
        Self { channel, options: Arc::new(options), call }
    }

    /// This client, with other options for the calls made through it.
    #[must_use]
    pub fn with(&self, call: &CallOptions) -> Self {
        Self { channel: self.channel.clone(), options: Arc::clone(&self.options), call: self.call.overlaid(call) }
    }

    /// Answers a conversation whole.
    ///
    /// # Errors
    /// Why the call failed.
    pub async fn chat(&self, request: ChatRequest) -> Result<ChatResponse, Error> {
        let mut service = service!(self, ChatServiceClient);
        self.unary(request, |request| async move { service.chat(request).await }).await
    }

    /// Answers a conversation piece by piece.
    ///
    /// # Errors
    /// Why the call failed before its first event; later failures are the stream's last item.
    pub async fn stream_chat(&self, request: ChatRequest) -> Result<ChatStream, Error> {
        let mut service = service!(self, ChatServiceClient);
        let deadline = self.deadline();
        let events = self.timed(request, deadline, |request| async move { service.stream_chat(request).await }).await?;
        Ok(EventStream::new(events, deadline))
    }

    /// Continues prompts.
    ///
    /// # Errors
    /// Why the call failed.
    pub async fn complete(&self, request: CompleteRequest) -> Result<CompleteResponse, Error> {
        let mut service = service!(self, CompletionServiceClient);
        self.unary(request, |request| async move { service.complete(request).await }).await
    }

    /// Continues prompts piece by piece.
    ///
    /// # Errors
    /// As [`Client::stream_chat`].
    pub async fn stream_complete(&self, request: CompleteRequest) -> Result<CompleteStream, Error> {
        let mut service = service!(self, CompletionServiceClient);
        let deadline = self.deadline();
        let events = self.timed(request, deadline, |request| async move { service.stream_complete(request).await }).await?;
        Ok(EventStream::new(events, deadline))
    }

    /// Turns texts into vectors.
    ///
    /// # Errors
    /// Why the call failed.
    pub async fn embed(&self, request: EmbedRequest) -> Result<EmbedResponse, Error> {
        let mut service = service!(self, EmbeddingServiceClient);
        self.unary(request, |request| async move { service.embed(request).await }).await
    }

    /// Predicts once.
    ///
    /// # Errors
    /// Why the call failed.
    pub async fn predict(&self, request: PredictRequest) -> Result<PredictResponse, Error> {
        let mut service = service!(self, PredictionServiceClient);
        self.unary(request, |request| async move { service.predict(request).await }).await
    }

    /// Predicts for each request of a stream. Answers come as they are ready, each with the index of its request.
    ///
    /// # Errors
    /// Why the stream could not be opened.
    pub async fn stream_predict(&self, requests: impl Stream<Item = PredictRequest> + Send + 'static) -> Result<PredictStream, Error> {
        let mut service = service!(self, PredictionServiceClient);
        let deadline = self.deadline();
        let requests = requests.map(|request| StreamPredictRequest { request: Some(request) });
        let (requests, guard) = Requests::guarded(requests);
        let answers = self.timed(requests, deadline, |requests| async move { service.stream_predict(requests).await }).await?;
        Ok(PredictStream::new(answers, guard, deadline))
    }

    /// All endpoints that this caller may use, in the order of their names.
    ///
    /// # Errors
    /// Why the call failed.
    pub async fn list_endpoints(&self) -> Result<Vec<Endpoint>, Error> {
        let (mut endpoints, mut page_token) = (Vec::new(), String::new());
        loop {
            let mut service = service!(self, EndpointServiceClient);
            let request = ListEndpointsRequest { page_token, ..Default::default() };
            let page = self.unary(request, |request| async move { service.list_endpoints(request).await }).await?;
            endpoints.extend(page.endpoints);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(endpoints);
            }
        }
    }

    /// One endpoint, by name or alias.
    ///
    /// # Errors
    /// Why the call failed; `CALLER_ENDPOINT_NOT_FOUND` when there is none of this name.
    pub async fn get_endpoint(&self, endpoint: impl Into<String>) -> Result<Endpoint, Error> {
        let mut service = service!(self, EndpointServiceClient);
        let request = GetEndpointRequest { endpoint: endpoint.into() };
        let answer = self.unary(request, |request| async move { service.get_endpoint(request).await }).await?;
        answer.endpoint.ok_or_else(|| Error::broken("the answer has no endpoint"))
    }

    /// The admin services, where this client is connected to the admin listener and has its key.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    fn deadline(&self) -> Option<Instant> {
        let deadline = self.call.deadline.filter(|deadline| *deadline < LONGEST)?;
        Some(Instant::now() + deadline)
    }

    async fn unary<M, R, F>(&self, message: M, call: impl FnOnce(Request<M>) -> F) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.timed(message, self.deadline(), call).await
    }

    /// Makes one call and waits for its answer, or for the head of its stream. The deadline is kept here too, so that it holds
    /// even when the other side, or the network, is stuck.
    async fn timed<M, R, F>(&self, message: M, deadline: Option<Instant>, call: impl FnOnce(Request<M>) -> F) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.call.metadata.clone();
        let Some(deadline) = deadline else {
            return Ok(Box::pin(call(request)).await?.into_inner());
        };
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        match tokio::time::timeout_at(deadline, Box::pin(call(request))).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Error::deadline()),
        }
    }
}
