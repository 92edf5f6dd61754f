//! TLS and mTLS on the one port, for gRPC and HTTP alike, and a certificate that is replaced while connections are open.

use std::{fs, path::Path};

use flowgate_client::{Client, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::tls::{Certificate, Identity};
use tempfile::TempDir;

use crate::{
    doors::chat,
    fake::Fake,
    gateway::Running,
    speech::{TEXT, chat_endpoint, config, llm},
};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `localhost` and its key.
    fn issue(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// Writes a fresh certificate where the gateway looks for it, as a renewal does: by renaming.
    fn renew(&self, folder: &Path) {
        let (certificate, key) = self.issue();
        for (name, text) in [("tls.crt", certificate), ("tls.key", key)] {
            fs::write(folder.join("new"), text).unwrap();
            fs::rename(folder.join("new"), folder.join(name)).unwrap();
        }
    }
}

async fn gateway(folder: &TempDir, more: &str) -> (Running, Fake) {
    let upstream = Fake::start(llm).await;
    let place = |name: &str| folder.path().join(name).display().to_string();
    let tls = format!("tls: {{ cert: \"{}\", key: \"{}\"{more} }}\n", place("tls.crt"), place("tls.key"));
    (Running::start(&format!("{tls}{}", config(&[chat_endpoint(&upstream.url, "")]))).await, upstream)
}

fn address(running: &Running) -> String {
    format!("https://localhost:{}", running.data.port())
}

fn client(running: &Running, tls: Tls) -> Client {
    Client::options(address(running)).tls(tls).connect().unwrap()
}

async fn grpc(running: &Running, tls: Tls) -> bool {
    let told = client(running, tls).chat(chat("chat", "hi")).await;
    told.is_ok_and(|answer| flowgate_client::message::text_of(&answer) == TEXT)
}

/// One version of HTTP, without a connection from before.
async fn http(running: &Running, h2: bool, ca: &str, identity: Option<&(String, String)>) -> bool {
    let ca = Certificate::from_pem(ca.as_bytes()).unwrap();
    let builder = reqwest::Client::builder().tls_certs_only([ca]);
    let builder = if h2 { builder } else { builder.http1_only() };
    let builder = match identity {
        Some((certificate, key)) => builder.identity(Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap()),
        None => builder,
    };
    let response = builder.build().unwrap().get(format!("{}/health", address(running))).send().await;
    response.is_ok_and(|response| {
        assert_eq!(response.version() == reqwest::Version::HTTP_2, h2, "ALPN chooses");
        response.status() == 200
    })
}

#[tokio::test]
async fn both_protocols_are_served_over_tls_and_nothing_in_the_clear() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    authority.renew(folder.path());
    let (running, _upstream) = gateway(&folder, "").await;
    assert!(grpc(&running, Tls::new().ca(authority.pem())).await);
    for h2 in [true, false] {
        assert!(http(&running, h2, &authority.pem(), None).await);
        assert!(!http(&running, h2, &Authority::new().pem(), None).await, "the certificate is that of the file");
    }
    assert!(running.client().chat(chat("chat", "hi")).await.is_err());
    assert!(running.http().get(running.url("/health")).send().await.is_err());
    assert!(running.metrics().await.contains("flowgate_calls_total"), "the admin listener is on loopback, in the clear");
}

#[tokio::test]
async fn with_a_client_authority_only_its_own_get_in() {
    let (folder, servers, clients) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    servers.renew(folder.path());
    fs::write(folder.path().join("ca.crt"), clients.pem()).unwrap();
    let (running, upstream) = gateway(&folder, &format!(", client_ca: \"{}\"", folder.path().join("ca.crt").display())).await;
    let (own, foreign) = (clients.issue(), Authority::new().issue());
    for (identity, enters) in [(Some(&own), true), (Some(&foreign), false), (None, false)] {
        let tls = Tls::new().ca(servers.pem());
        let tls = match identity {
            Some((certificate, key)) => tls.identity(certificate.clone(), key.clone()),
            None => tls,
        };
        assert_eq!(grpc(&running, tls).await, enters);
        for h2 in [true, false] {
            assert_eq!(http(&running, h2, &servers.pem(), identity).await, enters);
        }
    }
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_replaced_certificate_serves_new_connections_and_old_ones_go_on() {
    let (folder, old, new) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    old.renew(folder.path());
    let (running, _upstream) = gateway(&folder, "").await;
    let before = client(&running, Tls::new().ca(old.pem()));
    before.chat(chat("chat", "hi")).await.unwrap();

    new.renew(folder.path());
    assert!(grpc(&running, Tls::new().ca(new.pem())).await);
    assert!(!grpc(&running, Tls::new().ca(old.pem())).await);
    assert!(http(&running, true, &new.pem(), None).await);
    before.chat(chat("chat", "hi")).await.unwrap();

    // Half a renewal, and one that is no certificate: what served goes on serving.
    fs::write(folder.path().join("tls.key"), new.issue().1).unwrap();
    assert!(grpc(&running, Tls::new().ca(new.pem())).await);
    fs::write(folder.path().join("tls.crt"), "not a certificate").unwrap();
    assert!(grpc(&running, Tls::new().ca(new.pem())).await);
    old.renew(folder.path());
    assert!(grpc(&running, Tls::new().ca(old.pem())).await);
}
