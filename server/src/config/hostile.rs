//! Files that nobody means well with, or that a slip of the hand made: none may crash, hang, leak, or pass for what it is not.

use std::time::Duration;

use tokio::time::Instant;

use super::{Config, LoadOptions, SecretsMode, diagnostic::Report, fixture::Fake, tree};

const SAMPLES: [&str; 6] = [
    include_str!("testdata/native.yaml"),
    include_str!("testdata/routes.yaml"),
    include_str!("testdata/model_endpoints.yaml"),
    include_str!("testdata/mlflow.yaml"),
    include_str!("testdata/mistakes.yaml"),
    include_str!("testdata/routing.yaml"),
];
const MODEL: &str = "model: { provider: mock }";
/// Longer than the slowest of these takes on a busy machine without optimisation.
const LONG: Duration = Duration::from_secs(30);

fn env() -> Fake {
    Fake::default().variable("K", "value-of-K").variable("APP_KEY", "value-of-APP_KEY").variable("OPENAI_API_KEY", "value-of-OPENAI")
}

/// An endpoint called `x` with these keys.
fn x(rest: &str) -> String {
    format!("endpoints:\n  - {{ name: x, endpoint_type: llm/v1/chat, {rest} }}\n")
}

fn openai(config: &str) -> String {
    x(&format!("model: {{ provider: openai, config: {config} }}"))
}

/// The text is refused, and the first finding begins so.
#[track_caller]
fn refused(text: &str, expected: &str) {
    let errors = env().errors(text);
    let first = errors.strip_prefix("flowgate.yaml:").unwrap_or_default();
    assert!(first.starts_with(expected), "{text}\ngives\n{errors}\nand not\n{expected}");
}

#[test]
fn what_is_no_yaml_is_told_by_its_place() {
    for (text, expected) in [
        ("endpoints:\n\t- name: x\n", "2:2: not YAML: tabs disallowed within this context (block indentation)\n    indent with spaces"),
        ("endpoints:\n- name: x\n endpoint_type: llm/v1/chat\n", "3:2: not YAML: "),
        ("endpoints: x: y: z\n", "1:13: not YAML: mapping values are not allowed"),
        ("a: [\"open ]\n", "1:5: not YAML: unclosed quote"),
        ("a: 1\n---\nb: 2\n", "3:1: a second document begins here\n    keep one document in a file"),
        ("a: 1\n\u{feff}b: 2\n", "2:1: not YAML: a BOM must not"),
        ("a: &a [*a]\n", "1:8: an alias stands in its own anchor"),
        ("a: *b\n", "1:4: not YAML: an alias without its anchor\n    put quotes around a text that begins with `*`"),
        ("a: !secret b\n", "1:12: there is a tag (`!…`), which means nothing here\n    leave it out"),
        ("a: 1\n~: 2\n", "2:1: a key is empty"),
        ("a: 1\n? [b]\n: 2\n", "2:3: a key is a list or a mapping"),
        ("a: { b: \0 }\n", "1:9: not YAML: unexpected character"),
        ("a: .inf\n", "1:4: not YAML: non-finite float"),
        ("just words", "1:1: `the file` is text\n    expected a mapping"),
        ("[]", "1:1: `the file` is a list"),
        ("~", "1:1: there is nothing to serve"),
        ("$NONE", "1:1: `the file` is text"),
    ] {
        refused(text, expected);
    }
}

