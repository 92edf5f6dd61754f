//! What is asked of a registry and what its answers, its refusals and its absence mean.

use std::{sync::Mutex, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, StatusCode};

use super::*;
use crate::{config::fixture::Fake, mlflow::testing::fetch};

const VERSION: &str = r#"{"name":"Iris","version":"VERSION","creation_timestamp":17,"current_stage":"Production","source":"models:/m-1",
    "run_id":"r1","status":"READY","aliases":["champion"],"tags":[{"key":"a","value":"b"}]}"#;

fn version(number: &str) -> String {
    VERSION.replace("VERSION", number)
}

/// Of a server that knows one model.
fn answer(target: &str) -> (u16, String) {
    let (path, query) = target.strip_prefix("/root/api/2.0/mlflow/").unwrap().split_once('?').unwrap();
    let missing = |what: &str| (404, format!(r#"{{"error_code":"RESOURCE_DOES_NOT_EXIST","message":"{what} not found"}}"#));
    match (path, query) {
        ("model-versions/get", "name=Iris&version=2") => (200, format!(r#"{{"model_version":{}}}"#, version("2"))),
        ("model-versions/get", "name=Iris&version=4") => {
            (200, r#"{"model_version":{"name":"Iris","version":"4","status":"PENDING_REGISTRATION"}}"#.to_owned())
        }
        ("registered-models/alias", "name=Iris&alias=champion") => (200, format!(r#"{{"model_version":{}}}"#, version("2"))),
        ("registered-models/get", "name=Iris") => (200, r#"{"registered_model":{"name":"Iris"}}"#.to_owned()),
        ("registered-models/search", "max_results=200") => (200, r#"{"registered_models":[{"name":"Iris"},{"name":"Wine"}]}"#.to_owned()),
        ("registered-models/alias", "name=Iris&alias=none") => {
            (400, r#"{"error_code":"INVALID_PARAMETER_VALUE","message":"Registered model alias none not found."}"#.to_owned())
        }
        ("registered-models/get-latest-versions", "name=Iris") => {
            (200, format!(r#"{{"model_versions":[{},{}]}}"#, version("9"), version("10")))
        }
        ("registered-models/get-latest-versions", "name=Iris&stages=Production") => {
            (200, format!(r#"{{"model_versions":[{}]}}"#, version("2")))
        }
        ("registered-models/get-latest-versions", "name=Iris&stages=Staging") => (200, "{}".to_owned()),
        ("model-versions/get-download-uri", "name=Iris&version=9") => (200, r#"{"artifact_uri":"runs:/r1/model/x"}"#.to_owned()),
        ("model-versions/get-download-uri", "name=Iris&version=10") => (200, r#"{"artifact_uri":"models:/m-1"}"#.to_owned()),
        ("model-versions/get-download-uri", _) => (200, r#"{"artifact_uri":"mlflow-artifacts:/0/m-1"}"#.to_owned()),
        ("logged-models/m-1", "") => (
            200,
            r#"{"model":{"info":{"name":"model","artifact_uri":"mlflow-artifacts:/0/m-1","status":"LOGGED_MODEL_READY"}}}"#.to_owned(),
        ),
        ("logged-models/m-2", "") => {
            (200, r#"{"model":{"info":{"name":"model","artifact_uri":"x","status":"LOGGED_MODEL_UPLOAD_FAILED"}}}"#.to_owned())
        }
        ("logged-models/m-3", "") => (200, r#"{"model":{"info":{"artifact_uri":"models:/m-3"}}}"#.to_owned()),
        ("runs/get", "run_id=r1") => {
            let outputs = r#"{"model_outputs":[{"model_id":"m-1","step":0}]}"#;
            (200, format!(r#"{{"run":{{"info":{{"artifact_uri":"s3://bucket/r1"}},"outputs":{outputs}}}}}"#))
        }
        _ => missing("it"),
    }
}

fn servers(environment: &Fake) -> Arc<Servers> {
    Arc::new(Servers::read(Some("http://registry:5000/root/"), environment).unwrap())
}

fn registry() -> Registry {
    let (fetch, _) = fetch(|request| Ok(answer(request.uri().path_and_query().unwrap().as_str())));
    Registry::new(servers(&Fake::default()), fetch)
}

async fn resolved(text: &str) -> Result<Resolved> {
    let folder = tempfile::tempdir().unwrap();
    let memory = Memory::open(&folder.path().join("versions.json"), Reach::default());
    memory.resolve(&registry(), &text.parse().unwrap(), true).await.map(|(resolved, _)| resolved)
}

#[tokio::test(start_paused = true)]
async fn references_are_resolved() {
    for (uri, number, location) in [
        ("models:/Iris/2", Some(2), "mlflow-artifacts:/0/m-1"),
        ("models:/Iris@champion", Some(2), "mlflow-artifacts:/0/m-1"),
        ("models:/Iris/production", Some(2), "mlflow-artifacts:/0/m-1"),
        ("models:/Iris/latest", Some(10), "mlflow-artifacts:/0/m-1"),
        ("models:/Iris/2/sub", Some(2), "mlflow-artifacts:/0/m-1/sub"),
        ("models:/m-1", None, "mlflow-artifacts:/0/m-1"),
        ("models:/m-1/sub", None, "mlflow-artifacts:/0/m-1/sub"),
        ("runs:/r1/model", None, "mlflow-artifacts:/0/m-1"),
        ("runs:/r1/other", None, "s3://bucket/r1/other"),
        ("s3://bucket/x", None, "s3://bucket/x"),
    ] {
        let resolved = resolved(uri).await.unwrap_or_else(|error| panic!("{uri}: {error:?}"));
        assert_eq!(
            (resolved.version.as_ref().map(|version| version.version), resolved.location.to_string()),
            (number, location.to_owned()),
            "{uri}"
        );
        assert_eq!(resolved.identity.is_some(), uri.starts_with("models:") || uri == "runs:/r1/model", "{uri}");
        assert_eq!(serde_json::from_str::<Resolved>(&serde_json::to_string(&resolved).unwrap()).unwrap(), resolved, "{uri}");
    }
    let version = resolved("models:/Iris@champion").await.unwrap().version.unwrap();
    assert_eq!((version.stage, version.created, version.run_id.as_deref()), (Some(crate::config::Stage::Production), 17, Some("r1")));
    assert_eq!((version.aliases, version.tags.get("a").map(String::as_str)), (vec!["champion".to_owned()], Some("b")));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_resolved_is_told() {
    use ErrorReason as R;
    for (uri, reason, told) in [
        ("models:/Iris/1", R::ProviderNotFound, "knows no version 1 of model `Iris`"),
        ("models:/Iris@none", R::ProviderNotFound, "knows no alias `none` of model `Iris`"),
        ("models:/Other/1", R::ProviderNotFound, "has no model `Other`; correct the name, or register it"),
        ("models:/Other@none", R::ProviderNotFound, "has no model `Other`; correct"),
        ("models:/Other/latest", R::ProviderNotFound, "has no model `Other`; correct"),
        ("models:/Irsi@champion", R::ProviderNotFound, "has no model `Irsi`; did you mean `Iris`?"),
        ("models:/iris/production", R::ProviderNotFound, "has no model `iris`; did you mean `Iris`?"),
        ("models:/Iris/Staging", R::ProviderNotFound, "no version in stage Staging"),
        ("models:/Iris/4", R::GatewayNotServing, "PENDING_REGISTRATION"),
        ("models:/m-9", R::ProviderNotFound, "logged model `m-9`"),
        ("models:/m-2", R::GatewayNotServing, "not ready"),
        ("models:/m-3", R::GatewayNotServing, "without end"),
        ("runs:/r9/model", R::ProviderNotFound, "run `r9`"),
    ] {
        let error = resolved(uri).await.unwrap_err();
        assert!(error.reason() == reason && error.to_string().contains(told), "{uri}: {error:?}");
    }
    let nowhere = Registry::new(Arc::new(Servers::read(None, &Fake::default()).unwrap()), fetch(|_| unreachable!()).0);
    let error = nowhere.resolve(&"models:/Iris/1".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("MLFLOW_TRACKING_URI"), "{error}");
    nowhere.resolve(&"/srv/model".parse().unwrap()).await.unwrap();
}

#[test]
fn refusals_have_reasons() {
    use ErrorReason as R;
    let servers = servers(&Fake::default());
    for (status, body, reason) in [
        (401, "", R::ProviderCredentialRejected),
        (403, r#"{"error_code":"PERMISSION_DENIED","message":"m"}"#, R::ProviderCredentialRejected),
        (404, "<html>", R::ProviderBadAnswer),
        (404, r#"{"error_code":"ENDPOINT_NOT_FOUND"}"#, R::ProviderBadAnswer),
        (404, r#"{"error_code":"RESOURCE_DOES_NOT_EXIST"}"#, R::ProviderNotFound),
        (400, r#"{"error_code":"INVALID_PARAMETER_VALUE","message":"bad filter"}"#, R::ProviderRejectedRequest),
        (302, "", R::ProviderBadAnswer),
        (429, "", R::ProviderRateLimited),
        (500, r#"{"error_code":"INTERNAL_ERROR"}"#, R::ProviderFailed),
        (503, r#"{"error_code":"TEMPORARILY_UNAVAILABLE"}"#, R::ProviderUnavailable),
        (504, "", R::ProviderUnavailable),
    ] {
        let server = servers.registry().unwrap();
        let error = ask::refusal(server, StatusCode::from_u16(status).unwrap(), body.as_bytes(), "model `x`");
        assert_eq!((error.reason(), error.upstream_status_code()), (reason, Some(status)), "{status} {body}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_asked_again_and_a_refusal_is_not() {
    for (status, asked) in [(503, 3), (404, 1), (401, 1)] {
        let (fetch, seen) = fetch(move |_| Ok((status, "{}".to_owned())));
        let registry = Registry::new(servers(&Fake::default()), fetch);
        registry.resolve(&"models:/Iris/2".parse().unwrap()).await.unwrap_err();
        assert_eq!(seen.lock().unwrap().len(), asked, "{status}");
    }
    let silent: Fetch = Arc::new(|_| Box::pin(std::future::pending()));
    let error = Registry::new(servers(&Fake::default()), silent).resolve(&"models:/Iris/2".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.reason(), ErrorReason::ProviderTimeout);
    let (fetch, _) = fetch(|_| Ok((200, "<html>".to_owned())));
    let error = Registry::new(servers(&Fake::default()), fetch).resolve(&"models:/Iris/2".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.reason(), ErrorReason::ProviderBadAnswer);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_reached_is_named_with_the_key_that_names_it() {
    let gone: Fetch = Arc::new(|_| {
        let error = Error::new(ErrorReason::ProviderUnavailable, "`registry:5000` cannot be reached").because("connection refused");
        Box::pin(std::future::ready(Err(error)))
    });
    let hanging: Fetch = Arc::new(|_| Box::pin(std::future::pending()));
    let environment = Fake::default().variable("MLFLOW_TRACKING_URI", "http://registry:5000");
    for (setting, key) in [(Some("http://registry:5000"), "`mlflow.tracking_uri`"), (None, "MLFLOW_TRACKING_URI")] {
        let servers = Arc::new(Servers::read(setting, &environment).unwrap());
        let named = format!("the tracking server at http://registry:5000 ({key})");
        let resolve = async |fetch: &Fetch| {
            let folder = tempfile::tempdir().unwrap();
            let memory = Memory::open(&folder.path().join("versions.json"), Reach::default());
            let registry = Registry::new(Arc::clone(&servers), Arc::clone(fetch));
            memory.resolve(&registry, &"models:/Iris/2".parse().unwrap(), true).await.unwrap_err()
        };
        let error = resolve(&gone).await;
        assert_eq!(error.reason(), ErrorReason::ProviderUnavailable);
        assert!(error.to_string().starts_with(&format!("{named} cannot be reached; ")), "{error}");
        assert!(format!("{error:?}").ends_with("(connection refused)"), "{error:?}");
        assert_eq!(resolve(&hanging).await.to_string(), format!("{named} gave no answer within 15 s"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_away_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("versions.json");
    let uri: ModelUri = "models:/Iris@champion".parse().unwrap();
    let (fresh, is_fresh) = Memory::open(&path, Reach::default()).resolve(&registry(), &uri, true).await.unwrap();
    assert!(is_fresh);

    let away = |status: u16, body: &'static str| Registry::new(servers(&Fake::default()), fetch(move |_| Ok((status, body.to_owned()))).0);
    let memory = Memory::open(&path, Reach::default());
    assert_eq!(memory.resolve(&away(503, ""), &uri, true).await.unwrap(), (fresh.clone(), false));
    // The registry's own word counts.
    memory.resolve(&away(404, r#"{"error_code":"RESOURCE_DOES_NOT_EXIST"}"#), &uri, true).await.unwrap_err();
    memory.resolve(&away(401, ""), &uri, true).await.unwrap_err();
    memory.resolve(&away(503, ""), &"models:/Iris/3".parse().unwrap(), true).await.unwrap_err();

    std::fs::write(&path, r#"{"models:/Iris@champion":"#).unwrap();
    let damaged = Memory::open(&path, Reach::default());
    damaged.resolve(&away(503, ""), &uri, true).await.unwrap_err();
    damaged.keep(&fresh);
    assert_eq!(Memory::open(&path, Reach::default()).recall(&uri), Some(fresh));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside the file");
}

#[tokio::test(start_paused = true)]
async fn a_call_does_not_wait_long_for_a_registry_that_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let memory = Memory::open(&folder.path().join("versions.json"), Reach::default());
    let uri: ModelUri = "models:/Iris@champion".parse().unwrap();
    let (fresh, _) = memory.resolve(&registry(), &uri, true).await.unwrap();
    let hanging = Registry::new(servers(&Fake::default()), Arc::new(|_| std::future::pending().boxed()));
    for (is_awaited, least, most) in [(true, 3, 4), (false, 15, 16)] {
        let begun = tokio::time::Instant::now();
        assert_eq!(memory.resolve(&hanging, &uri, is_awaited).await.unwrap(), (fresh.clone(), false));
        assert!((least..most).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    }
    // Without a last word there is nothing but to wait.
    let begun = tokio::time::Instant::now();
    memory.resolve(&hanging, &"models:/Iris/2".parse().unwrap(), true).await.unwrap_err();
    assert_eq!(begun.elapsed().as_secs(), 15, "that is all, however often it was asked");
}

/// A server that knows the model no more, and is as slow as this to say so, and to say what else it is asked.
fn gone(says: Duration, explains: Duration) -> (Registry, Arc<Mutex<Vec<Request<Bytes>>>>) {
    let (quick, seen) = fetch(|_| Ok((404, r#"{"error_code":"RESOURCE_DOES_NOT_EXIST"}"#.to_owned())));
    let slow: Fetch = Arc::new(move |request| {
        let is_explained = ["/registered-models/get", "/registered-models/search"].iter().any(|path| request.uri().path().ends_with(path));
        let (pause, answer) = (if is_explained { explains } else { says }, quick(request));
        async move {
            tokio::time::sleep(pause).await;
            answer.await
        }
        .boxed()
    });
    (Registry::new(servers(&Fake::default()), slow), seen)
}

/// It is neither an outage nor slow, whatever becomes of the questions why.
#[tokio::test(start_paused = true)]
async fn a_registry_that_knows_nothing_of_it_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = crate::telemetry::metrics::Metrics::new();
    let memory = Memory::open(&folder.path().join("versions.json"), Reach::new(metrics.models().registry()));
    let uri: ModelUri = "models:/Iris@champion".parse().unwrap();
    memory.resolve(&registry(), &uri, true).await.unwrap();
    let now = Duration::ZERO;
    for (says, explains, told) in [
        (now, now, "has no model `Iris`; correct the name, or register it"),
        (now, Duration::from_secs(4), "knows no alias `champion` of model `Iris`"),
        (Duration::from_millis(2900), Duration::from_secs(4), "knows no alias `champion` of model `Iris`"),
    ] {
        let begun = tokio::time::Instant::now();
        let error = memory.resolve(&gone(says, explains).0, &uri, true).await.unwrap_err();
        assert!(error.reason() == ErrorReason::ProviderNotFound && error.to_string().contains(told), "{error:?}");
        assert!(begun.elapsed() <= Duration::from_secs(3), "{:?}", begun.elapsed());
        assert!(metrics.render().contains("flowgate_registry_up 1\n"), "it has answered");
    }
}

#[tokio::test(start_paused = true)]
async fn names_that_are_alike_are_looked_for_where_none_was_found_before() {
    let folder = tempfile::tempdir().unwrap();
    let memory = Memory::open(&folder.path().join("versions.json"), Reach::default());
    memory.resolve(&registry(), &"models:/Iris@champion".parse().unwrap(), true).await.unwrap();
    for (uri, searches) in [("models:/Iris@champion", 0), ("models:/Irsi@champion", 1)] {
        let (registry, seen) = gone(Duration::ZERO, Duration::ZERO);
        memory.resolve(&registry, &uri.parse().unwrap(), false).await.unwrap_err();
        let seen = seen.lock().unwrap();
        assert_eq!(seen.iter().filter(|request| request.uri().path().ends_with("/search")).count(), searches, "{uri}: {seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_begins_once_and_is_over_once() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = crate::telemetry::metrics::Metrics::new();
    let reach = Reach::new(metrics.models().registry());
    let memory = Memory::open(&folder.path().join("versions.json"), reach);
    let up = || metrics.render().lines().find_map(|line| line.strip_prefix("flowgate_registry_up ").map(str::to_owned));
    let uri: ModelUri = "models:/Iris@champion".parse().unwrap();
    let away = |status: u16| Registry::new(servers(&Fake::default()), fetch(move |_| Ok((status, "{}".to_owned()))).0);
    memory.resolve(&away(503), &"file:///a".parse().unwrap(), true).await.unwrap();
    assert_eq!(up(), None, "nobody was asked");
    memory.resolve(&registry(), &uri, true).await.unwrap();
    assert_eq!(up().as_deref(), Some("1"));
    memory.resolve(&away(503), &uri, true).await.unwrap();
    assert_eq!(up().as_deref(), Some("0"));
    memory.models(&away(401), None).await.unwrap_err();
    assert_eq!(up().as_deref(), Some("1"), "a refusal is an answer");
}

#[tokio::test(start_paused = true)]
async fn all_pages_of_a_search_are_read() {
    let (fetch, seen) = fetch(|request| {
        let query = request.uri().query().unwrap();
        Ok((
            200,
            if query.contains("page_token=t%2B") {
                r#"{"registered_models":[{"name":"b"}]}"#.to_owned()
            } else {
                r#"{"registered_models":[{"name":"a","tags":[{"key":"team","value":"ml"}],"aliases":[{"alias":"champion","version":"1"}],
               "latest_versions":[{"name":"a","version":"1"}]}],"next_page_token":"t+"}"#
                    .to_owned()
            },
        ))
    });
    let models = Registry::new(servers(&Fake::default()), fetch).models(Some("tags.team = 'ml'")).await.unwrap();
    assert_eq!(models.iter().map(|model| &*model.name).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((models[0].aliases["champion"], models[0].latest[0].version, &*models[0].tags["team"]), (1, 1, "ml"));
    let first = seen.lock().unwrap()[0].uri().to_string();
    assert_eq!(
        first,
        "http://registry:5000/root/api/2.0/mlflow/registered-models/search?max_results=200&filter=tags.team%20%3D%20%27ml%27"
    );
}

fn sent(server: &Server) -> Request<Bytes> {
    let mut request = Request::new(Bytes::new());
    server.authorize(request.headers_mut()).unwrap();
    request
}

#[test]
fn who_asks_is_said_as_mlflow_says_it() {
    let env = || Fake::default().variable("HOME", "/home/me");
    let file = "[other]\nmlflow_tracking_username = x\n[mlflow]\n# mine\nmlflow_tracking_username = ann\nMLFLOW_TRACKING_PASSWORD: hush\n";
    for (environment, expected) in [
        (env(), None),
        (env().variable("MLFLOW_TRACKING_TOKEN", "tok"), Some("Bearer tok")),
        (env().variable("MLFLOW_TRACKING_TOKEN", "tok").text("/home/me/.mlflow/credentials", file), Some("Basic YW5uOmh1c2g=")),
        (env().text("/home/me/.mlflow/credentials", file).variable("MLFLOW_TRACKING_PASSWORD", "new"), Some("Basic YW5uOm5ldw==")),
        (
            env()
                .variable("MLFLOW_TRACKING_USERNAME", "bob")
                .variable("MLFLOW_TRACKING_PASSWORD", "p")
                .variable("MLFLOW_TRACKING_TOKEN", "t"),
            Some("Basic Ym9iOnA="),
        ),
    ] {
        let servers = Servers::read(Some("https://host"), &environment).unwrap();
        let request = sent(servers.tracking().unwrap());
        assert_eq!(request.headers().get("authorization").map(|value| value.to_str().unwrap()), expected);
        assert!(!format!("{servers:?}").contains("hush"));
        let foreign = servers.tracking().unwrap().elsewhere(&"other:80".parse().unwrap());
        assert_eq!(foreign.address(), "https://other:80");
        assert!(sent(&foreign).headers().is_empty(), "whoever registers a model chooses its host");
    }
    let servers = Servers::read(Some("https://ann:hu%73h@host/x"), &env().variable("MLFLOW_WORKSPACE", "team")).unwrap();
    let request = sent(servers.tracking().unwrap());
    assert_eq!(
        (request.headers()["authorization"].to_str().unwrap(), servers.tracking().unwrap().address()),
        ("Basic YW5uOmh1c2g=", "https://host/x")
    );
    assert_eq!(request.headers()["x-mlflow-workspace"], "team");
}

#[test]
fn servers_and_tls_come_from_the_environment() {
    let environment = Fake::default()
        .variable("MLFLOW_TRACKING_URI", "http://tracking:5000/")
        .variable("MLFLOW_REGISTRY_URI", "http://registry:5000")
        .variable("MLFLOW_TRACKING_SERVER_CERT_PATH", "/ca.pem")
        .variable("MLFLOW_TRACKING_CLIENT_CERT_PATH", "/me.pem");
    let servers = Servers::read(None, &environment).unwrap();
    assert_eq!(servers.tracking().unwrap().address(), "http://tracking:5000");
    assert_eq!(servers.registry().unwrap().address(), "http://registry:5000");
    assert_eq!((servers.tls.insecure, servers.tls.ca, servers.tls.identity), (false, Some("/ca.pem".into()), Some("/me.pem".into())));
    let insecure = Servers::read(None, &Fake::default().variable("MLFLOW_TRACKING_INSECURE_TLS", "true")).unwrap();
    assert!(insecure.tls.insecure && insecure.tracking().is_err());
    assert!(!Servers::read(None, &Fake::default().variable("MLFLOW_TRACKING_INSECURE_TLS", "False")).unwrap().tls.insecure);
}

#[test]
fn what_is_no_server_is_refused_by_the_key_that_names_it() {
    let environment = Fake::default().variable("MLFLOW_TRACKING_URI", "postgresql://me:hush@db/x");
    for (setting, key) in [(None, "MLFLOW_TRACKING_URI"), (Some("sqlite:///mlflow.db"), "`mlflow.tracking_uri`")] {
        let error = Servers::read(setting, &environment).unwrap().tracking().unwrap_err();
        assert_eq!(error.reason(), ErrorReason::GatewayNotServing);
        assert!(error.to_string().starts_with(&format!("{key} is a database")), "{error}");
        assert!(!format!("{error:?}").contains("hush"));
    }
    let registry = || Fake::default().variable("MLFLOW_REGISTRY_URI", "databricks-uc");
    for (setting, told) in
        [(Some("sqlite:///mlflow.db"), "`mlflow.tracking_uri` is a database"), (None, "no tracking server is configured")]
    {
        let servers = Servers::read(setting, &registry()).unwrap();
        let (registry, tracking) = (servers.registry().unwrap_err().to_string(), servers.tracking().unwrap_err().to_string());
        assert!(registry.starts_with("MLFLOW_REGISTRY_URI is a Databricks workspace"), "{registry}");
        assert!(tracking.starts_with(told), "{tracking}");
    }
    for (name, value) in [("MLFLOW_TRACKING_AUTH", "plugin"), ("MLFLOW_TRACKING_AWS_SIGV4", "true"), ("MLFLOW_TRACKING_USERNAME", "ann")] {
        let error = Servers::read(None, &Fake::default().variable(name, value)).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}
