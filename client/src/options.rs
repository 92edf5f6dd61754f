//! How a client connects, and what its calls carry.

use std::{fmt, time::Duration};

use http::{Uri, uri::Scheme};
use tonic::{
    metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    client::Client,
    error::{Error, causes},
};

/// The largest message that is sent or accepted, unless [`Options::max_message_bytes`] says otherwise: 32 MiB, as on Flowgate's side.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 32 << 20;

const USER_AGENT: &str = concat!("flowgate-client/", env!("CARGO_PKG_VERSION"));

/// How a client connects. Made by [`Client::options`], finished by [`Options::connect`].
#[derive(Clone, Debug)]
pub struct Options {
    uri: String,
    tls: Option<Tls>,
    connect_timeout: Duration,
    pub(crate) call: CallOptions,
    pub(crate) max_message_bytes: usize,
    pub(crate) gzip: bool,
}

/// What one call carries. Given to [`Client::with`].
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    pub(crate) deadline: Option<Duration>,
    pub(crate) metadata: MetadataMap,
}

/// How TLS is spoken. Without it an `https://` address is trusted by the system's certificate authorities.
#[derive(Clone, Default)]
pub struct Tls {
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    domain: Option<String>,
}

impl Options {
    pub(crate) fn new(uri: String) -> Self {
        Self {
            uri,
            tls: None,
            connect_timeout: Duration::from_secs(5),
            call: CallOptions::new(),
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            gzip: false,
        }
    }

    /// How long each call may take, streams included, unless [`CallOptions::deadline`] says otherwise. Default: no limit here.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.call = self.call.deadline(deadline);
        self
    }

    /// The key to call with, sent as `authorization: Bearer KEY`.
    ///
    /// # Errors
    /// When the key has characters that no header can hold.
    pub fn key(mut self, key: &str) -> Result<Self, Error> {
        let mut value: AsciiMetadataValue =
            format!("Bearer {key}").parse().map_err(|_| Error::misuse("the key has characters that no header can hold"))?;
        value.set_sensitive(true);
        self.call.metadata.insert("authorization", value);
        Ok(self)
    }

    /// Metadata of every call.
    ///
    /// # Errors
    /// As [`CallOptions::metadata`].
    pub fn metadata(mut self, name: &str, value: &str) -> Result<Self, Error> {
        self.call = self.call.metadata(name, value)?;
        Ok(self)
    }

    /// How TLS is spoken.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How long opening the connection may take, TLS included. Default 5 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The largest message that is sent or accepted. Default [`DEFAULT_MAX_MESSAGE_BYTES`].
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Whether requests are compressed and compressed answers asked for. Default: no, which costs less on a fast network.
    #[must_use]
    pub fn gzip(mut self, gzip: bool) -> Self {
        self.gzip = gzip;
        self
    }

    /// The client. The connection is opened by the first call, and again by the next one after it was lost.
    ///
    /// # Errors
    /// When the address, a certificate or a key cannot be read, or there is no Tokio runtime.
    pub fn connect(self) -> Result<Client, Error> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(Error::misuse("there is no Tokio runtime here; make the client inside of one"));
        }
        let channel = self.channel()?;
        Ok(Client::new(channel, self))
    }

    fn channel(&self) -> Result<Channel, Error> {
        let uri: Uri = self.uri.parse().map_err(|_| Error::misuse(ADDRESS))?;
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(Error::misuse(ADDRESS)),
        };
        let mut endpoint = Endpoint::from(uri)
            .user_agent(USER_AGENT)
            .map_err(|_| Error::misuse("the crate's version cannot stand in a header"))?
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10))
            .http2_max_header_list_size(64 << 10);
        match (&self.tls, secure) {
            (None, false) => {}
            // Else a key would cross the network in the clear, against what the program says.
            (Some(_), false) => return Err(Error::misuse("TLS is asked for and the address says http; write https://HOST:PORT")),
            (tls, true) => {
                let config = tls.clone().unwrap_or_default().config();
                endpoint = endpoint.tls_config(config).map_err(|error| Error::misuse(format!("TLS cannot be set up: {}", root(&error))))?;
            }
        }
        Ok(endpoint.connect_lazy())
    }
}

const ADDRESS: &str = "the address cannot be read; write http://HOST:PORT or https://HOST:PORT";