#[test]
fn places_are_right_whatever_the_file_looks_like() {
    let listen = "`listen` is `bad`";
    refused(&format!("\u{feff}listen: bad\n{}", x(MODEL)), &format!("1:9: {listen}"));
    refused(&format!("# é 😀\r\nlisten: bad\r\n{}", x(MODEL).replace('\n', "\r\n")), &format!("2:9: {listen}"));
    refused(&format!("%YAML 1.2\n---\nlisten: bad\n{}", x(MODEL)), &format!("3:9: {listen}"));
    refused("endpoints: [{ description: 'é 😀 ü', nme: x }]", "1:13: `name` is missing");
    assert!(env().errors("endpoints: [{ description: 'é 😀 ü', nme: x }]").contains("flowgate.yaml:1:37: unknown key `nme`"));
    refused(r#"{"listen": "bad", "endpoints": []}"#, "1:12: `listen` is `\"bad\"`");
    refused(&format!("listen: |\n  bad\n{}", x(MODEL)), "2:3: `listen` is `bad`");
    refused(&format!("listen: {}\n{}", "v".repeat(1 << 20), x(MODEL)), &format!("1:9: `listen` is `{}…`\n", "v".repeat(60)));
    refused(&format!("\"a\\nb\\e[31m\": 1\n{}", x(MODEL)), "1:1: unknown key `a…`\n");
}

#[test]
fn a_scalar_where_a_mapping_belongs_is_named_by_its_kind() {
    for key in ["admin", "tls", "cors", "identity", "telemetry", "secrets"] {
        refused(&format!("{key}: some-words\n{}", x(MODEL)), &format!("1:{}: `{key}` is text\n    expected a mapping", key.len() + 3));
    }
    for key in ["trusted_proxies", "routes", "model_endpoints"] {
        refused(&format!("{key}: 5\n{}", x(MODEL)), &format!("1:{}: `{key}` is a number\n    expected a list", key.len() + 3));
    }
    let all =
        env().errors("endpoints: [5, x, null, [], true, { name: 5, endpoint_type: 7, tags: 1, model: x, deployments: x, timeouts: 5s }]");
    assert_eq!(all.matches("`endpoints` is ").count(), 5, "{all}");
    assert_eq!(all.matches("flowgate.yaml:1:").count(), 11, "{all}");
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    for (weight, expected) in [
        ("4294967296", "`4294967296`\n    expected 0 to 4294967295"),
        ("-1", "`-1`\n    expected 0 or more"),
        ("1.5", "`1.5`\n    expected a whole number"),
        ("99999999999999999999999999", "`99999999999999999999999999`\n    expected a whole number"),
        ("'1'", "`'1'`\n    expected a whole number"),
    ] {
        refused(&x(&format!("deployments: [{{ weight: {weight}, {MODEL} }}]")), &format!("2:68: `weight` is {expected}"));
    }
    let most = format!("{{ weight: 4294967295, {MODEL} }}");
    assert_eq!(env().load(&x(&format!("deployments: [{most}, {most}]"))).config.endpoints[0].deployments.len(), 2);
    refused(&format!("max_connection_age: 0\n{}", x(MODEL)), "1:21: `max_connection_age` is `0`\n    expected at least `1s`");
}

#[test]
fn an_item_that_is_wrong_makes_no_second_finding() {
    for text in [
        x("deployments: [5]"),
        format!("identity: {{ keys: [5] }}\n{}", x(MODEL)),
        "model_endpoints: [{ name: e, routes: [5] }]".to_owned(),
        format!("{}routes: [{{ name: s, task_type: llm/v1/chat, destinations: [5] }}]", x(MODEL)),
    ] {
        let errors = env().errors(&text);
        assert_eq!(errors.matches("flowgate.yaml:").count(), 1, "{errors}");
    }
}

#[test]
fn a_key_that_is_only_warned_of_hides_no_error() {
    let lenient = LoadOptions { lenient: true, secrets: SecretsMode::Require };
    for (text, expected) in [
        (x("colour: red"), "the endpoint has no model"),
        (x("model: { provider: openai, colour: red }"), "`openai` needs a key"),
        (openai("{ colour: red }"), "`openai` needs a key"),
        ("routes: [{ name: r, route_type: llm/v1/chat, colour: red }]".to_owned(), "the route has no model"),
        (
            format!("{}routes: [{{ name: s, colour: red, task_type: llm/v1/chat, destinations: [] }}]", x(MODEL)),
            "the shares of `destinations` are 0",
        ),
    ] {
        let found = env().parse(&[&text], lenient).map(|loaded| loaded.config.endpoints.len()).unwrap_err().to_string();
        assert!(found.contains(expected), "{text}\n{found}");
    }
}

#[test]
fn names_are_unique_over_all_lists() {
    let text = "endpoints: [{ name: a, endpoint_type: llm/v1/chat, model: { provider: mock } }]\n\
        routes:\n  - { name: a, route_type: llm/v1/chat, model: { provider: mock } }\n  \
        - { name: a, task_type: llm/v1/chat, destinations: [{ name: a, traffic_percentage: 100 }] }\n\
        model_endpoints: [{ name: a, routes: [{ model_uri: 'models:/x/1' }] }]\n";
    let errors = env().errors(text);
    for (place, first) in [("3:13", "1:21"), ("4:13", "3:13"), ("5:27", "4:13")] {
        assert!(
            errors.contains(&format!("flowgate.yaml:{place}: duplicate name `a`; it stands at flowgate.yaml:{first} already")),
            "{errors}"
        );
    }
    let over = "endpoints: [{ name: x, path: /a }, { name: x, path: /b }]";
    let errors = env().parse(&[&x(MODEL), over], LoadOptions::default()).unwrap_err().to_string();
    assert!(errors.contains("overlay.yaml:1:44: duplicate name `x`"), "{errors}");
    refused(
        "routes: [{ name: s, task_type: llm/v1/chat, destinations: [{ name: s, traffic_percentage: 100 }] }]",
        "1:68: destination `s` is no",
    );
    refused("endpoints: [{ name: '..', endpoint_type: llm/v1/chat, model: { provider: mock } }]", "1:21: `name` is `'..'`");
}

#[test]
fn listeners_do_not_share_a_port() {
    for (listeners, place) in [
        ("listen: 127.0.0.1:7000\nadmin: { listen: 'localhost:7000' }", "2:18"),
        ("listen: 0.0.0.0:7000\nadmin: { listen: '127.0.0.1:7000' }", "2:18"),
        ("listen: 127.0.0.1:5001", "1:9"),
        ("admin: { listen: '[::]:5000' }", "1:18"),
    ] {
        refused(&format!("{listeners}\n{}", x(MODEL)), &format!("{place}: `listen` and `admin.listen` are both at port "));
    }
    for listeners in [
        "listen: 127.0.0.1:0\nadmin: { listen: 127.0.0.1:0 }",
        "listen: 10.0.0.1:7000\nadmin: { listen: 127.0.0.1:7000 }",
        "listen: 127.0.0.1:5001\nadmin: { listen: 127.0.0.1:5000 }",
    ] {
        env().load(&format!("{listeners}\n{}", x(MODEL)));
    }
}

#[test]
fn empty_lists_open_no_door() {
    refused(
        &format!("identity: {{ keys: [] }}\n{}", x(MODEL)),
        "1:11: `identity` names nobody who may call\n    expected at least one of `keys`",
    );
    refused(&format!("identity: {{}}\n{}", x(MODEL)), "1:11: `identity` names nobody");
    refused(&format!("identity: {{ keys: [{{ name: ' ', key: k }}] }}\n{}", x(MODEL)), "1:28: `name` is `' '`");
    let closed = format!("identity: {{ keys: [{{ name: a, key: k }}] }}\n{}", x(MODEL));
    let opened = env().parse(&[&closed, "identity: null"], LoadOptions::default()).unwrap();
    assert!(opened.config.keys.is_empty(), "an overlay opens the door only by saying so");
    refused("endpoints: [{ name: a, endpoint_type: llm/v1/chat, deployments: [] }]", "1:13: the endpoint has no model");
    refused("model_endpoints: [{ name: e, routes: [] }]", "1:19: `routes` is empty");
    let empty = env().load("endpoints: []\nroutes: []\ntrusted_proxies: []\ncors: { allow_origins: [] }\n");
    assert!(empty.warnings[0].message.starts_with("there is no endpoint yet"));
}

#[test]
fn proxies_and_addresses_are_whole() {
    let proxy = |proxy: &str| x(&format!("{MODEL}, upstream: {{ proxy: {proxy} }}"));
    for wrong in
        ["http://", "http://h:99999", "http://h:0", "http://h/path", "http://h?x", "https://h", "'h:3128'", "http://u:p w@h", "http://u:p@"]
    {
        refused(&proxy(wrong), "2:90: `proxy` is no address of an HTTP proxy");
    }
    for right in ["http://h", "http://h:3128/", "http://u:p@h:3128", "'http://[::1]:3128'"] {
        env().load(&proxy(right));
    }
    let url = |url: &str| x(&format!("model: {{ provider: vllm, url: '{url}' }}"));
    for wrong in ["http://h:99999", "http://h:", "h:80", "http:///v1", "http://h#x"] {
        refused(&url(wrong), &format!("2:74: `url` is `'{wrong}'`"));
    }
    refused(&x(&format!("{MODEL}, path: /a/../v1/models")), "2:77: `path` is `/a/../v1/models`\n    expected a path without `.` and `..`");
}

#[test]
fn placeholders_in_keys_stay_what_they_are() {
    refused(&format!("$K: 1\n{}", x(MODEL)), "1:1: unknown key `$K`");
    refused(&x(&format!("{MODEL}, upstream: {{ headers: {{ $K: v }} }}")), "2:94: `$K` is no header that can be set here");
    let loaded = env().load(&x(&format!("{MODEL}, tags: {{ $K: $K }}")));
    assert_eq!(loaded.config.endpoints[0].tags, [("$K".to_owned(), "value-of-K".to_owned())]);
    refused(
        &openai("{ api_key: pa$word }"),
        "2:90: environment variable word is not set\n    set it, or give the value another way; `$$` stands for a `$`",
    );
    let stored = format!("secrets: {{ source: $SOURCE, prefix: /run }}\n{}", openai("{ api_key: '{{ secrets.a }}' }"));
    let config = env().variable("SOURCE", "file").text("/run/a", "from a file").load(&stored).config;
    assert!(config.endpoints[0].deployments[0].credentials.len() == 1);
}

#[test]
fn secrets_in_odd_places_are_not_repeated() {
    for text in [
        "identity: sk-leak\nendpoints: []".to_owned(),
        "identity: { keys: sk-leak }\nendpoints: []".to_owned(),
        "identity: { keys: [sk-leak, { name: a, key: [sk-leak] }, { name: b, key: { c: sk-leak } }] }\nendpoints: []".to_owned(),
        "sk-leak\n".to_owned(),
        openai("sk-leak"),
        openai("{ api_key:sk-leak }"),
        openai("{ api_key: 'x {{ sk-leak }}' }"),
        openai("{ api_key: k, api_base: sk-leak }"),
        openai("{ api_key: k, api_base: 'https://u:sk-leak@h' }"),
        openai("{ api_key: [sk-leak] }"),
        openai("{ api_key: \"sk-leak\\q\" }"),
        openai("{ api_key: \"sk-leak }"),
        openai("{ api_key: !!int sk-leak }"),
        openai("{ api_key: !sk-leak x }"),
        openai("{ api_key: *sk-leak }"),
        openai("{ api_key: a, openai_api_key: sk-leak }"),
        openai("{ api_key: \"sk-leak\\nx\" }"),
        x("model: { provider: openai, config: { api_key: k }, url: 'u:sk-leak@h' }"),
        x(&format!("{MODEL}, upstream: {{ auth: Bearer sk-leak }}")),
        x(&format!("{MODEL}, upstream: {{ auth: {{ bearer: [sk-leak] }} }}")),
        x(&format!("{MODEL}, upstream: {{ auth: {{ basic: sk-leak }} }}")),
        x(&format!("{MODEL}, upstream: {{ headers: 'authorization: sk-leak' }}")),
        x(&format!("{MODEL}, upstream: {{ headers: {{ 'authorization: Bearer sk-leak' }} }}")),
        x(&format!("{MODEL}, upstream: {{ headers: {{ 'a b': sk-leak }} }}")),
        x(&format!("{MODEL}, upstream: {{ proxy: 'socks5://u:sk-leak@h' }}")),
        x(&format!("{MODEL}, upstream: 'http://u:sk-leak@h'")),
        "routes: [{ name: r, route_type: llm/v1/chat, model: { provider: openai, openai_config: sk-leak, openai_api_key: { a: sk-leak } } }]".to_owned(),
    ] {
        let errors = env().errors(&text);
        assert!(!errors.contains("leak"), "{text}\n{errors}");
    }
}

/// What a thread with a small stack must bear: a reload runs on whatever thread there is.
#[test]
fn deep_and_large_files_end_soon() {
    let begin = Instant::now();
    let said = |text: &str| env().errors(text).lines().next().unwrap_or_default().to_owned();
    let too_much = "the file is too large here, or nests too deep";
    let chain = |value: fn(&str) -> String| -> String {
        (0..64).map(|n| format!("a{n}: &a{n} {}\n", if n == 0 { "{ b: 1 }".to_owned() } else { value(&format!("*a{}", n - 1)) })).collect()
    };
    for deep in [
        format!("x: {}1{}", "[".repeat(20_000), "]".repeat(20_000)),
        format!("x: {}1{}", "{a: ".repeat(5_000), "}".repeat(5_000)),
        (0..500).map(|n| format!("{}a:\n", " ".repeat(n))).collect(),
        format!("x:\n {}", "- ".repeat(5_000)),
        chain(|below| format!("{{ x: {below} }}")),
        chain(|below| format!("{{ <<: {below} }}")),
    ] {
        assert!(said(&deep).contains(too_much), "{}", said(&deep));
    }
    let fits = format!("{MODEL}, tags: {{}}, model: {{ provider: mock, parameters: {}1{} }}", "{ a: ".repeat(27), "}".repeat(27));
    env().load(&x(&fits.replacen("model: { provider: mock }, ", "", 1)));

    let mut bomb = "a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]\n".to_owned();
    for n in 1..12 {
        bomb += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "));
    }
    assert!(said(&bomb).contains(too_much), "{}", said(&bomb));
    let keys: String = (0..20_000).map(|n| format!("    k{n}: v\n")).collect();
    let text = format!(
        "{}    tags:\n{}",
        "endpoints:\n  - name: x\n    endpoint_type: llm/v1/chat\n    model: { provider: mock }\n",
        keys.replace("    k", "      k")
    );
    assert_eq!(env().parse(&[&text, &text], LoadOptions::default()).unwrap().config.endpoints[0].tags.len(), 20_000);
    let unset: String = (0..3_000)
        .map(|n| format!("  - {{ name: e{n}, endpoint_type: llm/v1/chat, cache: {{}}, description: $N{n}, {MODEL} }}\n"))
        .collect();
    assert_eq!(env().errors(&format!("endpoints:\n{unset}")).matches("is not set").count(), 3_000);
    assert!(begin.elapsed() < LONG, "{:?}", begin.elapsed());
}

/// One slip: a byte, a few bytes, a line, or something that YAML has a meaning for.
fn slip(text: &mut Vec<u8>, random: &mut fastrand::Rng) {
    const TOKENS: [&str; 24] = [
        ":", ": ", "-", "- ", "\n", "\t", "{", "}", "[", "]", "\"", "'", "#", "|\n", "&a ", "*a", "<<: ", "!!int ", "~", "$", "{{", "\r\n",
        "é", "\u{feff}",
    ];
    let at = random.usize(..=text.len());
    let to = (at + random.usize(1..24)).min(text.len());
    match random.u8(..6) {
        0 if at < text.len() => text[at] = random.u8(..),
        1 => drop(text.drain(at..to)),
        2 => {
            let piece = text[at..to].to_vec();
            let place = random.usize(..=text.len());
            text.splice(place..place, piece);
        }
        3 => text.truncate(at),
        _ => drop(text.splice(at..at, random.choice(TOKENS).unwrap_or_default().bytes())),
    }
}

/// How many endpoints stand in the files.
fn written(texts: &[&str]) -> usize {
    let mut report = Report::new(texts.iter().map(|text| (String::new(), (*text).to_owned())).collect());
    let trees: Vec<_> =
        (0_u32..).zip(texts).filter_map(|(n, _)| tree::read(n, &mut report)).filter(|tree| tree.entries().is_some()).collect();
    let Some(tree) = trees.into_iter().reduce(super::merge::merge) else { return 0 };
    let count = |list: &str| tree.get(list).map_or(0, |list| if let tree::Any::List(items) = &list.value { items.len() } else { 0 });
    count("endpoints") + count("routes") + count("model_endpoints")
}

#[test]
fn endpoints_that_name_each_other_by_the_thousand_are_judged_soon() {
    let begin = Instant::now();
    let file = |count: usize, next: &dyn Fn(usize) -> String| {
        let endpoint = |n: usize| format!("  - {{ name: e{n}, endpoint_type: llm/v1/chat, fallback: {}, {MODEL} }}\n", next(n));
        format!("endpoints:\n{}", (0..count).map(endpoint).collect::<String>())
    };
    let errors = env().errors(&file(8_000, &|n| format!("e{}", (n + 1) % 8_000)));
    assert_eq!(errors.matches("flowgate.yaml:").count(), 1, "{}", errors.len());
    assert!(errors.contains("leads in a circle: e0 -> e1 -> ") && errors.contains(" -> … -> e0\n"), "{}", errors.len());
    assert_eq!(env().errors(&file(8_000, &|n| format!("f{n}"))).matches("is no endpoint of this file").count(), 8_000);
    let all = env().errors(&file(150, &|_| format!("[{}]", (0..150).map(|n| format!("e{n}")).collect::<Vec<_>>().join(", "))));
    assert!(all.matches("leads in a circle").count() > 1_000);
    let steps = vec!["{ endpoint: e0, input: '{{ steps.e0.text }}' }"; 5_000].join(", ");
    let chain = format!("{}  - {{ name: c, endpoint_type: llm/v1/chat, steps: [{steps}] }}\n", file(1, &|_| "[]".to_owned()));
    assert_eq!(env().errors(&chain).matches("duplicate step name").count(), 4_999);
    assert!(begin.elapsed() < LONG, "{:?}", begin.elapsed());
}

#[test]
fn hostile_conditions_and_templates_are_told_by_their_place() {
    let deep = "(".repeat(2_000);
    for text in [deep.as_str(), "'", "\\", "{{", "{%", "request..json", "é é", "a if", "[[[[", "not not"] {
        let quoted = text.replace('\'', "''");
        let when = env().errors(&x(&format!("deployments: [{{ when: '{quoted}', {MODEL} }}]")));
        assert!(when.starts_with("flowgate.yaml:2:") && when.contains("the condition cannot be read: "), "{text}\n{when}");
    }
    for text in ["{{ ( }}", "{% if %}", "{% for %}", "{{ é é }}", "{% endif %}", "{{ steps. }}"] {
        let step = format!("  - {{ name: c, endpoint_type: llm/v1/chat, steps: [{{ endpoint: x, input: '{text}' }}] }}\n");
        let input = env().errors(&(x(MODEL) + &step));
        assert!(input.starts_with("flowgate.yaml:3:") && input.contains("the template cannot be read: "), "{text}\n{input}");
    }
}

#[test]
fn slips_of_the_hand_neither_panic_nor_pass_silently() {
    let mut random = fastrand::Rng::with_seed(7);
    let begin = Instant::now();
    for n in 0..2_000 {
        let sample = SAMPLES[n % SAMPLES.len()];
        let mut bytes = sample.as_bytes().to_vec();
        (0..random.usize(1..6)).for_each(|_| slip(&mut bytes, &mut random));
        let broken = String::from_utf8_lossy(&bytes);
        let texts = if n % 7 == 0 { vec![sample, &broken] } else { vec![&*broken] };
        let options = LoadOptions { lenient: n % 3 == 0, secrets: if n % 2 == 0 { SecretsMode::Require } else { SecretsMode::List } };
        match env().parse(&texts, options) {
            Ok(loaded) if options.secrets == SecretsMode::Require => {
                let Config { endpoints, .. } = loaded.config;
                assert_eq!(endpoints.len(), written(&texts), "an endpoint is lost without a word\n{broken}");
            }
            Ok(_) => {}
            Err(found) => {
                assert!(!found.0.is_empty() && found.0.iter().all(|each| each.place.is_some()), "{broken}\n{found}");
                assert!(!found.to_string().contains("value-of"), "the value of a variable is told\n{broken}\n{found}");
            }
        }
    }
    assert!(begin.elapsed() < LONG, "{:?}", begin.elapsed());
}
