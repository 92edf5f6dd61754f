//! What a step is asked with: the text of an `input`, or what the step before answered, as a request to an endpoint of a task.

use std::collections::HashMap;

use bytes::Bytes;
use flowgate_proto::v1::{
    ChatRequest, CompleteRequest, EmbedRequest, Message, Part, PredictRequest, PredictionForm, Role, TextPart, part::Kind,
};
use http::HeaderValue;
use prost::Message as _;
use serde::de::IgnoredAny;

use crate::{
    dialect::{openai, scoring},
    error::{Error, Result},
    event::{Payload, Protocol, Request, Task, Wire},
    expression::Template,
};

/// The keys that make JSON one of MLflow's inputs.
const FORMS: [&str; 4] = ["dataframe_split", "dataframe_records", "instances", "inputs"];

/// What the text that a step is asked with is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// What somebody says.
    Text,
    /// A value as JSON: what a model server answered, or a list that the operator wrote.
    Value,
    /// A whole request, as `OpenAI` or MLflow writes it.
    Request,
}

impl Form {
    /// By how the operator wrote the `input`: as a JSON object, or as the caller's whole body. What a step answered is never taken for a
    /// request, whatever it looks like, since models repeat what they read.
    pub(super) fn of(input: Option<&Template>) -> Self {
        let Some(input) = input else { return Self::Text };
        let text = input.text().trim();
        let whole = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).map(str::trim);
        let is_body = matches!(whole, Some("request.json" | "request.json()" | "request.get_json()"));
        match () {
            () if is_body || input.is_object() => Self::Request,
            () if input.is_list() => Self::Value,
            () => Self::Text,
        }
    }
}

/// The task of the last step's request: of chat and completion that of the caller's, which its endpoint answers, too, so that the
/// caller's parameters can be kept.
pub(super) fn task(endpoint: Task, form: Form, callers: Option<&Request>) -> Task {
    match callers {
        Some(Request::Chat(_)) if endpoint == Task::Complete => Task::Chat,
        Some(Request::Complete(_)) if endpoint == Task::Chat && form != Form::Request => Task::Complete,
        _ => endpoint,
    }
}

/// The request that asks an endpoint of a task with a text.
///
/// # Errors
/// That a whole request is none.
pub(super) fn request(task: Task, form: Form, text: String) -> Result<Payload> {
    Ok(Payload::typed_only(match task {
        Task::Chat if form == Form::Request => chat(text)?,
        Task::Chat => Request::Chat(ChatRequest { messages: vec![said_by_user(text)], ..ChatRequest::default() }),
        Task::Complete => Request::Complete(CompleteRequest { prompts: vec![text], ..CompleteRequest::default() }),
        Task::Embed => Request::Embed(EmbedRequest { inputs: vec![text], ..EmbedRequest::default() }),
        // As bytes, so that numbers reach the model as they are written.
        Task::Predict => return Ok(Payload::wire_only(scoring::door::wire(None, prediction(form, &text)?))),
    }))
}

/// The caller's own request as a step gets it whose answer is not the caller's.
///
/// # Errors
/// What is wrong with the request.
pub(super) fn callers_own(mut payload: Payload) -> Result<Payload> {
    // A scoring body says nothing of its answer; one of another protocol may ask for a stream.
    let is_scoring = payload.wire().is_some_and(|wire| wire.protocol == Protocol::MlflowScoring);
    if !is_scoring && let Request::Predict(request) = payload.typed_mut()? {
        request.prediction_form = PredictionForm::Json.into();
    }
    Ok(payload)
}

/// The last step's request: asks what was made for it, and is in all else as the caller wants it, if the caller's is of the same kind.
///
/// # Errors
/// None that a caller can cause.
pub(super) fn kept(callers: Option<&Request>, made: &Request) -> Result<Request> {
    Ok(match (callers, made) {
        (Some(Request::Chat(callers)), Request::Chat(made)) => Request::Chat(chat_over(callers, made)?),
        (Some(Request::Complete(callers)), Request::Complete(made)) => {
            Request::Complete(CompleteRequest { prompts: made.prompts.clone(), suffix: String::new(), ..callers.clone() })
        }
        (Some(Request::Embed(callers)), Request::Embed(made)) => {
            Request::Embed(EmbedRequest { inputs: made.inputs.clone(), token_inputs: Vec::new(), ..callers.clone() })
        }
        (Some(Request::Predict(callers)), Request::Predict(made)) => {
            let params = made.params.clone().or_else(|| callers.params.clone());
            Request::Predict(PredictRequest { input: made.input.clone(), params, ..callers.clone() })
        }
        (_, made) => made.clone(),
    })
}

/// What the made request sets, over what the caller's does.
fn chat_over(callers: &ChatRequest, made: &ChatRequest) -> Result<ChatRequest> {
    let mut kept = ChatRequest { messages: Vec::new(), ..callers.clone() };
    // Merging would mix lists and groups of the two.
    if !made.stop.is_empty() {
        kept.stop.clear();
    }
    if !made.tools.is_empty() {
        kept.tools.clear();
    }
    kept.tool_choice.take_if(|_| made.tool_choice.is_some());
    kept.response_format.take_if(|_| made.response_format.is_some());
    kept.reasoning.take_if(|_| made.reasoning.is_some());
    let merged = kept.merge(made.encode_to_vec().as_slice());
    merged.map(|()| kept).map_err(|error| Error::internal("two requests cannot be laid over each other").because(error))
}

fn chat(text: String) -> Result<Request> {
    openai::door::decode_chat(&Wire {
        protocol: Protocol::OpenAiChat,
        content_type: HeaderValue::from_static("application/json"),
        body: text.into(),
        decode: openai::door::decode_chat,
    })
}

fn said_by_user(text: String) -> Message {
    let text = Part { kind: Some(Kind::Text(TextPart { text, citations: Vec::new() })), cache_hint: None };
    Message { role: Role::User.into(), parts: vec![text], ..Message::default() }
}

/// A scoring body: of a whole request one of MLflow's inputs as it is, else its JSON as `inputs`; a value as `inputs`, a text as their only
/// one. What a step said is never more than one of these two: `params` and the form of the input are the operator's.
fn prediction(form: Form, text: &str) -> Result<Bytes> {
    let text = text.trim();
    let is_json = form != Form::Text && serde_json::from_str::<IgnoredAny>(text).is_ok();
    if form == Form::Request {
        if !is_json {
            return Err(Error::internal("a request that is written as JSON is none"));
        }
        let fields: Option<HashMap<String, IgnoredAny>> = serde_json::from_str(text).ok();
        if fields.is_some_and(|fields| FORMS.iter().any(|form| fields.contains_key(*form))) {
            return Ok(Bytes::copy_from_slice(text.as_bytes()));
        }
    }
    let inputs = if is_json { text.to_owned() } else { serde_json::json!([text]).to_string() };
    Ok(format!("{{\"inputs\":{inputs}}}").into())
}
