//! The guard that closes a request's record exactly once: numbers and one access line, however the request ends.

use std::{net::SocketAddr, sync::Arc};

use flowgate_proto::v1::ErrorReason;
use http::{HeaderMap, Method, Request, StatusCode};
use tokio::time::Instant;

use super::Visit;
use crate::{
    call::{Facts, Record},
    error::Error,
    event::Task,
    task::Cut,
    telemetry::{
        costs::Bill,
        metrics::{InFlight, Metrics, Outcome},
    },
};

/// The task of a stream of requests: what is asked for is for each of them to say, which is counted by itself.
const SERIES: &str = "stream";

/// Where a guard reports, and what may end its request.
type Books<'a> = (&'a Arc<Metrics>, &'a Cut);

/// Born at the edge, rides in the answer's body, reports when dropped. A request within a stream has one of its own.
#[derive(Debug)]
pub struct Guard {
    metrics: Arc<Metrics>,
    cut: Cut,
    door: &'static str,
    id: Arc<str>,
    method: Method,
    path: String,
    peer: SocketAddr,
    record: Arc<Record>,
    started: Instant,
    status: Option<StatusCode>,
    complete: bool,
    _in_flight: InFlight,
}

impl Guard {
    /// Begins the record of a request.
    pub(super) fn new<B>(
        books: Books<'_>,
        door: &'static str,
        id: &Arc<str>,
        request: &Request<B>,
        visit: (SocketAddr, &Arc<Record>),
    ) -> Self {
        Self::begin(books, door, id, (request.method().clone(), request.uri().path()), visit)
    }

    /// Begins the record of one request among those of a stream.
    pub(super) fn within(books: Books<'_>, door: &'static str, path: &str, visit: &Visit) -> Self {
        Self::begin(books, door, &visit.id, (Method::POST, path), (visit.peer.address, &visit.record))
    }

    fn begin(
        (metrics, cut): Books<'_>,
        door: &'static str,
        id: &Arc<str>,
        line: (Method, &str),
        visit: (SocketAddr, &Arc<Record>),
    ) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            cut: cut.clone(),
            door,
            id: Arc::clone(id),
            method: line.0,
            path: line.1.to_owned(),
            peer: visit.0,
            record: Arc::clone(visit.1),
            started: Instant::now(),
            status: None,
            complete: false,
            _in_flight: metrics.begin(door),
        }
    }

    /// Whether the head of the answer is all that is wanted.
    pub(super) fn is_of_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// The answer's head is on its way out.
    pub(super) fn head(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = Some(status);
        self.trailers(headers);
    }

    /// Trailers are on their way out; a gRPC failure that no room of ours made is noted from them.
    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        let code = trailers.get("grpc-status").and_then(|code| code.to_str().ok()?.parse::<i32>().ok()).unwrap_or(0);
        let reason = match tonic::Code::from(code) {
            tonic::Code::Ok => return,
            tonic::Code::InvalidArgument => ErrorReason::CallerInvalidRequest,
            tonic::Code::OutOfRange | tonic::Code::ResourceExhausted => ErrorReason::CallerTooLarge,
            tonic::Code::Unimplemented => ErrorReason::CallerUnknownPath,
            tonic::Code::Cancelled => ErrorReason::CallerCancelled,
            _ => ErrorReason::GatewayInternal,
        };
        self.record.fail(&Error::new(reason, "the gRPC layer refused the message"));
    }

    /// The answer's last byte is out.
    pub(super) fn complete(&mut self) {
        self.complete = true;
    }

    fn outcome<'a>(&self, facts: &'a Facts) -> Outcome<'a> {
        let error = facts.failure.as_ref();
        let first = facts.first_event.map(|first| first.saturating_duration_since(self.started));
        Outcome {
            door: self.door,
            endpoint: facts.endpoint.as_ref(),
            task: if facts.is_series { SERIES } else { facts.task.map_or("", |task| task.name()) },
            error: error.map(|failure| (failure.reason_name, Error::new(failure.reason, "").origin().name())),
            duration: self.started.elapsed(),
            first_event: first.filter(|_| facts.streaming),
            overhead: facts.first_event.filter(|_| error.is_none()).zip(facts.received).map(|(first, received)| {
                // What a slow client takes to send its request is not the gateway's.
                first.saturating_duration_since(received).saturating_sub(facts.upstream)
            }),
            bill: bill(facts),
            tokens: facts.usage.as_ref().map_or((None, None), |usage| (usage.input_tokens, usage.output_tokens)),
        }
    }

    fn log(&self, facts: &Facts, outcome: &Outcome<'_>) {
        let ms = |duration: std::time::Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
        let failure = facts.failure.as_ref();
        tracing::info!(
            target: "access",
            request_id = &*self.id,
            door = self.door,
            method = self.method.as_str(),
            path = self.path.as_str(),
            status = self.status.map(|status| status.as_u16()),
            reason = failure.map(|failure| failure.reason_name),
            cause = failure.map(|failure| failure.message.as_str()),
            upstream_status = failure.and_then(|failure| failure.upstream_status),
            endpoint = facts.endpoint.as_deref(),
            task = outcome.task,
            principal = facts.principal.as_deref(),
            peer = %self.peer,
            deployment = facts.deployment.as_deref(),
            provider = facts.provider,
            lane = facts.lane.map(crate::event::Lane::name),
            attempts = facts.attempts,
            ms = ms(outcome.duration),
            first_event_ms = outcome.first_event.map(ms),
            overhead_ms = outcome.overhead.map(ms),
            input_tokens = outcome.tokens.0,
            output_tokens = outcome.tokens.1,
            cost_usd = facts.cost.map(usd),
            "call"
        );
    }
}

