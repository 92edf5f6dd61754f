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
