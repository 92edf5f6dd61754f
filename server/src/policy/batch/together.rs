//! Requests that were put together: sent as one, answered each; in halves when the model takes no offence at some of them.

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, join, join_all},
};

use super::{
    groups::Groups,
    member::{Member, merged, replies},
};
use crate::{
    call::Attempt,
    error::{Again, Error, Result},
    event::{Answer, Head, WireAnswer},
};

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
                    members.first().inspect(|first| self.part(first));
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
