//! OpenAI's paths: the body's `model`, or the path, names the endpoint; answers have OpenAI's shape.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::BytesMut;
use http::{HeaderValue, Response};

use super::{
    Gate, Knock, Visit,
    body::Body,
    compress::must_be_json,
    edge::{Asked, json, whole},
    failure, sse,
};
use crate::{
    dialect::{
        Dialect as _,
        openai::{
            OPENAI,
            chunks::{ChunkEncoder, done},
            door::{self, Peek},
            reply::{self, Form},
        },
    },
    error::{Error, Result},
    event::{Answer, Event, Payload, Request, Task, Wire},
    stack::Served,
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Writes a stream as OpenAI's clients read it.
struct Chunks {
    encoder: ChunkEncoder,
    visit: Visit,
}

/// `POST /v1/chat/completions` and its like.
///
/// # Errors
/// What the call fails with before its first event.
pub async fn by_model(gate: &Arc<Gate>, task: Task, asked: Asked) -> Result<Response<Body>> {
    must_be_json(&asked.headers)?;
    let peek = door::peek(&asked.body)?;
    let model = peek.model.as_deref().filter(|model| !model.is_empty());
    let Some(model) = model else {
        return Err(Error::invalid("model", "is missing; name the endpoint to call"));
    };
    let served = gate.served(|catalog| catalog.endpoint(model))?;
    serve(gate, served, task, asked, &peek).await
}

/// `POST /llm/v1/chat/{endpoint}` and its like.
///
/// # Errors
/// As [`by_model`].
pub async fn by_path(gate: &Arc<Gate>, task: Task, asked: Asked) -> Result<Response<Body>> {
    let served = gate.served(|catalog| catalog.endpoint(&asked.endpoint))?;
    for_endpoint(gate, served, task, asked).await
}

/// A body for an endpoint that is named otherwise than by the body.
///
/// # Errors
/// As [`by_model`].
pub async fn for_endpoint(gate: &Arc<Gate>, served: Served, task: Task, asked: Asked) -> Result<Response<Body>> {
    must_be_json(&asked.headers)?;
    let peek = door::peek(&asked.body)?;
    if peek.model.as_deref().is_some_and(|model| *model != *served.endpoint.name) {
        return Err(Error::invalid("model", "is not the endpoint that the path names; leave it out"));
    }
    serve(gate, served, task, asked, &peek).await
}

/// `GET /v1/models`.
///
/// # Errors
/// None that a caller can cause.
pub fn models(gate: &Gate, _asked: &Asked) -> Result<Response<Body>> {
    let snapshot = gate.snapshot.load();
    let names = snapshot.catalog.all().iter().map(|endpoint| (&*endpoint.name, 0));
    reply::models(names).map(json)
}

/// `GET /v1/models/{endpoint}`.
///
/// # Errors
/// `CALLER_ENDPOINT_NOT_FOUND`.
pub fn model(gate: &Gate, asked: &Asked) -> Result<Response<Body>> {
    let snapshot = gate.snapshot.load();
    let endpoint = snapshot.catalog.endpoint(&asked.endpoint)?;
    reply::model(&endpoint.name, 0).map(json)
}

async fn serve(gate: &Arc<Gate>, served: Served, task: Task, asked: Asked, peek: &Peek) -> Result<Response<Body>> {
    if task == Task::Embed && peek.stream {
        return Err(Error::invalid("stream", "is not for embeddings; leave it out"));
    }
    let knock = Knock { task, streaming: peek.stream, payload: payload(task, &asked, peek)? };
    let Asked { visit, headers, .. } = asked;
    let lead = if task == Task::Chat { "chatcmpl" } else { "cmpl" };
    let id = format!("{lead}-{}", visit.id);
    let model = Arc::clone(&served.endpoint.name);
    let form = Form { id: &id, model: &model, created: now(), encoding: peek.encoding, include_usage: peek.include_usage };
    if peek.stream {
        let chunks = Chunks { encoder: ChunkEncoder::new(task, &form), visit: visit.clone() };
        let gate = Arc::clone(gate);
        return sse::respond(async move { gate.call_served(&visit, &headers, served, knock).await }, chunks).await;
    }
    let reply = gate.call_served(&visit, &headers, served, knock).await?;
    let headers = reply.head.headers.clone();
    Ok(match reply.answer().await? {
        Answer::Wire(answer) => whole(headers, answer.content_type, answer.body),
        answer => whole(headers, JSON, reply::encode_answer(&answer, &form)?),
    })
}

/// The request as received; typed from the start when it is written for another task than it is sent for, so that no answer
/// crosses in that other task's shape.
fn payload(task: Task, asked: &Asked, peek: &Peek) -> Result<Payload> {
    let written = match (task, peek.written_for) {
        (Task::Chat, None) => return Err(Error::invalid("messages", "is missing; send the conversation")),
        (Task::Complete, None) => return Err(Error::invalid("prompt", "is missing; send the text to complete")),
        (Task::Chat | Task::Complete, Some(written)) => written,
        (Task::Embed | Task::Predict, _) => task,
    };
    let decode: fn(&Wire) -> Result<Request> = match written {
        Task::Chat => door::decode_chat,
        Task::Complete => door::decode_complete,
        Task::Embed => door::decode_embed,
        Task::Predict => return Err(Error::internal("a prediction came to a door that has none")),
    };
    let Some(protocol) = OPENAI.protocol(written) else {
        return Err(Error::internal("a task has no protocol at its own door"));
    };
    let wire = Wire { protocol, content_type: JSON, body: asked.body.clone(), decode };
    if written == task { Ok(Payload::wire_only(wire)) } else { decode(&wire).map(Payload::typed_only) }
}

/// Seconds since the Unix epoch.
fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

impl sse::Encoder for Chunks {
    fn event(&mut self, event: Event, out: &mut BytesMut) -> Result<()> {
        match event {
            Event::Answer(_) => Err(Error::internal("a streamed call got a whole answer")),
            event => self.encoder.event(&event, out),
        }
    }

    fn failure(&mut self, error: &Error, out: &mut BytesMut) {
        self.visit.record.fail(error);
        sse::data(&failure::json_body(error, &self.visit), out);
        out.extend_from_slice(&done());
    }
}

#[cfg(test)]
mod tests;
