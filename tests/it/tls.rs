//! TLS on the data plane, with and without client certificates, and its renewal under way.

use std::{net::SocketAddr, path::PathBuf};

use flowgate_client::{Client, Tls};
use tempfile::TempDir;

use crate::{doors::chat, fake::soon, gateway::Running};

const NAME: &str = "flowgate.test";

/// A certificate and its key, in PEM form.
struct Pair {
    cert: String,
    key: String,
}

/// A folder with what the gateway reads.
struct Folder(TempDir);

impl Pair {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        Self { cert: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }
}

impl Folder {
    fn new(pair: &Pair) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.put(pair);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, pair: &Pair) {
        std::fs::write(self.path("tls.crt"), &pair.cert).unwrap();
        std::fs::write(self.path("tls.key"), &pair.key).unwrap();
    }

    async fn serve(&self, client_ca: Option<&Pair>) -> Running {
        let mut tls = format!("cert: \"{}\", key: \"{}\"", self.path("tls.crt").display(), self.path("tls.key").display());
        if let Some(pair) = client_ca {
            std::fs::write(self.path("clients.crt"), &pair.cert).unwrap();
            tls = format!("{tls}, client_ca: \"{}\"", self.path("clients.crt").display());
        }
        let endpoint = "{ name: chat, endpoint_type: llm/v1/chat, model: { provider: mock, config: { text: safe } } }";
        Running::start(&format!("tls: {{ {tls} }}\nendpoints: [{endpoint}]\n")).await
    }
}

/// Calls over a new connection.
async fn ask(address: SocketAddr, trusted: &Pair, own: Option<&Pair>) -> Result<String, flowgate_client::Error> {
    let tls = Tls::new().ca(trusted.cert.clone()).domain(NAME);
    let tls = own.into_iter().fold(tls, |tls, own| tls.identity(own.cert.clone(), own.key.clone()));
    let client = Client::options(format!("https://{address}")).tls(tls).connect()?;
    let answer = soon("an answer or a refusal", client.chat(chat("chat", "hi"))).await?;
    Ok(flowgate_client::message::text_of(&answer))
}

#[tokio::test]
async fn only_clients_that_speak_tls_come_in() {
    let (pair, stranger) = (Pair::new(), Pair::new());
    let folder = Folder::new(&pair);
    let running = folder.serve(None).await;
    assert_eq!(ask(running.data, &pair, None).await.unwrap(), "safe");
    assert!(ask(running.data, &stranger, None).await.is_err(), "a client that does not trust the certificate");
    assert!(running.http().get(running.url("/health")).send().await.is_err(), "a client in the clear");
    assert!(running.client().chat(chat("chat", "hi")).await.is_err(), "a gRPC client in the clear");
    assert!(running.metrics().await.contains("flowgate_calls_total"), "the admin listener stays in the clear");
    assert_eq!(ask(running.data, &pair, None).await.unwrap(), "safe");
}

#[tokio::test]
async fn with_a_client_authority_only_its_clients_come_in() {
    let (pair, client, stranger) = (Pair::new(), Pair::new(), Pair::new());
    let folder = Folder::new(&pair);
    let running = folder.serve(Some(&client)).await;
    assert_eq!(ask(running.data, &pair, Some(&client)).await.unwrap(), "safe");
    assert!(ask(running.data, &pair, Some(&stranger)).await.is_err());
    assert!(ask(running.data, &pair, None).await.is_err());
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_connections() {
    let (old, new) = (Pair::new(), Pair::new());
    let folder = Folder::new(&old);
    let running = folder.serve(None).await;
    let tls = Tls::new().ca(old.cert.clone()).domain(NAME);
    let kept = Client::options(format!("https://{}", running.data)).tls(tls).connect().unwrap();
    kept.chat(chat("chat", "hi")).await.unwrap();

    std::fs::write(folder.path("tls.crt"), &new.cert).unwrap();
    assert_eq!(ask(running.data, &old, None).await.unwrap(), "safe", "half a renewal changes nothing");
    folder.put(&new);
    assert_eq!(ask(running.data, &new, None).await.unwrap(), "safe");
    assert!(ask(running.data, &old, None).await.is_err());
    kept.chat(chat("chat", "hi")).await.unwrap();
}
