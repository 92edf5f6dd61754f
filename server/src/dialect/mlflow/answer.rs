//! Answers, told apart by what they hold: OpenAI's fields, an agent's messages, items of a response, or bare predictions.

use bytes::Bytes;
use flowgate_proto::v1::{CompleteResponse, CompletionChoice, EmbedResponse, Embedding};
use http::StatusCode;
use serde_json::value::RawValue;

use super::{QUIRKS, RAISED, agent, raised};
use crate::{
    dialect::{
        asked::wrong_task,
        errors::bad_answer,
        json::{Fields, Str},
        openai, scoring,
    },
    error::Result,
    event::{Answer, Task},
};

/// What was read.
pub(super) enum Read {
    /// An answer.
    Answer(Box<Answer>),
    /// A whole response, for its own dialect to read.
    Responses(Bytes),
}

/// What the predictions are.
enum Told<'a> {
    /// Fields as OpenAI has them.
    OpenAi,
    /// An agent's messages.
    Agent,
    /// Items of a response.
    Responses,
    /// The predictions themselves.
    Bare(&'a RawValue),
}

/// The answer to a call.
pub(super) fn decode(task: Task, body: &Bytes) -> Result<Read> {
    let predictions = scoring::predictions(body).map_err(|_| bad_answer("the answer is not JSON"))?;
    let json: &RawValue = serde_json::from_slice(&predictions).map_err(|_| bad_answer("the answer is not JSON"))?;
    let answer = match (tell(json)?, task) {
        (_, Task::Predict) => Err(wrong_task()),
        (Told::OpenAi, task) => openai::read_answer(task, &predictions, &QUIRKS),
        (Told::Responses | Told::Agent, Task::Embed) => Err(bad_answer("the answer has no vectors")),
        (Told::Responses, _) => return Ok(Read::Responses(predictions)),
        (Told::Agent, _) => agent::decode(&predictions).map(Answer::Chat),
        (Told::Bare(json), Task::Embed) => vectors(json).map(Answer::Embed),
        (Told::Bare(json), Task::Chat) => texts(json).map(openai::complete_to_chat).map(Answer::Chat),
        (Told::Bare(json), Task::Complete) => texts(json).map(Answer::Complete),
    };
    answer.map(|answer| Read::Answer(Box::new(answer)))
}

fn tell(json: &RawValue) -> Result<Told<'_>> {
    if !json.get().starts_with('{') {
        return Ok(Told::Bare(json));
    }
    let fields: Fields<'_> = serde_json::from_str(json.get()).map_err(|_| bad_answer("the answer is not JSON"))?;
    if fields.get("error_code").is_some_and(|code| code.get().trim_matches('"') == RAISED) {
        return Err(raised(StatusCode::OK));
    }
    let holds_objects = |name: &str| fields.get(name).is_some_and(of_objects);
    if ["choices", "data"].into_iter().any(holds_objects) || ["error", "error_code"].into_iter().any(|name| fields.get(name).is_some()) {
        return Ok(Told::OpenAi);
    }
    if holds_objects("messages") {
        return Ok(Told::Agent);
    }
    if holds_objects("output") {
        return Ok(Told::Responses);
    }
    match (fields.get("choices"), fields.0.as_slice()) {
        (Some(texts), _) => Ok(Told::Bare(texts)),
        (None, [(_, only)]) => Ok(Told::Bare(only)),
        _ => Err(bad_answer("the predictions are of no known form")),
    }
}

/// Whether a list begins with an object.
pub(super) fn of_objects(list: &RawValue) -> bool {
    list.get().strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with('{'))
}

/// Predictions that are a text, or a list of texts, or of objects that each hold one. Nobody says why they end.
pub(super) fn texts(json: &RawValue) -> Result<CompleteResponse> {
    let no_texts = || bad_answer("the predictions are no texts");
    let list: Vec<&RawValue> =
        if json.get().starts_with('[') { serde_json::from_str(json.get()).map_err(|_| no_texts())? } else { vec![json] };
    if list.is_empty() {
        return Err(no_texts());
    }
    let text = |raw: &RawValue| -> Option<String> {
        let fields: Option<Fields<'_>> = serde_json::from_str(raw.get()).ok();
        let raw = match fields.as_ref().map(|fields| fields.0.as_slice()) {
            Some([(_, only)]) => only,
            _ => raw,
        };
        serde_json::from_str::<Str<'_>>(raw.get()).ok().map(String::from)
    };
    let choices = (0..).zip(list).map(|(index, raw)| Some(CompletionChoice { index, text: text(raw)?, ..CompletionChoice::default() }));
    let choices = choices.collect::<Option<_>>().ok_or_else(no_texts)?;
    Ok(CompleteResponse { choices, ..CompleteResponse::default() })
}

/// Predictions that are a list of vectors, or one vector.
fn vectors(json: &RawValue) -> Result<EmbedResponse> {
    let many: Option<Vec<Vec<f32>>> = serde_json::from_str(json.get()).ok();
    let vectors = many.or_else(|| serde_json::from_str(json.get()).ok().map(|one| vec![one]));
    let vectors = vectors.filter(|vectors| vectors.iter().any(|vector| !vector.is_empty()));
    let vectors = vectors.ok_or_else(|| bad_answer("the predictions are no vectors"))?;
    let embeddings = (0..).zip(vectors).map(|(index, values)| Embedding { index, values }).collect();
    Ok(EmbedResponse { embeddings, ..EmbedResponse::default() })
}
