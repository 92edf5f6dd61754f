//! What is refused: what it is told of, to whom, and before it has taken room.

use super::*;
use crate::mlflow::scoring::grid;

#[test]
fn content_types_that_are_not_read_are_refused() {
    for (media, told) in [
        (None, "content type"),
        (Some("application/vnd.apache.parquet"), "content type"),
        // What Flowgate itself sends goes elsewhere.
        (Some("application/x-protobuf"), "content type"),
        (Some("text/plain"), "content type"),
        (Some("text/csv; charset=latin-1"), "UTF-8"),
        (Some("application/json; v=1"), "parameters"),
    ] {
        let (status, body) = answer("onnx_zipmap", media, "{}");
        assert!(status == 415 && body.contains(told) && body.contains("error_code"), "{media:?}: {status} {body}");
        let told = super::told(StatusCode::UNSUPPORTED_MEDIA_TYPE, body.as_bytes()).to_string();
        assert!(told.ends_with("send `application/json` or `text/csv`, in UTF-8"), "{media:?}: {told}");
    }
    let body = r#"{"dataframe_records": [{"a": 1, "b": 1, "c": 1, "d": 1}]}"#;
    assert_eq!(answer("onnx_zipmap", Some(r#"Application/JSON ; charset="UTF-8""#), body).0, 200);
}

#[test]
fn refusals_repeat_nothing_of_the_input() {
    for body in [
        r#"{"dataframe_split": {"columns": ["secret", "b", "c", "d"], "data": [[1, 1, 1, 1]]}}"#,
        r#"{"dataframe_split": {"columns": [{"secret": 1}], "data": [[1]]}}"#,
        r#"{"dataframe_split": {"columns": ["a"], "data": [[1]], "secret": 1}}"#,
        r#"{"dataframe_split": "secret"}"#,
        r#"{"dataframe_records": ["secret"]}"#,
        r#"{"dataframe_records": [{"a": "secret", "b": 1, "c": 1, "d": 1}]}"#,
        r#"{"dataframe_records": [{"a": {"secret": 1}}]}"#,
        r#"{"instances": [{"a": 1}, "secret"]}"#,
        r#"{"inputs": {"secret": 1, "secret": 1}}"#,
        r#"{"inputs": "secret"}"#,
        r#"{"secret": 1}"#,
        r#"{"inputs": [1], "params": secret}"#,
        r#""secret""#,
    ] {
        let (status, text) = answer("onnx_zipmap", Some("application/json"), body);
        assert!(status == 400 && !text.contains("secret"), "{body}: {status} {text}");
    }
    let body = r#"{"dataframe_split": {"columns": ["s"], "data": [["secret"]]}}"#;
    let (status, text) = answer("onnx_raises", Some("application/json"), body);
    assert!(status == 500 && !text.contains("secret"), "{status} {text}");
    let (status, text) = answer("onnx_zipmap", Some("text/csv"), "a,b,c,d\nsecret,1,1,1\n");
    assert!(status == 400 && !text.contains("secret"), "{status} {text}");
}

#[test]
fn ambiguous_and_infinite_values_are_refused() {
    let row = |cells: &str| format!(r#"{{"dataframe_split": {{"columns": ["a", "b", "c", "d"], "data": [[{cells}]]}}}}"#);
    for (body, told) in [
        (r#"{"dataframe_records": [{"a": 1, "a": 2}]}"#.to_owned(), "twice"),
        (r#"{"inputs": {"a": [1], "a": [2]}}"#.to_owned(), "twice"),
        (r#"{"dataframe_split": {"columns": ["a", "a", "b", "c", "d"], "data": [[1, 1, 1, 1, 1]]}}"#.to_owned(), "same name"),
        (r#"{"dataframe_split": {"data": [], "data": []}}"#.to_owned(), "'data' field"),
        (row("NaN, Infinity, 1, 1"), "JSON"),
        (row("1e999, 1, 1, 1"), "JSON"),
        (row(r#""inf", 1, 1, 1"#), "could not convert string to float"),
        (row(r#""nan", 1, 1, 1"#), "could not convert string to float"),
    ] {
        let (status, text) = answer("onnx_regression", Some("application/json"), &body);
        assert!(status == 400 && text.contains(told), "{body}: {status} {text}");
    }
}

#[test]
fn requests_are_bounded() {
    let many = format!(r#"{{"inputs": [{}0]}}"#, "0,".repeat(grid::MOST_CELLS));
    let (status, text) = answer("onnx_one_column", Some("application/json"), &many);
    assert!(status == 400 && text.contains("more than 4194304 values"), "{status} {text}");
    let deep = format!(r#"{{"inputs": {}}}"#, "[".repeat(100_000));
    assert_eq!(answer("onnx_one_column", Some("application/json"), &deep).0, 400);
}

/// What is said here in words of its own is told to callers, and not only that something does not fit.
#[test]
fn callers_are_told_what_is_wrong() {
    let records = |rows: &str| format!(r#"{{"dataframe_records": [{rows}]}}"#);
    let wide: Vec<String> = (0..400).map(|at| format!(r#"{{"c{at}": 1}}"#)).collect();
    let many = grid::MOST_CELLS;
    for (model, media, body, said) in [
        (
            "onnx_one_column",
            "application/json",
            format!(r#"{{"inputs": [{}0]}}"#, "0,".repeat(many)),
            "`input` is too much for one call; send fewer rows",
        ),
        ("onnx_one_column", "text/csv", format!("a\n{}", "0\n".repeat(many + 1)), "`input` is too much for one call; send fewer rows"),
        ("onnx_zipmap", "application/json", records(&wide.join(",")), "`input` leaves out nearly all columns"),
        ("onnx_zipmap", "application/json", records(r#"{"a": 1, "a": 2}"#), "`input` has a record with the same name twice"),
        ("onnx_zipmap", "application/json", records(r#"{"a": {"b": 1}}"#), "`input` holds an object where"),
        ("onnx_zipmap", "application/json", r#"{"inputs": {"a": [1], "a": [2]}}"#.to_owned(), "`inputs` has two entries of the same name"),
        ("onnx_zipmap", "application/json", r#"{"inputs": [[1]], "params": {}, "params": {}}"#.to_owned(), "`params` stands there twice"),
        ("onnx_zipmap", "text/csv", "a,a,b,c,d\n1,1,1,1,1\n".to_owned(), "`input` has two columns of the same name"),
        (
            "onnx_tensor",
            "application/json",
            records(r#"{"a": [1, 2], "b": 1}"#),
            "`input` holds a list where the model wants a single value",
        ),
        (
            "onnx_named_tensors",
            "application/json",
            r#"{"inputs": {"age": [[1]], "city": [[null]]}}"#.to_owned(),
            "`input` holds something else where the model wants text",
        ),
    ] {
        let (status, answer) = answer(model, Some(media), &body);
        let told = told(StatusCode::BAD_REQUEST, answer.as_bytes());
        assert_eq!((status, told.reason()), (400, ErrorReason::CallerInvalidRequest), "{said}");
        assert!(told.to_string().starts_with(&format!("the model refused the request: {said}")), "{said}: {told}, of {answer}");
    }
}

#[test]
fn what_nobody_sent_is_bounded() {
    let names: Vec<String> = (0..1400).map(|at| format!("c{at}")).collect();
    let csv = format!("{}\n{}", names.join(","), "1\n".repeat(200));
    let (status, text) = answer("onnx_zipmap", Some("text/csv"), &csv);
    assert!(status == 400 && text.contains("leave out"), "{status} {text}");
    // Every record has a column of its own, which all the others lack.
    let wide: Vec<String> = (0..400).map(|at| format!(r#"{{"c{at}": 1}}"#)).collect();
    let body = format!(r#"{{"dataframe_records": [{}]}}"#, wide.join(","));
    let (status, text) = answer("onnx_zipmap", Some("application/json"), &body);
    assert!(status == 400 && text.contains("leave out"), "{status} {text}");
    // What is left out here and there is fine.
    let (status, text) = answer("onnx_zipmap", Some("text/csv"), &format!("a,b,c,d\n{}", "1,2\n".repeat(2000)));
    assert!(status == 200, "{text}");
}

#[test]
fn explanations_are_bounded_before_they_are_computed() {
    // Five values each for three classes.
    let rows = vec!["[1,1,1,1]"; 280_000].join(",");
    let body = format!(r#"{{"params": {{"explain": true}}, "dataframe_split": {{"columns": ["a","b","c","d"], "data": [{rows}]}}}}"#);
    let (status, text) = answer("xgb_classes", Some("application/json"), &body);
    assert!(status == 400 && text.contains("send fewer rows at a time"), "{status} {:?}", text.get(..200));
}
