//! The table of providers, sorted by name. Data only.

use flowgate_proto::v1::{Capability, ErrorReason};

use super::{Auth, Field, Flavour, Grants, Kind, Provider, Sets};
use super::{
    codes::MINIMAX_ERRORS,
    kinds::{
        ALL, API_BASE, API_KEY, CAN_ALL, CAN_MOST, CAN_TOOLS, CHAT, CHAT_EMBED, GLM, MAX_TOKENS, MESSAGES, MESSAGES_DOOR, MODEL_SERVER,
        OPEN_MODELS, OPENAI, OWN_PROTOCOL, PREDICT, compatible, later, later_secret, local, messages, messages_door, scored, secret,
        setting, unspoken,
    },
    settings,
};
use crate::{
    dialect::{
        Habit, Quirks, ReasoningField, ReportedCost, Rescale, azure, bedrock, cohere, databricks, gemini, oip, ollama, openai,
        openai_responses, sagemaker, scoring, templated, tgi, vertex,
    },
    event::Task,
};

static OPENAI_FLAVOUR: Flavour = Flavour {
    plain: "openai",
    others: &["azure", "azuread"],
    needs: &["openai_api_base", "openai_deployment_name", "openai_api_version"],
    only_others: &["openai_deployment_name"],
    only_plain: &["openai_organization"],
};
static AZURE_FLAVOUR: Flavour = Flavour { plain: "azure", others: &["azuread"], needs: &[], only_others: &[], only_plain: &[] };

const AZURE_FIELDS: &[Field] = &[
    API_KEY,
    API_BASE,
    setting("api_version", &settings::AZURE_VERSION),
    setting("deployment", &settings::AZURE_DEPLOYMENT),
    setting("api", &settings::API),
    setting("tenant_id", &settings::AZURE_TENANT),
    setting("client_id", &settings::AZURE_CLIENT),
    secret("client_secret"),
    Field { name: "openai_api_key", sets: Sets::ApiKey },
    Field { name: "openai_api_base", sets: Sets::ApiBase },
    Field { name: "openai_api_type", sets: Sets::Flavour(&AZURE_FLAVOUR) },
    setting("openai_api_version", &settings::AZURE_VERSION),
    setting("openai_deployment_name", &settings::AZURE_DEPLOYMENT),
];

/// Azure's OpenAI service, of which the kinds of credential are rows of their own: https://learn.microsoft.com/azure/ai-foundry/openai/reference
const fn azure(name: &'static str, auth: Auth) -> Provider {
    Provider {
        auth,
        grant: Some(Grants::Entra("https://cognitiveservices.azure.com/.default")),
        fields: AZURE_FIELDS,
        llm: Some(&azure::AZURE),
        quirks: OPENAI,
        ..compatible(name, "", "AZURE_OPENAI_API_KEY")
    }
}

/// Who speaks the Open Inference Protocol.
pub(super) const INFERENCE: &str = "oip";

