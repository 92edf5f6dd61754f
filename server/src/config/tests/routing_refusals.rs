//! What is refused about routing, and what is warned of: the words and the place.

use super::*;

mod chains;

/// Two more endpoints beside `x`.
const MORE: &str = "  - { name: y, endpoint_type: llm/v1/completions, model: { provider: mock } }\n  \
    - { name: p, endpoint_type: mlflow/predict, model: { provider: mock } }\n";
const TWO: &str = "deployments: [{ alias: a, model: { provider: mock } }, { alias: b, model: { provider: mock } }]";

/// Each of these beside a model is refused with a finding that contains the text, and with no other.
fn refused(cases: &[(&str, &str)]) {
    for (keys, expected) in cases {
        let own = ["model:", "deployments:", "steps:"].iter().any(|key| keys.contains(key));
        let text = x(&if own { (*keys).to_owned() } else { format!("{keys}, {MODEL}") }) + MORE;
        let errors = env().errors(&text);
        assert!(errors.contains(expected), "{keys}\ngives\n{errors}\nand not\n{expected}");
        assert_eq!(errors.lines().filter(|line| line.starts_with("flowgate.yaml:")).count(), 1, "{keys}\ngives\n{errors}");
    }
}

fn warned(keys: &str, task: &str) -> Vec<String> {
    let text = x(keys).replace("llm/v1/chat", task) + MORE;
    env().load(&text).warnings.iter().map(|warning| warning.to_string().replace("flowgate.yaml:2:", "")).collect()
}

#[test]
fn amounts_are_judged() {
    refused(&[
        ("retry: { attempts: 0 }", "2:63: `attempts` is `0`\n    expected 1 to 10"),
        ("retry: { attempts: 11 }", "`attempts` is `11`\n    expected 1 to 10"),
        ("retry: { attempts: many }", "`attempts` is `many`\n    expected a whole number"),
        ("retry: { backoff: 2s..100ms }", "2:62: `backoff` is `2s..100ms`\n    expected two durations, the shorter one first"),
        ("retry: { budget: 20 }", "`budget` is `20`\n    expected a share, for example `20%` or `0.2`"),
        ("retry: { tries: 3 }", "unknown key `tries`\n    expected `attempts`, `backoff` or `budget`"),
        ("retry: 3", "`retry` is a number\n    expected a mapping"),
        ("hedge: p95", "`hedge` is `p95`\n    expected `true` or `false` or a mapping"),
        ("hedge: { after: q95 }", "`after` is `q95`\n    expected a quantile such as `p95`, or a duration"),
        ("hedge: { after: p100 }", "`after` is `p100`"),
        ("hedge: { after: p0 }", "`after` is `p0`"),
        ("hedge: { after: 0s }", "`after` is `0s`"),
        ("hedge: { budget: 101% }", "`budget` is `101%`"),
        ("mirror: y", "`mirror` is text\n    expected a mapping or a list"),
        ("mirror: { share: 10% }", "`endpoint` is missing"),
        ("mirror: [{ endpoint: y, share: 2 }]", "`share` is `2`"),
        ("min_throughput: 0", "`min_throughput` is `0`\n    expected tokens per second, above 0"),
        ("min_throughput: -1.5", "`min_throughput` is `-1.5`"),
        ("price: { input: -1, output: 1 }", "`input` is `-1`\n    expected 0 or more"),
        ("price: { output: 1 }", "`input` is missing"),
        ("price: { input: 1 }", "`output` is missing\n    expected US dollars for a million tokens that are written"),
        ("context_window: 0", "`context_window` is `0`\n    expected 1 or more"),
        (
            "capabilities: [tool]",
            "`capabilities` is `tool`\n    expected `stream`, `tools`, `json_schema`, `image_input` or `audio_input`\n    did you mean `tools`?",
        ),
        ("breaker: { failures: 0 }", "`failures` is `0`\n    expected 1 or more"),
        ("breaker: { window: 0s }", "`window` is `0s`\n    expected a duration above 0"),
        ("breaker: { open: soon }", "`open` is `soon`"),
        ("breaker: { error_rate: 1.5 }", "`error_rate` is `1.5`"),
        (
            "batch: {}",
            "2:51: `batch` does not go with this endpoint, whose requests have no rows\n    expected `endpoint_type: mlflow/predict`, or no `batch`",
        ),
        ("concurrency: 0", "`concurrency` is `0`\n    expected 1 or more"),
        ("concurrency: many", "`concurrency` is `many`\n    expected a whole number or a mapping"),
        ("concurrency: { queue: 5 }", "`concurrency` sets no limit\n    expected `limit`, or `adaptive`"),
        ("concurrency: { limit: 5, adaptive: {} }", "`adaptive` stands beside `limit`\n    expected one of the two"),
        ("concurrency: { adaptive: { min: 5, max: 4 } }", "`max` is `4`\n    expected at least `min`, which is 5"),
        ("concurrency: { limit: 1, wait: -1s }", "`wait` is `-1s`"),
        ("idempotent: maybe", "`idempotent` is `maybe`\n    expected `true` or `false`"),
        ("prefer: cheap", "`prefer` is `cheap`\n    expected `cheapest`, `fastest` or `least_loaded`"),
    ]);
}