/// What a call cost; `None` where nothing answered that may cost something.
fn bill(facts: &Facts) -> Option<Bill<'_>> {
    let may_cost = facts.first_event.is_some() && facts.task.is_some_and(|task| task != Task::Predict);
    let (deployment, provider) = (facts.deployment.as_ref()?, facts.provider?);
    (may_cost || facts.cost.is_some()).then_some(Bill { deployment, provider, pico_usd: facts.cost })
}

/// Pico-USD as US dollars: no exponent, and no zeros at the end.
fn usd(pico: i64) -> String {
    const DOLLAR: i64 = 1_000_000_000_000;
    let decimal = format!("{}.{:012}", pico / DOLLAR, pico % DOLLAR);
    decimal.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.complete {
            let message = "the client went away before the answer was complete";
            let went = || Error::new(ErrorReason::CallerCancelled, message);
            self.record.fail(&if self.cut.is_over() { Cut::error() } else { went() });
        }
        self.record.read(|facts| {
            if self.cut.is_over() && facts.failure.as_ref().is_some_and(|failure| failure.reason == ErrorReason::GatewayUnavailable) {
                self.cut.count();
            }
            let outcome = self.outcome(facts);
            self.metrics.end(&outcome);
            self.log(facts, &outcome);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use flowgate_proto::v1::Usage;

    use super::*;
    use crate::api::testing::{guard, visit};

    #[tokio::test(start_paused = true)]
    async fn a_call_is_reported_with_all_that_is_known_of_it() {
        let (visit, metrics) = (visit(), Arc::new(Metrics::new()));
        let mut guard = guard(&metrics, &visit);
        assert!(metrics.render().contains("flowgate_in_flight{door=\"openai\"} 1"));
        tokio::time::advance(Duration::from_millis(30)).await;
        visit.record.note(|facts| {
            facts.endpoint = Some("chat".into());
            facts.task = Some(Task::Chat);
            facts.streaming = true;
            facts.received = Some(Instant::now() - Duration::from_millis(30));
            facts.first_event = Some(Instant::now());
            facts.upstream = Duration::from_millis(29);
            facts.deployment = Some("mini".into());
            facts.provider = Some("mock");
            facts.consume(&Usage { input_tokens: Some(3), ..Usage::default() }, Some(1_500_000_000_000));
        });
        tokio::time::advance(Duration::from_secs(2)).await;
        guard.head(StatusCode::OK, &HeaderMap::new());
        guard.complete();
        drop(guard);
        let page = metrics.render();
        for line in [
            "flowgate_in_flight{door=\"openai\"} 0",
            "flowgate_calls_total{endpoint=\"chat\",task=\"chat\",door=\"openai\",outcome=\"ok\"} 1",
            "flowgate_call_duration_seconds_sum{endpoint=\"chat\",task=\"chat\",door=\"openai\"} 2.03",
            "flowgate_first_event_seconds_sum{endpoint=\"chat\",task=\"chat\",door=\"openai\"} 0.03",
            "flowgate_overhead_seconds_sum{door=\"openai\"} 0.001",
            "flowgate_tokens_total{endpoint=\"chat\",direction=\"input\"} 3",
            "flowgate_cost_usd_total{endpoint=\"chat\",deployment=\"mini\",provider=\"mock\"} 1.5",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn a_stream_of_requests_is_counted_apart_from_them() {
        let (visit, metrics) = (visit(), Arc::new(Metrics::new()));
        let mut guard = guard(&metrics, &visit);
        visit.record.note(|facts| facts.is_series = true);
        guard.complete();
        drop(guard);
        let line = "flowgate_calls_total{endpoint=\"\",task=\"stream\",door=\"openai\",outcome=\"ok\"} 1";
        assert!(metrics.render().contains(line), "{line} is not in\n{}", metrics.render());
    }

    #[test]
    fn dollars_are_written_as_people_write_them() {
        for (pico, written) in
            [(0, "0"), (1, "0.000000000001"), (123_450_000, "0.00012345"), (2_000_000_000_000, "2"), (i64::MAX, "9223372.036854775807")]
        {
            assert_eq!(usd(pico), written);
        }
    }

    #[test]
    fn an_answer_of_unknown_cost_is_counted_and_a_prediction_or_a_refusal_is_not() {
        let counted = |task, answered: bool, cost| {
            let (visit, metrics) = (visit(), Arc::new(Metrics::new()));
            let mut guard = guard(&metrics, &visit);
            visit.record.note(|facts| {
                facts.endpoint = Some("e".into());
                facts.task = Some(task);
                facts.deployment = Some("d".into());
                facts.provider = Some("mock");
                facts.first_event = answered.then(Instant::now);
                facts.cost = cost;
            });
            guard.complete();
            drop(guard);
            let page = metrics.render();
            page.lines().filter(|line| line.starts_with("flowgate_cost_")).map(str::to_owned).collect::<Vec<_>>()
        };
        let labels = "{endpoint=\"e\",deployment=\"d\",provider=\"mock\"}";
        assert_eq!(counted(Task::Chat, true, None), [format!("flowgate_cost_unknown_total{labels} 1")]);
        assert_eq!(counted(Task::Chat, true, Some(0)), [format!("flowgate_cost_usd_total{labels} 0.0")]);
        assert_eq!(counted(Task::Predict, true, Some(5)).len(), 1, "of a chain that asks a language model before");
        assert!(counted(Task::Predict, true, None).is_empty());
        assert!(counted(Task::Chat, false, None).is_empty());
    }

    #[test]
    fn who_ends_a_call_early_is_the_client_until_the_grace_is_over() {
        let (cut, request) = (Cut::default(), Request::new(()));
        for (over, reason, counted) in [(false, ErrorReason::CallerCancelled, 0), (true, ErrorReason::GatewayUnavailable, 1)] {
            let visit = visit();
            let guard = Guard::new((&Arc::default(), &cut), "openai", &visit.id, &request, (visit.peer.address, &visit.record));
            if over {
                cut.end();
            }
            drop(guard);
            assert_eq!((visit.record.facts().failure.unwrap().reason, cut.counted()), (reason, counted));
        }
        let visit = visit();
        let mut late = Guard::new((&Arc::default(), &cut), "openai", &visit.id, &request, (visit.peer.address, &visit.record));
        late.complete();
        drop(late);
        assert_eq!(cut.counted(), 1, "a call that is complete after all was not cut");
    }

    #[test]
    fn a_reason_that_a_room_of_ours_gave_wins_over_the_grpc_layers() {
        let (visit, metrics) = (visit(), Arc::new(Metrics::new()));
        visit.record.fail(&Error::new(ErrorReason::ProviderTimeout, "late"));
        let mut guard = guard(&metrics, &visit);
        guard.head(StatusCode::OK, &HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), 4.into())]));
        drop(guard);
        assert_eq!(visit.record.facts().failure.unwrap().reason, ErrorReason::ProviderTimeout);
        assert!(metrics.render().contains("reason=\"PROVIDER_TIMEOUT\",origin=\"provider\"} 1"));
    }
}
