//! Whole files, from text to lowered types: what keys mean together. Samples and refusals have files of their own.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde_json::json;

use super::{fixture::Fake, *};

mod grants;
mod media;
mod models;
mod prices;
mod refusals;
mod routing;
mod routing_refusals;
mod samples;

const MODEL: &str = "model: { provider: mock }";

fn env() -> Fake {
    Fake::default()
        .variable("APP_KEY", "app-key-value")
        .variable("OPENAI_API_KEY", "sk-openai-value")
        .variable("ANTHROPIC_API_KEY", "sk-anthropic-value")
        .variable("MLFLOW_TRACKING_URI", "http://mlflow:5000")
        .text("tls.crt", "crt")
        .text("tls.key", "key")
        .text("ca.crt", "ca")
        .text("corp.pem", "pem")
}

fn endpoint<'a>(config: &'a Config, name: &str) -> &'a Endpoint {
    config.endpoints.iter().find(|endpoint| endpoint.name == name).unwrap()
}

/// The header of a credential, what stands before the secret there, and the secret.
fn shown(access: &Access) -> (&str, &'static str, &str) {
    match access {
        Access::Held(Credential::Header { header, prefix, secret }) => (header.as_str(), prefix, secret.expose_secret()),
        other => panic!("{other:?}"),
    }
}

fn secret(deployment: &Deployment) -> &str {
    shown(&deployment.credentials[0]).2
}

fn bases(deployment: &Deployment) -> Vec<String> {
    match &deployment.place {
        Place::Http(uris) => uris.iter().map(ToString::to_string).collect(),
        Place::Model(_) | Place::Mock(_) | Place::Nowhere(_) => panic!("{:?}", deployment.place),
    }
}

fn reason(deployment: &Deployment) -> &str {
    match &deployment.place {
        Place::Nowhere(reason) => reason,
        Place::Http(_) | Place::Model(_) | Place::Mock(_) => panic!("{:?}", deployment.place),
    }
}

/// The model that Flowgate runs.
fn own(deployment: &Deployment) -> &Model {
    match &deployment.place {
        Place::Model(model) => model,
        Place::Http(_) | Place::Mock(_) | Place::Nowhere(_) => panic!("{:?}", deployment.place),
    }
}

fn weights(endpoint: &Endpoint) -> Vec<(&str, Option<u32>)> {
    endpoint.deployments.iter().map(|deployment| (deployment.alias.as_str(), deployment.weight)).collect()
}

/// An endpoint called `x` with these keys.
fn x(rest: &str) -> String {
    format!("endpoints:\n  - {{ name: x, endpoint_type: llm/v1/chat, {rest} }}\n")
}

#[test]
fn timeouts_of_streams_are_warned_of_where_no_stream_is() {
    let of = |task: &str, timeouts: &str| {
        let text =
            format!("endpoints:\n  - name: x\n    endpoint_type: {task}\n    model: {{ provider: mock }}\n    timeouts:\n{timeouts}");
        env().load(&text).warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let both = "      first_event: 1s\n      idle: none\n      attempt: 1s\n";
    for task in ["mlflow/predict", "llm/v1/embeddings"] {
        let warnings = of(task, both);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].starts_with("flowgate.yaml:6:20: `first_event` does nothing here"), "{warnings:?}");
        assert!(warnings[1].starts_with("flowgate.yaml:7:13: `idle` does nothing here"), "{warnings:?}");
        assert!(warnings[1].contains("`attempt`"), "{warnings:?}");
        assert!(of(task, "      attempt: 1s\n      total: 1s\n").is_empty());
    }
    for task in ["llm/v1/chat", "llm/v1/completions"] {
        assert!(of(task, both).is_empty());
    }
}

#[test]
fn a_file_that_is_not_there_is_named_for_every_command() {
    let Err(found) = load(&["/nowhere/flowgate.yaml".into()], LoadOptions::default()) else { panic!("it loads") };
    let found = found.to_string();
    assert!(found.starts_with("cannot read /nowhere/flowgate.yaml: No such file"), "{found}");
    assert!(!found.contains("--"), "{found}");
}

