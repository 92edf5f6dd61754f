//! `uri` and what goes with it, and `mlflow`.

use std::time::Duration;

use super::*;
use crate::config::{Models, PythonEnv, Resources, Runtime};

fn file(model: &str) -> String {
    format!("endpoints:\n  - {{ name: x, endpoint_type: mlflow/predict, model: {{ provider: mlflow, {model} }} }}\n")
}

fn lowered(model: &str) -> Model {
    own(&env().load(&file(model)).config.endpoints[0].deployments[0]).clone()
}

#[test]
fn a_model_is_as_the_file_says() {
    assert_eq!(lowered("uri: \"models:/a/3\""), Model::new("models:/a/3".parse().unwrap()));
    let told = "uri: \"models:/a@b\", runtime: python, idle: none, min: 2, env_manager: uv, env: { LANGUAGE: de, KEY: $APP_KEY }, \
                resources: { threads: 2, memory: 1GiB, devices: 0 }";
    let model = lowered(told);
    assert_eq!((model.runtime, model.idle, model.min, model.max, model.env_manager), (Runtime::Python, None, 2, 2, PythonEnv::Uv));
    assert_eq!(model.resources, Resources { threads: Some(2), memory: Some(1 << 30), devices: Some("0".to_owned()) });
    let env: Vec<_> = model.env.0.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
    assert_eq!(env, [("KEY", "app-key-value"), ("LANGUAGE", "de")]);
    assert!(!format!("{model:?}").contains("app-key-value"));
    let model = lowered("uri: /models/a, idle: 90s, load_timeout: 1h, max: 3");
    assert_eq!((model.idle, model.load_timeout), (Some(Duration::from_secs(90)), Some(Duration::from_secs(3600))));
    assert_eq!(lowered("uri: /models/a, load_timeout: none").load_timeout, None);
}

#[test]
fn what_holds_for_all_models() {
    assert_eq!(env().load(&file("url: \"http://h:1\"")).config.models, Models::default());
    let all = "mlflow: { tracking_uri: \"http://mlflow:5000\", refresh: 1m, cache: { folder: /var/models, max_bytes: 1GiB }, memory: 2GiB, \
               max_processes: 3, python: /opt/python }\n";
    let models = env().load(&format!("{all}{}", file("url: \"http://h:1\""))).config.models;
    let expected = Models {
        tracking_uri: Some("http://mlflow:5000".to_owned()),
        refresh: Duration::from_secs(60),
        cache: Some("/var/models".into()),
        cache_bytes: 1 << 30,
        memory: Some(2 << 30),
        max_processes: 3,
        python: Some("/opt/python".into()),
        ..Models::default()
    };
    assert_eq!(models, expected);
}

#[test]
fn onnx_runtime_is_for_builds_that_have_it() {
    let text = format!("mlflow:\n  onnx_runtime: lib/onnx.so\n{}", file("url: \"http://h:1\""));
    if cfg!(feature = "onnx") {
        assert_eq!(env().load(&text).config.models.onnx_runtime, Some("lib/onnx.so".into()));
    } else {
        let errors = env().errors(&text);
        assert!(errors.contains("2:17: `onnx_runtime` names a library that this build cannot load"), "{errors}");
        assert!(errors.contains("a build with the cargo feature `onnx`"), "{errors}");
    }
    let is_taken = |resources: &str| {
        let text = file(&format!("uri: \"models:/a/1\", runtime: native, resources: {resources}"));
        env().parse(&[&text], LoadOptions::default()).is_ok()
    };
    assert_eq!(is_taken("{ threads: 2 }"), cfg!(feature = "onnx"));
    assert!(!is_taken("{ threads: 2, memory: 1GiB }"));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let cases = [
        ("uri: \"models:/a\"", "`models:/a` names no version of a model; write"),
        ("uri: \"gs://a/b\"", "nothing is read from `gs:`"),
        ("uri: \"models:/a/1\", url: \"http://h:1\"", "an address stands beside `uri`"),
        ("uri: \"models:/a/1\", config: { api_key: k }", "`api_key` does nothing beside `uri`"),
        ("uri: \"models:/a/1\", idle: 0s", "`idle` is `0s`"),
        ("uri: \"models:/a/1\", load_timeout: 0s", "`load_timeout` is `0s`"),
        ("url: \"http://h:1\", load_timeout: 1m", "`load_timeout` does nothing without `uri`"),
        ("uri: \"models:/a/1\", min: 3, max: 2", "`max` is 2, which is less than `min`"),
        ("uri: \"models:/a/1\", runtime: native, env: { A: b }", "`env` does nothing beside `runtime: native`"),
        ("uri: \"models:/a/1\", resources: { memory: much }", "`memory` is `much`"),
        ("url: \"http://h:1\", min: 1", "`min` does nothing without `uri`"),
        ("url: \"http://h:1\", runtime: python", "`runtime` does nothing without `uri`"),
    ];
    for (model, said) in cases {
        let errors = env().errors(&file(model));
        assert!(errors.contains(said), "{model}: {errors}");
    }
    let beside = "endpoints:\n  - name: x\n    endpoint_type: mlflow/predict\n    deployments:\n\
                  \x20     - { model: { provider: mlflow, uri: \"models:/a/1\" }, upstream: { ca: x.pem } }\n";
    assert!(env().errors(beside).contains("`upstream` does nothing beside `uri`"));
}

