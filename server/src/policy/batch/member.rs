//! One of several requests that are put together: what all of them ask for, and its part of the answer.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header};
use prost::Message as _;
use tokio::sync::oneshot;

use crate::{
    call::{Attempt, Call},
    dialect::{
        Ask, Dialect as _,
        scoring::{
            SCORING, door, json_view,
            rows::{self, Rows},
        },
    },
    error::{Error, Result},
    event::{Head, Lane, Payload, Protocol, Reply, Request, WireAnswer},
};

/// A larger request gains little by company, and costs to look at.
const LARGEST: usize = 256 << 10;

/// One of several requests.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) attempt: Attempt,
    pub(super) rows: Rows,
    /// Closed when its caller has gone away.
    pub(super) answer: oneshot::Sender<Result<Reply>>,
}

impl Member {
    pub(super) fn tell(self, reply: Result<Reply>) {
        // Whoever has gone away meanwhile wants none.
        self.answer.send(reply).ok();
    }

    /// It was sent before: what comes of it now is no fair trial.
    pub(super) fn again(&mut self) {
        if let Some(place) = &mut self.attempt.call.choice.place {
            place.is_first = false;
        }
    }

    /// Its part of an answer, as it would have got it alone.
    fn reply(&self, head: &Head, headers: &HeaderMap, body: Bytes) -> Result<Reply> {
        let Attempt { call, deployment, lane, number, .. } = &self.attempt;
        let Some(target) = deployment.targets.first() else {
            return Err(Error::internal("a deployment answered that cannot be called"));
        };
        let unsupported = call.endpoint.config.unsupported;
        let ask = Ask { task: deployment.task, streaming: false, lane: *lane, payload: &call.payload, unsupported };
        // Not by the deployment's own dialect, which has read the whole already.
        let answer = SCORING.decode(&ask, target, headers, body)?;
        Ok(Reply::one(Head { lane: *lane, attempts: *number, ..head.clone() }, answer))
    }
}

/// The rows of a request that says what they are.
pub(super) fn rows_of(payload: &Payload) -> Option<Rows> {
    match payload.wire() {
        Some(wire) if wire.protocol == Protocol::MlflowScoring && wire.body.len() <= LARGEST => {
            rows::rows(wire.content_type.as_bytes(), &wire.body)
        }
        Some(_) => None,
        None => match payload.typed() {
            Ok(Request::Predict(request)) if request.encoded_len() <= LARGEST => rows::rows(b"application/json", &json_view(request)?),
            Ok(_) | Err(_) => None,
        },
    }
}

/// One attempt for all of them, which has the time of whoever waits longest.
pub(super) fn merged(members: &[Member]) -> Option<Attempt> {
    let lead = &members.first()?.attempt;
    let calls = || members.iter().map(|member| &member.attempt.call);
    let last = calls().max_by_key(|call| (call.deadline.is_none(), call.deadline))?;
    let wire = door::wire(None, rows::merge(&members.iter().map(|member| &member.rows)));
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
        let is_other = |name: &HeaderName| !common.get_all(name).iter().eq(headers.get_all(name));
        let others: Vec<_> = common.keys().filter(|name| is_other(name)).cloned().collect();
        others.iter().for_each(|name| _ = common.remove(name));
    }
    common
}

/// An answer for each; `None` when the answer to all cannot be cut apart.
pub(super) fn replies(members: &[Member], head: &Head, answer: &WireAnswer) -> Option<Vec<Result<Reply>>> {
    let counts: Vec<_> = members.iter().map(|member| member.rows.count).collect();
    let parts = rows::split(&answer.body, &counts)?;
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, answer.content_type.clone())]);
    Some(members.iter().zip(parts).map(|(member, body)| member.reply(head, &headers, body)).collect())
}
