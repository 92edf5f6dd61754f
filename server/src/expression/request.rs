//! `request`, as expressions see it: what Flask's request offers, the body parsed at most once and only if it is read.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use http::{HeaderMap, Method};
use minijinja::{Value, value::Object};

use crate::event::Payload;

/// One request at a door, for expressions.
#[derive(Debug)]
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
    /// The body as JSON, once it was read.
    pub json: OnceLock<Option<serde_json::Value>>,
}

impl Object for Request {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "path" => Some(Value::from(self.path.clone())),
            "method" => Some(Value::from(self.method.as_str())),
            _ => None,
        }
    }
}

impl Request {
    /// The body as JSON, in the form that MLflow's or `OpenAI`'s protocol gives it; `None` when it is none.
    pub fn json(&self) -> Option<&serde_json::Value> {
        self.json.get_or_init(|| serde_json::from_slice(&self.payload.wire()?.body).ok()).as_ref()
    }
}
