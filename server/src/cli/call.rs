//! `flowgate call`: a friendly client for trying an endpoint from a terminal.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use flowgate_client::{
    Client, Error, Tls, message,
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
    /// Where the gateway is; `https://` where it serves TLS.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:5000")]
    address: String,
    /// The key, sent as a bearer token.
    #[arg(long, env = "FLOWGATE_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Whom to trust for `https://`, PEM, instead of the system's certificate authorities.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Your own certificate chain, PEM, for a gateway that asks for one.
    #[arg(long, value_name = "FILE", requires = "cert_key")]
    cert: Option<PathBuf>,
    /// The private key of `--cert`, PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    cert_key: Option<PathBuf>,
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
        Ok(runtime) => runtime.block_on(call.send(input)),
        Err(error) => Err(format!("the runtime cannot be started: {error}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            complain(&format!("error: {what}\n"));
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

impl Call {
    async fn send(&self, input: String) -> Result<(), String> {
        let tls = self.tls()?;
        let client = self.client(tls).map_err(|error| self.explain(&error))?;
        send(self, &client, input).await.map_err(|error| self.explain(&error))
    }

    fn client(&self, tls: Option<Tls>) -> Result<Client, Error> {
        let mut options = Client::options(&self.address);
        if let Some(key) = &self.key {
            options = options.key(key)?;
        }
        if let Some(tls) = tls {
            options = options.tls(tls);
        }
        options.connect()
    }

    /// What the options say of TLS; without any, the address alone decides.
    fn tls(&self) -> Result<Option<Tls>, String> {
        let read = |path: &Path| fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
        let mut tls = None;
        if let Some(ca) = &self.ca {
            tls = Some(Tls::new().ca(read(ca)?));
        }
        if let (Some(cert), Some(key)) = (&self.cert, &self.cert_key) {
            tls = Some(tls.unwrap_or_default().identity(read(cert)?, read(key)?));
        }
        Ok(tls)
    }

    fn explain(&self, error: &Error) -> String {
        if !error.is_connection() {
            let reason = error.reason_name().map(|reason| format!(" ({reason})")).unwrap_or_default();
            return format!("{}{reason}", error.told());
        }
        let advice = if self.address.starts_with("https") {
            "does a gateway serve TLS there? `--ca` trusts an authority of your own, `--cert` and `--cert-key` show a client certificate"
        } else {
            "is a gateway running there? `--address` names another, `https://` one that serves TLS"
        };
        format!("the connection to {} failed: {}\n    {advice}", self.address, error.told())
    }
}

async fn send(call: &Call, client: &Client, input: String) -> Result<(), Error> {
    let endpoint = call.endpoint.clone();
    match client.get_endpoint(&endpoint).await?.task() {
        Task::Prediction => predict(client, endpoint, input).await,
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
    let raw = Raw { content_type: content_type(&input).to_owned(), body: input.into() };
    let request = PredictRequest { endpoint, input: Some(predict_request::Input::Raw(raw)), ..Default::default() };
    let answer: v1::PredictResponse = client.predict(request).await?;
    if let Some(predict_response::Output::Raw(raw)) = answer.output {
        say(&format!("{}\n", String::from_utf8_lossy(&raw.body).trim_end()));
    }
    Ok(())
}

fn content_type(input: &str) -> &'static str {
    if input.trim_start().starts_with(['{', '[']) { "application/json" } else { "text/csv" }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        Listeners,
        config::{self, LoadOptions, Process, Source},
        task::Tasks,
    };

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        call: Call,
    }

    fn call(line: &[&str]) -> Call {
        Line::try_parse_from([&["call", "chat", "hello"], line].concat()).unwrap().call
    }

    /// A gateway with a mock, and its port.
    async fn gateway(more: &str) -> u16 {
        crate::install_crypto();
        let text = format!(
            "{{ listen: 127.0.0.1:0, admin: {{ listen: 127.0.0.1:0 }}, {more} \
             endpoints: [{{ name: chat, endpoint_type: llm/v1/chat, model: {{ provider: mock }} }}] }}"
        );
        let source = Source { name: "test.yaml".to_owned(), text };
        let config = config::parse(&[source], &Process, LoadOptions::default()).unwrap().config;
        let listeners = Listeners::bind(&config).await.unwrap();
        let port = listeners.data.local_addr().unwrap().port();
        Tasks::default().spawn(async move {
            crate::serve(&config, listeners, CancellationToken::new()).await.unwrap();
        });
        port
    }

    #[test]
    fn objects_and_lists_are_json_and_the_rest_is_csv() {
        for (input, want) in [
            (r#"{"inputs": [1]}"#, "application/json"),
            ("\n [1, 2]", "application/json"),
            ("a,b\n1,2", "text/csv"),
            ("\"a\"\n1", "text/csv"),
            ("", "text/csv"),
        ] {
            assert_eq!(content_type(input), want, "{input}");
        }
    }

    #[test]
    fn a_certificate_goes_with_its_key() {
        for half in [["--cert", "a"], ["--cert-key", "a"]] {
            assert!(Line::try_parse_from([&["call", "chat"][..], &half].concat()).is_err(), "{half:?}");
        }
    }

    #[tokio::test]
    async fn an_address_that_is_not_reached_is_named_with_what_to_try() {
        let port = gateway("").await;
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        for (address, wants) in [
            (format!("http://{closed}"), ["Connection refused", "is a gateway running there?"]),
            (format!("https://127.0.0.1:{port}"), ["corrupt message", "does a gateway serve TLS there?"]),
        ] {
            let told = call(&["--address", &address]).send("hello".to_owned()).await.unwrap_err();
            assert!(told.starts_with(&format!("the connection to {address} failed: ")), "{told}");
            assert!(wants.iter().all(|want| told.contains(want)), "{told}");
        }
        let address = format!("http://127.0.0.1:{port}");
        assert_eq!(call(&["--address", &address]).send("hello".to_owned()).await, Ok(()));
    }

    #[tokio::test]
    async fn tls_and_client_certificates_are_spoken() {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let [ca, cert, key] = [("ca", authority.pem()), ("cert", certificate.pem()), ("key", key.serialize_pem())].map(|(name, pem)| {
            let path = folder.path().join(name).display().to_string();
            fs::write(&path, pem).unwrap();
            path
        });
        let port = gateway(&format!("tls: {{ cert: '{cert}', key: '{key}', client_ca: '{ca}' }},")).await;
        let address = format!("https://localhost:{port}");
        let send = async |more: &[&str]| call(&[&["--address", &*address], more].concat()).send("hello".to_owned()).await;

        assert_eq!(send(&["--ca", &ca, "--cert", &cert, "--cert-key", &key]).await, Ok(()));
        for refused in [&[][..], &["--ca", &ca], &["--cert", &cert, "--cert-key", &key]] {
            let told = send(refused).await.unwrap_err();
            assert!(told.contains("failed: ") && told.contains("`--ca`"), "{refused:?}: {told}");
        }
        let clear = format!("http://localhost:{port}");
        let told = call(&["--address", &clear]).send(String::new()).await.unwrap_err();
        assert!(told.contains("`https://` one that serves TLS"), "{told}");
        let told = send(&["--ca", "nowhere.pem"]).await.unwrap_err();
        assert!(told.starts_with("cannot read nowhere.pem: "), "{told}");
        let told = call(&["--address", "http://localhost:1", "--ca", &ca]).send(String::new()).await.unwrap_err();
        assert!(told.contains("write https://HOST:PORT"), "{told}");
    }
}
