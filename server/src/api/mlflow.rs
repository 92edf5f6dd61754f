//! MLflow's paths: `invocations` of its gateway and of its scoring server, and its lists of endpoints.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use flowgate_proto::v1::ErrorReason;
use http::{Response, header};
use serde::{Deserialize, Serialize};

use super::{
    Gate, Knock,
    body::Body,
    edge::{Asked, json, whole},
    openai,
};
use crate::{
    catalog::{Catalog, Endpoint},
    dialect::scoring::door,
    error::{Error, Result},
    event::{Answer, Payload, Task},
    stack::Served,
};

/// Endpoints per page, as MLflow has it.
const PAGE: usize = 3000;

/// An endpoint as MLflow's deployments client reads it; every key must be there.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    name: &'a str,
    endpoint_type: &'static str,
    model: Model<'a>,
    endpoint_url: String,
    limit: Option<Limit<'a>>,
}

#[derive(Debug, Serialize)]
struct Model<'a> {
    name: &'a str,
    provider: &'a str,
}

#[derive(Debug, Serialize)]
struct Limit<'a> {
    calls: u64,
    key: Option<&'a str>,
    renewal_period: &'a str,
}

#[derive(Debug, Serialize)]
struct Page<'a> {
    endpoints: Vec<Listed<'a>>,
    next_page_token: Option<String>,
}

/// What a page token holds: where the page starts.
#[derive(Debug, Deserialize, Serialize)]
struct Token {
    index: usize,
}

/// A body for one endpoint: scoring JSON, CSV and so on for predict endpoints, OpenAI's body for the others.
///
/// # Errors
/// What the call fails with before its first event.
pub async fn invocations(gate: &Arc<Gate>, served: Served, asked: Asked) -> Result<Response<Body>> {
    let task = served.endpoint.task;
    if task != Task::Predict {
        return openai::for_endpoint(gate, served, task, asked).await;
    }
    let Asked { visit, headers, body, .. } = asked;
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else {
        let message = "the request has no content type; send `application/json` for MLflow's JSON, `text/csv` or what else the body is";
        return Err(Error::new(ErrorReason::CallerUnsupportedMediaType, message));
    };
    let payload = Payload::wire_only(door::wire(Some(content_type), body));
    let knock = Knock { task: Task::Predict, streaming: false, payload };
    let reply = gate.call_served(&visit, &headers, served, knock).await?;
    let headers = reply.head.headers.clone();
    let (content_type, body) = match reply.answer().await? {
        Answer::Wire(answer) => (answer.content_type, answer.body),
        Answer::Predict(answer) => door::encode_answer(&answer)?,
        Answer::Chat(_) | Answer::Complete(_) | Answer::Embed(_) => {
            return Err(Error::internal("a prediction was answered by something else"));
        }
    };
    Ok(whole(headers, content_type, body))
}

/// `POST /endpoints/{endpoint}/invocations` and `/gateway/{endpoint}/invocations`.
///
/// # Errors
/// `CALLER_ENDPOINT_NOT_FOUND`, and as [`invocations`].
pub async fn named_invocations(gate: &Arc<Gate>, asked: Asked) -> Result<Response<Body>> {
    let served = gate.served(|catalog| catalog.endpoint(&asked.endpoint))?;
    invocations(gate, served, asked).await
}

/// `POST /invocations`.
///
/// # Errors
/// `CALLER_ENDPOINT_NOT_FOUND` when it is not clear which endpoint is meant, and as [`invocations`].
pub async fn default_invocations(gate: &Arc<Gate>, asked: Asked) -> Result<Response<Body>> {
    let served = gate.served(Catalog::default_endpoint)?;
    invocations(gate, served, asked).await
}

/// `GET /api/2.0/endpoints/`.
///
/// # Errors
/// A page token that is none.
pub fn endpoints(gate: &Gate, asked: &Asked) -> Result<Response<Body>> {
    let snapshot = gate.snapshot.load();
    let start = page_start(&asked.query)?;
    let mut rest = listed(&snapshot.catalog).skip(start);
    let endpoints: Vec<_> = rest.by_ref().take(PAGE).map(|endpoint| Listed::new(endpoint, &snapshot.catalog)).collect();
    let next_page_token = rest.next().map(|_| token(start + PAGE)).transpose()?;
    write(&Page { endpoints, next_page_token })
}

/// `GET /api/2.0/endpoints/{endpoint}`.
///
/// # Errors
/// `CALLER_ENDPOINT_NOT_FOUND`.
pub fn endpoint(gate: &Gate, asked: &Asked) -> Result<Response<Body>> {
    let snapshot = gate.snapshot.load();
    let found = listed(&snapshot.catalog).find(|endpoint| *endpoint.name == *asked.endpoint);
    let found = found.ok_or_else(|| {
        let message = "the endpoint is not present or active on the server; verify its name with `GET /api/2.0/endpoints/`";
        Error::new(ErrorReason::CallerEndpointNotFound, message)
    })?;
    write(&Listed::new(found, &snapshot.catalog))
}

/// The endpoints that MLflow lists: no traffic splits, whose shape has a single model.
fn listed(catalog: &Catalog) -> impl Iterator<Item = &Endpoint> {
    catalog.all().iter().map(|endpoint| &**endpoint).filter(|endpoint| !endpoint.config.is_split)
}

fn write(body: &impl Serialize) -> Result<Response<Body>> {
    let body = serde_json::to_vec(body).map_err(|error| Error::internal("a list cannot be written as JSON").because(error))?;
    Ok(json(Bytes::from(body)))
}

/// The place in the list where the page starts that a query asks for.
fn page_start(query: &str) -> Result<usize> {
    let Some(token) = query.split('&').find_map(|pair| pair.strip_prefix("page_token=")).filter(|token| !token.is_empty()) else {
        return Ok(0);
    };
    let decoded = STANDARD.decode(percent_encoding::percent_decode_str(token).collect::<Vec<u8>>()).ok();
    let token: Option<Token> = decoded.and_then(|json| serde_json::from_slice(&json).ok());
    token
        .map(|token| token.index)
        .ok_or_else(|| Error::invalid("page_token", "is none that this server gave; leave it out for the first page"))
}

fn token(index: usize) -> Result<String> {
    let json = serde_json::to_vec(&Token { index }).map_err(|error| Error::internal("a page token cannot be written").because(error))?;
    Ok(STANDARD.encode(json))
}

impl<'a> Listed<'a> {
    /// The endpoint with the model that answers first: for a chain that of its last step.
    fn new(endpoint: &'a Endpoint, catalog: &'a Catalog) -> Self {
        let first = catalog.answering(endpoint).and_then(|endpoint| endpoint.deployments.first());
        Self {
            name: &endpoint.name,
            endpoint_type: endpoint.task.endpoint_type(),
            model: Model {
                name: first.map_or("", |deployment| &deployment.config.model),
                provider: first.map_or("", |deployment| deployment.provider),
            },
            endpoint_url: format!("/gateway/{}/invocations", endpoint.name),
            limit: endpoint.config.limit.as_ref().map(|limit| Limit {
                calls: limit.calls,
                key: None,
                renewal_period: &limit.renewal_period,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
