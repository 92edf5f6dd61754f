//! What is refused, in the words and at the place where a person finds it.

use super::*;

/// Each file is refused with a finding that contains the text.
fn refused(cases: &[(String, &str)]) {
    for (text, expected) in cases {
        let errors = env().errors(text);
        assert!(errors.contains(expected), "{text}\ngives\n{errors}\nand not\n{expected}");
        assert!(errors.starts_with("flowgate.yaml:"), "{errors}");
    }
}

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
    assert_eq!(loaded.config.endpoints[0].deployments[0].provider.name, "azure");
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
        (x("model: { provider: mlflow, oip: 'http://a', uri: 'models:/x/1' }"), "`oip` stands beside `uri`"),
        (x("model: { provider: mlflow, oip: 'http://a', url: 'http://b' }"), "`oip` stands beside `url`"),
        (x("model: { provider: openai, oip: 'http://a', config: { api_key: k } }"), "`oip` does not go with `provider: openai`"),
        (x("model: { provider: mlflow, oip: 'a:8001' }"), "expected an address, for example `http://10.0.0.5:5001`"),
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
fn grants_need_what_makes_them() {
    let azure = |config: &str| x(&format!("model: {{ provider: azure, url: 'https://a.openai.azure.com', config: {{ {config} }} }}"));
    let bedrock = |config: &str| x(&format!("model: {{ provider: bedrock, name: m, config: {{ {config} }} }}"));
    for whole in [
        azure("tenant_id: t, client_id: c, client_secret: $APP_KEY"),
        bedrock("aws_region: eu-west-1"),
        bedrock("aws_config: { aws_region: eu-west-1, aws_access_key_id: AKID, aws_secret_access_key: $APP_KEY, aws_role_arn: arn }"),
    ] {
        let config = env().load(&whole).config;
        assert!(matches!(config.endpoints[0].deployments[0].credentials[..], [Access::Granted(_)]), "{whole}");
    }
    refused(&[
        (azure("tenant_id: t"), "`azure` needs a key"),
        (azure("client_id: c, client_secret: $APP_KEY"), "`tenant_id` is missing, which `client_secret` needs"),
        (bedrock(""), "`bedrock` needs `aws_region`"),
        (bedrock("aws_region: eu-west-1, aws_access_key_id: AKID"), "`aws_secret_access_key` is missing, which `aws_access_key_id` needs"),
        (
            bedrock("aws_region: eu-west-1, aws_secret_access_key: $APP_KEY"),
            "`aws_access_key_id` is missing, which `aws_secret_access_key` needs",
        ),
        (bedrock("aws_region: eu-west-1, aws_role_arn: a, session_length_seconds: 60"), "`session_length_seconds` is no length"),
        (bedrock("aws_region: a b"), "`bedrock` needs `aws_region`"),
    ]);
    let unset = env().list(&azure("tenant_id: t, client_id: c, client_secret: $NOT_SET"));
    assert!(unset.config.endpoints[0].deployments[0].credentials.is_empty());
}

#[test]
fn templates_of_a_model_server_are_judged_at_their_place() {
    let own = |config: &str| {
        let model = format!("model: {{ provider: http, url: 'http://h:1', config: {{ {config} }} }}");
        x(&model).replace("llm/v1/chat", "mlflow/predict")
    };
    refused(&[
        (own("request: '{\"a\": {{ row }}}'"), "the template cannot be read: `row` is unknown; did you mean `rows`?"),
        (own("response: '{{ request.json }}'"), "`request` is unknown"),
        (own("request: '{\"a\": \"{{ rows }}\"}'"), "stands between the quotes of a JSON text"),
        (
            own("request: '{\"a\": -{{ rows }}}'"),
            "the template cannot be read: it makes no JSON where a text or a number stands for each `{{ … }}`",
        ),
        (own("request: 'say {{ rows }}', content_type: application/problem+json"), "it makes no JSON where"),
        (own("response: '{ {{ response }}'"), "it makes no JSON where"),
        (own("method: GET, request: '[{{ rows }}]'"), "a query is made of an object of texts"),
        (own("method: DELETE"), "`method` is `DELETE`\n    expected `POST`, `PUT`, `PATCH` or `GET`"),
        (own("method: GET"), "`method: GET` sends no body, and nothing says what stands in the query\n    expected `request`"),
        (own("method: GET, request: '{}', content_type: a/b"), "`content_type` does nothing beside `method: GET`"),
        (own("path: predict"), "`path` is `predict`\n    expected a path below the address, for example `/predict`"),
        (own("content_type: json"), "`content_type` is `json`\n    expected a media type"),
        (own("reqest: x"), "did you mean `request`?"),
        (x("model: { provider: http }").replace("llm/v1/chat", "mlflow/predict"), "`http` needs an address"),
    ]);
    assert!(
        env().load(&own("request: 'say {{ rows }}', content_type: text/plain")).config.endpoints[0].deployments[0]
            .templates
            .request
            .is_some()
    );
    // What a body is to be is not known then.
    for config in
        ["content_type: $NOT_SET, request: 'say {{ rows }}'", "content_type: $NOT_SET, method: $NOT_SET, request: 'say {{ rows }}'"]
    {
        assert!(env().list(&own(config)).config.endpoints[0].deployments[0].templates.request.is_some());
        let errors = env().errors(&own(config));
        assert!(errors.contains("NOT_SET") && !errors.contains("makes no JSON"), "{errors}");
    }
    let wrong = env().errors(&own("content_type: text, request: 'say {{ rows }}'"));
    assert!(wrong.contains("`content_type` is `text`") && !wrong.contains("makes no JSON"), "{wrong}");
    let known = env().variable("CT", "application/json").errors(&own("content_type: $CT, request: 'say {{ rows }}'"));
    assert!(known.contains("makes no JSON"), "{known}");
    // A query and the body that takes its place are both made of JSON.
    let unset =
        env().parse(&[&own("method: $NOT_SET, request: 'say {{ rows }}'")], LoadOptions { secrets: SecretsMode::List, lenient: false });
    assert!(unset.unwrap_err().to_string().contains("it makes no JSON where"));
    let loaded = env().load(&own("request: '{{ rows }}', response: '{{ response }}', path: '/p?v=1'"));
    let deployment = &loaded.config.endpoints[0].deployments[0];
    assert!(deployment.templates.request.is_some() && deployment.templates.response.is_some());
    assert_eq!((deployment.settings.get("path"), deployment.settings.get("method")), ("/p?v=1", "POST"));
}
