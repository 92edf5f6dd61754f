//! Commit: holds a streamed reply back until its first event that commits, so that a failure before it is a plain error.

use futures_util::{StreamExt as _, stream};

use super::{Next, Policy};
use crate::{call::Call, error::Result, event::Reply};

/// Stands directly over the choice of a deployment: what passes it is final.
#[derive(Debug)]
pub struct Commit;

impl Policy<Call> for Commit {
    async fn handle(&self, call: Call, next: &impl Next<Call>) -> Result<Reply> {
        let mut reply = next.call(call).await?;
        if reply.is_unary() {
            return Ok(reply);
        }
        let mut held = Vec::new();
        while let Some(event) = reply.next().await {
            let event = event?;
            let commits = event.commits();
            held.push(Ok(event));
            if commits {
                break;
            }
        }
        Ok(reply.wrap(|rest| stream::iter(held).chain(rest)))
    }
}

#[cfg(test)]
mod tests {
    use flowgate_proto::v1::ErrorReason;

    use super::*;
    use crate::{
        error::Error,
        event::Event,
        policy::testing::{Once, call, streamed, text},
    };

    #[tokio::test]
    async fn a_failure_before_the_first_content_is_an_error() {
        let events = [Ok(Event::Ping), Err(Error::new(ErrorReason::ProviderStreamCut, "cut"))];
        let next = Once::new(Ok(streamed(stream::iter(events))));
        let error = Commit.handle(call(true), &next).await.unwrap_err();
        assert_eq!(error.reason(), ErrorReason::ProviderStreamCut);
    }

    #[tokio::test]
    async fn held_events_come_first_and_nothing_more_is_read_before_they_are_asked_for() {
        let events = stream::iter([Ok(Event::Ping), Ok(text("a"))]).chain(stream::pending());
        let next = Once::new(Ok(streamed(events)));
        let mut reply = Commit.handle(call(true), &next).await.unwrap();
        assert!(matches!(reply.next().await, Some(Ok(Event::Ping))));
        assert!(matches!(reply.next().await, Some(Ok(Event::Delta(_)))));
    }
}
