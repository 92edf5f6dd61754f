//! Golden fixtures of the dialect with templates as operators write them; what no fixture shows, with templates that these tests fill.

use flowgate_proto::v1::{PredictRequest, Raw, predict_request::Input, predict_response::Output};

use std::error::Error as _;

use super::*;
use crate::{
    dialect::{
        self, Settings,
        golden::{self, Case, Suite, checks},
    },
    event::{Lane, Payload, Request, WireAnswer},
    expression::{self, Makes},
};

static SUITE: Suite = Suite { dialect: &TEMPLATED, folder: "templated", target: target_of };
checks!(SUITE, Predict);

/// The templates of a case stand among its settings.
fn target_of(case: &Case) -> Target {
    let settings = case.settings(&[METHOD, PATH, CONTENT_TYPE, REQUEST, RESPONSE]);
    let body = match settings.get(METHOD) {
        GET => Makes::Query,
        _ if is_json_body(settings.get(CONTENT_TYPE)) => Makes::Json,
        _ => Makes::Text,
    };
    let fill = |name: &str, makes| case.settings.get(name).map(|text| expression::fill(text, makes).unwrap());
    let templates = Templates { request: fill(REQUEST, body), response: fill(RESPONSE, Makes::Predictions) };
    Target { settings, templates, ..golden::target("http", case.url_or("http://models:8000"), "") }
}

const BODY: &[u8] = br#"{"instances": [[1.50]]}"#;

