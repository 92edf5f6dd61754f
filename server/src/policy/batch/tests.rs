//! A model that takes a while and doubles each row, and what it was asked.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use flowgate_proto::{
    v1::{ErrorReason, PredictRequest, predict_request::Input, predict_response::Output},
    wkt::{ListValue, Value, value::Kind},
};
use futures_util::{FutureExt as _, future::join_all};
use http::HeaderValue;
use tokio::time::{advance, sleep};

use super::*;
use crate::{
    call::{Call, Place},
    dialect::scoring::door,
    event::{Answer, Lane, Payload, Request, Task, WireAnswer},
    policy::{
        Over, erase,
        testing::{Then, call, catalog, deployment, endpoint, head},
    },
    telemetry::metrics::Metrics,
};

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What the model was asked: the rows of each request, and the call.
type Asked = Arc<Mutex<Vec<(String, Call)>>>;

struct Bench {
    asked: Asked,
    /// Requests that were given up before the model answered.
    given_up: Arc<AtomicUsize>,
    metrics: Metrics,
    stack: Over<Batch, Service<Attempt>>,
}

struct Guard(Arc<AtomicUsize>, bool);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(usize::from(!self.1), SeqCst);
    }
}

/// What the model says to a request: twice each row, unless a row is a word that it knows.
fn model(rows: &[i64], words: &str) -> Result<Reply> {
    let predictions = match words {
        words if words.contains("bad") => return Err(Error::new(ErrorReason::ProviderModelFailed, "raised")),
        words if words.contains("away") => return Err(Error::new(ErrorReason::ProviderUnavailable, "is away")),
        words if words.contains("sum") => format!("{{\"predictions\": [{}]}}", rows.iter().sum::<i64>()),
        _ => format!("{{\"predictions\": {:?}}}", rows.iter().map(|row| 2 * row).collect::<Vec<_>>()),
    };
    let content_type = HeaderValue::from_static("application/json");
    Ok(Reply::one(head(), Answer::Wire(WireAnswer { content_type, body: predictions.into(), usage: None })))
}

impl Bench {
    fn new(max_rows: usize, max_delay: Duration, takes: Duration) -> Self {
        let (asked, given_up) = (Asked::default(), Arc::<AtomicUsize>::default());
        let (notes, guards) = (Arc::clone(&asked), Arc::clone(&given_up));
        let below = erase(Then(move |attempt: Attempt| {
            let body = attempt.call.payload.wire().unwrap().body.clone();
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let rows: Vec<_> = json["instances"].as_array().unwrap().iter().map(|row| row["x"].as_i64().unwrap()).collect();
            notes.lock().unwrap().push((format!("{rows:?}"), attempt.call));
            let guard = Guard(Arc::clone(&guards), false);
            async move {
                let mut guard = guard;
                sleep(takes).await;
                guard.1 = true;
                model(&rows, str::from_utf8(&body).unwrap())
            }
        }));
        let metrics = Metrics::new();
        let meter = metrics.batches().deployment(&"e".into(), &"d".into());
        let batch = Batch::new(config::Batch { max_rows, max_delay }, below.clone(), Tasks::default(), meter);
        Self { asked, given_up, metrics, stack: Over(batch, below) }
    }

    async fn ends(&self, attempt: Attempt) -> Result<String, ErrorReason> {
        let reply = self.stack.call(attempt).await.map_err(|error| error.reason())?;
        match reply.answer().await.unwrap() {
            Answer::Wire(answer) => Ok(String::from_utf8(answer.body.to_vec()).unwrap()),
            Answer::Predict(answer) => Ok(format!("{:?}", answer.output)),
            Answer::Chat(_) | Answer::Complete(_) | Answer::Embed(_) => panic!("no prediction"),
        }
    }

    /// All at the same time, in this order.
    async fn all(&self, attempts: impl IntoIterator<Item = Attempt>) -> Vec<Result<String, ErrorReason>> {
        join_all(attempts.into_iter().map(|attempt| self.ends(attempt))).await
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(rows, _)| rows.clone()).collect()
    }

    /// The call with which the model was asked the n-th time.
    fn call(&self, n: usize) -> Call {
        self.asked.lock().unwrap()[n].1.clone()
    }

    fn counts(&self, name: &str, value: &str) -> bool {
        self.metrics.render().contains(&format!("flowgate_batch_{name}{{endpoint=\"e\",deployment=\"d\"}} {value}\n"))
    }
}

