//! Models of language among MLflow's: what they are for and how they are asked, as their `MLmodel` tells.

use super::{
    model_file::ModelFile,
    signature::{Kind, Scalar, Schema},
};
use crate::{
    dialect::{
        Settings,
        mlflow::{AGENT, CHAT, PLAIN, RESPONSES, SCHEMA},
    },
    event::Task,
};

/// What MLflow writes for each kind into `metadata.task`, the module that loads the kind, what it is for, and how it is asked.
const KINDS: [(&str, &str, Task, &str); 6] = [
    ("agent/v1/chat", "mlflow.pyfunc.loaders.chat_model", Task::Chat, CHAT),
    ("agent/v2/chat", "mlflow.pyfunc.loaders.chat_agent", Task::Chat, AGENT),
    ("agent/v1/responses", "mlflow.pyfunc.loaders.responses_agent", Task::Chat, RESPONSES),
    ("llm/v1/chat", "", Task::Chat, CHAT),
    ("llm/v1/completions", "", Task::Complete, CHAT),
    ("llm/v1/embeddings", "", Task::Embed, CHAT),
];

/// What it is for, and how it is asked; `None` when it does not say that it is a model of language.
fn kind(file: &ModelFile) -> Option<(Task, &'static str)> {
    let module = file.python.as_ref().map(|python| python.loader_module.as_str());
    let by_task = KINDS.iter().find(|(task, ..)| file.task.as_deref() == Some(task));
    let known = by_task.or_else(|| KINDS.iter().find(|(_, loader, ..)| module == Some(loader)));
    known.map(|(_, _, task, schema)| (*task, *schema))
}

/// What it is for: predictions, unless it says that it is a model of language.
pub fn task(file: &ModelFile) -> Task {
    kind(file).map_or(Task::Predict, |(task, _)| task)
}

/// What a dialect should know of it. A model that names no kind may still take messages, or nothing but a text, by its signature.
pub fn settings(file: &ModelFile) -> Settings {
    let schema = kind(file).map(|(_, schema)| schema).or_else(|| by_signature(file));
    Settings(schema.map(|schema| (SCHEMA, schema.to_owned())).into_iter().collect())
}

fn by_signature(file: &ModelFile) -> Option<&'static str> {
    let Some(Schema::Columns(columns)) = &file.signature.as_ref()?.inputs else { return None };
    if columns.iter().any(|column| column.name.as_deref() == Some("messages")) {
        return Some(CHAT);
    }
    let [only] = columns.as_slice() else { return None };
    (only.kind == Kind::Scalar(Scalar::String)).then_some(PLAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> (Task, String) {
        let file = ModelFile::read(text.as_bytes()).unwrap();
        (task(&file), settings(&file).get(SCHEMA).to_owned())
    }

    fn with_metadata(task: &str) -> String {
        format!("flavors: {{python_function: {{loader_module: any}}}}\nmetadata: {{task: {task}}}\n")
    }

    #[test]
    fn what_it_says_of_its_task_tells() {
        let expected = [
            ("agent/v1/chat", Task::Chat, "chat"),
            ("agent/v2/chat", Task::Chat, "agent"),
            ("agent/v1/responses", Task::Chat, "responses"),
            ("llm/v1/chat", Task::Chat, "chat"),
            ("llm/v1/completions", Task::Complete, "chat"),
            ("llm/v1/embeddings", Task::Embed, "chat"),
            ("something/else", Task::Predict, ""),
        ];
        for (word, task, schema) in expected {
            assert_eq!(told(&with_metadata(word)), (task, schema.to_owned()), "{word}");
        }
    }

    #[test]
    fn else_the_module_that_loads_it() {
        let by = |module| told(&format!("flavors: {{python_function: {{loader_module: {module}}}}}\n"));
        assert_eq!(by("mlflow.pyfunc.loaders.chat_agent"), (Task::Chat, "agent".to_owned()));
        assert_eq!(by("mlflow.pyfunc.model"), (Task::Predict, String::new()));
        assert_eq!(told("flavors: {crate: {}}\n"), (Task::Predict, String::new()));
    }

    #[test]
    fn else_its_signature_says_how_it_is_asked() {
        let by = |columns: &str| {
            let (task, schema) = told(&format!("flavors: {{onnx: {{}}}}\nsignature: {{inputs: '{columns}'}}\n"));
            assert_eq!(task, Task::Predict);
            schema
        };
        assert_eq!(by(r#"[{"type": "string", "required": true}]"#), "plain");
        assert_eq!(by(r#"[{"type": "double", "name": "a", "required": true}]"#), "");
        assert_eq!(by(r#"[{"type": "string", "name": "a"}, {"type": "string", "name": "b"}]"#), "");
        assert_eq!(by(r#"[{"type": "any", "name": "messages"}, {"type": "string", "name": "b"}]"#), "chat");
    }
}
