//! Requests of one stream, each a call of its own with a record of its own.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use tonic::Status;

use super::{
    super::{Gate, Visit, deadline, record::Guard},
    call::Caller,
};
use crate::{call::Record, error::Error};

/// Requests of one stream that are answered at a time; no more are read meanwhile.
pub(super) const AT_ONCE: usize = 32;

/// What the requests of one stream have in common.
pub(super) struct Series {
    pub(super) caller: Caller,
    /// Where they come in, for the access lines of the single ones.
    path: &'static str,
    /// When the caller stops waiting for all of them.
    until: Option<Instant>,
}

/// One of the requests.
pub(super) struct Item {
    /// A visit of its own.
    pub(super) visit: Visit,
    /// The stream's headers; of its time, what is left.
    pub(super) headers: HeaderMap,
    guard: Guard,
}

impl Series {
    /// # Errors
    /// A deadline that is none.
    pub(super) fn new(caller: Caller, path: &'static str) -> Result<Arc<Self>, Status> {
        caller.visit.record.note(|facts| facts.is_series = true);
        let until = deadline(&caller.headers).map_err(|error| caller.refuse(&error))?.map(|left| Instant::now() + left);
        Ok(Arc::new(Self { caller, path, until }))
    }

    /// The request at a place of the stream, from 0.
    pub(super) fn begin(&self, gate: &Gate, index: u64) -> Item {
        let visit = self.visit(index);
        let guard = Guard::within(gate.books(), "grpc", self.path, &visit);
        Item { headers: self.headers(), visit, guard }
    }

    /// The request has been answered, or has failed. It is counted by itself; its failure is none of the stream.
    pub(super) fn end(item: Item, failure: Option<&Error>) -> Visit {
        let Item { visit, mut guard, headers: _ } = item;
        if let Some(error) = failure {
            visit.record.fail(error);
        }
        guard.complete();
        visit
    }

    fn visit(&self, index: u64) -> Visit {
        let stream = &self.caller.visit;
        let record = Record::default();
        record.note(|facts| facts.principal = Some(Arc::clone(&stream.principal.name)));
        Visit { id: format!("{}/{index}", stream.id).into(), record: Arc::new(record), ..stream.clone() }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = self.caller.headers.clone();
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        if let Some(Ok(left)) = left.map(|left| HeaderValue::try_from(format!("{}u", left.as_micros()))) {
            headers.insert("grpc-timeout", left);
        }
        headers
    }
}
