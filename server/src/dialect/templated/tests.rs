//! Golden fixtures of the dialect with templates as operators write them; what no fixture shows, with templates that these tests fill.

use flowgate_proto::v1::{PredictRequest, Raw, predict_request::Input, predict_response::Output};

use super::*;
use crate::{
    dialect::{
        Settings,
        golden::{self, Case, Suite, checks},
    },
    event::{Lane, Payload, Request, WireAnswer},
    expression,
};

static SUITE: Suite = Suite { dialect: &TEMPLATED, folder: "templated", target: target_of };
checks!(SUITE, Predict);

/// The templates of a case stand among its settings.
fn target_of(case: &Case) -> Target {
    let fill = |name: &str| case.settings.get(name).map(|text| expression::fill(text, name == RESPONSE).unwrap());
    let templates = Templates { request: fill(REQUEST), response: fill(RESPONSE) };
    let settings = case.settings(&[METHOD, PATH, CONTENT_TYPE, REQUEST, RESPONSE]);
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
    assert_eq!(reason(&json, between("{", "")), ErrorReason::GatewayNotServing);
    assert_eq!(reason(&json, Some(Fill::new(|_| Err("missing".to_owned())))), ErrorReason::CallerInvalidRequest);
    assert_eq!(reason(&wire("text/csv", b"a\n1.5\n"), between("", "")), ErrorReason::CallerUnsupportedMediaType);
    let raw = Raw { content_type: "text/csv".to_owned(), body: Bytes::from_static(b"a") };
    let typed = Payload::typed_only(Request::Predict(PredictRequest { input: Some(Input::Raw(raw)), ..PredictRequest::default() }));
    assert_eq!(reason(&typed, between("", "")), ErrorReason::CallerUnsupportedMediaType);
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
    let refused =
        [(plain, "<html>"), (target(None, between("{", "]"), &[]), "1"), (target(None, Some(Fill::new(|_| Err(String::new()))), &[]), "1")];
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
    }
}