#[test]
fn what_is_put_together_is_judged_and_laid_over_what_the_endpoint_says() {
    let predict = |keys: &str| x(keys).replace("llm/v1/chat", "mlflow/predict");
    for (batch, expected) in [
        ("{ max_rows: 1 }", "`max_rows` is `1`\n    expected 2 or more"),
        ("{ max_rows: all }", "`max_rows` is `all`\n    expected a whole number"),
        ("{ max_delay: 0s }", "`max_delay` is `0s`\n    expected a duration above 0 and up to `1s`"),
        ("{ max_delay: 2s }", "`max_delay` is `2s`\n    expected a duration above 0 and up to `1s`"),
        ("{ rows: 3 }", "unknown key `rows`\n    expected `max_delay` or `max_rows`"),
        ("64", "`batch` is a number\n    expected a mapping"),
    ] {
        let errors = env().errors(&predict(&format!("batch: {batch}, {MODEL}")));
        assert!(errors.contains(expected), "{batch}\ngives\n{errors}");
        assert_eq!(errors.lines().filter(|line| line.starts_with("flowgate.yaml:")).count(), 1, "{batch}\ngives\n{errors}");
    }
    let deployments = "deployments: [{ alias: a, model: { provider: mock } }, \
                       { alias: b, batch: { max_rows: 8 }, model: { provider: mock } }]";
    let loaded = env().load(&predict(&format!("batch: {{ max_delay: 20ms }}, {deployments}")));
    let batches: Vec<_> = loaded.config.endpoints[0].deployments.iter().map(|deployment| deployment.traits.batch.unwrap()).collect();
    let batch = |max_rows| Batch { max_rows, max_delay: Duration::from_millis(20) };
    assert_eq!(batches, [batch(64), batch(8)]);
}

#[test]
fn the_upkeep_of_replicas_is_judged() {
    refused(&[
        ("upstream: { health: {} }", "2:64: `health` asks nothing\n    expected `path`, for example `/ping`, or `grpc`"),
        ("upstream: { health: { path: /a, grpc: b } }", "2:82: `grpc` stands beside `path`"),
        ("upstream: { health: ping }", "`health` is `ping`\n    expected a path on the server"),
        ("upstream: { health: 'http://a/ping' }", "`health` is `'http://a/ping'`"),
        ("upstream: { health: { path: '/a b' } }", "`health` is `'/a b'`"),
        ("upstream: { health: { grpc: 'a b' } }", "`grpc` is `'a b'`"),
        ("upstream: { health: { path: /a, interval: 0 } }", "`interval` is `0`"),
        ("upstream: { health: { path: /a, healthy: 0 } }", "`healthy` is `0`"),
        ("upstream: { health: [/a] }", "`health` is a list\n    expected text or a mapping"),
        ("upstream: { ejection: { time: 2s, max_time: 1s } }", "`max_time` is `1s`\n    expected at least as long as `time`"),
        ("upstream: { ejection: { max_share: 60 } }", "`max_share` is `60`"),
        ("upstream: { ejection: { failures: -1 } }", "`failures` is `-1`"),
    ]);
}