#[test]
fn older_routes_take_versions_parameters_and_addresses() {
    let route = |kind: &str, rest: &str| format!("routes: [{{ name: r, route_type: {kind}, {rest} }}]");
    let uri = |model: &str| {
        let loaded = env().load(&route("mlflow-model", &format!("model: {{ name: m, {model} }}")));
        own(&loaded.config.endpoints[0].deployments[0]).uri.to_string()
    };
    for (model, expected) in [
        ("version: 3", "3"),
        ("version: '3'", "3"),
        ("stage: PRODUCTION", "Production"),
        ("stage: latest", "latest"),
        ("version: null", "latest"),
    ] {
        assert_eq!(uri(model), format!("models:/m/{expected}"), "{model}");
    }
    let served = route("mlflow-model", "model: { provider: mlflow-model-serving, config: { model_server_url: 'http://m:5001' } }");
    assert_eq!(bases(&env().load(&served).config.endpoints[0].deployments[0]), ["http://m:5001/"]);

    let parameters = "model: { provider: openai, openai_api_key: k, config: { temperature: 0.5, top_p: $ONE } }, config: { temperature: 1, max_tokens: 5 }";
    let loaded = env().variable("ONE", "1").load(&route("llm/v1/completions", parameters));
    let expected = json!({"temperature": 0.5, "top_p": 1, "max_tokens": 5});
    assert_eq!(Value::Object(loaded.config.endpoints[0].deployments[0].parameters.clone()), expected);
}

#[test]
fn overlays_win_and_keep_their_places() {
    let base = "listen: 127.0.0.1:1\nendpoints:\n  - name: x\n    endpoint_type: llm/v1/chat\n    deployments:\n      - { alias: a, weight: 1, model: { provider: mock } }\n      - { alias: b, weight: 1, model: { provider: mock } }\n";
    let over = "listen: 127.0.0.1:2\nendpoints:\n  - name: x\n    deployments: [{ alias: b, weight: 3 }]\n  - { name: y, endpoint_type: llm/v1/chat, model: { provider: mock } }\n";
    let loaded = env().parse(&[base, over], LoadOptions::default()).unwrap();
    assert_eq!(loaded.config.listen.port(), 2);
    assert_eq!(weights(&loaded.config.endpoints[0]), [("a", Some(1)), ("b", Some(3))]);
    assert_eq!(loaded.config.endpoints[1].name, "y");

    let wrong = "endpoints:\n  - name: x\n    deployments: [{ alias: b, weight: much }]\n    pth: /x\nlisten: nowhere\n";
    let errors = env().parse(&[base, wrong], LoadOptions::default()).unwrap_err().to_string();
    assert_eq!(errors.matches("overlay.yaml:").count(), 3, "{errors}");
    assert!(errors.contains("overlay.yaml:3:39: `weight` is `much`"), "{errors}");
}

#[test]
fn placeholders_stand_in_any_scalar() {
    let text = "listen: ${HOST:-127.0.0.1}:$PORT\nmax_request_bytes: $SIZE\n\
        endpoints:\n  - name: x\n    endpoint_type: llm/v1/chat\n    description: '$WORDS'\n    deployments:\n\
        \x20     - { weight: $WEIGHT, model: { provider: openai, url: '${URL}', config: { api_key: '{{ ENV_APP_KEY }}' },\n\
        \x20         parameters: { max_tokens: $WEIGHT, stop: '$WEIGHT', user: $APP_KEY } } }\n";
    let fake = env()
        .variable("PORT", "7000")
        .variable("SIZE", "1024")
        .variable("WORDS", "42")
        .variable("WEIGHT", "7")
        .variable("URL", "http://v/v1");
    let config = fake.load(text).config;
    assert_eq!((config.listen.port(), config.max_request_bytes), (7000, 1024));
    let only = &config.endpoints[0].deployments[0];
    assert_eq!((config.endpoints[0].description.as_str(), only.weight, secret(only)), ("42", Some(7), "app-key-value"));
    assert_eq!(bases(only), ["http://v/v1"]);
    assert_eq!(Value::Object(only.parameters.clone()), json!({"max_tokens": 7, "stop": "7", "user": "app-key-value"}));

    let errors = env()
        .variable("PORT", "x")
        .variable("SIZE", "1")
        .variable("WORDS", "w")
        .variable("WEIGHT", "heavy")
        .variable("URL", "u")
        .errors(text);
    assert!(errors.contains("`weight` is `$WEIGHT`\n    expected a whole number"), "{errors}");
    assert!(!errors.contains("heavy"), "a variable's value is not shown: {errors}");
}

