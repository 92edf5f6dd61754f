//! `EndpointService`.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use flowgate_proto::v1::{
    GetEndpointRequest, GetEndpointResponse, ListEndpointsRequest, ListEndpointsResponse, endpoint_service_server::EndpointService,
};
use http::HeaderMap;
use tonic::{Request, Response, Status};

use super::call::{Caller, Doors};
use crate::{
    error::{Error, Result},
    stack::Snapshot,
};

/// Endpoints on a page, unless fewer are asked for.
const PAGE: usize = 1000;

#[tonic::async_trait]
impl EndpointService for Doors {
    async fn list_endpoints(&self, request: Request<ListEndpointsRequest>) -> Result<Response<ListEndpointsResponse>, Status> {
        let (caller, message) = Caller::of(request);
        let page = page(&self.gate.snapshot.load(), &message);
        caller.respond(page.map(|page| (HeaderMap::new(), page)))
    }

    async fn get_endpoint(&self, request: Request<GetEndpointRequest>) -> Result<Response<GetEndpointResponse>, Status> {
        let (caller, message) = Caller::of(request);
        let snapshot = self.gate.snapshot.load();
        let found = snapshot.catalog.endpoint(&message.endpoint).map(|endpoint| {
            caller.visit.record.note(|facts| facts.endpoint = Some(Arc::clone(&endpoint.name)));
            (HeaderMap::new(), GetEndpointResponse { endpoint: Some(snapshot.describe(endpoint)) })
        });
        caller.respond(found)
    }
}

/// The endpoints after the token's, which is the last name of the page before: pages stay right when endpoints come and go.
fn page(snapshot: &Snapshot, request: &ListEndpointsRequest) -> Result<ListEndpointsResponse> {
    let most = usize::try_from(request.page_size).ok().filter(|size| (1..PAGE).contains(size)).unwrap_or(PAGE);
    let last = BASE64_URL_SAFE_NO_PAD.decode(&request.page_token).ok().and_then(|name| String::from_utf8(name).ok());
    let last = last.ok_or_else(|| Error::invalid("page_token", "is not one of this gateway; leave it empty for the first page"))?;
    let all = snapshot.catalog.all();
    let rest = all.get(all.partition_point(|endpoint| *endpoint.name <= *last)..).unwrap_or_default();
    let (page, more) = rest.split_at(rest.len().min(most));
    let next_page_token = match page.last() {
        Some(last) if !more.is_empty() => BASE64_URL_SAFE_NO_PAD.encode(last.name.as_bytes()),
        _ => String::new(),
    };
    Ok(ListEndpointsResponse { endpoints: page.iter().map(|endpoint| snapshot.describe(endpoint)).collect(), next_page_token })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use flowgate_proto::v1::ErrorReason;

    use super::*;
    use crate::policy::testing::{catalog, deployment, endpoint};

    #[test]
    fn pages_follow_one_another_by_name() {
        let catalog = catalog(["c", "a", "b"].map(|name| endpoint(name, vec![deployment("only")])).into());
        let snapshot = Snapshot::of(catalog, HashMap::new());
        let names = |page: &ListEndpointsResponse| page.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect::<Vec<_>>();
        let first = page(&snapshot, &ListEndpointsRequest { page_size: 2, ..Default::default() }).unwrap();
        assert_eq!(names(&first), ["a", "b"]);
        let second = page(&snapshot, &ListEndpointsRequest { page_size: 2, page_token: first.next_page_token }).unwrap();
        assert_eq!((names(&second), second.next_page_token.as_str()), (vec!["c".to_owned()], ""));
        let all = page(&snapshot, &ListEndpointsRequest::default()).unwrap();
        assert_eq!((all.endpoints.len(), all.next_page_token.as_str()), (3, ""));
        let error = page(&snapshot, &ListEndpointsRequest { page_token: "%".to_owned(), ..Default::default() }).unwrap_err();
        assert_eq!(error.reason(), ErrorReason::CallerInvalidRequest);
    }
}
