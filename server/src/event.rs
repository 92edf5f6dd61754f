//! What flows through the house: [`Payload`] on the way in, [`Event`]s in a [`Reply`] on the way back. Knows no wire format.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use flowgate_proto::v1;
use futures_util::{Stream, StreamExt, stream::BoxStream};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// A conversation.
    Chat,
    /// Text that goes on from a prompt.
    Complete,
    /// Vectors.
    Embed,
    /// Predictions.
    Predict,
}

/// A wire protocol for which a body can cross the house as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// OpenAI `/chat/completions`.
    OpenAiChat,
    /// OpenAI `/completions`.
    OpenAiCompletions,
    /// OpenAI `/embeddings`.
    OpenAiEmbeddings,
    /// MLflow `/invocations`.
    MlflowScoring,
}

/// How an attempt carries its body: as received, or through the contract's types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Bytes as received, read in passing.
    Byte,
    /// Decoded and encoded again.
    Typed,
}

/// A request in the contract's types.
#[derive(Clone, Debug)]
pub enum Request {
    /// A conversation.
    Chat(v1::ChatRequest),
    /// Prompts.
    Complete(v1::CompleteRequest),
    /// Texts to embed.
    Embed(v1::EmbedRequest),
    /// An input to predict for.
    Predict(v1::PredictRequest),
}

/// A request body as a client sent it.
#[derive(Clone)]
pub struct Wire {
    /// The protocol it is written in.
    pub protocol: Protocol,
    /// Its content type, parameters included.
    pub content_type: HeaderValue,
    /// The body.
    pub body: Bytes,
    /// How the door's dialect reads it, should anything ask for the typed form.
    pub decode: fn(&Self) -> Result<Request>,
}

/// A request on its way through the house: as received, typed, or both. Cloning shares.
#[derive(Clone, Debug)]
pub struct Payload(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    wire: Option<Wire>,
    typed: OnceLock<Result<Request>>,
}

/// One thing that happens in a reply.
#[derive(Clone, Debug)]
pub enum Event {
    /// The head of a streamed answer.
    Start(v1::StreamStart),
    /// A piece of a streamed answer; completions use choice and text only.
    Delta(v1::ChatDelta),
    /// A choice is done.
    ChoiceEnd(v1::ChoiceEnd),
    /// What has been consumed so far; the last one counts.
    Usage(v1::Usage),
    /// The provider is alive and has nothing to say.
    Ping,
    /// A whole answer; nothing follows.
    Answer(Answer),
    /// A frame of the byte lane, with what was read from it in passing.
    Wire(WireFrame),
    /// A streamed answer is complete; nothing follows. A stream without it has failed.
    End,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To a conversation.
    Chat(v1::ChatResponse),
    /// To prompts.
    Complete(v1::CompleteResponse),
    /// Vectors.
    Embed(v1::EmbedResponse),
    /// Predictions.
    Predict(v1::PredictResponse),
    /// Of the byte lane.
    Wire(WireAnswer),
}

/// A whole answer as the upstream sent it.
#[derive(Clone, Debug)]
pub struct WireAnswer {
    /// Its content type.
    pub content_type: HeaderValue,
    /// The body.
    pub body: Bytes,
    /// Usage read from it in passing.
    pub usage: Option<v1::Usage>,
}

/// One frame of a streamed answer as the upstream sent it, its terminating blank line included.
#[derive(Clone, Debug)]
pub struct WireFrame {
    /// The bytes; empty for a frame that the client must not see.
    pub bytes: Bytes,
    /// Whether it holds content: the commit point.
    pub content: bool,
    /// Usage read from it in passing.
    pub usage: Option<v1::Usage>,
}

/// Tells what usage costs at a deployment. Cloning shares.
#[derive(Clone, Default)]
pub struct Tariff(Option<Arc<TellCost>>);

type TellCost = dyn Fn(&v1::Usage) -> Option<i64> + Send + Sync;

/// What is known of a reply before its first event.
#[derive(Clone, Debug)]
pub struct Head {
    /// How the answer is carried.
    pub lane: Lane,
    /// The alias of the deployment that answers.
    pub deployment: Arc<str>,
    /// Its provider.
    pub provider: &'static str,
    /// What its answers cost.
    pub tariff: Tariff,
    /// Attempts made so far, this one included.
    pub attempts: u32,
    /// Upstream headers that may cross to the client.
    pub headers: HeaderMap,
}