#[test]
fn what_chooses_is_judged_together() {
    let rollout = |rollout: &str| format!("rollout: {{ {rollout} }}, {TWO}");
    let of_two = |keys: &str| format!("{keys}, {TWO}");
    for (keys, expected) in [
        (rollout("steps: [5, 5], every: 1m"), "`steps` is `5`\n    expected percentages from 1 to 100, each larger than the one before"),
        (rollout("steps: [0], every: 1m"), "`steps` is `0`"),
        (rollout("steps: [50, 101], every: 1m"), "`steps` is `101`"),
        (rollout("steps: [], every: 1m"), "`steps` is empty"),
        (rollout("steps: 5, every: 1m"), "`steps` is a number\n    expected a list"),
        (rollout("steps: [5]"), "`every` is missing"),
        (rollout("steps: [5], every: 0"), "`every` is `0`"),
        (
            rollout("steps: [5], every: 1m, abort_if: { min_calls: 5 }"),
            "`abort_if` judges nothing\n    expected `error_rate`, `p95` or both",
        ),
        (rollout("steps: [5], every: 1m, abort_if: { p95: 150% }"), "`p95` is `150%`\n    expected how many times as much"),
        (rollout("steps: [5], every: 1m, canary: c"), "`canary` is `c`, which is no deployment without `when`\n    expected `a` or `b`"),
        (
            rollout("steps: [5], every: 1m").replace("alias: a,", "alias: a, when: 'True',"),
            "2:53: `rollout` has nothing to move the split between\n    expected at least two `deployments` without `when`",
        ),
        (format!("rollout: {{ steps: [5], every: 1m }}, {MODEL}"), "`rollout` has nothing to move the split between"),
        (
            rollout("steps: [5], every: 1m").replace("alias: a,", "alias: a, weight: 1,").replace("alias: b,", "alias: b, weight: 1,"),
            "`weight` stands on the canary of a `rollout`\n    expected none",
        ),
        (rollout("steps: [5], every: 1m, canary: a").replace("alias: a,", "alias: a, weight: 1,"), "2:125: `weight` stands on the canary"),
        (
            rollout("steps: [5], every: 1m, canary: b").replace("}, {", "}, { weight: 1, model: { provider: mock } }, {"),
            "2:105: `weight` is missing, while other deployments have one",
        ),
        (rollout("steps: [5], every: 1m").replace("alias: a,", "alias: a, weight: 0,"), "all weights are 0"),
        (
            of_two("prefer: fastest").replace("alias: a,", "alias: a, weight: 1,").replace("alias: b,", "alias: b, weight: 1,"),
            "`prefer` stands beside `weight`",
        ),
        (rollout("steps: [5], every: 1m") + ", prefer: fastest", "`prefer` stands beside `rollout`\n    expected one of the two"),
        (of_two("price: { input: 1, output: 1 }"), "`price` stands beside `deployments`\n    expected `price` on each deployment"),
        (of_two("context_window: 5"), "`context_window` stands beside `deployments`"),
        (of_two("capabilities: [tools]"), "`capabilities` stands beside `deployments`"),
        (of_two("require: { region: [] }"), "`region` has no value"),
        (of_two("require: { region: { a: b } }"), "`region` is a mapping\n    expected text, a number, `true` or `false` or a list"),
        (of_two("require: {}"), "`require` is empty\n    expected at least one tag, for example `region: eu`"),
        (of_two("require: [{ tags: {} }]"), "`tags` is empty"),
        (of_two("require: [{ when: 'True' }]"), "`tags` is missing"),
        (of_two("require: eu"), "`require` is text\n    expected a mapping or a list"),
        (of_two("affinity: user"), "`affinity` is `user`\n    expected `principal`, or a mapping with one of `header`"),
        (of_two("affinity: { header: a, field: b }"), "`affinity` names no one thing to go by"),
        (of_two("affinity: { principal: false }"), "`affinity` names no one thing to go by"),
        (of_two("affinity: {}"), "`affinity` names no one thing to go by"),
        (of_two("affinity: { header: 'a b' }"), "`header` is `'a b'`"),
        (of_two("affinity: { field: a..b }"), "`field` is `a..b`"),
        (of_two("affinity: { metadata: '' }"), "`metadata` is `''`"),
    ] {
        refused(&[(&keys, expected)]);
    }
    let predict = x("hedge: true, model: { provider: mock }").replace("llm/v1/chat", "mlflow/predict");
    let expected = "flowgate.yaml:2:54: `hedge` asks for a prediction twice, which this endpoint does not allow\n    \
        expected `idempotent: true` beside it\n    set it if asking twice does no harm";
    assert_eq!(env().errors(&predict), expected);
}

