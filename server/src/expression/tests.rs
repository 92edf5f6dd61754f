//! What conditions and templates give for requests of every door, what they refuse, and what they may cost.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};

use super::{Expression, Request, Seen};
use crate::{
    dialect::scoring,
    error::Error,
    event::{self, Payload, Protocol, Wire},
};

mod hostile;
mod language;
mod requests;
mod templates;

fn with(payload: Payload) -> Arc<Request> {
    let headers = [("x-team", "red"), ("accept", "text/plain"), ("accept", "*/*")];
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name, HeaderValue::from_static(value));
    }
    Arc::new(Request {
        method: Method::POST,
        path: "/endpoints/chat/invocations".to_owned(),
        query: "debug=1&tag=a%20b&tag=c&empty".to_owned(),
        remote: IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)),
        headers: map,
        principal: "app".into(),
        payload,
        seen: Seen::default(),
    })
}

fn scoring(content_type: &'static str, body: impl Into<Bytes>) -> Arc<Request> {
    with(Payload::wire_only(scoring::door::wire(Some(&HeaderValue::from_static(content_type)), body.into())))
}

fn openai(protocol: Protocol, body: impl Into<Bytes>) -> Arc<Request> {
    let content_type = HeaderValue::from_static("application/json");
    let decode = |_: &Wire| Err(Error::internal("a condition must not decode"));
    with(Payload::wire_only(Wire { protocol, content_type, body: body.into(), decode }))
}

fn typed(request: event::Request) -> Arc<Request> {
    with(Payload::typed_only(request))
}

/// A body with something of every kind.
fn sample() -> Arc<Request> {
    let body = r#"{"model": "chat", "a": 1, "b": [1, 2, 3], "c": {"d": "Text", "e": null}, "f": 1.5, "t": true, "s": "äbc",
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "metadata": {"plan": "gold"}}"#;
    openai(Protocol::OpenAiChat, body)
}

fn ask(text: &str, request: &Arc<Request>) -> Result<bool, String> {
    Expression::compile(text).unwrap_or_else(|fault| panic!("{text}: {fault:?}")).holds(request)
}