/// The registered model that answered, where a server says so; Flowgate does of those that it runs.
pub const MODEL: HeaderName = HeaderName::from_static("x-flowgate-model");
/// Its version.
pub const MODEL_VERSION: HeaderName = HeaderName::from_static("x-flowgate-model-version");
/// The aliases that point to that version, with commas between them.
pub const MODEL_ALIASES: HeaderName = HeaderName::from_static("x-flowgate-model-aliases");

/// An answer: a head and a stream of events. Dropping it cancels everything upstream of it.
pub struct Reply {
    /// What is known before the first event.
    pub head: Head,
    source: Source,
    taps: Vec<Tap>,
}

/// A function that sees, and may change, every event of a reply and the error that may end it.
pub type Tap = Box<dyn FnMut(&mut Result<Event>) + Send>;

enum Source {
    /// A unary answer; kept apart so that it costs no stream.
    One(Option<Box<Result<Event>>>),
    Many(BoxStream<'static, Result<Event>>),
}

impl Task {
    /// The name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Complete => "completion",
            Self::Embed => "embedding",
            Self::Predict => "prediction",
        }
    }

    /// Whether an endpoint of this task answers calls of another: chat and completion answer alike.
    pub fn answers(self, asked: Self) -> bool {
        let is_text = |task| matches!(task, Self::Chat | Self::Complete);
        self == asked || (is_text(self) && is_text(asked))
    }

    /// The `endpoint_type` of the configuration.
    pub fn endpoint_type(self) -> &'static str {
        match self {
            Self::Chat => "llm/v1/chat",
            Self::Complete => "llm/v1/completions",
            Self::Embed => "llm/v1/embeddings",
            Self::Predict => "mlflow/predict",
        }
    }
}

impl Lane {
    /// The name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Byte => "byte",
            Self::Typed => "typed",
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("protocol", &self.protocol).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

impl Payload {
    /// A request in the contract's types.
    pub fn typed_only(request: Request) -> Self {
        Self(Arc::new(Inner { wire: None, typed: OnceLock::from(Ok(request)) }))
    }

    /// A request as received.
    pub fn wire_only(wire: Wire) -> Self {
        Self(Arc::new(Inner { wire: Some(wire), typed: OnceLock::new() }))
    }

    /// The request as received, unless it came typed or was changed since.
    pub fn wire(&self) -> Option<&Wire> {
        self.0.wire.as_ref()
    }

    /// The request in the contract's types, decoded at most once.
    ///
    /// # Errors
    /// What the door's dialect finds wrong with the body.
    pub fn typed(&self) -> Result<&Request> {
        let decoded = self.0.typed.get_or_init(|| match &self.0.wire {
            Some(wire) => (wire.decode)(wire),
            None => Err(Error::internal("a payload has neither form")),
        });
        decoded.as_ref().map_err(Clone::clone)
    }

    /// The request to be changed; the received form is given up, so the attempt becomes typed.
    ///
    /// # Errors
    /// As [`Payload::typed`].
    pub fn typed_mut(&mut self) -> Result<&mut Request> {
        self.typed()?;
        let inner = Arc::make_mut(&mut self.0);
        inner.wire = None;
        match inner.typed.get_mut() {
            Some(Ok(request)) => Ok(request),
            _ => Err(Error::internal("a payload has neither form")),
        }
    }
}

impl Event {
    /// Whether the attempt is final once this event is passed on: content, an answer or an end.
    pub fn commits(&self) -> bool {
        match self {
            Self::Delta(_) | Self::ChoiceEnd(_) | Self::Answer(_) | Self::End => true,
            Self::Start(_) | Self::Usage(_) | Self::Ping => false,
            Self::Wire(frame) => frame.content,
        }
    }

    /// Usage that this event reports.
    pub fn usage(&self) -> Option<&v1::Usage> {
        match self {
            Self::Usage(usage) => Some(usage),
            Self::Answer(answer) => answer.usage(),
            Self::Wire(frame) => frame.usage.as_ref(),
            _ => None,
        }
    }
}

impl Answer {
    /// Usage that this answer reports.
    pub fn usage(&self) -> Option<&v1::Usage> {
        match self {
            Self::Chat(answer) => answer.usage.as_ref(),
            Self::Complete(answer) => answer.usage.as_ref(),
            Self::Embed(answer) => answer.usage.as_ref(),
            Self::Predict(_) => None,
            Self::Wire(answer) => answer.usage.as_ref(),
        }
    }
}

impl Tariff {
    /// A tariff that tells costs so.
    pub fn new(tell: impl Fn(&v1::Usage) -> Option<i64> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    /// What usage costs, in pico-USD. `None`: unknown.
    pub fn cost(&self, usage: &v1::Usage) -> Option<i64> {
        self.0.as_ref()?(usage)
    }
}

impl fmt::Debug for Tariff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tariff")
    }
}

