//! Fetches what a caller's request names by address: from the open internet only, over connections of its own that carry nothing of the
//! caller's or the operator's. What is fetched for whom is not decided here.

use std::{
    fmt,
    future::poll_fn,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderValue, Request, Response, StatusCode, Uri, header, uri::PathAndQuery};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use rustls::ClientConfig;
use tokio::time::{Instant, timeout_at};

use super::{
    addresses,
    connect::{Connector, Io},
    line::Line,
    names::Resolver,
};
use crate::{
    call::{self, Fetched},
    config::Media,
    dialect,
    error::Result,
};

/// How many are fetched at once for one request.
const AT_ONCE: usize = 4;
/// How many addresses of a name are tried.
const MOST_ADDRESSES: usize = 3;
/// How long one of them may take to connect, so that a dead one leaves time for the next.
const CONNECT: Duration = Duration::from_secs(3);

/// Fetches from the open internet. Cloning shares.
#[derive(Clone)]
pub struct Fetcher {
    resolver: Resolver,
    tls: Arc<ClientConfig>,
    gate: Gate,
}

/// Where it may go.
#[derive(Clone, Copy)]
struct Gate {
    port: fn(u16) -> bool,
    /// Asked of the very address that is connected to.
    address: fn(IpAddr) -> bool,
}

/// Why nothing was fetched. Callers see which of these it is, and nothing else: what can be reached from here is not for them to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is no address that is ever fetched.
    Address,
    /// The name is unknown, the address is not allowed, or nobody answers there.
    Unreachable,
    /// The answer is not the thing itself, or stops in the middle.
    Answer,
    /// The answer is of another type.
    Type,
    /// There is more than may be.
    TooLarge,
    /// It takes longer than it may.
    TooSlow,
}

/// An address that may be looked up.
struct Place {
    uri: Uri,
    host: String,
    is_https: bool,
}

#[cfg(test)]
impl Fetcher {
    /// One for which every name stands for this machine, at any port, and nothing else can be reached.
    pub(crate) fn of_loopback() -> Self {
        use futures_util::FutureExt as _;
        let here = IpAddr::from([127, 0, 0, 1]);
        let gate = Gate { port: |_| true, address: |address| address.is_loopback() };
        let tls = super::tls::client(rustls::RootCertStore::empty());
        Self::through(Arc::new(move |_| async move { Ok(vec![here]) }.boxed()), &tls.unwrap(), gate)
    }
}

impl Fetcher {
    pub(super) fn new(resolver: Resolver, tls: &ClientConfig) -> Self {
        Self::through(resolver, tls, Gate { port: |port| matches!(port, 80 | 443), address: addresses::is_public })
    }

    fn through(resolver: Resolver, tls: &ClientConfig, gate: Gate) -> Self {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { resolver, tls: Arc::new(tls), gate }
    }

    /// What is behind all of these, of which only what the call does not have yet is fetched. What it has, is judged by what is taken here.
    ///
    /// # Errors
    /// The first fault, and the position of what has it.
    pub async fn gather(&self, addresses: &[&str], media: &Media, kept: &call::Media) -> Result<Vec<Fetched>, (usize, Fault)> {
        let mut kept = kept.0.lock().await;
        let (mut lacking, mut held): (Vec<(usize, &str)>, usize) = (Vec::new(), 0);
        for (position, address) in addresses.iter().enumerate().filter(|(position, address)| !addresses[..*position].contains(address)) {
            match kept.get(*address) {
                Some(fetched) if !media.takes(&fetched.media_type) => return Err((position, Fault::Type)),
                Some(fetched) => held = held.saturating_add(fetched.bytes.len()),
                None => lacking.push((position, address)),
            }
        }
        let left = Media { max_bytes: media.max_bytes.saturating_sub(held), ..media.clone() };
        let wanted: Vec<&str> = lacking.iter().map(|(_, address)| *address).collect();
        let fetched = self.fetch(&wanted, &left).await.map_err(|(position, fault)| (lacking[position].0, fault))?;
        kept.extend(wanted.into_iter().map(str::to_owned).zip(fetched));
        let mut left = media.max_bytes;
        let found = addresses.iter().enumerate().filter_map(|(position, address)| Some((position, kept.get(*address)?)));
        let bounded = found.map(|(position, fetched)| {
            left = left.checked_sub(fetched.bytes.len()).ok_or((position, Fault::TooLarge))?;
            Ok(fetched.clone())
        });
        bounded.collect()
    }

    /// Fetches all, a few at a time, in order.
    async fn fetch(&self, addresses: &[&str], media: &Media) -> Result<Vec<Fetched>, (usize, Fault)> {
        let (left, end) = (AtomicUsize::new(media.max_bytes), Instant::now() + media.timeout);
        let one = |(position, address): (usize, String)| {
            let left = &left;
            async move { self.one(&address, media, (left, end)).await.map_err(|fault| (position, fault)) }
        };
        let addresses: Vec<_> = addresses.iter().map(|address| (*address).to_owned()).enumerate().collect();
        stream::iter(addresses).map(one).buffered(AT_ONCE).try_collect().await
    }

    async fn one(&self, address: &str, media: &Media, (left, end): (&AtomicUsize, Instant)) -> Result<Fetched, Fault> {
        let place = Place::new(address, self.gate).ok_or(Fault::Address)?;
        let io = timeout_at(end, self.connect(&place)).await.map_err(|_elapsed| Fault::Unreachable)??;
        timeout_at(end, exchange(io, &place, media, left)).await.map_err(|_elapsed| Fault::TooSlow)?
    }

