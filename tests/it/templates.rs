//! A model server with JSON of its own, behind templates of the operator.

use futures_util::{future::join_all, stream};
use serde_json::{Value, json};

use crate::{
    fake::{Answer, Fake, Gate, until},
    gateway::Running,
    predict::DOORS,
};

fn endpoint(url: &str, config: &str, more: &str) -> String {
    format!(
        "default_endpoint: own\nendpoints:\n  - name: own\n    path: /own/own\n    endpoint_type: mlflow/predict\n    \
         model: {{ provider: http, url: \"{url}\", config: {{ {config} }} }}\n    {more}\n"
    )
}

/// Doubles the first feature of each row.
async fn server() -> Fake {
    Fake::start(|seen| match (seen.path.as_str(), seen.json()["features"].as_array()) {
        ("/v2/predict", Some(rows)) => {
            let scores: Vec<Value> = rows.iter().map(|row| json!(row[0].as_f64().unwrap() * 2.0)).collect();
            Answer::json(json!({ "result": { "scores": scores }, "secret": true }).to_string())
        }
        _ => Answer::status(422, r#"{"detail": "secret 1.5"}"#),
    })
    .await
}

const TEMPLATES: &str = r#"path: /predict, method: PUT, request: '{"features": {{ rows }}}', response: "{{ response.result.scores }}""#;

#[tokio::test]
async fn every_door_reaches_it_and_gets_the_predictions_alone() {
    let fake = server().await;
    let running = Running::start(&endpoint(&format!("{}/v2", fake.url), TEMPLATES, "")).await;
    for door in DOORS {
        assert_eq!(door.ask(&running, "own").await.unwrap(), json!([3.0]), "{door:?}");
        assert_eq!(fake.last().json(), json!({ "features": [[1.5]] }), "{door:?}");
    }
    assert_eq!(fake.last().headers["content-type"], "application/json");
}

/// The operator's template says what is sent, not a caller's text: it can neither write on nor break the body for anybody.
#[tokio::test]
async fn a_callers_text_stays_a_text() {
    let fake = Fake::start(|_| Answer::json(r#"{"label": "a \"b\""}"#)).await;
    let config = r#"request: '{"id": {{ rows[0][0] }}, "rows": {{ rows }}}', response: '[{{ response.label }}]'"#;
    let running = Running::start(&endpoint(&fake.url, config, "")).await;
    for text in [r#"1, "admin": true"#, r#"", "admin": "yes"#, "{", "hello", "7"] {
        let response = running.post("/invocations", json!({ "instances": [[text]] }).to_string()).await;
        assert_eq!(
            (response.status().as_u16(), response.text().await.unwrap().as_str()),
            (200, r#"{"predictions": ["a \"b\""]}"#),
            "{text}"
        );
        assert_eq!(fake.last().json(), json!({ "id": text, "rows": [[text]] }));
    }
}

#[tokio::test]
async fn what_cannot_stand_in_a_query_is_the_callers_fault() {
    let fake = Fake::start(|_| Answer::json("1")).await;
    let running = Running::start(&endpoint(&fake.url, r#"method: GET, request: '{"q": {{ rows[0][0] }}}'"#, "")).await;
    let response = running.post("/invocations", r#"{"instances": [[{"a": 1}]]}"#).await;
    let (status, told) = (response.status(), response.text().await.unwrap());
    assert!(status == 400 && told.contains("CALLER_INVALID_REQUEST") && told.contains("query is made of"), "{status} {told}");
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn without_templates_the_scoring_json_goes_on_and_the_whole_answer_is_the_prediction() {
    let fake = Fake::start(|_| Answer::json(r#"{"label": "cat"}"#)).await;
    let running = Running::start(&endpoint(&fake.url, "", "")).await;
    for door in DOORS {
        assert_eq!(door.ask(&running, "own").await.unwrap(), json!({ "label": "cat" }), "{door:?}");
        assert_eq!(fake.last().json(), json!({ "instances": [[1.5]] }), "{door:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_the_callers_and_nothing_of_it_is_repeated() {
    let fake = server().await;
    let running = Running::start(&endpoint(&fake.url, "path: /elsewhere", "retry: { attempts: 3 }")).await;
    for door in DOORS {
        let refusal = door.ask(&running, "own").await.unwrap_err();
        assert!(!format!("{refusal:?}").contains("secret"), "{door:?}: {refusal:?}");
    }
    assert_eq!(fake.seen().len(), DOORS.len(), "it is not tried again");
}

#[tokio::test]
async fn requests_that_go_together_pass_the_templates_once() {
    let gate = Gate::new();
    let held = gate.clone();
    let fake = Fake::start(move |seen| {
        let rows = seen.json()["features"].as_array().unwrap().clone();
        let body = json!({ "result": { "scores": rows } }).to_string();
        if rows[0] != json!([0.0]) {
            return Answer::json(body);
        }
        Answer::Pieces { content_type: "application/json", pieces: held.before(stream::iter([Ok(body.into())])) }
    })
    .await;
    let running = Running::start(&endpoint(&fake.url, TEMPLATES, "batch: { max_delay: 100ms }")).await;
    let ask = async |n: u32| {
        let response = running.post("/invocations", format!("{{\"instances\": [[{n}.0]]}}")).await;
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let others = async {
        until("the first", || fake.seen().len() == 1).await;
        let answers = join_all((1..8).map(ask)).await;
        gate.open();
        answers
    };
    let (first, others) = futures_util::join!(ask(0), others);
    assert_eq!(first, (200, r#"{"predictions": [[0.0]]}"#.to_owned()));
    for (n, answer) in (1..).zip(others) {
        assert_eq!(answer, (200, format!("{{\"predictions\": [[{n}.0]]}}")));
    }
    assert_eq!(fake.seen().len(), 2);
}
