//! The language: what is as in Python, what is Jinja's, what is missing.

use std::fs;

use super::{
    super::{Expression, Template, functions, names},
    ask, openai, sample,
};
use crate::event::Protocol;

#[test]
fn what_is_true_in_python_is_true_here() {
    let request = sample();
    for text in [
        "True and not False and None is None",
        "request.json['a'] == 1 and request.json()['a'] == 1 and request.get_json(force=True, silent=True)['a'] == 1",
        "'a' in request.json() and 'z' not in request.json()",
        "request.json.get('a') == 1 and request.json.get('z') is None and request.json.get('z', 5) == 5",
        "request.json['c']['d'].lower().startswith('te')",
        "request.json['c']['e'] is None and request.json['a'] is not None",
        "request.json['b'][0] == 1 and request.json['b'][-1] == 3 and request.json['b'][1:] == [2, 3]",
        "request.json['b'][::-1] == [3, 2, 1] and request.json['b'][:-1] == [1, 2] and request.json['b'][5:] == []",
        "'abc'[1] == 'b' and 'abc'[-1] == 'c' and 'abcdef'[1:-1:2] == 'bd' and 'abc'[::-1] == 'cba' and 'abc'[2:0:-1] == 'cb'",
        "request.json['s'][0] == 'ä' and len(request.json['s']) == 3 and request.json['s'][1:] == 'bc'",
        "1 < 2 <= 2 < 3 and not 1 < 3 < 2 and 1 < 2 in [2, 3] not in [[4]]",
        "2 ** 10 == 1024 and 7 // 2 == 3 and -7 // 2 == -4 and 7 % 3 == 1 and 7 / 2 == 3.5 and 1 + 2 * 3 - 1 == 6",
        "'a' + 'b' == 'ab' and 'ab' * 2 == 'abab' and 2 * [1] == [1, 1] and [1] + [2] == [1, 2] and (1,) + (2,) == (1, 2)",
        "('x' if request.json['t'] else 'y') == 'x' and (1 if False else 2 if False else 3) == 3",
        "{'a': 1, 'b': 2}['b'] == 2 and {'a': 1}.get('c', 3) == 3 and {'a': 1} == {'a': 1.0}",
        "len('abc') == 3 and len([1, 2]) == 2 and len(request.json['c']) == 2 and len(request.json()['c'].keys()) == 2",
        "any([0, '', 3]) and not any([]) and all([1, 'a']) and all([]) and not all([1, 0])",
        "min(3, 1, 2) == 1 and max([1, 3, 2]) == 3 and max('a', 'b') == 'b' and sum([1, 2.5]) == 3.5 and abs(-3) == 3",
        "round(2.5) == 2 and round(3.5) == 4 and round(2.675, 2) == 2.67 and round(7, 1) == 7 and round(1.25, ndigits=1) == 1.2",
        "int('12') == 12 and int(3.9) == 3 and int(-3.9) == -3 and float('1.5') == 1.5 and str(12) == '12' and str(None) == 'None'",
        "bool(1) and not bool('') and str(True) == 'True' and int(True) == 1 and str(1.0) == '1.0'",
        "sorted([3, 1, 2]) == [1, 2, 3] and sorted(['b', 'a'], reverse=True) == ['b', 'a'] and list('ab') == ['a', 'b']",
        "list(range(3)) == [0, 1, 2] and range(1, 4) == [1, 2, 3] and range(5, 0, -2) == [5, 3, 1] and range(3, 1) == []",
        "3 in range(5) and isinstance(request.json['a'], int) and isinstance('a', (int, str)) and not isinstance(1.5, int)",
        "isinstance(request.json['b'], list) and isinstance(request.json(), dict) and isinstance(True, bool) and isinstance(1.5, float)",
        "'a b c'.split() == ['a', 'b', 'c'] and 'a,b,c'.split(',', 1) == ['a', 'b,c'] and ', '.join(['a', 'b']) == 'a, b'",
        "' a '.strip() == 'a' and 'xxaxx'.strip('x') == 'a' and 'xxa'.lstrip('x') == 'a' and 'a\\nb'.splitlines() == ['a', 'b']",
        "'abcabc'.replace('b', 'x') == 'axcaxc' and 'aa'.replace('a', 'b', 1) == 'ba' and 'abab'.count('ab') == 2 and [1, 1].count(1) == 2",
        "'abc'.find('c') == 2 and 'abc'.find('x') == -1 and 'abab'.rfind('ab') == 2 and 'abc'.endswith(('x', 'c')) and 'abc'.startswith('')",
        "'Abc'.upper() == 'ABC' and 'abc'.capitalize() == 'Abc' and 'a b'.title() == 'A B' and 'abc'.removeprefix('a') == 'bc'",
        "'1'.isdigit() and 'a1'.isalnum() and 'a'.isalpha() and 'a'.islower() and 'A'.isupper() and ' '.isspace() and 'a'.isascii()",
        "request.json['c'].items() == [['d', 'Text'], ['e', None]] and {'a': 1}.values() == [1] and 'a.txt'.removesuffix('.txt') == 'a'",
        "'b' < 'c' and [1, 2] < [1, 3] and [1] < [1, 0] and 1 < 1.5 and True < 2 and 9007199254740993 > 9007199254740992.0",
        "request.json['messages'][1]['content'][0]['text'] == 'Hi'",
        "'x' 'y' == 'xy' and 0x10 == 16 and 1_000 == 1000 and 1e3 == 1000.0",
    ] {
        assert_eq!(ask(text, &request), Ok(true), "{text}");
    }
}

