//! Requests that were put together: sent as one, answered each; in halves when the model takes no offence at some of them.

use std::sync::Arc;

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, join, join_all},
};
use http::{HeaderMap, header};
use tokio::sync::oneshot;

use super::groups::Groups;
use crate::{
    call::{Attempt, Call},
    dialect::{
        Ask,
        scoring::{
            door,
            rows::{self, Rows},
        },
    },
    error::{Again, Error, Result},
    event::{Answer, Head, Lane, Payload, Reply, WireAnswer},
};

/// One of several requests.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) attempt: Attempt,
    pub(super) rows: Rows,
    /// Closed when its caller has gone away.
    pub(super) answer: oneshot::Sender<Result<Reply>>,
}

impl Groups {
    /// Carries requests out whose callers are still there; ends early when none is left.
    pub(super) fn settle(&self, mut members: Vec<Member>) -> BoxFuture<'_, ()> {
        members.retain(|member| !member.answer.is_closed());
        async move {
            match members.len() {
                0 => {}
                1 => self.alone(members).await,
                _ => self.together(members).await,
            }
        }
        .boxed()
    }

    async fn together(&self, mut members: Vec<Member>) {
        let Some(attempt) = merged(&members) else { return };
        self.meter.sent(members.len(), members.iter().map(|member| member.rows.count).sum());
        let nobody = join_all(members.iter_mut().map(|member| member.answer.closed()));
        let answer = tokio::select! {
            _ = nobody => return,
            answer = self.ask(attempt) => answer,
        };
        match answer {
            Ok((head, answer)) => match replies(&members, &head, &answer) {
                Some(replies) => members.into_iter().zip(replies).for_each(|(member, reply)| member.tell(reply)),
                None => {
                    members.first().inspect(|first| self.part(&first.attempt));
                    self.alone(members).await;
                }
            },
            // It would fail everywhere, so one of them is at fault.
            Err(error) if error.again() == Again::Nowhere => {
                members.iter_mut().for_each(Member::again);
                let others = members.split_off(members.len() / 2);
                join(self.settle(members), self.settle(others)).await;
            }
            Err(error) => members.into_iter().for_each(|member| member.tell(Err(error.clone()))),
        }
    }

    async fn ask(&self, attempt: Attempt) -> Result<(Head, WireAnswer)> {
        let reply = self.below.call(attempt).await?;
        let head = reply.head.clone();
        match reply.answer().await? {
            Answer::Wire(answer) => Ok((head, answer)),
            Answer::Chat(_) | Answer::Complete(_) | Answer::Embed(_) | Answer::Predict(_) => {
                Err(Error::internal("requests put together were answered in another protocol"))
            }
        }
    }

    /// Each as it came.
    async fn alone(&self, members: Vec<Member>) {
        join_all(members.into_iter().map(|member| async move {
            let Member { attempt, rows, mut answer } = member;
            self.meter.sent(1, rows.count);
            tokio::select! {
                () = answer.closed() => {}
                reply = self.below.call(attempt) => {
                    // Whoever has gone away meanwhile wants none.
                    answer.send(reply).ok();
                }
            }
        }))
        .await;
    }
}

impl Member {
    fn tell(self, reply: Result<Reply>) {
        // Whoever has gone away meanwhile wants none.
        self.answer.send(reply).ok();
    }

    /// It was sent before: what comes of it now is no fair trial.
    fn again(&mut self) {
        if let Some(place) = &mut self.attempt.call.choice.place {
            place.is_first = false;
        }
    }

    /// Its part of an answer, as it would have got it alone.
    fn reply(&self, head: &Head, headers: &HeaderMap, body: bytes::Bytes) -> Result<Reply> {
        let Attempt { call, deployment, lane, number, .. } = &self.attempt;
        let (Some(dialect), Some(target)) = (deployment.dialect, deployment.targets.first()) else {
            return Err(Error::internal("a deployment answered that cannot be called"));
        };
        let unsupported = call.endpoint.config.unsupported;
        let ask = Ask { task: deployment.task, streaming: false, lane: *lane, payload: &call.payload, unsupported };
        let answer = dialect.decode(&ask, target, headers, body)?;
        Ok(Reply::one(Head { lane: *lane, attempts: *number, ..head.clone() }, answer))
    }
}

/// One attempt for all of them, which has the time of whoever waits longest.
fn merged(members: &[Member]) -> Option<Attempt> {
    let lead = &members.first()?.attempt;
    let calls = || members.iter().map(|member| &member.attempt.call);
    let last = calls().max_by_key(|call| (call.deadline.is_none(), call.deadline))?;
    let wire = door::wire(None, rows::merge(members.iter().map(|member| &member.rows)));
    let call = Call {
        payload: Payload::wire_only(wire),
        deadline: last.deadline,
        own_total: last.own_total,
        headers: common(calls().map(|call| &call.headers)),
        record: Arc::default(),
        ..lead.call.clone()
    };
    Some(Attempt { call, lane: Lane::Byte, ..lead.clone() })
}

/// The headers that are the same in all.
fn common<'a>(mut all: impl Iterator<Item = &'a HeaderMap>) -> HeaderMap {
    let mut common = all.next().cloned().unwrap_or_default();
    for headers in all {
        let is_other = |name: &header::HeaderName| !common.get_all(name).iter().eq(headers.get_all(name));
        let others: Vec<_> = common.keys().filter(|name| is_other(name)).cloned().collect();
        others.iter().for_each(|name| _ = common.remove(name));
    }
    common
}

/// An answer for each; `None` when the answer to all cannot be cut apart.
fn replies(members: &[Member], head: &Head, answer: &WireAnswer) -> Option<Vec<Result<Reply>>> {
    let counts: Vec<_> = members.iter().map(|member| member.rows.count).collect();
    let parts = rows::split(&answer.body, &counts)?;
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, answer.content_type.clone())]);
    Some(members.iter().zip(parts).map(|(member, body)| member.reply(head, &headers, body)).collect())
}
