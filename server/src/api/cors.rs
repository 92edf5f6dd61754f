//! CORS: which origins' pages may call, for gRPC-Web and JSON alike.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::body::Body;

/// What browsers may read beside the body.
const EXPOSED: &str = "grpc-status, grpc-message, grpc-status-details-bin, x-request-id, retry-after";
/// What browsers may send when they do not say.
const ALLOWED: &str = "content-type, authorization, x-api-key, x-grpc-web, x-user-agent, grpc-timeout, x-request-id, x-request-timeout";

/// The origins that may call.
#[derive(Clone, Debug)]
pub struct Cors {
    any: bool,
    origins: Vec<HeaderValue>,
}

impl Cors {
    /// From `cors.allow_origins`; `*` stands for any.
    pub fn new(origins: &[String]) -> Self {
        Self {
            any: origins.iter().any(|origin| origin == "*"),
            origins: origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect(),
        }
    }

    /// Answers a browser's question whether it may send the real request.
    pub fn preflight(&self, asked: &HeaderMap) -> Response<Body> {
        let mut response = Response::new(Body::full(""));
        *response.status_mut() = StatusCode::NO_CONTENT;
        let origin = asked.get(header::ORIGIN);
        if origin.is_some_and(|origin| self.allows(origin)) {
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
            let wanted = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.unwrap_or(HeaderValue::from_static(ALLOWED)));
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
        }
        response
    }

    /// Lets the origin's page read the answer, if it may.
    pub fn allow(&self, origin: &HeaderValue, headers: &mut HeaderMap) {
        if self.allows(origin) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        self.any || self.origins.contains(origin)
    }
}
