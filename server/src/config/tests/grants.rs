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
    assert_eq!(region(&both().load(&model("bedrock", &format!("{address}, config: {{ aws_region: us-east-2 }}")))), "us-east-2");
    let proxied = "url: 'https://proxy.example', config: { aws_region: sa-east-1 }";
    assert_eq!(region(&both().load(&model("bedrock", proxied))), "sa-east-1");
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
}

const EAST: &str = "https://bedrock-runtime.us-east-2.amazonaws.com";
const WEST: &str = "https://bedrock-runtime.us-west-2.amazonaws.com";

#[test]
fn the_regions_of_addresses_must_agree_where_requests_are_signed() {
    let several = format!("urls: ['{EAST}', '{WEST}']");
    let expected = "`aws_region` is `us-east-2` by one address and `us-west-2` by this one";
    refused_at(&env(), &model("bedrock", &several), &format!("'{WEST}"), expected);
    env().load(&model("bedrock", &format!("{several}, config: {{ aws_bearer_token: t }}")));
    env().load(&model("bedrock", &several).replace(" }\n", ", upstream: { auth: { bearer: b } } }\n"));
}

#[test]
fn a_region_that_is_not_that_of_the_address_is_refused() {
    for place in [format!("url: '{EAST}'"), format!("urls: ['{WEST}', '{EAST}']")] {
        let text = model("bedrock", &format!("{place}, config: {{ aws_region: us-west-2 }}"));
        refused_at(&env(), &text, "aws_region", "`aws_region` is `us-west-2`, and an address is in `us-east-2`");
    }
    for region in ["us-east-2", "us-west-2"] {
        let text = model("bedrock", &format!("url: '{EAST}', config: {{ aws_region: {region}, api_key: k }}"));
        refused_at(&env(), &text, "aws_region", "`aws_region` does nothing beside `url`");
    }
}

#[test]
fn an_empty_text_of_a_setting_is_not_set() {
    for (text, key) in [
        (config("bedrock", "aws_region: us-east-1, aws_access_key_id: EMPTY, aws_secret_access_key: s"), "aws_access_key_id"),
        (config("bedrock", "aws_region: us-east-1, aws_role_arn: EMPTY"), "aws_role_arn"),
        (config("databricks", "host: 'https://d', client_id: EMPTY, client_secret: s"), "client_id"),
        (azure("tenant_id: EMPTY, client_id: c, client_secret: s"), "tenant_id"),
    ] {
        for empty in ["''", "$X", "'$X'", "'${ID:-}'"] {
            let (text, env) = (text.replace("EMPTY", empty), || env().variable("X", ""));
            let what = format!("`{key}`, whose text is empty,");
            refused_at(&env(), &text, empty, &format!("{what} is not set"));
            let listed = env().list(&text);
            assert!(listed.unset_secrets.iter().any(|unset| format!("{unset:?}").contains(&what)), "{:?}", listed.unset_secrets);
            assert_eq!(reason(&listed.config.endpoints[0].deployments[0]), format!("`{key}` is not set"));
        }
    }
}

#[test]
fn what_is_missing_is_missing_whether_secrets_are_set_or_not() {
    for (text, expected) in [
        (
            config("bedrock", "aws_region: us-east-1, aws_secret_access_key: $S"),
            "`aws_access_key_id` is missing, which `aws_secret_access_key` needs",
        ),
        (config("bedrock", "aws_region: $R, aws_access_key_id: a"), "`aws_secret_access_key` is missing, which `aws_access_key_id` needs"),
        (azure("client_secret: $S, client_id: c"), "`tenant_id` is missing, which `client_secret` needs"),
        (azure("client_secret: $S, tenant_id: t"), "`client_id` is missing, which `client_secret` needs"),
        (config("databricks", "host: 'https://d', client_secret: $S"), "`client_id` is missing, which `client_secret` needs"),
    ] {
        let set = env().variable("S", "s").variable("R", "us-east-1").errors(&text);
        let listed = env().parse(&[&text], LoadOptions { secrets: SecretsMode::List, lenient: false }).unwrap_err().to_string();
        assert!(set.contains(expected) && listed.contains(expected), "{text}\n{set}\n{listed}");
    }
    let signed = "config: { aws_region: us-east-1, aws_access_key_id: a, aws_secret_access_key: $S }";
    let signed = model("bedrock", signed).replace(" }\n", ", upstream: { headers: { authorization: v } } }\n");
    let listed = env().parse(&[&signed], LoadOptions { secrets: SecretsMode::List, lenient: false }).unwrap_err().to_string();
    assert!(listed.contains("header `authorization` stands beside the signature of each request"), "{listed}");
}

