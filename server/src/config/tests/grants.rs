//! What a credential is got with: nothing of it is passed over in silence.

use super::*;

fn model(provider: &str, rest: &str) -> String {
    x(&format!("model: {{ provider: {provider}, name: m, {rest} }}"))
}

fn config(provider: &str, fields: &str) -> String {
    model(provider, &format!("config: {{ {fields} }}"))
}

fn azure(fields: &str) -> String {
    model("azure", &format!("url: 'https://a.openai.azure.com', config: {{ {fields} }}"))
}

/// The file is refused in these words, at the place where the key stands.
fn refused_at(env: &Fake, text: &str, key: &str, expected: &str) {
    let errors = env.errors(text);
    assert!(errors.contains(expected), "{text}\n{errors}");
    let column = text.lines().nth(1).unwrap().find(key).unwrap() + 1;
    assert!(errors.contains(&format!("flowgate.yaml:2:{column}: ")), "{text}\n{errors}");
}

#[test]
fn nothing_is_silent_beside_a_key() {
    let grants = [
        (azure("api_key: k, client_secret: s"), "client_secret"),
        (azure("api_key: k, tenant_id: t"), "tenant_id"),
        (azure("tenant_id: t, api_key: k, client_id: c"), "client_id"),
        (config("bedrock", "aws_region: us-east-1, api_key: k, aws_profile: p"), "aws_profile"),
        (config("bedrock", "aws_region: us-east-1, api_key: k, aws_config: { aws_role_arn: p }"), "aws_role_arn"),
        (config("bedrock", "aws_region: us-east-1, api_key: k, aws_secret_access_key: p"), "aws_secret_access_key"),
        (config("vertex-ai", "vertex_project: p, api_key: k, vertex_credentials: c"), "vertex_credentials"),
        (config("databricks", "host: 'https://d', api_key: k, client_id: c"), "client_id"),
    ];
    for (text, key) in grants {
        refused_at(&env(), &text, key, &format!("`{key}` does nothing beside `api_key`"));
    }
    let token = config("databricks", "host: 'https://d', token: k, client_id: c");
    refused_at(&env(), &token, "client_id", "`client_id` does nothing beside `token`");
    let several = azure("api_keys: [k, l], client_secret: s");
    refused_at(&env(), &several, "client_secret", "`client_secret` does nothing beside `api_keys`");
}

#[test]
fn nothing_is_silent_beside_auth_of_the_operators_own() {
    let with = |fields: &str| config("bedrock", fields).replace(" }\n", ", upstream: { auth: { bearer: b } } }\n");
    refused_at(&env(), &with("aws_region: us-east-1, aws_profile: p"), "aws_profile", "`aws_profile` does nothing beside `upstream.auth`");
    refused_at(&env(), &with("aws_region: us-east-1, api_key: k"), "api_key", "`api_key` does nothing beside `upstream.auth`");
    refused_at(&env(), &with("aws_region: us-east-1, api_keys: [k]"), "api_keys", "`api_keys` does nothing beside `upstream.auth`");
    let variables = env().variable("AZURE_TENANT_ID", "t").variable("AZURE_CLIENT_ID", "c").variable("AZURE_CLIENT_SECRET", "s");
    variables.load(&azure("api_key: k"));
}

#[test]
fn what_says_more_of_another_field_needs_it() {
    let with = |fields: &str| config("bedrock", &format!("aws_region: us-east-1, {fields}"));
    for (fields, key, other) in [
        ("aws_external_id: e", "aws_external_id", "does nothing without `aws_role_arn`"),
        ("session_length_seconds: 900", "session_length_seconds", "does nothing without `aws_role_arn`"),
        ("aws_session_token: t", "aws_session_token", "does nothing without `aws_access_key_id`"),
        ("aws_access_key_id: a, aws_secret_access_key: s, aws_profile: p", "aws_profile", "does nothing beside `aws_access_key_id`"),
        (
            "aws_config: { aws_access_key_id: a, aws_secret_access_key: s }, aws_secret_access_key: t",
            "aws_secret_access_key: t",
            "says what another field said before",
        ),
    ] {
        let name = key.split(':').next().unwrap();
        refused_at(&env(), &with(fields), key, &format!("`{name}` {other}"));
    }
    let lonely = env().errors(&config("databricks", "host: 'https://d', client_secret: s"));
    assert!(lonely.contains("`client_id` is missing, which `client_secret` needs"), "{lonely}");
}

#[test]
fn what_only_the_usual_address_holds_is_not_silent_beside_another() {
    let host = model("databricks", "url: 'https://d', config: { host: 'https://e', token: t }");
    refused_at(&env(), &host, "host", "`host` does nothing beside `url`");
    let project = config("vertex-ai", "vertex_project: p, api_base: 'https://v'");
    refused_at(&env(), &project, "vertex_project", "`vertex_project` does nothing beside `api_base`");
    env().variable("DATABRICKS_HOST", "https://e").load(&model("databricks", "url: 'https://d', config: { token: t }"));
}