#[test]
fn powers_that_python_groups_otherwise_need_brackets() {
    let request = sample();
    for text in [
        "(2 ** 3) ** 2 == 64 and 2 ** (3 ** 2) == 512 and (-2) ** 2 == 4 and -(2 ** 2) == -4",
        "2 ** -1 == 0.5 and 1 - 2 ** 2 == -3 and -1 * 2 ** 2 == -4 and [-1, 2 ** 2][1] == 4 and 2 ** 2 + 2 ** 2 == 8",
        "abs(-2) ** 2 == 4 and (2 ** 2 if 2 ** 1 == 2 else 2 ** 3) == 4 and len('a') - 2 ** 1 == -1",
    ] {
        assert_eq!(ask(text, &request), Ok(true), "{text}");
    }
    for text in ["2 ** 3 ** 2 == 512", "-2 ** 2 == 4", "1 + -request.json['a'] ** 2 == 0", "2 ** -3 ** 2 == 1", "2 ** abs(3) ** (2) == 1"] {
        let fault = Expression::compile(text).expect_err(text);
        assert!(fault.message.contains("write brackets"), "{text}: {}", fault.message);
        assert_eq!(text.get(fault.range.unwrap()), Some("**"), "{text}");
    }
    assert!(Template::compile("{{ -1 }} ** {{ 2 ** 2 }} {{ 2 ** 2 }}").is_ok());
}

#[test]
fn a_credential_cannot_be_asked_for_by_its_name() {
    for text in [
        "request.headers['authorization'] == 'x'",
        "request.headers.get('X-API-Key', '') == 'x'",
        "request.headers.get('Authorization').startswith('x')",
        "'cookie' in request.headers",
        "'api-key' not in request.headers",
        "request.headers.cookie == 'x'",
    ] {
        let fault = Expression::compile(text).expect_err(text);
        assert!(fault.message.contains("credentials are not shown to expressions"), "{text}: {}", fault.message);
    }
    let fine = ["'cookie' in request.json", "request.headers['x-cookie'] == 'x'", "request.metadata.get('authorization') is None"];
    for text in fine {
        assert!(Expression::compile(text).is_ok(), "{text}");
    }
}