#[test]
fn variables_alone_make_no_grant_beside_the_header_of_its_token() {
    let both = || env().variable("DATABRICKS_CLIENT_ID", "c").variable("DATABRICKS_CLIENT_SECRET", "s");
    let headers = |text: String| text.replace(" }\n", ", upstream: { headers: { authorization: v } } }\n");
    let plain = config("databricks", "host: 'https://d'");
    let granted = |loaded: &Loaded| loaded.config.endpoints[0].deployments[0].credentials.len();
    assert_eq!(granted(&both().load(&plain)), 1);
    assert_eq!(granted(&both().load(&headers(plain.clone()))), 0);
    let part = headers(config("databricks", "host: 'https://d', client_id: c"));
    refused_at(&both(), &part, "authorization", "header `authorization` stands beside the token");
    let entra = |env: Fake| env.variable("AZURE_TENANT_ID", "t").variable("AZURE_CLIENT_ID", "c").variable("AZURE_CLIENT_SECRET", "s");
    assert_eq!(granted(&entra(env()).load(&azure("api: chat"))), 1);
    let errors = entra(env()).errors(&headers(azure("api: chat")));
    assert!(errors.contains("`azure` needs a key") && !errors.contains("token"), "{errors}");
}

#[test]
fn variables_are_a_part_of_a_grant_only_where_the_file_has_another() {
    for (name, field, missing, other) in [
        ("DATABRICKS_CLIENT_ID", "client_id: c", "client_secret", "DATABRICKS_CLIENT_SECRET"),
        ("DATABRICKS_CLIENT_SECRET", "client_secret: s", "client_id", "DATABRICKS_CLIENT_ID"),
    ] {
        let loaded = env().variable(name, "v").load(&config("databricks", "host: 'https://d'"));
        assert!(loaded.config.endpoints[0].deployments[0].credentials.is_empty());
        let errors = env().errors(&config("databricks", &format!("host: 'https://d', {field}")));
        assert!(errors.contains(&format!("expected `{missing}` in `config`, or the environment variable {other}")), "{errors}");
    }
    let errors = env().variable("AZURE_CLIENT_SECRET", "s").errors(&azure("api: chat"));
    assert!(errors.contains("`azure` needs a key") && !errors.contains("is missing"), "{errors}");
    let errors = env().variable("AZURE_CLIENT_SECRET", "s").errors(&azure("client_id: c"));
    assert!(errors.contains("`tenant_id` is missing, which `client_id` needs\n    expected `tenant_id` in `config`, or the environment variable AZURE_TENANT_ID"), "{errors}");
    let errors = env().errors(&azure("tenant_id: 'a b', client_id: c, client_secret: s"));
    assert!(errors.contains("`tenant_id` makes no address of a token server"), "{errors}");
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

    let basic =
        model("openai", "url: 'https://o'").replace(" }\n", ", upstream: { auth: { basic: { username: u, password: plain-words } } } }\n");
    let hidden = &env().load(&basic).config.endpoints[0].deployments[0].hidden;
    assert_eq!(hidden.iter().map(|secret| secret.expose_secret()).collect::<Vec<_>>(), ["plain-words"]);
}
