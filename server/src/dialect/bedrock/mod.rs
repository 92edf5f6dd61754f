//! Amazon Bedrock's runtime protocol: conversations by Converse, vectors by invoke. Signatures are put on elsewhere.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{
    Ask, Decoder, Dialect, Framing, Target,
    asked::{self, wrong_task},
    params::{Rules, Shape},
    target::segment,
    thinking,
};
use crate::{
    error::{Error, Result},
    event::{Answer, Protocol, Task},
};

mod answer;
mod blocks;
mod embed;
mod media;
mod message;
mod model;
mod request;
mod stream;
#[cfg(test)]
mod tests;
mod usage;
mod words;

/// The dialect.
pub static BEDROCK: Bedrock = Bedrock;

/// The protocol's name in `provider_options` and raw parts.
const PROTOCOL: &str = "bedrock";

/// How bodies take options.
static SHAPE: Shape = Shape { protocol: PROTOCOL, reserved: &["messages", "system", "inputText", "texts"], same: &[] };

/// The protocol of Bedrock's runtime. What differs between the models behind it is told by their ids; where an id tells nothing (an ARN), the
/// setting `base_model` names the model.
#[derive(Clone, Copy, Debug)]
pub struct Bedrock;

impl Dialect for Bedrock {
    fn protocol(&self, _task: Task) -> Option<Protocol> {
        None
    }

    fn encode(&self, ask: &Ask<'_>, target: &Target) -> Result<http::Request<Bytes>> {
        let rules = Rules { ask, target, shape: &SHAPE };
        let (operation, body) = match ask.task {
            Task::Chat | Task::Complete => {
                let operation = if ask.streaming { "converse-stream" } else { "converse" };
                let request = thinking::fitted(asked::chat(ask, rules)?, model::id(target));
                (operation, request::encode(&request, rules)?)
            }
            Task::Embed => ("invoke", embed::encode(asked::embed(ask)?, rules)?),
            Task::Predict => return Err(wrong_task()),
        };
        target.post_json(&format!("/model/{}/{operation}", segment(&target.model)), body)
    }

    fn decode(&self, ask: &Ask<'_>, target: &Target, headers: &HeaderMap, body: Bytes) -> Result<Answer> {
        match ask.task {
            Task::Chat | Task::Complete => answer::decode(&body, target.quirks).map(Answer::Chat),
            Task::Embed => embed::decode(target, headers, &body).map(Answer::Embed),
            Task::Predict => Err(wrong_task()),
        }
    }

    fn decoder(&self, _ask: &Ask<'_>, target: &Target) -> Box<dyn Decoder> {
        Box::new(stream::Converse::new(target.quirks))
    }

    fn framing(&self, _ask: &Ask<'_>, _target: &Target) -> Framing {
        Framing::EventStream
    }

    fn most_inputs(&self, target: &Target) -> usize {
        embed::most_inputs(target).min(target.quirks.most_inputs)
    }

    fn classify(&self, target: &Target, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Error {
        words::classify(target.quirks, status, headers, body)
    }
}
