//! The kinds of rows that there are many of, and what their rows are made of.

use flowgate_proto::v1::{Capability, ErrorReason};

use super::{Auth, Field, Kind, Provider, Sets, Setting};
use crate::{
    dialect::{Habit, Quirks, ReasoningField, anthropic, mlflow, openai, scoring},
    event::Task,
};

pub(super) const CHAT: &[Task] = &[Task::Chat];
pub(super) const TEXT: &[Task] = &[Task::Chat, Task::Complete];
pub(super) const CHAT_EMBED: &[Task] = &[Task::Chat, Task::Embed];
pub(super) const LLM: &[Task] = &[Task::Chat, Task::Complete, Task::Embed];
pub(super) const ALL: &[Task] = &[Task::Chat, Task::Complete, Task::Embed, Task::Predict];
pub(super) const PREDICT: &[Task] = &[Task::Predict];

pub(super) const CAN_ALL: &[Capability] =
    &[Capability::Stream, Capability::Tools, Capability::JsonSchema, Capability::ImageInput, Capability::AudioInput];
pub(super) const CAN_MOST: &[Capability] = &[Capability::Stream, Capability::Tools, Capability::JsonSchema, Capability::ImageInput];
pub(super) const CAN_TOOLS: &[Capability] = &[Capability::Stream, Capability::Tools];

pub(super) const API_KEY: Field = Field { name: "api_key", sets: Sets::ApiKey };
pub(super) const API_BASE: Field = Field { name: "api_base", sets: Sets::ApiBase };
pub(super) const MODEL_SERVER: Field = Field { name: "model_server_url", sets: Sets::ApiBase };

/// The protocol's owner, which answers 400 to an id of a tool call of more than forty characters.
pub(super) const OPENAI: Quirks = Quirks { longest_tool_id: 40, ..Quirks::NONE };
/// The older name of the limit, which every speaker but the newest takes.
pub(super) const MAX_TOKENS: Quirks = Quirks { max_tokens_field: "max_tokens", ..Quirks::NONE };
/// Servers of open models, which sample in more ways than the protocol's owner.
pub(super) const OPEN_MODELS: Quirks = Quirks { takes: &["top_k"], habits: &[Habit::NoDeveloper], ..MAX_TOKENS };
/// The GLM models' own service: https://docs.z.ai/api-reference/llm/chat-completion
pub(super) const GLM: Quirks = Quirks {
    reasoning: ReasoningField::Thinking,
    habits: &[Habit::NoDeveloper, Habit::AutoOnly],
    lacks: &["n", "seed", "logprobs", "top_logprobs", "logit_bias", "frequency_penalty", "presence_penalty", "metadata"],
    errors: &[("1113", ErrorReason::ProviderCredentialRejected), ("1302", ErrorReason::ProviderRateLimited)],
    ..MAX_TOKENS
};

/// The Messages protocol must be told a limit; this is MLflow's.
pub(super) const MESSAGES: Quirks = Quirks { default_max_tokens: Some(8192), ..Quirks::NONE };
/// Of another's models behind the same protocol.
pub(super) const MESSAGES_DOOR: Quirks = Quirks { habits: &[Habit::OwnSignatures], ..MESSAGES };

pub(super) const fn setting(name: &'static str, setting: &'static Setting) -> Field {
    Field { name, sets: Sets::Setting(setting) }
}

pub(super) const fn secret(name: &'static str) -> Field {
    Field { name, sets: Sets::Secret(name) }
}

/// A field that is only read by a dialect of a later build.
pub(super) const fn later(name: &'static str) -> Field {
    Field { name, sets: Sets::Later(false) }
}

/// The same, holding a secret.
pub(super) const fn later_secret(name: &'static str) -> Field {
    Field { name, sets: Sets::Later(true) }
}

/// A speaker of the OpenAI protocol at its own address.
pub(super) const fn compatible(name: &'static str, base: &'static str, key_env: &'static str) -> Provider {
    Provider {
        name,
        aliases: &[],
        kind: Kind::Remote,
        base,
        key_env,
        auth: Auth::Bearer,
        grant: None,
        needs_key: true,
        llm: Some(&openai::OPENAI),
        instead: None,
        predict: None,
        tasks: LLM,
        fields: &[API_KEY, API_BASE],
        quirks: MAX_TOKENS,
        capabilities: CAN_ALL,
    }
}

/// A speaker of the OpenAI protocol that people run themselves, by custom without a key.
pub(super) const fn local(name: &'static str, base: &'static str, key_env: &'static str) -> Provider {
    Provider { needs_key: false, ..compatible(name, base, key_env) }
}

/// A speaker of the Messages protocol, which its owner speaks in full.
pub(super) const fn messages(name: &'static str, base: &'static str, key_env: &'static str) -> Provider {
    Provider {
        auth: Auth::Header("x-api-key"),
        llm: Some(&anthropic::ANTHROPIC),
        tasks: TEXT,
        quirks: MESSAGES,
        capabilities: CAN_MOST,
        ..compatible(name, base, key_env)
    }
}

/// Another's door for clients of the Messages protocol: text and tools, no schema for the answer.
pub(super) const fn messages_door(name: &'static str, base: &'static str, key_env: &'static str) -> Provider {
    Provider {
        quirks: Quirks { lacks: &["format", "image", "document"], ..MESSAGES_DOOR },
        capabilities: CAN_TOOLS,
        ..messages(name, base, key_env)
    }
}

pub(super) const OWN_PROTOCOL: &str = "its own protocol is not spoken here; put a proxy that speaks OpenAI's before it and use `provider: openai-compatible` with \
                            the proxy's `url`";

/// A provider that no dialect of this build is for; its configuration loads.
pub(super) const fn unspoken(name: &'static str, base: &'static str, key_env: &'static str) -> Provider {
    Provider { llm: None, quirks: Quirks::NONE, capabilities: &[], ..compatible(name, base, key_env) }
}

/// A scoring server, or a model that a `uri` names.
pub(super) const fn scored(name: &'static str, fields: &'static [Field]) -> Provider {
    Provider {
        kind: Kind::Models,
        needs_key: false,
        llm: Some(&mlflow::MLFLOW),
        predict: Some(&scoring::SCORING),
        tasks: ALL,
        fields,
        quirks: Quirks::NONE,
        // A streamed call gets at least a whole answer as a stream. What a model of one's own knows, nobody else does.
        capabilities: CAN_ALL,
        ..compatible(name, "", "")
    }
}
