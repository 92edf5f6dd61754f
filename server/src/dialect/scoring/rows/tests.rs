//! Bodies put together, and answers cut apart.

use super::*;

fn of(body: &str) -> Option<Rows> {
    rows(b"application/json; charset=utf-8", &Bytes::copy_from_slice(body.as_bytes()))
}

/// The body of two that go together; `None` when they do not.
fn merged(a: &str, b: &str) -> Option<String> {
    let (a, b) = (of(a).unwrap_or_else(|| panic!("{a}")), of(b).unwrap_or_else(|| panic!("{b}")));
    (a.kind == b.kind).then(|| String::from_utf8(merge(&[&a, &b].into_iter()).to_vec()).unwrap())
}

fn cut(answer: &str, counts: &[usize]) -> Option<Vec<String>> {
    let answers = split(&Bytes::copy_from_slice(answer.as_bytes()), counts)?;
    Some(answers.iter().map(|answer| String::from_utf8(answer.to_vec()).unwrap()).collect())
}

#[test]
fn rows_of_each_form_stand_in_one_body_as_they_were_written() {
    for (a, b, whole) in [
        (
            r#"{"dataframe_split": {"columns": ["a b", "c"], "data": [[1.50, 12345678901234567]]}}"#,
            r#"{"dataframe_split":{"columns":["a b","c"],"data":[ [2e3,1], [0.10, -0] ],"index":[0,1]}, "params":null}"#,
            r#"{"dataframe_split":{"columns":["a b","c"],"data":[[1.50, 12345678901234567],[2e3,1], [0.10, -0]]}}"#,
        ),
        (
            r#"{"dataframe_split":{"data":[["x"]]}}"#,
            r#"{"dataframe_split":{"data":[["]}"]],"index":[]}}"#,
            r#"{"dataframe_split":{"data":[["x"],["]}"]]}}"#,
        ),
        (
            r#"{"dataframe_records":[{"a":1,"b":"é"}],"params":{"k": 5}}"#,
            r#"{"params":{ "k":5},"dataframe_records":[{"a":2,"b":"\""},{"a": 3, "b": ""}]}"#,
            r#"{"dataframe_records":[{"a":1,"b":"é"},{"a":2,"b":"\""},{"a": 3, "b": ""}],"params":{"k":5}}"#,
        ),
        (r#"{"instances":[[1,2],[3,4]]}"#, r#"{"instances":[[5,6]]}"#, r#"{"instances":[[1,2],[3,4],[5,6]]}"#),
        (
            r#"{"instances":[{"x":[1.0],"y":"a"}]}"#,
            r#"{"instances":[{"x":[2.0],"y":"b"}]}"#,
            r#"{"instances":[{"x":[1.0],"y":"a"},{"x":[2.0],"y":"b"}]}"#,
        ),
        (r#"{"inputs":["a"]}"#, r#"{"inputs":["b","c"]}"#, r#"{"inputs":["a","b","c"]}"#),
        (
            r#"{"inputs":{"x":[[1,2]],"y z":[true]}}"#,
            r#"{"inputs":{"x":[[3,4],[5,6]],"y z":[false,true]}}"#,
            r#"{"inputs":{"x":[[1,2],[3,4],[5,6]],"y z":[true,false,true]}}"#,
        ),
    ] {
        assert_eq!(merged(a, b).as_deref(), Some(whole));
    }
}

#[test]
fn what_is_not_of_one_kind_goes_apart() {
    let split = |data: &str| format!(r#"{{"dataframe_split":{{"columns":["a","b"],"data":{data}}}}}"#);
    let (whole, text) = (split("[[1, 1.5]]"), split(r#"[[1, "x"]]"#));
    for (a, b) in [
        (whole.clone(), split("[[1.0, 1.5]]")),
        (whole.clone(), split("[[null, 1.5]]")),
        (whole.clone(), split("[[9223372036854775808, 1.5]]")),
        (whole.clone(), split("[[36893488147419103232, 1.5]]")),
        (whole.clone(), split("[[1, 1.5], [null, 1.5]]")),
        (whole.clone(), split("[[1, 1.5, 2]]")),
        (whole.clone(), text),
        (whole.clone(), whole.replace(r#""b""#, r#""c""#)),
        (whole.clone(), whole.replace("]}}", r#"]},"params":{"n":1}}"#)),
        (
            whole.replace("]}}", r#"]},"params":{"n":10000000000000000000001}}"#),
            whole.replace("]}}", r#"]},"params":{"n":10000000000000000000002}}"#),
        ),
        (r#"{"instances":[[1,2]]}"#.to_owned(), r#"{"instances":[[1,2,3]]}"#.to_owned()),
        (r#"{"instances":[[1,2]]}"#.to_owned(), r#"{"inputs":[[1,2]]}"#.to_owned()),
        (r#"{"instances":[[[1],[2]]]}"#.to_owned(), r#"{"instances":[[[1,2]]]}"#.to_owned()),
        (r#"{"dataframe_records":[{"a":1}]}"#.to_owned(), r#"{"dataframe_records":[{"b":1}]}"#.to_owned()),
        (r#"{"dataframe_records":[{"a":1,"b":1}]}"#.to_owned(), r#"{"dataframe_records":[{"b":1,"a":1}]}"#.to_owned()),
        (r#"{"inputs":{"x":[1]}}"#.to_owned(), r#"{"inputs":{"y":[1]}}"#.to_owned()),
    ] {
        assert_eq!(merged(&a, &b), None, "{a} {b}");
        assert!(merged(&a, &a).is_some() && merged(&b, &b).is_some(), "{a} {b}");
    }
}

#[test]
fn what_has_no_rows_of_one_kind_is_left_alone() {
    for body in [
        "",
        "[1]",
        "{}",
        r#"{"instances":[NaN]}"#,
        r#"{"instances":[]}"#,
        r#"{"instances":5}"#,
        r#"{"instances":[1],"inputs":[1]}"#,
        r#"{"instances":[1],"messages":[]}"#,
        r#"{"instances":[[1],[2,3]]}"#,
        r#"{"instances":[1,[2]]}"#,
        r#"{"instances":[[[[[[[[[[1]]]]]]]]]]}"#,
        r#"{"instances":[{"a":1,"a":2}]}"#,
        r#"{"dataframe_records":[1]}"#,
        r#"{"dataframe_records":[{"a":1},{"b":1}]}"#,
        r#"{"dataframe_split":{"columns":["a"]}}"#,
        r#"{"dataframe_split":{"columns":["a"],"data":[1]}}"#,
        r#"{"dataframe_split":{"columns":["a"],"data":[[1]],"index":["x"]}}"#,
        r#"{"dataframe_split":{"columns":["a"],"data":[[1]],"index":[7]}}"#,
        r#"{"dataframe_split":{"columns":["a"],"data":[[1]],"extra":1}}"#,
        r#"{"inputs":"a"}"#,
        r#"{"inputs":{}}"#,
        r#"{"inputs":{"a":1}}"#,
        r#"{"inputs":{"a":[1],"b":[1,2]}}"#,
        r#"{"inputs":null}"#,
    ] {
        assert_eq!(of(body), None, "{body}");
    }
    let csv = rows(b"text/csv", &Bytes::from_static(br#"{"instances":[1]}"#));
    assert_eq!((csv, rows(b"", &Bytes::new())), (None, None));
}

#[test]
fn answers_are_cut_by_rows_and_keep_their_text() {
    for (answer, counts, parts) in [
        (
            r#"{"predictions": [1.50, NaN, "a,]\"", 12345678901234567890]}"#,
            [1, 3],
            [r#"{"predictions": [1.50]}"#, r#"{"predictions": [NaN, "a,]\"", 12345678901234567890]}"#],
        ),
        (r#" {"predictions":[{"a":[1,2]},{"a":[]}]} "#, [1, 1], [r#"{"predictions": [{"a":[1,2]}]}"#, r#"{"predictions": [{"a":[]}]}"#]),
        (r#"[[0, 1], [2, 3]]"#, [1, 1], ["[[0, 1]]", "[[2, 3]]"]),
        (
            r#"{"predictions": {"x y": [1, 2, 3], "z": [[1], [-Infinity], null]}}"#,
            [2, 1],
            [r#"{"predictions": {"x y": [1, 2], "z": [[1], [-Infinity]]}}"#, r#"{"predictions": {"x y": [3], "z": [null]}}"#],
        ),
    ] {
        assert_eq!(cut(answer, &counts), Some(parts.map(str::to_owned).to_vec()));
    }
}

#[test]
fn an_answer_without_one_prediction_for_each_row_is_not_cut() {
    for answer in [
        "",
        "5",
        "null",
        "{}",
        r#""ab""#,
        r#"{"predictions": 5}"#,
        r#"{"predictions": null}"#,
        r#"{"predictions": "ab"}"#,
        r#"{"predictions": {}}"#,
        r#"{"predictions": []}"#,
        r#"{"predictions": [1]}"#,
        r#"{"predictions": [1, 2, 3]}"#,
        r#"{"predictions": [1, 2"#,
        r#"{"predictions": [1, , 2]}"#,
        r#"{"predictions": {"a": [1, 2], "b": [1]}}"#,
        r#"{"predictions": {"a": [1, 2], "b": {"c": 1, "d": 2}}}"#,
        r#"{"predictions": [1, 2], "more": 1}"#,
        r#"{"outputs": [1, 2]}"#,
        r#"{"a": [1, 2]}"#,
    ] {
        assert_eq!(cut(answer, &[1, 1]), None, "{answer}");
    }
}
