//! The plain ways to ask, for the tests of every dialect: whom, how, and in the words of OpenAI's clients.

use bytes::Bytes;
use flowgate_proto::v1::ChatRequest;
use http::{HeaderMap, HeaderValue};
use serde_json::Value as Json;

use super::Case;
use crate::{
    dialect::{
        Ask, Dialect, Quirks, Settings, Target, Unsupported,
        openai::{OPENAI, door},
    },
    event::{Lane, Payload, Protocol, Request, Task, Wire},
};

/// A speaker of the plain protocol, with no settings and no headers of an operator's.
pub(in crate::dialect) fn target(provider: &'static str, base: &str, model: &str) -> Target {
    Target {
        provider,
        base: base.parse().unwrap(),
        model: model.to_owned(),
        headers: HeaderMap::new(),
        settings: Settings::default(),
        templates: crate::dialect::templated::Templates::default(),
        quirks: &Quirks::NONE,
    }
}

/// A whole answer is wanted, on the typed lane, and what the provider lacks is refused.
pub(in crate::dialect) fn ask(task: Task, payload: &Payload) -> Ask<'_> {
    Ask { task, streaming: false, lane: Lane::Typed, payload, unsupported: Unsupported::Refuse }
}

/// A body as a client of OpenAI's sent it.
pub(in crate::dialect) fn wire(task: Task, body: impl Into<Bytes>) -> Wire {
    let decode = match task {
        Task::Chat => door::decode_chat,
        Task::Complete => door::decode_complete,
        Task::Embed | Task::Predict => door::decode_embed,
    };
    let protocol = OPENAI.protocol(task).unwrap_or(Protocol::OpenAiChat);
    Wire { protocol, content_type: HeaderValue::from_static("application/json"), body: body.into(), decode }
}

/// What a client of OpenAI's chat asks.
pub(in crate::dialect) fn chat(body: &Json) -> ChatRequest {
    match door::decode_chat(&wire(Task::Chat, body.to_string())).unwrap() {
        Request::Chat(request) => request,
        _ => panic!("no chat"),
    }
}

/// The body of a chat, as it goes to a provider.
pub(in crate::dialect) fn sent(dialect: &dyn Dialect, target: &Target, request: ChatRequest) -> Json {
    let payload = Payload::typed_only(Request::Chat(request));
    let request = dialect.encode(&ask(Task::Chat, &payload), target).unwrap();
    serde_json::from_slice(request.body()).unwrap()
}

impl Case {
    /// The model of the case, or the suite's.
    pub(in crate::dialect) fn model_or<'a>(&'a self, model: &'a str) -> &'a str {
        Some(&*self.model).filter(|own| !own.is_empty()).unwrap_or(model)
    }

    /// The address of the case, or the suite's.
    pub(in crate::dialect) fn url_or<'a>(&'a self, url: &'a str) -> &'a str {
        Some(&*self.url).filter(|own| !own.is_empty()).unwrap_or(url)
    }

    /// The settings of the case, all of which the provider has.
    pub(in crate::dialect) fn settings(&self, known: &[&'static str]) -> Settings {
        let one = |(name, value): (&String, &String)| {
            let name = known.iter().find(|known| *known == name).unwrap_or_else(|| panic!("no setting {name}"));
            (*name, value.clone())
        };
        Settings(self.settings.iter().map(one).collect())
    }
}