#[test]
fn filters_and_tests_are_jinjas() {
    let request = sample();
    for text in [
        "'user' in request.json['messages']|map(attribute='role')",
        "request.json['messages']|selectattr('role', '==', 'user')|length == 1",
        "request.json['messages']|rejectattr('role', 'in', ['user', 'tool'])|map(attribute='content')|first == 'Be brief'",
        "[{'a': {'b': 1}}, {'c': 2}]|map(attribute='a.b', default=0) == [1, 0]",
        "[{'a': 1}, {'b': 2}]|selectattr('a') == [{'a': 1}] and [{'a': 1}, {'b': 2}]|selectattr('a', 'undefined')|length == 1",
        "' A '|trim|lower == 'a' and ['a', 'b']|join('-') == 'a-b' and [3, 1]|sort|last == 3 and 'a'|upper == 'A'",
        "request.json['nothing']|default('x') == 'x' and ''|default('x', true) == 'x' and '1'|int == 1 and 1|string == '1'",
        "request.json['b']|tojson == '[1, 2, 3]' and [1, 2]|sum == 3 and [1, 2]|max == 2 and -1|abs == 1",
        "request.json['nothing'] is undefined and request.json['a'] is defined and request.json['b'][-9] is not defined",
        "request.json['a'] is number and request.json['f'] is float and request.json['b'] is sequence and request.json['c'] is mapping",
        "3 is odd and 4 is even and 6 is divisibleby(3) and 'abc' is startingwith('a') and True is True and 1 is eq(1) and 1 is in([1])",
        "'a' ~ 1 ~ None == 'a1None'",
        "1 is not none and none is none and ((None is None) if True else False)",
    ] {
        assert_eq!(ask(text, &request), Ok(true), "{text}");
    }
}