const REGISTERED: &str = "uri: \"models:/a/1\"";

/// What a check says of a model and of `mlflow`, which is in the first line.
fn said(environment: &Fake, mlflow: &str, model: &str) -> Result<Vec<String>, String> {
    let text = format!("mlflow: {{ {mlflow} }}\n{}", file(model));
    let loaded = environment.parse(&[&text], LoadOptions { secrets: SecretsMode::List, lenient: false });
    loaded.map(|loaded| loaded.warnings.iter().map(ToString::to_string).collect()).map_err(|errors| errors.to_string())
}

#[test]
fn an_address_that_no_model_can_be_had_from_is_refused_where_it_stands() {
    let bare = Fake::default();
    for (address, told) in [
        ("sqlite:///mlflow.db", "is a database (`sqlite:`)"),
        ("./mlruns", "is a folder"),
        ("databricks", "is a Databricks workspace"),
        ("127.0.0.1:8400", "lacks the `http://`"),
    ] {
        let setting = format!("tracking_uri: \"{address}\"");
        for model in [REGISTERED, "uri: \"runs:/a/b\"", "uri: \"mlflow-artifacts:/a\""] {
            let errors = said(&bare, &setting, model).unwrap_err();
            assert!(errors.starts_with(&format!("flowgate.yaml:1:25: `mlflow.tracking_uri` {told}")), "{model}: {errors}");
        }
        let served = said(&bare, &format!("serve: \"*\", {setting}"), "url: \"http://h:1\"").unwrap_err();
        assert!(served.starts_with("flowgate.yaml:1:37: `mlflow.tracking_uri`"), "{served}");
        assert_eq!(said(&bare, &setting, "url: \"http://h:1\""), Ok(Vec::new()), "nobody asks there");
        let registry = Fake::default().variable("MLFLOW_REGISTRY_URI", "http://registry");
        assert_eq!(said(&registry, &setting, REGISTERED), Ok(Vec::new()), "another one is asked");
    }
}

#[test]
fn what_hangs_on_the_machine_is_a_warning_with_its_place() {
    let bare = Fake::default();
    let missing = "3:79: no tracking server is configured; set `mlflow.tracking_uri` or MLFLOW_TRACKING_URI";
    assert_eq!(said(&bare, "", REGISTERED), Ok(vec![format!("flowgate.yaml:{missing}")]));
    assert!(said(&bare, "serve: \"*\"", "url: \"http://h:1\"").unwrap()[0].starts_with("flowgate.yaml:1:18: no tracking server"));
    let local = Fake::default().variable("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db");
    let [warning] = said(&local, "", REGISTERED).unwrap().try_into().unwrap();
    assert!(warning.starts_with("flowgate.yaml:3:79: MLFLOW_TRACKING_URI is a database"), "{warning}");
    let [warning] = said(&local, "tracking_uri: $MLFLOW_TRACKING_URI", REGISTERED).unwrap().try_into().unwrap();
    assert!(warning.starts_with("flowgate.yaml:1:25: `mlflow.tracking_uri` is a database"), "{warning}");
    assert_eq!(said(&bare, "tracking_uri: $MLFLOW_TRACKING_URI", REGISTERED), Ok(Vec::new()), "that it is not set is listed");
}

#[test]
fn folders_and_programs_that_are_not_here_are_warnings() {
    let here = Fake::default().text("/models/a/MLmodel", "flavors: {}").text("/opt/python", "").full("/proc");
    let told = "python: /opt/python, cache: { folder: /var/models }";
    assert_eq!(said(&here, told, "uri: /models/a"), Ok(Vec::new()));
    let told = said(&here, "python: /nowhere/python, cache: { folder: /proc/nope }", "uri: /models/b").unwrap();
    let starts = [
        "flowgate.yaml:1:19: `mlflow.python` is `/nowhere/python`, which is no program here",
        "flowgate.yaml:1:53: `mlflow.cache.folder` is `/proc/nope`, where nothing can be kept: permission denied",
        "flowgate.yaml:3:79: `uri` names a folder without a model: `/models/b/MLmodel`: entity not found",
    ];
    assert_eq!(told.len(), starts.len(), "{told:?}");
    assert!(told.iter().zip(starts).all(|(told, start)| told.starts_with(start)), "{told:?}");
}

#[test]
fn this_machine_is_looked_at_without_a_change_to_it() {
    let (folder, own) = (tempfile::tempdir().unwrap(), std::env::current_exe().unwrap());
    assert!(Process.keeps(&folder.path().join("a/b")).is_ok() && !folder.path().join("a").exists());
    assert_eq!(Process.keeps(&own.join("a")).unwrap_err().kind(), std::io::ErrorKind::NotADirectory);
    assert!(Process.runs(&own) && Process.runs("sh".as_ref()));
    assert!(!Process.runs("no-such-program".as_ref()) && !Process.runs(folder.path()) && !Process.runs(&folder.path().join("a")));
}
