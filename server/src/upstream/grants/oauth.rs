//! OAuth's token endpoint: client credentials, and the exchange of other proofs for a bearer token.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Request, header};
use percent_encoding::utf8_percent_encode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::{
    Issued, bad_answer,
    issuer::{Answer, Issuer, form},
    refused,
};
use crate::{
    config::{ClientCredentials, Proof},
    dialect::{Credential, hide, sigv4::UNRESERVED},
    error::Result,
};

/// How long a token is good whose server does not say.
const UNTOLD: Duration = Duration::from_secs(300);
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The fields that nobody may see, not even in a log, should the server repeat them.
const SECRETS: &[&str] = &["client_secret", "client_assertion", "assertion", "refresh_token"];

/// Who asks, in a header.
pub(super) struct Basic {
    value: HeaderValue,
    /// The secret in it, as it is and in the forms that it is sent in.
    secrets: [String; 3],
}

/// What a token server answers.
#[derive(Deserialize)]
struct Token {
    access_token: SecretString,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
}

/// Some servers write the number as a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(u64),
    Text(String),
}

/// What a token server says when it refuses.
#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

pub(super) async fn issue(issuer: &Issuer, grant: &ClientCredentials) -> Result<Issued> {
    let assertion = match &grant.proof {
        Proof::AssertionFile(path) => SecretString::from(issuer.needed_file(path).await?.trim()),
        Proof::Body(_) | Proof::Basic(_) => SecretString::default(),
    };
    let mut pairs = vec![("grant_type", "client_credentials")];
    pairs.extend(grant.scope.as_deref().map(|scope| ("scope", scope)));
    pairs.extend(grant.resource.as_deref().map(|resource| ("resource", resource)));
    let mut authorization = None;
    match &grant.proof {
        Proof::Body(secret) => {
            pairs.extend([("client_id", grant.client_id.as_str()), ("client_secret", secret.text().expose_secret())]);
        }
        Proof::Basic(secret) => authorization = Some(basic(&grant.client_id, secret.text())?),
        Proof::AssertionFile(_) => pairs.extend([
            ("client_id", grant.client_id.as_str()),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion.expose_secret()),
        ]),
    }
    exchange(issuer, &grant.token_url.to_string(), &pairs, authorization).await
}

/// Sends a form to a token server and takes the token from its answer.
pub(super) async fn exchange(issuer: &Issuer, token_url: &str, pairs: &[(&str, &str)], authorization: Option<Basic>) -> Result<Issued> {
    let mut request = Request::post(token_url)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "application/json")
        .body(Bytes::from(form(pairs.iter().copied())))
        .map_err(|_| refused("the token server's address is none"))?;
    let mut secrets: Vec<&str> = pairs.iter().filter(|(name, _)| SECRETS.contains(name)).map(|(_, secret)| *secret).collect();
    if let Some(Basic { value, secrets: own }) = &authorization {
        request.headers_mut().insert(header::AUTHORIZATION, value.clone());
        secrets.extend(own.iter().map(String::as_str));
    }
    let answer = issuer.send(request).await?;
    token(&answer, &secrets).map_err(|error| error.upstream_status(answer.status))
}

/// The token in an answer. A refusal is told without the secrets of the request, which may stand in it escaped.
pub(super) fn token(answer: &Answer, secrets: &[&str]) -> Result<Issued> {
    if !answer.status.is_success() {
        let said: Refusal = serde_json::from_slice(&answer.body).unwrap_or_default();
        let said = format!("{} {}", said.error, said.error_description);
        let said = secrets.iter().fold(Bytes::from(said), |said, secret| hide(said, secret.as_bytes()));
        let start: String = String::from_utf8_lossy(&said).chars().take(300).collect();
        return Err(refused(format!("the token server answered {}: {start}", answer.status)));
    }
    // The decoder's words may quote the token.
    let token: Token = serde_json::from_slice(&answer.body).map_err(|_| bad_answer("the token server's answer holds no token"))?;
    if token.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(bad_answer("the token server gave a token that is no bearer token"));
    }
    let life = match token.expires_in {
        None => Some(UNTOLD),
        Some(Seconds::Number(seconds)) => Some(Duration::from_secs(seconds)),
        Some(Seconds::Text(seconds)) => seconds.parse().ok().map(Duration::from_secs),
    };
    let life = life.ok_or_else(|| bad_answer("the token server's `expires_in` is no number"))?;
    // Longer ones would leave the clock's range.
    let life = Some(life.min(Duration::from_secs(365 * 24 * 3600)));
    let credential = Credential::Header { header: header::AUTHORIZATION, prefix: "Bearer ", secret: token.access_token };
    Ok(Issued { credential, life })
}

fn basic(client_id: &str, secret: &SecretString) -> Result<Basic> {
    let escape = |text| utf8_percent_encode(text, UNRESERVED).to_string();
    let escaped = escape(secret.expose_secret());
    let pair = BASE64_STANDARD.encode(format!("{}:{escaped}", escape(client_id)));
    let value = HeaderValue::from_str(&format!("Basic {pair}"));
    let mut value = value.map_err(|_| refused("client id and secret cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(Basic { value, secrets: [pair, escaped, secret.expose_secret().to_owned()] })
}
