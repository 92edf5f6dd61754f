//! Expressions that want to hang, to grow or to get out: each is refused at load, where it is wrong, or costs no more than is allowed.

use super::{
    super::{Expression, Template, meter},
    openai, sample,
};
use crate::event::Protocol;

/// What becomes of one.
#[derive(Clone, Copy)]
enum End {
    /// Refused at load, at this piece of the text.
    Refused(&'static str),
    /// Fails when it is evaluated, for this reason.
    Fails(&'static str),
    /// Has a value, at a bounded cost.
    Is(bool),
}
use End::{Fails, Is, Refused};

const TOO_MUCH: &str = "more than the allowed amount";
const MISFIT: &str = "does not fit";

/// Compiles each and, if it can be, evaluates it; whatever it does, it does within bounds.
fn check<'a>(table: impl IntoIterator<Item = (&'a str, End)>) {
    let wrong: Vec<String> = table.into_iter().filter_map(|(text, end)| judge(text, &end)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with what becomes of a text.
fn judge(text: &str, end: &End) -> Option<String> {
    let shown: String = text.chars().take(80).collect();
    let expression = match Expression::compile(text) {
        Ok(expression) => expression,
        Err(fault) => {
            let pointed = fault.range.clone().and_then(|range| text.get(range));
            let is_right = matches!((end, pointed), (Refused(piece), Some(pointed)) if !pointed.is_empty() && pointed.starts_with(piece));
            return (!is_right)
                .then(|| format!("{shown}: {} at {:?}", fault.message, pointed.map(|piece| piece.get(..20).unwrap_or(piece))));
        }
    };
    let held = expression.holds(&sample());
    let is_right = match (&held, end) {
        (Err(reason), Fails(word)) => reason.contains(word),
        (Ok(held), Is(want)) => held == want,
        _ => false,
    };
    (!is_right || meter::left() > meter::CONDITION).then(|| format!("{shown}: {held:?}"))
}

fn nested(open: &str, inner: &str, close: &str, times: usize) -> String {
    format!("{}{inner}{}", open.repeat(times), close.repeat(times))
}

#[test]
fn texts_and_lists_do_not_explode() {
    check([
        ("'a' * 100000000 == ''", Fails(TOO_MUCH)),
        ("2000000000 * 'a' == ''", Fails(TOO_MUCH)),
        ("'a' * 99999999999999999999999999 == ''", Fails(TOO_MUCH)),
        ("'a' * 2 ** 100 == ''", Fails(TOO_MUCH)),
        ("'a' * -5 == ''", Is(true)),
        ("'' * 99999999999999999 == ''", Is(true)),
        ("[] * 99999999999999999 == []", Is(true)),
        ("'a' * 1000000.0 == ''", Fails("multiplies")),
        ("'a' * True == 'a'", Is(true)),
        ("len([0] * 100000000) == 1", Fails(TOO_MUCH)),
        ("(1, 2) * 50000000 == ()", Fails(TOO_MUCH)),
        ("[[0] * 1000] * 1000 == []", Is(false)),
        ("([[0] * 1000] * 1000) == ([[0] * 1000] * 1000)", Fails(TOO_MUCH)),
        ("len('a' * 1000000 + 'a' * 1000000 + 'a' * 1000000) > 1", Fails(TOO_MUCH)),
        ("len(('a' * 1000) * 1000 * 1000) > 1", Fails(TOO_MUCH)),
        ("('a' * 1000000)|length * ('b' * 1000000)|length == 1000000000000", Is(true)),
        ("('a' * 100000).replace('a', 'b' * 100000) == ''", Fails(TOO_MUCH)),
        ("'a'.replace('', 'b' * 3000000) == ''", Fails(TOO_MUCH)),
        (
            "('a' * 100).replace('a', 'aa').replace('a', 'aa').replace('a', 'aa').replace('a', 'aa').replace('a', 'aa').replace('a', 'a' * 9999) == ''",
            Fails(TOO_MUCH),
        ),
        ("('a' * 1000).replace('a', 'b' * 10, 2) == ''", Is(false)),
        ("('x' * 1000000).join(['a', 'b', 'c', 'd', 'e', 'f']) == ''", Fails(TOO_MUCH)),
        ("('x' * 1000).join(list('a' * 10000)) == ''", Fails(TOO_MUCH)),
        ("['a' * 1000000] * 100 | join('') == ''", Fails("list is joined")),
        ("(['a' * 100000] * 100)|join('') == ''", Fails(TOO_MUCH)),
        ("(['a' * 100000] * 100)|tojson == ''", Fails(TOO_MUCH)),
        ("str(['a' * 100000] * 100) == ''", Fails(TOO_MUCH)),
        ("('' ~ ['a' * 100000] * 100) == ''", Fails(TOO_MUCH)),
        ("('\\n' * 1500000)|tojson == ''", Fails(TOO_MUCH)),
        ("('a' * 1000000 ~ 'b' * 1000000 ~ 'c' * 1000000) == ''", Fails(TOO_MUCH)),
        ("len(list('a' * 1000000)) == 1", Fails(TOO_MUCH)),
        ("len(('a,' * 500000).split(',')) == 1", Fails(TOO_MUCH)),
        ("len(('a ' * 500000).split()) == 1", Fails(TOO_MUCH)),
        ("len(('a,' * 500000).split(',', 2)) == 3", Is(true)),
        ("len('abc'.split('')) > 1", Is(true)),
        ("len(('a\\n' * 500000).splitlines()) == 1", Fails(TOO_MUCH)),
        ("('a' * 1000000).upper().lower() == ''", Fails(TOO_MUCH)),
        ("('\u{df}' * 1000000).upper() == ''", Fails(TOO_MUCH)),
        ("('a' * 1000000).title() == ''", Fails(TOO_MUCH)),
        ("('a' * 1000000).strip('b' * 1000000) == ''", Fails(TOO_MUCH)),
        ("(' ' * 1000000).strip() == ''", Is(true)),
        ("('a' * 1000000)[::-1] == ''", Fails(TOO_MUCH)),
        ("('a' * 2000000)[1:] == ''", Is(false)),
        ("('a' * 1500000)[-5:] + ('\u{e4}' * 3)[1:] + 'abc'[:99999999999999999999999] == 'aaaaa\u{e4}\u{e4}abc'", Is(true)),
        ("(('a' * 100)[::-1] + 'b')[-1] == 'b'", Is(true)),
        ("'%100000000d' % 1 == ''", Fails(MISFIT)),
        ("'{:>100000000}'.format('a') == ''", Refused("format")),
        ("'a'.center(100000000) == ''", Refused("center")),
        ("'a'.ljust(100000000) == ''", Refused("ljust")),
        ("'a'.zfill(100000000) == ''", Refused("zfill")),
        ("'a'.encode() == ''", Refused("encode")),
        ("'a'|indent(100000000) == ''", Refused("indent")),
        ("'a'|format(1)", Refused("format")),
        ("'a'|batch(1)", Refused("batch")),
        ("'a'|center(1000000)", Refused("center")),
        ("'a'|wordwrap(1)", Refused("wordwrap")),
    ]);
}

#[test]
fn numbers_and_ranges_do_not_explode() {
    check([
        ("int('1' ~ ' ' * 900000) + int('1' ~ ' ' * 900000) == 2", Fails(TOO_MUCH)),
        ("len(range(1000000000)) == 1", Fails(TOO_MUCH)),
        ("sum(range(100000000)) == 1", Fails(TOO_MUCH)),
        ("range(0, 99999999999999999999999999, 1) == []", Fails(TOO_MUCH)),
        ("range(-170141183460469231731687303715884105727, 170141183460469231731687303715884105727) == []", Fails(TOO_MUCH)),
        ("range(170141183460469231731687303715884105727, -170141183460469231731687303715884105727, -1) == []", Fails(TOO_MUCH)),
        ("len(range(0, 99999999999999999999, 9999999999999999999)) == 11", Is(true)),
        ("range(0, 10, 0) == []", Fails("step of 0")),
        ("range(10, 0) == []", Is(true)),
        ("range(0, 5, -99999999999999999999) == []", Is(true)),
        ("len(range(10000)) * len(range(10000)) * len(range(10000)) == 1000000000000", Is(true)),
        ("sorted(list(range(60000)) + list(range(60000))) == []", Fails(TOO_MUCH)),
        ("[1] in [range(20000)] * 1000", Is(false)),
        ("[range(20000)] * 100 == [range(20000)] * 100", Fails(TOO_MUCH)),
        ("sorted(range(100000)) == []", Fails(TOO_MUCH)),
        ("10 ** 1000000000 > 1", Fails(MISFIT)),
        ("9 ** (9 ** (9 ** 9)) > 1", Fails(MISFIT)),
        ("9 ** 9 ** 9 ** 9 > 1", Refused("**")),
        ("2 ** -99999999999 == 0", Is(true)),
        ("2.0 ** 100000 > 1", Is(true)),
        ("(2 ** 126) * 2 * 2 > 1", Fails("too large")),
        ("2 ** 126 + 2 ** 126 > 1", Fails("too large")),
        ("-(-(2 ** 126) - 2 ** 126) > 1", Fails(MISFIT)),
        ("1 // 0 == 1 or 1 % 0 == 1", Fails(MISFIT)),
        ("1.0 / 0 == 1", Fails(MISFIT)),
        ("abs(-(2 ** 126) - 2 ** 126) > 1", Fails("too large")),
        ("int(1e300) > 1", Fails("too large")),
        ("int(float('nan')) == 1", Fails("too large")),
        ("float('inf') > 1 and float('nan') != float('nan') and not float('nan') < 1", Is(true)),
        ("round(1e300) == 1", Fails("too large")),
        ("round(1.5, 100000000) == 1", Fails("between 0 and 20")),
        ("round(1.5, -100000000) == 1", Fails("between 0 and 20")),
        ("int('9' * 100000) == 1", Fails("no whole number")),
        ("float('9' * 100000) > 1", Is(true)),
        ("[1, 2, 3][99999999999999999999] == 1", Fails("missing")),
        ("[1, 2, 3][-99999999999999999999999] == 1", Fails("missing")),
        ("'abc'[-170141183460469231731687303715884105727] == 'a'", Fails("missing")),
        ("'abc'[1:2:-1] == '' and 'abc'[0:3:-1] == ''", Is(true)),
        ("'abc'[::-170141183460469231731687303715884105727] == 'c'", Is(true)),
        ("'abc'[::170141183460469231731687303715884105727] == 'a'", Is(true)),
        ("[1, 2][-170141183460469231731687303715884105727:170141183460469231731687303715884105727] == [1, 2]", Is(true)),
        ("[1, 2]['a'] is undefined", Is(true)),
        ("'abc'[1.5] == 'a'", Fails("whole number")),
        ("340282366920938463463374607431768211456 > 1", Refused("340282366920938463463374607431768211456")),
    ]);
}

#[test]
fn nothing_leads_out_of_the_language() {
    check([
        ("request.__class__", Refused("__class__")),
        ("''.__class__.__mro__[1].__subclasses__()", Refused("__subclasses__")),
        ("''.__class__", Refused("__class__")),
        ("request.json.__init__.__globals__", Refused("__globals__")),
        ("request.json['__class__'] == 1", Fails("missing")),
        ("request.json|attr('__class__')", Refused("attr")),
        ("request.json|map(attribute='__class__')", Fails("list is needed")),
        ("request.application", Refused("application")),
        ("request.environ", Refused("environ")),
        ("request.payload", Refused("payload")),
        ("_json", Refused("_json")),
        ("_json.a == 1", Refused("_json")),
        ("1|o_add(2)", Refused("o_add")),
        ("1|f_len", Refused("f_len")),
        ("self", Refused("self")),
        ("self.a()", Refused("self")),
        ("super()", Refused("super")),
        ("loop", Refused("loop")),
        ("loop(1)", Refused("loop")),
        ("caller()", Refused("caller")),
        ("cycler('a')", Refused("cycler")),
        ("lipsum(100000)", Refused("lipsum")),
        ("namespace(a=1)", Refused("namespace")),
        ("dict(a=1)", Refused("dict")),
        ("debug()", Refused("debug")),
        ("globals()", Refused("globals")),
        ("__import__('os').system('true')", Refused("system")),
    ]);
}

#[test]
fn nothing_but_expressions_is_read() {
    check([
        ("eval('1')", Refused("eval")),
        ("exec('1')", Refused("exec")),
        ("open('/etc/passwd')", Refused("open")),
        ("import os", Refused("import")),
        ("range", Refused("range")),
        ("len.a", Refused("len")),
        ("len(len)", Refused("len")),
        ("{'a': len}['a']('b')", Refused("{'a'")),
        ("[len][0]('b')", Refused("[len]")),
        ("request.json.get('f')(1)", Refused(".get('f')")),
        ("(request.json)('a')", Refused("json")),
        ("request.json['a']()", Refused(".json['a']")),
        ("any(*request.json)", Refused("request.json")),
        ("round(**request.json)", Refused("request.json")),
        ("1; 2", Refused(";")),
        ("a := 1", Refused(":")),
        ("x = 1", Refused("=")),
        ("request.json['a'] += 1", Refused("=")),
        ("lambda: 1", Refused("lambda")),
        ("[x for x in range(100000000)]", Refused("for")),
        ("{x: 1 for x in [1]}", Refused("for")),
        ("`id`", Refused("`")),
        ("$HOME", Refused("$")),
        ("'a' \u{0} 'b'", Refused("\u{0}")),
        ("{1, 2}", Refused(",")),
        ("{{1: 2}: 3}", Refused("{{")),
        ("f'{request}'", Refused("'{request}'")),
        ("}} {{ 1", Refused("{{ 1")),
        ("1 }}", Refused("}}")),
        ("{% if 1 %}", Refused("%")),
        ("{# a #} 1", Refused("#")),
        ("1 if 1 if 1 else 2", Refused("1")),
        ("'\\ud800'", Refused("'")),
        ("é == 1", Refused("é")),
    ]);
}

/// What is deep or long by repetition: a nest, a row, a chain.
#[test]
fn depth_and_length_are_bounded() {
    let sign = |sign: &str, times: usize| format!("{}1", sign.repeat(times));
    let row = |item: &str, sign: &str, times: usize| vec![item; times].join(sign);
    let table = [
        (nested("(", "1", ")", 20), Is(true)),
        (nested("(", "1", ")", 2000), Refused("(")),
        (nested("[", "1", "]", 2000), Refused("[")),
        (nested("{'a': ", "1", "}", 500), Refused("{")),
        (nested("len(", "''", ")", 800), Refused("(")),
        (nested("[", "1", "][0]", 19), Is(true)),
        (nested("[", "1", "][0]", 20), Refused("1")),
        (nested("(1 + ", "1", ")", 24), Is(true)),
        (nested("(1 + ", "1", ")", 25), Refused("(")),
        (nested("1 < (", "2", ") < 3", 400), Refused("(")),
        (sign("-", 4000), Refused("-")),
        (sign("not ", 1000), Refused("not")),
        (sign("- ", 8), Is(true)),
        (row("1", " + ", 39), Is(true)),
        (row("1", " + ", 100), Refused("1")),
        (row("1", "+", 2000), Refused("1")),
        (row("0", " or ", 128), Is(false)),
        (row("0", " or ", 129), Refused("0")),
        (row("request.path == 'a'", " or ", 128), Is(false)),
        (row("1", " < ", 400), Is(false)),
        (row("'a'", " ", 900), Is(true)),
        (row("1", " if 1 else ", 30), Is(true)),
        (row("1", " if 1 else ", 250), Refused("1")),
        (row("1", " if 0 else ", 360), Refused("")),
        (format!("request.json{}", ".a".repeat(30)), Fails("missing")),
        (format!("request.json{}", ".a".repeat(400)), Refused("")),
        (format!("request.json{}", ".a".repeat(2000)), Refused("")),
        (format!("request.json{}", "['a']".repeat(600)), Refused("")),
        (format!("''{}", ".lower()".repeat(38)), Is(false)),
        (format!("''{}", ".lower()".repeat(200)), Refused("")),
        (format!("''{}", "|lower".repeat(400)), Refused("")),
        (format!("{} is None", "1 is None".repeat(300)), Refused("")),
        (format!("max({})", row("1", ", ", 300)), Is(true)),
        (format!("[{}]", row("1", ", ", 600)), Refused("")),
        (format!("'{}' == ''", "a".repeat(4080)), Is(false)),
        (format!("'{}' == ''", "a".repeat(5000)), Refused("a")),
        ("(".repeat(4096), Refused("(")),
        ("[".repeat(5_000_000), Refused("[")),
        (")".repeat(1000), Refused(")")),
        ("é".repeat(3000), Refused("é")),
        ("'".repeat(4095), Refused("'")),
    ];
    check(table.iter().map(|(text, end)| (text.as_str(), *end)));
}

/// What a caller can do to a condition that a person wrote in good faith.
#[test]
fn large_bodies_cost_no_more_than_is_allowed() {
    let text = "x".repeat(3 << 20);
    let rows = format!("[{}]", vec!["[1, 2, 3]"; 110_000].join(","));
    let body = format!(r#"{{"text": "{text}", "rows": {rows}, "same": {rows}, "deep": {}}}"#, nested("[", "1", "]", 100));
    let request = openai(Protocol::OpenAiChat, body);
    for (condition, want) in [
        ("request.json['text'].startswith('x') and request.json['rows'][100000][0] == 1 and len(request.json['rows']) == 110000", Ok(true)),
        ("request.json == request.json", Err(TOO_MUCH)),
        ("request.json['rows'] == request.json['same']", Err(TOO_MUCH)),
        ("request.json['rows'] < request.json['same']", Err(TOO_MUCH)),
        ("request.json['rows'][:3] == [[1, 2, 3]] * 3 and request.json['rows'][-1][-1] == 3", Ok(true)),
        ("[4] in request.json['rows']", Err(TOO_MUCH)),
        ("'y' in request.json['text'] or 'z' in request.json['text'] or 'a' in request.json['text']", Err(TOO_MUCH)),
        ("request.json['text'][:100] == 'x' * 100 and request.json['text'][5:8] == 'xxx'", Ok(true)),
        ("request.json['text'].upper() == ''", Err(TOO_MUCH)),
        ("request.json['text'] + request.json['text'] == ''", Err(TOO_MUCH)),
        ("request.json['text'][::-1] == ''", Err(TOO_MUCH)),
        ("request.json['text'] == request.json['text']", Ok(true)),
        ("str(request.json) == ''", Err(TOO_MUCH)),
        ("request.json|tojson == ''", Err(TOO_MUCH)),
        ("request.json['deep']|tojson|length > 100 and request.json['deep'] == request.json['deep']", Ok(true)),
        ("any(request.json['rows']) or all(request.json['rows'])", Ok(true)),
        ("sorted(request.json['rows']) == []", Err(TOO_MUCH)),
        ("request.json['rows']|map(attribute='0') == []", Err(TOO_MUCH)),
        ("request.json['rows']|selectattr('0', '==', 1) == []", Err(TOO_MUCH)),
        ("request.json['rows'].count(1) == 1", Err(TOO_MUCH)),
        ("max(request.json['rows']) == 1", Err(TOO_MUCH)),
        ("request.json['text'].split('x') == []", Err(TOO_MUCH)),
        ("request.json['text'].replace('x', 'yy') == ''", Err(TOO_MUCH)),
    ] {
        let held = Expression::compile(condition).unwrap().holds(&request);
        match want {
            Ok(want) => assert_eq!(held, Ok(want), "{condition}"),
            Err(word) => assert!(held.as_ref().is_err_and(|reason| reason.contains(word)), "{condition}: {held:?}"),
        }
    }
    for (value, count, is_none) in [("1", 1 << 20, true), ("1", 1_000_000, false), ("{}", 950_000, true), ("{}", 100_000, false)] {
        let many = openai(Protocol::OpenAiChat, format!("[{}1]", format!("{value},").repeat(count)));
        assert_eq!(Expression::compile("request.json is None").unwrap().holds(&many), Ok(is_none), "{count} of {value}");
    }
}

/// Words and signs, each of which may stand anywhere.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "request", "request.json", "request.json()", "request.headers", ".get(", "(", ")", "[", "]", "{", "}", ",", ":", ".", "|", "'a'",
    "\"é\"", "1", "0", "-", "2.5", "99999999999999999999", "None", "True", "not", "in", "is", "and", "or", "if", "else", "+", "*", "**",
    "//", "%", "~", "<", "==", "!=", "len(", "max(", "range(", "sorted(", ".split(", ".replace(", ".join(", "map(attribute=", "tojson",
    "none", "even", "'", "\\", "{{", "}}", "{%", "%}", "{#", "é", "\u{0}", "0x", "1e", "1_", "=", "steps", ".a", "['b']", "[1:]", "[::-1]",
    " ", "\n",
];

/// Random sequences of the language's own words: none may end in anything but a value, a failure or a fault.
#[test]
fn no_sequence_of_words_panics() {
    let request = sample();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    let (mut values, mut refused) = (0, 0);
    for _ in 0..30_000 {
        let text: String = (0..=next(12)).map(|_| WORDS[next(WORDS.len())].to_owned() + if next(2) == 0 { " " } else { "" }).collect();
        match Expression::compile(&text) {
            Ok(expression) => values += usize::from(expression.holds(&request).is_ok()),
            Err(fault) => {
                refused += 1;
                let range = fault.range.unwrap_or_default();
                assert!(text.get(range.clone()).is_some(), "{text:?}: {range:?}: {}", fault.message);
            }
        }
        if let Ok(template) = Template::compile(&text) {
            assert!(template.render(&request, &serde_json::Value::Null).map_or(0, |rendered| rendered.text.len()) < 1 << 20);
        }
    }
    assert!(values > 100 && refused > 10_000, "{values} values, {refused} refused");
}
