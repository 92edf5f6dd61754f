//! A streamed answer: body chunks to frames to events, with a guarantee that it ends by its end mark or by an error.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use flowgate_proto::v1::ErrorReason;
use futures_util::{Stream, StreamExt as _};
use serde::de::IgnoredAny;

use super::{
    Used,
    body::{Body, BoxError},
    exchange::{Wait, chain},
    framing::{Framer, Frames as _},
    replica::InFlight,
    secrets::Secrets,
};
use crate::{
    dialect::{Decoder, Frame, Framing},
    error::{Error, Result},
    event::Event,
    task::Tasks,
};

/// How long, and for how many chunks, the rest of a body is read after the end mark, so that its connection can be used again.
const SWEEP: (Duration, usize) = (Duration::from_secs(1), 64);

/// The events of one streamed answer. All events of one chunk are given without waiting in between.
pub(super) struct Events {
    alias: Arc<str>,
    /// `None` once it has ended.
    body: Option<Body>,
    framer: Framer,
    decoder: Box<dyn Decoder>,
    /// Events that are ready, the next one last.
    ready: Vec<Event>,
    /// What ends the stream once `ready` is empty.
    failure: Option<Error>,
    done: bool,
    /// Until the first event that commits.
    wait: Option<Wait>,
    busy: Option<InFlight>,
    secrets: Option<Secrets>,
    used: Option<Used>,
    tasks: Tasks,
}

impl Events {
    pub(super) fn new(alias: Arc<str>, body: Body, framing: Framing, decoder: Box<dyn Decoder>, tasks: Tasks) -> Self {
        Self {
            alias,
            body: Some(body),
            framer: Framer::new(framing),
            decoder,
            ready: Vec::new(),
            failure: None,
            done: false,
            wait: None,
            busy: None,
            secrets: None,
            used: None,
            tasks,
        }
    }

    /// Holds what measures the call until it has committed, and until it has ended.
    pub(super) fn timed(self, wait: Wait, busy: InFlight) -> Self {
        Self { wait: Some(wait), busy: Some(busy), ..self }
    }

    /// What no error may repeat, and the credential that one may be about.
    pub(super) fn with(self, secrets: Secrets, used: Option<Used>) -> Self {
        Self { secrets: Some(secrets), used, ..self }
    }

    fn decode(&mut self, frame: Frame) {
        self.failure = self.decoder.frame(frame, &mut self.ready).err();
        self.ready.reverse();
    }

    fn take(&mut self, chunk: Option<Result<bytes::Bytes, BoxError>>) {
        match chunk {
            Some(Ok(chunk)) => self.framer.push(chunk),
            Some(Err(error)) => {
                self.body = None;
                self.failure = Some(self.cut().because(chain(error.as_ref())));
            }
            None => {
                self.body = None;
                let told = match self.framer.finish() {
                    Some(Ok(frame)) => self.last(frame),
                    Some(Err(_)) => None,
                    None => self.finish(),
                };
                self.failure = Some(told.unwrap_or_else(|| self.cut()));
            }
        }
    }

    /// Reads a frame that nothing closed but the end of the body. It counts where that closes it, and else only where it ends the stream: by
    /// an end mark, or by an error that is there whole. Half a frame makes no sense to a decoder, but the reason is that its other half is
    /// missing.
    fn last(&mut self, frame: Frame) -> Option<Error> {
        let is_whole = serde_json::from_slice::<IgnoredAny>(&frame.data).is_ok();
        let is_closed = frame.data.is_empty() || self.framer.is_closed_by_end();
        let mut events = Vec::new();
        if let Err(error) = self.decoder.frame(frame, &mut events) {
            return is_whole.then_some(error);
        }
        if !is_closed && !matches!(events.last(), Some(Event::End)) {
            return None;
        }
        events.reverse();
        self.ready = events;
        self.finish()
    }

    /// Asks the decoder what an end without an end mark means.
    fn finish(&mut self) -> Option<Error> {
        let mut last = Vec::new();
        let told = self.decoder.finish(&mut last).err();
        last.reverse();
        last.append(&mut self.ready);
        self.ready = last;
        told
    }

    fn cut(&self) -> Error {
        let message = format!("the stream of deployment `{}` stopped before its end mark; try again", self.alias);
        Error::new(ErrorReason::ProviderStreamCut, message)
    }

    /// After the end mark nothing follows; the rest of the body is read away so that its connection goes back to the pool.
    fn end(&mut self, cx: &mut Context<'_>) {
        self.close();
        let Some(mut body) = self.body.take() else { return };
        for _ in 0..SWEEP.1 {
            match body.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return,
                Poll::Pending => {
                    self.tasks.spawn(sweep(body));
                    return;
                }
            }
        }
    }

    fn close(&mut self) {
        self.done = true;
        self.ready.clear();
        self.wait = None;
        self.busy = None;
    }
}

async fn sweep(body: Body) {
    let rest = body.take(SWEEP.1).take_while(|chunk| std::future::ready(chunk.is_ok())).count();
    // Whether it ended or not: dropping the body settles it.
    drop(tokio::time::timeout(SWEEP.0, rest).await);
}

impl Stream for Events {
    type Item = Result<Event>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if this.done {
                return Poll::Ready(None);
            }
            if let Some(event) = this.ready.pop() {
                if matches!(event, Event::End) {
                    this.end(cx);
                } else if event.commits() {
                    this.wait = None;
                }
                return Poll::Ready(Some(Ok(event)));
            }
            if let Some(error) = this.failure.take() {
                this.close();
                this.body = None;
                if let Some(used) = &this.used {
                    used.learn(&error);
                }
                let hidden = match &this.secrets {
                    Some(secrets) => secrets.hide_in(error),
                    None => error,
                };
                return Poll::Ready(Some(Err(hidden)));
            }
            match this.framer.next() {
                Some(Ok(frame)) => this.decode(frame),
                Some(Err(error)) => this.failure = Some(error),
                None => match &mut this.body {
                    Some(body) => {
                        let chunk = ready!(body.poll_next_unpin(cx));
                        this.take(chunk);
                    }
                    None => this.failure = Some(this.cut()),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests;