#[test]
fn nothing_is_pinned_by_a_credential() {
    let two = TWO.replace("alias: a,", "alias: a, weight: 1,").replace("alias: b,", "alias: b, weight: 1,");
    for header in ["Cookie", "authorization", "x-api-key", "proxy-authorization", "x-goog-api-key"] {
        let expected = format!(
            "`header` is `{header}`, a credential, which routing does not see\n    expected another header\n    write `affinity: principal`"
        );
        refused(&[(&format!("affinity: {{ header: {header} }}, {two}"), &expected)]);
    }
}

#[test]
fn a_canary_may_go_by_the_alias_that_it_has_by_default() {
    for (canary, model) in [("'2'", "model: { provider: mock }"), ("b", "model: { provider: mock, name: b }")] {
        let keys = format!(
            "rollout: {{ steps: [5], every: 1m, canary: {canary} }}, deployments: [{{ alias: a, weight: 1, model: {{ provider: mock }} }}, {{ {model} }}, \
             {{ alias: c, weight: 2, model: {{ provider: mock }} }}]"
        );
        env().load(&x(&keys));
    }
}

#[test]
fn endpoints_that_name_each_other_come_to_an_end() {
    refused(&[
        ("fallback: nowhere", "2:54: `fallback` names `nowhere`, which is no endpoint of this file\n    expected the name of an endpoint"),
        (
            "fallback: [y, xx]",
            "2:58: `fallback` names `xx`, which is no endpoint of this file\n    expected the name of an endpoint\n    did you mean `x`?",
        ),
        (
            "fallback: p",
            "`fallback` names `p`, which is a mlflow/predict endpoint\n    expected one that answers as this endpoint does: llm/v1/chat",
        ),
        ("fallback: x", "`fallback` leads in a circle: x -> x\n    expected an endpoint that does not lead back here"),
        ("fallback: [y, y]", "duplicate fallback `y`"),
        ("mirror: { endpoint: p }", "`mirror` names `p`, which is a mlflow/predict endpoint"),
        ("mirror: { endpoint: x }", "`mirror` leads in a circle: x -> x"),
        ("steps: [{ endpoint: x }]", "`steps` leads in a circle: x -> x"),
        (
            "steps: [{ endpoint: y }, { endpoint: p }]",
            "the last step, `p`, is a mlflow/predict endpoint\n    expected one that answers as this",
        ),
    ]);
    let file = |names: &[(&str, &str)]| {
        let endpoint = |(name, keys): &(&str, &str)| {
            let model = if keys.contains("steps") { "" } else { ", model: { provider: mock }" };
            format!("  - {{ name: {name}, endpoint_type: llm/v1/chat, {keys}{model} }}\n")
        };
        format!("endpoints:\n{}", names.iter().map(endpoint).collect::<String>())
    };
    let circle = file(&[
        ("a", "fallback: b"),
        ("b", "mirror: [{ endpoint: d }, { endpoint: c }]"),
        ("c", "steps: [{ endpoint: d }, { endpoint: a }]"),
        ("d", "fallback: b"),
    ]);
    let errors = env().errors(&circle);
    assert!(errors.contains("flowgate.yaml:5:54: `fallback` leads in a circle: b -> d -> b\n"), "{errors}");
    assert!(errors.contains("flowgate.yaml:4:81: `steps` leads in a circle: a -> b -> c -> a\n"), "{errors}");
    assert_eq!(errors.matches("flowgate.yaml:").count(), 2, "{errors}");

    let deep = file(&[
        ("a", "fallback: b"),
        ("b", "fallback: c"),
        ("c", "fallback: d"),
        ("d", "fallback: e"),
        ("e", "fallback: f"),
        ("f", "path: /f"),
    ]);
    let expected =
        "flowgate.yaml:2:54: `fallback` leads too deep: a -> b -> c -> d -> e -> f\n    expected at most 4 endpoints behind each other";
    assert_eq!(env().errors(&deep), expected);
    env().load(&deep.replacen("fallback: b", "path: /a", 1));
}