#[test]
fn secrets_come_from_files_and_managers_keep_an_endpoint_from_serving() {
    let model = |key: &str| x(&format!("model: {{ provider: openai, config: {{ api_key: '{key}' }} }}"));
    let file = env().text("/run/secrets/openai", "from-file\n");
    let loaded = file.load(&model("/run/secrets/openai"));
    assert_eq!(secret(&loaded.config.endpoints[0].deployments[0]), "from-file");
    assert!(loaded.watched.contains(&"/run/secrets/openai".into()));

    let store = format!("secrets: {{ source: file, prefix: /run/secrets }}\n{}", model("{{ secrets.openai }}"));
    assert_eq!(secret(&env().text("/run/secrets/openai", "from-file\n").load(&store).config.endpoints[0].deployments[0]), "from-file");

    for text in [model("{{ secrets.aws:id#key }}"), format!("secrets: {{ source: vault }}\n{}", model("{{ secrets.openai }}"))] {
        let loaded = env().load(&text);
        assert!(reason(&loaded.config.endpoints[0].deployments[0]).contains("which this build does not read yet"));
        assert!(loaded.warnings[0].message.starts_with("not enforced yet: secrets."), "{:?}", loaded.warnings);
    }
    let strange = env().errors(&model("{{ openai }}"));
    assert!(strange.contains("expected `$NAME`, `${NAME:-default}`, `{{ secrets.NAME }}`"), "{strange}");
}

#[test]
fn a_deployments_upstream_wins_over_its_endpoints() {
    let text = "endpoints:\n  - name: x\n    endpoint_type: mlflow/predict\n    upstream: { proxy: 'http://p:1', headers: { a: '1', b: '1' }, auth: { bearer: one } }\n    \
        deployments:\n      - { alias: own, weight: 1, model: { provider: mlflow, url: 'http://a' }, upstream: { headers: { b: '2' }, auth: { header: x-k, value: two } } }\n      \
        - { alias: both, weight: 1, model: { provider: mlflow, url: 'http://b' } }\n";
    let config = env().load(text).config;
    let [own, both] = config.endpoints[0].deployments.as_slice() else { panic!() };
    assert_eq!(
        (&own.headers["a"], &own.headers["b"], &both.headers["b"]),
        (&"1".parse().unwrap(), &"2".parse().unwrap(), &"1".parse().unwrap())
    );
    assert_eq!((shown(&own.credentials[0]).0, secret(own)), ("x-k", "two"));
    assert_eq!((shown(&both.credentials[0]).1, secret(both)), ("Bearer ", "one"));
    assert!(own.proxy.is_some() && own.headers["a"].is_sensitive());
}

#[test]
fn splits_multiply_weights() {
    let text = "endpoints:\n  \
        - { name: a, endpoint_type: llm/v1/chat, timeouts: { total: 5s }, deployments: [{ alias: p, weight: 1, model: { provider: mock } }, { alias: q, weight: 2, model: { provider: mock } }] }\n  \
        - { name: b, endpoint_type: llm/v1/chat, deployments: [{ alias: p, when: 'True', model: { provider: mock } }, { alias: q, model: { provider: mock } }, { alias: r, model: { provider: mock } }] }\n\
        routes: [{ name: s, task_type: llm/v1/chat, destinations: [{ name: a, traffic_percentage: 40 }, { name: b, traffic_percentage: 60 }] }]\n";
    let config = env().load(text).config;
    let split = endpoint(&config, "s");
    assert_eq!(weights(split), [("a.p", Some(40)), ("a.q", Some(80)), ("b.p", None), ("b.q", Some(180)), ("b.r", Some(0))]);
    assert!(split.is_split && split.deployments[2].condition.is_some());
    assert_eq!((split.timeouts.total_unary, split.timeouts.total_stream), (Some(Duration::from_secs(600)), None));

    let huge = text.replace("weight: 1", "weight: 4294967295").replace("weight: 2", "weight: 4294967294");
    let config = env().load(&huge).config;
    let sum: u64 = endpoint(&config, "s").deployments.iter().filter_map(|each| each.weight).map(u64::from).sum();
    let first = f64::from(endpoint(&config, "s").deployments[0].weight.unwrap());
    assert!((first / sum as f64 - 0.2).abs() < 1e-6, "{first} of {sum}");
}

