//! The answer of a call as the message that its RPC returns; the gate has given it the right shape.

use flowgate_proto::v1::{ChatResponse, CompleteResponse, EmbedResponse, Part, PredictResponse, TextPart, part::Kind};

use crate::{
    error::{Error, Result},
    event::Answer,
};

/// An answer to a conversation.
pub(super) fn to_chat(answer: Answer) -> Result<ChatResponse> {
    match answer {
        Answer::Chat(answer) => Ok(answer),
        Answer::Complete(_) | Answer::Embed(_) | Answer::Predict(_) | Answer::Wire(_) => Err(mismatch()),
    }
}

/// A completion.
pub(super) fn to_complete(answer: Answer) -> Result<CompleteResponse> {
    match answer {
        Answer::Complete(answer) => Ok(answer),
        Answer::Chat(_) | Answer::Embed(_) | Answer::Predict(_) | Answer::Wire(_) => Err(mismatch()),
    }
}

/// Vectors.
pub(super) fn to_embed(answer: Answer) -> Result<EmbedResponse> {
    match answer {
        Answer::Embed(answer) => Ok(answer),
        Answer::Chat(_) | Answer::Complete(_) | Answer::Predict(_) | Answer::Wire(_) => Err(mismatch()),
    }
}

/// Predictions.
pub(super) fn to_predict(answer: Answer) -> Result<PredictResponse> {
    match answer {
        Answer::Predict(answer) => Ok(answer),
        Answer::Chat(_) | Answer::Complete(_) | Answer::Embed(_) | Answer::Wire(_) => Err(mismatch()),
    }
}

/// A part of plain text.
pub(super) fn text_part(text: String) -> Part {
    Part { kind: Some(Kind::Text(TextPart { text, citations: Vec::new() })), cache_hint: None }
}

fn mismatch() -> Error {
    Error::internal("a call got an answer to another task")
}
