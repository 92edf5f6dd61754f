//! The files of `testdata`, one in each dialect of YAML: they load as they are printed.

use super::*;

const NATIVE: &str = include_str!("../testdata/native.yaml");
const ROUTES: &str = include_str!("../testdata/routes.yaml");
const MODEL_ENDPOINTS: &str = include_str!("../testdata/model_endpoints.yaml");
const MLFLOW: &str = include_str!("../testdata/mlflow.yaml");
const ROUTING: &str = include_str!("../testdata/routing.yaml");
const MISTAKES: &str = include_str!("../testdata/mistakes.yaml");
const MISTAKES_SAID: &str = include_str!("../testdata/mistakes.txt");

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
    assert_eq!((secret(only), shown(&only.credentials[0]).1), ("sk-openai-value", "Bearer "));
    assert_eq!(Value::Object(only.parameters.clone()), json!({"max_tokens": 100}));

    let iris = &endpoint(config, "iris").deployments[0];
    assert_eq!(own(iris).uri.to_string(), "models:/IrisClassifier@champion");
    let sentiment = endpoint(config, "sentiment");
    assert_eq!(bases(&sentiment.deployments[0]), ["http://10.0.0.5:5001/"]);
    assert!(sentiment.deployments[1].condition.as_ref().unwrap().text().starts_with("request.json()['dataframe_split']"));
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
fn a_check_passes_without_secrets_and_lists_them() {
    let loaded = Fake::default().list(NATIVE);
    let names: Vec<_> = loaded.unset_secrets.iter().map(|unset| unset.name.as_str()).collect();
    assert_eq!(names, ["environment variable APP_KEY", "environment variable MLFLOW_TRACKING_URI", "environment variable OPENAI_API_KEY"]);
    assert_eq!(loaded.unset_secrets[0].place.to_string(), "flowgate.yaml:5:38");
    assert!(loaded.config.endpoints[0].deployments[0].credentials.is_empty());
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
    assert_eq!(own(&churn.deployments[0]).uri.to_string(), "models:/churn-model/Staging");

    let writer = &endpoint(config, "writer").deployments[0];
    assert_eq!(Value::Object(writer.parameters.clone()), json!({"temperature": 0.2, "max_tokens": 300}));
    assert_eq!((secret(writer), shown(&writer.credentials[0]).0), ("sk-anthropic-value", "x-api-key"));
    assert!(matches!(&writer.place, Place::Http(addresses) if addresses[0] == "https://api.anthropic.com/v1"));

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
    assert!(intent.deployments[1].condition.as_ref().unwrap().text().contains("> 400"));
    assert_eq!(own(&intent.deployments[0]).uri.to_string(), "models:/intent-small/Production");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}

#[test]
fn every_sample_fits_the_published_schema() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(schema["properties"]["listen"]["description"].as_str().unwrap().contains("data plane's address"));
    assert!(schema["$defs"]["Model"]["properties"]["config"]["properties"]["openai_api_key"].is_object());
    for text in [NATIVE, ROUTES, MODEL_ENDPOINTS, MLFLOW, ROUTING] {
        let mut report = diagnostic::Report::new(vec![("f".to_owned(), text.to_owned())]);
        assert!(tree::read(0, &mut report).is_some());
        let fake = env().variable("ADMIN_KEY", "k");
        let mut reading = reading::Reading::new(vec![("f".to_owned(), text.to_owned())], &fake, LoadOptions::default());
        let mut tree = tree::read(0, &mut reading.report).unwrap();
        assert!(check::check(&mut tree, &schema, &mut reading));
        assert_eq!(reading.report.finish().err(), None);
    }
}

#[test]
fn nothing_prints_a_secret() {
    let text = x("deployments: [\
         { alias: a, model: { provider: openai, name: m }, upstream: { auth: { basic: { username: u, password: $APP_KEY } } } }, \
         { alias: b, model: { provider: openai, name: m, config: { api_key: sk-literal-value } } }], \
         upstream: { proxy: 'http://u:proxy-password@p:1', headers: { x-token: header-secret } }");
    let loaded = env().load(&format!("identity: {{ keys: [{{ name: a, key: $OPENAI_API_KEY }}] }}\n{text}"));
    let printed = format!("{loaded:?}");
    let basic = "dTphcHAta2V5LXZhbHVl";
    assert_eq!(secret(&loaded.config.endpoints[0].deployments[0]), basic);
    for hidden in ["sk-literal-value", "proxy-password", "header-secret", "app-key-value", "sk-openai-value", basic] {
        assert!(!printed.contains(hidden), "{hidden} in {printed}");
    }
    assert!(!format!("{:?}", Source { name: "n".to_owned(), text: "sk-literal".to_owned() }).contains("sk-literal"));
}

#[test]
fn broken_files_never_panic_and_always_say_where() {
    for text in [NATIVE, ROUTES, MODEL_ENDPOINTS, MLFLOW, MISTAKES, ROUTING] {
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

#[test]
fn keys_of_later_builds_stand_in_one_warning() {
    let loaded = env().load(NATIVE);
    let warnings = loaded.warnings.iter().map(ToString::to_string);
    let warnings: Vec<_> = warnings.filter(|warning| warning.starts_with("not enforced yet")).collect();
    let line = |text: &str| NATIVE.lines().position(|line| line.contains(text)).unwrap() + 1;
    let expected = format!(
        "not enforced yet: store, line {}; shared, line {}; otlp, line {}; limit, line {}; cache, line {}",
        line("store:"),
        line("shared:"),
        line("otlp:"),
        line("limit:"),
        line("cache:")
    );
    assert_eq!(warnings, [expected]);
}
