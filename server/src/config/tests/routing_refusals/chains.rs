//! What is refused about chains, and about what their steps are asked.

use super::*;

#[test]
fn chains_are_judged() {
    let steps = "steps: [{ endpoint: y }]";
    let beside = [
        (MODEL, "model"),
        ("upstream: { ca: x }", "upstream"),
        ("hedge: true", "hedge"),
        ("affinity: principal", "affinity"),
        ("rollout: { steps: [1], every: 1s }", "rollout"),
        ("require: { a: b }", "require"),
        ("prefer: fastest", "prefer"),
        ("mirror: { endpoint: y }", "mirror"),
        ("min_throughput: 1", "min_throughput"),
        ("price: { input: 1, output: 1 }", "price"),
        ("breaker: {}", "breaker"),
        ("concurrency: 1", "concurrency"),
        ("unsupported: drop", "unsupported"),
    ];
    for (key, name) in beside {
        refused(&[(
            &format!("{key}, {steps}"),
            &format!("2:{}: `{name}` stands beside `steps`\n    expected one of the two: a chain", 46 + name.len()),
        )]);
    }
    refused(&[
        (&format!("{TWO}, {steps}"), "`deployments` stands beside `steps`"),
        ("steps: []", "`steps` is empty\n    expected at least one step"),
        ("steps: {}", "`steps` is a mapping\n    expected a list"),
        ("steps: [{ name: a }]", "`endpoint` is missing"),
        ("steps: [{ endpoint: y, inputs: a }]", "unknown key `inputs`\n    did you mean `input`?"),
        ("steps: [{ endpoint: y }, { endpoint: y }]", "duplicate step name `y`; it stands at flowgate.yaml:2:64 already"),
        ("steps: [{ name: a/b, endpoint: y }]", "`name` is `a/b`"),
        (
            "steps: [{ endpoint: y, input: '{{ steps.y.text }}' }]",
            "2:84: `steps.y` is no earlier step\n    expected `request`: the first step has none before it",
        ),
        (
            "steps: [{ name: clean, endpoint: y }, { endpoint: y, input: 'a {{ steps.claen.text }}' }]",
            "2:116: `steps.claen` is no earlier step\n    expected `clean`\n    did you mean `clean`?",
        ),
        (
            "steps: [{ name: a-b, endpoint: y }, { endpoint: y, input: '{{ steps.a }}' }]",
            "`steps.a` is no earlier step\n    expected `a-b`\n    write `steps['a-b']`",
        ),
        ("steps: [{ endpoint: y, input: 'a {{ b c }}' }]", "2:82: the template cannot be read: "),
        ("steps: [{ endpoint: y, input: [a] }]", "`input` is a list\n    expected text"),
    ]);
}

#[test]
fn what_does_nothing_on_a_chain_or_cannot_ask_a_step_is_refused() {
    refused(&[
        (
            "retry: { attempts: 1 }, steps: [{ endpoint: y }]",
            "2:51: `retry` does nothing beside `steps`: a chain makes no attempts of its own\n    expected `retry` on the endpoints of the steps",
        ),
        ("timeouts: { connect: 1s, total: 5s }, steps: [{ endpoint: y }]", "`timeouts.connect` does nothing beside `steps`"),
        ("timeouts: { attempt: 1s }, steps: [{ endpoint: y }]", "2:65: `timeouts.attempt` does nothing beside `steps`"),
        ("timeouts: { first_event: 1s }, steps: [{ endpoint: y }]", "`timeouts.first_event` does nothing beside `steps`"),
        ("timeouts: { idle: none }, steps: [{ endpoint: y }]", "`timeouts.idle` does nothing beside `steps`"),
        (
            "steps: [{ endpoint: p }, { endpoint: y }]",
            "2:64: the first step, `p`, is a mlflow/predict endpoint, which a llm/v1/chat request cannot ask\n    expected `input` beside it",
        ),
        (
            "steps: [{ endpoint: y }, { name: z, endpoint: y, input: '{{ steps .  q.text }}' }]",
            "2:100: `steps.q` is no earlier step\n    expected `y`",
        ),
    ]);
    env().load(&(x("steps: [{ endpoint: p, input: '{{ request.text }}' }, { endpoint: y }]") + MORE));
}

