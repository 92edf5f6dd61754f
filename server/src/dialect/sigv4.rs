//! AWS Signature Version 4 of one request, in its header form. Pure: the keys and the time are given.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};

use crate::error::{Error, Result};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const CONTENT_HASH: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// S3's name in signatures: its paths are signed as they are sent, and its requests name the hash of their body.
const S3: &str = "s3";

/// What AWS leaves as it is in paths, queries and forms.
pub const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What signs requests to one service in one region.
#[derive(Clone, Debug)]
pub struct SigningKeys {
    /// Who signs; it stands in every request and is no secret.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: SecretString,
    /// What comes with keys that expire.
    pub session_token: Option<SecretString>,
    /// The region, for example `us-east-1`.
    pub region: String,
    /// The service's name in signatures, for example `sts`.
    pub service: &'static str,
}

/// The parts of a request that are signed, as they are sent.
struct Asked<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    /// By name in lower case; several values of one name are joined with `,`.
    headers: BTreeMap<&'a str, String>,
    body: &'a [u8],
}

/// Whether a header's value is the signature's to set, so that any other would be lost.
pub fn is_own(name: &HeaderName) -> bool {
    [header::AUTHORIZATION, header::HOST, DATE, TOKEN, CONTENT_HASH].contains(name)
}

/// Signs a request as it stands: its body must not change any more, nor its host, its content type and what starts with `x-amz-`.
/// An older signature is replaced.
///
/// # Errors
/// An internal error when a signed header, or a key, has characters that no header can hold, or the time is before 1970.
pub fn sign(request: &mut Request<Bytes>, keys: &SigningKeys, now: SystemTime) -> Result<()> {
    let stamp = stamp(now)?;
    let headers = request.headers_mut();
    headers.remove(header::AUTHORIZATION);
    headers.insert(DATE, value(&stamp)?);
    headers.remove(TOKEN);
    if let Some(token) = &keys.session_token {
        headers.insert(TOKEN, secret_value(token.expose_secret())?);
    }
    if keys.service == S3 {
        let hash = hex(digest::digest(&digest::SHA256, request.body()).as_ref());
        request.headers_mut().insert(CONTENT, value(&hash)?);
    }
    let asked = Asked {
        method: request.method().as_str(),
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
        headers: signed_headers(request)?,
        body: request.body(),
    };
    let authorization = secret_value(&asked.authorization(keys, &stamp))?;
    request.headers_mut().insert(header::AUTHORIZATION, authorization);
    Ok(())
}

/// Proxies on the way may change other headers, which is why only these are signed.
fn signed_headers(request: &Request<Bytes>) -> Result<BTreeMap<&str, String>> {
    let mut signed = BTreeMap::new();
    let authority = request.uri().authority().map_or("", |authority| authority.as_str());
    signed.insert("host", authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_owned());
    for name in request.headers().keys() {
        if *name != header::HOST && *name != header::CONTENT_TYPE && !name.as_str().starts_with("x-amz-") {
            continue;
        }
        let told = request.headers().get_all(name).iter();
        let told: Result<Vec<String>, _> = told.map(|value| value.to_str().map(normal)).collect();
        let told = told.map_err(|error| Error::internal(format!("header `{name}` cannot be signed; write it in ASCII")).because(error))?;
        signed.insert(name.as_str(), told.join(","));
    }
    Ok(signed)
}

/// Without spaces around it, and with single ones in it.
fn normal(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

impl Asked<'_> {
    /// The value of `Authorization`.
    fn authorization(&self, keys: &SigningKeys, stamp: &str) -> String {
        let date = stamp.split('T').next().unwrap_or_default();
        let scope = format!("{date}/{}/{}/aws4_request", keys.region, keys.service);
        let told = format!(
            "{ALGORITHM}\n{stamp}\n{scope}\n{}",
            hex(digest::digest(&digest::SHA256, self.canonical(keys.service == S3).as_bytes()).as_ref())
        );
        let mut key = mac(format!("AWS4{}", keys.secret_access_key.expose_secret()).as_bytes(), date);
        for part in [keys.region.as_str(), keys.service, "aws4_request"] {
            key = mac(key.as_ref(), part);
        }
        let signature = hex(mac(key.as_ref(), &told).as_ref());
        let id = &keys.access_key_id;
        format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={}, Signature={signature}", self.names())
    }

    fn canonical(&self, path_as_sent: bool) -> String {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let hash = hex(digest::digest(&digest::SHA256, self.body).as_ref());
        let path = if path_as_sent { self.path.to_owned() } else { canonical_path(self.path) };
        let query = canonical_query(self.query);
        format!("{}\n{path}\n{query}\n{headers}\n{}\n{hash}", self.method, self.names())
    }

    fn names(&self) -> String {
        self.headers.keys().copied().collect::<Vec<_>>().join(";")
    }
}

/// The path without empty and dot segments, each segment escaped once more than it is sent.
fn canonical_path(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    let is_folder = path.ends_with('/') && !kept.is_empty();
    let escaped: String = kept.iter().map(|segment| format!("/{}", utf8_percent_encode(segment, UNRESERVED))).collect();
    match escaped.as_str() {
        "" => "/".to_owned(),
        _ if is_folder => format!("{escaped}/"),
        _ => escaped,
    }
}

/// The parameters in the order of their escaped names, then values, with nothing escaped twice.
fn canonical_query(query: &str) -> String {
    let escape = |text: &str| percent_encoding::percent_encode(&percent_decode_str(text).collect::<Vec<u8>>(), UNRESERVED).to_string();
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut pairs: Vec<_> = pairs.map(|(name, value)| (escape(name), escape(value))).collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// The time as signatures write it: `20150830T123600Z`.
fn stamp(now: SystemTime) -> Result<String> {
    let since = now.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok());
    let time = since.and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0));
    time.map(|time| time.format("%Y%m%dT%H%M%SZ").to_string()).ok_or_else(|| Error::internal("the clock of this machine is wrong; set it"))
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| Error::internal("the deployment's AWS keys have characters that no header can hold"))
}

fn secret_value(text: &str) -> Result<HeaderValue> {
    let mut value = value(text)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
