//! Who the client is: the connection's other end, or whom a trusted proxy names.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use crate::{config::Network, identity::Peer};

/// The client behind a peer. Names are read from the nearest proxy outwards; the first one that is not trusted is the client.
///
/// A proxy that writes one of `Forwarded` and `X-Forwarded-For` may hand on what a client wrote into the other: where both stand
/// and lead to different clients, neither is believed.
pub fn behind(peer: Peer, headers: &HeaderMap, trusted: &[Network]) -> Peer {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if trusted.is_empty() || !is_trusted(peer.address.ip()) {
        return peer;
    }
    let client = |names: Vec<Option<SocketAddr>>| {
        let mut address = (!names.is_empty()).then_some(peer.address)?;
        for name in names.into_iter().rev() {
            let Some(next) = name else { break };
            address = next;
            if !is_trusted(next.ip()) {
                break;
            }
        }
        Some(address)
    };
    let address = match (client(forwarded(headers)), client(forwarded_for(headers))) {
        (Some(one), Some(other)) if one.ip() != other.ip() => peer.address,
        (one, other) => one.or(other).unwrap_or(peer.address),
    };
    Peer { address, ..peer }
}

/// The addresses of `Forwarded`, nearest last; `None` for one that cannot be read.
fn forwarded(headers: &HeaderMap) -> Vec<Option<SocketAddr>> {
    let named = |item: &str| {
        let pair = item.split(';').map(str::trim).find(|pair| pair.get(..4).is_some_and(|key| key.eq_ignore_ascii_case("for=")))?;
        address(pair.get(4..)?.trim_matches('"'))
    };
    items(headers, "forwarded").map(named).collect()
}

/// The addresses of `X-Forwarded-For`, likewise.
fn forwarded_for(headers: &HeaderMap) -> Vec<Option<SocketAddr>> {
    items(headers, "x-forwarded-for").map(address).collect()
}

fn items<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

fn address(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    text.parse().ok().or_else(|| Some(SocketAddr::new(bare.parse().ok()?, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, headers: &[(&'static str, &'static str)]) -> String {
        let trusted = [Network { address: "10.0.0.0".parse().unwrap(), prefix: 8 }];
        let headers = headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)));
        let peer = Peer { address: SocketAddr::new(peer.parse().unwrap(), 1), certificate: None };
        behind(peer, &headers.collect(), &trusted).address.ip().to_string()
    }

    #[test]
    fn only_a_trusted_proxy_may_name_the_client() {
        assert_eq!(client("192.0.2.1", &[("x-forwarded-for", "198.51.100.7")]), "192.0.2.1");
        assert_eq!(client("10.1.1.1", &[("x-forwarded-for", "198.51.100.7")]), "198.51.100.7");
    }

    #[test]
    fn what_the_client_itself_claims_is_not_believed() {
        assert_eq!(client("10.1.1.1", &[("x-forwarded-for", "203.0.113.9, 198.51.100.7, 10.2.2.2")]), "198.51.100.7");
        assert_eq!(client("10.1.1.1", &[("x-forwarded-for", "198.51.100.7, nonsense")]), "10.1.1.1");
    }

    #[test]
    fn forwarded_may_hold_ipv6_and_a_port() {
        let forwarded = ("forwarded", "for=\"[2001:db8::1]:4711\";proto=https");
        assert_eq!(client("10.1.1.1", &[forwarded]), "2001:db8::1");
        assert_eq!(client("10.1.1.1", &[forwarded, ("x-forwarded-for", "2001:db8::1")]), "2001:db8::1");
    }

    #[test]
    fn headers_that_contradict_each_other_are_not_believed() {
        for forwarded in ["for=203.0.113.9", "for=203.0.113.9, for=10.2.2.2", "nonsense"] {
            let headers = [("forwarded", forwarded), ("x-forwarded-for", "198.51.100.7, 10.2.2.2")];
            assert_eq!(client("10.1.1.1", &headers), "10.1.1.1", "{forwarded}");
        }
    }
}