#[test]
fn aliases_and_places_have_defaults() {
    let text = x(
        "deployments: [{ model: { provider: mock, name: m } }, { model: { provider: mock, name: m } }, { model: { provider: ollama } }, \
         { model: { provider: vllm, urls: ['http://a/v1/', 'http://b/v1'] } }, { model: { provider: Groq, config: { groq_api_key: k } } }, \
         { model: { provider: palm, config: { api_key: $APP_KEY } } }]",
    );
    let config = env().load(&text).config;
    let deployments = &config.endpoints[0].deployments;
    assert_eq!(weights(&config.endpoints[0]).iter().map(|(alias, _)| *alias).collect::<Vec<_>>(), ["m", "2", "3", "4", "5", "6"]);
    assert_eq!(bases(&deployments[2]), ["http://localhost:11434/v1"]);
    assert_eq!(bases(&deployments[3]), ["http://a/v1", "http://b/v1"]);
    assert_eq!((bases(&deployments[4])[0].as_str(), secret(&deployments[4])), ("https://api.groq.com/openai/v1", "k"));
    assert_eq!(reason(&deployments[5]), "palm cannot be called: its service is closed; use `provider: gemini`, which took its place");
}

#[test]
fn the_mock_takes_units() {
    let text = x(
        "model: { provider: mock, config: { text: hi, tokens: 20, first_delay: 50ms, delay: 0.01, predictions: [1, 2.5], dimensions: 3, \
         failure: { every: 5, mode: error_event } } }",
    );
    let config = env().load(&text).config;
    let Place::Mock(mock) = &config.endpoints[0].deployments[0].place else { panic!() };
    let failure = MockFailure { every: 5, status: None, mode: MockFailureMode::ErrorEvent };
    let expected = Mock {
        text: Some("hi".to_owned()),
        tokens: Some(20),
        first_delay: Duration::from_millis(50),
        delay: Duration::from_millis(10),
        predictions: Some(json!([1, 2.5])),
        dimensions: 3,
        failure: Some(failure),
    };
    assert_eq!(*mock, expected);
}

#[test]
fn an_open_door_off_loopback_is_a_warning() {
    let loaded = env().load(&format!("listen: 0.0.0.0:5000\n{}", x(MODEL)));
    assert!(loaded.warnings[0].message.contains("anybody who reaches 0.0.0.0:5000 may call"));
    assert!(env().load(&x(MODEL)).warnings.is_empty());
    let closed = format!("listen: 0.0.0.0:5000\nidentity: {{ keys: [{{ name: a, key: $NONE }}] }}\n{}", x(MODEL));
    assert!(env().list(&closed).warnings.is_empty(), "a key that is not set yet is no open door");
}

#[test]
fn an_unset_address_passes_a_check() {
    let loaded = env().list(&x("model: { provider: mlflow, url: $MODEL_URL }").replace("llm/v1/chat", "mlflow/predict"));
    assert_eq!(reason(&loaded.config.endpoints[0].deployments[0]), "its address is not set");
    assert_eq!(loaded.unset_secrets[0].name, "environment variable MODEL_URL");
}

#[test]
fn files_are_loaded_and_watched() {
    let folder = tempfile::tempdir().unwrap();
    let (path, key) = (folder.path().join("flowgate.yaml"), folder.path().join("key"));
    std::fs::write(&key, "from a file\n").unwrap();
    std::fs::write(&path, x("model: { provider: openai, config: { api_key: key } }")).unwrap();
    let loaded = load(std::slice::from_ref(&path), LoadOptions::default()).unwrap();
    assert_eq!(loaded.watched, [path, key]);
    assert_eq!(secret(&loaded.config.endpoints[0].deployments[0]), "from a file");
    let missing = load(&[folder.path().join("none.yaml")], LoadOptions::default()).unwrap_err();
    assert!(missing.to_string().starts_with("cannot read "), "{missing}");
}