#[test]
fn a_split_takes_neither_chains_nor_endpoints_that_require() {
    let split = format!(
        "{}{MORE}routes: [{{ name: s, task_type: llm/v1/chat, destinations: [{{ name: x, traffic_percentage: 100 }}] }}]",
        x("steps: [{ endpoint: y }]")
    );
    let expected = "flowgate.yaml:5:68: destination `x` is a chain\n    expected an endpoint with deployments of its own";
    assert_eq!(env().errors(&split), expected);
    let required = split.replace("steps: [{ endpoint: y }]", &format!("require: {{ a: b }}, {MODEL}"));
    assert!(env().errors(&required).contains("destination `x` has `require`, which calls of a split would pass by"));
}

#[test]
fn conditions_are_refused_at_their_fault() {
    let deployment = |when: &str| {
        format!(
            "endpoints:\n  - name: x\n    endpoint_type: llm/v1/chat\n    deployments:\n      - model: {{ provider: mock }}\n        when: {when}\n"
        )
    };
    for (when, place) in [
        ("a b", "6:17"),
        ("'a b'", "6:18"),
        ("\"a == '\\\"' b\"", "6:26"),
        ("|\n          a ==\n            1 b\n", "8:15"),
        (">-\n          a\n          b\n", "8:11"),
        ("a\n          b", "7:11"),
        ("\"\\u0061 b\"", "6:15"),
        ("$CONDITION", "6:15"),
    ] {
        let errors = env().variable("CONDITION", "a b").errors(&deployment(when));
        assert!(errors.starts_with(&format!("flowgate.yaml:{place}: the condition cannot be read: ")), "{when}\n{errors}");
        assert!(errors.contains("\n    expected a condition, for example `'x' in request.json()`"), "{errors}");
    }
    let older = "model_endpoints:\n  - name: e\n    routes:\n      - model_uri: models:/a/1\n        model_request_condition: \"a b\"\n";
    assert!(env().errors(older).starts_with("flowgate.yaml:5:37: the condition cannot be read: "));
    let both = deployment("a b").replace("mock }", "none }");
    let errors = env().errors(&both);
    assert!(errors.contains("6:17: the condition cannot be read") && errors.contains("unknown provider `none`"), "{errors}");
    let require = x(&format!("require: [{{ when: 'a b', tags: {{ a: b }} }}], {MODEL}"));
    assert!(env().errors(&require).starts_with("flowgate.yaml:2:65: the condition cannot be read: "), "{}", env().errors(&require));
}

