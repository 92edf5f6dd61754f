//! `request`, as expressions see it: what Flask's request offers, the body parsed at most once and only if it is read.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use http::{HeaderMap, Method};
use minijinja::{
    Value,
    value::{Enumerator, Object, ValueKind},
};
use percent_encoding::percent_decode_str;

use super::json::{self, Table, items};
use crate::{
    dialect::{is_json, openai, scoring},
    event::{self, Payload, Protocol},
};

/// One request at a door, for expressions.
pub struct Request {
    /// The HTTP method; `POST` for RPCs.
    pub method: Method,
    /// The path.
    pub path: String,
    /// The query, without `?`.
    pub query: String,
    /// The client.
    pub remote: IpAddr,
    /// The headers, or gRPC metadata; credentials are left out by whoever makes this.
    pub headers: HeaderMap,
    /// Who calls.
    pub principal: Arc<str>,
    /// The request itself.
    pub payload: Payload,
    /// What expressions have asked for so far; [`Seen::default`] at first.
    pub seen: Seen,
}

/// What expressions have asked a [`Request`] for, kept for the next one.
#[derive(Default)]
pub struct Seen {
    json: OnceLock<Value>,
    text: OnceLock<Value>,
    metadata: OnceLock<Value>,
    args: OnceLock<Value>,
}

/// The headers of a request as a dict: any letter case, values of one name joined by commas.
#[derive(Debug)]
struct Headers(Arc<Request>);

impl Request {
    /// What stands at a path of keys and indices in the request's JSON, as text; `None` for what is not there, or is no scalar.
    pub fn field<K: AsRef<str>>(&self, path: &[K]) -> Option<String> {
        let step = |value: Value, key: &K| match items(&value) {
            Some(items) => key.as_ref().parse::<usize>().ok().and_then(|n| items.get(n)).cloned(),
            None => value.as_object()?.get_value_by_str(key.as_ref()),
        };
        let found = path.iter().try_fold(self.json().clone(), step)?;
        matches!(found.kind(), ValueKind::String | ValueKind::Number | ValueKind::Bool).then(|| found.to_string())
    }

    /// A value of the request's metadata.
    pub fn metadata_of(&self, key: &str) -> Option<String> {
        let found = self.metadata().downcast_object_ref::<Table>()?.get(key)?.clone();
        found.as_str().map(str::to_owned)
    }

    /// Whether anything has had the body parsed.
    pub fn has_read_body(&self) -> bool {
        self.seen.json.get().is_some()
    }

    /// The body as JSON, in the form that MLflow's or `OpenAI`'s protocol gives it; `None` (the value) when it has none.
    pub(super) fn json(&self) -> &Value {
        self.seen.json.get_or_init(|| self.parse().unwrap_or_else(|| Value::from(())))
    }

    fn parse(&self) -> Option<Value> {
        let Some(wire) = self.payload.wire() else {
            let body: Bytes = match self.payload.typed().ok()? {
                event::Request::Predict(request) => scoring::json_view(request)?,
                event::Request::Chat(_) | event::Request::Complete(_) | event::Request::Embed(_) => {
                    openai::json_view(&self.payload).ok()?
                }
            };
            return json::read(&body);
        };
        if wire.protocol != Protocol::MlflowScoring {
            return json::read(&wire.body);
        }
        let media_type = wire.content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if !is_json(media_type) {
            return None;
        }
        json::read(&wire.body).or_else(|| json::read(&scoring::without_python_tokens(&wire.body)))
    }

    /// Prompts, the texts of messages, or what is to be embedded, line by line; empty for a prediction.
    fn text(&self) -> &Value {
        self.seen.text.get_or_init(|| {
            let is_prediction = match self.payload.wire() {
                Some(wire) => wire.protocol == Protocol::MlflowScoring,
                None => matches!(self.payload.typed(), Ok(event::Request::Predict(_))),
            };
            let mut lines = Vec::new();
            if let Some(body) = self.json().downcast_object_ref::<Table>().filter(|_| !is_prediction) {
                for message in body.get("messages").and_then(items).unwrap_or_default() {
                    let content = message.downcast_object_ref::<Table>().and_then(|message| message.get("content"));
                    content.into_iter().for_each(|content| texts(content, &mut lines));
                }
                ["prompt", "input"].into_iter().filter_map(|key| body.get(key)).for_each(|said| texts(said, &mut lines));
            }
            Value::from(lines.join("\n"))
        })
    }

    fn metadata(&self) -> &Value {
        self.seen.metadata.get_or_init(|| {
            let typed = if self.payload.wire().is_none() { self.payload.typed().ok() } else { None };
            let labels = match typed {
                Some(event::Request::Chat(request)) => &request.metadata,
                Some(event::Request::Complete(request)) => &request.metadata,
                Some(event::Request::Embed(request)) => &request.metadata,
                Some(event::Request::Predict(request)) => &request.metadata,
                None => {
                    let body = self.json().downcast_object_ref::<Table>();
                    let labels = body.and_then(|body| body.get("metadata")).filter(|labels| labels.kind() == ValueKind::Map);
                    return labels.cloned().unwrap_or_else(|| Value::from_object(Table::new(Vec::new())));
                }
            };
            let mut labels: Vec<_> = labels.iter().collect();
            labels.sort_unstable();
            Value::from_object(Table::new(labels.into_iter().map(|(key, value)| (Value::from(key), Value::from(value))).collect()))
        })
    }

    /// The query's arguments; the first of equal names counts.
    fn args(&self) -> &Value {
        self.seen.args.get_or_init(|| {
            let decoded = |text: &str| Value::from(percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy());
            let pairs = self.query.split('&').filter(|pair| !pair.is_empty()).rev();
            let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            Value::from_object(Table::new(pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()))
        })
    }
}

/// The texts of a message's content, of prompts or of inputs.
fn texts<'a>(said: &'a Value, lines: &mut Vec<&'a str>) {
    if let Some(text) = said.as_str() {
        lines.push(text);
    }
    for part in items(said).unwrap_or_default() {
        let text = part.as_str().or_else(|| part.downcast_object_ref::<Table>()?.get("text")?.as_str());
        lines.extend(text);
    }
}

/// The root of what an expression sees, by the names that lowering gives the parts of `request`.
impl Object for Request {
    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        Some(match key {
            "_json" => self.json().clone(),
            "_headers" => Value::from_object(Headers(Arc::clone(self))),
            "_method" => Value::from(self.method.as_str()),
            "_path" => Value::from(self.path.as_str()),
            "_args" => self.args().clone(),
            "_principal" => Value::from(Arc::clone(&self.principal)),
            "_remote_addr" => Value::from(self.remote.to_canonical().to_string()),
            "_metadata" => self.metadata().clone(),
            "_text" => self.text().clone(),
            _ => return None,
        })
    }
}

impl Object for Headers {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let mut values = self.0.headers.get_all(key).iter().filter_map(|value| value.to_str().ok());
        let first = values.next()?;
        Some(match values.next() {
            None => Value::from(first),
            Some(second) => Value::from([first, second].into_iter().chain(values).collect::<Vec<_>>().join(", ")),
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.headers.keys().map(|name| Value::from(name.as_str())).collect())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.0.headers.keys_len())
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("method", &self.method).field("path", &self.path).finish_non_exhaustive()
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen").field("body", &self.json.get().is_some()).finish_non_exhaustive()
    }
}