fn of(payload: Payload) -> Attempt {
    let mut config = endpoint("e", vec![deployment("d")]);
    config.task = Task::Predict;
    let catalog = catalog(vec![config]);
    let endpoint = Arc::clone(catalog.endpoint("e").unwrap());
    let deployment = Arc::clone(&endpoint.deployments[0]);
    Call { endpoint, task: Task::Predict, payload, ..call(false) }.attempt(deployment).unwrap()
}

fn sends(body: &str) -> Attempt {
    of(Payload::wire_only(door::wire(None, Bytes::copy_from_slice(body.as_bytes()))))
}

fn row(n: i64) -> Attempt {
    sends(&format!(r#"{{"instances": [{{"x": {n}, "says": ""}}]}}"#))
}

fn says(n: i64, word: &str) -> Attempt {
    sends(&format!(r#"{{"instances": [{{"x": {n}, "says": "{word}"}}]}}"#))
}

fn is(n: i64) -> Result<String, ErrorReason> {
    Ok(format!("{{\"predictions\": [{n}]}}"))
}

#[tokio::test(start_paused = true)]
async fn a_lone_request_goes_at_once_and_as_it_came() {
    let bench = Bench::new(64, 5 * MS, 10 * MS);
    let body = r#"{ "instances" : [ {"x": 4, "says": ""} ] }"#;
    for n in 0..3 {
        let since = Instant::now();
        assert_eq!((bench.ends(sends(body)).await, since.elapsed()), (is(8), 10 * MS));
        assert_eq!(bench.call(n).payload.wire().unwrap().body, body);
    }
    assert!(bench.counts("requests_count", "3") && bench.counts("rows_sum", "3.0"));
}

#[tokio::test(start_paused = true)]
async fn sixty_four_at_once_are_two_requests_and_each_gets_its_own_answer() {
    let bench = Bench::new(64, 500 * MS, 10 * MS);
    let since = Instant::now();
    let answers = bench.all((0..64).map(row)).await;
    assert_eq!(answers, (0..64).map(|n| is(2 * n)).collect::<Vec<_>>());
    assert_eq!(bench.asked(), ["[0]".to_owned(), format!("{:?}", (1..64).collect::<Vec<_>>())], "in the order in which they came");
    assert_eq!(since.elapsed(), 20 * MS, "who waits goes as soon as nothing is under way");
    assert!(bench.counts("requests_count", "2") && bench.counts("requests_sum", "64.0"));
    assert!(bench.stack.0.0.is_idle());
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_the_delay_nor_for_more_rows_than_allowed() {
    let bench = Bench::new(64, 5 * MS, 1000 * MS);
    let since = Instant::now();
    assert!(bench.all((0..4).map(row)).await.iter().all(Result::is_ok));
    assert_eq!((bench.asked(), since.elapsed()), (vec!["[0]".to_owned(), "[1, 2, 3]".to_owned()], 1005 * MS));

    let bench = Bench::new(4, 5 * MS, 1000 * MS);
    let since = Instant::now();
    let two = |n: i64| sends(&format!(r#"{{"instances": [{{"x":{n},"says":""}},{{"x":{},"says":""}}]}}"#, n + 1));
    let answers = bench.all([row(0), two(1), row(3), two(4), two(6), row(8)]).await;
    assert_eq!(answers[3], Ok("{\"predictions\": [8, 10]}".to_owned()));
    assert_eq!(bench.asked(), ["[0]", "[1, 2, 3]", "[4, 5, 6, 7]", "[8]"]);
    assert_eq!(since.elapsed(), 1005 * MS);
    let large = format!(r#"{{"instances":[{}]}}"#, [r#"{"x":1,"says":""}"#; 5].join(","));
    assert!(bench.all([row(0), sends(&large)]).await.iter().all(Result::is_ok));
    assert_eq!(bench.asked()[5], "[1, 1, 1, 1, 1]");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_alike_is_not_put_together() {
    let bench = Bench::new(64, 5 * MS, 10 * MS);
    let asks = |row: &str, rest: &str| sends(&format!(r#"{{"instances":[{{"x":{row}}}]{rest}}}"#));
    let elsewhere = Attempt { replica: Some(crate::call::ReplicaId(7)), ..asks("1", "") };
    let mut patient = asks("1", "");
    patient.call.choice.priority = crate::call::Priority::Batch;
    let csv =
        Payload::wire_only(door::wire(Some(&HeaderValue::from_static("text/csv")), Bytes::from_static(br#"{"instances":[{"x":9}]}"#)));
    let each = [asks("1", ""), asks("2", r#","params":{"a":1}"#), asks("3", r#","params":{"a":2}"#), elsewhere, patient, of(csv)];
    let since = Instant::now();
    assert!(bench.all(each).await.iter().all(Result::is_ok));
    assert_eq!((bench.asked().len(), since.elapsed()), (6, 10 * MS), "none waits for what it cannot go with");
}

#[tokio::test(start_paused = true)]
async fn only_the_request_with_the_bad_row_fails() {
    let bench = Bench::new(64, 5 * MS, 10 * MS);
    let answers = bench.all((0..17).map(|n| says(n, if n == 6 { "bad" } else { "" }))).await;
    for (n, answer) in (0..).zip(answers) {
        assert_eq!(answer, if n == 6 { Err(ErrorReason::ProviderModelFailed) } else { is(2 * n) });
    }
    assert_eq!(bench.asked().len(), 1 + 1 + 2 * 4, "in halves: {:?}", bench.asked());
    assert!(bench.stack.0.0.is_idle());
}

#[tokio::test(start_paused = true)]
async fn a_second_try_in_halves_is_no_fair_trial() {
    let bench = Bench::new(64, 5 * MS, 10 * MS);
    let first = |mut attempt: Attempt| {
        attempt.call.choice.place = Some(Place { deployment: 0, replica: None, credential: 0, is_first: true });
        attempt
    };
    bench.all([row(0), row(1), says(2, "bad")].map(first)).await;
    let is_first: Vec<_> = (0..4).map(|n| bench.call(n).choice.place.unwrap().is_first).collect();
    assert_eq!(is_first, [true, true, false, false]);
}

#[tokio::test(start_paused = true)]
async fn what_the_server_is_to_blame_for_fails_all_alike_and_is_not_tried_again_here() {
    let bench = Bench::new(64, 5 * MS, 10 * MS);
    let answers = bench.all([row(0), row(1), says(2, "away"), row(3)]).await;
    let away = Err(ErrorReason::ProviderUnavailable);
    assert_eq!(answers, [is(0), away.clone(), away.clone(), away]);
    assert_eq!(bench.asked(), ["[0]", "[1, 2, 3]"]);
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_is_taken_out_and_the_model_stops_when_nobody_is_left() {
    let bench = Bench::new(64, 5 * MS, 100 * MS);
    let mut first = Box::pin(bench.ends(row(0)));
    assert!(first.as_mut().now_or_never().is_none());
    let mut waiting: Vec<_> = (1..4).map(|n| Box::pin(bench.ends(row(n)))).collect();
    assert!(waiting.iter_mut().all(|call| call.as_mut().now_or_never().is_none()));
    drop(waiting.remove(1));
    sleep(6 * MS).await;
    assert_eq!(bench.asked(), ["[0]", "[1, 3]"]);
    drop(waiting.remove(0));
    sleep(MS).await;
    assert_eq!(bench.given_up.load(SeqCst), 0, "the other still waits");
    drop(waiting);
    sleep(MS).await;
    assert_eq!(bench.given_up.load(SeqCst), 1);
    drop(first);
    assert_eq!(bench.given_up.load(SeqCst), 2);
    assert!(bench.stack.0.0.is_idle());
    assert_eq!(bench.ends(row(5)).await, is(10));
}

#[tokio::test(start_paused = true)]
async fn a_request_to_the_model_has_the_time_of_whoever_waits_longest() {
    let bench = Bench::new(64, 50 * MS, 10 * MS);
    let now = Instant::now();
    let until = |n: i64, left: Option<u32>| {
        let mut attempt = row(n);
        attempt.call.deadline = left.map(|left| now + left * MS);
        attempt.call.own_total = (left == Some(900)).then_some(MINUTE);
        attempt
    };
    bench.all([until(0, None), until(1, Some(300)), until(2, Some(900)), until(3, Some(40))]).await;
    assert_eq!(bench.asked(), ["[0]", "[3]", "[1, 2]"], "who has no time to wait does not");
    assert_eq!((bench.call(2).deadline, bench.call(2).own_total), (Some(now + 900 * MS), Some(MINUTE)));
    bench.all([until(4, None), until(5, Some(800)), until(6, None)]).await;
    assert_eq!((bench.asked()[4].as_str(), bench.call(4).deadline), ("[5, 6]", None));
}

#[tokio::test(start_paused = true)]
async fn a_model_without_a_prediction_for_each_row_is_asked_for_each_request_alone() {
    let bench = Bench::new(64, 5 * MS, 10 * MS);
    let sums = || [says(1, "sum"), says(2, "sum"), says(3, "sum")];
    assert_eq!(bench.all(sums()).await, [is(1), is(2), is(3)]);
    assert_eq!(bench.asked(), ["[1]", "[2, 3]", "[2]", "[3]"], "what it said to both is nobody's answer");
    let since = Instant::now();
    assert_eq!(bench.all(sums()).await, [is(1), is(2), is(3)]);
    assert_eq!((bench.asked().len(), since.elapsed()), (7, 10 * MS), "nothing is put together for a while");
    let others = [1, 2, 3].map(|x| sends(&format!(r#"{{"instances":[{{"x":{x}}}]}}"#)));
    bench.all(others).await;
    assert_eq!(bench.asked()[7..], ["[1]", "[2, 3]"], "but what others send in another form is");
    advance(MINUTE).await;
    bench.all([row(1), row(2), row(3)]).await;
    assert_eq!(bench.asked()[9..], ["[1]", "[2, 3]"]);
}

#[tokio::test(start_paused = true)]
async fn a_typed_request_goes_with_others_and_is_answered_in_its_form() {
    let bench = Bench::new(64, 5 * MS, 10 * MS);
    let value = |kind| Value { kind: Some(kind) };
    let fields = [("x".to_owned(), value(Kind::NumberValue(21.0))), ("says".to_owned(), value(Kind::StringValue(String::new())))];
    let row_of = value(Kind::StructValue(flowgate_proto::wkt::Struct { fields: fields.into() }));
    let mut request = PredictRequest { input: Some(Input::Instances(ListValue { values: vec![row_of] })), ..PredictRequest::default() };
    let says_first = |n: i64| sends(&format!(r#"{{"instances":[{{"says":"","x":{n}}}]}}"#));
    let typed = |request: &PredictRequest| of(Payload::typed_only(Request::Predict(request.clone())));
    assert_eq!(typed(&request).lane, Lane::Typed);
    let answers = bench.all([says_first(1), says_first(2), typed(&request)]).await;
    assert_eq!(bench.asked(), ["[1]", "[2, 21]"]);
    let list = ListValue { values: vec![value(Kind::NumberValue(42.0))] };
    let output = Some(Output::Predictions(value(Kind::ListValue(list))));
    assert_eq!(answers[1..], [is(4), Ok(format!("{output:?}"))]);
    request.prediction_form = flowgate_proto::v1::PredictionForm::Frame.into();
    let answers = bench.all([says_first(1), says_first(2), typed(&request)]).await;
    assert!(matches!(&answers[2], Ok(frame) if frame.contains("Frame") && frame.contains("42")), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn waiting_is_none_of_the_gateways_own_time_and_only_common_headers_go_along() {
    let bench = Bench::new(64, 5 * MS, 10 * MS);
    let mut attempts = [row(0), row(1), row(2)];
    for (n, attempt) in attempts.iter_mut().enumerate() {
        attempt.call.headers.insert("tracestate", HeaderValue::from_static("same"));
        attempt.call.headers.insert("traceparent", HeaderValue::from(n));
        attempt.number = 3;
    }
    attempts[2].call.headers.insert("idempotency-key", HeaderValue::from_static("k"));
    let records = attempts.each_ref().map(|attempt| Arc::clone(&attempt.call.record));
    let [first, second, third] = attempts;
    let (_, reply, _) = futures_util::join!(bench.ends(first), bench.stack.call(second), bench.ends(third));
    assert_eq!(bench.call(1).headers.iter().collect::<Vec<_>>(), [(&"tracestate".parse().unwrap(), &HeaderValue::from_static("same"))]);
    assert_eq!(bench.call(0).headers.len(), 2);
    let facts = records[1].facts();
    assert_eq!((facts.upstream, facts.deployment.as_deref(), facts.lane, facts.attempts), (15 * MS, Some("d"), Some(Lane::Byte), 1));
    assert_eq!(reply.unwrap().head.attempts, 3);
}
