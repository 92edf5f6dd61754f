//! What conditions and templates cost: per evaluation, per parsed body, per compilation. Prints one table; fails when an answer is wrong.

use std::{hint::black_box, net::IpAddr, sync::Arc, time::Duration};

use flowgate_server::{
    dialect::scoring::door,
    event::Payload,
    expression::{Expression, Request, Seen, Template},
};
use http::{HeaderMap, HeaderValue, Method};
use tokio::time::Instant;

const SENTIMENT: &str = "request.json()['dataframe_split']['data'][0][0].startswith('Domain specific text')";
const HEADER: &str = "request.headers.get('x-team') == 'red'";
/// The shipped binary's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long one round of a row is measured; short, so that some rounds are not disturbed.
const ROUND: Duration = Duration::from_millis(1);
/// How many rounds a row has.
const ROUNDS: usize = 200;
/// What an evaluation may take.
const GOAL: f64 = 1_000.0;
/// What a hostile one may take.
const MOST: f64 = 10_000_000.0;

fn request(body: &str) -> Arc<Request> {
    let wire = door::wire(Some(&HeaderValue::from_static("application/json")), body.to_owned().into());
    Arc::new(Request {
        method: Method::POST,
        path: "/invocations".to_owned(),
        query: String::new(),
        remote: IpAddr::from([10, 0, 0, 1]),
        headers: HeaderMap::from_iter([(http::HeaderName::from_static("x-team"), HeaderValue::from_static("red"))]),
        principal: "app".into(),
        payload: Payload::wire_only(wire),
        seen: Seen::default(),
    })
}

/// Nanoseconds of one run in the best round.
fn measure<T>(mut run: impl FnMut() -> T) -> f64 {
    let started = Instant::now();
    black_box(run());
    let once = started.elapsed().max(Duration::from_nanos(50));
    let runs = (ROUND.as_nanos() / once.as_nanos()).clamp(1, 100_000);
    let round = |_| {
        let started = Instant::now();
        for _ in 0..runs {
            black_box(run());
        }
        started.elapsed().as_secs_f64() * 1e9 / runs as f64
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

fn print(what: &str, took: f64, goal: Option<f64>) {
    let verdict = goal.map_or("", |goal| if took <= goal { "ok" } else { "MISSED" });
    println!("{what:<58} {took:>12.0} ns  {verdict}");
}

fn main() {
    let small = r#"{"dataframe_split": {"columns": ["text"], "data": [["Domain specific text: is it so?"]]}}"#.to_owned();
    let rows = vec![r#"["Another row of text, as long as such rows are", 1.5, 2, true, null]"#; 2_900].join(",");
    let large = format!(r#"{{"dataframe_split": {{"columns": ["a", "b", "c", "d", "e"], "data": [["Domain specific text"],{rows}]}}}}"#);
    let bodies = [("small", &small), ("200 KB", &large)];
    println!("bodies of {} and {} bytes\n", small.len(), large.len());

    for (name, body) in bodies {
        let request = request(body);
        let header = Expression::compile(HEADER).expect("it compiles");
        print(&format!("header only, {name}"), measure(|| header.holds(&request)), Some(GOAL));
        assert_eq!(header.holds(&request), Ok(true));
        assert!(!request.has_read_body(), "a condition on headers had the body parsed");
        for (what, text) in [
            ("the documented condition", SENTIMENT),
            ("a length", "len(request.json()['dataframe_split']['data'][0][0]) < 400"),
            ("a key", "'dataframe_split' in request.json()"),
            ("two of them", "request.headers.get('x-team') == 'red' and request.json()['dataframe_split']['data'][0][0] != 'x'"),
        ] {
            let condition = Expression::compile(text).expect("it compiles");
            assert_eq!(condition.holds(&request), Ok(true), "{text}");
            print(&format!("{what}, {name}, once parsed"), measure(|| condition.holds(&request)), Some(GOAL));
        }
    }
    let sentiment = Expression::compile(SENTIMENT).expect("it compiles");
    for (name, body) in bodies {
        let parsed = measure(|| sentiment.holds(&request(body)));
        let unread = measure(|| request(body));
        print(&format!("parsing the body, {name}"), parsed - unread, None);
        print(&format!("  serde_json into its own tree, {name}"), measure(|| serde_json::from_str::<serde_json::Value>(body)), None);
    }
    print("compiling the documented condition", measure(|| Expression::compile(SENTIMENT)), None);
    let template = Template::compile("Sum up: {{ steps.clean.text }}\nfor {{ request.principal }}").expect("it compiles");
    let (steps, asked) = (serde_json::json!({ "clean": { "text": "a text of a few words, as they come" } }), request(&small));
    print("a template of two expressions", measure(|| template.render(&asked, &steps)), None);

    println!("\nthe most that one may take");
    let text = "x".repeat(3 << 20);
    let items = vec!["[1, 2, 3]"; 100_000].join(",");
    let hostile = request(&format!(r#"{{"text": "{text}", "rows": [{items}], "same": [{items}]}}"#));
    for condition in [
        "request.json['rows'] == request.json['same']",
        "'y' in request.json['text'] or 'z' in request.json['text']",
        "request.json['text'][:1000000].upper() == ''",
        "request.json['text'][:1000000].replace('x', 'yy') == ''",
        "list(request.json['text'][:60000]) == []",
        "sorted(range(20000)) == []",
        "sum(range(60000)) == 1",
        "request.json['rows'][:30000]|map(attribute='0')|sum == 1",
        "('x ' * 60000).split() == []",
        "('a' * 1000 + 'b') * 3000 == ''",
        "('ab' * 500000).count('aba') + ('ab' * 500000).rfind('aa') == 1",
        "request.json['rows'][:40000]|tojson == ''",
    ] {
        let condition = Expression::compile(condition).expect("it compiles");
        condition.holds(&hostile).ok();
        print(&format!("  {}", condition.text()), measure(|| condition.holds(&hostile)), Some(MOST));
    }
}