fn target(request: Option<Fill>, response: Option<Fill>, settings: &[(&'static str, &str)]) -> Target {
    let settings = Settings(settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect());
    Target { settings, templates: Templates { request, response }, ..golden::target("own", "http://models:8000/v2", "") }
}

fn wire(content_type: &'static str, body: &'static [u8]) -> Payload {
    Payload::wire_only(scoring::door::wire(Some(&HeaderValue::from_static(content_type)), Bytes::from_static(body)))
}

fn ask(payload: &Payload) -> Ask<'_> {
    let lane = if payload.wire().is_some() { Lane::Byte } else { Lane::Typed };
    Ask { lane, ..golden::ask(Task::Predict, payload) }
}

/// Puts what it gets between these.
fn between(before: &'static str, after: &'static str) -> Option<Fill> {
    Some(Fill::new(move |body| Ok([before.as_bytes(), body, after.as_bytes()].concat().into())))
}

fn encoded(payload: &Payload, target: &Target) -> Result<http::Request<Bytes>> {
    TEMPLATED.encode(&ask(payload), target)
}

fn answered(target: &Target, body: &'static str) -> Result<String> {
    let payload = wire("application/json", BODY);
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("text/html"))]);
    match TEMPLATED.decode(&ask(&payload), target, &headers, Bytes::from_static(body.as_bytes()))? {
        Answer::Wire(WireAnswer { content_type, body, .. }) => {
            assert_eq!(content_type, JSON);
            Ok(String::from_utf8(body.to_vec()).unwrap())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_templates_the_scoring_json_goes_on_as_it_is() {
    let request = encoded(&wire("application/json; charset=utf-8", BODY), &target(None, None, &[(METHOD, "POST")])).unwrap();
    assert_eq!(
        (request.method(), request.uri().to_string().as_str(), request.body().as_ref()),
        (&Method::POST, "http://models:8000/v2", BODY)
    );
    assert_eq!(request.headers()["content-type"], "application/json; charset=utf-8");
    let bare = Target { base: "http://models:8000".parse().unwrap(), ..target(None, None, &[]) };
    assert_eq!(encoded(&wire("application/json", BODY), &bare).unwrap().uri(), "http://models:8000/");
    let csv = encoded(&wire("text/csv", b"a\n1\n"), &target(None, None, &[])).unwrap();
    assert_eq!((csv.headers()["content-type"].as_bytes(), csv.body().as_ref()), (b"text/csv".as_slice(), b"a\n1\n".as_slice()));
}

#[test]
fn a_template_makes_the_body_and_settings_the_rest() {
    let own = target(between(r#"{"payload":"#, "}"), None, &[(METHOD, "PUT"), (PATH, "/predict?v=1")]);
    let request = encoded(&wire("application/json", BODY), &own).unwrap();
    assert_eq!((request.method(), request.uri().path_and_query().unwrap().as_str()), (&Method::PUT, "/v2/predict?v=1"));
    assert_eq!(request.body().as_ref(), br#"{"payload":{"instances": [[1.50]]}}"#);
    assert_eq!(request.headers()["content-type"], "application/json");
    let text = target(between("rows=", ""), None, &[(CONTENT_TYPE, "text/plain")]);
    let request = encoded(&wire("application/json", BODY), &text).unwrap();
    assert_eq!((request.headers()["content-type"].as_bytes(), &request.body()[..5]), (b"text/plain".as_slice(), b"rows=".as_slice()));
}

#[test]
fn what_cannot_be_made_is_said_without_what_was_sent() {
    let reason = |payload: &Payload, request| {
        let error = encoded(payload, &target(request, None, &[])).unwrap_err();
        assert!(!error.to_string().contains("1.5"), "{error}");
        error.reason()
    };
    let json = wire("application/json", BODY);
    assert_eq!(reason(&json, Some(Fill::new(|_| Err("missing".to_owned())))), ErrorReason::CallerInvalidRequest);
    assert_eq!(reason(&wire("text/csv", b"a\n1.5\n"), between("", "")), ErrorReason::CallerUnsupportedMediaType);
    let raw = Raw { content_type: "text/csv".to_owned(), body: Bytes::from_static(b"a") };
    let typed = Payload::typed_only(Request::Predict(PredictRequest { input: Some(Input::Raw(raw)), ..PredictRequest::default() }));
    assert_eq!(reason(&typed, between("", "")), ErrorReason::CallerUnsupportedMediaType);
}

/// A caller can mend what the template hands on, and nothing of what it makes.
#[test]
fn who_is_at_fault_for_a_query_is_whoever_chose_what_stands_there() {
    let split = br#"{"dataframe_split": {"columns": ["a"], "data": [[{"k": 1.5}]]}}"#;
    let refusal = |template: &str, body: &'static [u8]| {
        let fill = expression::fill(template, Makes::Query).unwrap();
        let error = encoded(&wire("application/json", body), &target(Some(fill), None, &[(METHOD, GET)])).unwrap_err();
        assert!(!error.to_string().contains("1.5"), "{error}");
        error
    };
    for (template, body) in [
        ("{{ rows|length }}", BODY),
        ("{{ [columns, rows] }}", split.as_slice()),
        ("{{ inputs[0][0] * 2 }}", BODY),
        ("{{ rows[0] if rows else 1 }}", BODY),
        ("{{ params.get('k', 1) }}", BODY),
        ("{{ 'a' }}", BODY),
    ] {
        let error = refusal(template, body);
        assert_eq!(error.reason(), ErrorReason::GatewayNotServing, "{template}: {error}");
        assert!(
            error.to_string().ends_with("the operator must have it make an object of texts, numbers, booleans and lists of them"),
            "{error}"
        );
    }
    let whole = "; send one of texts, numbers, booleans and lists of them";
    let part = "; send texts, numbers, booleans or lists of them, without objects or lists in these";
    for (template, body, next) in [
        ("{{ inputs }}", BODY, whole),
        ("{{ rows[0] }}", BODY, whole),
        ("{{ request.json()['instances'] }}", BODY, whole),
        ("{{ request.json.instances[0]|tojson }}", BODY, whole),
        ("{{ request.get_json().get('instances') }}", BODY, whole),
        ("{{ inputs }}", split.as_slice(), part),
        ("{\"a\": {{ rows }}}", BODY, part),
        ("{\"a\": {{ rows[0][0] }}}", split.as_slice(), part),
        ("{{ {'a': rows[0][0]} }}", split.as_slice(), part),
    ] {
        let error = refusal(template, body);
        assert_eq!(error.reason(), ErrorReason::CallerInvalidRequest, "{template}: {error}");
        assert!(error.to_string().ends_with(next), "{template}: {error}");
    }
}

#[test]
fn answers_become_predictions() {
    let plain = target(None, None, &[]);
    for (body, predictions) in [
        (r#"{"predictions": [1.50], "model": "m"}"#, r#"{"predictions": [1.50]}"#),
        (r#"{"scores": [1.50]}"#, r#"{"predictions": {"scores": [1.50]}}"#),
        ("[12345678901234567890]", r#"{"predictions": [12345678901234567890]}"#),
        ("[NaN]", r#"{"predictions": [null]}"#),
    ] {
        assert_eq!(answered(&plain, body).unwrap(), predictions);
    }
    assert_eq!(answered(&target(None, between("[", "]"), &[]), "1").unwrap(), r#"{"predictions": [1]}"#);
    let refused = [(plain, "<html>"), (target(None, Some(Fill::new(|_| Err(String::new()))), &[]), "1")];
    for (target, body) in refused {
        assert_eq!(answered(&target, body).unwrap_err().reason(), ErrorReason::ProviderBadAnswer);
    }
}

#[test]
fn typed_callers_get_typed_answers() {
    let typed =
        Request::Predict(PredictRequest { input: Some(Input::Inputs(flowgate_proto::wkt::Value::default())), ..PredictRequest::default() });
    let payload = Payload::typed_only(typed);
    let answer = TEMPLATED.decode(&ask(&payload), &target(None, None, &[]), &HeaderMap::new(), Bytes::from_static(b"[true]")).unwrap();
    let Answer::Predict(answer) = answer else { panic!("{answer:?}") };
    assert!(matches!(&answer.output, Some(Output::Predictions(value)) if format!("{value:?}").contains("true")), "{answer:?}");
}

#[test]
fn failures_are_told_by_their_status_and_nothing_of_them_is_repeated() {
    for (status, reason) in [
        (400, ErrorReason::ProviderRejectedRequest),
        (422, ErrorReason::ProviderRejectedRequest),
        (415, ErrorReason::CallerUnsupportedMediaType),
        (401, ErrorReason::ProviderCredentialRejected),
        (404, ErrorReason::ProviderNotFound),
        (413, ErrorReason::CallerTooLarge),
        (429, ErrorReason::ProviderRateLimited),
        (500, ErrorReason::ProviderFailed),
        (503, ErrorReason::ProviderUnavailable),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let error = TEMPLATED.classify(&target(None, None, &[]), status, &HeaderMap::new(), br#"{"detail": "secret 1.5"}"#);
        assert_eq!((error.reason(), error.upstream_status_code()), (reason, Some(status.as_u16())));
        assert!(!error.to_string().contains("secret"), "{error}");
        // What it says of a request that does not fit is made of the caller's input, which no log has.
        let told = match status.as_u16() {
            400 | 422 => "(/v2 refused it; what it said is in the log at level debug)",
            _ => r#"(/v2 said: {"detail": "secret 1.5"})"#,
        };
        assert!(format!("{error:?}").ends_with(told), "{error:?}");
    }
}

/// The operator sees it nowhere else.
#[test]
fn the_log_gets_the_path_and_how_the_answer_begins() {
    let own = |response| target(None, response, &[(PATH, "/predict?key=abc")]);
    let long = format!("<html>\n\n  {}secret", "é".repeat(300));
    let error = TEMPLATED.classify(&own(None), StatusCode::BAD_GATEWAY, &HeaderMap::new(), long.as_bytes());
    assert!(format!("{error:?}").ends_with(&format!("(/v2/predict said: <html> {}…)", "é".repeat(275))), "{error:?}");
    let root = Target { base: "http://models:8000".parse().unwrap(), ..target(None, None, &[]) };
    let error = TEMPLATED.classify(&root, StatusCode::BAD_GATEWAY, &HeaderMap::new(), b"x");
    assert!(format!("{error:?}").ends_with("(/ said: x)"), "{error:?}");
    let endless = "a\n  File \"b\"\n".repeat(1 << 20);
    let error = TEMPLATED.classify(&own(None), StatusCode::BAD_GATEWAY, &HeaderMap::new(), endless.as_bytes());
    assert!(format!("{error:?}").contains("(/v2/predict said: a File \"b\" a"), "{error:?}");
    assert!(error.source().unwrap().to_string().len() <= 17 << 10, "no whole answer is kept for the log");
    let error = TEMPLATED.classify(&own(None), StatusCode::BAD_GATEWAY, &HeaderMap::new(), b"");
    assert!(format!("{error:?}").ends_with("(/v2/predict said nothing)"), "{error:?}");
    let broken = Some(Fill::new(|_| Err("a key is missing".to_owned())));
    for (target, told) in [(own(None), "(/v2/predict said: <p>1.5"), (own(broken), "(a key is missing; /v2/predict said: <p>1.5")] {
        let error = answered(&target, "<p>1.5").unwrap_err();
        assert!(format!("{error:?}").contains(told) && !error.to_string().contains("1.5"), "{error:?}");
        assert!(!error.to_string().contains("PREDICTION_FORM"), "{error}");
    }
}

/// Were an answer cut before they are hidden, the part of a key that is left would be none of them.
#[test]
fn no_part_of_a_secret_is_left_where_what_a_server_said_is_cut() {
    let key = "sk-abcdefghijklmnopqrstuvwxyz";
    let hidden = |error: Error| {
        let hide = |text: &str| String::from_utf8(dialect::hide(text.to_owned().into(), key.as_bytes()).to_vec()).unwrap();
        format!("{:?}", error.retold(|text| Some(hide(text)).filter(|hidden| hidden != text)))
    };
    for before in 150..320 {
        let body: &'static str = format!("<p>{}{key}", "x".repeat(before)).leak();
        let broken = Fill::new(|_| Err("a key is missing".to_owned()));
        for response in [None, Some(broken)] {
            let told = hidden(answered(&target(None, response, &[]), body).unwrap_err());
            assert!(told.contains("/v2 said: <p>xxx") && !told.contains("sk-"), "{told}");
        }
    }
}
