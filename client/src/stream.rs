//! Streamed answers: their events, their text alone, or collected into the unary answer. Keeps the deadline between events.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use flowgate_proto::v1::{
    ChatResponse, CompleteResponse, PredictResponse, StreamChatResponse, StreamCompleteResponse, StreamPredictResponse, chat_delta::Delta,
    stream_chat_response, stream_complete_response, stream_predict_response,
};
use futures_util::{
    Stream, StreamExt,
    stream::{AbortHandle, Abortable, abortable},
};
use tokio::time::{Instant, Sleep};
use tonic::Streaming;

use crate::{
    collect::{ChatCollector, CompleteCollector},
    error::Error,
};

/// The events of a streamed conversation.
pub type ChatStream = EventStream<StreamChatResponse>;

/// The events of a streamed completion.
pub type CompleteStream = EventStream<StreamCompleteResponse>;

/// The events of a streamed answer. Dropping it cancels the call.
///
/// The last event is the answer's end. A stream that stops without it yields an error: there is no silent end.
#[derive(Debug)]
pub struct EventStream<M> {
    messages: Messages<M>,
    ended: bool,
}

/// The text of a streamed answer's first choice, piece by piece. Dropping it cancels the call.
#[derive(Debug)]
pub struct TextStream<M>(EventStream<M>);

/// Predictions as they become ready. Dropping it cancels those that are not.
#[derive(Debug)]
pub struct PredictStream {
    messages: Messages<StreamPredictResponse>,
    requests: Option<Requests>,
}

/// How one request of [`Client::stream_predict`](crate::Client::stream_predict) went.
#[derive(Debug)]
pub struct Prediction {
    /// The request's place in the stream of requests, from 0.
    pub index: u64,
    /// The predictions, or why there are none.
    pub result: Result<PredictResponse, Error>,
}

/// One event of a streamed answer. Implemented for the contract's two streams.
pub trait StreamedEvent: Sized {
    /// The unary answer that the stream adds up to.
    type Answer;
    /// What adds it up.
    type Collector: Default;

    /// Whether the answer is complete.
    fn is_end(&self) -> bool;
    /// The piece of text of the first choice that it brings.
    fn into_text(self) -> Option<String>;
    /// Adds it to the answer.
    ///
    /// # Errors
    /// When it does not fit what came before.
    fn collect_into(self, answer: &mut Self::Collector) -> Result<(), Error>;
    /// The answer.
    fn collected(answer: Self::Collector) -> Self::Answer;
}

/// The messages of a call until its deadline.
struct Messages<M> {
    /// Gone once the stream is over, so that the call is cancelled at once.
    messages: Option<Streaming<M>>,
    deadline: Option<Pin<Box<Sleep>>>,
}

/// Ends the stream of requests when dropped: until then the transport keeps a call open whose answer nobody reads.
#[derive(Debug)]
pub(crate) struct Requests(AbortHandle);

impl Requests {
    /// The requests, until the guard is dropped.
    pub(crate) fn guarded<S: Stream>(requests: S) -> (Abortable<S>, Self) {
        let (requests, handle) = abortable(requests);
        (requests, Self(handle))
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<M> Messages<M> {
    fn new(messages: Streaming<M>, deadline: Option<Instant>) -> Self {
        Self { messages: Some(messages), deadline: deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline))) }
    }
}

impl<M> Stream for Messages<M> {
    type Item = Result<M, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(messages) = &mut this.messages else {
            return Poll::Ready(None);
        };
        let next = match messages.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(message))) => return Poll::Ready(Some(Ok(message))),
            Poll::Ready(Some(Err(status))) => Some(Err(status.into())),
            Poll::Ready(None) => None,
            Poll::Pending => match &mut this.deadline {
                Some(deadline) => {
                    ready!(deadline.as_mut().poll(cx));
                    Some(Err(Error::deadline()))
                }
                None => return Poll::Pending,
            },
        };
        this.messages = None;
        Poll::Ready(next)
    }
}

impl<M> fmt::Debug for Messages<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").field("over", &self.messages.is_none()).finish_non_exhaustive()
    }
}

