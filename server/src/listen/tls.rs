//! TLS for clients: certificate, key and client authorities from files, read again when the files change.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::net::TcpStream;
use tokio_rustls::{Accept, server::TlsStream};

use crate::{
    config,
    error::{Error, Result},
    upstream::tls,
};

/// Accepts TLS with what the files say now.
#[derive(Debug)]
pub struct TlsAcceptor {
    files: config::Tls,
    current: ArcSwap<ServerConfig>,
    /// What the files looked like when they were last read, well or badly.
    seen: Mutex<Vec<Look>>,
}

/// What a file looks like from outside; follows symbolic links, so that Kubernetes' swap of them is seen.
type Look = Option<(SystemTime, u64, u64)>;

impl TlsAcceptor {
    /// TLS from files.
    ///
    /// # Errors
    /// An internal error that names the file which cannot be used, and why.
    pub fn new(files: &config::Tls) -> Result<Self> {
        let seen = looks(files);
        let current = ArcSwap::from(read(files)?);
        Ok(Self { files: files.clone(), current, seen: Mutex::new(seen) })
    }

    /// The handshake.
    ///
    /// # Errors
    /// Those of the connection, and of a client without the certificate that is asked for.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.refresh();
        self.accepting(stream).await
    }

    fn accepting(&self, stream: TcpStream) -> Accept<TcpStream> {
        tokio_rustls::TlsAcceptor::from(self.current.load_full()).accept(stream)
    }

    /// Looks at the files, which costs three system calls beside the hundreds of microseconds of a handshake, and reads them if
    /// they changed. Files that do not fit together, as between the two writes of a renewal, leave things as they are.
    fn refresh(&self) {
        let looks = looks(&self.files);
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == looks {
                return;
            }
            *seen = looks;
        }
        match read(&self.files) {
            Ok(config) => {
                self.current.store(config);
                tracing::info!(cert = %self.files.cert.display(), "the TLS certificate was read again");
            }
            Err(error) => tracing::warn!(%error, "the changed TLS files cannot be used, the old certificate stays"),
        }
    }
}

fn looks(files: &config::Tls) -> Vec<Look> {
    let paths = [Some(&files.cert), Some(&files.key), files.client_ca.as_ref()];
    paths.into_iter().flatten().map(|path| look(path)).collect()
}

fn look(path: &Path) -> Look {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

fn read(files: &config::Tls) -> Result<Arc<ServerConfig>> {
    let chain = tls::certificates(&files.cert, &tls::read(&files.cert)?)?;
    let key = PrivateKeyDer::from_pem_slice(&tls::read(&files.key)?)
        .map_err(|error| Error::internal(format!("{} holds no private key in PEM form: {error}", files.key.display())).because(error))?;
    let builder = ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("TLS cannot be set up").because(error))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = tls::trust(RootCertStore::empty(), path, &tls::read(path)?)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider())
                .build()
                .map_err(|error| Error::internal(format!("{} cannot verify clients: {error}", path.display())).because(error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        Error::internal(format!("{} and {} do not fit together: {error}", files.cert.display(), files.key.display())).because(error)
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
