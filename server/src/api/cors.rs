//! CORS: which origins' pages may call, for gRPC-Web and JSON alike.

use std::net::IpAddr;

use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header, uri::Authority};

use super::body::Body;
use crate::error::{Error, Result};

/// What browsers may read beside the body.
const EXPOSED: &str = "grpc-status, grpc-message, grpc-status-details-bin, x-request-id, retry-after, x-flowgate-deployment";
/// What browsers may send when they do not say.
const ALLOWED: &str = "content-type, authorization, x-api-key, x-grpc-web, x-user-agent, grpc-timeout, x-request-id, x-request-timeout, \
                       x-flowgate-deployment, x-flowgate-priority";

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

    /// Refuses what another site's page sends without asking first: browsers do so for simple requests, and only `Origin` tells.
    /// The page that the gateway itself would have served may call; on an open listener of this machine it must be this machine's by
    /// name too, or any site could get in by a DNS name that points here.
    ///
    /// # Errors
    /// `CALLER_FORBIDDEN`.
    pub fn admit(&self, uri: &Uri, headers: &HeaderMap, open_on_loopback: bool) -> Result<()> {
        let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
        let host =
            headers.get(header::HOST).map(HeaderValue::as_bytes).or_else(|| uri.authority().map(|authority| authority.as_str().as_bytes()));
        let own = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
        let is_own = own.is_some_and(|own| Some(own.as_bytes()) == host && (!open_on_loopback || is_this_machine(own)));
        if is_own || self.allows(origin) {
            return Ok(());
        }
        Err(Error::new(ErrorReason::CallerForbidden, "pages of this origin may not call; add it to `cors.allow_origins` if they should"))
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

fn is_this_machine(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    let host = authority.host().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(allowed: &[&str], origin: &'static str, host: &'static str, open_on_loopback: bool) -> bool {
        let allowed: Vec<String> = allowed.iter().map(|&origin| origin.to_owned()).collect();
        let headers = [(header::ORIGIN, HeaderValue::from_static(origin)), (header::HOST, HeaderValue::from_static(host))];
        Cors::new(&allowed).admit(&Uri::from_static("/"), &headers.into_iter().collect(), open_on_loopback).is_ok()
    }

    #[test]
    fn a_foreign_page_needs_leave() {
        assert!(!admitted(&[], "https://evil.example", "127.0.0.1:5000", true));
        assert!(!admitted(&[], "null", "127.0.0.1:5000", true));
        assert!(admitted(&["https://app.example"], "https://app.example", "gate.example", false));
        assert!(admitted(&["*"], "https://any.example", "gate.example", false));
        assert!(Cors::new(&[]).admit(&Uri::from_static("/"), &HeaderMap::new(), true).is_ok(), "no browser, no origin");
    }

    #[test]
    fn a_page_of_our_own_may_call_but_not_by_a_name_that_only_points_here() {
        assert!(admitted(&[], "http://localhost:5000", "localhost:5000", true));
        assert!(admitted(&[], "http://[::1]:5000", "[::1]:5000", true));
        assert!(admitted(&[], "https://gate.example", "gate.example", false));
        assert!(!admitted(&[], "http://rebound.example:5000", "rebound.example:5000", true));
    }
}
