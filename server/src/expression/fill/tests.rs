//! Templates over requests in MLflow's JSON, and over answers.

use super::{
    Makes::{Json, Predictions, Query, Text},
    *,
};

const SPLIT: &str =
    r#"{"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2.5], [9007199254740993, null]]}, "params": {"k": "x\"y"}}"#;

fn filled(text: &str, makes: Makes, body: &str) -> Result<String, String> {
    let fill = fill(text, makes).unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
    fill.apply(&Bytes::copy_from_slice(body.as_bytes())).map(|made| String::from_utf8(made.to_vec()).unwrap())
}

fn fault(text: &str, makes: Makes) -> Fault {
    fill(text, makes).unwrap_err()
}

#[test]
fn a_body_is_made_of_a_request_in_any_form() {
    for (template, body, made) in [
        (r#"{"x": {{ rows }}}"#, SPLIT, r#"{"x": [[1, 2.5], [9007199254740993, null]]}"#),
        (r#"{"names": {{ columns }}, "k": {{ params.k|tojson }}}"#, SPLIT, r#"{"names": ["a", "b"], "k": "x\"y"}"#),
        ("{{ request.json['dataframe_split']['data'][0] }}", SPLIT, "[1, 2.5]"),
        ("{{ rows[0][1] * 2 }}", SPLIT, "5.0"),
        ("{{ params.k }}", SPLIT, r#""x\"y""#),
        ("{{ rows }}", r#"{"instances": [[1], [2]]}"#, "[[1], [2]]"),
        ("{{ rows }}", r#"{"dataframe_records": [{"b": 1, "a": 2}]}"#, r#"[{"b": 1, "a": 2}]"#),
        ("{{ columns }}", r#"{"dataframe_records": [{"b": 1, "a": 2}]}"#, r#"["b", "a"]"#),
        ("{{ inputs }}", r#"{"inputs": {"b": [1], "a": [2]}}"#, r#"{"b": [1], "a": [2]}"#),
        ("{{ columns }}", r#"{"inputs": {"b": [1], "a": [2]}}"#, r#"["b", "a"]"#),
        ("{{ params }}", r#"{"inputs": 5}"#, "{}"),
        ("{{ params.get('k', 3) }}", r#"{"inputs": 5}"#, "3"),
        (r#"{"a": {{ params.k }}}"#, SPLIT, r#"{"a": "x\"y"}"#),
        ("{{ rows[0]|tojson }}", SPLIT, "[1, 2.5]"),
        ("{{ params.k|tojson }}", SPLIT, r#""x\"y""#),
        ("[{{ rows|length }}, {{ 'a' ~ params.k }}]", SPLIT, r#"[2, "ax\"y"]"#),
        (r#""fixed""#, SPLIT, r#""fixed""#),
    ] {
        assert_eq!(filled(template, Json, body).as_deref(), Ok(made), "{template}");
    }
}

/// Were they to write on, the caller would say what the operator sends.
#[test]
fn texts_stay_values_wherever_they_stand() {
    for text in
        [r#"", "admin": true, "x": ""#, "1, \"admin\": true", "1}", "[1", "\\", "\n\u{0}\u{1f}", "{{ rows }}", "{% raw %}", "null", ""]
    {
        let body = serde_json::json!({ "inputs": [[text]], "params": { "k": text } }).to_string();
        for template in [r#"{"a": {{ rows[0][0] }}, "b": [{{ params.k|tojson }}], "c": {{ rows }}}"#, "{{ rows[0][0] }}"] {
            let made = filled(template, Json, &body).unwrap();
            let read: serde_json::Value = serde_json::from_str(&made).unwrap_or_else(|error| panic!("{text}: {error}: {made}"));
            match read.as_object() {
                Some(object) => assert_eq!(serde_json::json!(object), serde_json::json!({ "a": text, "b": [text], "c": [[text]] })),
                None => assert_eq!(read, text),
            }
        }
    }
}

#[test]
fn a_body_that_is_no_json_has_texts_as_they_are() {
    for (template, made) in [
        ("say {{ params.k }}, {{ rows[0] }}", "say x\"y, [1, 2.5]"),
        ("{{ params.k }}", "x\"y"),
        (r#""{{ rows[0][0] }}","{{ params.k }}""#, r#""1","x"y""#),
    ] {
        assert_eq!(filled(template, Text, SPLIT).as_deref(), Ok(made), "{template}");
    }
    assert!(fault("{\"a\": \"{{ params.k }}\"}", Text).message.contains("between the quotes"));
}

#[test]
fn what_no_value_can_make_json_is_refused_at_its_place() {
    for (template, makes, place) in [
        ("{\"a\": -{{ rows }}}", Json, 7),
        ("{\"a\": {{ rows }}{{ inputs }}}", Json, 16),
        ("{\"a\": {{ rows }}0}", Json, 6),
        ("{\"a\": {{ rows }},\n \"b\": {{ inputs }},\n}", Json, 24),
        ("{{ rows }}, {{ inputs }}", Json, 0),
        ("{ {{ params.k }}: 1}", Json, 2),
        ("say {{ rows }}", Json, 0),
        ("fixed", Json, 0),
        ("", Json, 0),
        ("{ {{ response.a }}", Predictions, 2),
        ("{\"a\": {{ rows }}", Query, 6),
    ] {
        let fault = fault(template, makes);
        assert!(fault.message.contains("it makes no JSON") && !fault.message.contains("line"), "{template}: {}", fault.message);
        assert_eq!(fault.range.unwrap().start, place, "{template}: {}", fault.message);
    }
    assert!(fault("say \"{{ rows[0] }}\"", Json).message.contains("|tojson"));
    assert!(fault("\"say {{ rows[0] }}\"", Json).message.contains("between the quotes"));
    for template in [
        "[{{ rows }}]",
        "{\"a\": {\"b\": {{ rows }}}}",
        "1",
        "{{ rows }}",
        "\n{{- columns -}} ",
        "{{ rows|tojson }}",
        "{\"a\": [{{ params.k }}, {{ columns }}]}",
    ] {
        let fault = fault(template, Query);
        assert!(
            fault.message.contains("a query is made of an object of texts") && fault.message.contains("{{ rows[0][0] }}"),
            "{template}"
        );
    }
    for template in [
        "{{ inputs }}",
        "{{ rows[0] }}",
        "{{ params }}",
        "{\"a\": {{ columns }}}",
        "{{ {'a': rows} }}",
        "{\"a\": {{ rows }}, \"b\": [1, {{ params.k }}]}",
        "{}",
    ] {
        assert!(fill(template, Query).is_ok(), "{template}");
    }
}

#[test]
fn predictions_are_made_of_an_answer() {
    for (template, answer, made) in [
        ("{{ response.scores }}", r#"{"scores": [0.1, 12345678901234567]}"#, "[0.1, 12345678901234567]"),
        ("{{ response['out'][0] }}", r#"{"out": ["it's"]}"#, r#""it's""#),
        ("[{{ response.a }}, {{ response.b|tojson }}]", r#"{"a": 1, "b": "x"}"#, r#"[1, "x"]"#),
        ("{{ response }}", "[NaN]", "[null]"),
    ] {
        assert_eq!(filled(template, Predictions, answer).as_deref(), Ok(made), "{template}");
    }
}

#[test]
fn what_is_missing_is_said_and_nothing_of_the_body() {
    for (template, makes, body) in [
        ("{{ rows }}", Json, r#"{"inputs": "secret"}"#),
        ("{{ columns }}", Json, r#"{"instances": [["secret"]]}"#),
        ("{{ inputs }}", Json, "{}"),
        ("{{ params.k }}", Json, r#"{"inputs": ["secret"]}"#),
        ("{{ rows }}", Json, "no JSON, secret"),
        ("{{ response.scores }}", Predictions, r#"{"secret": 1}"#),
        ("{{ response.scores }}", Predictions, "<secret>"),
    ] {
        let why = filled(template, makes, body).unwrap_err();
        assert!(!why.is_empty() && !why.contains("secret"), "{template}: {why}");
    }
}

#[test]
fn faults_have_a_place_and_say_what_there_is() {
    let unknown = fault("{\"a\": {{ row }}}", Json);
    assert_eq!((unknown.range.unwrap(), unknown.message.contains("`row` is unknown")), (9..12, true));
    assert!(fault("{{ request.headers['a'] }}", Json).message.contains("`request.headers` is not offered here"));
    assert!(fault("{{ request.json.a }}", Predictions).message.contains("`request` is unknown"));
    assert!(fault("{{ request.json().a }}", Predictions).message.contains("`request` is unknown"));
    assert!(fault("{{ request['json'] }}", Predictions).message.contains("`request` is unknown"));
    assert!(fault("{{ response }}", Json).message.contains("`response` is unknown"));
    assert!(fault("{{ steps.a.text }}", Json).message.contains("`steps` is unknown"));
    assert!(fault("{% for row in rows %}{% endfor %}", Json).range.is_some());
    let quoted = fault("{\"a\": \"{{ params.k }}\"}", Json);
    assert_eq!((quoted.range.unwrap(), quoted.message.contains("|tojson")), (7..9, true));
}
