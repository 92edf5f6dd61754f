//! `flowgate call`: a friendly client for trying an endpoint from a terminal.

use std::{io::Read as _, process::ExitCode};

use clap::Args;
use flowgate_client::{
    Client, Error, message,
    proto::v1::{self, ChatRequest, CompleteRequest, EmbedRequest, PredictRequest, Raw, Task, predict_request, predict_response},
};

use super::{complain, runtime, say};

#[derive(Debug, Args)]
pub(super) struct Call {
    /// The endpoint.
    endpoint: String,
    /// What to send: text for an LLM endpoint; MLflow's scoring JSON, or CSV, for a predict endpoint. `-`, or nothing: standard input.
    #[arg(default_value = "-")]
    input: String,
    /// Where the gateway is.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:5000")]
    address: String,
    /// The key, sent as a bearer token.
    #[arg(long, env = "FLOWGATE_KEY", hide_env_values = true)]
    key: Option<String>,
    /// A system message for a chat.
    #[arg(long)]
    system: Option<String>,
    /// The most tokens to write.
    #[arg(long)]
    max_tokens: Option<u32>,
}

pub(super) fn run(call: &Call) -> ExitCode {
    crate::install_crypto();
    let input = match read(&call.input) {
        Ok(input) => input,
        Err(error) => {
            complain(&format!("error: standard input cannot be read: {error}\n"));
            return ExitCode::FAILURE;
        }
    };
    let done = match runtime() {
        Ok(runtime) => runtime.block_on(send(call, input)),
        Err(error) => {
            complain(&format!("error: the runtime cannot be started: {error}\n"));
            return ExitCode::FAILURE;
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let reason = error.reason_name().map(|reason| format!(" ({reason})")).unwrap_or_default();
            complain(&format!("error: {}{reason}\n", error.message()));
            ExitCode::FAILURE
        }
    }
}

fn read(input: &str) -> std::io::Result<String> {
    if input != "-" {
        return Ok(input.to_owned());
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

async fn send(call: &Call, input: String) -> Result<(), Error> {
    let mut options = Client::options(&call.address);
    if let Some(key) = &call.key {
        options = options.key(key)?;
    }
    let client = options.connect()?;
    let endpoint = call.endpoint.clone();
    match client.get_endpoint(&endpoint).await?.task() {
        Task::Prediction => predict(&client, endpoint, input).await,
        Task::Embedding => {
            let answer = client.embed(EmbedRequest { endpoint, inputs: vec![input], ..Default::default() }).await?;
            for embedding in &answer.embeddings {
                say(&format!("{:?}\n", embedding.values));
            }
            Ok(())
        }
        Task::Completion => {
            let request = CompleteRequest { endpoint, prompts: vec![input], max_tokens: call.max_tokens, ..Default::default() };
            let mut text = client.stream_complete(request).await?.text();
            while let Some(piece) = text.next().await {
                say(&piece?);
            }
            say("\n");
            Ok(())
        }
        Task::Chat | Task::Unspecified => {
            let messages = call.system.as_deref().map(message::system).into_iter().chain([message::user(input)]).collect();
            let mut text =
                client.stream_chat(ChatRequest { endpoint, messages, max_tokens: call.max_tokens, ..Default::default() }).await?.text();
            while let Some(piece) = text.next().await {
                say(&piece?);
            }
            say("\n");
            Ok(())
        }
    }
}

/// Sends the input as it is, so that the model server's own JSON comes back.
async fn predict(client: &Client, endpoint: String, input: String) -> Result<(), Error> {
    let is_json = input.trim_start().starts_with('{');
    let raw = Raw { content_type: if is_json { "application/json" } else { "text/csv" }.to_owned(), body: input.into() };
    let request = PredictRequest { endpoint, input: Some(predict_request::Input::Raw(raw)), ..Default::default() };
    let answer: v1::PredictResponse = client.predict(request).await?;
    if let Some(predict_response::Output::Raw(raw)) = answer.output {
        say(&format!("{}\n", String::from_utf8_lossy(&raw.body).trim_end()));
    }
    Ok(())
}