/// The last cause, which says what is wrong; tonic's outer errors say only `transport error`.
fn root(error: &dyn std::error::Error) -> String {
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

impl CallOptions {
    /// Nothing but the client's defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long the call may take, a stream until its last event. Sent as `grpc-timeout`, and kept on this side too.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Metadata of the call, over the client's own of the same name.
    ///
    /// # Errors
    /// When the name is not that of a text header, or the value has characters that no header can hold.
    pub fn metadata(mut self, name: &str, value: &str) -> Result<Self, Error> {
        let key = AsciiMetadataKey::from_bytes(name.as_bytes())
            .map_err(|_| Error::misuse(format!("`{name}` is no name for text metadata; use letters, digits and `-`")))?;
        let value: AsciiMetadataValue =
            value.parse().map_err(|_| Error::misuse(format!("the value of `{name}` has characters that no header can hold")))?;
        self.metadata.insert(key, value);
        Ok(self)
    }

    /// The call's id in logs and answers, sent as `x-request-id`. Default: Flowgate makes one.
    ///
    /// # Errors
    /// When the id has characters that no header can hold.
    pub fn request_id(self, id: &str) -> Result<Self, Error> {
        self.metadata("x-request-id", id)
    }

    /// These options, with `other`'s over them.
    pub(crate) fn overlaid(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.deadline = other.deadline.or(all.deadline);
        for name in other.metadata.keys() {
            if let tonic::metadata::KeyRef::Ascii(name) = name
                && let Some(value) = other.metadata.get(name)
            {
                all.metadata.insert(name, value.clone());
            }
        }
        all
    }
}

impl Tls {
    /// The system's certificate authorities, no client certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// The certificate authorities to trust, PEM, instead of the system's.
    #[must_use]
    pub fn ca(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca = Some(pem.into());
        self
    }

    /// The client's own certificate chain and private key, PEM, for servers that ask for one.
    #[must_use]
    pub fn identity(mut self, cert: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some((cert.into(), key.into()));
        self
    }

    /// The name that the server's certificate must bear. Default: the host of the address.
    #[must_use]
    pub fn domain(mut self, name: impl Into<String>) -> Self {
        self.domain = Some(name.into());
        self
    }

    fn config(self) -> ClientTlsConfig {
        let mut config = match self.ca {
            Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let Some((cert, key)) = self.identity {
            config = config.identity(Identity::from_pem(cert, key));
        }
        if let Some(domain) = self.domain {
            config = config.domain_name(domain);
        }
        config
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The identity holds a private key.
        f.debug_struct("Tls")
            .field("ca", &self.ca.is_some())
            .field("identity", &self.identity.is_some())
            .field("domain", &self.domain)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_without_a_scheme_says_what_to_write() {
        for uri in ["127.0.0.1:5000", "ftp://host", "http://", "", "a b"] {
            let error = Client::connect(uri).unwrap_err();
            assert!(error.message().contains("http://HOST:PORT"), "{uri}: {error}");
        }
        assert!(Client::connect("http://localhost:5000").is_ok());
        assert!(Client::connect("https://localhost:5000").is_ok());
    }

    #[test]
    fn without_a_runtime_there_is_an_error_and_no_panic() {
        assert!(Client::connect("http://localhost:5000").unwrap_err().message().contains("Tokio"));
    }

    #[tokio::test]
    async fn tls_over_http_and_bad_certificates_are_refused() {
        let error = Client::options("http://localhost:5000").tls(Tls::new()).connect().unwrap_err();
        assert!(error.message().contains("https://"));
        let tls = Tls::new().identity("not a certificate", "not a key");
        assert!(Client::options("https://localhost:5000").tls(tls).connect().unwrap_err().message().starts_with("TLS"));
    }

    #[test]
    fn secrets_are_not_printed() {
        let options = Options::new("https://x".to_owned()).key("fg-secret").unwrap().tls(Tls::new().identity("CERT", "PRIVATE"));
        let printed = format!("{options:?}");
        assert!(!printed.contains("fg-secret") && !printed.contains("PRIVATE") && !printed.contains("80, 82"), "{printed}");
    }

    #[test]
    fn metadata_that_no_header_can_hold_is_refused() {
        assert!(CallOptions::new().metadata("bad name", "x").is_err());
        assert!(CallOptions::new().metadata("trace-bin", "x").is_err());
        assert!(CallOptions::new().request_id("line\nbreak").is_err());
        assert!(Options::new(String::new()).key("line\nbreak").is_err());
    }

    #[test]
    fn a_call_overrides_the_client() {
        let client = CallOptions::new().deadline(Duration::from_secs(9)).metadata("a", "1").unwrap().metadata("b", "1").unwrap();
        let both = client.overlaid(&CallOptions::new().metadata("a", "2").unwrap());
        assert_eq!(both.deadline, Some(Duration::from_secs(9)));
        assert_eq!(both.metadata.get("a").unwrap(), "2");
        assert_eq!(both.metadata.get("b").unwrap(), "1");
        assert_eq!(both.metadata.len(), 2);
    }
}