fn region(loaded: &Loaded) -> &str {
    match &loaded.config.endpoints[0].deployments[0].credentials[..] {
        [Access::Granted(Grant::Aws(grant))] => &grant.region,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_region_is_the_files_the_addresss_or_the_environments() {
    let older = || env().variable("AWS_DEFAULT_REGION", "eu-central-1");
    let both = || older().variable("AWS_REGION", "eu-west-1");
    let address = "url: 'https://bedrock-runtime.us-east-2.amazonaws.com'";
    assert_eq!(region(&older().load(&config("bedrock", ""))), "eu-central-1");
    assert_eq!(region(&both().load(&config("bedrock", ""))), "eu-west-1");
    assert_eq!(region(&older().variable("AWS_REGION", "").load(&config("bedrock", ""))), "eu-central-1");
    assert_eq!(region(&both().load(&model("bedrock", address))), "us-east-2");
    assert_eq!(region(&both().load(&model("bedrock", &format!("{address}, config: {{ aws_region: sa-east-1 }}")))), "sa-east-1");
    assert_eq!(region(&both().load(&model("bedrock", "url: 'https://proxy.example'"))), "eu-west-1");
}

#[test]
fn nothing_is_sent_unsigned_for_want_of_a_region() {
    for place in ["url: 'https://proxy.example'", "urls: ['https://a.example', 'https://b.example']", "config: { api_base: 'https://p' }"] {
        for provider in ["bedrock", "sagemaker"] {
            let errors = env().errors(&model(provider, place));
            assert!(errors.contains("`aws_region` is missing, which signatures need"), "{errors}");
        }
    }
    let keyed = env().load(&model("bedrock", "url: 'https://proxy.example', config: { api_key: k }"));
    assert!(matches!(keyed.config.endpoints[0].deployments[0].credentials[..], [Access::Held(_)]));
    let several = "urls: ['https://bedrock-runtime.us-east-2.amazonaws.com', 'https://bedrock-runtime.us-west-2.amazonaws.com']";
    let text = model("bedrock", several);
    refused_at(&env(), &text, "'https://bedrock-runtime.us-w", "`aws_region` is `us-east-2` by one address and `us-west-2` by this one");
}

#[test]
fn what_is_closed_says_so_before_it_asks_for_anything() {
    for fields in ["config: {}", "config: { api_key: $NOT_SET }", "config: { api_base: $NOT_SET }"] {
        for provider in ["mosaicml", "palm", "litellm", "typesafe"] {
            for loaded in [env().load(&model(provider, fields)), env().list(&model(provider, fields))] {
                let found = reason(&loaded.config.endpoints[0].deployments[0]).to_owned();
                assert!(found.starts_with(&format!("{provider} cannot be called: ")), "{provider} {fields}: {found}");
                assert!(loaded.unset_secrets.is_empty(), "{provider} {fields}");
            }
        }
    }
}

#[test]
fn headers_that_a_credential_sets_are_refused() {
    let with = |model: &str, header: &str| {
        let upstream = format!(", upstream: {{ headers: {{ {header}: v }} }} }}\n");
        model.strip_suffix(" }\n").unwrap().to_owned() + &upstream
    };
    let signed = config("bedrock", "aws_region: us-east-1");
    for header in ["authorization", "X-Amz-Date", "x-amz-security-token", "x-amz-content-sha256"] {
        let expected = format!("header `{}` stands beside the signature of each request", header.to_lowercase());
        refused_at(&env(), &with(&signed, header), header, &expected);
    }
    env().load(&with(&signed, "x-amzn-trace-id"));
    env().load(&with(&signed, "x-amz-meta"));
    refused_at(
        &env(),
        &with(&config("openai", "api_key: k"), "authorization"),
        "authorization",
        "header `authorization` stands beside `api_key`",
    );
    let token = with(&config("vertex-ai", "vertex_project: p"), "authorization");
    refused_at(&env(), &token, "authorization", "header `authorization` stands beside the token that is got for this deployment");
    env().load(&with(&config("databricks", "host: 'https://d'"), "authorization"));
}

#[test]
fn what_came_into_headers_from_elsewhere_is_known() {
    let text = config("portkey", "api_key: k, portkey_config: $APP_KEY, portkey_provider: plain")
        .replace(" }\n", ", upstream: { headers: { x-team: ml, x-pass: 'Basic $OPENAI_API_KEY' } } }\n");
    let loaded = env().load(&text);
    let hidden: Vec<_> = loaded.config.endpoints[0].deployments[0].hidden.iter().map(|secret| secret.expose_secret()).collect();
    assert_eq!(hidden, ["app-key-value", "Basic sk-openai-value"]);
}
