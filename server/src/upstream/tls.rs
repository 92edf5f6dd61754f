//! What both ends of TLS share: the crypto provider, PEM files, and the roots that upstreams are trusted by.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::control::ControlTls;
use crate::error::{Error, Result};

/// The one crypto provider of the house.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A file that the configuration names.
///
/// # Errors
/// An internal error that names the file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::internal(format!("cannot read {}: {error}", path.display())).because(error))
}

/// The certificates in a PEM text; at least one.
///
/// # Errors
/// An internal error that names the file it came from.
pub(crate) fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(Error::internal(format!("{} holds no certificate in PEM form", path.display()))),
        Err(error) => Err(Error::internal(format!("{} is not valid PEM: {error}", path.display())).because(error)),
    }
}

/// A store that trusts the certificates of a PEM text, beside those it trusts already.
///
/// # Errors
/// An internal error that names the file it came from.
pub(crate) fn trust(mut roots: RootCertStore, path: &Path, pem: &[u8]) -> Result<RootCertStore> {
    for certificate in certificates(path, pem)? {
        roots
            .add(certificate)
            .map_err(|error| Error::internal(format!("{} holds no certificate authority: {error}", path.display())).because(error))?;
    }
    Ok(roots)
}

/// The system's roots. An entry that cannot be read is passed over, as every other program does.
pub(super) fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        tracing::warn!(errors = ?found.errors, "no system certificate authority was found; set `upstream.ca` for https upstreams");
    }
    roots
}

/// How https upstreams are spoken to: h2 where they offer it.
///
/// # Errors
/// An internal error when the crypto provider lacks the protocol versions.
pub(super) fn client(roots: RootCertStore) -> Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("TLS cannot be set up").because(error))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// How control calls are made: with roots, and a certificate, of their own where they say so.
///
/// # Errors
/// An internal error that names the PEM file which cannot be used.
pub(super) fn control(options: &ControlTls) -> Result<Arc<ClientConfig>> {
    let roots = match &options.ca {
        None => system_roots(),
        Some(path) => trust(RootCertStore::empty(), path, &read(path)?)?,
    };
    let mut config = Arc::unwrap_or_clone(client(roots)?);
    if let Some(path) = &options.identity {
        let pem = read(path)?;
        let unusable = |error: &dyn std::fmt::Display| Error::internal(format!("{} holds no usable private key: {error}", path.display()));
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| unusable(&error))?;
        let key = provider().key_provider.load_private_key(key).map_err(|error| unusable(&error))?;
        let identity = rustls::sign::CertifiedKey::new(certificates(path, &pem)?, key);
        config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(identity));
    }
    Ok(Arc::new(config))
}