#[test]
fn a_value_between_the_quotes_of_json_is_refused() {
    for (input, column) in [
        (r#"{"messages": [{"content": "Sum up: {{ steps.a.text }}"}]}"#, 136),
        (r#"["a", "{{ steps.a.text|tojson }}"]"#, 108),
        (r#"{"a\\\"b": 1, "c": "\\\"{{ request.path }}"}"#, 125),
    ] {
        refused(&[(
            &format!("steps: [{{ name: a, endpoint: y }}, {{ endpoint: y, input: '{input}' }}]"),
            &format!(
                "2:{column}: `{{{{ … }}}}` stands between the quotes of a JSON text, which a value with quotes in it would end\n    write `{{{{ …|tojson }}}}` without"
            ),
        )]);
    }
    for input in [
        r#"{"messages": [{"content": {{ steps.a.text|tojson }}}], "x": "}"}"#,
        r#"[INST] Sum up: "{{ steps.a.text }}" [/INST]"#,
        r#"say "{{ steps.a.text }}""#,
        r#"{{ "a" ~ steps.a.text }} {"x": "{{ steps.a.text }}"}"#,
    ] {
        env().load(&(x(&format!("steps: [{{ name: a, endpoint: y }}, {{ name: b, endpoint: y, input: '{input}' }}]")) + MORE));
    }
}

/// It would fail each call, or let a caller's text write on.
#[test]
fn an_input_that_must_be_json_and_is_none_is_refused() {
    const CHAT: &str = "  - { name: c, endpoint_type: llm/v1/chat, model: { provider: mock } }\n";
    let steps = |endpoint: &str, input: &str| {
        x(&format!("steps: [{{ name: a, endpoint: {endpoint}, input: '{input}' }}, {{ endpoint: y, input: z }}]")) + MORE + CHAT
    };
    for (endpoint, input, column, why) in [
        ("c", r#"{"messages": [], "temperature": 0.{{ request.json().t }}}"#, 118, "invalid number"),
        ("c", r#"{"messages": [{"role": "user", "content": {{ request.text }}}],}"#, 126, "key must be a string"),
        ("c", r#"{messages: []}"#, 84, "key must be a string"),
        ("c", "{persona: pirate} {{ request.text }}", 84, "key must be a string"),
        ("p", r#" {"inputs": [{{ request.path }} {{ request.text }}]}"#, 116, "expected `,` or `]`"),
        ("p", r#"{"inputs": {{ request.path }}"#, 95, "EOF while parsing an object"),
    ] {
        let errors = env().errors(&steps(endpoint, input));
        let expected =
            format!("flowgate.yaml:2:{column}: the `input` makes no JSON where a text or a number stands for each `{{{{ … }}}}` ({why}");
        assert!(errors.starts_with(&expected) && !errors.contains(" line "), "{input}\n{errors}\n{expected}");
        assert!(errors.contains("a JSON object, which this endpoint takes as a whole request"), "{errors}");
        assert!(errors.contains("`{{ '{' }}`"), "{errors}");
        assert_eq!(errors.lines().filter(|line| line.starts_with("flowgate.yaml:")).count(), 1, "{errors}");
    }
    let both = steps("nowhere", r#"{"a": "{{ request.path }}"}"#);
    assert_eq!(env().errors(&both).lines().filter(|line| line.starts_with("flowgate.yaml:")).count(), 2, "{}", env().errors(&both));
    for (endpoint, input) in [
        ("c", "[INST] {{ request.text }} [/INST]"),
        ("c", "[1 of {{ request.text }}]"),
        ("c", r#"{"messages": [{"role": "user", "content": {{ request.text }}}]}"#),
        ("c", "{{ request.json() }}"),
        ("c", "{{ ''{'' }}persona: pirate} {{ request.text }}"),
        ("y", "{persona: pirate} {{ request.text }}"),
        ("p", "[INST] {{ request.text }} [/INST]"),
        ("p", "[{{ request.path }}, 1]"),
        ("p", r#"{"inputs": [{{ request.path }}], "x": {{ request.text|tojson }}}"#),
    ] {
        assert_eq!(env().load(&steps(endpoint, input)).warnings, [], "{endpoint} {input}");
    }
}

#[test]
fn a_list_that_is_no_json_is_a_text_which_is_warned_of() {
    let warned = |endpoint: &str, input: &str| {
        let text = x(&format!("steps: [{{ name: a, endpoint: {endpoint}, input: '{input}' }}, {{ endpoint: y, input: z }}]")) + MORE;
        env().load(&text).warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let told = warned("p", "[1, {{ request.path }},]");
    let expected = "flowgate.yaml:2:88: the `input` begins as a JSON list and is none (expected value), so that it is handed on as a text";
    assert!(told.starts_with(expected) && told.contains("`{{ '[' }}`"), "{told}");
    assert_eq!(warned("y", "[1, {{ request.path }},]"), "");
}