#[test]
fn keys_and_doors_are_judged() {
    let model = |config: &str| x(&format!("model: {{ provider: openai, config: {config} }}"));
    let key = |rest: &str| format!("identity: {{ keys: [{{ name: a, key: k, {rest} }}] }}\n{}", x(MODEL));
    for (text, expected) in [
        (model("{ api_keys: [] }"), "`api_keys` is empty\n    expected at least one key"),
        (model("{ api_keys: sk-leak }"), "`api_keys` is text\n    expected a list of keys\n    put brackets around it, or write `api_key`"),
        (model("{ api_keys: [12] }"), "`api_keys` holds a number\n    expected text"),
        (
            model("{ api_key: a, api_keys: [b] }"),
            "`api_keys` is a second key for the same model\n    expected one key\n    list several in `api_keys`",
        ),
        (model("{ api_keys: [sk-leak, sk-leak] }"), "`api_keys` holds the same key twice"),
        (model("{ api_keys: [a, $NONE] }"), "2:95: environment variable NONE is not set"),
        (model("{ api_keis: [a] }"), "unknown key `api_keis`\n    did you mean `api_keys`?"),
        (format!("max_in_flight: 0\n{}", x(MODEL)), "1:16: `max_in_flight` is `0`\n    expected 1 or more"),
        (format!("admin: {{ key: $NONE }}\n{}", x(MODEL)), "1:15: environment variable NONE is not set"),
        (format!("admin: {{ key: '{{{{ secrets.vault:a#b }}}}' }}\n{}", x(MODEL)), "1:15: `key` stands in vault"),
        (key("may_choose_deployment: often"), "`may_choose_deployment` is `often`\n    expected `true` or `false`"),
        (key("require: {}"), "`require` is empty"),
        (key("require: [eu]"), "`require` is a list\n    expected a mapping"),
        (x(&format!("{MODEL}, deployments: [{{ tags: [eu], {MODEL} }}]")), "`tags` is a list\n    expected a mapping"),
    ] {
        let errors = env().errors(&text);
        assert!(errors.contains(expected), "{text}\ngives\n{errors}\nand not\n{expected}");
        assert!(!errors.contains("leak"), "{errors}");
    }
    assert!(Fake::default().list(&format!("admin: {{ key: $NONE }}\n{}", x(MODEL))).config.admin_key.is_none());
}

#[test]
fn what_does_nothing_is_warned_of() {
    let priced = "price: { input: 1, output: 1 }";
    for (keys, task, expected) in [
        (format!("idempotent: true, {MODEL}"), "llm/v1/chat", "56: `idempotent` does nothing here: it is for predict endpoints"),
        (
            format!("min_throughput: 1, {MODEL}"),
            "mlflow/predict",
            "63: `min_throughput` does nothing here: predictions and embeddings write no tokens",
        ),
        (
            format!("min_throughput: 1, {MODEL}"),
            "llm/v1/embeddings",
            "66: `min_throughput` does nothing here: predictions and embeddings write no tokens",
        ),
        (
            format!("retry: {{ attempts: 1, backoff: 1s }}, {MODEL}"),
            "llm/v1/chat",
            "75: `backoff` does nothing here: with `attempts: 1`, nothing is tried again",
        ),
        (
            format!("affinity: principal, {TWO}"),
            "llm/v1/chat",
            "54: `affinity` does nothing here: without `weight` or `rollout` there is no split to pin",
        ),
        (
            format!("prefer: cheapest, {TWO}").replace("alias: a,", &format!("alias: a, {priced},")),
            "llm/v1/chat",
            "52: without a `price`, a deployment is taken for the dearest: `b`",
        ),
        (
            format!("require: {{ region: eu }}, {TWO}").replace("alias: a,", "alias: a, tags: { region: us },"),
            "llm/v1/chat",
            "53: no deployment has the tags that are required here, so none can serve such calls\n    set `tags` on deployments",
        ),
    ] {
        assert_eq!(warned(&keys, task), [expected], "{keys}");
    }
    for (keys, task) in [
        (format!("retry: {{ attempts: 1 }}, upstream: {{ health: /a, ejection: {{}} }}, {MODEL}"), "llm/v1/chat"),
        (format!("prefer: fastest, {TWO}"), "llm/v1/chat"),
        (format!("idempotent: false, min_throughput: 5, hedge: true, {MODEL}").replace("idempotent: false, ", ""), "llm/v1/completions"),
        (format!("require: {{ region: eu }}, {TWO}").replace("alias: a,", "alias: a, tags: { region: [us, eu] },"), "llm/v1/chat"),
    ] {
        assert_eq!(warned(&keys, task), [""; 0], "{keys}");
    }
    let unmet = format!("identity: {{ keys: [{{ name: a, key: k, require: {{ region: eu }} }}] }}\n{}", x(MODEL));
    let said: Vec<_> = env().load(&unmet).warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "flowgate.yaml:1:48: no deployment has the tags that this key requires, so none can serve its calls\n    set `tags` on deployments"
        ]
    );
}