/// Every provider that a configuration may name.
pub static PROVIDERS: &[Provider] = &[
    Provider {
        aliases: &["ai21"],
        tasks: CHAT,
        // What its documentation names is all that it takes: https://docs.ai21.com/reference/jamba-1-6-api-ref
        quirks: Quirks {
            max_tokens_field: "max_tokens",
            stream_usage: false,
            lacks: &[
                "seed",
                "user",
                "frequency_penalty",
                "presence_penalty",
                "logprobs",
                "top_logprobs",
                "logit_bias",
                "tool_choice",
                "parallel_tool_calls",
                "reasoning_effort",
                "reasoning_content",
                "annotations",
                "refusal",
                "metadata",
                "json_schema",
            ],
            habits: &[Habit::FlatContent],
            ..Quirks::NONE
        },
        capabilities: CAN_TOOLS,
        ..compatible("ai21labs", "https://api.ai21.com/studio/v1", "AI21_API_KEY")
    },
    Provider {
        quirks: Quirks { mlflow_temperature: Rescale::by(0.5), ..MESSAGES },
        fields: &[
            API_KEY,
            API_BASE,
            Field { name: "anthropic_version", sets: Sets::Header("anthropic-version") },
            Field { name: "anthropic_api_key", sets: Sets::ApiKey },
            Field { name: "anthropic_api_base", sets: Sets::ApiBase },
        ],
        ..messages("anthropic", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY")
    },
    Provider { aliases: &["azure-openai"], ..azure("azure", Auth::Header("api-key")) },
    Provider { auth: Auth::Header("api-key"), ..messages("azure-anthropic", "", "AZURE_OPENAI_API_KEY") },
    azure("azuread", Auth::Bearer),
    // https://docs.baseten.co/development/model-apis/overview
    compatible("baseten", "https://inference.baseten.co/v1", "BASETEN_API_KEY"),
    Provider {
        aliases: &["amazon-bedrock", "aws-bedrock"],
        grant: Some(Grants::Aws("bedrock")),
        needs_key: false,
        fields: &[
            API_KEY,
            API_BASE,
            Field { name: "aws_config", sets: Sets::Group },
            setting("aws_region", &settings::AWS_REGION),
            Field { name: "aws_bearer_token", sets: Sets::ApiKey },
            setting("base_model", &settings::BASE_MODEL),
            setting("aws_access_key_id", &settings::AWS_KEY_ID),
            secret("aws_secret_access_key"),
            secret("aws_session_token"),
            setting("aws_role_arn", &settings::AWS_ROLE),
            setting("aws_external_id", &settings::AWS_EXTERNAL_ID),
            setting("aws_profile", &settings::AWS_PROFILE),
            setting("session_length_seconds", &settings::AWS_SESSION),
        ],
        llm: Some(&bedrock::BEDROCK),
        quirks: Quirks { fetches_media: false, ..Quirks::NONE },
        ..compatible("bedrock", "https://bedrock-runtime.{aws_region}.amazonaws.com", "AWS_BEARER_TOKEN_BEDROCK")
    },
    // https://inference-docs.cerebras.ai/api-reference/chat-completions
    Provider {
        // It refuses fields of messages that its documentation does not name.
        quirks: Quirks {
            lacks: &["presence_penalty", "frequency_penalty", "logit_bias", "reasoning_content", "annotations", "refusal"],
            ..Quirks::NONE
        },
        tasks: &[Task::Chat, Task::Complete],
        ..compatible("cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY")
    },
    // https://chutes.ai/docs
    compatible("chutes", "https://llm.chutes.ai/v1", "CHUTES_API_KEY"),
    // https://developers.cloudflare.com/workers-ai/configuration/open-ai-compatibility/
    Provider {
        aliases: &["cloudflare-workers-ai", "workers-ai"],
        tasks: CHAT_EMBED,
        fields: &[API_KEY, API_BASE, setting("account_id", &settings::CLOUDFLARE_ACCOUNT)],
        // https://developers.cloudflare.com/workers-ai/platform/errors/
        quirks: Quirks {
            errors: &[
                ("5007", ErrorReason::ProviderNotFound),
                // What the day allots is spent, which is another thing than that nobody has room.
                ("3036", ErrorReason::ProviderCredentialRejected),
                ("3040", ErrorReason::ProviderUnavailable),
            ],
            ..MAX_TOKENS
        },
        ..compatible("cloudflare", "https://api.cloudflare.com/client/v4/accounts/{account_id}/ai/v1", "CLOUDFLARE_API_TOKEN")
    },
    // https://docs.cohere.com/reference/chat
    Provider {
        llm: Some(&cohere::COHERE),
        capabilities: CAN_MOST,
        quirks: Quirks { most_inputs: 96, mlflow_temperature: Rescale::by(2.5), ..Quirks::NONE },
        ..compatible("cohere", "https://api.cohere.com/v2", "COHERE_API_KEY")
    },
    // https://www.alibabacloud.com/help/en/model-studio/compatibility-of-openai-with-dashscope
    Provider {
        aliases: &["qwen"],
        quirks: Quirks {
            reasoning: ReasoningField::Budget,
            takes: &["top_k"],
            most_inputs: 10,
            habits: &[Habit::NoDeveloper],
            ..MAX_TOKENS
        },
        ..compatible("dashscope", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "DASHSCOPE_API_KEY")
    },
    Provider {
        aliases: &["databricks-model-serving"],
        grant: Some(Grants::Own("/oidc/v1/token", "all-apis")),
        needs_key: false,
        tasks: ALL,
        fields: &[
            API_KEY,
            API_BASE,
            setting("host", &settings::DATABRICKS_HOST),
            Field { name: "token", sets: Sets::ApiKey },
            setting("client_id", &settings::DATABRICKS_CLIENT),
            secret("client_secret"),
            setting("api", &settings::API),
        ],
        predict: Some(&databricks::INVOCATIONS),
        llm: Some(&databricks::DATABRICKS),
        quirks: Quirks { habits: &[Habit::OpenReasoning], ..MAX_TOKENS },
        ..compatible("databricks", "{host}", "DATABRICKS_TOKEN")
    },
    // https://docs.deepinfra.com/openai_api
    Provider { quirks: OPEN_MODELS, ..compatible("deepinfra", "https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY") },
    // https://api-docs.deepseek.com/api/create-chat-completion
    Provider {
        // Its completions are at another address, which is in beta.
        tasks: CHAT,
        capabilities: CAN_TOOLS,
        quirks: Quirks {
            reasoning: ReasoningField::Thinking,
            lacks: &["n", "seed", "user", "logit_bias", "metadata", "parallel_tool_calls", "json_schema"],
            habits: &[Habit::NoDeveloper, Habit::FlatContent],
            ..MAX_TOKENS
        },
        ..compatible("deepseek", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY")
    },
    // What it ignores is refused: https://api-docs.deepseek.com/guides/anthropic_api
    Provider {
        quirks: Quirks { lacks: &["format", "image", "document", "top_k", "budget_tokens", "disable_parallel_tool_use"], ..MESSAGES_DOOR },
        ..messages_door("deepseek-anthropic", "https://api.deepseek.com/anthropic/v1", "DEEPSEEK_API_KEY")
    },
    // https://docs.digitalocean.com/products/gradient-ai-platform/how-to/use-serverless-inference/
    compatible("digitalocean", "https://inference.do-ai.run/v1", "DIGITALOCEAN_API_KEY"),
    // https://featherless.ai/docs/api-overview-and-common-options
    Provider { quirks: OPEN_MODELS, ..compatible("featherless", "https://api.featherless.ai/v1", "FEATHERLESS_AI_API_KEY") },
    // https://docs.fireworks.ai/api-reference/post-chatcompletions
    Provider {
        aliases: &["fireworks-ai"],
        quirks: Quirks { model_prefix: "accounts/fireworks/models/", ..OPEN_MODELS },
        ..compatible("fireworks", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY")
    },
    // https://friendli.ai/docs/openapi/serverless/chat-completions
    Provider { quirks: OPEN_MODELS, ..compatible("friendli", "https://api.friendli.ai/serverless/v1", "FRIENDLI_TOKEN") },
    Provider {
        aliases: &["google", "google-ai-studio"],
        auth: Auth::Header("x-goog-api-key"),
        llm: Some(&gemini::GEMINI),
        // Since January 2026 it fetches public and signed https addresses itself, for models from 2.5 on.
        quirks: Quirks { most_inputs: 100, ..Quirks::NONE },
        ..compatible("gemini", "https://generativelanguage.googleapis.com/v1beta", "GEMINI_API_KEY")
    },
    // https://docs.github.com/en/rest/models/inference
    Provider {
        tasks: CHAT_EMBED,
        aliases: &["github"],
        ..compatible("github-models", "https://models.github.ai/inference", "GITHUB_TOKEN")
    },
    // https://console.groq.com/docs/api-reference
    Provider {
        tasks: CHAT,
        quirks: Quirks {
            // It refuses fields of messages that its documentation does not name.
            lacks: &["logprobs", "top_logprobs", "logit_bias", "metadata", "reasoning_content", "annotations", "refusal"],
            takes: &["include_reasoning"],
            // A status of its own, for a full flex tier: https://console.groq.com/docs/errors
            errors: &[("498", ErrorReason::ProviderUnavailable)],
            ..Quirks::NONE
        },
        ..compatible("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY")
    },
    // Whatever people write themselves: nothing is known of it but what the templates say.
    Provider {
        needs_key: false,
        llm: None,
        predict: Some(&templated::TEMPLATED),
        tasks: PREDICT,
        fields: &[
            API_KEY,
            API_BASE,
            setting("method", &settings::HTTP_METHOD),
            setting("path", &settings::HTTP_PATH),
            setting("content_type", &settings::HTTP_CONTENT_TYPE),
            Field { name: templated::REQUEST, sets: Sets::Template(false) },
            Field { name: templated::RESPONSE, sets: Sets::Template(true) },
        ],
        quirks: Quirks::NONE,
        capabilities: &[],
        ..compatible("http", "", "")
    },
    // https://huggingface.co/docs/inference-providers/index
    Provider { aliases: &["huggingface-router"], tasks: CHAT, ..compatible("huggingface", "https://router.huggingface.co/v1", "HF_TOKEN") },
    Provider {
        aliases: &["tgi"],
        needs_key: false,
        tasks: &[Task::Chat, Task::Complete],
        fields: &[API_KEY, API_BASE, Field { name: "hf_server_url", sets: Sets::ApiBase }],
        llm: Some(&tgi::TGI),
        quirks: Quirks { mlflow_temperature: Rescale { least: 0.001, ..Rescale::by(50.0) }, ..MAX_TOKENS },
        ..compatible("huggingface-text-generation-inference", "", "")
    },
    // https://docs.hyperbolic.xyz/docs/rest-api
    Provider { quirks: OPEN_MODELS, ..compatible("hyperbolic", "https://api.hyperbolic.xyz/v1", "HYPERBOLIC_API_KEY") },
    // https://docs.lambda.ai/public-cloud/lambda-inference-api/
    compatible("lambda-ai", "https://api.lambda.ai/v1", "LAMBDA_API_KEY"),
    Provider {
        needs_key: false,
        fields: &[API_KEY, API_BASE, later("litellm_provider"), later_secret("litellm_auth_config")],
        instead: Some(
            "it is a library of Python; name the provider that it would call, or run its proxy and use `provider: litellm-proxy`",
        ),
        ..unspoken("litellm", "", "")
    },
    // https://docs.litellm.ai/docs/proxy/user_keys
    local("litellm-proxy", "http://localhost:4000/v1", "LITELLM_API_KEY"),
    // https://github.com/ggml-org/llama.cpp/tree/master/tools/server
    Provider { aliases: &["llama.cpp", "llamacpp"], quirks: OPEN_MODELS, ..local("llama-cpp", "http://localhost:8080/v1", "") },
    // https://lmstudio.ai/docs/app/api/endpoints/openai
    Provider {
        aliases: &["lmstudio"],
        quirks: Quirks { fetches_media: false, ..OPEN_MODELS },
        ..local("lm-studio", "http://localhost:1234/v1", "")
    },
    // https://localai.io/basics/getting_started/
    Provider { aliases: &["local-ai"], ..local("localai", "http://localhost:8080/v1", "") },
    // https://llama.developer.meta.com/docs/features/compatibility
    Provider { aliases: &["llama-api"], tasks: CHAT, ..compatible("meta-llama", "https://api.llama.com/compat/v1", "LLAMA_API_KEY") },
    // https://platform.minimax.io/docs/api-reference/text-openai-api
    Provider {
        tasks: CHAT,
        // What it would ignore, and how it fails.
        quirks: Quirks {
            lacks: &["presence_penalty", "frequency_penalty", "logit_bias"],
            outcome: "base_resp",
            errors: MINIMAX_ERRORS,
            ..MAX_TOKENS
        },
        ..compatible("minimax", "https://api.minimax.io/v1", "MINIMAX_API_KEY")
    },
    // What it ignores is refused: https://platform.minimax.io/docs/api-reference/text-anthropic-api
    Provider {
        quirks: Quirks { lacks: &["format", "image", "document", "top_k", "stop_sequences"], errors: MINIMAX_ERRORS, ..MESSAGES_DOOR },
        ..messages_door("minimax-anthropic", "https://api.minimax.io/anthropic/v1", "MINIMAX_API_KEY")
    },
    // https://docs.mistral.ai/api/
    Provider {
        tasks: CHAT_EMBED,
        // It refuses what its documentation does not name, and reports usage without being asked.
        quirks: Quirks {
            max_tokens_field: "max_tokens",
            stream_usage: false,
            renames: &[("seed", "random_seed"), ("dimensions", "output_dimension")],
            lacks: &[
                "user",
                "logprobs",
                "top_logprobs",
                "logit_bias",
                "store",
                "service_tier",
                "metadata",
                "name",
                "reasoning_content",
                "annotations",
                "refusal",
                "thought_signature",
            ],
            habits: &[Habit::ShortToolIds, Habit::NoDeveloper, Habit::AnyForRequired],
            mlflow_temperature: Rescale { complete: 0.5, ..Rescale::NONE },
            ..Quirks::NONE
        },
        ..compatible("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY")
    },
    scored("mlflow", &[API_KEY, API_BASE, MODEL_SERVER, setting("schema", &settings::MLFLOW_SCHEMA)]),
    // The name by which MLflow's gateway knows it, which sends `inputs` whatever the task.
    scored("mlflow-model-serving", &[API_KEY, API_BASE, MODEL_SERVER, setting("schema", &settings::MLFLOW_PLAIN)]),
    Provider {
        name: "mock",
        aliases: &[],
        kind: Kind::Mock,
        base: "http://mock.invalid/v1",
        key_env: "",
        auth: Auth::None,
        grant: None,
        needs_key: false,
        llm: Some(&openai::OPENAI),
        instead: None,
        predict: Some(&scoring::SCORING),
        tasks: ALL,
        fields: &[],
        quirks: Quirks::NONE,
        capabilities: CAN_ALL,
    },
    // https://platform.kimi.ai/docs/api/chat
    // Which of its models take a forced tool, and whether while they think, it says itself: https://platform.kimi.ai/docs/guide/use-tool-choice
    Provider {
        aliases: &["kimi"],
        tasks: CHAT,
        quirks: Quirks { reasoning: ReasoningField::Thinking, habits: &[Habit::NoDeveloper], ..MAX_TOKENS },
        ..compatible("moonshot", "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY")
    },
    Provider {
        instead: Some("its service is closed; use `provider: databricks`, which took it over, or another provider"),
        ..unspoken("mosaicml", "https://models.hosted-on.mosaicml.hosting", "MOSAICML_API_KEY")
    },
    // https://docs.tokenfactory.nebius.com/api-reference
    Provider { quirks: OPEN_MODELS, ..compatible("nebius", "https://api.tokenfactory.nebius.com/v1", "NEBIUS_API_KEY") },
    // https://novita.ai/docs/api-reference/model-apis-llm-create-chat-completion
    Provider { quirks: OPEN_MODELS, ..compatible("novita", "https://api.novita.ai/openai/v1", "NOVITA_API_KEY") },
    // https://docs.nscale.com/docs/inference/chat
    compatible("nscale", "https://inference.api.nscale.com/v1", "NSCALE_API_KEY"),
    // https://docs.api.nvidia.com/nim/reference/llm-apis
    Provider { aliases: &["nvidia-nim", "nim"], ..compatible("nvidia", "https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY") },
    // https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
    Provider {
        needs_key: false,
        llm: None,
        predict: Some(&oip::OIP),
        tasks: &[Task::Predict],
        fields: &[API_KEY, API_BASE, setting(oip::VERSION, &settings::OIP_VERSION)],
        quirks: Quirks { is_grpc: true, ..Quirks::NONE },
        capabilities: &[],
        ..compatible(INFERENCE, "", "")
    },
    // https://github.com/ollama/ollama/blob/main/docs/openai.md
    Provider { quirks: Quirks { fetches_media: false, ..MAX_TOKENS }, ..local("ollama", "http://localhost:11434/v1", "OLLAMA_API_KEY") },
    // https://github.com/ollama/ollama/blob/main/docs/api.md
    Provider {
        llm: Some(&ollama::OLLAMA),
        capabilities: CAN_MOST,
        quirks: Quirks { fetches_media: false, ..Quirks::NONE },
        ..local("ollama-native", "http://localhost:11434", "OLLAMA_API_KEY")
    },
    // https://platform.openai.com/docs/api-reference/chat
    Provider {
        fields: &[
            API_KEY,
            API_BASE,
            Field { name: "openai_api_key", sets: Sets::ApiKey },
            Field { name: "openai_api_base", sets: Sets::ApiBase },
            Field { name: "openai_organization", sets: Sets::Header("openai-organization") },
            Field { name: "openai_project", sets: Sets::Header("openai-project") },
            Field { name: "openai_api_type", sets: Sets::Flavour(&OPENAI_FLAVOUR) },
            setting("openai_api_version", &settings::AZURE_VERSION),
            setting("openai_deployment_name", &settings::AZURE_DEPLOYMENT),
        ],
        quirks: OPENAI,
        ..compatible("openai", "https://api.openai.com/v1", "OPENAI_API_KEY")
    },
    Provider { aliases: &["custom-openai", "openai-like"], ..local("openai-compatible", "", "") },
    // https://platform.openai.com/docs/api-reference/responses
    Provider {
        llm: Some(&openai_responses::OPENAI_RESPONSES),
        tasks: &[Task::Chat, Task::Complete],
        fields: &[
            API_KEY,
            API_BASE,
            Field { name: "openai_api_key", sets: Sets::ApiKey },
            Field { name: "openai_api_base", sets: Sets::ApiBase },
            Field { name: "openai_organization", sets: Sets::Header("openai-organization") },
            Field { name: "openai_project", sets: Sets::Header("openai-project") },
        ],
        quirks: Quirks::NONE,
        capabilities: CAN_MOST,
        ..compatible("openai-responses", "https://api.openai.com/v1", "OPENAI_API_KEY")
    },
    // https://openrouter.ai/docs/api-reference/chat-completion
    Provider {
        quirks: Quirks {
            reasoning: ReasoningField::Object,
            takes: &["top_k"],
            cost: Some(ReportedCost { path: &["cost"], pico_usd: 1e12 }),
            ..MAX_TOKENS
        },
        ..compatible("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY")
    },
    // https://www.ovhcloud.com/en/public-cloud/ai-endpoints/
    compatible("ovhcloud", "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1", "OVHCLOUD_API_KEY"),
    Provider {
        auth: Auth::Header("x-goog-api-key"),
        instead: Some("its service is closed; use `provider: gemini`, which took its place"),
        ..unspoken("palm", "https://generativelanguage.googleapis.com/v1beta3", "PALM_API_KEY")
    },
    // https://docs.perplexity.ai/api-reference/chat-completions-post
    Provider {
        tasks: CHAT,
        capabilities: &[Capability::Stream, Capability::JsonSchema, Capability::ImageInput],
        quirks: Quirks {
            lacks: &[
                "tools",
                "tool_choice",
                "parallel_tool_calls",
                "n",
                "seed",
                "logit_bias",
                "logprobs",
                "top_logprobs",
                "user",
                "metadata",
                "input_audio",
            ],
            takes: &["top_k"],
            output_excludes: &["reasoning_tokens", "citation_tokens"],
            cost: Some(ReportedCost { path: &["cost", "total_cost"], pico_usd: 1e12 }),
            habits: &[Habit::NoDeveloper],
            ..MAX_TOKENS
        },
        ..compatible("perplexity", "https://api.perplexity.ai", "PERPLEXITY_API_KEY")
    },
    // https://portkey.ai/docs/api-reference/inference-api/headers
    Provider {
        auth: Auth::Header("x-portkey-api-key"),
        fields: &[
            API_KEY,
            API_BASE,
            Field { name: "portkey_provider", sets: Sets::Header("x-portkey-provider") },
            Field { name: "portkey_config", sets: Sets::Header("x-portkey-config") },
            later_secret("provider_api_key"),
        ],
        ..compatible("portkey", "https://api.portkey.ai/v1", "PORTKEY_API_KEY")
    },
    Provider {
        aliases: &["aws-sagemaker"],
        grant: Some(Grants::Aws("sagemaker")),
        needs_key: false,
        tasks: ALL,
        fields: &[
            API_BASE,
            Field { name: "aws_config", sets: Sets::Group },
            setting("aws_region", &settings::AWS_REGION),
            setting("aws_access_key_id", &settings::AWS_KEY_ID),
            secret("aws_secret_access_key"),
            secret("aws_session_token"),
            setting("aws_role_arn", &settings::AWS_ROLE),
            setting("aws_external_id", &settings::AWS_EXTERNAL_ID),
            setting("aws_profile", &settings::AWS_PROFILE),
            setting("session_length_seconds", &settings::AWS_SESSION),
            setting("schema", &settings::SAGEMAKER_SCHEMA),
            setting("served_model", &settings::SAGEMAKER_MODEL),
            setting("stream_format", &settings::SAGEMAKER_STREAM),
            Field { name: "target_variant", sets: Sets::Header("x-amzn-sagemaker-target-variant") },
            Field { name: "target_model", sets: Sets::Header("x-amzn-sagemaker-target-model") },
            Field { name: "inference_component", sets: Sets::Header("x-amzn-sagemaker-inference-component") },
        ],
        llm: Some(&sagemaker::SAGEMAKER),
        predict: Some(&sagemaker::SAGEMAKER),
        quirks: MAX_TOKENS,
        ..compatible("sagemaker", "https://runtime.sagemaker.{aws_region}.amazonaws.com", "")
    },
    // https://docs.sambanova.ai/docs/en/features/openai-compatibility
    compatible("sambanova", "https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    Provider { auth: Auth::None, needs_key: false, tasks: CHAT, instead: Some(OWN_PROTOCOL), ..unspoken("sap-ai-core", "", "") },
    // https://www.scaleway.com/en/docs/generative-apis/
    compatible("scaleway", "https://api.scaleway.ai/v1", "SCW_SECRET_KEY"),
    // https://docs.sglang.ai/basic_usage/openai_api.html
    Provider { quirks: OPEN_MODELS, ..local("sglang", "http://localhost:30000/v1", "") },
    // https://docs.siliconflow.com/en/api-reference/chat-completions/chat-completions
    Provider {
        quirks: Quirks { reasoning: ReasoningField::Budget, ..OPEN_MODELS },
        ..compatible("siliconflow", "https://api.siliconflow.com/v1", "SILICONFLOW_API_KEY")
    },
    // https://docs.together.ai/reference/chat-completions-1
    Provider {
        aliases: &["togetherai", "together-ai"],
        fields: &[API_KEY, API_BASE, Field { name: "togetherai_api_key", sets: Sets::ApiKey }],
        quirks: Quirks { habits: &[Habit::CountsLogprobs, Habit::NoDeveloper], ..OPEN_MODELS },
        ..compatible("together", "https://api.together.xyz/v1", "TOGETHER_API_KEY")
    },
    Provider { tasks: CHAT, instead: Some(OWN_PROTOCOL), ..unspoken("typesafe", "https://api.typesafe.ai/v1", "TYPESAFE_API_KEY") },
    // https://console.upstage.ai/api/chat
    compatible("upstage", "https://api.upstage.ai/v1", "UPSTAGE_API_KEY"),
    Provider {
        aliases: &["vertex", "google-vertex-ai"],
        grant: Some(Grants::Google),
        needs_key: false,
        fields: &[
            API_KEY,
            API_BASE,
            setting("vertex_project", &settings::VERTEX_PROJECT),
            setting("vertex_location", &settings::VERTEX_LOCATION),
            secret("vertex_credentials"),
            Field { name: "vertex_anthropic_betas", sets: Sets::Header("anthropic-beta") },
        ],
        llm: Some(&vertex::VERTEX),
        // Of its models, those of Anthropic's protocol must be told a limit, and those of OpenAI's take the older name for it. Gemini's own
        // take one text a call: https://cloud.google.com/vertex-ai/generative-ai/docs/embeddings/get-text-embeddings
        quirks: Quirks { most_inputs: 250, most_inputs_of: &[("gemini-embedding", 1)], default_max_tokens: Some(8192), ..MAX_TOKENS },
        ..compatible("vertex-ai", "https://{vertex_location:host}/v1/projects/{vertex_project}/locations/{vertex_location}", "")
    },
    // https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
    Provider { quirks: OPEN_MODELS, ..local("vllm", "http://localhost:8000/v1", "") },
    // https://docs.wandb.ai/guides/inference/
    compatible("wandb", "https://api.inference.wandb.ai/v1", "WANDB_API_KEY"),
    // https://docs.x.ai/docs/api-reference
    Provider {
        aliases: &["grok"],
        quirks: Quirks {
            output_excludes: &["reasoning_tokens"],
            cost: Some(ReportedCost { path: &["cost_in_usd_ticks"], pico_usd: 100.0 }),
            ..Quirks::NONE
        },
        ..compatible("xai", "https://api.x.ai/v1", "XAI_API_KEY")
    },
    // https://docs.z.ai/api-reference/llm/chat-completion
    Provider { aliases: &["z-ai"], tasks: CHAT, quirks: GLM, ..compatible("zai", "https://api.z.ai/api/paas/v4", "ZAI_API_KEY") },
    // https://docs.z.ai/devpack/tool/claude
    Provider { auth: Auth::Bearer, ..messages_door("zai-anthropic", "https://api.z.ai/api/anthropic/v1", "ZAI_API_KEY") },
    // https://docs.bigmodel.cn/api-reference
    Provider {
        aliases: &["bigmodel", "zhipu"],
        quirks: GLM,
        ..compatible("zhipuai", "https://open.bigmodel.cn/api/paas/v4", "ZHIPUAI_API_KEY")
    },
];

#[cfg(test)]
mod tests;
