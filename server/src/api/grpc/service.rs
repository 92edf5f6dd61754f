//! gRPC services as one value that is called without being cloned, and as the tower service that tonic's layers take.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Map},
};
use http::{Request, Response};
use tonic::body::Body;

use crate::call::Service;

/// Services that answer a request, whichever of them it is for.
pub type GrpcService = Service<Request<Body>, Response<Body>>;

impl tower::Service<Request<Body>> for GrpcService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Map<BoxFuture<'static, Response<Body>>, fn(Response<Body>) -> Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Self::call(self, request).map(Ok)
    }
}
