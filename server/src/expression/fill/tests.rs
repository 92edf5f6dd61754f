//! Templates over requests in MLflow's JSON, and over answers.

use super::*;

const SPLIT: &str =
    r#"{"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2.5], [9007199254740993, null]]}, "params": {"k": "x\"y"}}"#;

fn filled(text: &str, is_answer: bool, body: &str) -> Result<String, String> {
    let fill = fill(text, is_answer).unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
    fill.apply(&Bytes::copy_from_slice(body.as_bytes())).map(|made| String::from_utf8(made.to_vec()).unwrap())
}

fn fault(text: &str, is_answer: bool) -> Fault {
    fill(text, is_answer).unwrap_err()
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
        ("fixed", SPLIT, "fixed"),
    ] {
        assert_eq!(filled(template, false, body).as_deref(), Ok(made), "{template}");
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
        assert_eq!(filled(template, true, answer).as_deref(), Ok(made), "{template}");
    }
}

#[test]
fn what_is_missing_is_said_and_nothing_of_the_body() {
    for (template, is_answer, body) in [
        ("{{ rows }}", false, r#"{"inputs": "secret"}"#),
        ("{{ columns }}", false, r#"{"instances": [["secret"]]}"#),
        ("{{ inputs }}", false, "{}"),
        ("{{ params.k }}", false, r#"{"inputs": ["secret"]}"#),
        ("{{ rows }}", false, "no JSON, secret"),
        ("{{ response.scores }}", true, r#"{"secret": 1}"#),
        ("{{ response.scores }}", true, "<secret>"),
    ] {
        let why = filled(template, is_answer, body).unwrap_err();
        assert!(!why.is_empty() && !why.contains("secret"), "{template}: {why}");
    }
}

#[test]
fn faults_have_a_place_and_say_what_there_is() {
    let unknown = fault("{\"a\": {{ row }}}", false);
    assert_eq!((unknown.range.unwrap(), unknown.message.contains("`row` is unknown")), (9..12, true));
    assert!(fault("{{ request.headers['a'] }}", false).message.contains("`request.headers` is not offered here"));
    assert!(fault("{{ request.json.a }}", true).message.contains("`request` is unknown"));
    assert!(fault("{{ request.json().a }}", true).message.contains("`request` is unknown"));
    assert!(fault("{{ request['json'] }}", true).message.contains("`request` is unknown"));
    assert!(fault("{{ response }}", false).message.contains("`response` is unknown"));
    assert!(fault("{{ steps.a.text }}", false).message.contains("`steps` is unknown"));
    assert!(fault("{% for row in rows %}{% endfor %}", false).range.is_some());
    let quoted = fault("{\"a\": \"{{ params.k }}\"}", false);
    assert_eq!((quoted.range.unwrap(), quoted.message.contains("|tojson")), (7..9, true));
}
