//! Commit: holds a streamed reply back until its first event that commits, so that a failure before it is a plain error.

use flowgate_proto::v1::ErrorReason;
use futures_util::{StreamExt as _, stream};

use super::{Next, Policy};
use crate::{
    call::Call,
    error::{Error, Result},
    event::{Event, Reply},
};

/// A provider that says this much without content says nothing.
const MOST_EVENTS: usize = 1024;
/// In bytes of the byte lane.
const MOST_BYTES: usize = 1 << 20;

/// Stands directly over the choice of a deployment: what passes it is final.
#[derive(Debug)]
pub struct Commit;

impl Policy<Call> for Commit {
    async fn handle(&self, call: Call, next: &impl Next<Call>) -> Result<Reply> {
        let mut reply = next.call(call).await?;
        if reply.is_unary() {
            return Ok(reply);
        }
        let (mut held, mut bytes) = (Vec::new(), 0);
        while let Some(event) = reply.next().await {
            let event = event?;
            if matches!(event, Event::Ping) {
                continue;
            }
            if let Event::Wire(frame) = &event {
                bytes += frame.bytes.len();
            }
            let commits = event.commits();
            held.push(Ok(event));
            if commits {
                break;
            }
            if held.len() >= MOST_EVENTS || bytes >= MOST_BYTES {
                let message = "the provider's stream goes on without any content; try again, or ask the operator to look at the provider";
                return Err(Error::new(ErrorReason::ProviderBadAnswer, message));
            }
        }
        Ok(reply.wrap(|rest| stream::iter(held).chain(rest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{Once, call, streamed, text};

    #[tokio::test]
    async fn a_stream_that_never_says_anything_is_given_up() {
        let events = stream::repeat_with(|| Ok(Event::Start(flowgate_proto::v1::StreamStart::default())));
        let next = Once::new(Ok(streamed(events)));
        let error = Commit.handle(call(true), &next).await.unwrap_err();
        assert_eq!(error.reason(), ErrorReason::ProviderBadAnswer);
    }

    #[tokio::test]
    async fn a_failure_before_the_first_content_is_an_error() {
        let events = [Ok(Event::Ping), Err(Error::new(ErrorReason::ProviderStreamCut, "cut"))];
        let next = Once::new(Ok(streamed(stream::iter(events))));
        let error = Commit.handle(call(true), &next).await.unwrap_err();
        assert_eq!(error.reason(), ErrorReason::ProviderStreamCut);
    }

    #[tokio::test]
    async fn held_events_come_first_and_nothing_more_is_read_before_they_are_asked_for() {
        let usage = Event::Usage(flowgate_proto::v1::Usage::default());
        let events = stream::iter([Ok(Event::Ping), Ok(usage), Ok(text("a"))]).chain(stream::pending());
        let next = Once::new(Ok(streamed(events)));
        let mut reply = Commit.handle(call(true), &next).await.unwrap();
        assert!(matches!(reply.next().await, Some(Ok(Event::Usage(_)))));
        assert!(matches!(reply.next().await, Some(Ok(Event::Delta(_)))));
    }
}