impl Reply {
    /// A unary answer.
    pub fn one(head: Head, answer: Answer) -> Self {
        Self { head, source: Source::One(Some(Box::new(Ok(Event::Answer(answer))))), taps: Vec::new() }
    }

    /// A stream of events.
    pub fn many(head: Head, events: impl Stream<Item = Result<Event>> + Send + 'static) -> Self {
        Self { head, source: Source::Many(events.boxed()), taps: Vec::new() }
    }

    /// Lets `tap` see every event, and the error that may end the reply. All taps run in one wrapper, the first added first.
    #[must_use]
    pub fn tap(mut self, tap: impl FnMut(&mut Result<Event>) + Send + 'static) -> Self {
        self.taps.push(Box::new(tap));
        self
    }

    /// Puts a stream around the events, taps included; for policies that need the clock between events.
    #[must_use]
    pub fn wrap<S>(self, wrapper: impl FnOnce(Self) -> S) -> Self
    where
        S: Stream<Item = Result<Event>> + Send + 'static,
    {
        let head = self.head.clone();
        Self::many(head, wrapper(self))
    }

    /// Whether the reply is a whole answer that is already here.
    pub fn is_unary(&self) -> bool {
        matches!(self.source, Source::One(_))
    }

    /// The whole answer of a unary call.
    ///
    /// # Errors
    /// The error that ended the reply; an internal error when it is a stream.
    pub async fn answer(mut self) -> Result<Answer> {
        match self.next().await {
            Some(Ok(Event::Answer(answer))) => Ok(answer),
            Some(Err(error)) => Err(error),
            Some(Ok(_)) | None => Err(Error::internal("a unary call got no whole answer")),
        }
    }
}

impl Stream for Reply {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let next = match &mut this.source {
            Source::One(event) => event.take().map(|event| *event),
            Source::Many(events) => match events.poll_next_unpin(cx) {
                Poll::Ready(next) => next,
                Poll::Pending => return Poll::Pending,
            },
        };
        Poll::Ready(next.map(|mut event| {
            for tap in &mut this.taps {
                tap(&mut event);
            }
            event
        }))
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("head", &self.head).field("unary", &self.is_unary()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            lane: Lane::Typed,
            deployment: "d".into(),
            provider: "mock",
            tariff: Tariff::default(),
            attempts: 1,
            headers: HeaderMap::new(),
        }
    }

    fn wire() -> Wire {
        Wire {
            protocol: Protocol::OpenAiChat,
            content_type: HeaderValue::from_static("application/json"),
            body: Bytes::from_static(b"{}"),
            decode: |_| Ok(Request::Chat(v1::ChatRequest { endpoint: "e".to_owned(), ..Default::default() })),
        }
    }

    #[test]
    fn reading_keeps_the_wire_form_and_changing_gives_it_up() {
        let mut payload = Payload::wire_only(wire());
        let shared = payload.clone();
        assert!(matches!(payload.typed(), Ok(Request::Chat(_))));
        assert!(payload.wire().is_some());
        assert!(payload.typed_mut().is_ok());
        assert!(payload.wire().is_none());
        assert!(shared.wire().is_some(), "another holder keeps its own form");
    }

    #[tokio::test]
    async fn taps_see_events_in_order_and_may_change_them() {
        let events = futures_util::stream::iter([Ok(Event::Ping), Ok(Event::End)]);
        let reply = Reply::many(head(), events)
            .tap(|event| {
                if matches!(event, Ok(Event::Ping)) {
                    *event = Err(Error::internal("changed"));
                }
            })
            .tap(|event| assert!(!matches!(event, Ok(Event::Ping)), "the first tap ran first"));
        let seen: Vec<_> = reply.collect().await;
        assert!(matches!(seen.as_slice(), [Err(_), Ok(Event::End)]));
    }
}
