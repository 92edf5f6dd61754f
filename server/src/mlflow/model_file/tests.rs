//! A file as MLflow 3.17 writes it, older forms, and files that mean harm.

use super::*;
use crate::mlflow::signature::{Element, Kind, Scalar, Schema};

fn read(text: &str) -> ModelFile {
    ModelFile::read(text.as_bytes()).unwrap()
}

fn refused(text: &str) -> String {
    ModelFile::read(text.as_bytes()).map(|model| panic!("{model:?}")).unwrap_err().to_string()
}

#[test]
fn what_mlflow_writes() {
    let model = read(include_str!("testdata/sklearn.yaml"));
    assert_eq!(model.flavors.keys().collect::<Vec<_>>(), ["python_function", "sklearn"]);
    let python = model.python.clone().unwrap();
    assert_eq!((&*python.loader_module, python.python_version.as_deref()), ("mlflow.sklearn", Some("3.11.7")));
    assert_eq!((python.predict_fn, python.streamable), (None, false));
    assert_eq!(python.virtualenv.unwrap().as_str(), "python_env.yaml");
    assert_eq!(model.model_size_bytes, Some(11544));
    assert_eq!(model.mlflow_version.as_deref(), Some("3.17.2"));
    assert_eq!(model.serving_input_example.as_ref().unwrap().as_str(), "serving_input_example.json");
    assert_eq!(model.created.as_deref(), Some("2026-11-21 21:55:42.000858"));
    let signature = model.signature.clone().unwrap();
    let Some(Schema::Columns(columns)) = signature.inputs else { panic!() };
    assert_eq!((columns.len(), columns[0].name.as_deref()), (4, Some("sepal length (cm)")));
    assert!(columns.iter().all(|column| column.kind == Kind::Scalar(Scalar::Double) && column.required));
    let Some(Schema::Tensors(tensors)) = signature.outputs else { panic!() };
    assert_eq!((tensors[0].element, tensors[0].shape.as_slice()), (Element::Int64, [None].as_slice()));
    assert_eq!(signature.params.unwrap()[0].name, "temperature");
    assert_eq!(model.file_of("sklearn", "pickled_model").unwrap().unwrap().as_str(), "model.skops");
    assert_eq!(model.file_of("sklearn", "code").unwrap(), None);
    let files: Vec<_> = model.files().into_iter().map(String::from).collect();
    assert_eq!(files, ["conda.yaml", "model.skops", "python_env.yaml", "serving_input_example.json"]);
}

#[test]
fn other_forms() {
    let model = read(
        "flavors:\n  python_function: {env: conda.yaml, loader_module: mlflow.pyfunc.model, python_version: 3.11, streamable: true, predict_fn: predict_proba}\n\
         metadata: {task: llm/v1/chat, x: [1]}\nrun_id: 1234567890e12345\nsignature:\n  inputs: null\n",
    );
    let python = model.python.unwrap();
    assert_eq!((python.conda.unwrap().as_str(), python.virtualenv), ("conda.yaml", None));
    assert_eq!((python.python_version.as_deref(), python.predict_fn.as_deref()), (Some("3.11"), Some("predict_proba")));
    assert!(python.streamable);
    assert_eq!((model.task.as_deref(), model.run_id.as_deref()), (Some("llm/v1/chat"), Some("1234567890e12345")));
    assert_eq!(model.signature, Some(Signature::default()));
    assert_eq!(read("flavors: {crate: null}\nrun_id: ''").run_id, None);
}

#[test]
fn what_is_no_such_file_is_refused_with_a_reason() {
    let bomb = format!("a: &a [x, x, x, x, x, x, x, x, x]\n{}flavors: {{f: {{x: *i}}}}\n", {
        let letters = "abcdefghi";
        let pairs = letters.chars().zip(letters.chars().skip(1));
        pairs.map(|(a, b)| format!("{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n")).collect::<String>()
    });
    for (text, told) in [
        ("", "MLmodel"),
        ("[]", "MLmodel"),
        ("flavors: 3", "MLmodel"),
        ("flavors: {}", "no `flavors`"),
        ("a: [", "MLmodel"),
        ("flavors: {python_function: {}}", "loader_module"),
        ("flavors: {python_function: {loader_module: x, env: {conda: ../../etc/passwd}}}", "`env.conda`"),
        ("flavors: {x: {}}\nsaved_input_example_info: {serving_input_path: /etc/passwd}", "serving_input_path"),
        ("flavors: {x: {}}\nsignature: {inputs: '[1]'}", "inputs"),
        ("flavors: {x: {}}\nmodel_size_bytes: -1", "MLmodel"),
        (&format!("flavors: {{x: {{y: {}1{}}}}}", "[".repeat(200), "]".repeat(200)), "MLmodel"),
        (&bomb, "MLmodel"),
    ] {
        let error = refused(text);
        assert!(error.contains(told) && !error.contains("passwd"), "{text}: {error}");
    }
    assert!(read("flavors: {x: {data: ../x}}").file_of("x", "data").unwrap_err().to_string().contains("leads out"));
    assert!(ModelFile::read(b"\xff\xfe").unwrap_err().to_string().contains("UTF-8"));
    assert!(ModelFile::read(&vec![b' '; LONGEST + 1]).unwrap_err().to_string().contains("longer"));
}