#[test]
fn the_condition_of_the_documentation_runs_as_written() {
    let text = "request.json()['dataframe_split']['data'][0][0].startswith('Domain specific text')";
    for (said, want) in [("Domain specific text, and more", true), ("Another text", false)] {
        let request =
            super::scoring("application/json", format!(r#"{{"dataframe_split": {{"columns": ["text"], "data": [["{said}"]]}}}}"#));
        assert_eq!(ask(text, &request), Ok(want));
    }
    let long = "len(request.json()['dataframe_split']['data'][0][0]) > 400";
    let request = super::scoring("application/json", format!(r#"{{"dataframe_split": {{"data": [["{}"]]}}}}"#, "x".repeat(401)));
    assert_eq!(ask(long, &request), Ok(true));
}

/// What Python answers with an exception fails here, with a reason that says nothing of the request.
#[test]
fn what_cannot_be_told_is_an_error_with_a_reason() {
    let request = sample();
    for (text, reason) in [
        ("request.json['z']", "missing"),
        ("not request.json['z']", "missing"),
        ("request.json['z'] != 'x'", "missing"),
        ("request.json['z']['y'] == 1", "missing"),
        ("request.json['b'][9] == 1", "missing"),
        ("request.json['c'].z == 1", "missing"),
        ("request.headers['x-none'] == 'a'", "missing"),
        ("any([request.json['z']])", "missing"),
        ("len(request.json['z']) == 0", "missing"),
        ("[request.json['z']] == [1]", "missing"),
        ("(request.json['z'] if True else 1)", "missing"),
        ("request.json['messages']|map(attribute='z')|length == 2", "missing"),
        ("request.json['s'] > 1", "have an order"),
        ("1 < 2 < 'a'", "have an order"),
        ("None < 1", "have an order"),
        ("'a' + 1 == 'a1'", "`+` adds"),
        ("[1] + (1,) == []", "`+` adds"),
        ("request.json['a'].startswith('x')", "method of texts"),
        ("request.json['b'].get('x')", "only a dict"),
        ("1 in 5", "`in` looks"),
        ("1 in 'abc'", "text can only hold"),
        ("1 / 0 == 1", "does not fit"),
        ("'a' - 1 == 1", "does not fit"),
        ("int('x') == 1", "no whole number"),
        ("max([]) == 1", "empty list"),
        ("sorted([1, 'a']) == []", "sorted"),
        ("[1, 2][::0] == []", "step of 0"),
        ("len(5) == 1", "have a length"),
        ("','.join('abc') == 'a'", "list is joined"),
        ("'abc'.split(5) == []", "does not fit"),
        ("2 ** 200 > 1", "does not fit"),
        ("9223372036854775807 * 9223372036854775807 * 4 > 1", "too large"),
    ] {
        let got = ask(text, &request).unwrap_err();
        assert!(got.contains(reason), "{text}: {got}");
    }
    let secret = openai(Protocol::OpenAiChat, r#"{"a": 170141183460469231731687303715884105727, "b": 7777777, "c": "SECRET"}"#);
    for text in ["request.json['b'] % 0 == 1", "request.json['c'] - request.json['b'] == 1", "request.json['c'].split(request.json['b'])"] {
        let got = ask(text, &secret).unwrap_err();
        assert!(!got.contains("7777777") && !got.contains("SECRET"), "{got}");
    }
}

/// What is refused at load: the text, the piece that the fault points at, and a word of the message.
#[test]
fn unknown_names_are_refused_at_load_with_a_suggestion() {
    for (text, piece, word) in [
        ("reqest.json()['a']", "reqest", "did you mean `request`?"),
        ("request.jsn()['a']", "jsn", "did you mean `json`?"),
        ("request.header.get('x')", "header", "did you mean `headers`?"),
        ("request.json()['a'].startwith('b')", "startwith", "did you mean `startswith`?"),
        ("request.json['a'].format(1)", "format", "the method `format` is unknown"),
        ("lenght(request.text) > 1", "lenght", "the function `lenght` is unknown"),
        ("lne(request.text) > 1", "lne", "did you mean `len`?"),
        ("request.text|lenght > 1", "lenght", "did you mean `length`?"),
        ("1 is nul", "nul", "the test `nul` is unknown"),
        ("1 is evn", "evn", "did you mean `even`?"),
        ("[1]|selectattr('a', 'equals', 1)", "'equals'", "the test `equals` is unknown"),
        ("[1]|selectattr('a', '==')", "'=='", "needs what it compares with"),
        ("[1]|map('upper')", "map", "map(attribute="),
        ("request", "request", "name a part of it"),
        ("request['json']", "request", "`request` has no items"),
        ("request.data", "data", "`request` has no `data`"),
        ("request.get_json['a']", "get_json", "call it"),
        ("request.json(1)", "json", "takes no arguments"),
        ("request.headers()", "headers", "is no method"),
        ("request.get_json(force=request.path)", "get_json", "True or False"),
        ("steps.a.text", "steps", "`steps` is unknown"),
        ("len", "len", "is a function; call it"),
        ("len()", "len", "lacks its argument `x`"),
        ("len(1, 2)", "len", "at most 1"),
        ("round(1.5, digits=1)", "round", "has no argument `digits`; did you mean `ndigits`?"),
        ("round(1.5, 1, ndigits=1)", "round", "twice"),
        ("'a'.lower(1)", "lower", "at most 0"),
        ("'a'.startswith()", "startswith", "lacks its argument `prefix`"),
        ("'a'.startswith(text='a')", "startswith", "has no argument `text`"),
        ("max(*[1, 2])", "[1, 2]", "`*`"),
        ("isinstance(1, number)", "number", "the types are"),
        ("isinstance(1)", "isinstance", "takes a value and a type"),
        ("request.text()", "text", "leave the brackets out"),
        ("(1)(2)", "1", "only functions"),
        ("'a' if True", "True", "needs its `else`"),
        ("{request.path: 1}['a']", "request.path", "a key is a literal"),
        ("[x for x in [1]]", "for", "comprehensions"),
        ("any(x > 1 for x in [1])", "for", "comprehensions"),
        ("(lambda x: x)(1)", "lambda", "functions of one's own"),
        ("request.json['a'] = 1", "=", "write `==`"),
        ("True && False", "&", "write `and`"),
        ("True || False", "|", "write `or`"),
        ("!True", "!", "write `not`"),
        ("request.json['a'] == null", "null", "None"),
        ("{{ True }}", "{{", "without `{{ }}`"),
        ("  ", "  ", "empty"),
        ("'abc", "'abc", "unexpected end of string"),
        ("1 +", "+", "unexpected end of input"),
        ("1 is None 2", "None", "takes no argument"),
    ] {
        let fault = Expression::compile(text).expect_err(text);
        assert!(fault.message.contains(word), "{text}: {}", fault.message);
        let range = fault.range.unwrap_or_else(|| panic!("{text}: no place"));
        assert_eq!(text.get(range), Some(piece), "{text}: {}", fault.message);
    }
}

#[test]
fn an_expression_tells_its_text() {
    let expression = Expression::compile("request.path  ==  '/'").unwrap();
    assert_eq!(expression.text(), "request.path  ==  '/'");
    assert_eq!(format!("{:?}", expression.clone()), r#"Expression("request.path  ==  '/'")"#);
}

/// The page lists what there is, no more and no less, and what it shows compiles.
#[test]
fn the_documentation_is_right() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/conditions.md");
    let page = fs::read_to_string(path).unwrap().replace("\\|", "|");
    let listed = |rows: &[&str]| -> Vec<String> {
        let lines = page.lines().filter(|line| rows.iter().any(|row| line.starts_with(row)));
        let names = lines.flat_map(|line| line.split_once("| ").unwrap().1.split(" | ").nth(1).unwrap().split('`').skip(1).step_by(2));
        let mut names: Vec<_> = names.map(|name| name.split('(').next().unwrap().to_owned()).filter(|name| !name.ends_with('=')).collect();
        names.sort_unstable();
        names.dedup();
        names
    };
    let functions = names::FUNCTIONS.names();
    let shown = listed(&["| functions"]);
    assert!(functions.iter().all(|name| shown.iter().any(|shown| shown == name)) && shown.len() == functions.len() + 1, "{shown:?}");
    assert_eq!(listed(&["| methods of"]), names::METHODS.names());
    assert_eq!(listed(&["| filters"]), names::FILTERS.names());
    let tests = functions::TESTS.iter().copied().chain(functions::COMPARING_TESTS.iter().map(|(name, _)| *name));
    let mut tests: Vec<_> = tests.filter(|name| !matches!(*name, "none" | "true" | "false" | "equalto") && name.is_ascii()).collect();
    tests.retain(|name| name.starts_with(|letter: char| letter.is_ascii_alphabetic()));
    tests.sort_unstable();
    assert_eq!(listed(&["| tests"]), tests);

    let conditions = page.lines().skip_while(|line| !line.starts_with("| condition")).skip(2).take_while(|line| line.starts_with('|'));
    let conditions: Vec<_> = conditions.map(|line| line.trim_start_matches("| `").split("` | ").next().unwrap()).collect();
    assert!(conditions.len() > 8, "{conditions:?}");
    let block = page
        .split("```\n")
        .find(|block| block.starts_with("request.json.get"))
        .unwrap()
        .lines()
        .map(|line| line.split("  #").next().unwrap());
    for condition in conditions.into_iter().chain(block.filter(|line| line.starts_with("request."))) {
        Expression::compile(condition).unwrap_or_else(|fault| panic!("{condition}: {fault:?}"));
    }
    let template = page.split("```\n").find(|block| block.starts_with("Sum up")).unwrap();
    assert_eq!(Template::compile(template).unwrap().steps(), ["clean", "score"]);
}
