//! The protocol's REST form.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use flowgate_proto::inference::model_metadata_response::TensorMetadata;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};

use super::{
    super::{
        Gate, Knock,
        body::Body,
        edge::{Asked, json as json_answer, whole},
        grpc::{Health, prediction},
        table::Oip,
    },
    Act,
};
use crate::{
    dialect::oip::{
        door,
        rest::{self, Written},
    },
    error::{Error, Result},
    event::{Answer, Payload, Request, Task},
};

/// How long the JSON of a body is that goes on with binary data.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// What is asked of a repository.
#[derive(Debug, Default, Deserialize)]
struct Repository {
    #[serde(default)]
    ready: bool,
    #[serde(default)]
    parameters: HashMap<String, IgnoredAny>,
}

/// Answers a path.
///
/// # Errors
/// `CALLER_ENDPOINT_NOT_FOUND`, `CALLER_WRONG_TASK`, and what an inference fails with.
pub async fn answer(gate: &Arc<Gate>, health: &Health, path: Oip, asked: Asked) -> Result<Response<Body>> {
    let (name, version) = (&asked.endpoint, &asked.version);
    Ok(match path {
        Oip::Server => {
            let server = super::server();
            told(&json!({"name": server.name, "version": server.version, "extensions": server.extensions}))
        }
        Oip::Live => told(&json!({"live": true})),
        Oip::Ready => {
            let ready = health.serves().await;
            readiness(ready, &json!({"ready": ready}))
        }
        Oip::Model => {
            let model = super::metadata(gate, name, version)?;
            let tensors = |all: &[TensorMetadata]| -> Vec<Value> {
                all.iter().map(|one| json!({"name": one.name, "datatype": one.datatype, "shape": one.shape})).collect()
            };
            let (inputs, outputs) = (tensors(&model.inputs), tensors(&model.outputs));
            told(&json!({"name": model.name, "versions": model.versions, "platform": model.platform, "inputs": inputs, "outputs": outputs}))
        }
        Oip::ModelReady => {
            let ready = super::is_ready(gate, name, version)?;
            readiness(ready, &json!({"name": name, "ready": ready}))
        }
        Oip::Infer => return infer(gate, asked).await,
        Oip::Index => index(gate, &asked.body)?,
        Oip::Load | Oip::Unload => {
            let act = if path == Oip::Load { Act::Load } else { Act::Unload };
            super::only_known(act, repository(&asked.body)?.parameters.keys())?;
            super::manage(gate, &asked.visit.principal, name, act).await?;
            told(&json!({}))
        }
    })
}

async fn infer(gate: &Arc<Gate>, asked: Asked) -> Result<Response<Body>> {
    let Asked { visit, headers, endpoint, version, body, .. } = asked;
    super::announces(gate, &endpoint, "version", &version)?;
    let (request, form) = rest::read((&endpoint, &version), &body, json_length(&headers)?)?;
    let knock = Knock { task: Task::Predict, streaming: false, payload: Payload::typed_only(Request::Predict(request)) };
    let mut reply = gate.call(&visit, &headers, &endpoint, knock).await.map_err(door::in_its_words)?;
    let told = prediction::model(&reply.head);
    let crossed = std::mem::take(&mut reply.head.headers);
    let Answer::Predict(mut answer) = reply.answer().await.map_err(door::in_its_words)? else {
        return Err(Error::internal("a call got an answer to another task"));
    };
    answer.model.get_or_insert(told);
    super::is_of(&form.wanted().version, &answer)?;
    let Written { body, json } = rest::write(answer, &form, &super::outputs(gate, &endpoint)?)?;
    let kind = if json.is_some() { "application/octet-stream" } else { "application/json" };
    let mut response = whole(crossed, HeaderValue::from_static(kind), body);
    if let Some(length) = json {
        response.headers_mut().insert(JSON_LENGTH, HeaderValue::from(length));
    }
    Ok(response)
}

fn json_length(headers: &HeaderMap) -> Result<Option<usize>> {
    let Some(value) = headers.get(JSON_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    length.map(Some).ok_or_else(|| Error::invalid(JSON_LENGTH.as_str(), "must be the length of the body's JSON in bytes"))
}

fn repository(body: &Bytes) -> Result<Repository> {
    if body.is_empty() {
        return Ok(Repository::default());
    }
    let wrong = |_| Error::invalid("body", "must be a JSON object in which `ready` may be true or false, and `parameters` an object");
    serde_json::from_slice(body).map_err(wrong)
}

fn index(gate: &Gate, body: &Bytes) -> Result<Response<Body>> {
    let models = super::index(gate, repository(body)?.ready).into_iter();
    let models = models.map(|model| json!({"name": model.name, "version": model.version, "state": model.state, "reason": model.reason}));
    Ok(told(&models.collect()))
}

fn told(body: &Value) -> Response<Body> {
    json_answer(Bytes::from(body.to_string()))
}

/// Whoever only looks at the status sees the answer, too.
fn readiness(ready: bool, body: &Value) -> Response<Body> {
    let mut response = told(body);
    if !ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}
