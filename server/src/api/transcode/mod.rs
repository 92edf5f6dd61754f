//! Every RPC with a `google.api.http` annotation as JSON over HTTP, by the embedded descriptors alone.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use flowgate_proto::{JSON_CODECS, JsonCodec};
use futures_util::StreamExt as _;
use http::{HeaderMap, Request, Response, Version, header};
use http_body_util::Full;

use super::{
    Gate, Visit,
    body::Body,
    edge::{Asked, insert, json},
    failure,
    grpc::GrpcService,
    sse,
    table::Rpc,
};
use crate::error::{Error, Result};

mod bind;
mod body;
mod frames;
pub mod openapi;
mod predict;
#[cfg(test)]
pub(super) mod tests;

/// Client headers that end at this door: they speak of the connection or of the JSON body.
const NOT_CARRIED: [header::HeaderName; 12] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Writes the messages of a streamed RPC as events.
struct Written {
    codec: &'static JsonCodec,
    visit: Visit,
}

/// Answers one RPC: JSON to message, the gRPC service in process, message to JSON; a server stream becomes server-sent events.
///
/// # Errors
/// What the RPC fails with before its first message.
pub async fn serve(gate: &Arc<Gate>, grpc: &GrpcService, rpc: &Rpc, asked: Asked) -> Result<Response<Body>> {
    if let Some(exact) = predict::exact(rpc, &asked)? {
        return predict::serve(gate, asked, exact).await;
    }
    let codec = codec(rpc.descriptor.output().full_name())?;
    let message = message(rpc, &asked)?;
    let visit = asked.visit.clone();
    let call = frames::call(grpc.clone(), request(rpc, asked, &message)?, visit.clone());
    if rpc.descriptor.is_server_streaming() {
        return sse::respond(call, Written { codec, visit }).await;
    }
    let mut messages = call.await?;
    let message = messages.next().await.unwrap_or_else(|| Err(Error::internal("an RPC ended without an answer")))?;
    Ok(answer(&messages.headers, to_json(codec, &message)?))
}

/// The message that path, query and body make together; what is bound later wins.
fn message(rpc: &Rpc, asked: &Asked) -> Result<Vec<u8>> {
    let input = rpc.descriptor.input();
    let mut message = body::read(codec(input.full_name())?, &input, &asked.headers, &asked.body)?;
    message.extend(bind::bind(&input, &asked.query, &asked.endpoint)?);
    Ok(message)
}

/// The request as gRPC sends it; the client's headers become its metadata.
fn request(rpc: &Rpc, asked: Asked, message: &[u8]) -> Result<Request<tonic::body::Body>> {
    let Asked { visit, mut headers, .. } = asked;
    for name in &NOT_CARRIED {
        headers.remove(name);
    }
    // What a client says of gRPC's own framing is not of the message that is framed here.
    let own: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("grpc-") && *name != "grpc-timeout").cloned().collect();
    for name in own {
        headers.remove(name);
    }
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, header::HeaderValue::from_static("trailers"));
    let body = Full::new(frames::frame(message)?);
    let mut request = Request::new(tonic::body::Body::new(body));
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() =
        rpc.path.parse().map_err(|error: http::uri::InvalidUri| Error::internal("an RPC's path is none").because(error))?;
    *request.headers_mut() = headers;
    insert(&mut request, visit);
    Ok(request)
}

/// A JSON answer with the headers that crossed from upstream.
fn answer(headers: &HeaderMap, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = json(body.into());
    for (name, value) in headers {
        if name != header::CONTENT_TYPE {
            response.headers_mut().append(name, value.clone());
        }
    }
    response
}

fn codec(message: &str) -> Result<&'static JsonCodec> {
    let place = JSON_CODECS.binary_search_by(|codec| codec.message.cmp(message));
    place.ok().and_then(|place| JSON_CODECS.get(place)).ok_or_else(|| Error::internal("an RPC's message has no JSON form"))
}

fn to_json(codec: &JsonCodec, message: &[u8]) -> Result<Vec<u8>> {
    (codec.to_json)(message).map_err(|error| Error::internal("an answer has no JSON form; ask for it over gRPC").because(error))
}

impl sse::Encoder<Bytes> for Written {
    fn event(&mut self, message: Bytes, out: &mut BytesMut) -> Result<()> {
        sse::data(&to_json(self.codec, &message)?, out);
        Ok(())
    }

    fn failure(&mut self, error: &Error, out: &mut BytesMut) {
        self.visit.record.fail(error);
        sse::data(&failure::json_body(error, &self.visit), out);
    }
}
