//! Control calls for rooms that have no sockets: to registries and stores of files, not to models. Follows nothing, keeps nothing.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use flowgate_proto::v1::ErrorReason;
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use http::{HeaderMap, Request, StatusCode};

use super::{exchange::chain, tls};
use crate::error::{Error, Result};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may say nothing: servers that pass files on get them whole before they begin.
const SILENCE: Duration = Duration::from_secs(120);

/// Sends a request; the answer is read as it comes. What `lib` hands to rooms without sockets.
pub type Fetch = Arc<dyn Fn(Request<Bytes>) -> BoxFuture<'static, Result<Answer>> + Send + Sync>;

/// An answer, whatever its status.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: BoxStream<'static, Result<Bytes>>,
}

/// How TLS is spoken with one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlTls {
    /// Any certificate is taken.
    pub insecure: bool,
    /// PEM file of the only authorities to trust, instead of the system's.
    pub ca: Option<PathBuf>,
    /// PEM file with a certificate and its key that prove who we are.
    pub identity: Option<PathBuf>,
}

/// A client for control calls.
///
/// # Errors
/// An internal error that names the PEM file which cannot be used.
pub fn fetch(options: &ControlTls) -> Result<Fetch> {
    let builder = if options.insecure {
        insecure(options)?
    } else {
        reqwest::Client::builder().tls_backend_preconfigured(Arc::unwrap_or_clone(tls::control(options)?))
    };
    let builder = builder.no_proxy().connect_timeout(CONNECT).read_timeout(SILENCE);
    let builder = builder.redirect(reqwest::redirect::Policy::none()).user_agent(concat!("flowgate/", env!("CARGO_PKG_VERSION")));
    let client = builder.build().map_err(|error| Error::internal("the client for control calls cannot be made").because(error))?;
    Ok(Arc::new(move |request| send(client.clone(), request).boxed()))
}

/// Takes any certificate. Only reqwest itself can be told to.
fn insecure(options: &ControlTls) -> Result<reqwest::ClientBuilder> {
    if Arc::unwrap_or_clone(tls::provider()).install_default().is_err() {
        tracing::trace!("the crypto provider is there already");
    }
    let builder = reqwest::Client::builder().tls_danger_accept_invalid_certs(true);
    let Some(path) = &options.identity else { return Ok(builder) };
    let unusable =
        |error| Error::internal(format!("{} holds no usable certificate and private key", path.display())).because(chain(&error));
    Ok(builder.identity(reqwest::Identity::from_pem(&tls::read(path)?).map_err(unusable)?))
}

async fn send(client: reqwest::Client, request: Request<Bytes>) -> Result<Answer> {
    let place = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    let request = reqwest::Request::try_from(request)
        .map_err(|error| Error::internal(format!("`{place}` is no address; correct it")).because(chain(&error)))?;
    let mut response = client.execute(request).await.map_err(|error| failed(error, &place, "cannot be reached"))?;
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    let body = stream::unfold(Some((response, place)), |state| async {
        let (mut response, place) = state?;
        match response.chunk().await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some((response, place)))),
            Ok(None) => None,
            Err(error) => Some((Err(failed(error, &place, "broke off its answer")), None)),
        }
    });
    Ok(Answer { status, headers, body: body.boxed() })
}

fn failed(error: reqwest::Error, place: &str, what: &str) -> Error {
    let reason = if error.is_timeout() && !error.is_connect() { ErrorReason::ProviderTimeout } else { ErrorReason::ProviderUnavailable };
    Error::new(reason, format!("`{place}` {what}; try again later")).because(chain(&error.without_url()))
}

impl Answer {
    /// The whole body.
    ///
    /// # Errors
    /// `PROVIDER_BAD_ANSWER` when it is longer than `most`; else what made it break off.
    pub async fn whole(mut self, most: usize) -> Result<Bytes> {
        let mut body = BytesMut::new();
        while let Some(chunk) = self.body.next().await {
            body.extend_from_slice(&chunk?);
            if body.len() > most {
                let message = format!("the answer is longer than {most} bytes; have the operator check the address");
                return Err(Error::new(ErrorReason::ProviderBadAnswer, message));
            }
        }
        Ok(body.freeze())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::task::Tasks;

    /// Answers each connection once, in TLS with a certificate that nobody knows, and tells whether the client proved who it is.
    async fn server(client_ca: Option<rustls::pki_types::CertificateDer<'static>>) -> (u16, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (pem, der) = (made.cert.pem(), made.cert.der().clone());
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let builder = rustls::ServerConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions().unwrap();
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(ca).unwrap();
                let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider());
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![der], key).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Tasks::default().spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut asked = [0; 1024];
                if stream.read(&mut asked).await.is_ok_and(|read| read > 0) {
                    drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello").await);
                    drop(stream.shutdown().await);
                }
            }
        });
        (port, pem)
    }

    async fn get(port: u16, options: &ControlTls) -> Result<Bytes> {
        let request = Request::get(format!("https://localhost:{port}/")).body(Bytes::new()).unwrap();
        fetch(options)?(request).await?.whole(100).await
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[tokio::test]
    async fn a_stranger_is_trusted_only_when_told() {
        let (port, pem) = server(None).await;
        assert_eq!(get(port, &ControlTls::default()).await.unwrap_err().reason(), ErrorReason::ProviderUnavailable);
        assert_eq!(get(port, &ControlTls { insecure: true, ..ControlTls::default() }).await.unwrap(), "hello");
        let ca = file(&pem);
        assert_eq!(get(port, &ControlTls { ca: Some(ca.path().into()), ..ControlTls::default() }).await.unwrap(), "hello");
        let empty = file("");
        let error = get(port, &ControlTls { ca: Some(empty.path().into()), ..ControlTls::default() }).await.unwrap_err();
        assert!(error.to_string().contains("no certificate"), "{error}");
    }

    #[tokio::test]
    async fn a_certificate_proves_who_asks() {
        let own = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
        let (port, pem) = server(Some(own.cert.der().clone())).await;
        let ca = file(&pem);
        let options = ControlTls { ca: Some(ca.path().into()), ..ControlTls::default() };
        assert!(get(port, &options).await.is_err());
        let identity = file(&format!("{}{}", own.cert.pem(), own.signing_key.serialize_pem()));
        let options = ControlTls { identity: Some(identity.path().into()), ..options };
        assert_eq!(get(port, &options).await.unwrap(), "hello");
        let options = ControlTls { identity: Some(ca.path().into()), ..options };
        assert!(get(port, &options).await.unwrap_err().to_string().contains("private key"));
    }
}
