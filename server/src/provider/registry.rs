//! The table of providers, sorted by name. Data only.

use flowgate_proto::v1::Capability;

use super::{Auth, Field, Provider, Sets};
use crate::{
    dialect::{Quirks, openai, scoring},
    event::Task,
};

const API_KEY: Field = Field { name: "api_key", sets: Sets::ApiKey };
const API_BASE: Field = Field { name: "api_base", sets: Sets::ApiBase };
const LLM: &[Task] = &[Task::Chat, Task::Complete, Task::Embed];
const CAN_ALL: &[Capability] =
    &[Capability::Stream, Capability::Tools, Capability::JsonSchema, Capability::ImageInput, Capability::AudioInput];

/// Every provider that a configuration may name.
pub static PROVIDERS: &[Provider] = &[
    Provider {
        name: "mlflow",
        aliases: &["mlflow-model-serving"],
        base: "",
        auth: Auth::Bearer,
        needs_key: false,
        llm: None,
        predict: Some(&scoring::SCORING),
        tasks: &[Task::Predict],
        fields: &[API_KEY, API_BASE, Field { name: "model_server_url", sets: Sets::ApiBase }],
        quirks: Quirks::NONE,
        capabilities: &[],
    },
    Provider {
        name: "mock",
        aliases: &[],
        base: "http://mock.invalid/v1",
        auth: Auth::None,
        needs_key: false,
        llm: Some(&openai::OPENAI),
        predict: Some(&scoring::SCORING),
        tasks: &[Task::Chat, Task::Complete, Task::Embed, Task::Predict],
        fields: &[],
        quirks: Quirks::NONE,
        capabilities: CAN_ALL,
    },
    Provider {
        name: "openai",
        aliases: &[],
        base: "https://api.openai.com/v1",
        auth: Auth::Bearer,
        needs_key: true,
        llm: Some(&openai::OPENAI),
        predict: None,
        tasks: LLM,
        fields: &[
            API_KEY,
            API_BASE,
            Field { name: "openai_api_key", sets: Sets::ApiKey },
            Field { name: "openai_api_base", sets: Sets::ApiBase },
            Field { name: "openai_organization", sets: Sets::Header("openai-organization") },
            Field { name: "openai_api_type", sets: Sets::Flavour("openai") },
            Field { name: "openai_api_version", sets: Sets::Later(false) },
            Field { name: "openai_deployment_name", sets: Sets::Later(false) },
        ],
        quirks: Quirks::NONE,
        capabilities: CAN_ALL,
    },
];