impl<M: StreamedEvent> EventStream<M> {
    pub(crate) fn new(messages: Streaming<M>, deadline: Option<Instant>) -> Self {
        Self { messages: Messages::new(messages, deadline), ended: false }
    }

    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<M, Error>> {
        StreamExt::next(self).await
    }

    /// The text of the first choice, piece by piece.
    pub fn text(self) -> TextStream<M> {
        TextStream(self)
    }

    /// Waits for the end and puts the pieces together: the answer that the unary call would have given.
    ///
    /// # Errors
    /// The error that ended the stream, or an event that does not fit what came before.
    pub async fn collect(mut self) -> Result<M::Answer, Error> {
        let mut answer = M::Collector::default();
        while let Some(event) = self.next().await {
            event?.collect_into(&mut answer)?;
        }
        Ok(M::collected(answer))
    }
}

impl<M: StreamedEvent> Stream for EventStream<M> {
    type Item = Result<M, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let was_over = self.messages.messages.is_none();
        let next = ready!(self.messages.poll_next_unpin(cx));
        match &next {
            Some(Ok(event)) => self.ended |= event.is_end(),
            None if !self.ended && !was_over => return Poll::Ready(Some(Err(Error::broken("the stream stopped before its end")))),
            Some(Err(_)) | None => {}
        }
        Poll::Ready(next)
    }
}

impl<M: StreamedEvent> TextStream<M> {
    /// The next piece; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<String, Error>> {
        StreamExt::next(self).await
    }
}

impl<M: StreamedEvent> Stream for TextStream<M> {
    type Item = Result<String, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(self.0.poll_next_unpin(cx)) {
                Some(Ok(event)) => {
                    if let Some(text) = event.into_text() {
                        return Poll::Ready(Some(Ok(text)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl PredictStream {
    pub(crate) fn new(messages: Streaming<StreamPredictResponse>, requests: Requests, deadline: Option<Instant>) -> Self {
        Self { messages: Messages::new(messages, deadline), requests: Some(requests) }
    }

    /// The next prediction; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Prediction, Error>> {
        StreamExt::next(self).await
    }
}

impl Stream for PredictStream {
    type Item = Result<Prediction, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        use stream_predict_response::Result as Outcome;
        let next = ready!(self.messages.poll_next_unpin(cx));
        if !matches!(next, Some(Ok(_))) {
            self.requests = None;
        }
        Poll::Ready(next.map(|message| {
            let StreamPredictResponse { index, result } = message?;
            let result = match result {
                Some(Outcome::Response(answer)) => Ok(answer),
                Some(Outcome::Error(status)) => Err(status.into()),
                None => Err(Error::broken("the answer has no result")),
            };
            Ok(Prediction { index, result })
        }))
    }
}

impl StreamedEvent for StreamChatResponse {
    type Answer = ChatResponse;
    type Collector = ChatCollector;

    fn is_end(&self) -> bool {
        matches!(self.event, Some(stream_chat_response::Event::End(_)))
    }

    fn into_text(self) -> Option<String> {
        match self.event {
            Some(stream_chat_response::Event::Delta(delta)) if delta.choice == 0 => match delta.delta {
                Some(Delta::Text(text)) => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    fn collect_into(self, answer: &mut ChatCollector) -> Result<(), Error> {
        answer.push(self)
    }

    fn collected(answer: ChatCollector) -> ChatResponse {
        answer.finish()
    }
}

impl StreamedEvent for StreamCompleteResponse {
    type Answer = CompleteResponse;
    type Collector = CompleteCollector;

    fn is_end(&self) -> bool {
        matches!(self.event, Some(stream_complete_response::Event::End(_)))
    }

    fn into_text(self) -> Option<String> {
        match self.event {
            Some(stream_complete_response::Event::Delta(delta)) if delta.choice == 0 => Some(delta.text),
            _ => None,
        }
    }

    fn collect_into(self, answer: &mut CompleteCollector) -> Result<(), Error> {
        answer.push(self);
        Ok(())
    }

    fn collected(answer: CompleteCollector) -> CompleteResponse {
        answer.finish()
    }
}
