//! What a step answered, as later steps see it.

use flowgate_proto::v1::EmbedResponse;
use serde_json::{Value, json};

use super::input::Form;
use crate::{
    dialect::{
        openai,
        scoring::{self, door},
    },
    error::{Error, Result},
    event::{Answer, Task},
};

/// What a step answered.
#[derive(Debug, PartialEq)]
pub(super) struct Output {
    /// What templates see under its name: `text` and `json`, `predictions`, or `embeddings`.
    pub seen: Value,
    /// What the next step is asked with if it has no `input`.
    pub text: String,
    /// What that is: said by a model, or a value that a server made.
    pub form: Form,
}

/// Reads the answer of an endpoint of `task`.
///
/// # Errors
/// `PROVIDER_BAD_ANSWER` when a scoring server's answer is not JSON.
pub(super) fn read(task: Task, answer: Answer) -> Result<Output> {
    Ok(match answer {
        Answer::Complete(answer) => {
            let first = answer.choices.into_iter().min_by_key(|choice| choice.index);
            of_text(first.map(|choice| choice.text).unwrap_or_default())
        }
        Answer::Chat(answer) => return read(task, Answer::Complete(openai::chat_to_complete(answer))),
        Answer::Embed(answer) => of_vectors(answer),
        Answer::Predict(answer) => of_predictions(&door::encode_answer(&answer)?.1)?,
        Answer::Wire(answer) if task == Task::Predict => of_predictions(&answer.body)?,
        Answer::Wire(answer) => return read(task, openai::decode_answer(task, &answer.body)?),
    })
}

fn of_text(text: String) -> Output {
    let json: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    Output { seen: json!({ "text": text, "json": json }), text, form: Form::Text }
}

fn of_vectors(answer: EmbedResponse) -> Output {
    let mut embeddings = answer.embeddings;
    embeddings.sort_by_key(|embedding| embedding.index);
    let vectors: Vec<_> = embeddings.into_iter().map(|embedding| embedding.values).collect();
    let vectors = json!(vectors);
    Output { text: vectors.to_string(), seen: json!({ "embeddings": vectors }), form: Form::Value }
}

fn of_predictions(body: &bytes::Bytes) -> Result<Output> {
    let predictions = scoring::predictions(body)?;
    let broken = |error: serde_json::Error| Error::internal("predictions that were found to be JSON are none").because(error);
    let value: Value = serde_json::from_slice(&predictions).map_err(broken)?;
    // To the letter: what is handed on is what the server wrote.
    Ok(Output { seen: json!({ "predictions": value }), text: String::from_utf8_lossy(&predictions).into_owned(), form: Form::Value })
}