    /// The name is looked up once, and each of its addresses is judged before it is connected to as it is: there is no second lookup that
    /// could say something else.
    async fn connect(&self, place: &Place) -> Result<Io, Fault> {
        let bare = place.host.trim_matches(['[', ']']);
        let found = match bare.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => (self.resolver)(bare.to_owned()).await.map_err(|error| unreachable(&error))?,
        };
        let tls = place.is_https.then(|| Arc::clone(&self.tls));
        for address in found.into_iter().filter(|address| (self.gate.address)(*address)).take(MOST_ADDRESSES) {
            let connector = Connector::new(None, tls.clone(), CONNECT, false).map_err(|error| unreachable(&error))?;
            match connector.pinned(Some(address)).open(&place.uri).await {
                Ok(socket) => return Ok(socket.io),
                Err(error) => tracing::debug!(%error, "media that a request names cannot be fetched from one of its addresses"),
            }
        }
        Err(Fault::Unreachable)
    }
}

fn unreachable(error: &dyn fmt::Display) -> Fault {
    tracing::debug!(%error, "media that a request names cannot be fetched");
    Fault::Unreachable
}

impl Place {
    /// An address without user and password, at a port that is allowed.
    fn new(address: &str, gate: Gate) -> Option<Self> {
        let uri: Uri = address.parse().ok()?;
        let is_https = match uri.scheme_str()? {
            scheme if scheme.eq_ignore_ascii_case("https") => true,
            scheme if scheme.eq_ignore_ascii_case("http") => false,
            _ => return None,
        };
        let host = uri.host().filter(|host| !host.is_empty())?.to_owned();
        // With a user before the host, it does not begin with it.
        let port = match uri.authority()?.as_str().strip_prefix(host.as_str())? {
            "" => {
                if is_https {
                    443
                } else {
                    80
                }
            }
            told => told.strip_prefix(':')?.parse().ok()?,
        };
        (gate.port)(port).then_some(Self { uri, host, is_https })
    }

    /// What is asked there; nothing in it is the caller's or the operator's.
    fn request(&self) -> Option<Request<Full<Bytes>>> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = self.uri.path_and_query().map_or("/", PathAndQuery::as_str).parse().ok()?;
        let host = HeaderValue::from_str(self.uri.authority()?.as_str()).ok()?;
        for (name, value) in [
            (header::HOST, host),
            (header::ACCEPT, HeaderValue::from_static("*/*")),
            (header::ACCEPT_ENCODING, HeaderValue::from_static("identity")),
            (header::CONNECTION, HeaderValue::from_static("close")),
            (header::USER_AGENT, HeaderValue::from_static(concat!("flowgate/", env!("CARGO_PKG_VERSION")))),
        ] {
            request.headers_mut().insert(name, value);
        }
        Some(request)
    }
}

/// One request on a connection that serves no other.
async fn exchange(io: Io, place: &Place, media: &Media, left: &AtomicUsize) -> Result<Fetched, Fault> {
    let request = place.request().ok_or(Fault::Address)?;
    let mut line = Line::new(io).await.map_err(|error| broken(&error))?;
    let response = line.send(request).await.map_err(|failed| broken(failed.error()))?;
    let media_type = judge(&response, media)?;
    let mut body = response.into_body();
    let most = left.load(Relaxed);
    if usize::try_from(body.size_hint().lower()).map_or(true, |told| told > most) {
        return Err(Fault::TooLarge);
    }
    let bytes = collect(&mut line, &mut body, left).await?;
    tracing::debug!(host = place.host, media_type, bytes = bytes.len(), "media that a request names was fetched");
    Ok(Fetched { media_type, bytes })
}

/// The media type of an answer that is taken.
fn judge(response: &Response<Incoming>, media: &Media) -> Result<String, Fault> {
    let headers = response.headers();
    let is_coded = headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
    if response.status() != StatusCode::OK || is_coded {
        return Err(Fault::Answer);
    }
    let told = dialect::media_type(headers).and_then(|told| std::str::from_utf8(told).ok());
    told.filter(|told| media.takes(told)).map(str::to_ascii_lowercase).ok_or(Fault::Type)
}

/// The whole body, as far as the request has bytes left.
async fn collect(line: &mut Line, body: &mut Incoming, left: &AtomicUsize) -> Result<Bytes, Fault> {
    let mut whole = BytesMut::new();
    while let Some(piece) = poll_fn(|cx| line.poll_body(body, cx)).await {
        let piece = piece.map_err(|error| broken(&error))?;
        let took = left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(piece.len()));
        took.map_err(|_left| Fault::TooLarge)?;
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

fn broken(error: &hyper::Error) -> Fault {
    tracing::debug!(%error, "media that a request names was not answered to the end");
    Fault::Answer
}

impl Fault {
    /// What is wrong with the address, for the caller.
    pub fn description(self) -> &'static str {
        match self {
            Self::Address => {
                "is no address that is fetched: http or https, port 80 or 443, without user and password; send the bytes as `data`"
            }
            Self::Unreachable => "cannot be fetched from here; send the bytes as `data`",
            Self::Answer => {
                "was not answered in full with status 200, and redirects are not followed; name what answers so, or send the bytes as `data`"
            }
            Self::Type => "was answered with a `Content-Type` that the endpoint does not take; send the bytes as `data`",
            Self::TooLarge => "is larger than the endpoint's `media.max_bytes` allows for one request; send less",
            Self::TooSlow => "takes longer than the endpoint's `media.timeout` allows; send the bytes as `data`",
        }
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fetcher")
    }
}

#[cfg(test)]
mod tests;
