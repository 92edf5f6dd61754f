//! Opens connections to upstreams: TCP, HTTP proxies, TLS, Unix sockets. Knows nothing of what is said over them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Uri, uri::Scheme};
use hyper_util::client::legacy::connect::{HttpConnector, proxy::Tunnel};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::either::Either;
use tower::Service;

use super::body::BoxError;
use crate::error::{Error, Result};

/// Opens connections in one way.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    way: Way,
    tls: Option<Arc<ClientConfig>>,
    /// Which of the addresses of the server's name is taken. `None`: any that answers.
    pinned: Option<IpAddr>,
    /// For DNS, TCP, proxy and TLS together.
    limit: Duration,
    /// Whether HTTP/2 is spoken without being agreed on.
    h2: bool,
}

#[derive(Clone, Debug)]
enum Way {
    Direct(HttpConnector),
    /// Through a proxy that reads the requests: absolute-form targets.
    Forward(HttpConnector, Uri),
    /// Through a proxy that only passes bytes on: `CONNECT`.
    Tunnel(Tunnel<HttpConnector>),
    /// To a socket in the file system, whatever server an address names.
    Unix(Arc<Path>),
}

/// The bytes of a connection: in the clear, by TLS, or of a Unix socket.
pub(super) type Io = Either<TcpStream, Either<TlsStream<TcpStream>, UnixStream>>;

/// An open connection.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) io: Io,
    /// Whether h2 was agreed on.
    pub(super) h2: bool,
}

impl Connector {
    /// Connections straight, or through `proxy`, to http upstreams, or by `tls` to https ones; to those that are known to speak `h2` no proxy
    /// reads what is said.
    ///
    /// # Errors
    /// An internal error when the proxy is not an address.
    pub(super) fn new(proxy: Option<&Uri>, tls: Option<Arc<ClientConfig>>, limit: Duration, h2: bool) -> Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        tcp.set_keepalive_interval(Some(Duration::from_secs(10)));
        tcp.set_keepalive_retries(Some(3));
        // Shared out among the addresses of a name, so that a dead one does not use up the limit.
        tcp.set_connect_timeout(Some(limit));
        let way = match (proxy, &tls) {
            (None, _) => Way::Direct(tcp),
            (Some(proxy), None) if !h2 => Way::Forward(tcp, without_userinfo(proxy)?),
            (Some(proxy), _) => {
                let tunnel = Tunnel::new(without_userinfo(proxy)?, tcp);
                Way::Tunnel(match authorization(proxy)? {
                    Some(value) => tunnel.with_auth(value),
                    None => tunnel,
                })
            }
        };
        Ok(Self { way, tls, pinned: None, limit, h2 })
    }

    /// Connections to a Unix socket.
    pub(super) fn unix(path: &Path, limit: Duration) -> Self {
        Self { way: Way::Unix(path.into()), tls: None, h2: false, pinned: None, limit }
    }

    /// Connections to one of the addresses of the server's name.
    pub(super) fn pinned(self, address: Option<IpAddr>) -> Self {
        Self { pinned: address, ..self }
    }

    /// What is connected to, as `host:port`.
    pub(super) fn name(&self, target: &Uri) -> String {
        let port = target.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        match self.pinned {
            Some(address) => SocketAddr::new(address, port).to_string(),
            None => format!("{}:{port}", target.host().unwrap_or_default()),
        }
    }

    /// Opens a connection to the server of an address.
    ///
    /// # Errors
    /// Those of DNS, TCP, proxy and TLS, and that they took too long.
    pub(super) async fn open(&self, target: &Uri) -> Result<Socket, BoxError> {
        match timeout(self.limit, self.dial(target)).await {
            Ok(opened) => opened,
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }

    /// Whether a server may speak HTTP/2, so that one connection may do for many calls.
    pub(super) fn may_share(&self) -> bool {
        self.h2 || self.tls.is_some()
    }

    /// Whether a proxy reads the requests, which then name the server in full.
    pub(super) fn is_forwarded(&self) -> bool {
        matches!(self.way, Way::Forward(..))
    }

    async fn dial(&self, target: &Uri) -> Result<Socket, BoxError> {
        let tcp = match self.way.clone() {
            Way::Direct(mut tcp) if self.pinned.is_some() => {
                tcp.call(Uri::builder().scheme(Scheme::HTTP).authority(self.name(target)).path_and_query("/").build()?).await?
            }
            Way::Direct(mut tcp) => tcp.call(target.clone()).await?,
            Way::Forward(mut tcp, proxy) => tcp.call(proxy).await?,
            Way::Tunnel(mut tunnel) => tunnel.call(target.clone()).await?,
            Way::Unix(path) => return Ok(Socket { io: Either::Right(Either::Right(UnixStream::connect(path).await?)), h2: false }),
        };
        let tcp = tcp.into_inner();
        let Some(tls) = &self.tls else {
            return Ok(Socket { io: Either::Left(tcp), h2: self.h2 });
        };
        let host = target.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let tls = TlsConnector::from(Arc::clone(tls)).connect(ServerName::try_from(host)?, tcp).await?;
        let h2 = self.h2 || tls.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Socket { io: Either::Right(Either::Left(tls)), h2 })
    }
}

#[cfg(test)]
impl Socket {
    pub(super) fn nodelay(&self) -> io::Result<bool> {
        match &self.io {
            Either::Left(tcp) => tcp.nodelay(),
            Either::Right(Either::Left(tls)) => tls.get_ref().0.nodelay(),
            Either::Right(Either::Right(_)) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// `Proxy-Authorization` from the user and password in a proxy's address.
///
/// # Errors
/// An internal error when they cannot stand in a header; never, since they are encoded.
pub(super) fn authorization(proxy: &Uri) -> Result<Option<HeaderValue>> {
    let Some((userinfo, _)) = proxy.authority().and_then(|authority| authority.as_str().rsplit_once('@')) else {
        return Ok(None);
    };
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(userinfo).collect();
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(decoded)))
        .map_err(|error| Error::internal("the proxy's credential cannot stand in a header").because(error))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The proxy's address alone, so that its credential is in no debug output.
fn without_userinfo(proxy: &Uri) -> Result<Uri> {
    let authority = proxy.authority().map(|authority| authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, host)| host));
    Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority.unwrap_or_default())
        .path_and_query("/")
        .build()
        .map_err(|error| Error::internal("`upstream.proxy` is not an address; write http://host:port").because(error))
}
