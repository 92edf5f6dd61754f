//! Batching: requests of all doors that come at the same time are one to the model, and everybody gets what they would get alone.

use flowgate_client::proto::{
    v1::{PredictRequest, predict_request::Input},
    wkt::{ListValue, value::Kind},
};
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, join_all},
    stream,
};
use serde_json::{Value, json};

use crate::{
    fake::{Answer, Fake, Gate, until},
    gateway::Running,
    predict::{self, predictions},
    speech::{config, predict_endpoint},
};

/// The model takes long enough for all that a test sends at once to come meanwhile.
const CONFIG: &str = "
endpoints:
  - name: alone
    endpoint_type: mlflow/predict
    model: { provider: mock }
  - name: together
    endpoint_type: mlflow/predict
    model: { provider: mock, config: { first_delay: 300ms } }
    batch: { max_rows: 100, max_delay: 1s }
";

fn request(endpoint: &str, row: f64) -> PredictRequest {
    let mut request = predict::request(endpoint);
    if let Some(Input::Instances(instances)) = &mut request.input {
        let cell = ListValue { values: vec![predict::number(row)] };
        instances.values[0].kind = Some(Kind::ListValue(cell));
    }
    request
}

async fn by_grpc(running: &Running, endpoint: &str, row: f64) -> Value {
    predictions(&running.client().predict(request(endpoint, row)).await.unwrap())
}

async fn by_http(running: &Running, path: String, row: f64) -> Value {
    let response = running.post(&path, format!("{{\"instances\": [[{row:?}]]}}")).await;
    assert_eq!(response.status(), 200);
    let mut answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    answer["predictions"].take()
}

/// How many requests the model got, and how many rows there were in all.
fn sent(running: &Running) -> (usize, usize) {
    let page = running.gateway.metrics().render();
    let sum = |name: &str| {
        let line = page.lines().find(|line| line.starts_with(&format!("flowgate_batch_{name}{{endpoint=\"together\""))).unwrap();
        line.rsplit(' ').next().unwrap().trim_end_matches(".0").parse().unwrap()
    };
    (sum("requests_count"), sum("rows_sum"))
}

#[tokio::test]
async fn requests_of_all_doors_go_together_and_each_is_answered_as_it_would_be_alone() {
    let running = Running::start(CONFIG).await;
    let running = &running;
    let ask = |n: u32| -> BoxFuture<'_, Value> {
        let row = f64::from(n) + 0.5;
        match n % 3 {
            0 => by_grpc(running, "together", row).boxed(),
            1 => by_http(running, "/v1/endpoints/together:predict".to_owned(), row).boxed(),
            _ => by_http(running, "/endpoints/together/invocations".to_owned(), row).boxed(),
        }
    };
    let answers = join_all((0..30).map(ask)).await;
    for (n, answer) in (0_u32..).zip(answers) {
        assert_eq!(answer, by_grpc(running, "alone", f64::from(n) + 0.5).await, "{n}");
    }
    let (requests, rows) = sent(running);
    assert!(requests < 6 && rows == 30, "{requests} requests of {rows} rows");
    assert_eq!(running.counted("flowgate_attempts_total", &["endpoint=\"together\""]), requests, "one for the model counts once");
}

#[tokio::test]
async fn the_requests_of_a_stream_go_together() {
    let running = Running::start(CONFIG).await;
    let mut answers = running.client().stream_predict(stream::iter((0_u32..20).map(|n| request("together", f64::from(n))))).await.unwrap();
    let mut told = vec![Value::Null; 20];
    while let Some(answer) = answers.next().await {
        let answer = answer.unwrap();
        told[usize::try_from(answer.index).unwrap()] = predictions(&answer.result.unwrap());
    }
    for (n, answer) in (0_u32..).zip(told) {
        assert_eq!(answer, by_grpc(&running, "alone", f64::from(n)).await, "{n}");
    }
    let (requests, rows) = sent(&running);
    assert!(requests < 6 && rows == 20, "{requests} requests of {rows} rows");
}

#[tokio::test]
async fn only_the_caller_of_a_bad_row_hears_of_it() {
    let gate = Gate::new();
    let held = gate.clone();
    let fake = Fake::start(move |seen| {
        let rows = seen.json()["instances"].as_array().unwrap().clone();
        if rows.contains(&json!([13.0])) {
            let body = json!({ "error_code": "BAD_REQUEST", "message": "Failed to predict data: unlucky", "stack_trace": "secret" });
            return Answer::status(400, body.to_string());
        }
        let body = json!({ "predictions": rows }).to_string();
        if rows[0] != json!([0.0]) {
            return Answer::json(body);
        }
        Answer::Pieces { content_type: "application/json", pieces: held.before(stream::iter([Ok(body.into())])) }
    })
    .await;
    let running = Running::start(&config(&[predict_endpoint("iris", &fake.url, "batch: { max_delay: 200ms }")])).await;
    let ask = async |n: u32| {
        let response = running.post("/invocations", format!("{{\"instances\": [[{n}.0]]}}")).await;
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let others = async {
        until("the first", || fake.seen().len() == 1).await;
        let answers = join_all((1..20).map(ask)).await;
        gate.open();
        answers
    };
    let (first, others) = futures_util::join!(ask(0), others);
    assert_eq!(first, (200, json!({ "predictions": [[0.0]] }).to_string()));
    for (n, (status, body)) in (1..).zip(others) {
        match n {
            13 => assert!(status == 500 && !body.contains("secret"), "{body}"),
            _ => assert_eq!((status, serde_json::from_str(&body).ok()), (200, Some(json!({ "predictions": [[f64::from(n)]] })))),
        }
    }
    assert!(fake.seen().len() <= 1 + 1 + 2 * 5, "in halves: {}", fake.seen().len());
}
