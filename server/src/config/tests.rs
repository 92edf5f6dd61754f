//! Whole files, from text to lowered types and to rendered errors.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde_json::json;

use super::{fixture::Fake, *};

const NATIVE: &str = include_str!("testdata/native.yaml");
const ROUTES: &str = include_str!("testdata/routes.yaml");
const MODEL_ENDPOINTS: &str = include_str!("testdata/model_endpoints.yaml");
const MLFLOW: &str = include_str!("testdata/mlflow.yaml");
const MISTAKES: &str = include_str!("testdata/mistakes.yaml");
const MISTAKES_SAID: &str = include_str!("testdata/mistakes.txt");

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

fn secret(deployment: &Deployment) -> &str {
    deployment.credential.as_ref().unwrap().secret.expose_secret()
}

fn bases(deployment: &Deployment) -> Vec<String> {
    match &deployment.place {
        Place::Http(uris) => uris.iter().map(ToString::to_string).collect(),
        Place::Mock(_) | Place::Nowhere(_) => panic!("{:?}", deployment.place),
    }
}

fn reason(deployment: &Deployment) -> &str {
    match &deployment.place {
        Place::Nowhere(reason) => reason,
        Place::Http(_) | Place::Mock(_) => panic!("{:?}", deployment.place),
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
fn the_native_sample_loads_as_printed() {
    let loaded = env().load(NATIVE);
    let config = &loaded.config;
    assert_eq!(config.listen, "127.0.0.1:5000".parse().unwrap());
    assert_eq!(config.admin, "127.0.0.1:5001".parse().unwrap());
    assert_eq!(config.tls.as_ref().unwrap().client_ca, Some("ca.crt".into()));
    assert_eq!(config.trusted_proxies, [Network { address: "10.0.0.0".parse().unwrap(), prefix: 8 }]);
    assert_eq!(config.keys[0].secret.expose_secret(), "app-key-value");
    assert_eq!(config.log, LogFormat::Json);
    assert_eq!(
        (config.max_request_bytes, config.shutdown_delay, config.shutdown_grace, config.max_connection_age.as_secs()),
        (32 << 20, Duration::ZERO, Duration::from_secs(30), 600)
    );

    let chat = endpoint(config, "chat");
    assert_eq!((chat.task, chat.path.as_deref()), (Task::Chat, Some("/llm/openai/chat")));
    assert_eq!(chat.limit, Some(Limit { calls: 10, renewal_period: "minute".to_owned() }));
    let only = &chat.deployments[0];
    assert_eq!((only.alias.as_str(), only.model.as_str(), only.provider.name), ("gpt-4o-mini", "gpt-4o-mini", "openai"));
    assert_eq!(bases(only), ["https://api.openai.com/v1"]);
    assert_eq!((secret(only), only.credential.as_ref().unwrap().prefix), ("sk-openai-value", "Bearer "));
    assert_eq!(Value::Object(only.parameters.clone()), json!({"max_tokens": 100}));

    let iris = &endpoint(config, "iris").deployments[0];
    assert!(reason(iris).contains("mlflow models serve -m models:/IrisClassifier@champion"), "{}", reason(iris));
    let sentiment = endpoint(config, "sentiment");
    assert_eq!(bases(&sentiment.deployments[0]), ["http://10.0.0.5:5001/"]);
    assert!(sentiment.deployments[1].condition.as_ref().unwrap().starts_with("request.json()['dataframe_split']"));
    assert_eq!(weights(sentiment), [("fast", None), ("accurate", None)]);

    let ranker = endpoint(config, "ranker");
    assert_eq!(weights(ranker), [("stable", Some(90)), ("canary", Some(10))]);
    assert_eq!(ranker.timeouts.attempt, Some(Duration::from_secs(20)));
    assert_eq!(ranker.timeouts.total_stream, Some(Duration::from_secs(60)));
    for deployment in &ranker.deployments {
        assert_eq!(deployment.headers["x-team"], "ml");
        assert_eq!(deployment.ca, Some("corp.pem".into()));
        assert_eq!(deployment.proxy.as_ref().unwrap().host(), Some("proxy"));
    }
    assert_eq!(bases(&ranker.deployments[0]).len(), 2);
    for file in ["tls.crt", "tls.key", "ca.crt", "corp.pem"] {
        assert!(loaded.watched.contains(&file.into()), "{file}");
    }
}

#[test]
fn keys_of_later_builds_stand_in_one_warning() {
    let loaded = env().load(NATIVE);
    let warnings = loaded.warnings.iter().map(ToString::to_string);
    let warnings: Vec<_> = warnings.filter(|warning| warning.starts_with("not enforced yet")).collect();
    let line = |text: &str| NATIVE.lines().position(|line| line.contains(text)).unwrap() + 1;
    let expected = format!(
        "not enforced yet: mlflow, line {}; store, line {}; shared, line {}; otlp, line {}; limit, line {}; when, line {}; retry, line {}; \
         cache, line {}",
        line("mlflow: {"),
        line("store:"),
        line("shared:"),
        line("otlp:"),
        line("limit:"),
        line("when:"),
        line("retry:"),
        line("cache:")
    );
    assert_eq!(warnings, [expected]);
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
fn a_check_passes_without_secrets_and_lists_them() {
    let loaded = Fake::default().list(NATIVE);
    let names: Vec<_> = loaded.unset_secrets.iter().map(|unset| unset.name.as_str()).collect();
    assert_eq!(names, ["environment variable APP_KEY", "environment variable MLFLOW_TRACKING_URI", "environment variable OPENAI_API_KEY"]);
    assert_eq!(loaded.unset_secrets[0].place.to_string(), "flowgate.yaml:5:38");
    assert!(loaded.config.endpoints[0].deployments[0].credential.is_none());
    assert!(loaded.warnings.iter().any(|warning| warning.to_string().contains("names a file that cannot be read: `tls.crt`")));

    let errors = Fake::default().errors(NATIVE);
    assert_eq!(errors.matches("is not set").count(), 3, "{errors}");
    assert!(errors.contains("flowgate.yaml:5:38: environment variable APP_KEY is not set"), "{errors}");
}

#[test]
fn a_file_with_five_mistakes_reports_five() {
    assert_eq!(env().errors(MISTAKES), MISTAKES_SAID.trim_end());
}

#[test]
fn mlflows_sample_loads() {
    // The sample names an endpoint that it does not show.
    let errors = env().errors(MLFLOW);
    assert_eq!(
        errors,
        "flowgate.yaml:17:17: destination `chat2` is no endpoint of this file\n    expected `chat`\n    did you mean `chat`?"
    );
    let second = "endpoints: [{ name: chat2, endpoint_type: llm/v1/chat, model: { provider: mock } }]";
    let loaded = env().parse(&[MLFLOW, second], LoadOptions::default()).unwrap();
    let names: Vec<_> = loaded.config.endpoints.iter().map(|endpoint| (endpoint.name.as_str(), endpoint.is_split)).collect();
    assert_eq!(names, [("chat", false), ("split", true), ("chat2", false)]);
    let split = endpoint(&loaded.config, "split");
    assert_eq!(weights(split), [("chat", Some(80)), ("chat2", Some(20))]);
    assert_eq!(secret(&split.deployments[0]), "sk-openai-value");
    assert!(matches!(split.deployments[1].place, Place::Mock(_)));
}

#[test]
fn the_older_routes_load_as_printed() {
    let loaded = env().load(ROUTES);
    let config = &loaded.config;
    let churn = endpoint(config, "churn");
    assert_eq!((churn.task, churn.path.as_deref()), (Task::Predict, Some("/predictions/churn")));
    assert!(reason(&churn.deployments[0]).contains("models:/churn-model/Staging"));

    let writer = &endpoint(config, "writer").deployments[0];
    assert_eq!(Value::Object(writer.parameters.clone()), json!({"temperature": 0.2, "max_tokens": 300}));
    assert_eq!((secret(writer), writer.credential.as_ref().unwrap().header.as_str()), ("sk-anthropic-value", "x-api-key"));
    assert!(reason(writer).contains("does not speak the protocol of anthropic"));

    let helper = endpoint(config, "helper");
    assert_eq!(helper.limit, Some(Limit { calls: 30, renewal_period: "minute".to_owned() }));
    assert_eq!(secret(&helper.deployments[0]), "sk-openai-value");
    let later = "not enforced yet: cache, line 13; rate_limit, line 21";
    assert_eq!(loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), [later]);
}

#[test]
fn model_endpoints_load_as_printed() {
    let loaded = env().load(MODEL_ENDPOINTS);
    let intent = endpoint(&loaded.config, "intent");
    assert_eq!(intent.task, Task::Predict);
    assert_eq!(weights(intent), [("small", None), ("large", None)]);
    assert!(intent.deployments[0].condition.is_none());
    assert!(intent.deployments[1].condition.as_ref().unwrap().contains("> 400"));
    assert!(reason(&intent.deployments[0]).contains("models:/intent-small/production"));
    assert!(loaded.warnings[0].to_string().contains("model_request_condition, line"));
}

#[test]
fn every_sample_fits_the_published_schema() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(schema["properties"]["listen"]["description"].as_str().unwrap().contains("data plane's address"));
    assert!(schema["$defs"]["Model"]["properties"]["config"]["properties"]["openai_api_key"].is_object());
    for text in [NATIVE, ROUTES, MODEL_ENDPOINTS, MLFLOW] {
        let mut report = diagnostic::Report::new(vec![("f".to_owned(), text.to_owned())]);
        assert!(tree::read(0, &mut report).is_some());
        let fake = env();
        let mut reading = reading::Reading::new(vec![("f".to_owned(), text.to_owned())], &fake, LoadOptions::default());
        let mut tree = tree::read(0, &mut reading.report).unwrap();
        assert!(check::check(&mut tree, &schema, &mut reading));
        assert_eq!(reading.report.finish().err(), None);
    }
}

#[test]
fn nothing_prints_a_secret() {
    let text = x("model: { provider: openai, name: m, config: { api_key: sk-literal-value } }, \
         upstream: { proxy: 'http://u:proxy-password@p:1', headers: { x-token: header-secret }, auth: { basic: { username: u, password: $APP_KEY } } }");
    let loaded = env().load(&format!("identity: {{ keys: [{{ name: a, key: $OPENAI_API_KEY }}] }}\n{text}"));
    let printed = format!("{loaded:?}");
    let basic = "dTphcHAta2V5LXZhbHVl";
    assert_eq!(secret(&loaded.config.endpoints[0].deployments[0]), basic);
    for hidden in ["sk-literal-value", "proxy-password", "header-secret", "app-key-value", "sk-openai-value", basic] {
        assert!(!printed.contains(hidden), "{hidden} in {printed}");
    }
    assert!(!format!("{:?}", Source { name: "n".to_owned(), text: "sk-literal".to_owned() }).contains("sk-literal"));
}

/// Each file is refused with a finding that contains the text.
fn refused(cases: &[(String, &str)]) {
    for (text, expected) in cases {
        let errors = env().errors(text);
        assert!(errors.contains(expected), "{text}\ngives\n{errors}\nand not\n{expected}");
        assert!(errors.starts_with("flowgate.yaml:"), "{errors}");
    }
}

const MODEL: &str = "model: { provider: mock }";

#[test]
fn what_mlflow_refuses_is_refused() {
    let two = "  - { name: y, endpoint_type: llm/v1/embeddings, model: { provider: mock } }\n";
    let split = |rest: &str| format!("{}{two}routes:\n  - {{ name: s, {rest} }}\n", x(MODEL));
    refused(&[
        (
            format!("{}  - {{ name: x, endpoint_type: llm/v1/chat, {MODEL} }}", x(MODEL)),
            "flowgate.yaml:3:13: duplicate name `x`; it stands at flowgate.yaml:2:13 already",
        ),
        (format!("endpoints: [{{ name: 'a b', endpoint_type: llm/v1/chat, {MODEL} }}]"), "`name` is `'a b'`\n    expected letters"),
        (format!("endpoints: [{{ name: a, endpoint_type: x, {MODEL} }}]"), "`endpoint_type` is `x`"),
        (x("model: { provider: nope }"), "unknown provider `nope`"),
        (
            x("model: { provider: openai }"),
            "`openai` needs a key\n    expected `api_key` in `config`\n    add `config: { api_key: $OPENAI_API_KEY }`",
        ),
        (x("model: { name: m }"), "`provider` is missing"),
        (x(&format!("{MODEL}, limit: {{ calls: 0, renewal_period: minute }}")), "`calls` is `0`"),
        (x(&format!("{MODEL}, limit: {{ calls: 5, renewal_period: fortnight }}")), "`renewal_period` is `fortnight`"),
        (x(&format!("{MODEL}, limit: {{ calls: 5 }}")), "`renewal_period` is missing"),
        (x("model: { provider: openai, config: { openai_api_key: $NONE } }"), "environment variable NONE is not set"),
        (x("model: { provider: openai, config: { openai_api_key: 12 } }"), "`openai_api_key` is a number\n    expected text"),
        (
            split("task_type: llm/v1/chat, destinations: [{ name: x, traffic_percentage: 90 }]"),
            "the shares of `destinations` are 90 together",
        ),
        (split("task_type: llm/v1/chat, destinations: [{ name: z, traffic_percentage: 100 }]"), "destination `z` is no endpoint"),
        (
            split("task_type: llm/v1/chat, destinations: [{ name: y, traffic_percentage: 100 }]"),
            "destination `y` is a llm/v1/embeddings endpoint",
        ),
        (
            split("task_type: llm/v1/chat, destinations: [{ name: x, traffic_percentage: 101 }]"),
            "`traffic_percentage` is `101`\n    expected 0 to 100",
        ),
        (split("destinations: [{ name: x, traffic_percentage: 100 }]"), "`task_type` is missing"),
        (
            split("task_type: llm/v1/chat, destinations: [{ name: x, traffic_percentage: 50 }, { name: x, traffic_percentage: 50 }]"),
            "duplicate destination `x`",
        ),
        (split("routing_strategy: ROUND_ROBIN, task_type: llm/v1/chat, destinations: []"), "`routing_strategy` is `ROUND_ROBIN`"),
        ("a: [".to_owned(), "not YAML"),
        (String::new(), "there is nothing to serve"),
        ("- a".to_owned(), "`the file` is a list\n    expected a mapping"),
    ]);
}

#[test]
fn azure_flavours_load_and_their_fields_are_checked() {
    let azure = |rest: &str| x(&format!("model: {{ provider: openai, name: m, config: {{ openai_api_key: k, {rest} }} }}"));
    let whole = "openai_api_base: 'https://r.openai.azure.com', openai_deployment_name: d, openai_api_version: '2024-10-21'";
    let loaded = env().load(&azure(&format!("openai_api_type: Azure, {whole}")));
    assert!(reason(&loaded.config.endpoints[0].deployments[0]).contains("`openai_api_type: azure`"));
    refused(&[
        (azure("openai_api_type: azure"), "`openai_deployment_name` is missing, which `openai_api_type: azure` needs"),
        (azure("openai_deployment_name: d"), "`openai_deployment_name` does not go with `openai_api_type: openai`"),
        (azure(&format!("openai_api_type: azuread, openai_organization: o, {whole}")), "`openai_organization` does not go with"),
        (azure("openai_api_type: google"), "`openai_api_type` is `google`"),
        (azure("openai_api_bsae: 'http://x'"), "unknown key `openai_api_bsae`\n    did you mean `openai_api_base`?"),
    ]);
}

#[test]
fn every_other_mistake_is_refused() {
    let mock = |config: &str| x(&format!("model: {{ provider: mock, config: {{ {config} }} }}"));
    let deployments = |list: &str| x(&format!("deployments: [{list}]"));
    let with_path = |path: &str| x(&format!("{MODEL}, path: {path}"));
    refused(&[
        (with_path("chat"), "`path` is `chat`"),
        (with_path("/v1/chat/completions"), "expected another path: Flowgate answers at this one itself"),
        (format!("{}  - {{ name: y, endpoint_type: llm/v1/chat, {MODEL}, path: /p }}", with_path("/p")), "duplicate path `/p`"),
        (x(""), "the endpoint has no model"),
        (x(&format!("{MODEL}, deployments: [{{ {MODEL} }}]")), "`model` stands beside `deployments`"),
        (deployments("{ alias: a }"), "`model` is missing"),
        (deployments("{ alias: a, model: { provider: mock } }, { alias: a, model: { provider: mock } }"), "duplicate alias `a`"),
        (deployments("{ alias: a/b, model: { provider: mock } }"), "`alias` is `a/b`"),
        (deployments("{ weight: 1, when: 'x', model: { provider: mock } }"), "`weight` stands beside `when`"),
        (deployments("{ weight: 0, model: { provider: mock } }"), "all weights are 0"),
        (deployments("{ weight: 1, model: { provider: mock } }, { model: { provider: mock } }"), "`weight` is missing, while other"),
        (deployments("{ weight: -1, model: { provider: mock } }"), "`weight` is `-1`\n    expected 0 or more"),
        (x("model: { provider: mlflow }"), "`mlflow` needs an address\n    expected `url` or `urls`, or `uri`"),
        (x("model: { provider: mlflow, url: 'http://a', urls: ['http://b'] }"), "`urls` stands beside `url`"),
        (x("model: { provider: mlflow, url: 'http://a', uri: 'models:/x/1' }"), "an address stands beside `uri`"),
        (x("model: { provider: openai, uri: 'models:/x/1', config: { api_key: k } }"), "`uri` does not go with `provider: openai`"),
        (
            x("model: { provider: mlflow, url: 'http://a', config: { model_server_url: 'http://b' } }"),
            "the address stands here and in `url`",
        ),
        (x("model: { provider: mlflow, url: 'http://u:hunter2@a' }"), "`url` is no base address"),
        (x("model: { provider: openai, config: { api_key: k, openai_api_key: l } }"), "`openai_api_key` is a second key"),
        (mock("txt: hello"), "unknown key `txt`\n    did you mean `text`?"),
        (mock("delay: soon"), "`delay` is `soon`"),
        (mock("dimensions: 0"), "expected 1 to 65536"),
        (mock("failure: { every: 3 }"), "`failure` says no one way to fail"),
        (mock("failure: { status: 200 }"), "expected 400 to 599"),
        (mock("failure: { mode: explode }"), "`mode` is `explode`"),
        (x(&format!("{MODEL}, timeouts: {{ idle: 0s }}")), "`idle` is `0s`"),
        (x(&format!("{MODEL}, unsupported: ignore")), "expected `refuse` or `drop`"),
        (x(&format!("{MODEL}, upstream: {{ headers: {{ host: x }} }}")), "`host` is no header that can be set here"),
        (x(&format!("{MODEL}, upstream: {{ auth: {{ bearer: x, header: y }} }}")), "`auth` holds no one way"),
        (x(&format!("{MODEL}, upstream: {{ auth: {{ bearer: \"a\\nb\" }} }}")), "`auth` has characters that no header can hold"),
        (x(&format!("{MODEL}, upstream: {{ proxy: 'socks5://u:hunter2@p' }}")), "`proxy` is no address of an HTTP proxy"),
        (x(&format!("{MODEL}, tags: [a]")), "`tags` is a list\n    expected a mapping"),
        (x(&format!("{MODEL}, description: 5")), "expected text\n    put quotes around it: \"5\""),
        (format!("max_request_bytes: big\n{}", x(MODEL)), "expected a size"),
        (format!("trusted_proxies: [10.0.0.0/40]\n{}", x(MODEL)), "expected a network"),
        (format!("cors: {{ allow_origins: ['https://a/b'] }}\n{}", x(MODEL)), "expected an origin"),
        (format!("default_endpoint: xx\n{}", x(MODEL)), "`default_endpoint` is `xx`, which is no endpoint\n    did you mean `x`?"),
        (
            format!("identity: {{ keys: [{{ name: a, key: k }}, {{ name: b, key: k }}] }}\n{}", x(MODEL)),
            "`key` is the same as the key of `a`",
        ),
        (format!("identity: {{ keys: [{{ name: a, key: '{{{{ secrets.vault:p#f }}}}' }}] }}\n{}", x(MODEL)), "`key` stands in vault"),
        (format!("identity: {{ keys: [{{ name: a, key: '' }}] }}\n{}", x(MODEL)), "`key`, whose text is empty, is not set"),
        (format!("cache: {{ ttl: 5 }}\n{}", x(MODEL)), "unknown key `cache`"),
        (x(&format!("{MODEL}, cache: {{ tll: 5 }}")), "unknown key `tll`\n    did you mean `ttl`?"),
    ]);
    let hidden = env().errors(&x("model: { provider: mlflow, url: 'http://u:hunter2@a' }, upstream: { proxy: 'socks5://u:hunter2@p' }"));
    assert!(!hidden.contains("hunter2"), "{hidden}");
}

#[test]
fn older_forms_are_checked_too() {
    let route = |rest: &str| format!("routes: [{{ name: r, {rest} }}]");
    refused(&[
        (route("route_type: mlflow-model, model: { name: m, stage: stagin }"), "`stage` is `stagin`"),
        (route("route_type: mlflow-model, model: { name: m, stage: staging, version: 3 }"), "`version` stands beside `stage`"),
        (route("route_type: mlflow-model, model: { version: 3 }"), "`name` is missing"),
        (route("route_type: llm/v1/chat, model: { name: m }"), "`provider` is missing"),
        (
            route("route_type: llm/v1/chat, model: { provider: openai, name: m, stage: staging, openai_api_key: k }"),
            "only a registered model has",
        ),
        (route("route_type: llm/v1/chat, model: { provider: mock }, task_type: llm/v1/chat"), "`task_type` stands beside `route_type`"),
        (route("model: { provider: mock }"), "`route_type` is missing"),
        (route("endpoint: /x"), "the route is neither a split nor an endpoint"),
        (route("route_type: llm/v1/chat"), "the route has no model"),
        (route("route_type: llm/v1/chat, model: { provider: mock }, rate_limit: { calls: 5, period: often }"), "is `often`"),
        ("model_endpoints: [{ name: e, routes: [{ alias: a }] }]".to_owned(), "`model_uri` is missing"),
        ("model_endpoints: [{ name: e, routs: [] }]".to_owned(), "did you mean `routes`?"),
    ]);
}

#[test]
fn unknown_keys_are_warnings_in_routes_and_where_that_is_wished() {
    let text = "routes:\n  - name: r\n    route_type: llm/v1/chat\n    colour: red\n    model: { provider: openai, size: big, openai_config: { openai_api_key: $APP_KEY, x: 1 }, config: { openai_api_bse: y } }\n";
    let loaded = env().load(text);
    let said: Vec<_> = loaded.warnings.iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(
        said,
        [
            "unknown key `colour` is ignored",
            "unknown key `size` is ignored",
            "unknown key `x` is ignored",
            "unknown key `openai_api_bse` is ignored"
        ]
    );
    assert_eq!(secret(&loaded.config.endpoints[0].deployments[0]), "app-key-value");

    let native = x(&format!("{MODEL}, colour: red"));
    assert!(env().errors(&native).contains("unknown key `colour`"));
    let lenient = LoadOptions { lenient: true, secrets: SecretsMode::Require };
    let loaded = env().parse(&[&native], lenient).unwrap();
    assert_eq!(loaded.warnings[0].place.as_ref().unwrap().to_string(), "flowgate.yaml:2:71");
}

#[test]
fn older_routes_take_versions_parameters_and_addresses() {
    let route = |kind: &str, rest: &str| format!("routes: [{{ name: r, route_type: {kind}, {rest} }}]");
    let uri = |model: &str| {
        let loaded = env().load(&route("mlflow-model", &format!("model: {{ name: m, {model} }}")));
        reason(&loaded.config.endpoints[0].deployments[0]).split_whitespace().find(|word| word.starts_with("models:")).unwrap().to_owned()
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
    assert_eq!((own.credential.as_ref().unwrap().header.as_str(), secret(own)), ("x-k", "two"));
    assert_eq!((both.credential.as_ref().unwrap().prefix, secret(both)), ("Bearer ", "one"));
    assert!(own.proxy.is_some() && own.headers["a"].is_sensitive());
}

#[test]
fn splits_multiply_weights() {
    let text = "endpoints:\n  \
        - { name: a, endpoint_type: llm/v1/chat, timeouts: { total: 5s }, deployments: [{ alias: p, weight: 1, model: { provider: mock } }, { alias: q, weight: 2, model: { provider: mock } }] }\n  \
        - { name: b, endpoint_type: llm/v1/chat, deployments: [{ alias: p, when: x, model: { provider: mock } }, { alias: q, model: { provider: mock } }, { alias: r, model: { provider: mock } }] }\n\
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
         { model: { provider: bedrock, config: { aws_config: { aws_region: eu-central-1, aws_secret_access_key: $APP_KEY } } } }]",
    );
    let config = env().load(&text).config;
    let deployments = &config.endpoints[0].deployments;
    assert_eq!(weights(&config.endpoints[0]).iter().map(|(alias, _)| *alias).collect::<Vec<_>>(), ["m", "2", "3", "4", "5", "6"]);
    assert_eq!(bases(&deployments[2]), ["http://localhost:11434/v1"]);
    assert_eq!(bases(&deployments[3]), ["http://a/v1", "http://b/v1"]);
    assert_eq!((bases(&deployments[4])[0].as_str(), secret(&deployments[4])), ("https://api.groq.com/openai/v1", "k"));
    assert!(reason(&deployments[5]).contains("does not speak the protocol of bedrock"));
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

#[test]
fn broken_files_never_panic_and_always_say_where() {
    for text in [NATIVE, ROUTES, MODEL_ENDPOINTS, MLFLOW, MISTAKES] {
        let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        for (n, at) in ends.iter().enumerate().step_by(17) {
            let (head, tail) = text.split_at(*at);
            let hole = tail.char_indices().nth(1 + n % 11).map_or("", |(end, _)| tail.split_at(end).1);
            for broken in [head.to_owned(), format!("{head}{hole}"), format!("{head}[{tail}"), format!("{head}: &a *a {tail}")] {
                if let Err(found) = env().parse(&[&broken], LoadOptions { lenient: n % 2 == 0, secrets: SecretsMode::List }) {
                    assert!(found.0.iter().all(|each| each.place.is_some()), "{broken}\n{found}");
                }
            }
        }
    }
}
